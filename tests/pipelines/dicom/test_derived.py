"""Derived CT series: complete, honest about themselves, the same bytes for the same work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code
from pydicom.uid import UID, CTImageStorage, JPEGLSNearLossless

from pipelines.base import Inputs, Labelling, PipelineError
from pipelines.copy_series import CopySeries
from pipelines.dicom.derived import Derivation, derived_ct_series, marked_description
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.writing import file_bytes
from tests.pipelines.conftest import dciodvfy_errors, inputs
from tests.pipelines.made import ct_series, enhanced_ct, ramp, unchecked, write

PIPELINE = CopySeries(name="copy_series")
DERIVATION = Derivation("Nothing was done", Code("COPY", "99RTNODE", "Copy"))


@dataclass
class Work:
    """A source and the inputs it was read from."""

    source: ImageSeries
    inputs: Inputs

    def derived(
        self, hu_zyx: NDArray[Any] | None = None, pipeline: CopySeries = PIPELINE, labelling: Labelling | None = None
    ) -> tuple[Dataset, ...]:
        job = inputs(list(self.inputs.trigger.paths), labelling)
        values = self.source.volume.array_zyx if hu_zyx is None else hu_zyx
        return derived_ct_series(self.source, values, pipeline, job, "Test", DERIVATION)


def work(folder: Path, datasets: list[Dataset] | None = None, **write_options: UID) -> Work:
    paths = write(ct_series() if datasets is None else datasets, folder, **write_options)
    return Work(read_image_series(paths), inputs(paths))


def reread(datasets: tuple[Dataset, ...], folder: Path) -> tuple[ImageSeries, list[Path]]:
    folder.mkdir()
    paths = [folder / f"{dataset.SOPInstanceUID}.dcm" for dataset in datasets]
    for path, dataset in zip(paths, datasets, strict=True):
        path.write_bytes(file_bytes(dataset))
    return read_image_series(paths), paths


def test_a_derived_series_is_complete_and_keeps_values_and_grid(tmp_path: Path) -> None:
    made = work(tmp_path)
    series, paths = reread(made.derived(), tmp_path / "out")
    assert np.array_equal(series.volume.array_zyx, ramp())
    assert series.volume.same_grid(made.source.volume)
    assert [error for path in paths for error in dciodvfy_errors(path)] == []


@pytest.mark.parametrize("source", ["enhanced", "lossy", "bare", "oblique"])
def test_every_kind_of_source_gives_a_valid_series(tmp_path: Path, source: str) -> None:
    bare = dict.fromkeys(("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "PatientPosition", "KVP"))
    cosines = [0.8, 0.6, 0.0, -0.6, 0.8, 0.0]
    made = {
        "enhanced": lambda: work(tmp_path, [enhanced_ct(ramp())]),
        "lossy": lambda: work(tmp_path, syntax=JPEGLSNearLossless),
        "bare": lambda: work(tmp_path, ct_series(ContentDate=None, ContentTime=None, Manufacturer=None, **bare)),
        "oblique": lambda: work(tmp_path, ct_series(ImageOrientationPatient=cosines, BodyPartExamined="PELVIS")),
    }[source]()
    series, paths = reread(made.derived(), tmp_path / "out")
    assert np.array_equal(series.volume.array_zyx, made.source.volume.array_zyx)
    assert [error for path in paths[:2] for error in dciodvfy_errors(path)] == []
    assert ("LossyImageCompression" in series.header) is (source == "lossy")


@pytest.mark.req("NODE-05")
def test_an_instance_says_what_it_is_and_is_not(tmp_path: Path) -> None:
    made = work(tmp_path)
    image = made.derived()[0]
    assert image.SOPClassUID == CTImageStorage
    assert image.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
    assert image.SeriesDescription == "Test NOT FOR TREATMENT"
    assert image.ContentQualification == "RESEARCH"
    assert image.Manufacturer == "rtnode"
    (reference,) = image.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == made.source.header.SOPInstanceUID
    assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    acquisition, processing = image.ContributingEquipmentSequence
    assert acquisition.Manufacturer == "Maker"
    assert PIPELINE.settings_sha256() in processing.ContributionDescription


def test_a_frame_of_an_enhanced_source_is_named(tmp_path: Path) -> None:
    derived = work(tmp_path, [enhanced_ct(ramp())]).derived()
    assert [image.SourceImageSequence[0].ReferencedFrameNumber for image in derived] == [5, 4, 3, 2, 1]
    assert len({image.SOPInstanceUID for image in derived}) == 5


@pytest.mark.req("NODE-05")
def test_patient_study_and_frame_of_reference_are_those_of_the_source(tmp_path: Path) -> None:
    made = work(tmp_path)
    for image, header in zip(made.derived(), made.source.headers, strict=True):
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient"):
            assert image[keyword].value == header[keyword].value
        assert image.SeriesInstanceUID != header.SeriesInstanceUID
        assert image.SOPInstanceUID != header.SOPInstanceUID


@pytest.mark.req("NODE-05")
def test_the_same_work_makes_the_same_bytes(tmp_path: Path) -> None:
    made = work(tmp_path)
    first, second = (b"".join(map(file_bytes, made.derived())) for _ in range(2))
    assert first == second


@pytest.mark.req("NODE-05")
def test_other_work_makes_other_uids(tmp_path: Path) -> None:
    made = work(tmp_path)
    (tmp_path / "other").mkdir()
    variants = [
        made.derived(),
        made.derived(pipeline=CopySeries(name="other_name")),
        made.derived(pipeline=CopySeries(name="copy_series", series_description="Other")),
        made.derived(labelling=Labelling(not_for_treatment=False)),
        work(tmp_path / "other", ct_series()[:4]).derived(),
    ]
    uids = [UID(image.SOPInstanceUID) for series in variants for image in series]
    assert len(set(uids)) == len(uids) == 24
    assert len({series[0].SeriesInstanceUID for series in variants}) == len(variants)
    assert all(uid.is_valid and len(uid) <= 64 for uid in uids)


def test_labelling_is_a_decision_of_the_site(tmp_path: Path) -> None:
    image = work(tmp_path).derived(labelling=Labelling("PRODUCT", not_for_treatment=False))[0]
    assert (image.SeriesDescription, image.ContentQualification) == ("Test", "PRODUCT")


def test_a_long_description_is_cut_before_its_mark() -> None:
    marked = marked_description("x" * 70, Labelling())
    assert len(marked) == 64
    assert marked.endswith(" NOT FOR TREATMENT")


@pytest.mark.parametrize("name", ["山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう", "Müller^Jörg", "Διονυσιος"])
def test_a_name_in_any_script_comes_out_readable(tmp_path: Path, name: str) -> None:
    charset = ["", "ISO 2022 IR 87"] if "山" in name else "ISO_IR 192"
    made = work(tmp_path, ct_series(SpecificCharacterSet=charset, PatientName=name))
    _, paths = reread(made.derived(), tmp_path / "out")
    assert dcmread(paths[0]).PatientName == name
    assert dciodvfy_errors(paths[0]) == []


def test_plain_names_state_no_character_set(tmp_path: Path) -> None:
    _, paths = reread(work(tmp_path, ct_series(SpecificCharacterSet="ISO_IR 100")).derived(), tmp_path / "out")
    assert "SpecificCharacterSet" not in dcmread(paths[0])


@pytest.mark.parametrize(("low", "high"), [(-1000.4, 3000.4), (-40000.0, 100.0), (-100.0, 60000.0)])
def test_no_value_wraps_around_or_moves_by_more_than_half_an_hu(tmp_path: Path, low: float, high: float) -> None:
    made = work(tmp_path)
    hu = np.linspace(low, high, ramp().size, dtype=np.float32).reshape(ramp().shape)
    series, _ = reread(made.derived(hu), tmp_path / "out")
    assert np.abs(series.volume.array_zyx - hu).max() <= 0.51


@pytest.mark.parametrize(("value", "sentence"), [(np.nan, "not finite"), (np.inf, "not finite"), (7e4, "more than 16")])
def test_values_that_can_not_be_written_fail(tmp_path: Path, value: float, sentence: str) -> None:
    hu = ramp().astype(np.float32)
    hu[0, 0, 0] = value
    with pytest.raises(PipelineError, match=sentence):
        work(tmp_path).derived(hu)


def test_padding_keeps_the_value_of_the_source(tmp_path: Path) -> None:
    stored = ramp()
    stored[:, :, 0] = -3024
    made = work(tmp_path, ct_series(stored, PixelPaddingValue=-3024))
    derived = made.derived(np.zeros(stored.shape, dtype=np.float32))
    series, paths = reread(derived, tmp_path / "out")
    assert (series.volume.array_zyx[:, :, 0] == -3024).all()
    assert not series.volume.array_zyx[:, :, 1:].any()
    assert dcmread(paths[0]).PixelPaddingValue == -3024


@pytest.mark.parametrize(("body_part", "has_laterality"), [("NECK", False), ("BREAST", True), (None, True)])
def test_laterality_goes_with_the_body_part(tmp_path: Path, body_part: str | None, has_laterality: bool) -> None:
    made = work(tmp_path, ct_series(BodyPartExamined=body_part, Laterality=""))
    _, paths = reread(made.derived(), tmp_path / "out")
    assert ("Laterality" in dcmread(paths[0])) is has_laterality
    assert dciodvfy_errors(paths[0]) == []


def test_invalid_values_of_the_source_are_left_behind(tmp_path: Path) -> None:
    odd = [unchecked(ds, BodyPartExamined="neck (low)", PatientAge="57", StudyID="x" * 30) for ds in ct_series()]
    image = work(tmp_path, odd).derived()[0]
    assert "BodyPartExamined" not in image
    assert "PatientAge" not in image
    assert image.StudyID is None
