"""A made-up head in CT with the truth of its parts, another person for every seed; its brain may be swollen.

After a cardiac arrest grey matter takes up water and darkens towards white matter, and the swollen brain closes sulci
and ventricles: one number, `HeadAnatomy.oedema`, does all of this. Axes of every array are [slice, row, column]: to
the head, to posterior, to the patient's left. Voxels are averages over the slice thickness, as a scanner makes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import head_shapes
from models.head_anatomy import HeadAnatomy
from models.head_canvas import HeadCanvas
from models.head_shapes import DEEP_GREY, DEEP_PARTS, hindbrain, intracranial, ventricles
from models.head_surroundings import paint_bone_over_brain, paint_head_around, paint_skull
from models.implicit_shapes import Field, Point
from models.intensity import Hu, Mask
from models.pelvis_noise import ct_noise

CORTEX, WHITE_MATTER, CSF, VENTRICLES, HINDBRAIN = "cortex", "white_matter", "csf", "ventricles", "hindbrain"
LABELS: Mapping[str, int] = {
    name: number for number, name in enumerate((CSF, CORTEX, WHITE_MATTER, HINDBRAIN, VENTRICLES, *DEEP_PARTS), start=1)
}
"""What lies in a voxel; 0 is outside the skull's inner table."""

_PARTS_PER_MM = 2.5
"""A slice is painted at heights no farther apart than this, mm, and averaged."""
_CORTEX_MM = 3.0
_DEEPEST_SULCUS_MM = 18.0
_HEMISPHERES_PART_ABOVE_MM = 8.0
_HINDBRAIN_SHARE_OF_GREY = 0.55
_FALX_HU, _FALX_HALF_MM = 45.0, 0.6


@dataclass(frozen=True)
class HeadScanner:
    """What the scanner does to the head."""

    noise_sd_hu: float = 3.5
    noise_mm: float = 0.8
    """SD of the grain in the plane."""
    offset_hu: float = 0.0
    """Of all HU: calibration."""
    hardening: float = 1.0
    """0: the beam does not harden in the skull; 1: what is left after a usual correction."""

    @classmethod
    def drawn(cls, random: np.random.Generator) -> "HeadScanner":
        """A scanner from usual ranges."""
        return cls(
            noise_sd_hu=float(random.uniform(2.5, 4.5)),
            noise_mm=float(random.uniform(0.6, 1.1)),
            offset_hu=float(random.normal(0.0, 0.7)),
            hardening=float(random.uniform(0.5, 1.5)),
        )


IDEAL_SCANNER = HeadScanner(noise_sd_hu=0.0, hardening=0.0)
"""Neither noise nor hardening: truth alone."""


@dataclass(frozen=True)
class HeadPhantom:
    """One made-up head."""

    hu_zyx: Hu
    spacing_zyx_mm: Point
    labels_zyx: NDArray[np.uint8]
    """As in `LABELS`."""
    anatomy: HeadAnatomy

    def mask(self, *parts: str) -> Mask:
        """Voxels of these parts, as the middles of the voxels lie."""
        return np.isin(self.labels_zyx, [LABELS[part] for part in parts])

    @property
    def brain(self) -> Mask:
        """All that lies inside the skull."""
        return self.labels_zyx > 0


def head_phantom(
    shape_zyx: tuple[int, int, int],
    spacing_zyx_mm: Point,
    anatomy: HeadAnatomy,
    scanner: HeadScanner = IDEAL_SCANNER,
    random: np.random.Generator | None = None,
) -> HeadPhantom:
    """Paint a head on a grid whose middle is that of the image; `random` is for the noise alone."""
    slice_mm = spacing_zyx_mm[0]
    parts = max(1, int(np.ceil(slice_mm / _PARTS_PER_MM)))
    hu, painted = np.zeros(shape_zyx, np.float32), []
    for number in range(parts):
        canvas = _painted(shape_zyx, spacing_zyx_mm, anatomy, scanner, (number + 0.5) / parts - 0.5)
        hu += canvas.hu / np.float32(parts)
        painted.append(canvas.labels)
    labels = painted[(parts - 1) // 2]
    if scanner.noise_sd_hu > 0.0:
        random = random or np.random.default_rng(0)
        hu += ct_noise(shape_zyx, spacing_zyx_mm, scanner.noise_sd_hu, scanner.noise_mm, random)
    hu = np.clip(hu + np.float32(scanner.offset_hu), -1024.0, 3071.0)
    return HeadPhantom(np.asarray(hu, np.float32), spacing_zyx_mm, labels, anatomy)


def _painted(
    shape_zyx: tuple[int, int, int], spacing_zyx_mm: Point, anatomy: HeadAnatomy, scanner: HeadScanner, height: float
) -> HeadCanvas:
    """At one height within all slices, counted in slices from their middles."""
    z, y, x = anatomy.coordinates(shape_zyx, spacing_zyx_mm, height)
    canvas = HeadCanvas((z, y, x), spacing_zyx_mm[1])
    inner = canvas.distance(intracranial)
    paint_head_around(canvas, anatomy, inner)
    paint_skull(canvas, anatomy, inner)
    canvas.fill(inner, anatomy.csf_hu, LABELS[CSF])
    _paint_cerebrum(canvas, anatomy, inner)
    for name, part in DEEP_PARTS.items():
        canvas.paint(part, _deep_hu(name, anatomy), LABELS[name])
    canvas.paint(ventricles(anatomy.ventricle_scale), anatomy.csf_hu, LABELS[VENTRICLES])
    paint_bone_over_brain(canvas, anatomy)
    canvas.labels[canvas.hu > _BONE_FROM_HU] = 0
    if scanner.hardening > 0.0:
        canvas.hu += np.float32(scanner.hardening) * _hardening(canvas, inner)
    return canvas


_BONE_FROM_HU = 150.0


def _deep_hu(name: str, anatomy: HeadAnatomy) -> float:
    if name in DEEP_GREY:
        return anatomy.seen_deep_grey_hu
    if name == head_shapes.PALLIDUM:
        return 0.5 * (anatomy.seen_deep_grey_hu + anatomy.seen_white_hu)
    return anatomy.seen_white_hu


def _paint_cerebrum(canvas: HeadCanvas, anatomy: HeadAnatomy, inner: Field) -> None:
    """White matter, on it the cortex as a ribbon along the surface and the sulci, and the hindbrain below."""
    z, _, x = canvas.at
    surface = inner + np.float32(anatomy.space_mm)
    canvas.fill(surface, anatomy.seen_white_hu, LABELS[WHITE_MATTER])
    between = np.where(z > _HEMISPHERES_PART_ABOVE_MM + 24.0, np.abs(x), np.float32(99.0))
    depth = np.minimum(-surface, between - np.float32(anatomy.sulcus_half_mm))
    brain = surface < 0.0
    if anatomy.folds:
        _paint_folds(canvas, anatomy, depth, brain)
    else:
        _paint_mean_cortex(canvas, anatomy, depth, brain)
    behind = canvas.distance(hindbrain)
    share = _HINDBRAIN_SHARE_OF_GREY
    hu = share * anatomy.seen_grey_hu + (1.0 - share) * anatomy.seen_white_hu
    canvas.fill(np.maximum(behind, surface), hu, LABELS[HINDBRAIN])
    falx = np.maximum(np.abs(x) - np.float32(_FALX_HALF_MM), np.maximum(38.0 - z, inner))
    canvas.fill(np.asarray(falx, np.float32), _FALX_HU)


def _paint_folds(canvas: HeadCanvas, anatomy: HeadAnatomy, depth: Field, brain: Mask) -> None:
    fold = np.full(depth.shape, 99.0, np.float32)
    shallow = brain & (depth < _DEEPEST_SULCUS_MM)
    z, y, x = canvas.at
    fold[shallow] = anatomy.fold_distance((z[shallow], y[shallow], x[shallow]))
    narrowing = np.clip(1.0 - depth / np.float32(_DEEPEST_SULCUS_MM), 0.0, 1.0)
    sulcus = fold - np.float32(anatomy.sulcus_half_mm) * narrowing
    pia = np.minimum(depth, sulcus)
    canvas.fill(np.where(shallow, pia - np.float32(_CORTEX_MM), 9.0), anatomy.seen_grey_hu, LABELS[CORTEX])
    canvas.fill(np.where(shallow, pia, 9.0), anatomy.csf_hu, LABELS[CSF])


def _paint_mean_cortex(canvas: HeadCanvas, anatomy: HeadAnatomy, depth: Field, brain: Mask) -> None:
    """What folds come to on average: half grey, a third white, the rest between the folds."""
    band = brain & (depth < _DEEPEST_SULCUS_MM)
    hu = 0.5 * anatomy.seen_grey_hu + 0.37 * anatomy.seen_white_hu + 0.13 * anatomy.csf_hu
    canvas.fill(np.where(band, depth - np.float32(_DEEPEST_SULCUS_MM), 9.0), hu, LABELS[CORTEX])


def _hardening(canvas: HeadCanvas, inner: Field) -> Field:
    """HU to be added: bright under the skull, and a dark bar between the petrous bones."""
    z, y, x = canvas.at
    under_bone = np.where(inner < 0.0, 4.0 * np.exp(np.minimum(inner, 0.0) / 9.0), 0.0)
    bar = np.exp(-(((z + 33.0) / 7.0) ** 2) - ((y - 6.0) / 9.0) ** 2) * (np.abs(x) < 45.0)
    return np.asarray(under_bone - 9.0 * bar, np.float32)
