"""Audit messages over syslog: RFC 5424 frames by UDP (RFC 5426), TCP (RFC 6587, octets counted) or TLS (RFC 5425).

Syslog has no answers. By TCP and TLS the server closes its side after ours, which says that it has read to the end; by
UDP nobody learns of a loss.
"""

import contextlib
import re
import socket
import ssl
from collections.abc import Sequence

from node.audit.messages import MINOR_FAILURE, SUCCESS, Message
from node.audit.xml import moment
from node.connections import Syslog
from node.errors import DeliveryError

TIMEOUT_S = 5.0
FACILITY_AUTHPRIV = 10
NOTICE, WARNING, ERROR = 5, 4, 3
"""Facility and severities of RFC 5424 6.2.1."""
SEVERITY = {SUCCESS: NOTICE, MINOR_FAILURE: WARNING}
MESSAGE_ID = "DICOM+RFC3881"
"""MSGID of PS3.15 A.6."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LARGEST_DATAGRAM_BYTES = 65_507


def frame(message: Message, host_name: str) -> bytes:
    """One SYSLOG-MSG (RFC 5424 6); PROCID and structured data are nil."""
    priority = FACILITY_AUTHPRIV * 8 + SEVERITY.get(message.outcome, ERROR)
    header = f"<{priority}>1 {moment(message.event.at)} {_host(host_name)} rtnode - {MESSAGE_ID} - "
    return header.encode("ascii") + BYTE_ORDER_MARK + message.xml


def send(syslog: Syslog, messages: Sequence[Message], host_name: str) -> None:
    """Send messages in order.

    Raises
    ------
    DeliveryError
        If the server does not take them; some may have come all the same.
    """
    frames = [frame(message, host_name) for message in messages]
    try:
        if syslog.transport == "udp":
            _send_datagrams(syslog, frames)
        else:
            _send_stream(syslog, b"".join(b"%d %s" % (len(one), one) for one in frames))
    except OSError as error:
        raise DeliveryError(f"the syslog server of node.yaml does not take audit messages: {error}") from error


def _send_datagrams(syslog: Syslog, frames: Sequence[bytes]) -> None:
    (family, kind, protocol, _, address), *_ = socket.getaddrinfo(syslog.host, syslog.port, type=socket.SOCK_DGRAM)
    with socket.socket(family, kind, protocol) as sending:
        # Connected, so that a port where nobody listens is noticed at the next datagram.
        sending.connect(address)
        for one in frames:
            sending.send(one[:LARGEST_DATAGRAM_BYTES])


def _send_stream(syslog: Syslog, content: bytes) -> None:
    with contextlib.ExitStack() as stack:
        sending = stack.enter_context(socket.create_connection((syslog.host, syslog.port), TIMEOUT_S))
        if syslog.transport == "tls":
            # Leaving the block closes the wrapped socket, which has taken the plain one over.
            sending = stack.enter_context(syslog.context().wrap_socket(sending, server_hostname=syslog.host))
        sending.sendall(content)
        _wait_for_end(sending)


def _wait_for_end(sending: socket.socket) -> None:
    """Say that this was all, and wait until the server has closed its side: what it did not read, it can not lose."""
    # A server that leaves the connection open, or its close_notify away, has had its time to read.
    with contextlib.suppress(TimeoutError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
        if isinstance(sending, ssl.SSLSocket):
            sending.unwrap().close()
            return
        sending.shutdown(socket.SHUT_WR)
        while sending.recv(4096):
            pass


def _host(name: str) -> str:
    """HOSTNAME: printable ASCII, at most 255 characters; nil if nothing is left."""
    return re.sub(r"[^\x21-\x7e]", "", name)[:255] or "-"
