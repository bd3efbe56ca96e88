"""The planning CT of a made-up patient on the images of his fractions, whose place is known."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from models.phantoms import fraction_of, head_and_neck_phantom
from models.rigid_motion import carried
from models.segmentation_measures import dice
from pipelines.base import InputRejected
from pipelines.dicom.carried_structures import carried_over
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.registration import image_registration, read_registration
from pipelines.image_registration import as_given, placed, registered
from pipelines.phantom_study import COUCH_SHIFT_LPS_MM, Kind, PhantomSize, PhantomStudy, write_phantom
from tests.pipelines.made import changed, write
from tests.pipelines.organs_made import ORIGIN

SIZE = PhantomSize(matrix=96, slices=36, slice_mm=4.0, fractions=2)
SHAPE, SPACING = (36, 96, 96), (4.0, 4.0, 4.0)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return write_phantom(Kind.HEADNECK, tmp_path_factory.mktemp("phantom"), size=SIZE)


@pytest.fixture(scope="module")
def planning(study: PhantomStudy) -> ImageSeries:
    return read_image_series(study.planning_ct)


def setup_error_lps_mm(fraction: int) -> NDArray[np.float64]:
    """As `fraction_of` draws it for this patient."""
    return np.random.default_rng([0, fraction]).normal(0.0, 1.5, 3)[::-1]


def masks_of_the_day(fraction: int) -> dict[str, NDArray[np.bool_]]:
    phantom = head_and_neck_phantom(SHAPE, SPACING, np.random.default_rng(0))
    return dict(fraction_of(phantom, fraction, np.random.default_rng([0, fraction])).masks)


@pytest.mark.parametrize(("fraction", "couch"), [(1, np.array(COUCH_SHIFT_LPS_MM)), (2, np.zeros(3))])
def test_couch_shift_and_setup_error_are_found_and_organs_carried_to_their_place(
    study: PhantomStudy, planning: ImageSeries, fraction: int, couch: NDArray[np.float64]
) -> None:
    target = read_image_series(study.fractions[fraction - 1])
    found = registered(planning, target, check_inverse=False)
    points = np.array([[0.0, 0.0, 0.0], [50, 40, 30], [-50, -40, -30]])
    truth = points - couch + setup_error_lps_mm(fraction)
    assert np.linalg.norm(carried(points, found.matrix) - truth, axis=1).max() < 1.0
    organs = carried_over(planning, study.structure_set, target, found.matrix, ORIGIN).masks
    truths = masks_of_the_day(fraction)
    large = [name for name, mask in truths.items() if mask.sum() > 100]
    assert {"Brain", "Parotid_L", "Parotid_R", "External"} <= set(large)
    assert min(dice(organs[name], truths[name]) for name in large) >= 0.9


def test_a_given_registration_is_taken_as_it_is_and_judged(study: PhantomStudy, planning: ImageSeries) -> None:
    target = read_image_series(study.fractions[0])
    (registration,) = read_registration(study.registrations[0])
    given = as_given(planning, target, [registration])
    assert given.matrix[:3, 3] == pytest.approx([-shift for shift in COUCH_SHIFT_LPS_MM])
    assert given.correlation_after > 0.7


def test_without_a_registration_no_matrix_is_made_up(study: PhantomStudy, planning: ImageSeries) -> None:
    with pytest.raises(InputRejected) as caught:
        as_given(planning, read_image_series(study.fractions[0]), [])
    assert str(caught.value) == (
        "No registration leads from the Frame of Reference of the planning CT to that of the images"
    )
    same = as_given(planning, read_image_series(study.fractions[1]), [])
    assert np.array_equal(same.matrix, np.eye(4))


def test_images_without_a_body_are_refused_in_one_sentence(planning: ImageSeries, tmp_path: Path) -> None:
    air = [empty(header) for header in planning.headers]
    nothing = read_image_series(write(air, tmp_path))
    with pytest.raises(InputRejected, match="can not be registered: the image shows no body"):
        registered(planning, nothing)
    with pytest.raises(InputRejected, match="can not be compared: the image shows no body"):
        as_given(planning, nothing, [])


def empty(header: Dataset) -> Dataset:
    return changed(
        deepcopy(header), PixelData=np.full((96, 96), 24, "<u2").tobytes(), SeriesInstanceUID="1.2.3",
        SOPInstanceUID=f"1.2.3.{int(header.InstanceNumber)}",
    )  # fmt: skip


def test_padding_is_no_data(study: PhantomStudy, planning: ImageSeries, tmp_path: Path) -> None:
    images = [dcmread(path) for path in study.planning_ct]
    for image in images:
        image.add_new("PixelPaddingValue", "US", 0)
        stored = image.pixel_array.copy()
        stored[:, :10] = 0
        image.PixelData = stored.tobytes()
    padded = placed(read_image_series(write(images, tmp_path)))
    assert padded.seen is not None
    assert not padded.seen[:, :, :10].any()
    assert padded.hu_zyx[:, :, :10].max() == -1000
    assert placed(planning).seen is None


def test_the_registration_that_is_written_leads_back_to_the_planning_ct(
    study: PhantomStudy, planning: ImageSeries, tmp_path: Path
) -> None:
    target = read_image_series(study.fractions[0])
    (given,) = read_registration(study.registrations[0])
    dataset = image_registration(planning, target, np.linalg.inv(given.matrix).astype(np.float64), ORIGIN)
    (path,) = write([dataset], tmp_path)
    (found,) = read_registration(path)
    assert found.matrix == pytest.approx(given.matrix)
    assert found.fixed_frame_of_reference_uid == planning.frame_of_reference_uid
    assert dataset.StudyInstanceUID == target.header.StudyInstanceUID
