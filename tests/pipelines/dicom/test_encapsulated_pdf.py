"""The page of a prognosis as a DICOM object: whose it is, what it refers to, and that it is the same every time."""

from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from models.outcomes import SIMULATED
from pipelines.dicom.encapsulated_pdf import prognosis_documents, prognosis_page, prognosis_pdf
from pipelines.dicom.writing import file_bytes
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.dicom.test_report import BARE, EARLIER, walk
from tests.pipelines.made import changed, unchecked
from tests.pipelines.reports_made import ORIGIN, cbct, classifier, content, evidence


def page() -> Dataset:
    return prognosis_pdf(content(), cbct()[0], ORIGIN)


def written(dataset: Dataset, folder: Path) -> Path:
    path = folder / "page.dcm"
    path.write_bytes(file_bytes(dataset))
    return path


@pytest.mark.parametrize("kind", ["whole", "bare", "classifier", "too early"])
def test_a_page_is_a_valid_object_with_a_pdf_in_it(tmp_path: Path, kind: str) -> None:
    said, header = {
        "whole": (content(), cbct()[0]),
        "bare": (content(regions=()), changed(cbct()[0], **BARE)),
        "classifier": (content(classifier(), curve=()), unchecked(cbct()[0], PatientName="Wang^Xi=王^小東")),
        "too early": (content(prediction=None), cbct()[0]),
    }[kind]
    path = written(prognosis_pdf(said, header, ORIGIN), tmp_path)
    assert dciodvfy_errors(path) == []
    found = dcmread(path)
    assert found.EncapsulatedDocument[: found.EncapsulatedDocumentLength].startswith(b"%PDF-")
    assert found.PatientName == header.get("PatientName", "")
    assert found.MIMETypeOfEncapsulatedDocument == "application/pdf"


@pytest.mark.req("NODE-05")
def test_a_page_says_what_it_is_and_is_not() -> None:
    made = page()
    assert made.SeriesDescription == f"PDF {SIMULATED} NOT FOR TREATMENT"
    assert made.DocumentTitle == f"Prognosis from delta-radiomics, {SIMULATED}, RESEARCH, NOT FOR TREATMENT"
    assert (made.ContentQualification, made.Manufacturer, made.BurnedInAnnotation) == ("RESEARCH", "rtnode", "YES")
    assert (made.ContentDate, made.StudyInstanceUID) == ("20200109", cbct()[0].StudyInstanceUID)


def test_report_and_page_refer_to_each_other() -> None:
    report, made = prognosis_documents(content(), evidence(), ORIGIN, (EARLIER,))
    assert made.SourceInstanceSequence[0].ReferencedSOPInstanceUID == report.SOPInstanceUID
    named = [one for one in walk(report) if one.ValueType == "COMPOSITE"][-1].ReferencedSOPSequence[0]
    assert (named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID) == (made.SOPClassUID, made.SOPInstanceUID)
    assert report.StudyInstanceUID == made.StudyInstanceUID


def test_the_same_work_makes_the_same_bytes() -> None:
    assert file_bytes(page()) == file_bytes(page())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Müller^Jürgen", "Müller, Jürgen"),
        ("Wang^XiaoDong=王^小東", "Wang, XiaoDong"),
        ("王^小東", "王, 小東"),
        ("", ""),
    ],
)
def test_a_page_names_the_patient(name: str, shown: str) -> None:
    header = unchecked(cbct()[0], PatientName=name)
    shows = dict(prognosis_page(content(), header, ORIGIN).patient)
    assert (shows["Patient"], shows["Patient ID"]) == (shown, "RAMP-1")
    assert (shows["Birth date"], shows["Newest image"]) == ("1950-01-01", "2020-01-09")
