"""Slices of test patients as a scanner would measure them with few views: what every method gets, and the truth.

The scan is a fan beam about the middle of the slice, on an arc, with elements of one pixel at the axis of rotation and
a detector that is shifted by a quarter of one. The CT is simulated finer than it is reconstructed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.data_step import MeasuredRays
from models.intensity import Hu, Mask, body_mask
from models.iterative import Images, Rays
from models.lesions import Lesion, placed, planted, soft_places
from models.lesions import Shape as LesionShape
from models.scan_geometry import FanBeam, ImageGrid, ScanGeometry, full_turn
from models.scan_projector import ScanProjector
from models.scan_simulation import Exposure, attenuation_per_mm, exact_line_integrals, hu_of, noisy_scan
from models.training.pairs import useful_slices
from models.training.volumes import TrainingVolume

LEAST_PIXELS = 200
"""A narrower image is a cut-out of a slice: a scanner would have measured what it leaves out as well."""

_FAN = FanBeam(source_isocenter_mm=595.0, source_detector_mm=1085.6)
_QUARTER = 0.25
_KINDS: Sequence[tuple[LesionShape, float, int]] = (("disc", 50.0, 4), ("disc", -50.0, 3), ("plus", 50.0, 3))
"""Shape, contrast in HU and number of the lesions of a slice."""


@dataclass(frozen=True)
class Condition:
    """How much is measured."""

    views: int
    photons: float


@dataclass(frozen=True)
class ScannedSlices:
    """Slices of one patient under one condition; arrays are [slice, row, column]."""

    patient_id: str
    truth: Hu
    region: Mask
    """Inside the body and inside the circle that every view sees."""
    measured: MeasuredRays
    exposure: Exposure

    @property
    def geometry(self) -> ScanGeometry:
        """Of the scan."""
        return self.measured.projector.geometry

    @property
    def pixel_mm(self) -> float:
        """Width of a pixel."""
        return self.geometry.grid.pixel_mm

    def of(self, slices: slice) -> "ScannedSlices":
        """Only these slices."""
        return replace(self, truth=self.truth[slices], region=self.region[slices], measured=self.measured.of(slices))

    def in_hu(self, images: Images) -> Hu:
        """1/mm to HU."""
        return hu_of(images, self.exposure.water_per_mm)


@dataclass(frozen=True)
class ScannedPatient:
    """Slices of one patient with their exact line integrals over as many views as any condition asks for."""

    patient_id: str
    truth: Hu
    region: Mask
    geometry: ScanGeometry
    exact: Rays
    first_seed: int

    def projector(self, views: int) -> ScanProjector:
        """Projector of every n-th view."""
        return ScanProjector(self.geometry.with_views(self._chosen(views)))

    def scan(self, projector: ScanProjector, photons: float) -> ScannedSlices:
        """What is measured of all slices in the views of a projector of `projector`."""
        exposure = Exposure(photons)
        scan = noisy_scan(self.exact, exposure, self.first_seed)
        chosen = self._chosen(projector.geometry.views)
        measured = MeasuredRays(projector, scan.line_integrals[:, chosen], scan.inverse_variance[:, chosen])
        return ScannedSlices(self.patient_id, self.truth, self.region, measured, exposure)

    def _chosen(self, views: int) -> NDArray[np.int_]:
        return np.arange(0, self.geometry.views, self.geometry.views // views)


def is_whole(volume: TrainingVolume) -> bool:
    """Whether slices can be scanned: wide enough, square, and of a planning CT."""
    _, rows, columns = volume.hu_zyx.shape
    return volume.domain == "planning_ct" and rows == columns >= LEAST_PIXELS


def scanned_patient(volume: TrainingVolume, slices: int, views: int, seed: int) -> ScannedPatient | None:
    """Evenly spaced slices of those that show enough of the body, scanned without noise; None where there are none."""
    body = body_mask(volume.hu_zyx)
    useful = useful_slices(body)
    if not len(useful):
        return None
    count = min(slices, len(useful))
    chosen = useful[((np.arange(count) + 0.5) * len(useful) / count).astype(int)]
    truth = volume.hu_zyx[chosen]
    geometry = scan_of(truth.shape[-1], volume.spacing_zyx_mm[1], views)
    exposure = Exposure()
    exact = exact_line_integrals(attenuation_per_mm(truth, exposure.water_per_mm), geometry)
    region = body[chosen] & inscribed_circle(geometry.grid)
    return ScannedPatient(volume.patient_id, truth, region, geometry, exact, seed)


def scan_of(pixels: int, pixel_mm: float, views: int) -> ScanGeometry:
    """Scan of square slices over a full turn; its detector sees the circle inside them from every side."""
    grid = ImageGrid(pixels, pixels, pixel_mm)
    half_angle_rad = np.arcsin(pixels * pixel_mm / 2.0 / _FAN.source_isocenter_mm)
    detector_mm = pixel_mm * _FAN.source_detector_mm / _FAN.source_isocenter_mm
    detectors = int(np.ceil(2.0 * half_angle_rad * _FAN.source_detector_mm / detector_mm)) + 2
    return ScanGeometry(grid, full_turn(views), detectors, detector_mm, (detectors - 1) / 2.0 + _QUARTER, _FAN)


def inscribed_circle(grid: ImageGrid) -> Mask:
    """Pixels of the circle of half the width: (row, column)."""
    distance_mm = np.hypot(grid.row_positions_mm()[:, None], grid.column_positions_mm())
    return np.asarray(distance_mm < grid.rows / 2.0 * grid.pixel_mm)


def lesions_of(scan: ScannedSlices, seed: int) -> list[list[Lesion]]:
    """Ten lesions of 5 mm for each slice, or as many as there is room for: discs of 50 and -50 HU, plus signs of 50."""
    kinds = [(shape, contrast_hu) for shape, contrast_hu, count in _KINDS for _ in range(count)]
    found = []
    for number, (truth, region) in enumerate(zip(scan.truth, scan.region, strict=True)):
        places = soft_places(truth, region, scan.pixel_mm)
        found.append(placed(places, kinds, scan.pixel_mm, np.random.default_rng([seed, number])))
    return found


def with_lesions(scan: ScannedSlices, lesions: Sequence[Sequence[Lesion]]) -> ScannedSlices:
    """The same scan, with the same noise, of slices that have these lesions.

    What the lesions add to the exact line integrals is added to the measured ones. Noise that was drawn anew would be
    another one, as a counting of photons does not repeat itself when one of them is missing.
    """
    pixel_mm, water_per_mm = scan.pixel_mm, scan.exposure.water_per_mm
    truth = np.stack([planted(hu, some, pixel_mm) for hu, some in zip(scan.truth, lesions, strict=True)])
    images = [attenuation_per_mm(hu, water_per_mm) for hu in (scan.truth, truth)]
    before, after = np.split(exact_line_integrals(np.concatenate(images), scan.geometry), 2)
    measured = replace(scan.measured, line_integrals=scan.measured.line_integrals + (after - before))
    return replace(scan, truth=truth, measured=measured)
