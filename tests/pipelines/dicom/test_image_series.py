"""Reading of CT, MR and PET series: known values out, everything odd refused with its sentence."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    RTStructureSetStorage,
)

from pipelines.base import InputRejected
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.reading import quiet
from tests.pipelines.made import (
    changed,
    ct_series,
    ct_slice,
    enhanced_ct,
    mr_series,
    pet_series,
    ramp,
    unchecked,
    write,
)

ALL = frozenset({"CT", "MR", "PT"})


def read(datasets: list[Dataset], folder: Path, syntax: UID = ExplicitVRLittleEndian) -> ImageSeries:
    return read_image_series(write(datasets, folder, syntax), ALL)


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
)
def test_slices_come_sorted_and_bit_exact_in_every_transfer_syntax(tmp_path: Path, syntax: UID) -> None:
    # The JPEG 2000 encoder takes no image smaller than 64 pixels.
    big = ramp(rows=64, columns=80)
    series = read(ct_series(big), tmp_path, syntax)
    assert np.array_equal(series.volume.array_zyx, big)
    assert [header.InstanceNumber for header in series.headers] == [1, 2, 3, 4, 5]
    assert "LossyImageCompression" not in series.header


def test_slope_and_intercept_are_those_of_each_slice(tmp_path: Path) -> None:
    datasets = ct_series()
    for index, dataset in enumerate(datasets):
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + index, -100 * index
    expected = np.stack([ramp()[i] * (0.5 + i) - 100 * i for i in range(5)])
    assert read(datasets, tmp_path).volume.array_zyx == pytest.approx(expected)


def test_mr_has_no_slope_and_pet_one_for_each_slice(tmp_path: Path) -> None:
    assert np.array_equal(read(mr_series(ramp()), tmp_path).volume.array_zyx, ramp())
    scaled = read(pet_series(ramp()), tmp_path).volume.array_zyx
    assert np.array_equal(scaled[3], ramp()[3] * 2.0)


def test_an_enhanced_image_is_the_same_volume_as_its_single_frames(tmp_path: Path) -> None:
    (tmp_path / "enhanced").mkdir()
    single, enhanced = read(ct_series(), tmp_path), read([enhanced_ct(ramp())], tmp_path / "enhanced")
    assert np.array_equal(single.volume.array_zyx, enhanced.volume.array_zyx)
    assert single.volume.same_grid(enhanced.volume)
    assert [header.ReferencedFrameNumber for header in enhanced.headers] == [5, 4, 3, 2, 1]


def test_padding_is_marked_and_keeps_its_value(tmp_path: Path) -> None:
    stored = ramp()
    stored[:, 0, :] = -2000
    # As many scanners write it: 63536 is -2000 taken for unsigned.
    datasets = ct_series(stored, RescaleIntercept=-1024)
    for dataset in datasets:
        dataset.add_new("PixelPaddingValue", "US", 63536)
    series = read(datasets, tmp_path)
    assert series.padding_zyx[:, 0].all()
    assert not series.padding_zyx[:, 1:].any()
    assert (series.volume.array_zyx[:, 0] == -3024).all()
    assert (series.filled_zyx(-1000)[:, 0] == -1000).all()


def test_padding_that_would_be_tissue_is_not_believed(tmp_path: Path) -> None:
    assert not read(ct_series(PixelPaddingValue=0), tmp_path).padding_zyx.any()


def test_a_range_of_padding_is_marked_whole(tmp_path: Path) -> None:
    datasets = ct_series(PixelPaddingValue=-1000, PixelPaddingRangeLimit=-990)
    assert np.array_equal(read(datasets, tmp_path).padding_zyx, ramp() <= -990)


def test_bits_above_bits_stored_are_not_image(tmp_path: Path) -> None:
    stored = (np.abs(ramp()) | 0x4000).astype(np.int16)
    datasets = ct_series(stored, BitsStored=12, HighBit=11, PixelRepresentation=0)
    assert np.array_equal(read(datasets, tmp_path).volume.array_zyx, np.abs(ramp()))


def test_signed_twelve_bits_keep_their_sign(tmp_path: Path) -> None:
    datasets = ct_series(ramp() & 0x0FFF, BitsStored=12, HighBit=11)
    assert np.array_equal(read(datasets, tmp_path).volume.array_zyx, ramp())


def test_a_lossy_transfer_syntax_is_remembered(tmp_path: Path) -> None:
    header = read(ct_series(), tmp_path, JPEGLSNearLossless).header
    assert (header.LossyImageCompression, header.LossyImageCompressionMethod) == ("01", "ISO_14495_1")
    assert header.LossyImageCompressionRatio >= 1


def test_private_elements_are_not_read(tmp_path: Path) -> None:
    datasets = ct_series()
    for dataset in datasets:
        dataset.private_block(0x0011, "SECRET", create=True).add_new(1, "LO", "SECRET^NAME")
        dataset.PatientComments = "SECRET^NAME"
    assert "SECRET" not in str(read(datasets, tmp_path).headers)


def test_a_localizer_is_left_out_of_the_volume(tmp_path: Path) -> None:
    scout = ct_slice(ramp(1, 8, 8)[0], 9, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], FrameOfReferenceUID="1.2")
    assert read([*ct_series(), scout], tmp_path).volume.array_zyx.shape == (5, 16, 20)
    with pytest.raises(InputRejected, match="only localizer"):
        read([scout], tmp_path)


def test_values_that_break_the_standard_are_not_quoted_in_a_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for dataset in (odd := ct_series()):
        unchecked(dataset, PatientBirthDate="SECRET^NAME", PatientAge="SECRET", FrameOfReferenceUID="SECRET")
    with quiet():
        paths = write(odd, tmp_path)
    read_image_series(paths)
    assert caplog.text == ""


def test_a_deflated_file_that_expands_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write(ct_series(), tmp_path, DeflatedExplicitVRLittleEndian)
    read_image_series(paths)
    monkeypatch.setattr("pipelines.dicom.reading.MAX_EXPANDED_BYTES", 1000)
    with pytest.raises(InputRejected, match="A deflated file is too large to be expanded"):
        read_image_series(paths)


def every(**changes: object) -> Callable[[list[Dataset]], list[Dataset]]:
    return lambda series: [changed(dataset, **changes) for dataset in series]


def one(**changes: object) -> Callable[[list[Dataset]], list[Dataset]]:
    return lambda series: [changed(series[0], **changes), *series[1:]]


def cut(series: list[Dataset], end: int) -> list[Dataset]:
    series[0].PixelData = series[0].PixelData[:end]
    return series


ODD = [
    (one(PatientID="OTHER"), "The series has images of 2 patients"),
    (one(PatientName="Other^Name"), "The series has images of 2 patients"),
    (one(PatientBirthDate="19600101"), "The series has images of 2 patients"),
    (one(StudyInstanceUID="1.2"), "The series has images of 2 studies"),
    (one(SeriesInstanceUID="1.2"), "The series has images of 2 series"),
    (one(FrameOfReferenceUID="1.2"), "The series has images of 2 Frames of Reference"),
    (every(FrameOfReferenceUID=None), "An image does not say to which Frame of Reference it belongs"),
    (every(SOPInstanceUID="1.2"), "Two files have the same SOP Instance UID"),
    (one(SOPClassUID=RTStructureSetStorage), "A file is not a CT, MR or PET image"),
    (one(Modality="MR"), "An image is not of the modality CT or MR or PT"),
    (one(PixelData=None), "An image has no pixel data"),
    (one(PixelData=b""), "An image has no pixel data"),
    (lambda s: cut(s, -2), "The pixel data have 638 bytes where the header announces 640"),
    (one(PixelData=bytes(642)), "The pixel data have 642 bytes where the header announces 640"),
    (every(PhotometricInterpretation="RGB"), "Photometric Interpretation is RGB, not MONOCHROME"),
    (every(PhotometricInterpretation="SECRET"), "Photometric Interpretation is unknown, not MONOCHROME"),
    (every(SamplesPerPixel=3), "An image has more than one sample per pixel"),
    (every(BitsAllocated=12), "An image has no usable Bits Allocated and Bits Stored"),
    (every(BitsStored=17), "An image has no usable Bits Allocated and Bits Stored"),
    (every(HighBit=11), "High Bit is not Bits Stored less one"),
    (every(PixelRepresentation=2), "An image has no usable Pixel Representation"),
    (every(Rows=60000), "An image announces 1 frames of 60000 x 20 pixels, which is too large"),
    (every(RescaleSlope=None), "An image has no usable Rescale Slope and Intercept"),
    (every(RescaleSlope=0), "An image has no usable Rescale Slope and Intercept"),
    (every(RescaleSlope="1e300"), "Rescale Slope and Intercept make values that are not finite"),
    (every(RescaleSlope=1000), "Rescale Slope and Intercept make values that can not be HU"),
    (every(RescaleType="ED"), "Rescale Type says that the values are not HU"),
    (lambda s: [*s[:2], *s[3:]], "1 slice is missing: neighbours are 3 to 6 mm apart"),
]


@pytest.mark.parametrize(("make", "sentence"), ODD, ids=[sentence[:50] for _, sentence in ODD])
def test_an_odd_series_is_refused_with_its_sentence(
    tmp_path: Path, make: Callable[[list[Dataset]], list[Dataset]], sentence: str
) -> None:
    paths = write(make(ct_series()), tmp_path)
    with pytest.raises(InputRejected) as caught:
        read_image_series(paths, ALL)
    assert str(caught.value) == sentence


def test_more_frames_of_geometry_than_of_pixels_are_refused(tmp_path: Path) -> None:
    image = enhanced_ct(ramp())
    image.NumberOfFrames = 4
    image.PixelData = image.PixelData[: 4 * 640]
    with pytest.raises(InputRejected, match="An image has 4 frames of pixels and 5 of geometry"):
        read([image], tmp_path)


def test_another_modality_than_wanted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="An image is not of the modality CT"):
        read_image_series(write(mr_series(ramp()), tmp_path))


def test_no_file_and_no_dicom_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.dcm"
    text.write_text("not a DICOM file")
    for paths, sentence in (
        ([], "The series has no image"),
        ([text], "A file is not a whole DICOM file"),
        ([tmp_path / "absent.dcm"], "A file can not be read: No such file or directory"),
    ):
        with pytest.raises(InputRejected) as caught:
            read_image_series(paths)
        assert str(caught.value) == sentence


def test_a_malformed_optional_element_costs_nothing_a_malformed_identity_all(tmp_path: Path) -> None:
    path = write(ct_series(ramp(slices=1), KVP="120.0000", StudyInstanceUID="1.2.3.4"), tmp_path)[0]
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"120.0000", b"12x.0000"))
    assert "KVP" not in read_image_series([path]).header
    assert "KVP" in dcmread(path)
    path.write_bytes(whole.replace(b"CS\x04\x00HFS ", b"CS\xff\xffHFS "))
    with pytest.raises(InputRejected):
        read_image_series([path])
