"""What is measured of a method on scans of few views: fidelity, sharpness, data, lesions, time, memory."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from models.edge_sharpness import edge_rise_mm
from models.intensity import Hu
from models.iterative import Images
from models.lesions import SOFT_TISSUE_HU, Lesion, contrast_recovery, invented
from models.metrics import psnr_db, ssim
from models.training.few_view_methods import Method
from models.training.few_view_scans import Condition, ScannedSlices
from models.training.peak_memory import forget_peak, peak_mib

TRUTH = "truth"

Values: TypeAlias = dict[tuple[str, str], float]
"""By (name, unit)."""


@dataclass(frozen=True)
class Measured:
    """What one method made of one slice."""

    patient_id: str
    number: int
    """Of the slice among those that were chosen of the patient."""
    method: str
    condition: Condition
    values: Values


@dataclass(frozen=True)
class Recovered:
    """One lesion in one reconstruction."""

    patient_id: str
    number: int
    method: str
    condition: Condition
    kind: str
    """`bright`, `dark` or `plus`."""
    share: float
    """Of its contrast that is there; 1 is all."""


@dataclass(frozen=True)
class Run:
    """What a method made of a scan, and what it took."""

    images: Images
    seconds: float
    """Of each slice, by the clock on the wall."""
    cpu_seconds: float
    """Of each slice; what the other programs of the machine have no part in."""
    peak_mib: float
    """Resident memory of the whole process, with the scan and its projector."""


def timed(method: Method, scan: ScannedSlices) -> Run:
    """Run a method on all slices of a scan together."""
    forget_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    images = method.run(scan)
    slices = len(scan.truth)
    return Run(images, (time.perf_counter() - wall) / slices, (time.process_time() - cpu) / slices, peak_mib())


def measured(run: Run, scan: ScannedSlices) -> list[Values]:
    """Of each slice, inside the region of the scan."""
    hu, chi_squared = scan.in_hu(run.images), scan.measured.chi_squared(run.images)
    cost: Values = {
        ("time", "s"): run.seconds,
        ("cpu_time", "s"): run.cpu_seconds,
        ("peak_memory", "mib"): run.peak_mib,
    }
    return [
        {**_quality(hu[n], scan, n), ("chi_squared", ""): float(chi_squared[n]), **cost} for n in range(len(scan.truth))
    ]


def truth_values(scan: ScannedSlices) -> list[Values]:
    """What measures without a reference say of the truth itself."""
    found = [
        edge_rise_mm(plane, plane, mask, scan.pixel_mm) for plane, mask in zip(scan.truth, scan.region, strict=True)
    ]
    return [{} if rise is None else {("edge_rise", "mm"): rise} for rise in found]


def recovered(with_lesions: Hu, without: Hu, lesions: Sequence[Lesion], pixel_mm: float) -> list[tuple[str, float]]:
    """Kind and recovered share of every lesion of one slice [row, column]."""
    shares = [contrast_recovery(with_lesions, without, lesion, pixel_mm) for lesion in lesions]
    return [(_kind(lesion), share) for lesion, share in zip(lesions, shares, strict=True)]


def _kind(lesion: Lesion) -> str:
    if lesion.shape == "plus":
        return "plus"
    return "bright" if lesion.contrast_hu > 0.0 else "dark"


def _quality(hu: Hu, scan: ScannedSlices, number: int) -> Values:
    truth, region = scan.truth[number], scan.region[number]
    blobs = invented(hu, truth, region, scan.pixel_mm)
    values: Values = {
        ("psnr", "db"): psnr_db(hu, truth, region),
        ("ssim", ""): ssim(hu[None], truth[None], region[None]),
        ("ssim_soft_tissue", ""): ssim(hu[None], truth[None], region[None], SOFT_TISSUE_HU),
        ("rmse", "hu"): float(np.sqrt(np.square(hu - truth, dtype=np.float64)[region].mean())),
        ("invented", "per_slice"): float(blobs.invented),
        ("erased", "per_slice"): float(blobs.erased),
    }
    rise = edge_rise_mm(hu, truth, region, scan.pixel_mm)
    return values if rise is None else {**values, ("edge_rise", "mm"): rise}
