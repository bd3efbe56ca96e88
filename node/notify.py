"""Tells systemd how the service is (sd_notify(3)); silent where nobody listens."""

import os
import socket
from pathlib import Path


def notify(message: str) -> None:
    """Send a state such as `READY=1`, `WATCHDOG=1` or `STOPPING=1`."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    # An address with a leading @ is in the abstract name space.
    path = "\0" + address[1:] if address.startswith("@") else str(Path(address))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify_socket:
        notify_socket.sendto(message.encode(), path)


def watchdog_interval_s() -> float | None:
    """How often systemd wants to hear `WATCHDOG=1`, halved for safety; None if it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    return int(microseconds) / 2e6 if microseconds else None
