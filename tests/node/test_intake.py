"""The durable sink: what each instance is answered, and what lies on disk and in the ledger after it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)

from node.intake import Answer, Intake, Received
from node.ledger import Ledger
from node.ledger.schema import Instance, InstanceState, SeriesState
from node.ledger.series import Settlement
from node.retention import Retention
from node.storage import Storage, sha256_of
from tests.dicom_files import ct_series, encoded, rt_plan, structure_set, with_elements

# pydicom warns of what is broken here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SUCCESS = Answer(0x0000)
DUPLICATE = Answer(0x0111, "SOP Instance UID is taken by another content")
AT_ONCE_DAYS = 1e-9


class Receiver:
    """Intake, storage and ledger, and what came into them."""

    def __init__(self, folder: Path, ledger: Ledger, min_free_gib: float = 0.0) -> None:
        self.storage = Storage(folder / "state", min_free_gib)
        self.ledger = ledger
        self._intake = Intake(self.storage, ledger)

    def accept(self, file: bytes, of: Dataset, **command: Any) -> Answer:
        received = Received(file, str(of.SOPClassUID), str(of.SOPInstanceUID), ExplicitVRLittleEndian, "CONSOLE")
        answer = self._intake.accept(replace(received, **command))
        return replace(answer, series_instance_uid=None)

    def rows(self, of: Dataset) -> list[Instance]:
        series = self.ledger.series.of_patient(str(of.PatientID))
        return [row for one in series for row in self.ledger.series.instances(one.id)]

    def files(self, folder: str) -> list[Path]:
        return [path for path in (self.storage.root / folder).rglob("*") if path.is_file()]

    def everything(self) -> tuple[list[Path], dict[str, int], dict[str, int]]:
        files = [path for folder in ("incoming", "instances", "conflicts", "quarantine") for path in self.files(folder)]
        return files, self.ledger.series.counts(), self.ledger.series.set_aside_counts()


@pytest.fixture
def receiver(tmp_path: Path, ledger: Ledger) -> Receiver:
    return Receiver(tmp_path, ledger)


@pytest.fixture
def ct() -> Dataset:
    return ct_series(1)[0]


@pytest.mark.req("NODE-01")
def test_success_means_a_file_under_its_final_name_and_a_row(receiver: Receiver, ct: Dataset) -> None:
    file = encoded(ct)
    assert receiver.accept(file, ct) == SUCCESS
    [row] = receiver.rows(ct)
    assert receiver.storage.absolute(str(row.path)).read_bytes() == file
    assert (row.sha256, row.size_bytes, row.calling_ae_title) == (sha256_of(file), len(file), "CONSOLE")
    assert receiver.files("incoming") == []


@pytest.mark.req("NODE-02")
def test_the_same_instance_again_is_a_success_and_stored_once(receiver: Receiver, ct: Dataset) -> None:
    assert [receiver.accept(encoded(ct), ct) for _ in range(3)] == [SUCCESS] * 3
    assert (len(receiver.rows(ct)), len(receiver.files("instances")), receiver.files("incoming")) == (1, 1, [])


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless,
     JPEG2000Lossless],
    ids=lambda syntax: syntax.name,
)  # fmt: skip
def test_another_encoding_is_the_same_content(receiver: Receiver, ct: Dataset, syntax: UID) -> None:
    first = encoded(ct)
    assert receiver.accept(first, ct) == SUCCESS
    assert receiver.accept(encoded(ct, syntax), ct, transfer_syntax_uid=syntax) == SUCCESS
    assert [path.read_bytes() for path in receiver.files("instances")] == [first]
    assert receiver.files("conflicts") == []


def test_private_elements_and_sequences_of_unknown_length_are_the_same_content(receiver: Receiver) -> None:
    one = structure_set(ct_series(2))
    one.private_block(0x0011, "MADE UP", create=True).add_new(1, "LO", "text")
    other = with_elements(one, DataSetTrailingPadding=bytes(8))
    other["ReferencedFrameOfReferenceSequence"].is_undefined_length = True
    assert receiver.accept(encoded(one), one) == SUCCESS
    assert receiver.accept(encoded(other, ImplicitVRLittleEndian), one) == SUCCESS


def test_fragments_that_can_not_be_decoded_are_compared_as_they_are(receiver: Receiver, ct: Dataset) -> None:
    first = encoded(ct, JPEGLSLossless, TransferSyntaxUID=JPEGExtended12Bit)
    again = b"\1" * 128 + first[128:]
    assert [receiver.accept(first, ct), receiver.accept(again, ct)] == [SUCCESS, SUCCESS]


def test_an_instance_that_was_removed_after_its_time_is_stored_again(receiver: Receiver, ct: Dataset) -> None:
    receiver.accept(encoded(ct), ct)
    (series,) = receiver.ledger.series.all()
    assert receiver.ledger.series.settle(series, 1, Settlement(SeriesState.SETTLED, "planning_ct", None, frozenset()))
    Retention(AT_ONCE_DAYS, receiver.ledger, receiver.storage).remove_expired()
    assert [row.path for row in receiver.rows(ct)] == [None]
    assert receiver.files("instances") == []
    assert receiver.accept(encoded(ct), ct) == SUCCESS
    [row] = receiver.rows(ct)
    assert receiver.storage.absolute(str(row.path)).read_bytes() == encoded(ct)


@pytest.mark.parametrize(
    "changes", [{"PatientName": "Other^Name"}, {"PixelData": b"\1\0" * 32 * 32}, {"SeriesInstanceUID": "1.2.3"}]
)
@pytest.mark.req("NODE-02")
def test_another_content_is_kept_aside_and_the_first_stays(
    receiver: Receiver, ct: Dataset, changes: dict[str, object]
) -> None:
    first, other = encoded(ct), encoded(with_elements(ct, **changes))
    assert [receiver.accept(first, ct), receiver.accept(other, ct)] == [SUCCESS, DUPLICATE]
    assert [path.read_bytes() for path in receiver.files("instances")] == [first]
    assert [path.read_bytes() for path in receiver.files("conflicts")] == [other]
    assert receiver.ledger.series.set_aside_counts() == {InstanceState.CONFLICT: 1}


def test_a_conflict_is_no_part_of_the_series(receiver: Receiver, ct: Dataset) -> None:
    receiver.accept(encoded(ct), ct)
    receiver.accept(encoded(with_elements(ct, PatientName="Other^Name")), ct)
    assert [row.state for row in receiver.rows(ct)] == [InstanceState.RECEIVED]


def test_pixels_that_can_not_be_decoded_are_another_content(receiver: Receiver, ct: Dataset) -> None:
    compressed = encoded(ct, JPEG2000Lossless)
    assert receiver.accept(compressed, ct) == SUCCESS
    broken = compressed[:-60] + bytes(40) + compressed[-20:]
    assert receiver.accept(broken, ct) == DUPLICATE


def _without(keyword: str) -> Callable[[Dataset], Dataset]:
    return lambda dataset: with_elements(dataset, **{keyword: None})


def _with(keyword: str, value: str) -> Callable[[Dataset], Dataset]:
    return lambda dataset: with_elements(dataset, **{keyword: value})


@pytest.mark.parametrize(
    ("change", "comment"),
    [
        (_without("StudyInstanceUID"), "StudyInstanceUID is absent or no valid UID"),
        (_without("SeriesInstanceUID"), "SeriesInstanceUID is absent or no valid UID"),
        (_without("SOPInstanceUID"), "SOPInstanceUID is absent or no valid UID"),
        (_with("SOPInstanceUID", "../../etc/passwd"), "SOPInstanceUID is absent or no valid UID"),
        (_with("SeriesInstanceUID", "1.2/../../3"), "SeriesInstanceUID is absent or no valid UID"),
        (_with("StudyInstanceUID", "1." + "2" * 68), "StudyInstanceUID is absent or no valid UID"),
        (_with("SeriesInstanceUID", ""), "SeriesInstanceUID is absent or no valid UID"),
        (_with("SeriesInstanceUID", "1.02.3"), "SeriesInstanceUID is absent or no valid UID"),
    ],
)
def test_a_uid_that_is_none_is_not_understood(
    receiver: Receiver, ct: Dataset, change: Callable[[Dataset], Dataset], comment: str
) -> None:
    file = encoded(change(ct), MediaStorageSOPInstanceUID="1.2.3")
    assert receiver.accept(file, ct) == Answer(0xC000, comment)
    assert [path.read_bytes() for path in receiver.files("quarantine")] == [file]
    assert receiver.ledger.series.set_aside_counts() == {InstanceState.QUARANTINED: 1}


@pytest.mark.parametrize(
    ("command", "comment"),
    [
        ({"affected_sop_instance_uid": "1.2.3"}, "SOP Instance UID of command and data set differ"),
        ({"affected_sop_class_uid": MRImageStorage}, "SOP Class UID of command and data set differ"),
    ],
)
def test_a_command_about_another_instance_does_not_match(
    receiver: Receiver, ct: Dataset, command: dict[str, str], comment: str
) -> None:
    assert receiver.accept(encoded(ct), ct, **command) == Answer(0xA900, comment)
    assert (len(receiver.files("quarantine")), receiver.files("instances")) == (1, [])


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(4096), b"\xff" * 4096], ids=repr)
def test_garbage_is_quarantined(receiver: Receiver, ct: Dataset, content: bytes) -> None:
    assert receiver.accept(content, ct).status == 0xC000
    assert [path.read_bytes() for path in receiver.files("quarantine")] == [content]


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless]
)
def test_no_cut_through_an_image_goes_unnoticed(tmp_path: Path, ct: Dataset, syntax: UID) -> None:
    receiver = Receiver(tmp_path, Ledger(f"sqlite:///{tmp_path}/ledger.sqlite3"))
    file = encoded(ct, syntax)
    cuts = [*range(len(file) - 900, len(file) - 4, 31), *range(len(file) - 40, len(file) - 4)]
    assert {receiver.accept(file[:cut], ct).status for cut in cuts} == {0xC000}


def test_a_cut_through_the_header_of_an_element_does_not_go_unnoticed(receiver: Receiver, ct: Dataset) -> None:
    file = encoded(ct)
    cuts = [len(file) - len(ct.PixelData) - left for left in range(1, 12)]
    assert {receiver.accept(file[:cut], ct).status for cut in cuts} == {0xC000}


def test_a_cut_through_a_sequence_does_not_go_unnoticed(receiver: Receiver) -> None:
    structures = structure_set(ct_series(2))
    assert receiver.accept(encoded(structures)[:-9], structures).status == 0xC000


def test_padding_behind_the_data_set_is_no_fault(receiver: Receiver, ct: Dataset) -> None:
    assert receiver.accept(encoded(ct) + bytes(5), ct) == SUCCESS


def test_below_the_floor_nothing_is_stored(tmp_path: Path, ledger: Ledger, ct: Dataset) -> None:
    full = Receiver(tmp_path, ledger, min_free_gib=1e9)
    assert full.accept(encoded(ct), ct) == Answer(0xA700, "not stored: out of resources")
    assert full.everything() == ([], {}, {})


def test_a_disk_that_fails_is_answered_out_of_resources(receiver: Receiver, ct: Dataset) -> None:
    (receiver.storage.root / "incoming").rmdir()
    assert receiver.accept(encoded(ct), ct) == Answer(0xA700, "not stored: out of resources")
    assert receiver.everything() == ([], {}, {})


def test_a_final_folder_that_can_not_be_made_leaves_no_row(receiver: Receiver, ct: Dataset) -> None:
    instances = receiver.storage.root / "instances"
    instances.rmdir()
    instances.touch()  # a file where the folder should be
    assert receiver.accept(encoded(ct), ct) == Answer(0xA700, "not stored: out of resources")
    assert receiver.everything() == ([], {}, {})


def test_a_ledger_that_fails_is_answered_out_of_resources(receiver: Receiver, ct: Dataset) -> None:
    with receiver.ledger._database.write() as session:
        session.connection().exec_driver_sql("DROP TABLE links")
        session.connection().exec_driver_sql("ALTER TABLE instances RENAME TO gone")
    assert receiver.accept(encoded(ct), ct) == Answer(0xA700, "not stored: out of resources")


def test_a_zero_byte_in_an_identifier_hurts_nobody(receiver: Receiver, ct: Dataset) -> None:
    file = encoded(with_elements(ct, PatientID="A_B")).replace(b"A_B ", b"A\0B ")
    assert receiver.accept(file, ct) == SUCCESS


SMALL = [ct_series(1)[0], structure_set(ct_series(2)), rt_plan(structure_set(ct_series(1)))]
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
VALID = [(encoded(one, syntax), one) for one in SMALL for syntax in SYNTAXES]


@st.composite
def mutated(draw: st.DrawFn) -> tuple[bytes, Dataset]:
    """A valid file with bytes changed, a part cut out or a part repeated, mostly behind the preamble."""
    file, dataset = draw(st.sampled_from(VALID))
    changed = bytearray(file)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(128, len(changed)))
        length = draw(st.integers(0, 12))
        changed[at : at + length] = draw(st.binary(max_size=12))
    return bytes(changed), dataset


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Receiver:
    folder = tmp_path_factory.mktemp("fuzzed")
    return Receiver(folder, Ledger(f"sqlite:///{folder}/ledger.sqlite3"))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutated())
@pytest.mark.req("NODE-09")
def test_whatever_comes_gets_an_answer_and_leaves_nothing_half_stored(
    fuzzed: Receiver, sent: tuple[bytes, Dataset]
) -> None:
    file, dataset = sent
    before, _, _ = fuzzed.everything()
    answer = fuzzed.accept(file, dataset)
    after, _, _ = fuzzed.everything()
    assert answer.status in (0x0000, 0x0111, 0xA900, 0xC000)
    new = {path.parent.name: path.read_bytes() for path in set(after) - set(before)}
    assert all(content == file for content in new.values()) and fuzzed.files("incoming") == []
    assert answer.status == 0x0000 or set(new) <= {"conflicts", "quarantine"}
