"""The node as requestor: what each answer of a peer means for a delivery."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RTStructureSetStorage,
)

from node import scu as scu_module
from node.config import Peer
from node.errors import DeliveryError, PeerRefused
from node.scu import Outgoing, Scu
from tests.pacs import Faults, Pacs, Rejection, pacs
from tests.pipelines.made import ct_series, write

Answers = list[tuple[str, int]]


@pytest.fixture
def series(tmp_path: Path) -> list[Dataset]:
    return ct_series()


@pytest.fixture
def outgoing(series: list[Dataset], tmp_path: Path) -> list[Outgoing]:
    return written(series, tmp_path)


@pytest.fixture
def peer() -> Iterator[Pacs]:
    with pacs() as one:
        yield one


def written(series: list[Dataset], folder: Path, syntax: UID = ExplicitVRLittleEndian) -> list[Outgoing]:
    paths = write(series, folder, syntax)[::-1]
    return [Outgoing(CTImageStorage, one.SOPInstanceUID, syntax, path) for one, path in zip(series, paths, strict=True)]


def sent(to: Pacs, instances: list[Outgoing]) -> Answers:
    answers: Answers = []
    Scu("RTNODE").send(to.peer(), instances, lambda one, status: answers.append((one.sop_instance_uid, status)))
    return answers


def test_a_series_arrives_whole_over_one_association(
    series: list[Dataset], outgoing: list[Outgoing], peer: Pacs
) -> None:
    answers = sent(peer, outgoing)
    assert answers == [(one.SOPInstanceUID, 0x0000) for one in series]
    (association,) = peer.associations
    assert association.datasets == series
    assert (association.calling_ae_title, association.ending) == ("RTNODE", "released")


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_a_warning_of_the_standard_means_stored(outgoing: list[Outgoing], status: int) -> None:
    with pacs(Faults(statuses=[0x0000, status])) as peer:
        assert [answer for _, answer in sent(peer, outgoing)] == [0x0000, status, 0x0000, 0x0000, 0x0000]


@pytest.mark.parametrize("status", [0xA700, 0xA702, 0x0110, 0x0211])
def test_a_passing_trouble_of_the_peer_may_be_tried_again(outgoing: list[Outgoing], status: int) -> None:
    with pacs(Faults(statuses=[0x0000, status])) as peer, pytest.raises(DeliveryError, match=f"0x{status:04X}"):
        sent(peer, outgoing)


@pytest.mark.parametrize("status", [0xC000, 0xC123, 0x0122, 0x0124, 0xA900])
def test_a_refusal_that_will_not_change_is_said_as_such(outgoing: list[Outgoing], status: int) -> None:
    with pacs(Faults(statuses=[status])) as peer, pytest.raises(PeerRefused, match=f"0x{status:04X}"):
        sent(peer, outgoing)


def test_nothing_more_is_sent_after_an_instance_that_was_not_taken(outgoing: list[Outgoing]) -> None:
    answers: Answers = []
    with pacs(Faults(statuses=[0x0000, 0xA700])) as peer:
        with pytest.raises(DeliveryError):
            Scu("RTNODE").send(peer.peer(), outgoing, lambda one, status: answers.append((one.path.name, status)))
        assert answers == [("000.dcm", 0x0000), ("001.dcm", 0xA700)]
        assert len(peer.associations[0].datasets) == 2


@pytest.mark.parametrize(
    ("rejection", "error"), [(Rejection.PERMANENT, PeerRefused), (Rejection.TRANSIENT, DeliveryError)]
)
def test_a_rejected_association_is_final_only_if_the_peer_says_so(
    outgoing: list[Outgoing], rejection: Rejection, error: type[Exception]
) -> None:
    with pacs(Faults(rejections=[rejection])) as peer, pytest.raises(error, match="rejects the association"):
        sent(peer, outgoing)


def test_an_association_aborted_in_the_middle_may_be_tried_again(outgoing: list[Outgoing]) -> None:
    with pacs(Faults(abort_after=[2])) as peer, pytest.raises(DeliveryError):
        sent(peer, outgoing)
    assert len(peer.associations[0].datasets) == 2


def test_a_peer_that_does_not_listen_may_listen_later(outgoing: list[Outgoing]) -> None:
    peer = Pacs()
    with pytest.raises(DeliveryError, match="can not be reached"):
        sent(peer, outgoing)
    peer.close()


def test_a_peer_that_answers_with_something_else_than_dicom_may_do_so_later(outgoing: list[Outgoing]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = Peer(ae_title="WEB", host="127.0.0.1", port=server.getsockname()[1])
        server.settimeout(10)
        answer = threading.Thread(target=lambda: server.accept()[0].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        answer.start()
        with pytest.raises(DeliveryError):
            Scu("RTNODE").echo(peer)
        answer.join()


def test_a_peer_that_stalls_is_left_after_the_time_for_an_answer(
    outgoing: list[Outgoing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scu_module, "ANSWER_TIMEOUT_S", 0.5)
    with pacs(Faults(stalls=[False, True])) as peer, pytest.raises(DeliveryError, match="did not answer"):
        sent(peer, outgoing)


def test_a_peer_that_speaks_only_implicit_vr_gets_it(series: list[Dataset], outgoing: list[Outgoing]) -> None:
    with pacs(syntaxes=[ImplicitVRLittleEndian]) as peer:
        sent(peer, outgoing)
        assert peer.datasets == series
        assert {one.file_meta.TransferSyntaxUID for one in peer.datasets} == {ImplicitVRLittleEndian}


def test_a_peer_that_does_not_take_the_sop_class_has_refused(outgoing: list[Outgoing]) -> None:
    with (
        pacs(takes=[RTStructureSetStorage]) as peer,
        pytest.raises(PeerRefused, match="does not accept CT Image Storage"),
    ):
        sent(peer, outgoing)


def test_what_is_compressed_goes_compressed_or_not_at_all(series: list[Dataset], tmp_path: Path, peer: Pacs) -> None:
    outgoing = written(series, tmp_path, JPEGLSLossless)
    with pytest.raises(PeerRefused, match="in this transfer syntax"):
        sent(peer, outgoing)
    with pacs(syntaxes=[JPEGLSLossless]) as taker:
        sent(taker, outgoing)
        assert {one.file_meta.TransferSyntaxUID for one in taker.datasets} == {JPEGLSLossless}


def test_echo_is_answered(peer: Pacs) -> None:
    Scu("RTNODE").echo(peer.peer())
