import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from node.ledger import Ledger
from node.ledger.jobs import LinkedSeries
from node.ledger.schema import SeriesState
from node.ledger.series import Arrival, Settlement
from node.storage import Identity
from tests.command_line import answer_of

EX_CONFIG = 78


def rtnode(*arguments: str, config: Path) -> subprocess.CompletedProcess[str]:
    return answer_of(*arguments, "--config", str(config))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    (folder / "pipelines").mkdir(parents=True)
    (folder / "node.yaml").write_text(f"{{state_dir: {tmp_path}, min_free_gib: 0}}")
    (folder / "roles.yaml").write_text("- {role: mvct, all: {Modality: CT}}")
    return folder


@pytest.fixture
def ledger(tmp_path: Path, config: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    yield ledger
    ledger.close()


def fail_a_job(ledger: Ledger) -> int:
    identity = Identity("ID", "1.2.1", "1.2.2", "1.2.3")
    ledger.series.receive(Arrival(identity, "CT", "1.2", "1.2", "0" * 64, 1, "CONSOLE"), "a.dcm", lambda: None)
    (series,) = ledger.series.receiving()
    ledger.series.settle(series, 1, Settlement(SeriesState.SETTLED, "mvct", None, frozenset()))
    ledger.jobs.queue("enhance_mvct", "key", [LinkedSeries("mvct", ledger.series.get(series.id))])
    (job,) = ledger.jobs.claim(1)
    ledger.jobs.fail(job, "its worker process died")
    return job.id


def test_commands_before_the_first_start_say_that_there_is_no_ledger(config: Path) -> None:
    answer = rtnode("status", config=config)
    assert answer.returncode == 1
    assert "the node was never started with this configuration" in answer.stderr


def test_commands_before_the_first_start_of_a_newer_version_say_what_to_do(ledger: Ledger, config: Path) -> None:
    job_id = fail_a_job(ledger)
    with create_engine(f"sqlite:///{config.parent / 'ledger.sqlite3'}").begin() as connection:
        connection.execute(text("ALTER TABLE series DROP COLUMN body_parts"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    answer = rtnode("show", str(job_id), config=config)
    complaint = "the ledger has tables of another version of the node; a start of this one brings older ones up to date"
    assert (answer.returncode, answer.stderr) == (1, f"rtnode: {complaint}\n")


def test_status_counts_for_a_program(ledger: Ledger, config: Path) -> None:
    fail_a_job(ledger)
    answer = rtnode("status", "--json", config=config)
    assert json.loads(answer.stdout)["jobs"] == {"failed": 1}


def test_jobs_in_a_state_are_listed_with_their_reason(ledger: Ledger, config: Path) -> None:
    job_id = fail_a_job(ledger)
    (job,) = json.loads(rtnode("jobs", "--state", "failed", "--json", config=config).stdout)
    assert (job["id"], job["reason"]) == (job_id, "its worker process died")
    assert json.loads(rtnode("jobs", "--state", "running", "--json", config=config).stdout) == []


def test_show_tells_inputs_and_events_of_a_job(ledger: Ledger, config: Path) -> None:
    job_id = fail_a_job(ledger)
    shown = json.loads(rtnode("show", str(job_id), "--json", config=config).stdout)
    assert shown["inputs"] == [{"role": "mvct", "series_instance_uid": "1.2.2", "instances": 1}]
    assert [event["what"] for event in shown["events"]] == ["job queued", "job running", "job failed"]


def test_show_of_an_unknown_job_fails_in_one_line(ledger: Ledger, config: Path) -> None:
    answer = rtnode("show", "7", config=config)
    assert (answer.returncode, answer.stderr) == (1, "rtnode: there is no job 7\n")


def test_retry_queues_a_failed_job_once_and_names_who_asked(ledger: Ledger, config: Path) -> None:
    job_id = fail_a_job(ledger)
    assert rtnode("retry", str(job_id), "--by", "Ohta", config=config).returncode == 0
    assert ledger.events.of(f"job/{job_id}")[-1].who == "Ohta"
    again = rtnode("retry", str(job_id), config=config)
    assert (again.returncode, again.stderr) == (1, f"rtnode: job {job_id} has nothing that failed\n")


def test_audit_verify_passes_a_whole_trail(ledger: Ledger, config: Path) -> None:
    fail_a_job(ledger)
    answer = rtnode("audit", "verify", config=config)
    assert (answer.returncode, answer.stdout) == (0, "the audit trail is whole\n")


@pytest.mark.req("NODE-12")
def test_audit_verify_names_the_event_that_was_changed(ledger: Ledger, config: Path, tmp_path: Path) -> None:
    fail_a_job(ledger)
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    with engine.begin() as connection:
        connection.execute(text("DROP TRIGGER events_no_UPDATE"))
        connection.execute(text("UPDATE events SET who = 'nobody' WHERE id = 2"))
    engine.dispose()
    answer = rtnode("audit", "verify", config=config)
    assert (answer.returncode, answer.stderr) == (1, "rtnode: the audit trail is broken at event 2\n")


def test_wrong_key_exits_78_and_names_file_and_key(config: Path) -> None:
    (config / "node.yaml").write_text("{settle: {grace: 1}}")
    answer = rtnode("check", config=config)
    assert answer.returncode == EX_CONFIG
    assert f"{config / 'node.yaml'}: settle.grace:" in answer.stderr


def test_check_fails_when_a_peer_does_not_answer(config: Path) -> None:
    (config / "peers.yaml").write_text("PACS: {ae_title: PACS, host: 127.0.0.1, port: 1, may: [echo]}")
    answer = rtnode("check", "--json", config=config)
    checks = {one["what"].split()[0]: one["ok"] for one in json.loads(answer.stdout)}
    assert checks == {"configuration": True, "disk": True, "PACS": False}
    assert answer.returncode == 1


def test_conformance_is_printed_without_a_configuration() -> None:
    answer = subprocess.run([sys.executable, "-m", "node", "conformance"], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("# DICOM conformance statement of rtnode\n")
