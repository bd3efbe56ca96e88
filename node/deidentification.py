"""De-identification by the Basic Application Level Confidentiality Profile, applied at every depth of a data set.

The table of what happens to which element is the standard's, as dicom-anonymizer keeps it. Identifiers are replaced by
keyed digests: the same person, study or UID gets the same replacement everywhere, and nobody without the key can tell
which. Dates are shifted by one number of days for each patient, so that intervals stay; the birth date goes. Of the ROI
names of a structure set those stay that are names of TG-263 or that the site's table makes into one; a name that says
anything else becomes a number.

References
----------
PS3.15 E.2 (profile), E.3.6 (Retain Longitudinal Temporal Information With Modified Dates), E.3.7 (Retain Patient
Characteristics), E.3.9 (Retain Device Identity, in part: maker and model, which the profile leaves alone)
"""

import hashlib
import hmac
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table_e_1_1
from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import BaseTag
from pydicom.uid import UID

from pipelines.dicom.elements import text
from pipelines.dicom.structure_names import standard_name

STANDARD_UID_ROOT = "1.2.840.10008."
"""UIDs below it are the standard's own: SOP classes, transfer syntaxes, coding schemes."""
LONGEST_SHIFT_DAYS = 3650
PATIENT_CHARACTERISTICS = frozenset({"PatientSex", "PatientAge", "PatientSize", "PatientWeight", "SmokingStatus"})
TEMPORAL = frozenset({"DA", "DT", "TM"})
NOT_LONGITUDINAL = frozenset({"PatientBirthDate"})
"""What Retain Longitudinal Temporal Information does not cover, of the dates and times that the profile does not remove
(Table E.1-1, columns Basic Prof. and Rtn. Long. Modif. Dates Opt.): a shifted birth date beside a shifted Study Date
would still tell the age to the day."""
ALSO_REMOVED = frozenset(
    {"PatientBirthDateInAlternativeCalendar", "PatientDeathDateInAlternativeCalendar", "PatientAlternativeCalendar"}
)
"""Dates of the patient in the form of text (PS3.3 C.7.1.1), which the table does not list."""
METHOD = [
    "PS3.15 Basic Profile",
    "dates modified",
    "patient characteristics retained",
    "ROI names of TG-263 retained",
]
OPTIONS = (
    codes.DCM.BasicApplicationConfidentialityProfile,
    codes.DCM.RetainLongitudinalTemporalInformationModifiedDatesOption,
    codes.DCM.RetainPatientCharacteristicsOption,
)
DUMMIES: dict[str, object] = {
    "AS": "000Y",
    "DS": "0",
    "IS": "0",
    "UI": "2.25.0",
    **dict.fromkeys(("FD", "FL", "SL", "SS", "UL", "US"), 0),
    **dict.fromkeys(("OB", "OW", "OF", "OD", "OL"), b""),
}
DUMMY_TEXT = "REMOVED"
_DATE_FORMATS = {8: "%Y%m%d", 14: "%Y%m%d%H%M%S"}


class Action(StrEnum):
    """Codes of Table E.1-1a, with its alternatives decided: what keeps the object valid."""

    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    REPLACE_UID = "U"
    MOVE_DATE = "C"
    LOOK_INSIDE = "looked into"


class Deidentifier:
    """Replaces identities by digests under one key."""

    def __init__(self, key: bytes, structure_names: Mapping[str, str] | None = None) -> None:
        """`structure_names`: TG-263 names by ROI names of the site, upper and lower case alike."""
        self._key = key
        self._structure_names = {_folded(name): known for name, known in (structure_names or {}).items()}

    def pseudonym(self, patient_id: str) -> str:
        """What the patient is called instead; ten characters."""
        return self._digest("patient", patient_id).hex()[:10].upper()

    def uid(self, original: str) -> UID:
        """What a UID becomes; below the 2.25 root of PS3.5 B.2."""
        return UID(f"2.25.{uuid.UUID(bytes=self._digest('uid', original)[:16]).int}")

    def shift(self, patient_id: str) -> timedelta:
        """How far the dates of a patient are moved: a whole number of weeks into the past keeps the day of the week."""
        weeks = int.from_bytes(self._digest("dates", patient_id)[:4]) % (LONGEST_SHIFT_DAYS // 7)
        return timedelta(weeks=-1 - weeks)

    def deidentified(self, original: Dataset) -> Dataset:
        """A copy without identity, marked as such; pixel data are the same bytes."""
        patient_id = str(original.get("PatientID", ""))
        copy = self._cleaned(original, self.shift(patient_id))
        copy.file_meta = FileMetaDataset()
        copy.PatientID = copy.PatientName = self.pseudonym(patient_id)
        copy.PatientIdentityRemoved = "YES"
        copy.DeidentificationMethod = METHOD
        copy.DeidentificationMethodCodeSequence = [_code(option) for option in OPTIONS]
        copy.LongitudinalTemporalInformationModified = "MODIFIED"
        return copy

    def _cleaned(self, dataset: Dataset, shift: timedelta) -> Dataset:
        clean = Dataset()
        for element in dataset:
            kept = None if element.tag.is_private else self._cleaned_element(element, shift)
            if kept is not None:
                clean.add(kept)
        return clean

    def _cleaned_element(self, element: DataElement, shift: timedelta) -> DataElement | None:
        action = action_for(element)
        if action is Action.REMOVE:
            return None
        if action is Action.MOVE_DATE:
            return _moved(element, shift)
        if action is Action.REPLACE_UID:
            return DataElement(element.tag, "UI", _each(element.value, self._replaced_uid))
        if action is Action.EMPTY:
            return DataElement(element.tag, element.VR, [] if element.VR == "SQ" else None)
        if element.VR == "SQ":
            items = [self._cleaned(item, shift) for item in element.value]
            if element.keyword == "StructureSetROISequence":
                self._name_rois(element.value, items)
            return DataElement(element.tag, "SQ", items)
        if action is Action.DUMMY:
            return DataElement(element.tag, element.VR, DUMMIES.get(element.VR, DUMMY_TEXT))
        return element

    def _name_rois(self, originals: Sequence[Dataset], copies: Sequence[Dataset]) -> None:
        """Give the copies names that say no more than anatomy; two regions that had different names keep different."""
        sources: dict[str, str] = {}
        for number, (original, copy) in enumerate(zip(originals, copies, strict=True), start=1):
            original_name = text(original, "ROIName")
            name = self._structure_names.get(_folded(original_name)) or standard_name(original_name)
            if name is None or sources.setdefault(name, original_name) != original_name:
                name = f"ROI {number}"
            copy.ROIName = name

    def _replaced_uid(self, original: str) -> str:
        return original if original.startswith(STANDARD_UID_ROOT) or not original else self.uid(original)

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.new(self._key, f"{purpose}:{text}".encode(), hashlib.sha256).digest()


def action_for(element: DataElement) -> Action:
    """What happens to an element, by the standard's table; what the table does not know is treated by its kind."""
    if element.keyword in PATIENT_CHARACTERISTICS:
        return Action.LOOK_INSIDE
    if element.keyword in ALSO_REMOVED:
        return Action.REMOVE
    known = _table().get(element.tag) or _repeating(element.tag)
    if known is not Action.REMOVE and element.VR in TEMPORAL and element.keyword not in NOT_LONGITUDINAL:
        return Action.MOVE_DATE
    if known is not None:
        return known
    if element.VR == "UI":
        return Action.REPLACE_UID
    if element.VR == "PN":
        return Action.EMPTY
    return Action.REMOVE if element.VR == "UN" else Action.LOOK_INSIDE


def shifted(text: str, shift: timedelta) -> str:
    """A DA or DT value moved by whole days; the time of day and the zone stay. What is no date is emptied."""
    digits = text[:14] if len(text) >= 14 and text[:14].isdigit() else text[:8]
    form = _DATE_FORMATS.get(len(digits))
    try:
        moved = datetime.strptime(digits, form or "") + shift
    except ValueError:
        return ""
    return moved.strftime(form or "") + text[len(digits) :]


def _moved(element: DataElement, shift: timedelta) -> DataElement:
    """The element with its dates moved; times of the day stay as they are."""
    if element.VR == "TM" or not element.value:
        return element
    return DataElement(element.tag, element.VR, _each(element.value, lambda text: shifted(text, shift)))


def _folded(roi_name: str) -> str:
    return roi_name.strip().casefold()


@cache
def _table() -> dict[BaseTag, Action]:
    rows = (
        (table_e_1_1.X_TAGS, Action.REMOVE),
        (table_e_1_1.Z_TAGS, Action.EMPTY),
        (table_e_1_1.X_Z_TAGS, Action.EMPTY),
        (table_e_1_1.D_TAGS, Action.DUMMY),
        (table_e_1_1.Z_D_TAGS, Action.DUMMY),
        (table_e_1_1.X_D_TAGS, Action.DUMMY),
        (table_e_1_1.X_Z_D_TAGS, Action.DUMMY),
        (table_e_1_1.U_TAGS, Action.REPLACE_UID),
        (table_e_1_1.X_Z_U_STAR_TAGS, Action.LOOK_INSIDE),
    )
    return {BaseTag((tag[0] << 16) | tag[1]): action for tags, action in rows for tag in tags if len(tag) == 2}


def _repeating(tag: BaseTag) -> Action | None:
    """Overlays and curves, which the table names by group ranges; all of them are removed."""
    ranges = (row for row in table_e_1_1.X_TAGS if len(row) > 2)
    hit = any(tag.group & row[2] == row[0] & row[2] and tag.element & row[3] == row[1] & row[3] for row in ranges)
    return Action.REMOVE if hit else None


def _each(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, MultiValue):
        return [change(str(one)) for one in value]
    return change(str(value)) if value else value


def _code(option: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = (
        option.value,
        option.scheme_designator,
        option.meaning,
    )
    return item
