"""No patient in a log: SECRET^NAME goes through the whole node, well and broken, and no line knows of it."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import RLELossless

from node.log import exception_without_values
from pipelines.base import Inputs, Outcome, Progress, no_progress
from pipelines.copy_series import CopySeries
from tests.dicom_files import SECRET_ID, SECRET_NAME, ct_series, encoded, instance, structure_set, with_elements, write
from tests.peers import echo_status, send_encoded, storescu
from tests.system.node_process import NodeProcess
from tests.waiting import wait_until

# pydicom warns of what is broken here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SECRET = {"PatientID": SECRET_ID, "PatientName": SECRET_NAME, "PatientBirthDate": "19111111", "StudyID": "SECRET"}
COPY = {"class": "pipelines.copy_series:CopySeries", "when": {"role": "cbct"}}
QUOTING = {"class": "tests.node.test_logs:Quoting", "when": {"role": "cbct"}}


class Quoting(CopySeries):
    """A pipeline that fails with the patient's name on its lips."""

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        header = dcmread(inputs.trigger.paths[0])
        raise RuntimeError(f"no model for {header.PatientName} ({header.PatientID})")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    one = NodeProcess(tmp_path / "node", {}, {"copy": COPY, "quoting": QUOTING})
    one.start()
    yield one
    one.close()


def secret_series(slices: int = 3) -> list[Dataset]:
    return ct_series(slices, **SECRET)


def broken_files() -> list[bytes]:
    """Each carries the secret, and each is refused, kept aside or rejected in another way."""
    one, twice, mixed = secret_series(1)[0], secret_series(4), secret_series(3)
    twice[2].ImagePositionPatient = twice[1].ImagePositionPatient
    mixed[1].PatientID = "SECRETOTHER"
    return [
        encoded(one),
        encoded(with_elements(one, PatientName="SECRET^CONFLICT")),
        encoded(with_elements(one, SeriesInstanceUID="SECRET")),
        encoded(with_elements(one, SOPInstanceUID="SECRET/../NAME")),
        encoded(one, MediaStorageSOPInstanceUID="1.2.3.4"),
        encoded(one)[:-77],
        encoded(one, RLELossless)[:-77],
        encoded(instance("1.2.840.10008.5.1.4.1.1.2", "CT", **SECRET, KVP="77")).replace(b"77", b"SE"),
        encoded(structure_set(twice, PatientAge="SECR", PatientWeight="77")).replace(b"77", b"SE"),
        *map(encoded, twice),
        *map(encoded, mixed),
    ]


@pytest.mark.req("NODE-10")
def test_no_line_of_the_log_knows_the_patient(node: NodeProcess, tmp_path: Path) -> None:
    send_encoded(broken_files(), tmp_path, node.address)
    good = secret_series(5)
    storescu(write(good, tmp_path / "good"), node.address)
    assert echo_status(node.address, "SECRETPEER") is None
    wait_until(lambda: {"job finished", "job failed", "instance in conflict"} <= set(node.events()), 60)
    with node.ledger() as ledger:
        wait_until(lambda: ledger.series.receiving() == [], 60)
    node.stop()
    lines = next(node.folder.glob("log-*.jsonl")).read_text().splitlines()
    assert len(lines) > 10
    assert [line for line in lines if "SECRET" in line or "19111111" in line] == []


def test_every_line_of_the_log_is_json_with_an_event(node: NodeProcess) -> None:
    node.stop()
    lines = next(node.folder.glob("log-*.jsonl")).read_text().splitlines()
    assert [set(json.loads(line)) >= {"event", "level", "timestamp"} for line in lines] == [True] * len(lines)


def test_an_exception_is_logged_without_its_message() -> None:
    try:
        raise ValueError(f"can not read {SECRET_NAME}")
    except ValueError as error:
        event = exception_without_values(logging.getLogger(), "", {"event": "failed", "exc_info": error})
    assert event["error"] == "ValueError"
    assert "SECRET" not in str(event) and "test_logs.py" in str(event["at"])
