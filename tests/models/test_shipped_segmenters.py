"""The shipped segmentations on patients that they have never seen."""

import os
from pathlib import Path

import numpy as np
import pytest

from models.engines import has_bf16
from models.organ_finder import load_organ_finder
from models.segmentation_measures import measures_by_organ
from models.training.organ_volumes import HEAD_AND_NECK_ORGANS, read_organ_volume
from models.training.pelvis_volumes import pelvis_volumes

OPENKBP = Path(os.environ.get("RTNODE_DATA", "../shared/data")) / "openkbp"


@pytest.mark.skipif(not OPENKBP.is_dir(), reason="OpenKBP is not in RTNODE_DATA")
def test_the_organs_of_a_head_and_neck_are_where_they_were_drawn() -> None:
    one = read_organ_volume(OPENKBP / "pt_243.npz", HEAD_AND_NECK_ORGANS)
    found = load_organ_finder("segment_headneck", bf16=has_bf16()).find(one.volume.hu_zyx, one.volume.spacing_zyx_mm)
    measures = measures_by_organ(found.masks(), one.masks(), one.volume.spacing_zyx_mm)
    assert np.mean([organ.dice for organ in measures.values()]) > 0.7
    assert measures["Parotid_L"].dice > 0.6 and measures["Parotid_R"].dice > 0.6


def test_the_organs_of_a_made_up_pelvis_are_where_they_were_made_with_its_mr_and_without() -> None:
    (one,) = pelvis_volumes(1, 2000, "test", shape_zyx=(60, 82, 84), spacing_zyx_mm=(4.0, 3.0, 3.0))
    finder = load_organ_finder("segment_pelvis", bf16=has_bf16())
    for mr in (one.mr_zyx, None):
        found = finder.find(one.volume.hu_zyx, one.volume.spacing_zyx_mm, mr)
        measures = measures_by_organ(found.masks(), one.masks(), one.volume.spacing_zyx_mm)
        assert measures["Bladder"].dice > 0.85 and measures["Prostate"].dice > 0.8
        assert measures["Rectum"].dice > 0.75 and measures["SeminalVes"].dice > 0.4
