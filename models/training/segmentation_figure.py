"""Organs drawn and found on the CT, in three planes: what a physicist looks at before any number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from models.intensity import Hu
from models.training.organ_volumes import OrganVolume
from models.training.segmentation_evaluation import JudgedCase

_WINDOW_HU = (-160.0, 240.0)
_PLANES = ("transverse", "coronal", "sagittal")
_MARGIN_MM = 25.0
"""Around the organs."""


@dataclass(frozen=True)
class _Plane:
    """One cut through a patient, as it is shown: anterior or the head on top, the patient's left on the right."""

    name: str
    hu: Hu
    drawn: NDArray[np.uint8]
    found: NDArray[np.uint8]
    aspect: float
    """Height of a pixel against its width."""


def draw_overlays(volumes: Sequence[OrganVolume], cases: Sequence[JudgedCase], png: Path, title: str) -> None:
    """A row for each patient: through the middle of the organs, contours drawn (dashed) and found (solid).

    Volumes and cases are of the same patients in the same order.
    """
    figure = Figure(figsize=(12, 0.8 + 3.7 * len(cases)), layout="constrained")
    FigureCanvasAgg(figure)
    organs = volumes[0].organs
    grid = figure.subplots(len(cases), len(_PLANES), squeeze=False)
    for row, volume, case in zip(grid, volumes, cases, strict=True):
        for axes, plane in zip(row, _planes(volume, case), strict=True):
            _draw(axes, plane, len(organs))
        row[0].set_ylabel(case.patient_id)
    for axes, name in zip(grid[0], _PLANES, strict=True):
        axes.set_title(name)
    lines = [Line2D([], [], color=_colour(number), label=organ) for number, organ in enumerate(organs, start=1)]
    kinds = [
        Line2D([], [], color="grey", linestyle="--", label="drawn"),
        Line2D([], [], color="grey", linestyle="-", label="found"),
    ]
    figure.legend(handles=[*lines, *kinds], loc="outside lower center", ncols=min(5, len(organs) + 2))
    figure.suptitle(title)
    figure.savefig(png, dpi=70)


def _planes(volume: OrganVolume, case: JudgedCase) -> Iterator[_Plane]:
    """Through the organ that was drawn largest; HU [slice to head, row to posterior, column to left]."""
    drawn, found, spacing = volume.labels_zyx, case.labels_zyx, volume.volume.spacing_zyx_mm
    shown = drawn if drawn.any() else found
    box = _box(shown, spacing)
    arrays = [array[box] for array in (volume.volume.hu_zyx, drawn, found)]
    middle = _middle(shown[box])
    slice_mm, row_mm, column_mm = spacing
    for axis, (name, aspect) in enumerate(
        zip(_PLANES, (row_mm / column_mm, slice_mm / column_mm, slice_mm / row_mm), strict=True)
    ):
        hu, one, other = (np.take(array, middle[axis], axis) for array in arrays)
        if axis:
            hu, one, other = (plane[::-1] for plane in (hu, one, other))
        yield _Plane(name, hu, one, other, aspect)


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
