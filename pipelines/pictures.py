"""Pictures for people: a series before and after a pipeline, and what has changed, in three planes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from pipelines.base import InputRejected
from pipelines.dicom.image_series import read_image_series

WINDOW_HU = (-200.0, 300.0)
"""Soft tissue; what a physicist looks at first."""
CHANGE_HU = 150.0
"""Half range of the difference's colours."""
BODY_HU = -500.0
"""The picture is cut to what is denser than this, air around the patient left out."""
MARGIN_VOXELS = 4
WIDTH_INCHES = 10.0
COLUMNS = ("before", "after", "change")
PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows."""

    path: Path
    title: str
    mean_change_hu: float | None
    """Mean absolute change over the whole grid; None where there was no image before."""


@dataclass(frozen=True)
class _Slab:
    """One plane of a volume, with the size of what it shows."""

    image: NDArray[np.float32]
    height_mm: float
    width_mm: float


def before_and_after(before: Sequence[Path], after: Sequence[Path], png: Path, title: str) -> Picture:
    """Draw the middle planes of two series on one grid, and their difference, into a PNG file.

    Raises
    ------
    InputRejected
        If a series can not be read as one volume, or the grids differ.
    """
    source, result = read_image_series(before).volume, read_image_series(after).volume
    if source.array_zyx.shape != result.array_zyx.shape:
        raise InputRejected("The series before and after have not the same grid")
    change = result.array_zyx - source.array_zyx
    body = _body(source.array_zyx)
    arrays = [array[body] for array in (source.array_zyx, result.array_zyx, change)]
    png.parent.mkdir(parents=True, exist_ok=True)
    _figure(COLUMNS, [_slabs(array, source.spacing_zyx_mm) for array in arrays], title).savefig(png, dpi=110)
    return Picture(png, title, float(np.abs(change).mean()))


def result_alone(after: Sequence[Path], png: Path, title: str) -> Picture:
    """Draw the middle planes of a series that was made of something else than images, into a PNG file.

    Raises
    ------
    InputRejected
        If the series can not be read as one volume.
    """
    result = read_image_series(after).volume
    png.parent.mkdir(parents=True, exist_ok=True)
    slabs = _slabs(result.array_zyx[_body(result.array_zyx)], result.spacing_zyx_mm)
    _figure(("result",), [slabs], title).savefig(png, dpi=110)
    return Picture(png, title, None)


def _body(array_zyx: NDArray[np.float32]) -> tuple[slice, ...]:
    """All slices, and the rows and columns that hold the patient."""
    bounds = [slice(None)]
    for others in ((0, 2), (0, 1)):
        (inside,) = np.nonzero((array_zyx > BODY_HU).any(axis=others))
        first, last = (inside[0], inside[-1]) if len(inside) else (0, None)
        bounds.append(slice(max(0, first - MARGIN_VOXELS), None if last is None else last + 1 + MARGIN_VOXELS))
    return tuple(bounds)


def _slabs(array_zyx: NDArray[np.float32], spacing_zyx_mm: tuple[float, float, float]) -> list[_Slab]:
    """The middle axial, coronal and sagittal plane; head up in the last two."""
    slices, rows, columns = array_zyx.shape
    z_mm, y_mm, x_mm = (count * mm for count, mm in zip(array_zyx.shape, spacing_zyx_mm, strict=True))
    return [
        _Slab(array_zyx[slices // 2], y_mm, x_mm),
        _Slab(array_zyx[::-1, rows // 2], z_mm, x_mm),
        _Slab(array_zyx[::-1, :, columns // 2], z_mm, y_mm),
    ]


def _figure(names: Sequence[str], columns: Sequence[Sequence[_Slab]], title: str) -> Figure:
    """Planes below each other, each as high as it is in the patient for the common width of a column."""
    heights = [slab.height_mm / slab.width_mm for slab in columns[0]]
    column_inches = WIDTH_INCHES / len(COLUMNS)
    size_inches = (column_inches * len(names), column_inches * sum(heights) + 1.6)
    figure = Figure(figsize=size_inches, layout="constrained")
    axes = figure.subplots(len(PLANES), len(names), gridspec_kw={"height_ratios": heights}, squeeze=False)
    for column, (name, slabs) in enumerate(zip(names, columns, strict=True)):
        images = [_draw(axes[row, column], slab, name == "change") for row, slab in enumerate(slabs)]
        axes[0, column].set_title(name, fontsize=10)
        figure.colorbar(images[-1], ax=axes[:, column], location="bottom", label="HU", shrink=0.7, pad=0.02)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw(axes: Axes, slab: _Slab, is_change: bool) -> AxesImage:
    low, high = (-CHANGE_HU, CHANGE_HU) if is_change else WINDOW_HU
    axes.set_axis_off()
    return axes.imshow(
        slab.image,
        cmap="RdBu_r" if is_change else "gray",
        vmin=low,
        vmax=high,
        extent=(0, slab.width_mm, slab.height_mm, 0),
    )
