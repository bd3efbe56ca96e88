"""A course of treatment, the whole way: storescu sends it in disorder, Orthanc gets one current report per fraction."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, EncapsulatedPDFStorage

from models.outcomes import SIMULATED
from node.ledger.schema import JobState
from pipelines.course_phantom import write_courses
from tests.orthanc import Orthanc, orthanc
from tests.peers import storescu
from tests.pipelines.conftest import dciodvfy_errors
from tests.system.node_process import REPOSITORY, NodeProcess, node_process
from tests.waiting import wait_until

ORDER = (
    *("cbct_3", "registration_3", "structure_set", "record_1", "cbct_5", "record_3", "planning_ct", "cbct_1"),
    *("registration_1", "record_2", "cbct_4", "registration_2", "cbct_2", "record_4", "registration_4"),
    *("registration_5", "record_5"),
)
DAYS = range(1, 6)


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a made-up patient, a series in each of its folders."""
    folder = tmp_path_factory.mktemp("course")
    write_courses(folder, 1, seed=7)
    (patient,) = [path for path in folder.iterdir() if path.is_dir()]
    return patient


@pytest.fixture(scope="module")
def archive() -> Iterator[Orthanc]:
    with orthanc({}) as one:
        yield one


@pytest.fixture(scope="module")
def node(course: Path, archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """The pipeline as it is shipped, switched on, after all of the course has come and been reported on."""
    shipped = yaml.safe_load((REPOSITORY / "config" / "pipelines" / "prognosis_delta_radiomics.yaml").read_text())
    pipelines = {"prognosis_delta_radiomics": {**shipped, "enabled": True, "send_to": ["PACS"]}}
    roles = yaml.safe_load((REPOSITORY / "config" / "roles.yaml").read_text())
    peers = {"PACS": archive.peer(may={"echo", "store"})}
    with node_process(tmp_path_factory.mktemp("node"), peers, pipelines, roles=roles) as one:
        for name in sorted((path.name for path in course.iterdir()), key=ORDER.index):
            done = storescu(sorted((course / name).glob("*.dcm")), one.address)
            assert done.returncode == 0, done.stdout
        wait_until(lambda: _reported(one) == len(DAYS), 300, "every fraction has its report")
        one.wait_until_idle(300)
        yield one


def _reported(node: NodeProcess) -> int:
    return sum(job.state == JobState.FINISHED for job in node.jobs())


def first_image(course: Path, day: int) -> Dataset:
    return dcmread(min((course / f"cbct_{day}").glob("*.dcm")), stop_before_pixels=True)


def current_reports(archive: Orthanc, course: Path) -> dict[int, Dataset]:
    """Of every fraction the report that no other report of that fraction replaces, as the archive alone tells it."""
    reports = [one for one in archive.datasets() if one.SOPClassUID == Comprehensive3DSRStorage]
    found = {}
    for day in DAYS:
        of_day = [one for one in reports if one.ContentDate == first_image(course, day).AcquisitionDate]
        replaced = {uid for one in of_day for uid in predecessors(one)}
        (found[day],) = [one for one in of_day if one.SOPInstanceUID not in replaced]
    return found


def predecessors(report: Dataset) -> set[str]:
    return {
        instance.ReferencedSOPInstanceUID
        for study in report.get("PredecessorDocumentsSequence", ())
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def used_series(report: Dataset) -> set[str]:
    return {
        series.SeriesInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
    }


def test_every_fraction_has_one_current_report_that_uses_the_images_up_to_it(
    node: NodeProcess, archive: Orthanc, course: Path
) -> None:
    images = {day: first_image(course, day).SeriesInstanceUID for day in DAYS}
    for day, report in current_reports(archive, course).items():
        assert used_series(report) & set(images.values()) == {images[one] for one in range(1, day + 1)}


def test_each_report_continues_that_of_the_fraction_before(node: NodeProcess, archive: Orthanc, course: Path) -> None:
    reports = current_reports(archive, course)
    assert all(reports[day - 1].SOPInstanceUID in predecessors(reports[day]) for day in range(2, 6))


def test_reports_and_pages_are_valid_and_say_that_the_cohort_is_simulated(
    node: NodeProcess, archive: Orthanc, course: Path, tmp_path: Path
) -> None:
    made = archive.datasets()
    assert {one.SOPClassUID for one in made} == {Comprehensive3DSRStorage, EncapsulatedPDFStorage}
    newest = current_reports(archive, course)[5]
    page = next(one for one in made if one.StudyInstanceUID == newest.StudyInstanceUID and one.Modality == "DOC")
    for name, one in (("report", newest), ("page", page)):
        one.save_as(tmp_path / f"{name}.dcm")
        assert dciodvfy_errors(tmp_path / f"{name}.dcm") == []
    assert SIMULATED in newest.SeriesDescription


def test_only_from_the_middle_of_the_course_on_a_risk_is_told(
    node: NodeProcess, archive: Orthanc, course: Path
) -> None:
    said = {day: report.to_json() for day, report in current_reports(archive, course).items()}
    assert "No risk can be told yet" in said[1] and "Risk group: " not in said[1]
    assert "Risk group: " in said[5]
