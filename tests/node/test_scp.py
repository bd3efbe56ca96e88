"""The node's port: who may connect, and what each peer is told, by programs that no one here wrote."""

import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)

from node.ledger.schema import InstanceState, SeriesState
from node.sop_classes import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES
from tests.dicom_files import ct_series, data_set, encoded, instance, with_elements, write
from tests.peers import (
    RunningNode,
    associated,
    config_folder,
    echo_status,
    echoscu,
    running_node,
    send_encoded,
    send_files,
    storescu,
)

# pydicom warns of what is broken here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

PRIVATE_SOP_CLASS = "1.2.826.0.1.3680043.10.99999.5"
EMPTY = encoded(Dataset(), MediaStorageSOPClassUID=CTImageStorage, MediaStorageSOPInstanceUID="1.2.3")
CODED_BY_PYDICOM = {syntax for syntax in TRANSFER_SYNTAXES if not syntax.is_encapsulated} | {
    RLELossless,
    JPEGLSLossless,
}


@pytest.fixture
def ct() -> Dataset:
    return ct_series(1)[0]


def test_dcmtk_gets_an_echo(node: RunningNode) -> None:
    said = echoscu(node.address)
    assert (said.returncode, "Received Echo Response (Success)" in said.stdout) == (0, True)


def test_pynetdicom_gets_an_echo(node: RunningNode) -> None:
    assert echo_status(node.address) == 0x0000


def test_what_dcmtk_was_told_is_stored_is_in_ledger_and_storage(node: RunningNode, tmp_path: Path) -> None:
    series = ct_series(4)
    said = storescu(write(series, tmp_path), node.address, "-xe", "-R")
    assert (said.returncode, said.stdout.count("Received Store Response (Success)")) == (0, 4)
    assert [node.stored(dataset)[-2048:] for dataset in series] == [dataset.PixelData for dataset in series]
    assert {row.state for row in node.instances(series[0])} == {InstanceState.RECEIVED}
    assert node.settled(series[0]).state == SeriesState.SETTLED


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [
        ("STRANGER", "RTNODE", "Calling AE Title Not Recognized"),
        ("ELSEWHERE", "RTNODE", "Calling AE Title Not Recognized"),
        ("CONSOLE", "OTHERNODE", "Called AE Title Not Recognized"),
    ],
)
def test_who_is_not_known_or_wants_another_node_is_rejected(
    node: RunningNode, calling: str, called: str, reason: str
) -> None:
    said = echoscu(node.address, calling=calling, called=called)
    assert (said.returncode != 0, reason in said.stdout) == (True, True), said.stdout
    assert echo_status(node.address, calling, called) is None


def test_a_known_peer_without_the_right_may_echo_but_not_store(node: RunningNode, ct: Dataset, tmp_path: Path) -> None:
    assert echo_status(node.address, "VIEWER") == 0x0000
    assert send_encoded([encoded(ct)], tmp_path, node.address, "VIEWER") == [0x0124]
    assert not node.has(ct)


def test_a_right_belongs_to_the_address_not_to_the_name_alone(scheduler: str, tmp_path: Path, ct: Dataset) -> None:
    here = {"ae_title": "CONSOLE", "host": "127.0.0.1", "port": 104, "may": ["echo"]}
    there = {"ae_title": "CONSOLE", "host": "192.0.2.1", "port": 104, "may": ["echo", "store"]}
    config = config_folder(tmp_path, {"engine": scheduler}, peers={"HERE": here, "THERE": there})
    with running_node(config) as strict:
        assert send_encoded([encoded(ct)], tmp_path, strict.address) == [0x0124]


def test_anyone_may_store_where_the_site_says_so(scheduler: str, tmp_path: Path, ct: Dataset) -> None:
    config = config_folder(tmp_path, {"engine": scheduler, "accept_unknown_peers": True}, peers={})
    with running_node(config) as open_node:
        assert send_encoded([encoded(ct)], tmp_path, open_node.address, "STRANGER") == [0x0000]


@pytest.mark.parametrize(
    ("broken", "status"),
    [
        (lambda ct: encoded(with_elements(ct, SeriesInstanceUID="1/../2")), 0xC000),
        (lambda ct: encoded(with_elements(ct, StudyInstanceUID="1." + "2" * 68)), 0xC000),
        (lambda ct: encoded(with_elements(ct, SOPInstanceUID=""), MediaStorageSOPInstanceUID="1.2.3"), 0xC000),
        (lambda ct: encoded(ct, MediaStorageSOPInstanceUID="1.2.3.4"), 0xA900),
        (lambda ct: encoded(ct, MediaStorageSOPClassUID=MRImageStorage), 0xA900),
        (lambda ct: encoded(ct)[:-101], 0xC000),
        (lambda ct: encoded(ct, RLELossless)[:-101], 0xC000),
        (lambda ct: EMPTY + b"garbage", 0xC000),
        (lambda ct: EMPTY + bytes(8), 0xC000),
    ],
    ids=["slash", "70 characters", "empty", "other instance", "other class", "truncated", "truncated RLE", "garbage",
         "zeros"],
)  # fmt: skip
@pytest.mark.req("NODE-09")
def test_what_is_broken_is_refused_and_the_next_study_passes(
    node: RunningNode, ct: Dataset, tmp_path: Path, broken: Callable[[Dataset], bytes], status: int
) -> None:
    before = len(node.files("quarantine"))
    assert send_encoded([broken(ct), encoded(ct)], tmp_path, node.address) == [status, 0x0000]
    assert len(node.files("quarantine")) == before + 1
    assert node.settled(ct).state == SeriesState.SETTLED


def test_an_empty_data_set_is_refused_and_the_next_study_passes(node: RunningNode, ct: Dataset, tmp_path: Path) -> None:
    assert send_encoded([EMPTY, encoded(ct)], tmp_path, node.address) == [0xC000, 0x0000]


@pytest.mark.req("NODE-02")
def test_another_content_under_the_same_uid_is_a_duplicate(node: RunningNode, ct: Dataset, tmp_path: Path) -> None:
    other = with_elements(ct, PatientName="Other^Name")
    assert send_encoded([encoded(ct), encoded(other), encoded(ct)], tmp_path, node.address) == [0, 0x0111, 0]
    assert node.stored(ct).endswith(ct.PixelData)
    assert data_set(encoded(other)) in [data_set(path.read_bytes()) for path in node.files("conflicts")]


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, JPEGLSLossless], ids=lambda one: one.name
)
def test_a_resend_in_another_encoding_is_no_conflict(
    node: RunningNode, ct: Dataset, tmp_path: Path, syntax: UID
) -> None:
    assert send_encoded([encoded(ct), encoded(ct, syntax)], tmp_path, node.address) == [0x0000, 0x0000]
    assert len(node.instances(ct)) == 1


@pytest.mark.parametrize("subject", STORAGE_SOP_CLASSES)
def test_every_sop_class_of_the_table_is_stored(node: RunningNode, tmp_path: Path, subject: str) -> None:
    instances = [instance(sop_class) for sop_class in STORAGE_SOP_CLASSES[subject]]
    assert send_files(write(instances, tmp_path), node.address) == [0x0000] * len(instances)
    assert [node.instances(one)[0].sop_class_uid for one in instances] == list(STORAGE_SOP_CLASSES[subject])


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES, ids=lambda syntax: syntax.name)
def test_every_transfer_syntax_is_stored_byte_for_byte(
    node: RunningNode, ct: Dataset, tmp_path: Path, syntax: UID
) -> None:
    file = encoded(ct, syntax) if syntax in CODED_BY_PYDICOM else encapsulated(ct, syntax)
    assert send_encoded([file], tmp_path, node.address) == [0x0000]
    assert data_set(node.stored(ct)) == data_set(file)
    assert node.instances(ct)[0].transfer_syntax_uid == syntax


def encapsulated(dataset: Dataset, syntax: UID) -> bytes:
    """A file whose fragments claim to be of a syntax that nothing here can encode; the node never looks."""
    header = encoded(with_elements(dataset, PixelData=None), TransferSyntaxUID=syntax)
    start, end = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff", b"\xfe\xff\xdd\xe0\0\0\0\0"
    return header + start + encapsulate([b"coded"]) + end


def test_an_unknown_sop_class_is_not_accepted(node: RunningNode) -> None:
    with associated(
        node.address, {PRIVATE_SOP_CLASS: [ExplicitVRLittleEndian], CTImageStorage: TRANSFER_SYNTAXES}
    ) as one:
        assert {context.abstract_syntax for context in one.accepted_contexts} == {CTImageStorage}


def test_a_sop_class_of_the_configuration_is_stored(scheduler: str, tmp_path: Path) -> None:
    private = instance(PRIVATE_SOP_CLASS)
    config = config_folder(tmp_path, {"engine": scheduler, "accept_sop_classes": [PRIVATE_SOP_CLASS]})
    with running_node(config) as configured:
        assert send_encoded([encoded(private)], tmp_path, configured.address) == [0x0000]


def test_many_associations_at_once_lose_nothing(node: RunningNode, tmp_path: Path) -> None:
    all_series = [ct_series(8) for _ in range(4)]
    folders = [write(series, tmp_path / str(index)) for index, series in enumerate(all_series)]
    with ThreadPoolExecutor(4) as threads:
        codes = list(threads.map(lambda files: storescu(files, node.address).returncode, folders))
    assert codes == [0] * 4
    assert [(node.settled(one[0]).state, len(node.instances(one[0]))) for one in all_series] == [("settled", 8)] * 4
    assert node.node.ledger.events.first_broken() is None


def test_a_connection_that_says_nothing_keeps_nobody_waiting(node: RunningNode) -> None:
    with socket.create_connection(node.address), socket.create_connection(node.address) as talker:
        talker.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert echo_status(node.address) == 0x0000


class Pki:
    """A certificate authority of the test, and files with certificates that it has issued."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.folder = folder
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, authority: trustme.CA | None = None) -> tuple[Path, Path]:
        """Certificate and key."""
        issued = (authority or self.authority).issue_cert("127.0.0.1", common_name=name)
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    def client(self, certificate: tuple[Path, Path] | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        if certificate:
            context.load_cert_chain(*certificate)
        return context


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def tls_node(scheduler: str, pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    certificate, key = pki.issue("node")
    tls = {"certificate": str(certificate), "key": str(key), "ca": str(pki.ca)}
    with running_node(config_folder(tmp_path_factory.mktemp("tls"), {"engine": scheduler, "tls": tls})) as running:
        yield running


def tls_echo(node: RunningNode, context: ssl.SSLContext | None) -> bool:
    with associated(node.address, {CTImageStorage: [ExplicitVRLittleEndian]}, tls=context) as association:
        return association.is_established


def test_a_peer_with_a_certificate_may_connect_over_tls(tls_node: RunningNode, pki: Pki) -> None:
    assert tls_echo(tls_node, pki.client(pki.issue("console")))


def test_a_peer_without_a_trusted_certificate_may_not(tls_node: RunningNode, pki: Pki) -> None:
    assert not tls_echo(tls_node, pki.client(None))
    assert not tls_echo(tls_node, pki.client(pki.issue("forged", trustme.CA())))
    assert not tls_echo(tls_node, None)


def test_dcmtk_stores_over_tls(tls_node: RunningNode, pki: Pki, ct: Dataset, tmp_path: Path) -> None:
    certificate, key = pki.issue("dcmtk")
    said = storescu(
        write([ct], tmp_path), tls_node.address, "+tls", str(key), str(certificate), "+cf", str(pki.ca), "-R"
    )
    assert (said.returncode, tls_node.settled(ct).state) == (0, SeriesState.SETTLED), said.stdout


def test_a_stalled_handshake_keeps_no_other_peer_waiting(tls_node: RunningNode, pki: Pki) -> None:
    with socket.create_connection(tls_node.address), socket.create_connection(tls_node.address):
        assert tls_echo(tls_node, pki.client(pki.issue("quick")))


def test_aborting_in_the_middle_keeps_what_was_acknowledged(node: RunningNode, tmp_path: Path) -> None:
    series = ct_series(3)
    said = storescu(write(series[:2], tmp_path), node.address, "--abort")
    assert said.stdout.count("Received Store Response (Success)") == len(node.instances(series[0])) == 2


def test_a_killed_sender_leaves_the_node_well(node: RunningNode, ct: Dataset, tmp_path: Path) -> None:
    files = write(ct_series(30), tmp_path)
    command = ["storescu", "-aet", "CONSOLE", "-aec", "RTNODE", node.address[0], str(node.address[1]), *map(str, files)]
    with subprocess.Popen(command) as sender:
        sender.kill()
    assert send_encoded([encoded(ct)], tmp_path, node.address) == [0x0000]
