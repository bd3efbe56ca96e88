"""A syslog server on a free port, that takes RFC 5424 frames strictly: by UDP, TCP with counted octets, or TLS."""

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, fromstring

FRAME = re.compile(
    rb"<(?P<priority>[1-9]?\d?\d)>1 (?P<timestamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) (?P<host>[!-~]{1,255}) "
    rb"(?P<app>[!-~]{1,48}) (?P<process>[!-~]{1,128}) (?P<message_id>[!-~]{1,32}) (?P<data>-) "
    rb"\xef\xbb\xbf(?P<content><\?xml.*)",
    re.DOTALL,
)
"""SYSLOG-MSG with MSG-UTF8 (RFC 5424 6)."""
COUNTED = re.compile(rb"([1-9]\d*) ")
"""MSG-LEN SP (RFC 6587 3.4.1)."""


@dataclass
class SyslogServer:
    """What has come, and whether it is taken."""

    transport: str
    context: ssl.SSLContext | None = None
    frames: list[bytes] = field(default_factory=list)
    connections: int = 0
    resets_first: int = 0
    """How many connections are reset before they are read."""

    def __post_init__(self) -> None:
        kind = socket.SOCK_DGRAM if self.transport == "udp" else socket.SOCK_STREAM
        self.socket = socket.socket(type=kind)
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._datagrams if self.transport == "udp" else self._streams)

    def start(self) -> None:
        """Take what comes from now on; before it, connections are refused."""
        if self.transport != "udp":
            self.socket.listen()
        self._thread.start()

    def stop(self) -> None:
        """End, and give the port back."""
        if self._thread.is_alive():
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self._thread.join()
        self.socket.close()

    @property
    def messages(self) -> list[Element]:
        """What the frames hold; AssertionError for one that is none of RFC 5424."""
        return [fromstring(parsed(frame)["content"]) for frame in list(self.frames)]

    def _datagrams(self) -> None:
        with suppress(OSError):
            while frame := self.socket.recv(65_536):
                self.frames.append(frame)

    def _streams(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.connections += 1
                self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        if self.connections <= self.resets_first:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
            return
        with suppress(ssl.SSLError):
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            content = b"".join(iter(lambda: connection.recv(65_536), b""))
            self.frames += counted(content)
        connection.close()


def counted(content: bytes) -> list[bytes]:
    """The frames of a stream; AssertionError where a count is wrong."""
    frames = []
    while content:
        count = COUNTED.match(content)
        assert count, content[:40]
        end = count.end() + int(count[1])
        assert len(content) >= end, "a frame is cut off"
        frames.append(content[count.end() : end])
        content = content[end:]
    return frames


def parsed(frame: bytes) -> dict[str, str]:
    """The fields of a frame."""
    match = FRAME.fullmatch(frame)
    assert match, frame[:200]
    return {name: value.decode() for name, value in match.groupdict().items()}


@contextmanager
def syslog_server(transport: str, context: ssl.SSLContext | None = None) -> Iterator[SyslogServer]:
    """A server that takes what comes."""
    server = SyslogServer(transport, context)
    server.start()
    try:
        yield server
    finally:
        server.stop()
