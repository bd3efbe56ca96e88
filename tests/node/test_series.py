"""When a series is settled: what its headers say, and how it has come."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import EnhancedCTImageStorage, MRImageStorage, generate_uid

from node.ledger.schema import LinkKind, SeriesState
from node.roles import RoleRule
from node.series import Assessment, assess, is_final
from tests.dicom_files import ct_series, encoded, registration, rt_dose, rt_plan, structure_set, with_elements, write
from tests.peers import ROLES, RunningNode, associated, config_folder, running_node, send_files, stored, storescu
from tests.pipelines.made import changed, enhanced_ct, ramp
from tests.pipelines.projections_made import ANGLE, Elements, helical, projection_series, with_private

# pydicom warns of what is broken here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

PROJECTIONS: dict[str, Any] = {"role": "projections", "any": {"70311001": {"absent": False}}}
RULES = [RoleRule.model_validate(one) for one in (PROJECTIONS, *ROLES)]
Series = list[Dataset]


def assessed(series: Series, folder: Path) -> Assessment:
    return assess(write(series, folder), RULES)


def one_with(index: int, **changes: Any) -> Callable[[], Series]:
    def make() -> Series:
        series = ct_series(5)
        series[index] = with_elements(series[index], **changes)
        return series

    return make


def tilted() -> Series:
    return [with_elements(one, ImagePositionPatient=[0, 2 * i, 3 * i]) for i, one in enumerate(ct_series(5))]


WHOLE, INCOMPLETE, REJECTED = SeriesState.SETTLED, SeriesState.INCOMPLETE, SeriesState.REJECTED


@pytest.mark.parametrize(
    ("make", "state", "reason"),
    [
        (lambda: ct_series(5), WHOLE, None),
        (lambda: ct_series(5)[::-1], WHOLE, None),
        (lambda: [ct_series(5)[index] for index in (3,)], WHOLE, None),
        (lambda: [one for i, one in enumerate(ct_series(5)) if i != 2], INCOMPLETE, "1 slice is missing"),
        (lambda: ct_series(5, ImagesInAcquisition=5), WHOLE, None),
        (lambda: ct_series(5, ImagesInAcquisition=7), INCOMPLETE, "5 of 7 images that the header announces"),
        (lambda: ct_series(5, NumberOfSeriesRelatedInstances=6), INCOMPLETE, "5 of 6 images that the header announces"),
        (one_with(2, ImagePositionPatient=[-10, -20, -30]), REJECTED, "1 of 5 slices lie at the position of another"),
        (one_with(2, ImageOrientationPatient=[0, 1, 0, 0, 0, 1]), REJECTED, "The series has slices of more than one"),
        (tilted, REJECTED, "The slices are shifted in their plane"),
        (one_with(2, PatientID="OTHER"), REJECTED, "The series has instances of 2 patients"),
        (one_with(2, StudyInstanceUID="1.2.3"), REJECTED, "The series has instances of 2 studies"),
        (one_with(2, Modality="MR"), REJECTED, "The series has instances of 2 modalities"),
        (one_with(2, SOPClassUID=MRImageStorage), REJECTED, "The series has instances of 2 SOP classes"),
        (one_with(2, FrameOfReferenceUID="1.2.3"), REJECTED, "The series has images of 2 Frames of Reference"),
        (one_with(2, Rows=16), REJECTED, "The series has images of 2 matrix sizes"),
        (one_with(2, ImagePositionPatient=None), REJECTED, "An image has no usable Image Position (Patient)"),
        (lambda: [structure_set(ct_series(2))], WHOLE, None),
        (lambda: [rt_plan(ct_series(1)[0])], WHOLE, None),
    ],
)  # fmt: skip
def test_the_headers_say_whether_a_series_is_whole(
    tmp_path: Path, make: Callable[[], Series], state: SeriesState, reason: str | None
) -> None:
    settlement = assessed(make(), tmp_path).settlement
    assert settlement.state is state
    assert settlement.reason == reason or str(settlement.reason).startswith(str(reason))


def test_an_enhanced_image_is_a_whole_stack(tmp_path: Path) -> None:
    assessment = assessed([with_elements(enhanced_ct(ramp()), SOPClassUID=EnhancedCTImageStorage)], tmp_path)
    assert (assessment.settlement.state, assessment.is_lone_slice) == (WHOLE, False)


def views(count: int = 12, of: int = 12, **changes: Any) -> Callable[[], Series]:
    """The first views of an axial scan."""
    return lambda: projection_series(of, **changes)[:count]


def one_view_with(elements: Elements, **changes: Any) -> Callable[[], Series]:
    def make() -> Series:
        series = projection_series(12)
        with_private(changed(series[5], **changes), elements)
        return series

    return make


@pytest.mark.parametrize(
    ("make", "state", "reason"),
    [
        (views(), WHOLE, None),
        (lambda: projection_series(12)[::-1], WHOLE, None),
        (lambda: projection_series(12)[:5] + projection_series(12)[6:], INCOMPLETE, "1 of 12 views is missing"),
        (views(9), INCOMPLETE, "3 of 12 views are missing"),
        (views(1), INCOMPLETE, "The series has only one view"),
        (views(9, ImagesInAcquisition=9), WHOLE, None),
        (views(8, ImagesInAcquisition=9), INCOMPLETE, "1 of 9 views is missing"),
        (views(ImagesInAcquisition=14), INCOMPLETE, "2 of 14 views are missing"),
        (lambda: projection_series(120)[::10], WHOLE, None),
        (lambda: helical(30, 10, feed_mm=7.0), WHOLE, None),
        (lambda: helical(30, 10, feed_mm=7.0)[:13] + helical(30, 10, feed_mm=7.0)[15:], INCOMPLETE, "2 of 30 views"),
        (one_view_with({ANGLE: ("FL", 0.0)}), REJECTED, "1 of 12 views were taken from the place of another view"),
        (one_view_with({ANGLE: ("FL", 1.2)}), REJECTED, "The angles of the views do not run in one direction"),
        (one_view_with({ANGLE: ("FL", None)}), REJECTED, "A view has no usable Detector Focal Center Angular Position"),
        (one_view_with({0x70291011: ("US", 4)}, Rows=4), REJECTED, "The series has views of 2 detector sizes"),
        (one_view_with({}, FrameOfReferenceUID="1.2.3"), REJECTED, "The series has views of 2 Frames of Reference"),
        (one_view_with({}, PatientID="OTHER"), REJECTED, "The series has instances of 2 patients"),
        (one_view_with({}, PixelData=None), REJECTED, "An image has no pixel data"),
    ],
)  # fmt: skip
def test_projections_are_judged_as_views_and_not_as_slices(
    tmp_path: Path, make: Callable[[], Series], state: SeriesState, reason: str | None
) -> None:
    settlement = assessed(make(), tmp_path).settlement
    assert settlement.role == "projections"
    assert settlement.state is state
    assert settlement.reason == reason or str(settlement.reason).startswith(str(reason))


AT_ONCE, PIECEWISE, QUIET, WAITING = True, False, True, False


@pytest.mark.parametrize(
    ("make", "sent_at_once", "is_quiet", "final"),
    [
        (lambda: ct_series(5), AT_ONCE, WAITING, True),
        (lambda: ct_series(5), PIECEWISE, WAITING, False),
        (lambda: ct_series(5), PIECEWISE, QUIET, True),
        (lambda: ct_series(1), AT_ONCE, WAITING, False),
        (lambda: ct_series(1), AT_ONCE, QUIET, True),
        (lambda: ct_series(1, NumberOfSeriesRelatedInstances=1), AT_ONCE, WAITING, True),
        (lambda: ct_series(5, ImagesInAcquisition=5), PIECEWISE, WAITING, True),
        (lambda: ct_series(5, ImagesInAcquisition=6), AT_ONCE, WAITING, False),
        (lambda: ct_series(5)[::2] + ct_series(1), AT_ONCE, WAITING, True),
        (lambda: ct_series(5)[:1] + ct_series(5)[2:3], AT_ONCE, WAITING, True),
        (lambda: [structure_set(ct_series(2))], AT_ONCE, WAITING, True),
        (lambda: [structure_set(ct_series(2))], PIECEWISE, WAITING, False),
        (views(), PIECEWISE, WAITING, True),
        (views(9), AT_ONCE, WAITING, False),
        (views(9), PIECEWISE, QUIET, True),
        (views(9, ImagesInAcquisition=9), PIECEWISE, WAITING, True),
        (views(ImagesInAcquisition=14), AT_ONCE, WAITING, False),
        (views(1), AT_ONCE, WAITING, False),
        (lambda: projection_series(120)[::10], AT_ONCE, WAITING, True),
        (lambda: projection_series(120)[::10], PIECEWISE, WAITING, False),
        (lambda: helical(30, 10, feed_mm=7.0), AT_ONCE, WAITING, True),
        (lambda: helical(30, 10, feed_mm=7.0), PIECEWISE, WAITING, False),
    ],
)
def test_a_series_waits_as_long_as_more_may_come(
    tmp_path: Path, make: Callable[[], Series], sent_at_once: bool, is_quiet: bool, final: bool
) -> None:
    assert is_final(assessed(make(), tmp_path), sent_at_once, is_quiet) is final


def test_links_lead_from_a_structure_set_to_its_images_and_their_frame(tmp_path: Path) -> None:
    ct = ct_series(2)
    assert assessed([structure_set(ct)], tmp_path).settlement.links == {
        (LinkKind.FRAME_OF_REFERENCE, ct[0].FrameOfReferenceUID),
        (LinkKind.SERIES, ct[0].SeriesInstanceUID),
        (LinkKind.INSTANCE, ct[0].SOPInstanceUID),
        (LinkKind.INSTANCE, ct[1].SOPInstanceUID),
    }


def test_links_lead_from_a_dose_to_its_plan_and_from_a_registration_to_both_frames(tmp_path: Path) -> None:
    one, other = ct_series(1)[0], ct_series(1)[0]
    dose = assessed([rt_dose(one)], tmp_path).settlement.links
    assert dose == {(LinkKind.INSTANCE, one.SOPInstanceUID)}
    frames = assessed([registration(one, other)], tmp_path).settlement.links
    assert frames == {(LinkKind.FRAME_OF_REFERENCE, side.FrameOfReferenceUID) for side in (one, other)}


@pytest.mark.parametrize(
    ("keyword", "text"), [("KVP", b"abc"), ("SliceThickness", b"1e5mm"), ("ImagesInAcquisition", b"\xb2")]
)
def test_a_value_that_makes_no_sense_does_not_keep_a_series_from_being_judged(
    tmp_path: Path, keyword: str, text: bytes
) -> None:
    image = with_elements(ct_series(1)[0], **{keyword: "77777777"[: len(text) + len(text) % 2]})
    file = encoded(image).replace(b"77777777"[: len(text) + len(text) % 2], text.ljust(len(text) + len(text) % 2))
    rules = [RoleRule.model_validate({"role": "cbct", "all": {keyword: {"min": 1e9}}}), *RULES]
    assert assess(write([file], tmp_path), rules).settlement.role == "planning_ct"


@pytest.mark.parametrize(
    ("stated", "body_parts"),
    [
        (["PELVIS", "PELVIS"], {"PELVIS"}),
        (["HEAD", "NECK"], {"HEAD", "NECK"}),
        (["HEAD", None], {"HEAD"}),
        ([["HEAD", "NECK"], ""], {"HEAD", "NECK"}),
        (["neck (low, site 2)", " "], {"neck (low, site 2)"}),
        (["A\0B", None], {"AB"}),
        ([None, ""], set()),
    ],
)
def test_body_parts_are_all_that_any_image_states(tmp_path: Path, stated: list[object], body_parts: set[str]) -> None:
    series = [with_elements(one, BodyPartExamined=part) for one, part in zip(ct_series(2), stated, strict=True)]
    settlement = assessed(series, tmp_path).settlement
    assert (settlement.state, set(settlement.body_parts)) == (WHOLE, body_parts)


def test_a_structure_set_may_state_a_body_part(tmp_path: Path) -> None:
    settlement = assessed([structure_set(ct_series(2), BodyPartExamined="PELVIS")], tmp_path).settlement
    assert settlement.body_parts == {"PELVIS"}


def test_a_broken_element_of_a_structure_set_hides_no_reference(tmp_path: Path) -> None:
    ct = ct_series(2)
    broken = encoded(structure_set(ct, PatientWeight="77")).replace(b"77", b"a!")
    assert len(assess(write([broken], tmp_path), RULES).settlement.links) == 4


def test_a_reference_too_long_for_a_uid_leads_nowhere(tmp_path: Path) -> None:
    long = structure_set([with_elements(ct_series(1)[0], FrameOfReferenceUID="1." * 50)])
    assert {kind for kind, _ in assessed([long], tmp_path).settlement.links} == {LinkKind.SERIES, LinkKind.INSTANCE}


def test_sequences_nested_without_end_are_not_followed(tmp_path: Path) -> None:
    nested = b""
    for _ in range(2000):
        item = b"\xfe\xff\x00\xe0" + len(nested).to_bytes(4, "little") + nested
        nested = b"\x08\x00\x10\x11SQ\0\0" + len(item).to_bytes(4, "little") + item
    image = ct_series(1)[0]
    settlement = assess(write([encoded(rt_plan(image)) + nested], tmp_path), RULES).settlement
    assert (settlement.state, settlement.links) == (WHOLE, frozenset({(LinkKind.INSTANCE, str(image.SOPInstanceUID))}))


SMALL = [
    encoded(one)
    for one in (ct_series(1)[0], structure_set(ct_series(2)), rt_dose(ct_series(1)[0]), projection_series(12)[3])
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(SMALL), st.lists(st.tuples(st.integers(144, 1100), st.binary(min_size=1, max_size=6)), max_size=4)
)
def test_whatever_was_stored_is_judged(tmp_path: Path, file: bytes, changes: list[tuple[int, bytes]]) -> None:
    changed = bytearray(file)
    for at, content in changes:
        changed[at : at + len(content)] = content
    assert assess(write([bytes(changed)], tmp_path), RULES).settlement.state in SeriesState


def send(node: RunningNode, series: Series, folder: Path) -> None:
    target = folder / generate_uid()
    assert set(send_files(write(series, target), node.address)) == {0x0000}


@pytest.fixture(scope="module")
def patient_node(scheduler: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A node that would wait for an hour where something seems to be missing."""
    settle = {"grace_s": 0.05, "quiet_s": 3600}
    with running_node(
        config_folder(tmp_path_factory.mktemp("patient"), {"engine": scheduler, "settle": settle})
    ) as one:
        yield one


@pytest.mark.req("NODE-03")
def test_a_whole_series_settles_without_waiting_for_quiet(patient_node: RunningNode, tmp_path: Path) -> None:
    series = ct_series(5)
    send(patient_node, [series[index] for index in (3, 0, 4, 1, 2)], tmp_path)
    assert patient_node.settled(series[0]).state == SeriesState.SETTLED


def test_a_series_does_not_settle_while_its_association_is_open(patient_node: RunningNode, tmp_path: Path) -> None:
    first, second = ct_series(3), ct_series(3)
    files = write(first, tmp_path)
    with associated(patient_node.address, {first[0].SOPClassUID: ["1.2.840.10008.1.2.1"]}) as association:
        assert [stored(association, file) for file in files] == [0x0000] * 3
        send(patient_node, second, tmp_path)
        patient_node.settled(second[0])
        assert patient_node.series(first[0]).state == SeriesState.RECEIVING
    assert patient_node.settled(first[0]).state == SeriesState.SETTLED


def test_a_series_split_over_associations_settles_when_all_that_is_announced_is_there(
    patient_node: RunningNode, tmp_path: Path
) -> None:
    series = ct_series(6, NumberOfSeriesRelatedInstances=6)
    for part in (series[:2], series[2:4], series[4:]):
        send(patient_node, part, tmp_path)
    settled = patient_node.settled(series[0])
    assert (settled.state, settled.revision) == (SeriesState.SETTLED, 1)


def test_a_rejected_series_is_known_at_once(patient_node: RunningNode, tmp_path: Path) -> None:
    series = one_with(2, ImagePositionPatient=[-10, -20, -30])()
    send(patient_node, series, tmp_path)
    settled = patient_node.settled(series[0])
    assert (settled.state, settled.reason) == ("rejected", "1 of 5 slices lie at the position of another slice")


def test_an_aborted_association_waits_for_the_rest(patient_node: RunningNode, tmp_path: Path) -> None:
    aborted, after = ct_series(4), ct_series(4)
    storescu(write(aborted, tmp_path / "aborted"), patient_node.address, "--abort")
    send(patient_node, after, tmp_path)
    patient_node.settled(after[0])
    assert patient_node.series(aborted[0]).state == SeriesState.RECEIVING


@pytest.mark.req("NODE-03")
def test_what_stays_incomplete_is_said_to_be_after_the_quiet_time(node: RunningNode, tmp_path: Path) -> None:
    series = ct_series(6)
    send(node, series[:2] + series[3:], tmp_path)
    settled = node.settled(series[0])
    assert (settled.state, settled.reason) == ("incomplete", "1 slice is missing: neighbours are 3 to 6 mm apart")


def test_an_aborted_series_that_is_whole_settles_after_the_quiet_time(node: RunningNode, tmp_path: Path) -> None:
    series = ct_series(4)
    storescu(write(series, tmp_path), node.address, "--abort")
    settled = node.settled(series[0])
    assert settled.state == SeriesState.SETTLED
    assert (settled.settled_at - settled.last_received_at).total_seconds() >= 1.0  # type: ignore[operator]


@pytest.mark.req("NODE-03")
def test_a_late_instance_opens_the_series_again(node: RunningNode, tmp_path: Path) -> None:
    series = ct_series(6)
    send(node, series[:5], tmp_path)
    assert node.settled(series[0]).state == SeriesState.SETTLED
    send(node, series[5:], tmp_path)
    assert (node.settled(series[0], revision=2).state, len(node.instances(series[0]))) == (SeriesState.SETTLED, 6)


def test_a_late_instance_fills_the_gap(node: RunningNode, tmp_path: Path) -> None:
    series = ct_series(6)
    send(node, series[:2] + series[3:], tmp_path)
    assert node.settled(series[0]).state == SeriesState.INCOMPLETE
    send(node, series[2:3], tmp_path)
    assert node.settled(series[0], revision=2).state == SeriesState.SETTLED


def test_a_resend_of_what_is_there_opens_nothing(node: RunningNode, tmp_path: Path) -> None:
    series, after = ct_series(3), ct_series(3)
    send(node, series, tmp_path)
    node.settled(series[0])
    send(node, series, tmp_path)
    send(node, after, tmp_path)
    node.settled(after[0])
    assert (node.series(series[0]).revision, node.series(series[0]).state) == (1, SeriesState.SETTLED)


def test_image_without_pixel_data_rejects_its_series(tmp_path: Path) -> None:
    series = ct_series(3)
    del series[1].PixelData
    found = assess(write(series, tmp_path), RULES)
    assert found.settlement.state is SeriesState.REJECTED
    assert found.settlement.reason == "An image has no pixel data"


def test_header_that_lies_about_its_pixel_data_rejects_its_series(tmp_path: Path) -> None:
    series = ct_series(3)
    for dataset in series:
        dataset.Rows += 1
    found = assess(write(series, tmp_path), RULES)
    assert found.settlement.reason == "The pixel data of an image are not as long as its header says"
