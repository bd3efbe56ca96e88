"""What the report of a prognosis says, read from the document as another node would find it.

References
----------
PS3.3 C.17.3 SR Document Content, 8.1 Code Value; PS3.16 TID 1501 Measurement and Qualitative Evaluation Group
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from pipelines.base import InputRejected
from pipelines.dicom.elements import items, number, text
from pipelines.dicom.reading import read_instance

# Of pipelines/dicom/report_items.py, which brings highdicom along.
_OWN_SCHEME = "99RTNODE"
_DEEPEST = 20
"""Levels of content; a report that this program writes has five."""


@dataclass(frozen=True)
class ReadPrognosis:
    """What a model says of one patient."""

    event: str
    """What the probability is of: `death within 730 days`."""
    probability_percent: float
    risk_group: str
    """`High risk` or `Low risk`."""
    linear_predictor: float | None


def read_prognosis(path: Path) -> ReadPrognosis:
    """Read the report of a prognosis that this program has written.

    Raises
    ------
    InputRejected
        If the file is broken, or states no probability of an event.
    """
    found = dict(_own_items(read_instance(path, ("SOPClassUID", "ContentSequence"))))
    probability = _number(found, "event_probability")
    if probability is None or "event" not in found:
        raise InputRejected("A report states no probability of an event")
    return ReadPrognosis(
        event=text(found["event"], "TextValue"),
        probability_percent=probability,
        risk_group=_answer(found.get("risk_group", Dataset())),
        linear_predictor=_number(found, "linear_predictor"),
    )


def _own_items(parent: Dataset, depth: int = 0) -> Iterator[tuple[str, Dataset]]:
    """Content items below one by their code of the own scheme."""
    for item in items(parent, "ContentSequence") if depth < _DEEPEST else ():
        for name in items(item, "ConceptNameCodeSequence")[:1]:
            if text(name, "CodingSchemeDesignator") == _OWN_SCHEME:
                # More than 16 characters are a Long Code Value (PS3.3 8.1).
                yield text(name, "CodeValue") or text(name, "LongCodeValue"), item
        yield from _own_items(item, depth + 1)


def _number(found: dict[str, Dataset], code: str) -> float | None:
    for value in items(found.get(code, Dataset()), "MeasuredValueSequence")[:1]:
        exact = number(value, "FloatingPointValue")
        return number(value, "NumericValue") if exact is None else exact
    return None


def _answer(item: Dataset) -> str:
    return next((text(code, "CodeMeaning") for code in items(item, "ConceptCodeSequence")), text(item, "TextValue"))
