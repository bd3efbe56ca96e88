"""The projections that a scanner would have measured of a known CT, as a series in the format DICOM-CT-PD.

The truth is the CT itself: what a reconstruction makes of the projections can be compared with it voxel by voxel, for
both are in one Frame of Reference. Slices are measured one by one, so nothing here stands for a cone beam.

The frame of the gantry is that of `dicom.gantry`.
"""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from models.grid import has_square_pixels
from models.intensity import AIR_HU
from models.scan_geometry import FanBeam, Floats, ImageGrid, ScanGeometry, full_turn, half_turn
from models.scan_simulation import Exposure, simulated_scan
from pipelines.base import InputRejected, Progress, no_progress
from pipelines.dicom.attributes import FRAME_OF_REFERENCE, IMAGE, PATIENT, SERIES, STUDY
from pipelines.dicom.companion import decimal_strings
from pipelines.dicom.elements import text, whole_number
from pipelines.dicom.gantry import reversed_axes
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.projection_views import Beam, DetectorShape
from pipelines.dicom.projection_writing import NewSeries, projection_instances
from pipelines.dicom.projections import ProjectionGeometry, Projections
from pipelines.dicom.stack import ORIENTATION_TOLERANCE
from pipelines.dicom.volume import Volume, axis_order
from pipelines.dicom.writing import copy_elements, file_bytes, write_whole
from pipelines.phantom_study import MAKER
from pipelines.provenance import hashed_uid, product_version

_PIXELS_AT_ONCE = 2**23
"""Of the CT; the simulation takes some fifty bytes for each."""
_QUARTER = 0.25
"""Offset of a fan's detector, in elements: rays from the other side run between those of this one."""
_SAVING = 0.2
"""Part of the work that writing is, for the progress."""


class RayKind(StrEnum):
    """How the rays of one slice run."""

    FAN = "fan"
    """From a source, over a full turn for each slice: the table stands still and moves on by one slice."""
    PARALLEL = "parallel"
    """Side by side, over half a turn; all slices at once, each a detector row."""


@dataclass(frozen=True)
class SimulatedScanner:
    """What is measured of a CT, and how."""

    rays: RayKind = RayKind.FAN
    views: int = 80
    """Of a turn, or of half a turn where rays are parallel; equally spaced."""
    exposure: Exposure = field(default_factory=Exposure)
    seed: int = 0
    """Of the noise."""
    slices: tuple[int, int] | None = None
    """Only these, from the first to before the last, counted from 0 at the feet; None: all."""
    source_isocenter_mm: float = 595.0
    source_detector_mm: float = 1085.6


@dataclass(frozen=True)
class _Couch:
    """The chosen slices as they lie in the gantry."""

    hu: NDArray[np.float32]
    """[slice, row, column] in the frame of the gantry."""
    slice_mm: float
    pixel_mm: float
    middle_lps_mm: tuple[float, float, float]
    """Of the slices; it lies at the isocenter half way through the scan."""
    axial_positions_mm: Floats
    """Of the slices, in the frame of the gantry; z of the patient or its negative."""


def write_projections(
    ct: ImageSeries, scanner: SimulatedScanner, output_dir: Path, progress: Progress = no_progress
) -> tuple[Path, ...]:
    """Write what the scanner measures of the CT, a file for each view; the same arguments make the same files.

    Raises
    ------
    InputRejected
        As `simulated_projections`.
    PipelineError
        If the CT is too dense to be written as line integrals.
    """
    projections = simulated_projections(ct, scanner, lambda done, what: progress((1.0 - _SAVING) * done, what))
    instances = projection_instances(projections, _new_series(ct, scanner))
    output_dir.mkdir(parents=True, exist_ok=True)
    paths = tuple(output_dir / f"{instance.SOPInstanceUID}.dcm" for instance in instances)
    for number, (path, instance) in enumerate(zip(paths, instances, strict=True), start=1):
        write_whole(path, file_bytes(instance))
        progress(1.0 - _SAVING + _SAVING * number / len(paths), "writing views")
    return paths


def simulated_projections(
    ct: ImageSeries, scanner: SimulatedScanner, progress: Progress = no_progress
) -> Projections:  # fmt: skip
    """What the scanner measures of the CT, whose middle lies at the isocenter.

    Elements are as wide as a pixel at the isocenter, and as many as see every corner of the image.

    Raises
    ------
    InputRejected
        If slices are not axial or pixels not square, the patient does not lie on the back or the belly with head or
        feet first, the CT lacks the slices that were asked for, or it reaches to the source.
    """
    couch = _on_the_couch(ct, scanner)
    geometry = _scan_geometry(couch, scanner)
    measured = _measured(couch, geometry, scanner, progress)
    is_parallel = scanner.rays is RayKind.PARALLEL
    # Row 0 is the farthest into the gantry.
    line_integrals = measured[::-1].transpose(1, 0, 2) if is_parallel else measured.reshape(-1, 1, geometry.detectors)
    return Projections(
        line_integrals=np.ascontiguousarray(line_integrals),
        geometry=_projection_geometry(couch, geometry, scanner),
        water_attenuation_per_mm=scanner.exposure.water_per_mm,
        photons=_photons(line_integrals.shape, scanner.exposure),
        header=_header(ct, couch, scanner),
        sop_instance_uids=(),
        missing_views=0,
    )


def _on_the_couch(ct: ImageSeries, scanner: SimulatedScanner) -> _Couch:
    _check_grid(ct.volume)
    axes = reversed_axes(ct.header)
    canonical = axis_order(ct.volume).canonical(ct.filled_zyx(AIR_HU))
    first, stop = _chosen(scanner.slices, len(canonical))
    slice_mm, pixel_mm, _ = ct.volume.spacing_zyx_mm
    centre_xyz = (np.array(canonical.shape[::-1]) - 1) / 2
    x, y, z = ct.volume.points_lps(centre_xyz[None])[0].tolist()
    positions_mm = z + (np.arange(first, stop) - centre_xyz[2]) * slice_mm
    return _Couch(
        hu=np.ascontiguousarray(np.flip(canonical[first:stop], axes)),
        slice_mm=slice_mm,
        pixel_mm=pixel_mm,
        middle_lps_mm=(x, y, float(positions_mm.mean())),
        axial_positions_mm=-positions_mm[::-1] if 0 in axes else positions_mm,
    )


def _check_grid(volume: Volume) -> None:
    if np.abs(np.abs(volume.image_orientation_patient) - [1, 0, 0, 0, 1, 0]).max() > ORIENTATION_TOLERANCE:
        raise InputRejected("The slices are not axial with rows from side to side")
    if not has_square_pixels(volume.spacing_zyx_mm):
        _, row_mm, column_mm = volume.spacing_zyx_mm
        raise InputRejected(f"The pixels of {row_mm:g} x {column_mm:g} mm are not square")


def _chosen(slices: tuple[int, int] | None, there: int) -> tuple[int, int]:
    first, stop = slices or (0, there)
    if not 0 <= first < stop <= there:
        raise InputRejected(f"Slices {first}:{stop} are no part of the {there} slices of the CT, 0:{there}")
    return first, stop


def _scan_geometry(couch: _Couch, scanner: SimulatedScanner) -> ScanGeometry:
    _, rows, columns = couch.hu.shape
    grid = ImageGrid(rows, columns, couch.pixel_mm)
    # The angle of the focal center grows the other way around.
    if scanner.rays is RayKind.PARALLEL:
        angles = tuple(-angle for angle in half_turn(scanner.views))
        return ScanGeometry(grid, angles, 1 + 2 * int(np.ceil(grid.reach_mm() / couch.pixel_mm)), couch.pixel_mm)
    source_mm = scanner.source_isocenter_mm
    if grid.reach_mm() >= source_mm:
        raise InputRejected(
            f"The CT reaches {grid.reach_mm():.0f} mm from its middle, and the source is at {source_mm:g} mm"
        )
    pitch_rad = couch.pixel_mm / source_mm
    detectors = 2 + 2 * int(np.ceil(np.arcsin(grid.reach_mm() / source_mm) / pitch_rad))
    angles = tuple(-angle for angle in full_turn(scanner.views))
    fan = FanBeam(source_mm, scanner.source_detector_mm)
    central = (detectors - 1) / 2 + _QUARTER
    return ScanGeometry(grid, angles, detectors, pitch_rad * scanner.source_detector_mm, central, fan)


def _measured(
    couch: _Couch, geometry: ScanGeometry, scanner: SimulatedScanner, progress: Progress
) -> NDArray[np.float32]:
    """Line integrals of all slices: [slice, view, detector]."""
    slices, rows, columns = couch.hu.shape
    measured = np.empty((slices, *geometry.sinogram_shape), np.float32)
    at_once = max(1, _PIXELS_AT_ONCE // (rows * columns))
    for first in range(0, slices, at_once):
        batch = slice(first, first + at_once)
        scan = simulated_scan(couch.hu[batch], geometry, scanner.exposure, scanner.seed, first_slice=first)
        measured[batch] = scan.line_integrals
        progress(min(1.0, (first + at_once) / slices), "measuring slices")
    return measured


def _projection_geometry(couch: _Couch, geometry: ScanGeometry, scanner: SimulatedScanner) -> ProjectionGeometry:
    is_parallel = scanner.rays is RayKind.PARALLEL
    slices = len(couch.hu)
    turn_rad = -np.asarray(geometry.angles_rad)
    turns = 1 if is_parallel else slices
    # Angles grow from turn to turn: wrapped back, they would say that the gantry had turned back.
    angles_rad = (turn_rad + 2 * np.pi * np.arange(turns)[:, None]).ravel()
    positions_mm = np.array([couch.axial_positions_mm.mean()]) if is_parallel else couch.axial_positions_mm
    source_mm, detector_mm = (np.inf, np.inf) if geometry.fan is None else _distances_mm(geometry.fan)
    no_shift = np.zeros(len(angles_rad))
    return ProjectionGeometry(
        beam=Beam.PARALLEL if is_parallel else Beam.DIVERGING,
        shape=DetectorShape.FLAT if is_parallel else DetectorShape.CYLINDRICAL,
        angles_rad=angles_rad,
        axial_positions_mm=np.repeat(positions_mm, scanner.views),
        source_isocenter_mm=source_mm,
        source_detector_mm=detector_mm,
        column_mm=geometry.detector_mm,
        row_mm=couch.slice_mm if is_parallel else couch.slice_mm * detector_mm / source_mm,
        central_column=geometry.centre(),
        central_row=(slices - 1) / 2 if is_parallel else 0.0,
        angular_shifts_rad=no_shift,
        axial_shifts_mm=no_shift,
        radial_shifts_mm=no_shift,
        views_per_rotation=2 * scanner.views if is_parallel else scanner.views,
        is_helical=False,
        collection_center_lps_mm=couch.middle_lps_mm,
    )


def _distances_mm(fan: FanBeam) -> tuple[float, float]:
    return fan.source_isocenter_mm, fan.source_detector_mm


def _photons(shape: tuple[int, ...], exposure: Exposure) -> NDArray[np.float32] | None:
    """[view, column]; nothing is said of infinitely many."""
    views, _, columns = shape
    return None if np.isinf(exposure.photons) else np.full((views, columns), exposure.photons, np.float32)


def _header(ct: ImageSeries, couch: _Couch, scanner: SimulatedScanner) -> Dataset:
    """Patient, study and Frame of Reference of the CT; how that was exposed and reconstructed is not true of this."""
    header = Dataset()
    copy_elements(ct.header, header, PATIENT + STUDY + SERIES + FRAME_OF_REFERENCE + IMAGE + ("KVP",))
    header.Manufacturer, header.ManufacturerModelName = MAKER, "Simulated scan of a CT"
    header.SoftwareVersions = product_version()
    field_of_view_mm = max(couch.hu.shape[1:]) * couch.pixel_mm
    (header.ReconstructionDiameter,) = decimal_strings([field_of_view_mm])
    if scanner.rays is RayKind.FAN:
        header.DistanceSourceToPatient, header.DistanceSourceToDetector = decimal_strings(
            (scanner.source_isocenter_mm, scanner.source_detector_mm)
        )
    return header


def _new_series(ct: ImageSeries, scanner: SimulatedScanner) -> NewSeries:
    sources = [text(header, "SOPInstanceUID") for header in ct.headers]
    identity = ["simulated projections", product_version(), ct.series_instance_uid, sources, asdict(scanner)]
    number = whole_number(ct.header, "SeriesNumber") or 0
    return NewSeries(
        series_instance_uid=hashed_uid(identity),
        series_number=number * 100 + 2 if 0 <= number < 10_000 else 2,
        series_description=f"Simulated projections, {scanner.rays} beam, {scanner.views} views",
    )
