"""A research collection of made-up prostate implants: CT, structure set, plan and dose of every patient, and outcomes.

The anatomy is that of `models.prostate_implant`, in a CT of a small field of view around the prostate; the hazard of
failure is that of `models.simulated_implant`. The same arguments make the same files, byte for byte.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from models.outcomes import CohortStatement, EventTime
from models.prostate_implant import Implant, Prostate
from models.simulated_implant import ImplantCohortSettings, simulated_implants
from models.survival.cohort import Floats
from models.training.volumes import Split
from pipelines.base import Progress, no_progress
from pipelines.collection_index import CollectedSeries, write_index
from pipelines.dicom.acquired import Acquisition, Scanner, acquired_ct_series
from pipelines.dicom.companion import NewInstance
from pipelines.dicom.dose import rt_dose
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.seed_plan import SeedPlan, seed_plan
from pipelines.dicom.structure_set_writing import Roi, structure_set
from pipelines.dicom.volume import Volume
from pipelines.dicom.writing import file_bytes
from pipelines.outcomes import write_cohort
from pipelines.provenance import hashed_uid

ENDPOINT = "biochemical failure"
FIRST_DAY = date(2015, 1, 5)
PIXEL_MM, SLICE_MM, MATRIX = 1.0, 2.0, 112
DOSE_MM = (2.0, 2.5)
"""Sides of the voxels of doses: patients have them by turns, as departments do not all calculate alike."""
DOSE_MARGIN_MM = 20.0
"""Of dose around the prostate; behind it the dose goes on to the far wall of the rectum."""
TEST_PART = 0.3
"""Of the patients: failures are few, and fewer would test nothing."""
MAKER = "rtnode phantom"
_SCANNER = Scanner("SIEMENS", "SOMATOM Confidence", "CTSIM", 120, "Br38", "Post-implant CT")
_FAT_HU, _GLAND_HU, _RECTUM_HU, _SEED_HU, _NOISE_HU = -90.0, 40.0, -20.0, 2500.0, 12.0
_COLOURS = {"Prostate": (220, 60, 60), "Urethra": (240, 220, 60), "Rectum": (150, 100, 60)}


@dataclass(frozen=True)
class ImplantPatient:
    """Who a made-up patient is, and when he was imaged."""

    seed: int
    number: int
    effect: float

    @property
    def name(self) -> str:
        """Pseudonym, and Patient ID."""
        return f"implant_{self.seed}_{self.number:04d}"

    @property
    def day(self) -> date:
        """Of the CT."""
        return FIRST_DAY + timedelta(days=3 * self.number)

    @property
    def dose_mm(self) -> float:
        """Side of a voxel of the dose."""
        return DOSE_MM[self.number % len(DOSE_MM)]

    def uid(self, *key: str) -> str:
        """Same patient, same UID; the effect changes outcomes, not images."""
        return hashed_uid(["implant phantom", self.seed, self.number, key])


def write_implant_cohort(
    settings: ImplantCohortSettings, output: Path, seed: int = 0, progress: Progress = no_progress
) -> int:
    """Write the collection into `output`; returns the number of patients who fail.

    Parameters
    ----------
    settings
        How many patients, and what decides over them.
    output
        Made where absent; existing files of the same names are replaced.
    seed
        Another seed is another cohort.
    progress
        Told after each patient.
    """
    cohort = simulated_implants(settings, seed)
    entries: list[CollectedSeries] = []
    patients = [ImplantPatient(seed, number, settings.effect) for number in range(settings.patients)]
    splits = dict(zip((one.name for one in patients), _splits(len(patients)), strict=True))
    for patient, implant in zip(patients, cohort.implants, strict=True):
        entries += write_implant(patient, implant, output, splits[patient.name])
        progress((patient.number + 1) / len(patients), f"patient {patient.number + 1}")
    write_index(output, entries)
    statement = CohortStatement(
        name=f"made-up I-125 implants, seed {seed}, effect {settings.effect:g}", endpoint=ENDPOINT, is_simulated=True
    )
    names = [one.name for one in patients]
    outcomes = {
        name: EventTime(round(float(time), 1), bool(event))
        for name, time, event in zip(names, cohort.time_d, cohort.event, strict=True)
    }
    write_cohort(output, statement, outcomes, dict(zip(names, cohort.risk.tolist(), strict=True)))
    return int(cohort.event.sum())


def write_implant(patient: ImplantPatient, implant: Implant, output: Path, split: Split) -> Iterator[CollectedSeries]:
    """Write one patient; yields the entries of the index."""
    acquisition = _acquisition(patient)
    ct_folder = output / patient.name / "planning_ct"
    images = acquired_ct_series(_ct(implant, np.random.default_rng([patient.seed, patient.number, 2])), acquisition)
    planning = read_image_series(_write(images, ct_folder))
    structures = structure_set(planning, _rois(implant.prostate, planning), "PHANTOM", _new(patient, "structures", 2))
    sketch = SeedPlan(
        label="IMPLANT",
        structure_set_uid=structures.SOPInstanceUID,
        prescription_gy=implant.prescription_gy,
        target_roi_number=1,
        strength_u=implant.strength_u,
    )
    plan = seed_plan(planning.header, sketch, implant.seeds_mm, _new(patient, "plan", 3))
    dose = rt_dose(planning.header, _dose(implant, patient.dose_mm), plan.SOPInstanceUID, _new(patient, "dose", 4))
    yield _entry(patient, images, "planning_ct", split)
    for role, dataset in (("structure_set", structures), ("plan", plan), ("dose", dose)):
        _write([dataset], output / patient.name / role)
        yield _entry(patient, [dataset], role, split)


def _splits(patients: int) -> list[Split]:
    test = max(1, round(TEST_PART * patients))
    return ["train" if number < patients - test else "test" for number in range(patients)]


def _acquisition(patient: ImplantPatient) -> Acquisition:
    who = {
        "PatientName": f"Demo^{patient.name}",
        "PatientID": patient.name,
        "PatientBirthDate": "19500101",
        "PatientSex": "M",
        "ReferringPhysicianName": None,
        "AccessionNumber": None,
        "StudyID": "post-implant",
        "StudyDescription": "Made-up patient",
        "BodyPartExamined": "PROSTATE",
    }
    return Acquisition(
        scanner=_SCANNER,
        patient=who,
        study_instance_uid=patient.uid("study"),
        series_instance_uid=patient.uid("series", "ct"),
        frame_of_reference_uid=patient.uid("frame of reference"),
        series_number=1,
        date=patient.day.strftime("%Y%m%d"),
        time="101500",
    )


def _grid(low_xyz_mm: Floats, high_xyz_mm: Floats, spacing_xyz_mm: tuple[float, float, float]) -> Volume:
    """An empty grid from one corner to at least the other."""
    size = np.ceil((high_xyz_mm - low_xyz_mm) / spacing_xyz_mm).astype(np.int64) + 1
    affine = np.diag([*spacing_xyz_mm, 1.0])
    affine[:3, 3] = low_xyz_mm
    return Volume(np.broadcast_to(np.float32(0), tuple(size[::-1].tolist())), affine)


def _points_mm(grid: Volume) -> Floats:
    """Of every voxel, [slice, row, column, xyz]."""
    z, y, x = np.indices(grid.array_zyx.shape)
    indices_xyz = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float64)
    return grid.points_lps(indices_xyz).reshape(*grid.array_zyx.shape, 3)


def _ct(implant: Implant, random: np.random.Generator) -> Volume:
    half_mm = PIXEL_MM * (MATRIX - 1) / 2.0
    reach_mm = SLICE_MM * (np.ceil((implant.prostate.half_axes_xyz_mm[2] + 6.0) / SLICE_MM) + 0.5)
    # The rectum lies behind, so the field of view does too.
    low = np.array([-half_mm, -half_mm + 15.0, -reach_mm])
    size = 2.0 * np.array([half_mm, half_mm, reach_mm])
    # Half a millimetre less, so that rounding never makes another voxel of it.
    grid = _grid(low, low + size - 0.5, (PIXEL_MM, PIXEL_MM, SLICE_MM))
    points = _points_mm(grid)
    hu = np.full(grid.array_zyx.shape, _FAT_HU)
    hu[implant.prostate.inside(points)] = _GLAND_HU
    hu[implant.prostate.in_rectum(points)] = _RECTUM_HU
    hu += random.normal(0.0, _NOISE_HU, hu.shape)
    seeds_zyx = np.rint(grid.indices_xyz(implant.seeds_mm)).astype(np.int64)[:, ::-1]
    seen = ((seeds_zyx >= 0) & (seeds_zyx < hu.shape)).all(axis=1)
    hu[tuple(seeds_zyx[seen].T)] = _SEED_HU
    return grid.with_array(hu.astype(np.float32))


def _dose(implant: Implant, side_mm: float) -> Volume:
    a, b, c = implant.prostate.half_axes_xyz_mm
    margin, spread = DOSE_MARGIN_MM, 1.15
    behind = b + 2.0 * implant.prostate.rectum_radius_mm + 6.0
    low = np.array([-a * spread - margin, -b * spread - margin, -c - margin])
    high = np.array([a * spread + margin, behind, c + margin])
    grid = _grid(low, high, (side_mm, side_mm, side_mm))
    return grid.with_array(implant.dose_gy(_points_mm(grid)))


def _rois(prostate: Prostate, planning: ImageSeries) -> list[Roi]:
    points = _points_mm(planning.volume)
    masks: dict[str, NDArray[np.bool_]] = {
        "Prostate": prostate.inside(points),
        "Urethra": prostate.in_urethra(points),
        "Rectum": prostate.in_rectum(points),
    }
    kinds = {"Prostate": "CTV"}
    return [Roi(name, mask, kinds.get(name, "ORGAN"), _COLOURS[name]) for name, mask in masks.items()]


def _new(patient: ImplantPatient, what: str, series_number: int) -> NewInstance:
    return NewInstance(
        patient.uid("series", what), patient.uid("instance", what), series_number, what.capitalize(), MAKER
    )


def _entry(patient: ImplantPatient, datasets: Iterable[Dataset], role: str, split: Split) -> CollectedSeries:
    made = list(datasets)
    return CollectedSeries(
        patient=patient.name,
        series_instance_uid=made[0].SeriesInstanceUID,
        study_instance_uid=made[0].StudyInstanceUID,
        modality=made[0].Modality,
        role=role,
        folder=f"{patient.name}/{role}",
        instances=len(made),
        revision=1,
        split=split,
    )


def _write(datasets: Iterable[Dataset], folder: Path) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for dataset in datasets:
        paths.append(folder / f"{dataset.SOPInstanceUID}.dcm")
        # Made up, so not worth the wait for the disk that a received file is.
        paths[-1].write_bytes(file_bytes(dataset))
    return tuple(paths)
