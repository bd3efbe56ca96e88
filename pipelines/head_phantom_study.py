"""A research collection of made-up head CTs after cardiac arrest, with outcomes whose truth is known.

The same arguments make the same files, byte for byte, and more patients are added to the same first ones. The effect
changes outcomes and no image. Every third patient is kept for the test.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from models.head_anatomy import HeadAnatomy
from models.head_phantom import HeadPhantom, HeadScanner, head_phantom
from models.outcomes import CohortStatement
from models.simulated_oedema import OedemaCohort, OedemaCohortSettings, oedema_cohort
from pipelines.base import Progress, no_progress
from pipelines.collection_index import CollectedSeries, write_index
from pipelines.dicom.acquired import Acquisition, Scanner, acquired_ct_series
from pipelines.dicom.volume import Volume
from pipelines.dicom.writing import file_bytes, write_whole
from pipelines.outcomes import write_cohort
from pipelines.provenance import hashed_uid

ROLE = "head_ct"
ENDPOINT = "poor neurological outcome (CPC 3 to 5)"

_SCANNER = Scanner("SIEMENS", "SOMATOM Definition AS", "CTED1", 120, "J40s", "Head routine")
_FIRST_DAY = date(2025, 1, 6)
_TEST_EVERY = 3


@dataclass(frozen=True)
class HeadImages:
    """The grid of the images."""

    matrix: int = 192
    field_mm: float = 240.0
    slice_mm: float = 5.0
    height_mm: float = 170.0

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return round(self.height_mm / self.slice_mm), self.matrix, self.matrix

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float]:
        """Distances of voxel centres."""
        return self.slice_mm, self.field_mm / self.matrix, self.field_mm / self.matrix


def write_head_cohort(
    output_dir: Path,
    settings: OedemaCohortSettings,
    seed: int = 0,
    images: HeadImages | None = None,
    progress: Progress = no_progress,
) -> OedemaCohort:
    """Write head CTs, index, outcomes, truth and the statement of the cohort below `output_dir`; returns the truth."""
    cohort = oedema_cohort(settings, np.random.default_rng([seed, 1]))
    names = [f"head{number:04d}" for number in range(settings.patients)]
    entries = []
    for number, name in enumerate(names):
        phantom = _phantom(seed, number, float(cohort.oedema[number]), images or HeadImages())
        entries.append(_written(phantom, name, number, seed, output_dir))
        progress((number + 1) / len(names), f"{number + 1} of {len(names)} patients")
    write_index(output_dir, entries)
    statement = CohortStatement(
        name=f"made-up heads, effect {settings.effect:g}, seed {seed}", endpoint=ENDPOINT, is_simulated=True
    )
    outcomes = dict(zip(names, cohort.poor.tolist(), strict=True))
    write_cohort(output_dir, statement, outcomes, dict(zip(names, cohort.risk.tolist(), strict=True)))
    return cohort


def _phantom(seed: int, number: int, oedema: float, images: HeadImages) -> HeadPhantom:
    random = np.random.default_rng([seed, 2, number])
    anatomy, scanner = HeadAnatomy.drawn(random, oedema), HeadScanner.drawn(random)
    return head_phantom(images.shape_zyx, images.spacing_zyx_mm, anatomy, scanner, random)


def _written(phantom: HeadPhantom, name: str, number: int, seed: int, output_dir: Path) -> CollectedSeries:
    acquisition = _acquisition(name, number, [seed, phantom.hu_zyx.shape, phantom.spacing_zyx_mm])
    datasets = acquired_ct_series(_volume(phantom), acquisition)
    folder = output_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    for dataset in datasets:
        write_whole(folder / f"{dataset.SOPInstanceUID}.dcm", file_bytes(dataset))
    return CollectedSeries(
        patient=name,
        series_instance_uid=acquisition.series_instance_uid,
        study_instance_uid=acquisition.study_instance_uid,
        modality="CT",
        role=ROLE,
        folder=name,
        instances=len(datasets),
        revision=1,
        split="test" if number % _TEST_EVERY == _TEST_EVERY - 1 else "train",
    )


def _volume(phantom: HeadPhantom) -> Volume:
    spacing_xyz = np.array(phantom.spacing_zyx_mm[::-1])
    affine = np.diag([*spacing_xyz, 1.0])
    affine[:3, 3] = -spacing_xyz * (np.array(phantom.hu_zyx.shape[::-1]) - 1) / 2
    return Volume(phantom.hu_zyx, affine)


def _acquisition(name: str, number: int, identity: list[object]) -> Acquisition:
    def uid(what: str) -> str:
        return hashed_uid(["head phantom", identity, name, what])

    patient = {
        "PatientName": f"Demo^{name.capitalize()}",
        "PatientID": f"DEMO-{name.upper()}",
        "PatientBirthDate": "19500101",
        "PatientSex": "O",
        "ReferringPhysicianName": None,
        "AccessionNumber": None,
        "StudyID": "head",
        "StudyDescription": "Head CT of a made-up patient",
        "BodyPartExamined": "HEAD",
    }
    return Acquisition(
        scanner=_SCANNER,
        patient=patient,
        study_instance_uid=uid("study"),
        series_instance_uid=uid("series"),
        frame_of_reference_uid=uid("frame of reference"),
        series_number=1,
        date=(_FIRST_DAY + timedelta(days=number % 365)).strftime("%Y%m%d"),
        time="101500",
    )
