from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from pipelines.base import InputRejected
from pipelines.dicom.segmentation import segmentation
from pipelines.dicom.writing import file_bytes
from pipelines.organ_pictures import organs_on_images
from tests.pipelines.organs_made import ORIGIN, images, organ_masks


def picture_of(folder: Path, names: list[str]) -> np.ndarray[tuple[int, int, int], np.dtype[np.float64]]:
    (folder / "ct").mkdir(parents=True)
    source = images(folder / "ct")
    masks = {name: mask for name, mask in organ_masks().items() if name in names}
    path = folder / "organs.dcm"
    path.write_bytes(file_bytes(segmentation(source, masks, ORIGIN, "Organs").dataset))
    picture = organs_on_images(sorted((folder / "ct").glob("*")), path, folder / "pictures" / "job_1.png", "job 1")
    assert picture.mean_change_hu is None and picture.title == "job 1"
    return np.asarray(imread(picture.path)[..., :3], np.float64)


def coloured(image: np.ndarray[tuple[int, int, int], np.dtype[np.float64]]) -> int:
    return int((np.ptp(image, axis=2) > 0.3).sum())


def test_organs_are_drawn_in_colour_on_the_grey_image(tmp_path: Path) -> None:
    one, two = picture_of(tmp_path / "one", ["Bladder"]), picture_of(tmp_path / "two", ["Bladder", "Parotid_R"])
    assert 100 < coloured(one) < coloured(two)


def test_segments_of_other_images_are_refused(tmp_path: Path) -> None:
    picture_of(tmp_path, ["Bladder"])
    (tmp_path / "other").mkdir()
    images(tmp_path / "other", FrameOfReferenceUID="1.2.3.4")
    with pytest.raises(InputRejected, match="different Frames of Reference"):
        organs_on_images(sorted((tmp_path / "other").glob("*")), tmp_path / "organs.dcm", tmp_path / "job.png", "")
