"""Real and odd images, where this machine has them (RTNODE_DATA)."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage

from pipelines.base import InputRejected
from pipelines.copy_series import CopySeries
from pipelines.dicom.dose import read_dose
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.registration import read_registration
from pipelines.dicom.stack import stack_fault
from pipelines.dicom.structure_set import masks, read_structure_set
from pipelines.dicom.writing import file_bytes
from pipelines.stability import Verdict, verdict_of
from tests.pipelines.conftest import dciodvfy_errors, inputs

ALL = frozenset({"CT", "MR", "PT"})
INVALID_IDENTITY = "JPEGLossless_1s_1f_i_16_16_bad.dcm"
"""Has UIDs of a root that does not exist and an impossible date of birth; identity goes over as it is."""

Folder = Callable[[str], Path]
Unpacked = Callable[[str, str], Path]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def readable(paths: list[Path]) -> Iterator[tuple[Path, ImageSeries]]:
    for path in paths:
        try:
            yield path, read_image_series([path], ALL)
        except InputRejected as error:
            assert len(str(error).splitlines()) == 1, path


def test_odd_files_are_read_or_refused(real_data: Folder) -> None:
    paths = files(real_data("odd_dicom"))
    assert len(list(readable(paths))) >= 55
    for path in paths:
        for reader in (read_dose, read_structure_set, read_registration):
            try:
                reader(path)
            except InputRejected:
                continue


def test_one_image_is_the_same_in_every_lossless_transfer_syntax(real_data: Folder) -> None:
    images = {
        path.name: series.volume.array_zyx
        for path, series in readable(files(real_data("odd_dicom")))
        if path.name.startswith("CTImage.dcm") and "LossyImageCompression" not in series.header
    }
    assert len(images) >= 10
    assert all(np.array_equal(image, images["CTImage.dcm"]) for image in images.values())


def test_japanese_names_come_out_readable(real_data: Folder, tmp_path: Path) -> None:
    japanese = [(p, s) for p, s in readable(files(real_data("odd_dicom"))) if not str(s.header.PatientName).isascii()]
    for path, series in japanese:
        dataset = CopySeries(name="copy").run(inputs([path])).series[0][0]
        (tmp_path / "copy.dcm").write_bytes(file_bytes(dataset))
        assert dcmread(tmp_path / "copy.dcm").PatientName == series.header.PatientName


def test_odd_ct_images_give_valid_copies(real_data: Folder, tmp_path: Path) -> None:
    path = tmp_path / "copy.dcm"
    for source, series in readable(files(real_data("odd_dicom"))):
        if series.modality != "CT" or source.name == INVALID_IDENTITY:
            continue
        outcome = CopySeries(name="copy").run(inputs([source]))
        path.write_bytes(file_bytes(outcome.series[0][0]))
        assert dciodvfy_errors(path) == [], source.name


def test_radiotherapy_files_are_read_or_refused(real_data: Folder) -> None:
    found = []
    for path in files(real_data("rt_small")):
        try:
            found.append(read_structure_set(path))
        except InputRejected as error:
            assert len(str(error).splitlines()) == 1
    assert any(len(structures.rois) > 5 for structures in found)


def stems(real_data: Folder) -> list[Path]:
    return sorted(real_data("sts_dicom").glob("*/dicom/*/*"))


def test_a_real_structure_set_outlines_the_tumour_on_ct_mr_and_pet(real_data: Folder) -> None:
    patients = stems(real_data)
    assert len(patients) == 6
    for folder in patients:
        series = read_image_series(sorted((folder / "image").iterdir()), ALL)
        found = masks(read_structure_set(next((folder / "mask").iterdir())), series)
        volume_ml = [mask.sum() * np.prod(series.volume.spacing_zyx_mm) / 1000 for mask in found.values()]
        assert 10 < max(volume_ml) < 3000, folder


@pytest.mark.parametrize("patient", ["STS_002", "STS_003"])
def test_a_mask_has_the_voxels_that_another_program_found(real_data: Folder, patient: str) -> None:
    folder = real_data("sts_dicom") / "ibsi_validation" / "dicom" / patient / "CT"
    series = read_image_series(sorted((folder / "image").iterdir()))
    (mask,) = masks(read_structure_set(next((folder / "mask").iterdir())), series).values()
    with np.load(real_data("sts_ct_npz") / f"{patient}.npz") as arrays:
        assert mask.sum() == arrays["mask"].sum()


def copied(paths: list[Path], folder: Path) -> tuple[ImageSeries, ImageSeries]:
    source = read_image_series(paths)
    assert stack_fault(source.headers) is None
    outcome = CopySeries(name="copy").run(inputs(paths))
    assert verdict_of(outcome.findings) is Verdict.RELEASE
    written = [folder / f"{index}.dcm" for index in range(len(outcome.series[0]))]
    for path, dataset in zip(written, outcome.series[0], strict=True):
        path.write_bytes(file_bytes(dataset))
    assert [error for path in (written[0], written[-1]) for error in dciodvfy_errors(path)] == []
    return source, read_image_series(written)


@pytest.mark.parametrize(
    ("folder", "archive", "slices"),
    [
        ("real_ct_dicom", "crlm_1004_abdomen_CT.tar.xz", 41),
        ("real_ct_dicom", "tcga_thca_neck_CT.tar.xz", 159),
        ("obi_cbct_catphan", "obi_cbct_catphan.tar.xz", 64),
    ],
)
def test_a_real_series_is_copied(unpacked: Unpacked, tmp_path: Path, folder: str, archive: str, slices: int) -> None:
    paths = [path for path in files(unpacked(folder, archive)) if is_image(path)]
    assert len(paths) == slices
    source, copy = copied(paths, tmp_path)
    assert np.array_equal(source.volume.array_zyx, copy.volume.array_zyx)
    assert copy.volume.same_grid(source.volume)


def is_image(path: Path) -> bool:
    header = dcmread(path, force=True, specific_tags=["SOPClassUID"], stop_before_pixels=True)
    return str(header.get("SOPClassUID")) == CTImageStorage
