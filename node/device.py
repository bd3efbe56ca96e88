"""Which device made a series, as its headers state it; it names a machine, never a person."""

from collections.abc import Iterable
from pathlib import Path

from pydicom.tag import Tag

from node.headers import UnreadableInstance, read_header, text_of

_STATED = ("Manufacturer", "ManufacturerModelName", "StationName", "DeviceSerialNumber")
"""PS3.3 C.7.5.1 General Equipment."""
UNKNOWN = "not stated"
_LONGEST = 64
"""Characters of one element; none of them may have more (VR LO and SH of PS3.5 6.2)."""


def device_of(paths: Iterable[Path]) -> str:
    """Manufacturer, model, station and serial number of the first file, as far as they are stated."""
    for path in paths:
        try:
            header = read_header(path, [Tag(keyword) for keyword in _STATED])
        except UnreadableInstance:
            continue
        stated = [text_of(header, keyword)[:_LONGEST] for keyword in _STATED]
        return " / ".join(one for one in stated if one) or UNKNOWN
    return UNKNOWN
