"""Features of regions that DICOM objects describe."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.feature_settings import FeatureSettings
from models.ibsi_names import FEATURE_NAMES, Family
from models.radiomics import features
from pipelines.base import InputRejected, PipelineError
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.segmentation import segmentation
from pipelines.dicom.structure_set_writing import Roi, structure_set
from pipelines.feature_extraction import objects_below, region_features
from tests.models.ibsi import CT_CONFIGURATIONS, Comparison, references
from tests.pipelines.made import ct_series, mr_series, ramp, write
from tests.pipelines.organs_made import NEW, ORIGIN, ball, written

STATISTICS = FeatureSettings.model_validate({"families": ["statistics", "morphology"]})


@dataclass(frozen=True)
class Folder:
    """A CT of five slices with what was drawn on it."""

    path: Path
    images: list[Path]
    series: ImageSeries

    def draw(self, masks: dict[str, NDArray[np.bool_]]) -> Path:
        rois = [Roi(name, mask) for name, mask in masks.items()]
        return written(structure_set(self.series, rois, "TEST", NEW), self.path)

    def segment(self, masks: dict[str, NDArray[np.bool_]]) -> Path:
        return written(segmentation(self.series, masks, ORIGIN, "Organs").dataset, self.path)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    images = write(ct_series(), tmp_path)
    return Folder(tmp_path, images, read_image_series(images))


def test_features_are_those_of_the_voxels_that_were_drawn(folder: Folder) -> None:
    found = region_features(folder.images, [folder.draw({"Bladder": ball()})], "Bladder", STATISTICS)
    assert found.features == features(
        ramp().astype(np.float32), ball(), folder.series.volume.spacing_zyx_mm, STATISTICS
    )  # fmt: skip
    values = {one.tag: one.value for one in found.features}
    assert found.voxels == ball().sum()
    assert values["stat_mean"] == pytest.approx(ramp()[ball()].mean())
    assert values["morph_vol_approx"] == pytest.approx(ball().sum() * 3.0 * 2.0 * 1.5)


def test_a_segmentation_and_a_structure_set_of_one_region_give_the_same(folder: Folder) -> None:
    drawn = region_features(folder.images, [folder.draw({"Bladder": ball()})], "Bladder", STATISTICS)
    segmented = region_features(folder.images, [folder.segment({"Bladder": ball()})], "Bladder", STATISTICS)
    assert drawn.features == segmented.features
    assert drawn.region_sop_instance_uid != segmented.region_sop_instance_uid


@pytest.mark.parametrize("asked", ["Kidney_L", "kidney_l", "left kidney", "Niere li", "NIERE LI"])
def test_a_region_is_found_by_what_its_name_stands_for(folder: Folder, asked: str) -> None:
    file = folder.draw({"kidney_left": ball(), "Bladder": ~ball()})
    found = region_features(folder.images, [file], asked, STATISTICS, {"niere li": "Kidney_L"})
    assert (found.voxels, found.roi_name) == (ball().sum(), asked)


def test_a_name_as_it_stands_goes_before_one_that_means_the_same(folder: Folder) -> None:
    file = folder.draw({"Kidney_L": ball(), "kidney_left": ~ball()})
    found = region_features(folder.images, [file], "kidney_left", STATISTICS)
    assert found.voxels == (~ball()).sum()


def small() -> NDArray[np.bool_]:
    mask = np.zeros(ball().shape, np.bool_)
    mask[2, 8, 8:11] = True
    return mask


def test_a_region_of_three_voxels_is_too_small(folder: Folder) -> None:
    file = folder.segment({"Bladder": small()})
    with pytest.raises(InputRejected, match="The region has 3 voxels; features need at least 64"):
        region_features(folder.images, [file], "Bladder", STATISTICS)


def test_an_absent_region_is_named(folder: Folder) -> None:
    file = folder.draw({"Bladder": ball()})
    with pytest.raises(InputRejected, match="No structure set or segmentation of these images has a region Rectum"):
        region_features(folder.images, [file], "Rectum", STATISTICS)


def test_a_region_outside_the_images_is_told(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = folder.draw({"Bladder": ball()})
    higher = ct_series()
    for image in higher:
        image.ImagePositionPatient[2] += 500.0
        image.SOPInstanceUID += ".1"
    images = write(higher, tmp_path_factory.mktemp("higher"))
    with pytest.raises(InputRejected, match="The region Bladder has no contour on the images"):
        region_features(images, [file], "Bladder", STATISTICS)


def test_a_region_of_another_frame_of_reference_is_none_of_these_images(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = write(ct_series(FrameOfReferenceUID="1.2.3.4"), tmp_path_factory.mktemp("other"))
    for file in (folder.draw({"Bladder": ball()}), folder.segment({"Bladder": ball()})):
        with pytest.raises(InputRejected, match="of these images has a region Bladder"):
            region_features(other, [file], "Bladder", STATISTICS)


def test_two_regions_of_the_name_are_not_chosen_between(folder: Folder) -> None:
    files = [folder.draw({"Bladder": ball()}), folder.segment({"Bladder": ball()})]
    with pytest.raises(InputRejected, match="2 regions go by the name Bladder"):
        region_features(folder.images, files, "Bladder", STATISTICS)


def test_a_segmentation_of_other_images_does_not_hide_the_region(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wider = read_image_series(write(ct_series(PixelSpacing=[4.0, 4.0]), tmp_path_factory.mktemp("wider")))
    off_grid = written(segmentation(wider, {"Bladder": ball()}, ORIGIN, "Organs").dataset, folder.path)
    found = region_features(folder.images, [off_grid, folder.draw({"Bladder": ball()})], "Bladder", STATISTICS)
    assert found.voxels == ball().sum()
    with pytest.raises(InputRejected, match="The segmentation does not lie on the grid of the images"):
        region_features(folder.images, [off_grid], "Bladder", STATISTICS)


def test_values_of_mr_are_no_hu(tmp_path: Path) -> None:
    images = write(mr_series(ramp()), tmp_path)
    with pytest.raises(InputRejected, match="The images are MR, whose values are no HU"):
        region_features(images, [], "Bladder", STATISTICS)


def test_an_image_is_no_region(folder: Folder) -> None:
    with pytest.raises(InputRejected, match="neither a structure set nor a segmentation"):
        region_features(folder.images, folder.images[:1], "Bladder", STATISTICS)


def test_the_absence_of_the_library_is_no_fault_of_the_images(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mirp", None)
    with pytest.raises(PipelineError, match="features need mirp") as raised:
        region_features(folder.images, [folder.draw({"Bladder": ball()})], "Bladder", STATISTICS)
    assert not isinstance(raised.value, InputRejected)


def test_objects_of_a_folder_are_told_apart(folder: Folder) -> None:
    regions = {folder.draw({"Bladder": ball()}), folder.segment({"Bladder": ball()})}
    (folder.path / "README.txt").write_text("about the CT")
    found = objects_below(folder.path)
    assert {uid: set(paths) for uid, paths in found.images.items()} == {
        folder.series.series_instance_uid: set(folder.images)
    }
    assert set(found.regions) == regions


def test_values_of_the_ct_phantom_from_dicom_are_those_of_the_consensus(real_data: Callable[[str], Path]) -> None:
    ibsi = real_data("ibsi")
    objects = objects_below(ibsi / "ibsi_1_ct_radiomics_phantom" / "dicom")
    (images,) = objects.images.values()
    chosen = CT_CONFIGURATIONS["A"].model_copy(update={"families": (Family.STATISTICS,)})
    found = {one.tag: one.value for one in region_features(images, objects.regions, "GTV-1", chosen).features}
    known = [one for one in references(ibsi, "config. A") if FEATURE_NAMES[one.tag].family is Family.STATISTICS]
    assert len(known) == 18
    assert not [one for one in known if not Comparison(one, found[one.tag]).passed]


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="has no CT, MR or PET image"):
        objects_below(tmp_path)
