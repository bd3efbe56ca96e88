"""An image with its place in the patient, made ready for registration: coarse, without couch, with a field of view."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import AIR_HU, BODY_THRESHOLD_HU, Hu, Mask, body_mask

_COUCH_MM = 5.0
"""Plates thinner than twice this are no body: couch tops and their struts."""
_SKIN_MM = 9.0
"""How much air around the body counts: the skin line says most about where the body is."""


@dataclass(frozen=True)
class PlacedImage:
    """HU with their place."""

    hu_zyx: NDArray[Any]
    """[slice, row, column], HU."""
    affine: NDArray[np.float64]
    """4 x 4, (column, row, slice, 1) to (x, y, z, 1) in LPS mm; the centre of voxel (0, 0, 0) is its translation."""
    seen: Mask | None = None
    """Voxels that the scanner has data for; None: inside the circle of `field_of_view`."""

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float]:
        """Distances of voxel centres between slices, rows and columns."""
        column, row, slice_ = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(slice_), float(row), float(column)


@dataclass(frozen=True)
class PreparedImage:
    """A coarse image whose background is air; all arrays [slice, row, column] on one grid."""

    hu_zyx: Hu
    """AIR_HU farther than a skin's breadth outside of the body."""
    affine: NDArray[np.float64]
    """As in `PlacedImage`."""
    body: Mask
    """The patient as far as the field of view shows him."""
    counts: Mask
    """Voxels that a comparison may use: body and skin, inside the field of view."""
    seen: Mask
    """Voxels inside the field of view, a voxel away from its edge."""

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float]:
        """Distances of voxel centres between slices, rows and columns."""
        return PlacedImage(self.hu_zyx, self.affine).spacing_zyx_mm

    def body_center_lps(self) -> NDArray[np.float64]:
        """Centre of mass of the body in LPS mm."""
        center_zyx = np.array(ndimage.center_of_mass(self.body))
        return np.asarray(self.affine[:3, :3] @ center_zyx[::-1] + self.affine[:3, 3])

    def body_corners_lps(self) -> NDArray[np.float64]:
        """The eight corners of the body's bounding box, (8, 3) in LPS mm."""
        sides = ndimage.find_objects(self.body.astype(np.int8))[0]
        ends = [(side.start, side.stop - 1) for side in reversed(sides)]
        indices_xyz = np.array(np.meshgrid(*ends, indexing="ij"), np.float64).reshape(3, -1).T
        return np.asarray(indices_xyz @ self.affine[:3, :3].T + self.affine[:3, 3])


def prepared(image: PlacedImage, voxel_mm: float) -> PreparedImage:
    """Average blocks of voxels to about `voxel_mm`, find the body and take away what lies around it.

    Raises
    ------
    ValueError
        If there is no body, or `seen` is not on the grid of the image.
    """
    seen = field_of_view(image.hu_zyx) if image.seen is None else image.seen
    if seen.shape != image.hu_zyx.shape:
        raise ValueError(f"the field of view has the shape {seen.shape}, the image {image.hu_zyx.shape}")
    factors = _factors(image, voxel_mm)
    hu = _block_means(np.where(seen, image.hu_zyx, np.float32(AIR_HU)), factors)
    affine = _coarser(image.affine, factors)
    # Blocks at the rim are mixed with what the scanner did not see, and interpolation reaches one voxel further.
    whole = _block_means(seen.astype(np.float32), factors) > 0.999
    inner = np.stack([ndimage.binary_erosion(plane, border_value=1) for plane in whole])
    spacing = PlacedImage(hu, affine).spacing_zyx_mm
    body = _body_without_couch(hu, spacing)
    if not (body & inner).any():
        raise ValueError("the image shows no body")
    near = np.asarray(ndimage.distance_transform_edt(~body, sampling=spacing) <= _SKIN_MM)
    return PreparedImage(np.where(near, hu, np.float32(AIR_HU)), affine, body & inner, near & inner, inner)


def halved(image: PreparedImage) -> PreparedImage:
    """The image on voxels twice as large; axes too short for that stay.

    Raises
    ------
    ValueError
        If nothing of the body is left.
    """
    factors = tuple(2 if size >= _LEAST_VOXELS else 1 for size in image.hu_zyx.shape)
    masks = [_block_means(mask.astype(np.float32), factors) > 0.5 for mask in (image.body, image.counts, image.seen)]
    if not masks[0].any():
        raise ValueError("the image shows too little of a body")
    return PreparedImage(_block_means(image.hu_zyx, factors), _coarser(image.affine, factors), *masks)


def in_blocks(image: PlacedImage, pixel_mm: float) -> PlacedImage:
    """The image with rows and columns averaged to about `pixel_mm`; slices stay. Not made finer."""
    _, row_mm, column_mm = image.spacing_zyx_mm
    factors = (1, max(1, round(pixel_mm / row_mm)), max(1, round(pixel_mm / column_mm)))
    return PlacedImage(_block_means(image.hu_zyx, factors), _coarser(image.affine, factors))


_LEAST_VOXELS = 24


def field_of_view(hu_zyx: NDArray[Any]) -> Mask:
    """In each slice the smallest circle about the middle that holds all that differs from the fill of the corners.

    A scanner fills what lies outside of its field of view with one value. Where corners have values of their own, all
    of the slice was seen; where a slice is all fill, nothing was. Air that is clipped to one value is mistaken for
    fill; that loses only corners without anything in them.
    """
    rows, columns = hu_zyx.shape[1:]
    y, x = np.ogrid[:rows, :columns]
    radii = np.hypot(y - (rows - 1) / 2.0, x - (columns - 1) / 2.0)
    return np.stack([_circle(plane, radii) for plane in hu_zyx])


def _circle(plane: NDArray[Any], radii: NDArray[np.float64]) -> Mask:
    corners = plane[[0, 0, -1, -1], [0, -1, 0, -1]]
    differs = plane != corners[0]
    if (corners != corners[0]).any():
        return np.ones(plane.shape, np.bool_)
    if not differs.any():
        return np.zeros(plane.shape, np.bool_)
    return np.asarray(radii <= radii[differs].max())


def _factors(image: PlacedImage, voxel_mm: float) -> tuple[int, ...]:
    return tuple(
        max(1, min(round(voxel_mm / mm), size))
        for mm, size in zip(image.spacing_zyx_mm, image.hu_zyx.shape, strict=True)
    )


def _block_means(array: NDArray[Any], factors: tuple[int, ...]) -> Hu:
    """Means of blocks of so many voxels; what is left over at the far ends is dropped."""
    sizes = [size // factor for size, factor in zip(array.shape, factors, strict=True)]
    cut = array[tuple(slice(size * factor) for size, factor in zip(sizes, factors, strict=True))]
    blocks = cut.reshape([side for pair in zip(sizes, factors, strict=True) for side in pair])
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


def _coarser(affine: NDArray[np.float64], factors: tuple[int, ...]) -> NDArray[np.float64]:
    """The affine of blocks: their centres lie half a block, less half a voxel, behind the first voxel."""
    scale = np.diag([*[float(factor) for factor in reversed(factors)], 1.0])
    scale[:3, 3] = [(factor - 1) / 2.0 for factor in reversed(factors)]
    return np.asarray(affine @ scale)


def _body_without_couch(hu_zyx: Hu, spacing_zyx_mm: tuple[float, float, float]) -> Mask:
    thick = _opened(body_mask(hu_zyx), _COUCH_MM, spacing_zyx_mm)
    return body_mask(np.where(thick, hu_zyx, np.float32(AIR_HU)), BODY_THRESHOLD_HU)


def _opened(mask: Mask, radius_mm: float, spacing_zyx_mm: tuple[float, float, float]) -> Mask:
    """Without what is thinner than twice the radius in the plane of a slice: there couches are plates."""
    spacing = spacing_zyx_mm[1:]
    opened = np.zeros_like(mask)
    for plane, into in zip(mask, opened, strict=True):
        # A plane all inside would have no distance; the frame is outside of the image, where nothing is thin.
        core = ndimage.distance_transform_edt(np.pad(plane, 1, mode="edge"), sampling=spacing)[1:-1, 1:-1] > radius_mm
        if core.any():
            into[:] = plane & (ndimage.distance_transform_edt(~core, sampling=spacing) <= radius_mm)
    return opened
