"""Pictures for people: a series before and after a pipeline, and what has changed, in three planes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipelines.dicom.image_series import read_image_series

WINDOW_HU = (-200.0, 300.0)
"""Soft tissue; what a physicist looks at first."""
CHANGE_HU = 150.0
"""Half range of the difference's colours."""
PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows."""

    path: Path
    title: str
    mean_change_hu: float


def before_and_after(before: Sequence[Path], after: Sequence[Path], png: Path, title: str) -> Picture:
    """Draw the middle planes of two series on one grid, and their difference, into a PNG file.

    Raises
    ------
    InputRejected
        If a series can not be read as one volume, or the grids differ.
    """
    source, result = read_image_series(before).volume, read_image_series(after).volume
    change = result.array_zyx - source.array_zyx
    figure = Figure(figsize=(9, 9), layout="constrained")
    axes = figure.subplots(3, 3)
    spacing = source.spacing_zyx_mm
    for row, plane in enumerate(PLANES):
        for column, (name, array) in enumerate(
            (("before", source.array_zyx), ("after", result.array_zyx), ("change", change))
        ):
            axis = axes[row, column]
            limit = (-CHANGE_HU, CHANGE_HU) if name == "change" else WINDOW_HU
            slab, aspect = _middle(array, plane, spacing)
            image = axis.imshow(
                slab, cmap="RdBu_r" if name == "change" else "gray", vmin=limit[0], vmax=limit[1], aspect=aspect
            )
            axis.set_axis_off()
            axis.set_title(f"{name}, {plane}" if row == 0 else plane, fontsize=9)
            if row == 0 and name == "change":
                figure.colorbar(image, ax=axes[:, column], location="bottom", label="HU", shrink=0.8)
    figure.suptitle(f"{title} ({WINDOW_HU[0]:g} to {WINDOW_HU[1]:g} HU)", fontsize=11)
    png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(png, dpi=110)
    return Picture(png, title, float(np.abs(change).mean()))


def _middle(
    array_zyx: NDArray[np.float32], plane: str, spacing_zyx_mm: tuple[float, float, float]
) -> tuple[NDArray[np.float32], float]:
    """The middle slice of a plane, head up, and the ratio of pixel height to width."""
    slices, rows, columns = array_zyx.shape
    dz, dy, dx = spacing_zyx_mm
    if plane == "axial":
        return array_zyx[slices // 2], dy / dx
    if plane == "coronal":
        return array_zyx[::-1, rows // 2], dz / dx
    return array_zyx[::-1, :, columns // 2], dz / dy
