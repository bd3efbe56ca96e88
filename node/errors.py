"""The errors of the node, and the exit status of a configuration that can not be used.

NodeError
├── ConfigError       at start: exit 78, file and key named
├── StorageFull       while storing: answered 0xA700
├── LedgerError       the database failed: an instance is answered 0xA700, all else is tried again
├── DeliveryError     while sending: tried again, with growing waits
└── PeerRefused       while sending: not tried again, a person has to look
"""

from pathlib import Path

EX_CONFIG = 78
"""Exit status for a configuration error (sysexits.h)."""


class NodeError(Exception):
    """Something that the node names, answers and goes on from."""


class ConfigError(NodeError):
    """The configuration can not be used; names the file and the key."""

    def __init__(self, path: Path, key: str, reason: str) -> None:
        super().__init__(f"{path}: {key}: {reason}" if key else f"{path}: {reason}")
        self.path = path
        self.key = key
        self.reason = reason


class StorageFull(NodeError):
    """Less free space than the floor that the site set; nothing is deleted to make room."""


class LedgerError(NodeError):
    """The database of the ledger can not be reached, or did not take a change; nothing was changed."""


class DeliveryError(NodeError):
    """Not delivered now; another attempt may succeed."""


class PeerRefused(NodeError):
    """The peer will not take this, however often it is sent."""
