"""The picture of contours, looked at as a person does: which colour is where on the page."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread
from numpy.typing import NDArray

from models.organ_figure import OrganRow, draw_organs

SHAPE, SPACING = (24, 24, 24), (5.0, 4.0, 4.0)
PANELS = ("transverse", "coronal", "sagittal")
ORGANS = ("Bladder", "Rectum")


def box(slices: slice, rows: slice, columns: slice) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, np.bool_)
    mask[slices, rows, columns] = True
    return mask


def labels() -> NDArray[np.uint8]:
    """One organ to the left, the front and the feet; another to the right, the back and the head."""
    bladder = box(slice(4, 14), slice(4, 13), slice(11, 20))
    rectum = box(slice(11, 20), slice(11, 20), slice(4, 13))
    return np.where(rectum, 2, bladder).astype(np.uint8)


def centres(png: Path, panel: int) -> list[NDArray[np.float64]]:
    """Middle (right, down) of what is drawn in the colour of each organ, in one of the three panels."""
    image = imread(png)[..., :3]
    height, width = image.shape[:2]
    part = image[: int(0.8 * height), panel * width // 3 : (panel + 1) * width // 3]
    found = []
    for number in range(len(ORGANS)):
        is_drawn = np.abs(part - np.array(colormaps["tab10"](number)[:3])).max(axis=-1) < 0.15
        assert is_drawn.sum() > 20
        found.append(np.argwhere(is_drawn).mean(axis=0)[::-1])
    return found


def draw(folder: Path, found: NDArray[np.uint8], drawn: NDArray[np.uint8] | None = None) -> Path:
    row = OrganRow("P", np.zeros(SHAPE, np.float32), SPACING, found, drawn)
    draw_organs([row], ORGANS, folder / "organs.png", "made")
    return folder / "organs.png"


@pytest.mark.parametrize(("panel", "right", "down"), [(0, 1, -1), (1, 1, 1), (2, -1, 1)], ids=PANELS)
def test_the_patient_is_shown_as_radiologists_do(tmp_path: Path, panel: int, right: int, down: int) -> None:
    """Transverse: anterior on top, his left on the right. Coronal and sagittal: head on top; anterior on the left."""
    bladder, rectum = centres(draw(tmp_path, labels()), panel)
    assert np.sign(bladder - rectum).tolist() == [right, down]


def test_where_nothing_was_found_the_drawn_organs_are_shown(tmp_path: Path) -> None:
    assert len(centres(draw(tmp_path, np.zeros(SHAPE, np.uint8), labels()), 0)) == 2
