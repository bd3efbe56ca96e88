import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.intensity import BODY_THRESHOLD_HU
from models.organ_sides import mirrored_organs
from models.training.organ_volumes import (
    HEAD_AND_NECK_ORGANS,
    OrganVolume,
    organ_data_sha256,
    organ_volume,
    read_organ_volume,
)
from models.training.volumes import TrainingDataError, TrainingVolume

SHAPE = (4, 8, 8)
ORGANS = ("Parotid_R", "Parotid_L", "Larynx")
OPENKBP = Path(os.environ.get("RTNODE_DATA", "../shared/data")) / "openkbp"


def ct() -> TrainingVolume:
    return TrainingVolume("A", "train", np.zeros(SHAPE, np.float32), (3.0, 2.0, 2.0))


def block(start: int, stop: int) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, bool)
    mask[1:3, 2:5, start:stop] = True
    return mask


def openkbp(folder: Path) -> Path:
    """Stored [row, column, slice from the head down]: bit 2 is the right parotid, bit 3 the left one."""
    struct = np.zeros((8, 8, 4), np.uint16)
    struct[7, 0, 0] = 1 << 2  # posterior, right, top of the head
    struct[0, 7, 3] = 1 << 3 | 1 << 9  # anterior, left, lowest slice; and in a PTV
    path = folder / "pt_1.npz"
    np.savez(path, ct=np.full((8, 8, 4), 1024, np.int16), voxel_mm=np.array([4.0, 3.0, 2.5]), struct=struct)
    return path


def test_organs_of_openkbp_lie_as_its_ct_does(tmp_path: Path) -> None:
    masks = read_organ_volume(openkbp(tmp_path), HEAD_AND_NECK_ORGANS).masks()
    assert np.argwhere(masks["Parotid_R"]).tolist() == [[3, 7, 0]]
    assert np.argwhere(masks["Parotid_L"]).tolist() == [[0, 0, 7]]


def test_a_structure_of_openkbp_without_a_voxel_was_not_drawn(tmp_path: Path) -> None:
    found = read_organ_volume(openkbp(tmp_path), ("Larynx", "Parotid_L"))
    assert found.drawn == (False, True) and set(found.masks()) == {"Parotid_L"}
    assert set(np.unique(found.labels_zyx)) == {0, 2}


def plain(folder: Path, **arrays: NDArray[np.generic]) -> Path:
    content: dict[str, NDArray[np.generic]] = {
        "ct": np.zeros(SHAPE, np.int16),
        "spacing_zyx": np.array([3.0, 2.0, 2.0]),
        "labels": np.where(block(0, 2), 2, 0).astype(np.uint8),
        "organs": np.array(["Larynx", "Parotid_R"]),
    }
    np.savez(folder / "case.npz", **{**content, **arrays})  # type: ignore[arg-type]
    return folder / "case.npz"


def test_labels_of_a_plain_file_have_the_names_beside_them(tmp_path: Path) -> None:
    found = read_organ_volume(plain(tmp_path, mr=np.ones(SHAPE, np.float32)), ORGANS)
    assert found.drawn == (True, False, True)
    np.testing.assert_array_equal(found.masks()["Parotid_R"], block(0, 2))
    assert not found.masks()["Larynx"].any()
    assert found.mr_zyx is not None and found.mr_zyx.dtype == np.float32


@pytest.mark.parametrize("name", ["labels", "mr"])
def test_organs_or_mr_on_another_grid_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrainingDataError, match="not on the grid"):
        read_organ_volume(plain(tmp_path, **{name: np.zeros((4, 8, 9), np.uint8)}), ORGANS)


def test_a_volume_without_organs_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "ct.npz", ct=np.zeros(SHAPE, np.int16), spacing_zyx=np.ones(3))
    with pytest.raises(TrainingDataError, match="has no organs"):
        read_organ_volume(tmp_path / "ct.npz", ORGANS)


def test_where_organs_overlap_the_smaller_has_the_voxel() -> None:
    masks = {"Larynx": block(0, 2), "Parotid_L": block(1, 7)}
    found = organ_volume(ct(), masks, ORGANS)
    np.testing.assert_array_equal(found.masks()["Larynx"], block(0, 2))
    np.testing.assert_array_equal(found.masks()["Parotid_L"], block(2, 7))


def test_more_organs_than_a_byte_holds_are_refused() -> None:
    with pytest.raises(TrainingDataError, match="256 organs"):
        organ_volume(ct(), {}, [f"PTV_{number}" for number in range(256)])


def test_in_a_mirrored_patient_left_and_right_change_places() -> None:
    assert mirrored_organs(["Eye_L", "Larynx", "Eye_R", "Lung_L", "A_LAD"]) == [2, 1, 0, None, 4]


def test_other_organs_or_another_mr_are_other_data() -> None:
    one = organ_volume(ct(), {"Larynx": block(0, 2)}, ORGANS)
    others = [
        organ_volume(ct(), {"Larynx": block(0, 3)}, ORGANS),
        organ_volume(ct(), {"Larynx": block(0, 2), "Parotid_L": block(0, 0)}, ORGANS),
        organ_volume(ct(), {"Larynx": block(0, 2)}, ORGANS, np.ones(SHAPE)),
    ]
    assert len({organ_data_sha256([volume]) for volume in [one, *others]}) == 4


@pytest.mark.skipif(not OPENKBP.is_dir(), reason=f"there is no {OPENKBP}: RTNODE_DATA names the folder of real data")
def test_real_patients_lie_as_the_orientation_says() -> None:
    """Right parotid at low columns, brainstem above the cord, mandible in front of it, organs inside the body."""
    found: OrganVolume = read_organ_volume(OPENKBP / "pt_2.npz", HEAD_AND_NECK_ORGANS)
    middle = {organ: np.argwhere(mask).mean(axis=0) for organ, mask in found.masks().items()}
    assert middle["Parotid_R"][2] < middle["SpinalCord"][2] < middle["Parotid_L"][2]
    assert middle["Brainstem"][0] > middle["SpinalCord"][0] and middle["Bone_Mandible"][1] < middle["SpinalCord"][1]
    inside = found.volume.hu_zyx[found.labels_zyx > 0] > BODY_THRESHOLD_HU
    assert inside.mean() > 0.97
    bone = found.volume.hu_zyx[found.masks()["Bone_Mandible"]]
    assert np.median(bone) > 300.0 and found.volume.split == "train"
