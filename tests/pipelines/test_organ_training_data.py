"""Organs of training volumes: which structure set counts, by which names, in which orientation."""

import logging
from pathlib import Path

import numpy as np
import pytest

from models.training.organ_volumes import OrganVolume
from pipelines.base import PipelineError
from pipelines.collection_index import CollectedSeries, write_index
from pipelines.organ_training_data import organ_volumes
from tests.models.training.organ_phantoms import patient
from tests.pipelines.organ_data_made import LEARNT, SHAPE, block, ct_below, drawn_on, openkbp
from tests.pipelines.organs_made import POSITIONS

ORGANS = ("Parotid_L", "Parotid_R", "Larynx")
LEFT, RIGHT = block(12, 17), block(3, 8)


def only(data: Path) -> OrganVolume:
    (one,) = organ_volumes(data, ORGANS)
    return one


def test_each_ct_gets_the_structure_set_that_was_drawn_on_it(tmp_path: Path) -> None:
    masks = {1: LEFT, 2: RIGHT, 3: LEFT | RIGHT}
    for number, mask in masks.items():
        drawn_on(ct_below(tmp_path, number), {"Parotid_L": mask}, tmp_path / "drawn" / f"{number}.dcm", number)
    found = {one.volume.source: one for one in organ_volumes(tmp_path, ORGANS)}
    assert set(found) == {f"1.2.{number}.2" for number in masks}
    for number, mask in masks.items():
        one = found[f"1.2.{number}.2"]
        assert one.drawn == (True, False, False) and one.organs == ORGANS
        np.testing.assert_array_equal(one.masks()["Parotid_L"], mask)
    assert {one.volume.split for one in found.values()} == {"train", "validation", "test"}


@pytest.mark.parametrize("position", ["HFS", "HFP", "FFS", "FFP", "HFDR"])
def test_organs_are_turned_as_the_images_are(tmp_path: Path, position: str) -> None:
    stored = np.where(LEFT, 500, 0).astype(np.int16)
    series = ct_below(tmp_path, 1, POSITIONS[position], stored, PatientPosition=position)
    drawn_on(series, {"Parotid_L": LEFT}, tmp_path / "drawn.dcm")
    one = only(tmp_path)
    np.testing.assert_array_equal(one.masks()["Parotid_L"], one.volume.hu_zyx == 500.0)
    assert int(one.masks()["Parotid_L"].sum()) == int(LEFT.sum())


def test_upper_and_lower_case_of_names_are_alike_and_other_regions_are_passed_over(tmp_path: Path) -> None:
    regions = {"PAROTID_L": LEFT, "parotid_r": RIGHT, "PTV_High": LEFT, "Somebody's region": RIGHT}
    drawn_on(ct_below(tmp_path, 1), regions, tmp_path / "drawn.dcm")
    one = only(tmp_path)
    assert one.drawn == (True, True, False)
    np.testing.assert_array_equal(one.masks()["Parotid_R"], RIGHT)


def test_of_several_structure_sets_the_one_with_most_of_the_organs_counts(tmp_path: Path) -> None:
    images = ct_below(tmp_path, 1)
    drawn_on(images, {"Parotid_L": RIGHT, "Brain": LEFT, "Bladder": LEFT}, tmp_path / "a.dcm", 1)
    drawn_on(images, {"Parotid_L": LEFT, "Parotid_R": RIGHT}, tmp_path / "b.dcm", 2)
    drawn_on(images, {"Parotid_L": RIGHT, "Larynx": RIGHT & False}, tmp_path / "c.dcm", 3)
    one = only(tmp_path)
    assert one.drawn == (True, True, False)
    np.testing.assert_array_equal(one.masks()["Parotid_L"], LEFT)


@pytest.mark.parametrize("changes", [{"Manufacturer": "rtnode"}, {"SeriesDescription": "Organs NOT FOR TREATMENT"}])
def test_what_this_program_made_is_not_learnt_from(tmp_path: Path, changes: dict[str, str]) -> None:
    images = ct_below(tmp_path, 1)
    drawn_on(images, {"Parotid_L": RIGHT, "Parotid_R": LEFT}, tmp_path / "a.dcm", 1, **changes)
    drawn_on(images, {"Parotid_L": LEFT}, tmp_path / "b.dcm", 2)
    np.testing.assert_array_equal(only(tmp_path).masks()["Parotid_L"], LEFT)
    (tmp_path / "b.dcm").unlink()
    with pytest.raises(PipelineError, match="in which Parotid_L or Parotid_R or Larynx was drawn"):
        organ_volumes(tmp_path, ORGANS)


def test_a_ct_without_organs_is_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn_on(ct_below(tmp_path, 1), {"Parotid_L": LEFT}, tmp_path / "drawn.dcm")
    ct_below(tmp_path, 2)
    drawn_on(ct_below(tmp_path, 3), {"Bladder": LEFT}, tmp_path / "other.dcm", 3)
    with caplog.at_level(logging.WARNING):
        assert only(tmp_path).volume.source == "1.2.1.2"
    assert [record.__dict__["reason"] for record in caplog.records] == ["no structure set was drawn on it"]
    assert "P2" not in str(caplog.records[0].__dict__)


def test_a_structure_set_that_does_not_fit_its_ct_is_left_out_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drawn_on(ct_below(tmp_path, 1), {"Parotid_L": LEFT}, tmp_path / "drawn.dcm")
    images = ct_below(tmp_path, 2)
    twice = drawn_on(images, {"Parotid_L": LEFT, "PAROTID_L": RIGHT}, tmp_path / "twice.dcm", 2)
    assert twice.exists()
    assert only(tmp_path).volume.source == "1.2.1.2"
    assert [record.__dict__["reason"] for record in caplog.records] == ["The structure set has two regions of one name"]


def test_where_no_organ_was_drawn_one_sentence_says_so(tmp_path: Path) -> None:
    drawn_on(ct_below(tmp_path, 1), {"Bladder": LEFT}, tmp_path / "drawn.dcm")
    with pytest.raises(PipelineError) as caught:
        organ_volumes(tmp_path, ("Parotid_L", "Larynx"))
    assert str(caught.value) == f"{tmp_path} has no planning CT in which Parotid_L or Larynx was drawn"
    with pytest.raises(PipelineError, match="is no folder"):
        organ_volumes(tmp_path / "nowhere", ORGANS)


def test_images_of_treatment_are_no_planning_ct(tmp_path: Path) -> None:
    drawn_on(ct_below(tmp_path, 1, KVP=3500), {"Parotid_L": LEFT}, tmp_path / "drawn.dcm")
    with pytest.raises(PipelineError, match="no planning CT"):
        organ_volumes(tmp_path, ORGANS)


def test_npz_files_of_both_layouts_stand_beside_dicom(tmp_path: Path) -> None:
    drawn_on(ct_below(tmp_path, 1), {"Parotid_L": LEFT}, tmp_path / "drawn.dcm")
    openkbp(tmp_path, 201)
    mr, labels = np.arange(np.prod(SHAPE)).reshape(SHAPE), np.where(RIGHT, 1, np.where(LEFT, 2, 0))
    ct, spacing, names = np.zeros(SHAPE, np.int16), np.array([3.0, 2.0, 2.0]), np.array(["Parotid_R", "Larynx"])
    np.savez(tmp_path / "plain.npz", ct=ct, spacing_zyx=spacing, labels=labels, organs=names, mr=mr)
    np.savez(tmp_path / "bare.npz", ct=ct, spacing_zyx=spacing)
    found = {Path(one.volume.source).name: one for one in organ_volumes(tmp_path, ORGANS)}
    assert set(found) == {"1.2.1.2", "pt_201.npz", "plain.npz"}
    np.testing.assert_array_equal(found["plain.npz"].masks()["Larynx"], LEFT)
    assert found["plain.npz"].drawn == (False, True, True)
    assert found["plain.npz"].mr_zyx is not None and np.array_equal(found["plain.npz"].mr_zyx, mr)
    kbp = found["pt_201.npz"]
    assert (kbp.volume.split, kbp.drawn) == ("validation", (True, True, False))
    for organ in LEARNT:
        np.testing.assert_array_equal(kbp.masks()[organ], patient(201, None).masks()[organ])


def test_of_a_collection_only_what_its_index_names_is_read(tmp_path: Path) -> None:
    images = ct_below(tmp_path, 1)
    drawn_on(images, {"Parotid_L": LEFT}, tmp_path / "rt" / "a.dcm", 1)
    drawn_on(images, {"Parotid_L": RIGHT, "Parotid_R": LEFT}, tmp_path / "loose.dcm", 2)
    entries = [
        CollectedSeries("A1", "1.2.1.2", "1.2.0", "CT", "planning_ct", "ct1", SHAPE[0], 1, "test"),
        CollectedSeries("A1", "1.2.9.1", "1.2.0", "RTSTRUCT", "structure_set", "rt", 1, 1, "test"),
    ]
    write_index(tmp_path, entries)
    one = only(tmp_path)
    assert (one.volume.patient_id, one.volume.split) == ("A1", "test")
    np.testing.assert_array_equal(one.masks()["Parotid_L"], LEFT)
