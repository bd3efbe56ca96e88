"""Series of projections by arithmetic, written with nothing but pydicom: no code under test has a part in them."""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom import Dataset

from tests.pipelines.made import changed, ct_slice

Elements = dict[int, tuple[str, Any]]
"""VR and value by tag."""

ROWS, COLUMNS = 2, 5
SLOPE = 0.0001

# Tags, VRs and values as in the library of Moen et al. 2021 (doi 10.1002/mp.14594, Table IV).
DETECTOR: Elements = {
    0x70291010: ("US", ROWS),
    0x70291011: ("US", COLUMNS),
    0x70291002: ("FL", 1.25),
    0x70291006: ("FL", 1.0),
    0x7029100B: ("CS", "CYLINDRICAL"),
    0x70311003: ("FL", 595.0),
    0x70311031: ("FL", 1085.5),
    0x70311033: ("FL", [3.125, 1.5]),
    0x7033100E: ("CS", "FFSNONE"),
    0x70371009: ("CS", "AXIAL"),
    0x7037100A: ("CS", "FANBEAM"),
    0x70391009: ("CS", "YES"),
    0x70411001: ("DS", "0.0193"),
}
ANGLE, AXIAL, RADIAL_DISTANCE = 0x70311001, 0x70311002, 0x70311003


def stored(index: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Stored values of a view, indexed [detector row, detector column]; they tell every element from its neighbours."""
    values = np.arange(ROWS * COLUMNS, dtype=np.uint16).reshape(ROWS, COLUMNS)
    return values * np.uint16(1000) + np.uint16(index)


def view(index: int, views: int, **changes: Any) -> Dataset:
    """One view of an axial scan; its pixel matrix has a row for each detector column."""
    dataset = ct_slice(stored(index).T, index, RescaleSlope=SLOPE, PixelRepresentation=0)
    elements = {**DETECTOR, ANGLE: ("FL", 2 * np.pi * index / views), AXIAL: ("FL", 12.5), 0x70331013: ("US", views)}
    return with_private(changed(dataset, **changes), elements)


def projection_series(views: int = 12, elements: Elements | None = None, **changes: Any) -> list[Dataset]:
    """A whole scan of one turn; changes go into every view, None removes an element."""
    return [with_private(view(index, views, **changes), elements or {}) for index in range(views)]


def with_private(dataset: Dataset, elements: Elements) -> Dataset:
    """The dataset with private elements set; None removes one."""
    for tag, (vr, value) in elements.items():
        if value is None:
            dataset.pop(tag, None)
        else:
            dataset.add_new(((tag >> 16) << 16) | 0x10, "LO", "MADE")
            dataset.add_new(tag, vr, value)
    return dataset


def helical(views: int, per_turn: int, feed_mm: float) -> list[Dataset]:
    """A scan along the axis, its angles never wrapped."""
    series = projection_series(views, {0x70371009: ("CS", "HELICAL"), 0x70331013: ("US", per_turn)})
    for index, dataset in enumerate(series):
        turns = index / per_turn
        with_private(dataset, {ANGLE: ("FL", 2 * np.pi * turns), AXIAL: ("FL", feed_mm * turns)})
    return series


def as_unknown(series: Sequence[Dataset]) -> list[Dataset]:
    """The same private elements with VR UN, as a sender passes them on that does not know them."""
    packed = {"FL": "f", "US": "H"}
    for dataset in series:
        for element in [one for one in dataset if one.tag.is_private and not one.tag.is_private_creator]:
            values = element.value if element.VM > 1 else [element.value]
            code = packed.get(element.VR)
            content = struct.pack(f"<{len(values)}{code}", *values) if code else str(element.value).encode()
            dataset.add_new(element.tag, "UN", content + bytes(len(content) % 2))
    return list(series)
