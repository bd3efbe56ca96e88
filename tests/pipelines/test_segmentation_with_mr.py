"""Segmentation of a CT with an MR that lies where its Frame of Reference or a registration puts it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import MRImageStorage, SegmentationStorage
from torch import Tensor, nn

from pipelines.base import Inputs, InputSeries, Outcome
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.registration import spatial_registration
from pipelines.segmentation import Segmentation
from pipelines.stability import Verdict, verdict_of
from tests.pipelines.conftest import FoundBy
from tests.pipelines.made import changed, write
from tests.pipelines.organ_readers import segments
from tests.pipelines.organs_made import NEW, POSITIONS, written
from tests.pipelines.two_parotids import (
    centres_lps_mm,
    ct,
    finder_of,
    folder_in,
    of_class,
    placed,
    truth,
    weights_in,
)

CENTRE_LPS_MM, RADIUS_MM = (-9.0, 12.0, 3.0), 12.0
SHIFT_LPS_MM = (15.0, -8.0, 6.0)
"""A whole number of voxels along each axis, so that what is moved there and back is exact."""
ELSEWHERE = "1.2.66"
"""Another Frame of Reference than that of the CT."""


class BrightInMr(nn.Module):
    """Organ 1 where the last channel lies 0.5 SD above the mean, organ 2 above 750 HU."""

    def forward(self, channels: Tensor) -> Tensor:
        mr, unit = channels[:, -1], channels[:, 0]
        return torch.stack([torch.zeros_like(mr), 40.0 * (mr - 0.5), 80.0 * (unit - 0.75)], dim=1)


def bright(position: str = "HFS") -> NDArray[np.bool_]:
    """Where the MR is, as the series of that Patient Position holds it."""
    return np.asarray(np.linalg.norm(centres_lps_mm(POSITIONS[position]) - CENTRE_LPS_MM, axis=-1) <= RADIUS_MM)


def mr(position: str = "HFS", shift_mm: tuple[float, ...] = (0, 0, 0), **changes: Any) -> list[Dataset]:
    """An MR of the patient; his Frame of Reference shifted against that of the CT."""
    series = placed((500 * bright(position)).astype(np.int16), POSITIONS[position], shift_mm)
    own = {"SOPClassUID": MRImageStorage, "Modality": "MR", "RescaleSlope": None, "RescaleIntercept": None}
    for index, one in enumerate(series):
        changed(one, **own, SeriesInstanceUID="1.2.77", SOPInstanceUID=f"1.2.77.{index + 1}", **changes)
    return series


def registration(folder: Path, images: Sequence[Path], mr_images: Sequence[Path]) -> Path:
    """From the Frame of Reference of the MR to that of the CT."""
    matrix = np.eye(4)
    matrix[:3, 3] = -np.array(SHIFT_LPS_MM)
    fixed, moving = read_image_series(images), read_image_series(mr_images, frozenset({"MR"}))
    return written(spatial_registration(fixed, moving, matrix, NEW), folder)


def run(
    folder: Path,
    found_by: FoundBy,
    mr_series: list[Dataset],
    registered: bool = False,
    takes_mr: bool = True,
    images: list[Dataset] | None = None,
    **settings: Any,
) -> Outcome:
    weights = weights_in(folder, takes_mr=takes_mr)
    found_by(finder_of(weights, BrightInMr() if takes_mr else None))
    paths, mr_paths = write(images or ct(), folder_in(folder, "ct")), write(mr_series, folder_in(folder, "mr"))
    linked = {"mr": (InputSeries("mr", "1.2.77", tuple(mr_paths)),)}
    if registered:
        linked["registration"] = (InputSeries("registration", "1.2.88", (registration(folder, paths, mr_paths),)),)
    inputs = Inputs(InputSeries("planning_ct", "1.2.3", tuple(paths)), linked)
    return Segmentation(name="segment", weights=weights, **settings).run(inputs)


def organs(outcome: Outcome, folder: Path) -> dict[str, NDArray[np.bool_]]:
    return segments(written(of_class(outcome, SegmentationStorage), folder), ct())


@pytest.mark.parametrize("position", ["HFS", "FFP", "HFDR"])
def test_an_mr_of_the_same_frame_of_reference_is_looked_at_however_it_is_stored(
    tmp_path: Path, found_by: FoundBy, position: str
) -> None:
    read = organs(run(tmp_path, found_by, mr(position)), tmp_path)
    if position == "HFDR":
        # Voxels of another shape: interpolated, and so a little larger than what is bright.
        assert read["Parotid_L"][bright()].all()
        assert read["Parotid_L"].sum() < 1.3 * bright().sum()
    else:
        np.testing.assert_array_equal(read["Parotid_L"], bright())
        np.testing.assert_array_equal(read["Parotid_R"], truth()["Parotid_R"] & ~bright())


def test_an_mr_that_a_registration_ties_to_the_ct_is_looked_at_where_it_belongs(
    tmp_path: Path, found_by: FoundBy
) -> None:
    outcome = run(tmp_path, found_by, mr("HFS", SHIFT_LPS_MM, FrameOfReferenceUID=ELSEWHERE), registered=True)
    np.testing.assert_array_equal(organs(outcome, tmp_path)["Parotid_L"], bright())


def held_without_mr(outcome: Outcome) -> str:
    """Why the MR was not looked at; the CT alone was, and the result is held."""
    assert verdict_of(outcome.findings) is Verdict.HOLD
    (unused,) = (finding for finding in outcome.findings if finding.name == "mr_not_used")
    assert unused.verdict is Verdict.HOLD
    return unused.text


def test_an_mr_of_another_frame_of_reference_is_not_looked_at_without_a_registration_and_the_result_is_held(
    tmp_path: Path, found_by: FoundBy
) -> None:
    outcome = run(tmp_path, found_by, mr("HFS", SHIFT_LPS_MM, FrameOfReferenceUID=ELSEWHERE))
    assert held_without_mr(outcome) == (
        "Found in the CT alone: The MR is in another Frame of Reference than the CT, and no registration leads from it "
        "there"
    )
    # Without an MR the network sees zeros, and this one finds only the other organ then.
    assert list(organs(outcome, tmp_path)) == ["Parotid_R"]


@pytest.mark.parametrize("others", [{"PatientID": "OTHER"}, {"PatientID": None}, {"IssuerOfPatientID": "THERE"}])
def test_an_mr_of_another_patient_is_not_looked_at_and_the_result_is_held(
    tmp_path: Path, found_by: FoundBy, others: dict[str, Any]
) -> None:
    images = [changed(one, IssuerOfPatientID="HERE") for one in ct()]
    outcome = run(tmp_path, found_by, mr(**others), images=images)
    assert held_without_mr(outcome) == "Found in the CT alone: The MR and the CT are not of one patient"
    assert list(organs(outcome, tmp_path)) == ["Parotid_R"]


def test_an_mr_whose_scanner_knows_no_issuer_is_of_the_same_patient(tmp_path: Path, found_by: FoundBy) -> None:
    images = [changed(one, IssuerOfPatientID="HERE") for one in ct()]
    outcome = run(tmp_path, found_by, mr(), images=images)
    np.testing.assert_array_equal(organs(outcome, tmp_path)["Parotid_L"], bright())


@pytest.mark.parametrize("settings", [{"takes_mr": False}, {"use_mr": False}])
def test_an_mr_that_is_of_no_use_is_not_even_read(tmp_path: Path, found_by: FoundBy, settings: dict[str, Any]) -> None:
    others = mr(PatientID="OTHER", FrameOfReferenceUID=ELSEWHERE)
    read = organs(run(tmp_path, found_by, others, **settings), tmp_path)
    if "takes_mr" in settings:
        np.testing.assert_array_equal(read["Parotid_L"], truth()["Parotid_L"])
    else:
        # Where there is no MR the network sees zeros, and this one finds nothing then.
        assert list(read) == ["Parotid_R"]
