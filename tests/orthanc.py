"""A real Orthanc, on free ports of loopback, as an ordinary user."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from pydicom import Dataset, dcmread

from node.config import Peer
from tests.waiting import wait_until

AE_TITLE = "ORTHANC"
START_S = 60.0


@dataclass
class Orthanc:
    """A running Orthanc; its modalities are the Application Entities that it knows."""

    dicom_port: int
    http_port: int

    def peer(self, **changes: Any) -> Peer:
        """Orthanc as the node's configuration has it."""
        return Peer(ae_title=AE_TITLE, host="127.0.0.1", port=self.dicom_port, **changes)

    def know(self, name: str, ae_title: str, address: tuple[str, int]) -> None:
        """Tell it of an Application Entity."""
        body = {"AET": ae_title, "Host": address[0], "Port": address[1]}
        self._request(f"/modalities/{name}", "PUT", json.dumps(body).encode())

    def upload(self, file: Path) -> None:
        """Put a file into it, past DICOM."""
        self._request("/instances", "POST", file.read_bytes())

    def datasets(self) -> list[Dataset]:
        """Everything that it has stored."""
        ids = json.loads(self._request("/instances"))
        folder = Path(tempfile.mkdtemp(prefix="rtnode-orthanc-"))
        try:
            return [self._dataset(one, folder / f"{one}.dcm") for one in ids]
        finally:
            shutil.rmtree(folder)

    def tags(self) -> list[Mapping[str, Any]]:
        """What it reads in everything that it has stored, by keyword."""
        ids = json.loads(self._request("/instances"))
        return [json.loads(self._request(f"/instances/{one}/simplified-tags")) for one in ids]

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            self._request("/system")
        except (URLError, OSError):
            return False
        return True

    def _dataset(self, instance_id: str, path: Path) -> Dataset:
        path.write_bytes(self._request(f"/instances/{instance_id}/file"))
        return dcmread(path)

    def _request(self, path: str, method: str = "GET", body: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", body, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return bytes(response.read())


@contextmanager
def orthanc(modalities: Mapping[str, tuple[str, int]]) -> Iterator[Orthanc]:
    """An empty Orthanc that knows these Application Entities, by AE title; the test is skipped where there is none."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None:
        pytest.skip("Orthanc is not installed")
    folder = Path(tempfile.mkdtemp(prefix="rtnode-orthanc-"))
    # Orthanc can not tell which port it took, so two are kept bound until just before it starts.
    dicom, http = _bound(), _bound()
    one = Orthanc(dicom.getsockname()[1], http.getsockname()[1])
    configuration = _configuration(folder, one, modalities)
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
        as_user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    dicom.close()
    http.close()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, configuration], stdout=log, stderr=log, cwd=folder, **as_user)
    try:
        wait_until(lambda: one.answers() or process.poll() is not None, START_S, "Orthanc listens")
        assert process.poll() is None, (folder / "log").read_text()
        yield one
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(folder)


def _bound() -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", 0))
    return one


def _configuration(folder: Path, one: Orthanc, modalities: Mapping[str, tuple[str, int]]) -> Path:
    content = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": AE_TITLE,
        "DicomPort": one.dicom_port,
        "HttpPort": one.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": True,
        "DicomModalities": {name: [name, *address] for name, address in modalities.items()},
        "OverwriteInstances": True,
        "Plugins": [],
        "StableAge": 1,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(content))
    return path
