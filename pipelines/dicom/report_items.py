"""Content items of structured reports: numbers, texts and codes, and the names that they go by.

References
----------
PS3.3 C.17.3 SR Document Content; PS3.16 TID 300 Measurement, TID 1501 Measurement and Qualitative Evaluation Group,
TID 4019 Algorithm Identification
"""

import math
from collections.abc import Iterable, Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    NumContentItem,
    RelationshipTypeValues,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID

from models.ibsi_names import FEATURE_NAMES
from models.survival.interval import Interval
from pipelines.dicom.derived import MAX_DESCRIPTION
from pipelines.provenance import PRODUCT

OWN_SCHEME = "99RTNODE"
"""Coding Scheme Designator of names that no public scheme has (PS3.16 8.2: private ones begin with 99)."""
CONTAINS = RelationshipTypeValues.CONTAINS
HAS_CONCEPT_MOD = RelationshipTypeValues.HAS_CONCEPT_MOD
HAS_PROPERTIES = RelationshipTypeValues.HAS_PROPERTIES

_UNIT_MEANINGS = {
    "1": "no units",
    "%": "percent",
    "mm": "millimeter",
    "mm2": "square millimeter",
    "mm3": "cubic millimeter",
    "cm3": "cubic centimeter",
    "Gy": "Gray",
    "d": "day",
    "a": "year",
    "[hnsf'U]": "Hounsfield unit",
}
"""Of UCUM codes; others stand for themselves."""
_IBSI_MEANINGS = {known.ibsi_code: known.name for known in FEATURE_NAMES.values()}
_NO_NUMBER = {"nan": "not a number", "inf": "infinite", "-inf": "minus infinite"}


def own_code(value: str, meaning: str) -> CodedConcept:
    """A name of this program's own scheme."""
    return CodedConcept(value, OWN_SCHEME, meaning[:MAX_DESCRIPTION])


def measurement_code(name: str, ibsi_code: str = "") -> CodedConcept:
    """Name of a measurement: the feature of the IBSI that has the code, else one of the own scheme."""
    if ibsi_code:
        return CodedConcept(ibsi_code, "IBSI", _IBSI_MEANINGS.get(ibsi_code, name)[:MAX_DESCRIPTION])
    return own_code(name, name)


def unit_code(unit: str) -> CodedConcept:
    """A UCUM unit."""
    return CodedConcept(unit, "UCUM", _UNIT_MEANINGS.get(unit, unit)[:MAX_DESCRIPTION])


def number_item(
    name: Code | CodedConcept,
    value: float,
    unit: str,
    children: Sequence[ContentItem] = (),
    relationship: RelationshipTypeValues = CONTAINS,
) -> ContentItem:
    """A number with its UCUM unit; one that is not finite is a text, which every reader of reports can read.

    The standard has a number without a value and the reason for it (CID 42); the library for reports refuses to read
    a document that holds one.
    """
    if math.isfinite(value):
        item: ContentItem = NumContentItem(name, float(value), unit_code(unit), relationship_type=relationship)
        # What people read; every digit is in the Floating Point Value.
        item.MeasuredValueSequence[0].NumericValue = f"{value:.10g}"
    else:
        item = text_item(name, _NO_NUMBER[f"{value:g}"], relationship)
    if children:
        item.ContentSequence = ContentSequence(children)
    return item


def text_item(
    name: Code | CodedConcept, value: str, relationship: RelationshipTypeValues = CONTAINS
) -> TextContentItem:  # fmt: skip
    """A text."""
    return TextContentItem(name, value, relationship)


def code_item(
    name: Code | CodedConcept, value: Code | CodedConcept, relationship: RelationshipTypeValues = CONTAINS
) -> CodeContentItem:
    """A coded answer."""
    return CodeContentItem(name, value, relationship)


def interval_items(interval: Interval, unit: str) -> list[ContentItem]:
    """The ends of an interval of 95 %, as properties of the number that it belongs to."""
    ends = (("low", "Lower", interval.low), ("high", "Upper", interval.high))
    return [
        number_item(own_code(f"{end}_95", f"{word} end of the 95 % interval"), value, unit, (), HAS_PROPERTIES)
        for end, word, value in ends
    ]


def algorithm_items(name: str, version: str, parameters: Sequence[str] = ()) -> list[ContentItem]:
    """What computed something (TID 4019)."""
    return [*AlgorithmIdentification(name, version, parameters or None, manufacturer=PRODUCT)]


def container(
    name: Code | CodedConcept, items: Iterable[ContentItem], template: str | None = None, is_continuous: bool = False
) -> ContentItem:
    """A heading with what is below it, each under its own name unless it is continuous."""
    found = ContainerContentItem(name, is_continuous, template, relationship_type=CONTAINS)
    found.ContentSequence = ContentSequence([*items])
    return found


def measurement_group(
    name: str, uid: UID, items: Iterable[ContentItem], template: str = "1501"
) -> ContentItem:  # fmt: skip
    """A group that belongs together; `uid` is that of what was measured, and the same at every time point."""
    return container(codes.DCM.MeasurementGroup, [*TrackingIdentifier(uid, name), *items], template)
