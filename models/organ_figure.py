"""Organs on the CT, in three planes: what a physicist looks at before any number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from models.intensity import Hu

_WINDOW_HU = (-160.0, 240.0)
_PLANES = ("transverse", "coronal", "sagittal")
_MARGIN_MM = 25.0
"""Around the organs."""


@dataclass(frozen=True)
class OrganRow:
    """One patient; arrays are [slice to the head, row to posterior, column to the patient's left]."""

    name: str
    hu_zyx: NDArray[Any]
    spacing_zyx_mm: tuple[float, float, float]
    found_zyx: NDArray[np.uint8]
    """0, or 1 + the number of the organ that was found."""
    drawn_zyx: NDArray[np.uint8] | None = None
    """The same of what a person drew; None where nobody did."""


@dataclass(frozen=True)
class _Plane:
    """One cut through a patient, as it is shown: anterior or the head on top, the patient's left on the right."""

    hu: Hu
    drawn: NDArray[np.uint8]
    found: NDArray[np.uint8]
    aspect: float
    """Height of a pixel against its width."""


def draw_organs(rows: Sequence[OrganRow], organs: Sequence[str], png: Path, title: str) -> None:
    """A row for each patient: planes through most of the organs, contours found (solid) and drawn (dashed)."""
    figure = Figure(figsize=(12, 0.8 + 3.7 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(_PLANES), squeeze=False)
    for axes_of_row, row in zip(grid, rows, strict=True):
        for axes, plane in zip(axes_of_row, _planes(row), strict=True):
            _draw(axes, plane, len(organs))
        axes_of_row[0].set_ylabel(row.name)
    for axes, name in zip(grid[0], _PLANES, strict=True):
        axes.set_title(name)
    handles = [Line2D([], [], color=_colour(number), label=organ) for number, organ in enumerate(organs, start=1)]
    if any(row.drawn_zyx is not None for row in rows):
        handles.append(Line2D([], [], color="grey", linestyle="--", label="drawn"))
        handles.append(Line2D([], [], color="grey", linestyle="-", label="found"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)))
    figure.suptitle(title)
    png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(png, dpi=70)


def _planes(row: OrganRow) -> Iterator[_Plane]:
    """Cut to the organs, those that a person drew if there are any."""
    found, spacing = row.found_zyx, row.spacing_zyx_mm
    drawn = np.zeros_like(found) if row.drawn_zyx is None else row.drawn_zyx
    shown = drawn if drawn.any() else found
    box = _box(shown, spacing)
    arrays = [array[box] for array in (row.hu_zyx, drawn, found)]
    middle = _middle(shown[box])
    slice_mm, row_mm, column_mm = spacing
    aspects = (row_mm / column_mm, slice_mm / column_mm, slice_mm / row_mm)
    for axis, aspect in enumerate(aspects):
        planes = [np.take(array, middle[axis], axis) for array in arrays]
        # The head goes up.
        hu, one, other = planes if axis == 0 else [plane[::-1] for plane in planes]
        yield _Plane(hu, one, other, aspect)


def _box(labels: NDArray[np.uint8], spacing_mm: tuple[float, float, float]) -> tuple[slice, ...]:
    """Around all organs, with a margin; everything where there is none."""
    if not labels.any():
        return (slice(None),) * 3
    places = np.argwhere(labels)
    margins = [int(_MARGIN_MM / mm) for mm in spacing_mm]
    return tuple(
        slice(max(0, low - margin), high + 1 + margin)
        for low, high, margin in zip(places.min(0), places.max(0), margins, strict=True)
    )


def _middle(labels: NDArray[np.uint8]) -> list[int]:
    """For each axis the cut that shows most different organs, of these the one with most voxels."""
    if not labels.any():
        return [n // 2 for n in labels.shape]
    return [int(np.argmax(_shown(np.moveaxis(labels, axis, 0)))) for axis in range(3)]


def _shown(planes: NDArray[np.uint8]) -> list[float]:
    counts = [np.bincount(plane.ravel())[1:] for plane in planes]
    return [float((count > 0).sum()) + float(count.sum()) / planes[0].size for count in counts]


def _draw(axes: Axes, plane: _Plane, organs: int) -> None:
    axes.imshow(plane.hu, cmap="gray", vmin=_WINDOW_HU[0], vmax=_WINDOW_HU[1], aspect=plane.aspect)
    for labels, style in ((plane.drawn, "--"), (plane.found, "-")):
        for number in range(1, organs + 1):
            if (labels == number).any():
                axes.contour(labels == number, levels=[0.5], colors=[_colour(number)], linestyles=style, linewidths=1.1)
    axes.set_xticks([])
    axes.set_yticks([])


def _colour(number: int) -> tuple[float, float, float, float]:
    red, green, blue, alpha = colormaps["tab10"]((number - 1) % 10)
    return red, green, blue, alpha
