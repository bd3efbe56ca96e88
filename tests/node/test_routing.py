"""The radiotherapy graph: which series belong together, and that nothing is linked by guessing."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from pydicom import Dataset
from pydicom.uid import UID, generate_uid
from sqlalchemy import text

from node.config import When
from node.graph import KnownSeries
from node.headers import values_of
from node.ledger.database import Database
from node.ledger.schema import JobState, SeriesState
from node.routing import Route, has_to_be_renewed, input_key, route, starts
from node.series import links_of
from pipelines.base import Inputs, Need, Outcome, Pipeline, Progress, Tie, no_progress
from tests.dicom_files import ct_series, registration, rt_dose, rt_plan, structure_set, with_elements, write
from tests.peers import RunningNode, config_folder, running_node, send_files, storescu
from tests.waiting import wait_until

START = datetime(2026, 1, 1, tzinfo=UTC)
ROLES = {"CT": "planning_ct", "RTSTRUCT": "structure_set", "RTPLAN": "plan", "RTDOSE": "dose", "REG": "registration"}


class Linked(Pipeline):
    """A pipeline that needs the planning CT of a CBCT; it is never run."""

    needs: ClassVar[Mapping[str, Need]] = {"planning_ct": Need()}
    produces: ClassVar[frozenset[UID]] = frozenset()

    colour: str = "grey"

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        return Outcome((), ())


def known(*series: Dataset | list[Dataset], role: str = "", after_h: float = 0) -> KnownSeries:
    """What routing knows of one series."""
    [one] = series
    instances = one if isinstance(one, list) else [one]
    return KnownSeries(
        series_instance_uid=instances[0].SeriesInstanceUID,
        patient_id=instances[0].PatientID,
        role=role or ROLES[instances[0].Modality],
        state=SeriesState.SETTLED,
        revision=1,
        settled_at=START + timedelta(hours=after_h),
        links=frozenset(link for instance in instances for link in links_of(instance)),
        sop_instance_uids=frozenset(str(instance.SOPInstanceUID) for instance in instances),
        body_parts=frozenset(part for instance in instances for part in values_of(instance, "BodyPartExamined")),
    )


@pytest.fixture
def ct() -> list[Dataset]:
    return ct_series(2)


@pytest.fixture
def cbct(ct: list[Dataset]) -> KnownSeries:
    """Of the same Frame of Reference as the planning CT."""
    return known(ct_series(2, FrameOfReferenceUID=ct[0].FrameOfReferenceUID), role="cbct")


def chosen(found: Route, role: str) -> list[str]:
    return [one.series_instance_uid for given, one in found.inputs if given == role]


def linked(trigger: KnownSeries, others: list[KnownSeries], role: str, need: Need | None = None) -> list[str]:
    """Series of the role that are taken as inputs beside the trigger."""
    found = route({role: need or Need()}, trigger, [trigger, *others])
    assert (found.inputs[0][1], bool(found.missing)) == (trigger, not chosen(found, role))
    return chosen(found, role)


def test_a_shared_frame_of_reference_links(ct: list[Dataset], cbct: KnownSeries) -> None:
    assert linked(cbct, [known(ct)], "planning_ct") == [ct[0].SeriesInstanceUID]


def test_another_frame_of_reference_does_not_link(cbct: KnownSeries) -> None:
    assert linked(cbct, [known(ct_series(2))], "planning_ct") == []


def test_a_registration_leads_from_one_frame_to_the_other(ct: list[Dataset]) -> None:
    day = ct_series(2)
    steps = [known(registration(day[0], ct[0])), known(ct)]
    assert linked(known(day, role="cbct"), steps, "planning_ct") == [ct[0].SeriesInstanceUID]


def test_a_structure_set_is_linked_by_the_images_that_it_refers_to(ct: list[Dataset]) -> None:
    structures = with_elements(structure_set(ct), ReferencedFrameOfReferenceSequence=None)
    structures.ReferencedStudySequence = (
        structure_set(ct).ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
    )
    assert linked(known(ct), [known(structures)], "structure_set") == [structures.SeriesInstanceUID]


def test_a_dose_is_linked_over_its_plan_and_the_plans_structure_set(ct: list[Dataset], cbct: KnownSeries) -> None:
    structures = structure_set(ct)
    plan = rt_plan(structures)
    dose = rt_dose(plan)
    everything = [known(dose), known(plan), known(structures), known(ct)]
    assert linked(cbct, everything, "dose") == [dose.SeriesInstanceUID]
    assert linked(cbct, [known(dose), known(structures), known(ct)], "dose") == []


@pytest.mark.parametrize("patient_id", ["OTHER", "", "made-1"])
@pytest.mark.req("NODE-04")
def test_another_patient_with_the_same_frame_of_reference_is_never_linked(
    ct: list[Dataset], cbct: KnownSeries, patient_id: str
) -> None:
    others = [with_elements(one, PatientID=patient_id) for one in ct]
    assert linked(cbct, [known(others)], "planning_ct") == []
    assert linked(cbct, [known(others)], "planning_ct", Need(tied=Tie.PATIENT)) == []


def test_two_series_without_a_patient_id_are_never_linked(ct: list[Dataset]) -> None:
    day = ct_series(2, PatientID="", FrameOfReferenceUID=ct[0].FrameOfReferenceUID)
    planning_ct = [with_elements(one, PatientID="") for one in ct]
    assert linked(known(day, role="cbct"), [known(planning_ct)], "planning_ct") == []


def test_a_path_does_not_lead_over_another_patient(ct: list[Dataset]) -> None:
    day = ct_series(2)
    bridge = with_elements(registration(day[0], ct[0]), PatientID="OTHER")
    assert linked(known(day, role="cbct"), [known(bridge), known(ct)], "planning_ct") == []


def test_of_one_patient_is_enough_where_the_pipeline_says_so(cbct: KnownSeries) -> None:
    other = ct_series(2)
    assert linked(cbct, [known(other)], "planning_ct", Need(tied=Tie.PATIENT)) == [other[0].SeriesInstanceUID]


@pytest.mark.parametrize("state", [SeriesState.RECEIVING, SeriesState.INCOMPLETE, SeriesState.REJECTED])
def test_what_has_not_settled_whole_is_no_input(ct: list[Dataset], cbct: KnownSeries, state: SeriesState) -> None:
    assert linked(cbct, [replace(known(ct), state=state)], "planning_ct") == []


def test_the_nearest_is_chosen_before_the_newest(ct: list[Dataset], cbct: KnownSeries) -> None:
    far = ct_series(2)
    bridge = known(registration(ct[0], far[0]), after_h=1)
    others = [known(far, after_h=9), bridge, known(ct)]
    assert linked(cbct, others, "planning_ct") == [ct[0].SeriesInstanceUID]


def test_of_equally_near_ones_the_newest_is_chosen(ct: list[Dataset], cbct: KnownSeries) -> None:
    newer = ct_series(2, FrameOfReferenceUID=ct[0].FrameOfReferenceUID)
    others = [known(ct, after_h=1), known(newer, after_h=2)]
    assert linked(cbct, others, "planning_ct") == [newer[0].SeriesInstanceUID]
    both = linked(cbct, others, "planning_ct", Need(at_most=None))
    assert both == [newer[0].SeriesInstanceUID, ct[0].SeriesInstanceUID]


NOON = datetime(2025, 1, 20, 12)
EARLIER = Need(at_least=0, at_most=None, tied=Tie.PATIENT, earlier=True)


def day(number: int, **changes: object) -> KnownSeries:
    """A CBCT of this day; a later one settles earlier, so that the order of arrival is not that of the days."""
    moment = NOON + timedelta(days=number)
    return replace(known(ct_series(2), role="cbct", after_h=-number), **{"acquired_at": moment, **changes})  # type: ignore[arg-type]


def test_only_series_acquired_before_the_trigger_are_earlier_and_the_last_of_them_comes_first() -> None:
    days = [day(number) for number in (3, 1, 4, 2, 5)]
    taken = chosen(route({"cbct": EARLIER}, days[2], days), "cbct")
    assert taken == [days[index].series_instance_uid for index in (2, 0, 3, 1)]


def test_of_two_series_of_one_moment_exactly_one_is_earlier() -> None:
    days = [day(1), day(1), day(1)]
    taken = [len(chosen(route({"cbct": EARLIER}, one, days), "cbct")) - 1 for one in days]
    assert sorted(taken) == [0, 1, 2]


def test_a_series_without_a_date_is_earlier_than_none_and_none_than_it() -> None:
    undated, dated = day(1, acquired_at=None), day(2)
    found = [route({"cbct": EARLIER}, one, [undated, dated]) for one in (undated, dated)]
    assert [len(one.inputs) for one in found] == [1, 1]
    assert [one.remarks for one in found] == [
        ("no cbct counts as earlier, for the series that started the job states no date",),
        ("1 cbct left out: without a date it can not be told whether it is earlier",),
    ]


def test_where_nothing_has_to_be_earlier_a_lacking_date_is_not_worth_a_remark() -> None:
    undated, dated = day(1, acquired_at=None), day(2)
    need = Need(at_most=None, tied=Tie.PATIENT)
    found = route({"cbct": need}, dated, [undated, dated])
    assert (found.remarks, len(found.inputs)) == ((), 2)


@pytest.mark.parametrize(("of_day", "renewed"), [(0, True), (1, False)])
def test_only_the_registration_of_its_own_day_makes_a_job_anew(ct: list[Dataset], of_day: int, renewed: bool) -> None:
    days = [ct_series(2), ct_series(2)]
    registered = [known(registration(one[0], ct[0])) for one in days]
    everything = [known(ct), *(known(one, role="cbct") for one in days), *registered]
    needs = {"planning_ct": Need(), "registration": Need(at_least=0, at_most=None)}
    found = route(needs, everything[1], everything)
    given = {one.series_instance_uid for one in everything} - {registered[of_day].series_instance_uid}
    assert has_to_be_renewed(needs, given, found, everything) is renewed


def test_the_reason_says_what_is_missing_in_plain_words(cbct: KnownSeries) -> None:
    needs = {"planning_ct": Need(), "cbct": Need(at_least=3, at_most=None, tied=Tie.PATIENT)}
    found = route(needs, cbct, [cbct])
    assert found.missing_roles == ("planning_ct", "cbct")
    assert found.reason == (
        "waits for planning_ct tied to it by Frame of Reference or reference (0 of 1 there)"
        " and cbct of this patient (0 of 3 there)"
    )


def test_a_need_that_is_optional_is_not_waited_for(cbct: KnownSeries) -> None:
    assert route({"planning_ct": Need(at_least=0)}, cbct, [cbct]).missing == ()


@pytest.mark.parametrize(
    ("role", "state", "accepts_incomplete", "expected"),
    [
        ("cbct", SeriesState.SETTLED, False, True),
        ("mvct", SeriesState.SETTLED, False, False),
        ("cbct", SeriesState.INCOMPLETE, False, False),
        ("cbct", SeriesState.INCOMPLETE, True, True),
        ("cbct", SeriesState.REJECTED, True, False),
        ("cbct", SeriesState.RECEIVING, True, False),
    ],
)
def test_which_series_start_a_pipeline(
    cbct: KnownSeries, role: str, state: SeriesState, accepts_incomplete: bool, expected: bool
) -> None:
    assert starts(When(role=role, incomplete=accepts_incomplete), replace(cbct, state=state)) is expected


HEAD_AND_NECK = ("HEADNECK", "Head", "low neck (site)")


@pytest.mark.parametrize(
    ("wanted", "stated", "expected"),
    [
        (HEAD_AND_NECK, ["HEADNECK"], True),
        (HEAD_AND_NECK, ["headneck"], True),
        (HEAD_AND_NECK, ["HEAD"], True),
        (HEAD_AND_NECK, ["LOW NECK (SITE)"], True),
        (HEAD_AND_NECK, ["PELVIS"], False),
        (HEAD_AND_NECK, ["NECK"], False),
        (HEAD_AND_NECK, [], True),
        (HEAD_AND_NECK, ["CHEST", "HEAD"], True),
        (HEAD_AND_NECK, ["CHEST", "PELVIS"], False),
        (None, ["PELVIS"], True),
        (None, [], True),
    ],
)
def test_a_stated_body_part_has_to_be_one_that_the_pipeline_is_for(
    cbct: KnownSeries, wanted: tuple[str, ...] | None, stated: list[str], expected: bool
) -> None:
    assert starts(When(role="cbct", body_part=wanted), replace(cbct, body_parts=frozenset(stated))) is expected


def test_the_body_part_gives_no_series_another_role(cbct: KnownSeries) -> None:
    assert not starts(When(role="mvct", body_part=("HEAD",)), replace(cbct, body_parts=frozenset({"HEAD"})))


def test_the_key_of_a_job_changes_with_series_revision_role_and_settings(cbct: KnownSeries) -> None:
    variants = [
        input_key(Linked(name="one"), [("cbct", cbct)]),
        input_key(Linked(name="one", colour="red"), [("cbct", cbct)]),
        input_key(Linked(name="one"), [("planning_ct", cbct)]),
        input_key(Linked(name="one"), [("cbct", replace(cbct, revision=2))]),
        input_key(Linked(name="one"), [("cbct", replace(cbct, series_instance_uid="1.2"))]),
    ]
    assert len(set(variants)) == len(variants)
    assert variants[0] == input_key(Linked(name="one"), [("cbct", cbct)])


@pytest.fixture(scope="module")
def linking_node(scheduler: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node with a pipeline that starts on a CBCT and needs its planning CT; without a worker its jobs stay queued."""
    pipelines = {"linked": {"class": "tests.node.test_routing:Linked", "when": {"role": "cbct"}}}
    folder = tmp_path_factory.mktemp("linking")
    with running_node(config_folder(folder, {"engine": scheduler}, pipelines=pipelines)) as running:
        yield running


def pair(patient_id: str) -> tuple[list[Dataset], list[Dataset]]:
    """A CBCT and the planning CT in the same Frame of Reference."""
    planning_ct = ct_series(3, PatientID=patient_id)
    frame = planning_ct[0].FrameOfReferenceUID
    return ct_series(3, PatientID=patient_id, FrameOfReferenceUID=frame, SeriesDescription="CBCT"), planning_ct


def jobs(node: RunningNode, trigger: list[Dataset]) -> list[tuple[str, str | None]]:
    """State and reason of every job that the series has started, oldest first."""
    series = node.series(trigger[0])
    return [(job.state, job.reason) for job in node.node.ledger.jobs.all()[::-1] if job.series_id == series.id]


def send(node: RunningNode, series: list[Dataset], folder: Path) -> None:
    assert set(send_files(write(series, folder / generate_uid()), node.address)) == {0x0000}


WAITS = "waits for planning_ct tied to it by Frame of Reference or reference (0 of 1 there)"


@pytest.mark.req("NODE-04")
def test_a_job_waits_with_the_reason_and_is_queued_when_the_missing_series_comes(
    linking_node: RunningNode, tmp_path: Path
) -> None:
    cbct, planning_ct = pair("WAITS")
    send(linking_node, cbct, tmp_path)
    wait_until(lambda: linking_node.has(cbct[0]) and jobs(linking_node, cbct) == [(JobState.WAITING, WAITS)])
    send(linking_node, planning_ct, tmp_path)
    wait_until(lambda: jobs(linking_node, cbct) == [(JobState.QUEUED, None)])
    [job] = [job for job in linking_node.node.ledger.jobs.all() if job.series_id == linking_node.series(cbct[0]).id]
    given = [(one.role, one.series_instance_uid) for one in linking_node.node.ledger.jobs.inputs(job.id)]
    assert given == [("cbct", cbct[0].SeriesInstanceUID), ("planning_ct", planning_ct[0].SeriesInstanceUID)]


@pytest.mark.req("NODE-11")
def test_the_same_inputs_start_one_job_however_often_they_are_sent(linking_node: RunningNode, tmp_path: Path) -> None:
    cbct, planning_ct = pair("ONCE")
    for series in (planning_ct, cbct, planning_ct, cbct):
        send(linking_node, series, tmp_path)
    wait_until(lambda: jobs(linking_node, cbct) == [(JobState.QUEUED, None)])
    other = pair("AFTER")
    for series in other:
        send(linking_node, series, tmp_path)
    wait_until(lambda: jobs(linking_node, other[0]) == [(JobState.QUEUED, None)])
    assert jobs(linking_node, cbct) == [(JobState.QUEUED, None)]


@pytest.mark.parametrize("late", [0, 1], ids=["trigger", "linked"])
def test_a_late_instance_supersedes_the_job_and_starts_another(
    linking_node: RunningNode, tmp_path: Path, late: int
) -> None:
    both = pair(f"LATE{late}")
    top = [-10, -20, -21]
    late_slice = with_elements(both[late][-1], SOPInstanceUID=generate_uid(), ImagePositionPatient=top)
    for series in both:
        send(linking_node, series, tmp_path)
    wait_until(lambda: jobs(linking_node, both[0]) == [(JobState.QUEUED, None)])
    send(linking_node, [late_slice], tmp_path)
    wait_until(lambda: len(jobs(linking_node, both[0])) == 2)
    superseded = "late instances arrived for one of its series"
    assert jobs(linking_node, both[0]) == [(JobState.SUPERSEDED, superseded), (JobState.QUEUED, None)]


def test_an_incomplete_series_starts_nothing(linking_node: RunningNode, tmp_path: Path) -> None:
    cbct, planning_ct = pair("GAP")
    send(linking_node, planning_ct, tmp_path)
    gap = ct_series(6, PatientID="GAP", FrameOfReferenceUID=cbct[0].FrameOfReferenceUID, SeriesDescription="CBCT")
    send(linking_node, [*gap[:2], *gap[3:]], tmp_path)
    assert linking_node.settled(gap[0]).state == SeriesState.INCOMPLETE
    send(linking_node, cbct, tmp_path)
    wait_until(lambda: linking_node.has(cbct[0]) and jobs(linking_node, cbct) == [(JobState.QUEUED, None)])
    assert jobs(linking_node, gap) == []


def test_a_series_that_had_settled_when_the_node_died_is_routed_at_the_next_start(
    scheduler: str, tmp_path: Path
) -> None:
    cbct, planning_ct = pair("DIED")
    config = config_folder(tmp_path, {"engine": scheduler}, pipelines={})
    pipeline = {"class": "tests.node.test_routing:Linked", "when": {"role": "cbct"}}
    with running_node(config) as node:
        for series in (cbct, planning_ct):
            send(node, series, tmp_path)
            node.settled(series[0])
    _forget_the_routing(node.state_dir)
    with running_node(config_folder(tmp_path, {"engine": scheduler}, pipelines={"linked": pipeline})) as again:
        wait_until(lambda: jobs(again, cbct) == [(JobState.QUEUED, None)])


def _forget_the_routing(state_dir: Path) -> None:
    """As if the node had died between settling and routing."""
    _change_series(state_dir, "routed_revision = 0")


def _change_series(state_dir: Path, change: str) -> None:
    database = Database(f"sqlite:///{state_dir / 'ledger.sqlite3'}")
    with database.write() as session:
        session.execute(text(f"UPDATE series SET {change}"))
    database.close()


HEADNECK = {"class": "pipelines.copy_series:CopySeries", "when": {"role": "planning_ct", "body_part": ["HEADNECK"]}}


@pytest.fixture(scope="module")
def headneck_node(scheduler: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node with one pipeline, for planning CT of head and neck; its jobs stay queued."""
    folder = tmp_path_factory.mktemp("headneck")
    with running_node(config_folder(folder, {"engine": scheduler}, pipelines={"headneck": HEADNECK})) as running:
        yield running


def test_a_pelvis_starts_nothing_that_is_for_the_neck(headneck_node: RunningNode, tmp_path: Path) -> None:
    pelvis, silent, neck = (
        ct_series(3, PatientID="PARTS", BodyPartExamined=part) for part in ("PELVIS", None, "HEADNECK")
    )
    for series in (pelvis, silent, neck):
        assert storescu(write(series, tmp_path / generate_uid()), headneck_node.address).returncode == 0
    assert [routed(headneck_node, series) for series in (pelvis, silent, neck)] == [
        (["PELVIS"], 0),
        ([], 1),
        (["HEADNECK"], 1),
    ]


def routed(node: RunningNode, series: list[Dataset]) -> tuple[list[str] | None, int]:
    """The body parts in the ledger, and how many jobs the series has started, once it is routed."""
    wait_until(lambda: node.has(series[0]) and node.series(series[0]).routed_revision == 1)
    return node.series(series[0]).body_parts, len(jobs(node, series))


def test_a_series_of_an_older_ledger_is_taken_as_one_that_states_no_body_part(
    headneck_node: RunningNode, tmp_path: Path
) -> None:
    pelvis = ct_series(3, PatientID="OLDER", BodyPartExamined="PELVIS")
    send(headneck_node, pelvis, tmp_path)
    assert routed(headneck_node, pelvis) == (["PELVIS"], 0)
    _change_series(headneck_node.state_dir, "routed_revision = 0, body_parts = NULL WHERE patient_id = 'OLDER'")
    wait_until(lambda: len(jobs(headneck_node, pelvis)) == 1)
    assert routed(headneck_node, pelvis) == (None, 1)
