"""Single data elements of datasets that nobody vouches for: the value with its type, or nothing."""

import math
import struct

from pydicom import Dataset
from pydicom.errors import BytesLengthException
from pydicom.sequence import Sequence as DicomSequence

MALFORMED: tuple[type[Exception], ...] = (
    BytesLengthException,
    ValueError,
    TypeError,
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    EOFError,
    RecursionError,
    struct.error,
)
"""What pydicom raises when it converts an element whose bytes do not follow the standard."""


def text(dataset: Dataset, keyword: str) -> str:
    """Value as text; empty when absent, empty or malformed."""
    try:
        value = dataset.get(keyword)
        return "" if value is None else str(value).strip()
    except MALFORMED:
        return ""


def words(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Values of a multi-valued text element, in upper case; empty when absent or malformed."""
    try:
        value = dataset.get(keyword)
        if value is None:
            return ()
        return tuple(str(part).upper() for part in ([value] if isinstance(value, str) else value))
    except MALFORMED:
        return ()


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers; None when the element is absent, malformed or of another length."""
    try:
        value = dataset.get(keyword)
        if value is None:
            return None
        values = tuple(float(part) for part in value) if count > 1 else (float(value),)
    except MALFORMED:
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def number(dataset: Dataset, keyword: str) -> float | None:
    """One finite number; None when the element is absent or malformed."""
    values = numbers(dataset, keyword, 1)
    return None if values is None else values[0]


def whole_number(dataset: Dataset, keyword: str) -> int | None:
    """One whole number; None when the element is absent, malformed or has a fraction."""
    value = number(dataset, keyword)
    return None if value is None or not value.is_integer() else int(value)


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """Items of a sequence; empty when it is absent or malformed."""
    try:
        value = dataset.get(keyword)
        return tuple(value) if isinstance(value, DicomSequence) else ()
    except MALFORMED:
        return ()
