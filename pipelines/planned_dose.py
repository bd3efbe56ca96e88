"""What is read of a patient for his dose: the dose of a whole plan, regions to measure it in, and the prescription."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from models.dose_samples import Region
from pipelines.base import InputRejected
from pipelines.dicom.attributes import EQUIPMENT, FRAME_OF_REFERENCE, IDENTITY, IMAGE, PATIENT, STUDY
from pipelines.dicom.dose import Dose, read_dose
from pipelines.dicom.dose_regions import roi_on_dose_grid
from pipelines.dicom.elements import items, number, text, whole_number
from pipelines.dicom.label_names import tg263_name
from pipelines.dicom.reading import read_instance
from pipelines.dicom.structure_set import RoiContours, StructureSet, read_structure_set

WHOLE = frozenset({"PLAN", "MULTI_PLAN", "BRACHY"})
"""Dose Summation Types that can stand for all that a patient gets; BRACHY where all application setups are in it."""
_LOW_DOSE_RATE = frozenset({"MANUAL", "LDR", "MDR"})
"""Brachy Treatment Types whose dose is given in one piece, over days or for good (PS3.3 C.8.8.15)."""
_HEADER = (*IDENTITY, *PATIENT, *STUDY, *FRAME_OF_REFERENCE, *EQUIPMENT, *IMAGE, "DoseSummationType")
_PLAN = ("SOPClassUID", "SOPInstanceUID", "DoseReferenceSequence", "FractionGroupSequence", "BrachyTreatmentType")


@dataclass(frozen=True)
class DosePatient:
    """One patient's dose with its regions."""

    dose: Dose
    dose_header: Dataset
    structures_header: Dataset
    """With the target alone, under its TG-263 name: what the file calls it may be anybody's name."""
    target_name: str
    """TG-263 name."""
    target: Region
    organs: Mapping[str, Region]
    """By TG-263 name, those that are there."""
    absent: tuple[str, ...]
    """One sentence for each organ that can not be measured."""


@dataclass(frozen=True)
class PlanFacts:
    """What an RT Plan says about a dose."""

    prescription_gy: float | None
    """Target Prescription Dose; None where none is stated, or several."""
    fractions: int | None
    """None where none are stated, or the dose is given in one piece at a low rate."""


NO_PLAN = PlanFacts(None, None)


def read_whole_dose(paths: Sequence[Path]) -> tuple[Dose, Dataset]:
    """The one dose of a series that is of a whole plan, and its header.

    Raises
    ------
    InputRejected
        If there is none, or more than one; errors of `read_dose` besides.
    """
    headers = [(path, read_instance(path, _HEADER)) for path in sorted(paths)]
    whole = [(path, header) for path, header in headers if text(header, "DoseSummationType") in WHOLE]
    if not whole:
        kinds = ", ".join(sorted({text(header, "DoseSummationType") or "none" for _, header in headers}))
        raise InputRejected(f"No dose of the series is of a whole plan (Dose Summation Type is {kinds})")
    if len(whole) > 1:
        raise InputRejected(f"The series has {len(whole)} doses of whole plans, and nothing says which one counts")
    path, header = whole[0]
    return read_dose(path), header


def read_dose_patient(
    dose_paths: Sequence[Path],
    structure_paths: Sequence[Path],
    target: str,
    organs: Iterable[str],
    synonyms: Mapping[str, str],
) -> DosePatient:
    """Dose and regions of a patient.

    Parameters
    ----------
    dose_paths
        Files of the dose series.
    structure_paths
        Files of the structure set series; exactly one of them has to be a structure set of the dose's frame.
    target
        TG-263 name of the region that has to be there.
    organs
        TG-263 names of regions that may be there.
    synonyms
        TG-263 names by the names of the site, in lower case.

    Raises
    ------
    InputRejected
        If the dose is none of a whole plan, the Frames of Reference differ, the target is absent, there twice, or not
        wholly inside the dose grid.
    """
    dose, header = read_whole_dose(dose_paths)
    structures, structures_header = _structures(structure_paths, dose)
    found = _named(structures, target, synonyms)
    if found is None:
        raise InputRejected(f"The structure set has no region {target}, nor one that stands for it")
    inside, absent = {}, []
    for organ in organs:
        try:
            roi = _named(structures, organ, synonyms)
            if roi is None:
                raise InputRejected("The structure set does not have it")
            inside[organ] = roi_on_dose_grid(structures, roi, dose)
        except InputRejected as error:
            # An organ is measured for the reader's sake; the target alone has to be there.
            absent.append(f"{organ} is not measured: {_lower(str(error))}.")
    region = roi_on_dose_grid(structures, found, dose)
    structures_header.StructureSetROISequence = [_item(ROINumber=found.number, ROIName=target)]
    return DosePatient(dose, header, structures_header, target, region, inside, tuple(absent))


def read_plan_facts(paths: Sequence[Path], dose: Dose) -> PlanFacts:
    """What the plan of a dose says; nothing where none of the files is that plan, or the dose names none."""
    for path in sorted(paths):
        plan = read_instance(path, _PLAN)
        if dose.rt_plan_uid and text(plan, "SOPInstanceUID") == dose.rt_plan_uid:
            return PlanFacts(_prescription_gy(plan), _fractions(plan))
    return NO_PLAN


def _structures(paths: Sequence[Path], dose: Dose) -> tuple[StructureSet, Dataset]:
    read = [(path, read_structure_set(path)) for path in sorted(paths)]
    fitting = [one for one in read if one[1].frame_of_reference_uid == dose.frame_of_reference_uid]
    if not fitting:
        raise InputRejected("The structure set and the dose have different Frames of Reference")
    if len(fitting) > 1:
        raise InputRejected(f"There are {len(fitting)} structure sets for the dose, and nothing says which one counts")
    path, structures = fitting[0]
    return structures, read_instance(path, _HEADER)


def _named(structures: StructureSet, name: str, synonyms: Mapping[str, str]) -> RoiContours | None:
    """The region that goes by a TG-263 name, of several the one that is called exactly so."""
    drawn = [roi for roi in structures.rois if roi.contours_lps]
    found = [roi for roi in drawn if _standard(roi.name, synonyms) == name]
    exact = [roi for roi in found if roi.name == name]
    chosen = exact or found
    if len(chosen) > 1:
        raise InputRejected(f"{len(chosen)} regions go by the name {name}, and nothing says which one counts")
    return chosen[0] if chosen else None


def _standard(name: str, synonyms: Mapping[str, str]) -> str:
    return synonyms.get(name.strip().lower()) or tg263_name(name)


def _item(**elements: object) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _prescription_gy(plan: Dataset) -> float | None:
    stated = {
        number(item, "TargetPrescriptionDose")
        for item in items(plan, "DoseReferenceSequence")
        if text(item, "DoseReferenceType") == "TARGET"
    } - {None, 0.0}
    return stated.pop() if len(stated) == 1 else None


def _fractions(plan: Dataset) -> int | None:
    groups = items(plan, "FractionGroupSequence")
    if len(groups) != 1 or text(plan, "BrachyTreatmentType") in _LOW_DOSE_RATE:
        return None
    planned = whole_number(groups[0], "NumberOfFractionsPlanned")
    return planned if planned and planned > 0 else None
