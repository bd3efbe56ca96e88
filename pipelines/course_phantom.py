"""Made-up courses of treatment as a research collection: images, structure set, registrations, records and outcomes.

    DIR/index.json                  as `rtnode collect` writes it: patients, roles, splits
    DIR/outcomes.csv, cohort.yaml   what became of the patients, and that they are simulated
    DIR/truth.csv                   the true linear predictor, which training does not read
    DIR/PATIENT/SERIES/N.dcm

The images are weekly and each has a Frame of Reference of its own, as of a machine without an exported couch position,
with the Spatial Registration of the machine's own match, which is right to a fraction of a millimetre. Times of the
outcomes count from the end of the treatment. The same arguments make the same files, byte for byte.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from models.outcomes import CohortStatement, EventTime
from models.rigid_motion import Matrix, inverse, shift
from models.simulated_response import (
    ResponseSettings,
    SimulatedCourse,
    SimulatedOutcomes,
    simulated_course,
    simulated_outcomes,
)
from models.training.volumes import Split
from pipelines.base import Progress, no_progress
from pipelines.collection_index import CollectedSeries, write_index
from pipelines.dicom.acquired import Acquisition, Scanner, acquired_ct_series
from pipelines.dicom.companion import NewInstance
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.registration import spatial_registration
from pipelines.dicom.structure_set_writing import Roi, structure_set
from pipelines.dicom.treatment_record import treatment_record
from pipelines.dicom.volume import Volume
from pipelines.dicom.writing import file_bytes
from pipelines.outcomes import write_cohort
from pipelines.provenance import hashed_uid

FIRST_DAY = date(2025, 1, 6)
TREATMENT_AFTER_DAYS = 14
IMAGED_EVERY_DAYS = 7
PLANNED_FRACTIONS = 25
COUCH_SHIFT_LPS_MM = (2.0, -3.0, 25.0)
"""Where the origin of a fraction's own Frame of Reference lies in that of the planning CT."""
GTV = "GTVp"
ENDPOINT = "death"
MAKER = "rtnode course"
_SIMULATOR = Scanner("SIEMENS", "SOMATOM Confidence", "CTSIM", 120, "Br38", "Planning CT")
_IMAGER = Scanner("Varian Medical Systems", "OBI Cone-beam CT", "OBIWS", 125, "Ram-Lak", "CBCT Thorax")


@dataclass(frozen=True)
class CourseFiles:
    """What was written of one patient, by role; each entry is one series."""

    patient: str
    """Patient ID, and the pseudonym of the index."""
    planning_ct: tuple[Path, ...]
    structure_set: Path
    cbct: tuple[tuple[Path, ...], ...]
    registrations: tuple[Path, ...]
    treatment_records: tuple[Path, ...]


@dataclass(frozen=True)
class _Patient:
    patient_id: str
    seed: int
    number: int

    def uid(self, *key: str | int) -> str:
        """A UID that no other made-up patient has."""
        return hashed_uid(["course phantom", self.patient_id, self.seed, self.number, key])


def write_courses(
    output_dir: Path,
    patients: int,
    seed: int = 0,
    settings: ResponseSettings | None = None,
    test_share: float = 1 / 3,
    progress: Progress = no_progress,
) -> SimulatedOutcomes:
    """Write a collection of made-up patients with outcomes; the last ones, `test_share` of all, are for the test.

    Parameters
    ----------
    output_dir
        Made where absent; existing files of the same names are replaced.
    patients
        How many.
    seed
        Another seed makes other patients.
    settings
        Their images, hazard and the effect of the response on it.
    test_share
        Part of the patients that is not for training.
    progress
        Told after each patient.
    """
    settings = settings or ResponseSettings()
    outcomes = simulated_outcomes(patients, settings, np.random.default_rng([seed, 1]))
    index: list[CollectedSeries] = []
    written: list[CourseFiles] = []
    for number, response in enumerate(outcomes.responses):
        split: Split = "train" if number < round(patients * (1.0 - test_share)) else "test"
        files = write_course(output_dir, float(response), number, seed, settings)
        written.append(files)
        index += _entries(output_dir, files, split)
        progress((number + 1) / patients, f"patient {number + 1}")
    write_index(output_dir, index)
    names = [one.patient for one in written]
    followed = zip(outcomes.time_d.tolist(), outcomes.event.tolist(), strict=True)
    times = (EventTime(round(time_d, 1), event) for time_d, event in followed)
    statement = CohortStatement(name=f"made-up courses, seed {seed}", endpoint=ENDPOINT, is_simulated=True)
    write_cohort(
        output_dir,
        statement,
        dict(zip(names, times, strict=True)),
        dict(zip(names, outcomes.risk.tolist(), strict=True)),
    )
    return outcomes


def write_course(
    output_dir: Path, response: float, number: int = 0, seed: int = 0, settings: ResponseSettings | None = None
) -> CourseFiles:
    """Write the course of one made-up patient below `output_dir`; parameters as of `write_courses`."""
    settings = settings or ResponseSettings()
    patient = _Patient(f"COURSE-{seed}-{number:04d}", seed, number)
    course = simulated_course(response, settings, np.random.default_rng([seed, 2, number]))
    folder = output_dir / patient.patient_id
    planning = _images(patient, course.planning_hu_zyx, settings, None)
    structures = _structures(patient, planning, course)
    cbct: list[tuple[Path, ...]] = []
    registrations: list[Path] = []
    records: list[Path] = []
    for fraction in range(1, settings.fractions + 1):
        images = _images(patient, course.fractions_hu_zyx[fraction - 1], settings, fraction)
        match = _match(patient, course.setups[fraction - 1], fraction)
        registration = spatial_registration(planning, images, match, _new(patient, f"registration {fraction}", 2))
        cbct.append(_write(images.headers, folder / f"cbct_{fraction}"))
        registrations += _write([registration], folder / f"registration_{fraction}")
        records += _write([_record(patient, images, fraction, settings)], folder / f"record_{fraction}")
    return CourseFiles(
        patient.patient_id,
        _write(planning.headers, folder / "planning_ct"),
        _write([structures], folder / "structure_set")[0],
        tuple(cbct),
        tuple(registrations),
        tuple(records),
    )


def fraction_number(image: int, images: int) -> int:
    """Which of PLANNED_FRACTIONS image `image` of `images`, counted from 1, was made before."""
    return 1 + round((PLANNED_FRACTIONS - 1) * (image - 1) / max(images - 1, 1))


def _images(
    patient: _Patient, hu_zyx: NDArray[Any], settings: ResponseSettings, fraction: int | None
) -> ImageSeries:  # fmt: skip
    """The planning CT, or the image of a fraction; its headers are the whole datasets."""
    what = "planning" if fraction is None else f"fraction {fraction}"
    spacing_xyz = np.array(settings.spacing_zyx_mm[::-1])
    affine = np.diag([*spacing_xyz, 1.0])
    affine[:3, 3] = -spacing_xyz * (np.array(hu_zyx.shape[::-1]) - 1) / 2
    if fraction is not None:
        affine[:3, 3] -= COUCH_SHIFT_LPS_MM
    volume = Volume(hu_zyx, affine)
    acquisition = Acquisition(
        scanner=_SIMULATOR if fraction is None else _IMAGER,
        patient={
            "PatientName": f"Course^{patient.number:04d}",
            "PatientID": patient.patient_id,
            "PatientBirthDate": "19500101",
            "PatientSex": "M",
            "ReferringPhysicianName": None,
            "AccessionNumber": None,
            "StudyID": what[:16],
            "StudyDescription": "Made-up patient",
            "BodyPartExamined": "CHEST",
        },
        study_instance_uid=patient.uid("study", what),
        series_instance_uid=patient.uid("series", what),
        frame_of_reference_uid=patient.uid("frame of reference", what),
        series_number=1,
        date=_day(fraction).strftime("%Y%m%d"),
        time="101500",
    )
    datasets = acquired_ct_series(volume, acquisition)
    return ImageSeries("CT", volume, np.zeros(hu_zyx.shape, np.bool_), datasets)


def _day(fraction: int | None) -> date:
    after = 0 if fraction is None else TREATMENT_AFTER_DAYS + IMAGED_EVERY_DAYS * (fraction - 1)
    return FIRST_DAY + timedelta(days=after)


def _structures(patient: _Patient, planning: ImageSeries, course: SimulatedCourse) -> Dataset:
    body = np.asarray(course.planning_hu_zyx > -300.0)
    rois = [Roi("External", body, "EXTERNAL", (0, 255, 0)), Roi(GTV, course.gtv_zyx, "GTV", (255, 0, 0))]
    return structure_set(planning, rois, "COURSE", _new(patient, "structure set", 2))


def _match(patient: _Patient, setup: Matrix, fraction: int) -> Matrix:
    """From the images of a fraction to the planning CT, as the machine found it: nearly right."""
    random = np.random.default_rng([patient.seed, 3, patient.number, fraction])
    residual = shift(random.normal(0.0, 0.3, 3))
    return np.asarray(residual @ inverse(shift(-np.array(COUCH_SHIFT_LPS_MM)) @ setup))


def _record(patient: _Patient, images: ImageSeries, fraction: int, settings: ResponseSettings) -> Dataset:
    new = _new(patient, f"record {fraction}", 3)
    number = fraction_number(fraction, settings.fractions)
    return treatment_record(images.header, (number, PLANNED_FRACTIONS), patient.uid("plan"), _day(fraction), new)


def _new(patient: _Patient, what: str, series_number: int) -> NewInstance:
    return NewInstance(
        patient.uid("series", what), patient.uid("instance", what), series_number, what.capitalize(), MAKER
    )


def _write(datasets: Iterable[Dataset], folder: Path) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, dataset in enumerate(datasets):
        # Made-up files can be made again: no disk has to swear for each of some ten thousand.
        paths.append(folder / f"{number:05d}.dcm")
        paths[-1].write_bytes(file_bytes(dataset))
    return tuple(paths)


def _entries(output_dir: Path, files: CourseFiles, split: Split) -> Iterator[CollectedSeries]:
    series = [
        ("planning_ct", "CT", files.planning_ct),
        ("structure_set", "RTSTRUCT", (files.structure_set,)),
        *(("cbct", "CT", paths) for paths in files.cbct),
        *(("registration", "REG", (path,)) for path in files.registrations),
        *(("treatment_record", "RTRECORD", (path,)) for path in files.treatment_records),
    ]
    for role, modality, paths in series:
        header = dcmread(paths[0], specific_tags=["StudyInstanceUID", "SeriesInstanceUID"])
        yield CollectedSeries(
            patient=files.patient,
            series_instance_uid=header.SeriesInstanceUID,
            study_instance_uid=header.StudyInstanceUID,
            modality=modality,
            role=role,
            folder=str(paths[0].parent.relative_to(output_dir)),
            instances=len(paths),
            revision=1,
            split=split,
        )
