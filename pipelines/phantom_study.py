"""A made-up patient's whole course as DICOM: planning CT and MR, structure set, plan, dose, images of the fractions.

Every odd fraction is imaged in a Frame of Reference of its own, as a machine without an exported couch position does
it, and a Spatial Registration leads back to the planning CT; every even one shares the Frame of Reference of the
planning CT. The same arguments make the same files, byte for byte: dates are part of the story, not of the clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from models.phantoms import Phantom, fraction_of, head_and_neck_phantom, pelvis_phantom
from models.simulate import COARSE_MVCT, CentralPlaneSettings, central_plane_cbct, simulated_mvct
from pipelines.base import PipelineError, Progress, no_progress
from pipelines.dicom.acquired import Acquisition, MrScanner, Scanner, acquired_ct_series, acquired_mr_series
from pipelines.dicom.companion import NewInstance
from pipelines.dicom.dose import rt_dose
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.registration import spatial_registration
from pipelines.dicom.rt_plan import PlanSketch, rt_plan
from pipelines.dicom.structure_set_writing import Roi, structure_set
from pipelines.dicom.volume import Volume
from pipelines.dicom.writing import file_bytes, write_whole
from pipelines.provenance import hashed_uid

FIRST_DAY = date(2025, 1, 6)
COUCH_SHIFT_LPS_MM = (2.0, -3.0, 25.0)
"""Where the origin of a fraction's own Frame of Reference lies in that of the planning CT."""
MAKER = "rtnode phantom"


class Kind(StrEnum):
    """Which patient is made up."""

    HEADNECK = "headneck"
    """Head and neck, imaged by megavoltage CT."""
    PELVIS = "pelvis"
    """Male pelvis, imaged by cone-beam CT."""


@dataclass(frozen=True)
class PhantomSize:
    """How large the images are, and how many."""

    matrix: int = 128
    slices: int = 40
    slice_mm: float = 3.0
    fractions: int = 4


@dataclass(frozen=True)
class PhantomPatient:
    """Who the patient is said to be."""

    patient_id: str
    patient_name: str


@dataclass(frozen=True)
class PhantomStudy:
    """The files that were written; each folder is one series."""

    planning_ct: tuple[Path, ...]
    structure_set: Path
    rt_plan: Path
    rt_dose: Path
    fractions: tuple[tuple[Path, ...], ...]
    registrations: tuple[Path, ...]
    """One for each fraction that has a Frame of Reference of its own, in their order."""
    mr: tuple[Path, ...] = ()
    """In the Frame of Reference of the planning CT, as after registration; of the pelvis only."""


PATIENTS = {
    Kind.HEADNECK: PhantomPatient("DEMO-HN", "Demo^HeadNeck"),
    Kind.PELVIS: PhantomPatient("DEMO-PE", "Demo^Pelvis"),
}

_SIMULATOR = Scanner("SIEMENS", "SOMATOM Confidence", "CTSIM", 120, "Br38", "Planning CT")
_MR_SCANNER = MrScanner("SIEMENS", "MAGNETOM Sola", "MRSIM", 1.5, 5000.0, 100.0, 15, "T2 TSE tra")
_IMAGERS = {
    Kind.HEADNECK: Scanner("TomoTherapy Incorporated", "Hi-Art", "TOMO1", 3500, "STANDARD", "CTrue Image Set"),
    Kind.PELVIS: Scanner("Varian Medical Systems", "OBI Cone-beam CT", "OBIWS", 125, "Ram-Lak", "CBCT Pelvis"),
}
_MAKERS = {Kind.HEADNECK: head_and_neck_phantom, Kind.PELVIS: pelvis_phantom}
_FIELD_OF_VIEW_MM = {Kind.HEADNECK: 384.0, Kind.PELVIS: 500.0}
_BODY_PARTS = {Kind.HEADNECK: "HEADNECK", Kind.PELVIS: "PELVIS"}
_PRESCRIPTION_GY = {Kind.HEADNECK: 70.0, Kind.PELVIS: 78.0}
_TARGET = "PTV_High"
_INTERPRETED_TYPES = {"External": "EXTERNAL", "GTVp": "GTV", _TARGET: "PTV"}


@dataclass(frozen=True)
class _Course:
    """What all objects of one patient are made from."""

    kind: Kind
    patient: PhantomPatient
    seed: int
    size: PhantomSize

    def uid(self, *key: str | int) -> str:
        """A UID that no other made-up patient has."""
        who = (self.kind, self.patient.patient_id, self.patient.patient_name, self.seed)
        size = (self.size.matrix, self.size.slices, self.size.slice_mm)
        return hashed_uid(["phantom", who, size, key])


def write_phantom(
    kind: Kind,
    output_dir: Path,
    patient: PhantomPatient | None = None,
    seed: int = 0,
    size: PhantomSize | None = None,
    progress: Progress = no_progress,
) -> PhantomStudy:
    """Write the whole course of one made-up patient below `output_dir`, a folder for each series.

    Parameters
    ----------
    kind
        Anatomy, and with it the imaging machine of the fractions.
    output_dir
        Made where absent; existing files of the same names are replaced.
    patient
        Name and id; `PATIENTS` where None. Use fictitious ones.
    seed
        Another seed is another patient: other sizes, noise and setup errors.
    size
        Matrix, slices, fractions.
    progress
        Told after each series.

    Raises
    ------
    PipelineError
        If the slices do not show the target.
    """
    course = _Course(kind, patient or PATIENTS[kind], seed, size or PhantomSize())
    phantom = _phantom(course)
    planning = _planning_ct(course, phantom, output_dir)
    progress(0.1, "planning CT")
    structures, plan, dose = _plan(course, phantom, read_image_series(planning), output_dir)
    progress(0.2, "structure set, plan and dose")
    fractions, registrations = [], []
    for number in range(1, course.size.fractions + 1):
        images = _fraction(course, phantom, number, output_dir)
        fractions.append(images)
        if _has_own_frame_of_reference(number):
            registrations.append(_registration(course, number, planning, images, output_dir))
        progress(0.2 + 0.8 * number / course.size.fractions, f"fraction {number}")
    mr = _mr(course, phantom, output_dir)
    return PhantomStudy(planning, structures, plan, dose, tuple(fractions), tuple(registrations), mr)


def write_planning_ct(
    kind: Kind, output_dir: Path, seed: int = 0, size: PhantomSize | None = None
) -> tuple[Path, ...]:  # fmt: skip
    """Write only the planning CT of what `write_phantom` writes with the same arguments."""
    course = _Course(kind, PATIENTS[kind], seed, size or PhantomSize())
    return _planning_ct(course, _phantom(course), output_dir)


def _phantom(course: _Course) -> Phantom:
    pixel_mm = _FIELD_OF_VIEW_MM[course.kind] / course.size.matrix
    shape = (course.size.slices, course.size.matrix, course.size.matrix)
    spacing = (course.size.slice_mm, pixel_mm, pixel_mm)
    return _MAKERS[course.kind](shape, spacing, np.random.default_rng(course.seed))


def _volume(phantom: Phantom, array_zyx: NDArray[Any], origin_lps_mm: Iterable[float] = (0, 0, 0)) -> Volume:
    """The phantom's array with its centre at the given place."""
    spacing_xyz = np.array(phantom.spacing_zyx_mm[::-1])
    affine = np.diag([*spacing_xyz, 1.0])
    affine[:3, 3] = np.array(list(origin_lps_mm)) - spacing_xyz * (np.array(array_zyx.shape[::-1]) - 1) / 2
    return Volume(array_zyx, affine)


def _planning_ct(course: _Course, phantom: Phantom, output_dir: Path) -> tuple[Path, ...]:
    acquisition = _acquisition(course, _SIMULATOR, "planning", FIRST_DAY, course.uid("frame of reference"), 1)
    images = acquired_ct_series(_volume(phantom, phantom.hu_zyx), acquisition)
    return _write(images, output_dir / "planning_ct")


def _mr(course: _Course, phantom: Phantom, output_dir: Path) -> tuple[Path, ...]:
    if phantom.mr_zyx is None:
        return ()
    day = FIRST_DAY + timedelta(days=1)
    acquisition = _acquisition(course, _MR_SCANNER, "MR", day, course.uid("frame of reference"), 1)
    return _write(acquired_mr_series(_volume(phantom, phantom.mr_zyx), acquisition), output_dir / "mr")


def _acquisition(
    course: _Course, scanner: Scanner | MrScanner, what: str, day: date, frame_of_reference_uid: str, series_number: int
) -> Acquisition:
    patient = {
        "PatientName": course.patient.patient_name,
        "PatientID": course.patient.patient_id,
        "PatientBirthDate": "19500101",
        "PatientSex": "M",
        "ReferringPhysicianName": None,
        "AccessionNumber": None,
        "StudyID": what[:16],
        "StudyDescription": "Made-up patient",
        "BodyPartExamined": _BODY_PARTS[course.kind],
    }
    return Acquisition(
        scanner=scanner,
        patient=patient,
        study_instance_uid=course.uid("study", what),
        series_instance_uid=course.uid("series", what),
        frame_of_reference_uid=frame_of_reference_uid,
        series_number=series_number,
        date=day.strftime("%Y%m%d"),
        time="101500",
    )


def _plan(
    course: _Course, phantom: Phantom, planning: ImageSeries, output_dir: Path
) -> tuple[Path, Path, Path]:  # fmt: skip
    rois = [_roi(name, mask, index) for index, (name, mask) in enumerate(phantom.masks.items())]
    structures = structure_set(planning, rois, "PHANTOM", _new(course, "structure set", 2))
    target = list(phantom.masks).index(_TARGET)
    if not rois[target].mask_zyx.any():
        raise PipelineError("the target of the made-up patient lies outside of so few or so coarse slices")
    sketch = PlanSketch(
        label="PHANTOM",
        structure_set_uid=structures.SOPInstanceUID,
        isocenter_lps_mm=_centre_lps_mm(planning.volume, rois[target].mask_zyx),
        prescription_gy=_PRESCRIPTION_GY[course.kind],
        fractions=35,
        target_roi_number=target + 1,
    )
    plan = rt_plan(planning.header, sketch, _new(course, "plan", 3))
    grid = _dose_grid(planning.volume.with_array(phantom.dose_gy_zyx))
    dose = rt_dose(planning.header, grid, plan.SOPInstanceUID, _new(course, "dose", 4))
    (structure_path,) = _write([structures], output_dir / "structure_set")
    (plan_path,) = _write([plan], output_dir / "rt_plan")
    (dose_path,) = _write([dose], output_dir / "rt_dose")
    return structure_path, plan_path, dose_path


def _dose_grid(dose: Volume) -> Volume:
    """Every n-th pixel, so that no side has more than about 128: planning systems calculate no finer."""
    step = max(1, dose.array_zyx.shape[1] // 128)
    return Volume(dose.array_zyx[:, ::step, ::step], dose.affine @ np.diag([step, step, 1.0, 1.0]))


def _roi(name: str, mask: NDArray[np.bool_], index: int) -> Roi:
    # Golden-ratio steps keep neighbouring colours apart however many there are.
    phase = 2 * np.pi * (index * 0.618 + np.array([0, 1 / 3, 2 / 3]))
    red, green, blue = np.rint(127.5 + 127.5 * np.cos(phase)).astype(int).tolist()
    return Roi(name, np.asarray(mask, dtype=np.bool_), _INTERPRETED_TYPES.get(name, "ORGAN"), (red, green, blue))


def _centre_lps_mm(volume: Volume, mask: NDArray[np.bool_]) -> tuple[float, ...]:
    centre_zyx = np.argwhere(mask).mean(axis=0)
    return tuple(volume.points_lps(centre_zyx[None, ::-1])[0].tolist())


def _new(course: _Course, what: str, series_number: int) -> NewInstance:
    return NewInstance(
        course.uid("series", what), course.uid("instance", what), series_number, what.capitalize(), MAKER
    )


def _has_own_frame_of_reference(fraction_number: int) -> bool:
    return fraction_number % 2 == 1


def _fraction(course: _Course, phantom: Phantom, number: int, output_dir: Path) -> tuple[Path, ...]:
    rng = np.random.default_rng([course.seed, number])
    of_the_day = fraction_of(phantom, number, rng)
    hu_zyx = _imaged(course.kind, of_the_day, rng)
    own = _has_own_frame_of_reference(number)
    frame_of_reference_uid = course.uid("frame of reference", *([number] if own else []))
    origin_lps_mm = [-shift for shift in COUCH_SHIFT_LPS_MM] if own else (0, 0, 0)
    day = FIRST_DAY + timedelta(days=14 + number)
    scanner = _IMAGERS[course.kind]
    acquisition = _acquisition(course, scanner, f"fraction {number}", day, frame_of_reference_uid, 1)
    images = acquired_ct_series(_volume(phantom, hu_zyx, origin_lps_mm), acquisition)
    return _write(images, output_dir / f"fraction_{number:02d}")


def _imaged(kind: Kind, phantom: Phantom, rng: np.random.Generator) -> NDArray[np.float32]:
    if kind is Kind.HEADNECK:
        return simulated_mvct(phantom.hu_zyx, phantom.spacing_zyx_mm, COARSE_MVCT, rng)
    return central_plane_cbct(phantom.hu_zyx, phantom.spacing_zyx_mm, CentralPlaneSettings(), rng)


def _registration(
    course: _Course, number: int, planning: tuple[Path, ...], images: tuple[Path, ...], output_dir: Path
) -> Path:
    """The couch shift alone: what is left between the patients of two days is the setup error, as in life."""
    matrix = np.eye(4)
    matrix[:3, 3] = COUCH_SHIFT_LPS_MM
    new = _new(course, f"registration {number}", 2)
    dataset = spatial_registration(read_image_series(planning), read_image_series(images), matrix, new)
    (path,) = _write([dataset], output_dir / f"registration_{number:02d}")
    return path


def _write(datasets: Iterable[Dataset], folder: Path) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for dataset in datasets:
        paths.append(folder / f"{dataset.SOPInstanceUID}.dcm")
        write_whole(paths[-1], file_bytes(dataset))
    return tuple(paths)
