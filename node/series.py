"""When a series is settled: decided from the headers of its instances and how they came, not by a timer alone.

A series settles `grace_s` after its association when its geometry is whole and one association, released in good
order, has brought all of it, or when it has the number of images that its header announces. Whatever hints at more to
come (a gap, a lone slice, an aborted association, a second one) gives it `quiet_s` without a new instance; then it is
settled, or marked incomplete.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, uid
from pydicom.tag import BaseTag, Tag

from node.headers import (
    READ_ERRORS,
    UnreadableInstance,
    pixel_fault,
    read_header,
    read_image_header,
    text_of,
    values_of,
)
from node.ledger.schema import LinkKind, SeriesState
from node.ledger.series import Settlement
from node.roles import UNKNOWN_ROLE, RoleRule, role_of, tags_of
from pipelines.dicom.acquisition_moment import MOMENT_ELEMENTS, acquisition_moment
from pipelines.dicom.projection_scan import ScanFault, announced_views, scan_fault
from pipelines.dicom.projection_views import VIEW_ELEMENTS
from pipelines.dicom.stack import StackFault, stack_fault

STACKS = frozenset(
    {
        uid.CTImageStorage,
        uid.EnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
        uid.MRImageStorage,
        uid.EnhancedMRImageStorage,
        uid.LegacyConvertedEnhancedMRImageStorage,
        uid.PositronEmissionTomographyImageStorage,
        uid.EnhancedPETImageStorage,
        uid.LegacyConvertedEnhancedPETImageStorage,
    }
)
"""SOP classes whose instances, or frames, make up a volume."""
ROLES_WITHOUT_STACK = frozenset({"projections"})
"""Roles of images that are views and no slices, although they use such a SOP class (DICOM-CT-PD)."""

_IMAGE_KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "ImageType",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "BodyPartExamined",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "Rows",
    "Columns",
    "BitsAllocated",
    "SamplesPerPixel",
    "NumberOfFrames",
    "ImagesInAcquisition",
    "NumberOfSeriesRelatedInstances",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "SpecificCharacterSet",
)
_LINKS = {
    "FrameOfReferenceUID": LinkKind.FRAME_OF_REFERENCE,
    "ReferencedFrameOfReferenceUID": LinkKind.FRAME_OF_REFERENCE,
    "SeriesInstanceUID": LinkKind.SERIES,
    "ReferencedSOPInstanceUID": LinkKind.INSTANCE,
}
_REPEATING = ("ROIContourSequence", "PerFrameFunctionalGroupsSequence")
"""Sequences that name the same images again and again."""
MAXIMUM_UID_CHARACTERS = 64
"""A longer text points to nothing that the node could hold (PS3.5 9.1)."""


@dataclass(frozen=True)
class Assessment:
    """What the headers say of a series."""

    settlement: Settlement
    has_all_announced: bool = False
    """The number of images that the header announces is there."""
    is_lone_slice: bool = False
    """One slice of what is usually a stack."""


def assess(paths: Sequence[Path], rules: Sequence[RoleRule]) -> Assessment:
    """Read the headers of a series' instances and say what the series is, if nothing more comes."""
    try:
        return _assessment([_header(path, rules) for path in paths], rules)
    except UnreadableInstance as error:
        reason = str(error)
    except READ_ERRORS:
        reason = "A header holds what can not be evaluated"
    return Assessment(Settlement(SeriesState.REJECTED, UNKNOWN_ROLE, reason, frozenset()))


def _assessment(headers: Sequence[Dataset], rules: Sequence[RoleRule]) -> Assessment:
    role = role_of(headers[0], rules)
    links = frozenset(link for header in headers for link in links_of(header))
    body_parts = frozenset(part for header in headers for part in values_of(header, "BodyPartExamined"))
    announced = _announced(headers, role)
    state, reason = _state(headers, role, announced)
    return Assessment(
        Settlement(state, role, reason, links, body_parts, acquisition_moment(headers)),
        has_all_announced=0 < announced <= len(headers),
        is_lone_slice=len(headers) == 1 and _is_slice(headers[0]) and role not in ROLES_WITHOUT_STACK,
    )


def is_final(assessment: Assessment, sent_at_once: bool, is_quiet: bool) -> bool:
    """Whether the assessment stands, or more instances may come that would change it.

    Parameters
    ----------
    assessment
        Of what is there now.
    sent_at_once
        One association has brought all of it and was released in good order.
    is_quiet
        Nothing has come for `quiet_s`.
    """
    state = assessment.settlement.state
    if is_quiet or state is SeriesState.REJECTED:
        return True
    if state is SeriesState.INCOMPLETE:
        return False
    return assessment.has_all_announced or (sent_at_once and not assessment.is_lone_slice)


def links_of(header: Dataset) -> set[tuple[LinkKind, str]]:
    """The Frames of Reference, series and instances that an instance shares or refers to, at any depth.

    Its own series is left out; so are the images of single contours, which repeat what the structure set says above.
    """
    found = set(_walk(header))
    return found - {(LinkKind.SERIES, text_of(header, "SeriesInstanceUID"))}


def _walk(dataset: Dataset) -> Iterable[tuple[LinkKind, str]]:
    for keyword, kind in _LINKS.items():
        value = text_of(dataset, keyword)
        if 0 < len(value) <= MAXIMUM_UID_CHARACTERS:
            yield kind, value
    for items in _sequences(dataset):
        for item in items:
            yield from _walk(item)


def _sequences(dataset: Dataset) -> Iterable[Iterable[Dataset]]:
    """The items of each sequence; an element that can not be decoded hides no other."""
    for tag in dataset.keys():
        try:
            element = dataset[tag]
        except READ_ERRORS:
            continue
        if element.VR == "SQ" and element.keyword not in _REPEATING:
            yield element.value


def _header(path: Path, rules: Sequence[RoleRule]) -> Dataset:
    tags = [Tag(keyword) for keyword in (*_IMAGE_KEYWORDS, *VIEW_ELEMENTS, *MOMENT_ELEMENTS)] + tags_of(rules)
    header = read_image_header(path, _sorted(tags))
    return header if text_of(header, "SOPClassUID") in STACKS else read_header(path)


def _sorted(tags: Iterable[BaseTag]) -> list[BaseTag]:
    return sorted(set(tags))


def _state(headers: Sequence[Dataset], role: str, announced: int) -> tuple[SeriesState, str | None]:
    mixed = _mixed(headers)
    if mixed:
        return SeriesState.REJECTED, mixed
    is_image = text_of(headers[0], "SOPClassUID") in STACKS
    fault = _geometry_fault(headers, role) if is_image else None
    if fault and not fault.curable:
        return SeriesState.REJECTED, fault.text
    pixel_faults = [one for one in map(pixel_fault, headers) if one] if is_image else []
    if pixel_faults:
        return SeriesState.REJECTED, pixel_faults[0]
    if fault:
        return SeriesState.INCOMPLETE, fault.text
    if announced > len(headers) and role not in ROLES_WITHOUT_STACK:
        return SeriesState.INCOMPLETE, f"{len(headers)} of {announced} images that the header announces are there"
    return SeriesState.SETTLED, None


def _geometry_fault(headers: Sequence[Dataset], role: str) -> StackFault | ScanFault | None:
    return scan_fault(headers) if role in ROLES_WITHOUT_STACK else stack_fault(headers)


def _mixed(headers: Sequence[Dataset]) -> str | None:
    for keyword, words in (
        ("PatientID", "patients"),
        ("StudyInstanceUID", "studies"),
        ("Modality", "modalities"),
        ("SOPClassUID", "SOP classes"),
    ):
        count = len({text_of(header, keyword) for header in headers})
        if count > 1:
            return f"The series has instances of {count} {words}"
    return None


def _announced(headers: Sequence[Dataset], role: str) -> int:
    if role in ROLES_WITHOUT_STACK:
        return announced_views(headers)
    return max(map(_announced_images, headers))


def _announced_images(header: Dataset) -> int:
    texts = (text_of(header, "NumberOfSeriesRelatedInstances"), text_of(header, "ImagesInAcquisition"))
    return next((int(text) for text in texts if text.isdecimal()), 0)


def _is_slice(header: Dataset) -> bool:
    return text_of(header, "SOPClassUID") in STACKS and "PerFrameFunctionalGroupsSequence" not in header
