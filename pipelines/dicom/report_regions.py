"""The measurements of one region at one time as a group of a structured report, tied to images and region.

References
----------
PS3.16 TID 1411 Volumetric ROI Measurements and Qualitative Evaluations, TID 1501 Measurement and Qualitative
Evaluation Group, TID 1502 Time Point Context
"""

from collections.abc import Iterable, Iterator, Sequence

from highdicom.sr import (
    CompositeContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    TimePointContext,
    UIDRefContentItem,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage

from pipelines.dicom.elements import items, text, whole_number
from pipelines.dicom.report_content import Measured, MeasuredRegion
from pipelines.dicom.report_evidence import distinct, is_image
from pipelines.dicom.report_items import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    algorithm_items,
    measurement_code,
    measurement_group,
    number_item,
    text_item,
)
from pipelines.provenance import Provenance


def region_group(region: MeasuredRegion, evidence: Sequence[Dataset], origin: Provenance) -> ContentItem:
    """The group of a region: TID 1411 where an object says where the region is, else TID 1501.

    Where it was measured on every image among the evidence, the images are not named again: a group that names none
    is of all.
    """
    time_point = TimePointContext(region.time_point) if region.time_point else ()
    made_by = algorithm_items(origin.pipeline_name, origin.version)
    found = [*time_point, *made_by, *_where(region, evidence), *map(_measurement, region.measurements)]
    template = "1501" if region.region is None else "1411"
    return measurement_group(region.roi_name, origin.uid("region", region.roi_name), found, template)


def _measurement(measured: Measured) -> ContentItem:
    """The value, and beside it how it was computed."""
    name = measurement_code(measured.name, measured.ibsi_code)
    own_name = "" if name.meaning == measured.name else measured.name
    said = [
        text_item(codes.DCM.AlgorithmParameters, one, HAS_CONCEPT_MOD)
        for one in (own_name, *measured.detail.split("; "))
        if one
    ]
    return number_item(name, measured.value, measured.unit, said)


def _where(region: MeasuredRegion, evidence: Sequence[Dataset]) -> Iterator[ContentItem]:
    """The images, and the object that has the region."""
    images = distinct(region.images) if region.images else []
    if region.region is None:
        if _uids(images) != _uids(one for one in evidence if is_image(one)):
            yield from map(_source_of_measurement, images)
        return
    if text(region.region, "SOPClassUID") == SegmentationStorage:
        yield _segment(region.region, region.roi_name)
    else:
        yield _structure(region.region, region.roi_name)
    yield from (_source_of_measurement(one) for one in images if not is_image(one))
    for uid in dict.fromkeys(text(one, "SeriesInstanceUID") for one in images if is_image(one)):
        yield UIDRefContentItem(codes.DCM.SourceSeriesForSegmentation, uid, CONTAINS)


def _uids(headers: Iterable[Dataset]) -> set[str]:
    return {text(one, "SOPInstanceUID") for one in headers}


def _source_of_measurement(header: Dataset) -> ContentItem:
    kind = ImageContentItem if is_image(header) else CompositeContentItem
    uids = text(header, "SOPClassUID"), text(header, "SOPInstanceUID")
    return kind(codes.DCM.SourceOfMeasurement, *uids, relationship_type=CONTAINS)


def _segment(header: Dataset, roi_name: str) -> ContentItem:
    """The segment of that name; of the whole object, where the header does not say."""
    numbers = _numbers_of(items(header, "SegmentSequence"), "SegmentLabel", "SegmentNumber", roi_name)
    return ImageContentItem(
        codes.DCM.ReferencedSegment,
        text(header, "SOPClassUID"),
        text(header, "SOPInstanceUID"),
        referenced_segment_numbers=numbers or None,
        relationship_type=CONTAINS,
    )


def _structure(header: Dataset, roi_name: str) -> ContentItem:
    """The structure set, with the number of the ROI of that name."""
    found = CompositeContentItem(
        codes.DCM.RegionInSpace,
        text(header, "SOPClassUID"),
        text(header, "SOPInstanceUID"),
        relationship_type=CONTAINS,
    )
    numbers = _numbers_of(items(header, "StructureSetROISequence"), "ROIName", "ROINumber", roi_name)
    if numbers:
        said = [text_item(codes.DCM.ReferencedRegionOfInterestIdentifier, str(one), HAS_CONCEPT_MOD) for one in numbers]
        found.ContentSequence = ContentSequence(said)
    return found


def _numbers_of(named: Sequence[Dataset], name_keyword: str, number_keyword: str, wanted: str) -> list[int]:
    found = (whole_number(one, number_keyword) for one in named if text(one, name_keyword) == wanted)
    return [one for one in found if one is not None]
