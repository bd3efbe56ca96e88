"""Parametric maps: numbers with a unit on the grid of a CT series, the same bytes for the same work."""

import datetime
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from pipelines.base import Inputs, Labelling
from pipelines.copy_series import CopySeries
from pipelines.dicom.derived import derived_ct_series
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.parametric_map import HOUNSFIELD_UNIT, Quantity, parametric_map
from pipelines.dicom.writing import file_bytes
from pipelines.provenance import provenance
from tests.dicom_files import SECRET_ID
from tests.pipelines.conftest import dciodvfy_errors, inputs
from tests.pipelines.dicom.test_derived import DERIVATION
from tests.pipelines.made import changed, ct_series, oriented_series, ramp, write

PIPELINE = CopySeries(name="copy_series")
SPREAD = Quantity("SPREAD_HU", "Spread of HU", codes.SCT.StandardDeviation, HOUNSFIELD_UNIT)


@dataclass
class Work:
    """A CT series as it was written, and the inputs it was made from."""

    images: tuple[Dataset, ...]
    inputs: Inputs

    def mapped(self, values: NDArray[np.float32] | None = None, labelling: Labelling | None = None) -> Dataset:
        job = inputs(list(self.inputs.trigger.paths), labelling)
        return parametric_map(self.images, spread() if values is None else values, SPREAD, provenance(PIPELINE, job))


def work(folder: Path, datasets: list[Dataset] | None = None) -> Work:
    folder.mkdir(exist_ok=True)
    paths = write(ct_series() if datasets is None else datasets, folder)
    source = read_image_series(paths)
    made = derived_ct_series(source, source.volume.array_zyx, PIPELINE, inputs(paths), "Test", DERIVATION)
    return Work(made, inputs(paths))


def spread() -> NDArray[np.float32]:
    """A value of its own for each voxel, none of them a whole number."""
    return np.asarray(np.abs(ramp()) / np.float32(7.0) + np.float32(0.3), np.float32)


def reread(dataset: Dataset, folder: Path) -> tuple[Dataset, Path]:
    path = folder / "map.dcm"
    path.write_bytes(file_bytes(dataset))
    return dcmread(path), path


def planes(found: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Positions and values of the frames, from the feet to the head; a viewer may find them in any order."""
    positions = np.array(
        [frame.PlanePositionSequence[0].ImagePositionPatient for frame in found.PerFrameFunctionalGroupsSequence],
        dtype=np.float64,
    )
    values = np.frombuffer(found.FloatPixelData, "<f4").reshape(-1, found.Rows, found.Columns)
    order = np.argsort(positions[:, 2])
    return positions[order], values[order]


def test_values_come_back_as_they_were_with_their_unit(tmp_path: Path) -> None:
    found, _ = reread(work(tmp_path).mapped(), tmp_path)
    np.testing.assert_array_equal(planes(found)[1], spread())
    mapping = found.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1.0, 0.0)
    assert mapping.DoubleFloatRealWorldValueFirstValueMapped == pytest.approx(float(spread().min()))
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == pytest.approx(float(spread().max()))
    unit = mapping.MeasurementUnitsCodeSequence[0]
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("[hnsf'U]", "UCUM")
    assert mapping.LUTLabel == "SPREAD_HU"


@pytest.mark.parametrize("kind", ["axial", "oblique", "downwards"])
def test_each_plane_lies_where_its_image_lies(tmp_path: Path, kind: str) -> None:
    orientation = {
        "axial": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "oblique": (0.8, 0.6, 0.0, -0.6, 0.8, 0.0),
        "downwards": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    }[kind]
    made = work(tmp_path, oriented_series(ramp(), orientation, (1.0, 2.0, 3.0)))
    found, _ = reread(made.mapped(), tmp_path)
    upwards = sorted(range(len(made.images)), key=lambda index: made.images[index].ImagePositionPatient[2])
    positions, values = planes(found)
    for position, plane, index in zip(positions, values, upwards, strict=True):
        assert position == pytest.approx(np.array(made.images[index].ImagePositionPatient, float), abs=1e-4)
        np.testing.assert_array_equal(plane, spread()[index])
    shared, first = found.SharedFunctionalGroupsSequence[0], made.images[0]
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == list(first.PixelSpacing)
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    assert cosines == pytest.approx(np.array(orientation), abs=1e-6)
    assert (found.NumberOfFrames, found.Rows, found.Columns) == spread().shape


def test_patient_study_and_frame_of_reference_are_those_of_the_images(tmp_path: Path) -> None:
    made = work(tmp_path)
    found, _ = reread(made.mapped(), tmp_path)
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID"):
        assert found[keyword].value == made.images[0][keyword].value, keyword
    assert found.FrameOfReferenceUID == made.images[0].FrameOfReferenceUID
    assert found.SeriesInstanceUID != made.images[0].SeriesInstanceUID
    assert found.SeriesNumber == made.images[0].SeriesNumber + 1


@pytest.mark.req("NODE-05")
def test_a_map_says_what_it_is_and_is_not(tmp_path: Path) -> None:
    made = work(tmp_path)
    found = made.mapped()
    assert found.SeriesDescription == "Spread of HU NOT FOR TREATMENT"
    assert (found.Manufacturer, found.ManufacturerModelName) == ("rtnode", "copy_series")
    assert found.ContentQualification == "RESEARCH"
    assert str(found.ContributingEquipmentSequence) == str(made.images[0].ContributingEquipmentSequence)
    approved = made.mapped(labelling=Labelling("PRODUCT", False))
    assert (approved.SeriesDescription, approved.ContentQualification) == ("Spread of HU", "PRODUCT")


def test_the_same_arguments_make_the_same_bytes_and_other_work_another_map(tmp_path: Path) -> None:
    made = work(tmp_path / "one")
    first, again = (file_bytes(made.mapped()) for _ in range(2))
    assert first == again
    other = work(tmp_path / "other", [changed(one, SOPInstanceUID=f"{one.SOPInstanceUID}.1") for one in ct_series()])
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert other.mapped()[keyword].value != made.mapped()[keyword].value, keyword
    assert _organization(other.mapped()) != _organization(made.mapped())


def _organization(found: Dataset) -> str:
    (uid,) = {str(element.value) for element in found.iterall() if element.keyword == "DimensionOrganizationUID"}
    return uid


def test_no_clock_is_read(tmp_path: Path) -> None:
    today = datetime.date.today()
    days = {f"{today + datetime.timedelta(days=number):%Y%m%d}" for number in (0, 1)}
    dated = [one for one in work(tmp_path).mapped().iterall() if one.VR in ("DA", "DT", "TM") and one.value]
    assert dated and not [one for one in dated if str(one.value)[:8] in days]
    assert {str(one.value) for one in dated if one.keyword != "PatientBirthDate"} == {"20200102", "101112"}


def test_a_spread_that_is_the_same_everywhere_is_a_map_too(tmp_path: Path) -> None:
    found, path = reread(work(tmp_path).mapped(np.zeros_like(spread())), tmp_path)
    assert not np.frombuffer(found.FloatPixelData, "<f4").any()
    assert dciodvfy_errors(path) == []


@pytest.mark.parametrize("source", ["whole", "bare", "oblique"])
def test_a_map_is_a_valid_parametric_map(tmp_path: Path, source: str) -> None:
    bare = dict.fromkeys(("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "PatientPosition", "KVP"))
    series = {
        "whole": lambda: ct_series(BodyPartExamined="PELVIS"),
        "bare": lambda: ct_series(ContentDate=None, ContentTime=None, Manufacturer=None, SeriesNumber=None, **bare),
        "oblique": lambda: oriented_series(ramp(), (0.8, 0.6, 0.0, -0.6, 0.8, 0.0), (0.0, 0.0, 0.0)),
    }[source]()
    _, path = reread(work(tmp_path, series).mapped(), tmp_path)
    assert dciodvfy_errors(path) == []


@pytest.mark.req("NODE-10")
def test_no_warning_and_no_log_line_names_the_patient(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The library quotes a name without a caret in a warning."""
    made = work(tmp_path, ct_series(PatientName="SECRETNAME", PatientID=SECRET_ID))
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = made.mapped()
    heard = " ".join([caplog.text, *(str(one.message) for one in said)])
    assert found.PatientName == "SECRETNAME" and "SECRET" not in heard


def test_a_plane_for_each_image_is_asked_for(tmp_path: Path) -> None:
    made = work(tmp_path)
    with pytest.raises(ValueError, match="4 planes for 5 images"):
        made.mapped(spread()[:4])
