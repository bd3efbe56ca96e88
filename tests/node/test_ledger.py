"""The ledger on SQLite and on PostgreSQL: what it takes, what it refuses, and that nothing is lost or forged."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydicom.uid import generate_uid
from sqlalchemy import text

from node.errors import LedgerError
from node.ledger import Ledger
from node.ledger.database import Database
from node.ledger.events import What
from node.ledger.jobs import LinkedSeries
from node.ledger.schema import Instance, InstanceState, JobState, LinkKind, Series, SeriesState, Table
from node.ledger.series import Arrival, SetAside, Settlement
from node.storage import Identity

SETTLED = Settlement(SeriesState.SETTLED, "cbct", None, frozenset({(LinkKind.FRAME_OF_REFERENCE, "1.2.3")}))


def arrival(series_instance_uid: str = "1.2", sop_instance_uid: str = "1.2.1", patient_id: str = "ID") -> Arrival:
    identity = Identity(patient_id, "1.1", series_instance_uid, sop_instance_uid)
    return Arrival(identity, "CT", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "ab" * 32, 512, "CONSOLE")


def received(ledger: Ledger, one: Arrival) -> Instance | None:
    return ledger.series.receive(one, f"instances/{one.identity.sop_instance_uid}.dcm", lambda: None)


def settled(ledger: Ledger, one: Arrival, settlement: Settlement = SETTLED) -> Series:
    received(ledger, one)
    series = ledger.series.of_patient(one.identity.patient_id)[-1]
    assert ledger.series.settle(series, len(ledger.series.instances(series.id)), settlement)
    return ledger.series.get(series.id)


def happened(ledger: Ledger, subject: str) -> list[str]:
    return [event.what for event in ledger.events.of(subject)]


def test_a_new_instance_opens_its_series(ledger: Ledger) -> None:
    assert received(ledger, arrival()) is None
    [series] = ledger.series.receiving()
    assert [one.path for one in ledger.series.instances(series.id)] == ["instances/1.2.1.dcm"]
    assert happened(ledger, "instance/1.2.1") == [What.INSTANCE_RECEIVED]


def test_a_known_instance_changes_nothing(ledger: Ledger) -> None:
    received(ledger, arrival())
    first = received(ledger, replace(arrival(), sha256="cd" * 32))
    assert first is not None and first.sha256 == "ab" * 32
    assert happened(ledger, "instance/1.2.1") == [What.INSTANCE_RECEIVED]


@pytest.mark.req("NODE-01")
def test_the_file_is_in_place_before_the_row_is_seen(ledger: Ledger) -> None:
    seen: list[list[Series]] = []
    ledger.series.receive(arrival(), "instances/1.dcm", lambda: seen.append(ledger.series.receiving()))
    assert (seen, len(ledger.series.receiving())) == ([[]], 1)


def test_a_file_that_can_not_be_placed_leaves_no_row(ledger: Ledger) -> None:
    with pytest.raises(OSError, match="disk"):
        ledger.series.receive(arrival(), "instances/1.dcm", _fails)
    assert (ledger.series.receiving(), ledger.events.of("instance/1.2.1")) == ([], [])


def _fails() -> None:
    raise OSError("the disk is gone")


def test_a_conflict_is_counted_but_belongs_to_no_volume(ledger: Ledger) -> None:
    received(ledger, arrival())
    ledger.series.set_aside(arrival(), SetAside(InstanceState.CONFLICT, "conflicts/1.dcm", "another content"))
    assert ledger.series.set_aside_counts() == {InstanceState.CONFLICT: 1}
    assert len(ledger.series.instances(ledger.series.receiving()[0].id)) == 1


def test_a_series_that_got_more_while_it_was_judged_stays_open(ledger: Ledger) -> None:
    received(ledger, arrival())
    [series] = ledger.series.receiving()
    received(ledger, arrival(sop_instance_uid="1.2.2"))
    assert not ledger.series.settle(series, 1, SETTLED)
    assert ledger.series.get(series.id).state == SeriesState.RECEIVING


def test_a_late_instance_opens_the_series_again_and_supersedes_its_job(ledger: Ledger) -> None:
    series = settled(ledger, arrival())
    ledger.jobs.queue("copy", "key", [LinkedSeries("cbct", series)])
    received(ledger, arrival(sop_instance_uid="1.2.2"))
    assert (ledger.series.get(series.id).state, ledger.jobs.counts()) == ("receiving", {JobState.SUPERSEDED: 1})
    again = settled(ledger, arrival(sop_instance_uid="1.2.2"))
    assert (again.id, again.revision) == (series.id, 2)


def test_links_are_those_of_the_last_settlement(ledger: Ledger) -> None:
    series = settled(ledger, arrival())
    received(ledger, arrival(sop_instance_uid="1.2.2"))
    other = replace(SETTLED, links=frozenset({(LinkKind.SERIES, "1.9")}))
    settled(ledger, arrival(), other)
    assert ledger.series.links([series.id]) == {series.id: {(LinkKind.SERIES, "1.9")}}


def test_the_same_inputs_make_one_job(ledger: Ledger) -> None:
    inputs = [LinkedSeries("cbct", settled(ledger, arrival()))]
    assert [ledger.jobs.queue("copy", "key", inputs) for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize("statement", ["UPDATE events SET who = 'nobody'", "DELETE FROM events"])
@pytest.mark.req("NODE-12")
def test_events_can_be_neither_changed_nor_removed(ledger_url: str, ledger: Ledger, statement: str) -> None:
    received(ledger, arrival())
    database = Database(ledger_url)
    with pytest.raises(LedgerError) as refused, database.write() as session:
        session.execute(text(statement))
    assert "events are append-only" in str(refused.value.__cause__)
    database.close()


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE events SET who = 'nobody' WHERE id = 2", 2),
        ("UPDATE events SET at = '2020-01-01' WHERE id = 1", 1),
        ("UPDATE events SET why = 'because' WHERE id = 3", 3),
        ("DELETE FROM events WHERE id = 2", 3),
        ("DELETE FROM events WHERE id = 1", 2),
    ],
)
@pytest.mark.req("NODE-12")
def test_what_is_forged_around_the_triggers_is_found(
    ledger_url: str, ledger: Ledger, statement: str, broken: int
) -> None:
    settled(ledger, arrival())
    assert ledger.events.first_broken() is None
    database = Database(ledger_url)
    with database.write() as session:
        for drop in DROP_TRIGGERS["sqlite" if "sqlite" in ledger_url else "postgresql"]:
            session.execute(text(drop))
        session.execute(text(statement))
    database.close()
    assert ledger.events.first_broken() == broken


DROP_TRIGGERS = {
    "sqlite": ["DROP TRIGGER events_no_UPDATE", "DROP TRIGGER events_no_DELETE"],
    "postgresql": ["DROP TRIGGER events_append_only ON events"],
}


def _receive_many(ledger: Ledger, series_instance_uid: str, count: int) -> None:
    for _ in range(count):
        received(ledger, arrival(series_instance_uid, generate_uid(prefix=None)))


def _receive_in_process(url: str, series_instance_uid: str, count: int) -> None:
    ledger = Ledger(url)
    _receive_many(ledger, series_instance_uid, count)
    ledger.close()


def _are_whole(ledger: Ledger, writers: int, count: int) -> bool:
    rows = [len(ledger.series.instances(series.id)) for series in ledger.series.receiving()]
    return rows == [count] * writers and ledger.events.first_broken() is None


def test_threads_that_write_at_once_lose_nothing(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as threads:
        _done([threads.submit(_receive_many, ledger, f"1.{number}", 20) for number in range(4)])
    assert _are_whole(ledger, 4, 20)


def test_processes_that_open_a_new_ledger_and_write_at_once_lose_nothing(ledger_url: str) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        _done([processes.submit(_receive_in_process, ledger_url, f"1.{number}", 40) for number in range(2)])
    ledger = Ledger(ledger_url)
    assert _are_whole(ledger, 2, 40)
    ledger.close()


def _done(futures: list[Future[None]]) -> None:
    for future in futures:
        future.result(timeout=60)


def test_one_instance_that_comes_over_many_associations_is_recorded_once(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as threads:
        firsts = list(threads.map(lambda _: received(ledger, arrival()), range(8)))
    assert firsts.count(None) == 1


def test_the_migrations_make_the_tables_that_the_code_has(ledger_url: str, ledger: Ledger) -> None:
    database = Database(ledger_url)
    with database.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
    database.close()


def test_opening_again_keeps_the_queue(ledger_url: str, ledger: Ledger) -> None:
    series = settled(ledger, arrival())
    ledger.jobs.queue("copy", "key", [LinkedSeries("cbct", series)])
    ledger.jobs.wait("enhance", series, "waits for planning_ct", datetime.now(UTC))
    again = Ledger(ledger_url)
    assert again.jobs.counts() == {JobState.QUEUED: 1, JobState.WAITING: 1}
    assert (again.series.get(series.id).revision, again.events.first_broken()) == (1, None)
    again.close()


ADDED = {
    "0002": ["series.body_parts"],
    "0003": ["series.acquired_at", "jobs.predecessors", "result_instances.study_instance_uid"],
    "0004": ["result_instances.is_quality_report"],
}
COLUMNS_BEYOND = {
    version: [column for later, columns in ADDED.items() if later > version for column in columns]
    for version in ("0001", "0002", "0003", "0004")
}
TABLES_ADDED = {"0004": "trend_points", "0005": "agreements"}


@pytest.mark.parametrize("version", COLUMNS_BEYOND)
def test_an_upgrade_from_an_older_version_keeps_the_queue(ledger_url: str, ledger: Ledger, version: str) -> None:
    series = settled(ledger, arrival())
    ledger.jobs.queue("copy", "key", [LinkedSeries("cbct", series)])
    ledger.jobs.wait("enhance", series, "waits for planning_ct", datetime.now(UTC))
    _take_back_to(version, ledger_url)
    again = Ledger(ledger_url)
    assert again.jobs.counts() == {JobState.QUEUED: 1, JobState.WAITING: 1}
    row = again.series.get(series.id)
    assert (row.revision, row.role, row.acquired_at, again.events.first_broken()) == (1, "cbct", None, None)
    assert row.body_parts == (None if version == "0001" else [])
    [job] = again.jobs.claim(1)
    assert (job.pipeline, again.succession.predecessors(job.id)) == ("copy", ())
    now = replace(SETTLED, body_parts=frozenset({"NECK", "HEAD"}), acquired_at=datetime(2025, 1, 20, 9, 30))
    later = settled(again, arrival("1.4", "1.4.1"), now)
    assert (later.body_parts, later.acquired_at) == (["HEAD", "NECK"], datetime(2025, 1, 20, 9, 30))
    again.close()


def _take_back_to(version: str, ledger_url: str) -> None:
    """The tables as the migrations up to this one make them, rows and all."""
    database = Database(ledger_url)
    with database.write() as session:
        for table in (table for later, table in TABLES_ADDED.items() if later > version):
            session.execute(text(f"DROP TABLE {table}"))
        for table, column in (name.split(".") for name in COLUMNS_BEYOND[version]):
            session.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
        session.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))
    database.close()


def test_body_parts_are_those_of_the_last_settlement(ledger: Ledger) -> None:
    settled(ledger, arrival(), replace(SETTLED, body_parts=frozenset({"PELVIS"})))
    again = settled(ledger, arrival(sop_instance_uid="1.2.2"))
    assert (again.revision, again.body_parts) == (2, [])


def test_a_ledger_of_a_newer_version_is_not_touched(ledger_url: str, ledger: Ledger) -> None:
    database = Database(ledger_url)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'later'"))
    with pytest.raises(LedgerError, match="the ledger has tables of another version of the node"):
        database.migrate()
    database.close()


CHANGES: dict[str, Callable[[Ledger], object]] = {
    "receive": lambda ledger: received(ledger, arrival()),
    "claim": lambda ledger: ledger.jobs.claim(1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_database_that_fails_is_said_to_have_failed(ledger_url: str, ledger: Ledger, change: str) -> None:
    database = Database(ledger_url)
    with database.write() as session:
        session.execute(text("ALTER TABLE instances RENAME TO gone"))
        session.execute(text("ALTER TABLE jobs RENAME TO lost"))
    with pytest.raises(LedgerError, match="the ledger has not taken a change"):
        CHANGES[change](ledger)
    database.close()


@pytest.mark.req("NODE-08")
def test_a_job_that_takes_the_node_down_is_set_aside_after_its_attempts(ledger: Ledger) -> None:
    one = settled(ledger, arrival())
    assert ledger.jobs.queue("copy", "key", [LinkedSeries("cbct", one)])
    for _ in range(3):
        (job,) = ledger.jobs.claim(1)
        assert ledger.jobs.recover(max_attempts=3) == 1
    failed = ledger.jobs.get(job.id)
    assert failed is not None
    assert (failed.state, failed.reason) == (JobState.FAILED, "the node died 3 times while it ran")


def test_a_stop_in_good_order_is_no_attempt(ledger: Ledger) -> None:
    one = settled(ledger, arrival())
    assert ledger.jobs.queue("copy", "key", [LinkedSeries("cbct", one)])
    for _ in range(5):
        assert [job.attempts for job in ledger.jobs.claim(1)] == [1]
        ledger.jobs.put_back()


def test_a_series_on_which_two_jobs_wait_is_one_trigger_and_others_are_none(ledger: Ledger) -> None:
    series, other = settled(ledger, arrival()), settled(ledger, arrival("1.3", "1.3.1", "OTHER"))
    later = datetime.now(UTC) + timedelta(hours=1)
    for pipeline, until in (("enhance", later), ("segment", later), ("copy", datetime.now(UTC))):
        ledger.jobs.wait(pipeline, series, "waits for planning_ct", until)
    ledger.jobs.queue("copy", "key", [LinkedSeries("cbct", other)])
    assert [one.id for one in ledger.jobs.triggers_waiting("ID")] == [series.id]
    assert [one.id for one in ledger.jobs.triggers_to_fetch_for()] == [series.id]
    assert ledger.jobs.triggers_waiting("OTHER") == ledger.jobs.triggers_superseded_with(other.id) == []
