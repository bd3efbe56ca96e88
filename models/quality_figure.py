"""What a model did to an image, on one sheet: before, after, difference and edges, where most has changed.

Edges stand in for a deformation: two lines that lie apart are an edge that has moved, or one whose HU have changed: the
lines follow a value, so the column of the difference has to be read with them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

WINDOW_HU = (-200.0, 300.0)
"""Soft tissue."""
CHANGE_HU = 150.0
"""Half range of the colours of the difference."""
EDGES_HU = (-300.0, 200.0)
"""Skin and lung, and bone: where the lines are drawn."""
COLUMNS = ("before", "after", "difference", "edges: before blue, after orange")
ONLY_AFTER = COLUMNS[1:2]
PLANES = ("transverse", "coronal", "sagittal")
_BODY_HU = -500.0
_MARGIN_VOXELS = 4
_COLUMN_INCHES = 3.0


def draw_change(
    before_hu_zyx: NDArray[Any] | None,
    after_hu_zyx: NDArray[Any],
    spacing_zyx_mm: tuple[float, float, float],
    png: Path,
) -> None:
    """Draw three planes into a PNG file, the same file for the same arrays.

    Parameters
    ----------
    before_hu_zyx
        [slice to the head, row to posterior, column to the patient's left]; None where there was no image before.
    after_hu_zyx
        On the same grid.

    Raises
    ------
    ValueError
        If the grids differ.
    """
    if before_hu_zyx is not None and before_hu_zyx.shape != after_hu_zyx.shape:
        raise ValueError(f"before has shape {before_hu_zyx.shape}, after {after_hu_zyx.shape}")
    box = _body_box(after_hu_zyx if before_hu_zyx is None else before_hu_zyx)
    after = after_hu_zyx[box]
    before = None if before_hu_zyx is None else before_hu_zyx[box]
    shown = _most_changed(before, after)
    rows = [
        # Without an image before, its column is not drawn.
        [_plane(array, axis, index) for array in (after if before is None else before, after)]
        for axis, index in enumerate(shown)
    ]
    _save(rows, _sizes_mm(after.shape, spacing_zyx_mm), ONLY_AFTER if before is None else COLUMNS, png)


def _save(
    rows: Sequence[Sequence[NDArray[Any]]],
    sizes_mm: Sequence[tuple[float, float]],
    columns: Sequence[str],
    png: Path,
) -> None:
    heights = [height / width for height, width in sizes_mm]
    size = (_COLUMN_INCHES * len(columns), _COLUMN_INCHES * sum(heights) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(PLANES), len(columns), squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes_of_row, (before, after), (height, width) in zip(grid, rows, sizes_mm, strict=True):
        for axes, column in zip(axes_of_row, columns, strict=True):
            _draw(axes, column, before, after, (0.0, width, height, 0.0))
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title(f"{column} (±{CHANGE_HU:g} HU)" if column == "difference" else column, fontsize=9)
    png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(png, dpi=90)


def _draw(
    axes: Axes,
    column: str,
    before: NDArray[Any],
    after: NDArray[Any],
    extent: tuple[float, float, float, float],
) -> None:
    axes.set_axis_off()
    low, high = WINDOW_HU
    if column == "before":
        axes.imshow(before, cmap="gray", vmin=low, vmax=high, extent=extent)
    elif column == "after":
        axes.imshow(after, cmap="gray", vmin=low, vmax=high, extent=extent)
    elif column == "difference":
        axes.imshow(after - before, cmap="RdBu_r", vmin=-CHANGE_HU, vmax=CHANGE_HU, extent=extent)
    else:
        axes.imshow(after, cmap="gray", vmin=low, vmax=high, extent=extent, alpha=0.5)
        for image, colour in ((before, "tab:blue"), (after, "tab:orange")):
            levels = [level for level in EDGES_HU if image.min() < level < image.max()]
            if levels:
                axes.contour(image, levels=levels, colors=colour, linewidths=0.6, extent=extent, origin="upper")


def _body_box(hu_zyx: NDArray[Any]) -> tuple[slice, ...]:
    """Around what is denser than air; everything where nothing is."""
    inside = hu_zyx > _BODY_HU
    bounds = []
    for others in ((1, 2), (0, 2), (0, 1)):
        (places,) = np.nonzero(inside.any(axis=others))
        first, last = (places[0], places[-1]) if len(places) else (0, hu_zyx.size)
        bounds.append(slice(max(0, int(first) - _MARGIN_VOXELS), int(last) + 1 + _MARGIN_VOXELS))
    return tuple(bounds)


def _most_changed(before: NDArray[Any] | None, after: NDArray[Any]) -> tuple[int, ...]:
    """For each axis the plane with the largest mean absolute change; the middle one where nothing has changed."""
    change = None if before is None else np.abs(after - before)
    if change is None or not change.any():
        return tuple(count // 2 for count in after.shape)
    return tuple(int(change.mean(axis=others).argmax()) for others in ((1, 2), (0, 2), (0, 1)))


def _plane(array: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """Anterior or the head on top."""
    plane: NDArray[Any] = np.take(array, index, axis)
    return plane if axis == 0 else plane[::-1]


def _sizes_mm(shape: Sequence[int], spacing_zyx_mm: Sequence[float]) -> list[tuple[float, float]]:
    """Height and width of each plane."""
    z_mm, y_mm, x_mm = (count * mm for count, mm in zip(shape, spacing_zyx_mm, strict=True))
    return [(y_mm, x_mm), (z_mm, x_mm), (z_mm, y_mm)]
