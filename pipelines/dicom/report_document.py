"""A structured report around its content: patient, what it was made of, what made it, and what it replaces.

References
----------
PS3.3 A.35.13 Comprehensive 3D SR IOD, C.17.2 SR Document General; PS3.16 TID 1500 Measurement Report,
TID 1600 Image Library
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from highdicom.sr import (
    CodedConcept,
    Comprehensive3DSR,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    ImageContentItem,
    LanguageOfContentItemAndDescendants,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    UIDRefContentItem,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    RTBeamsTreatmentRecordStorage,
    RTDoseStorage,
    RTPlanStorage,
    RTStructureSetStorage,
)

from pipelines.base import Predecessor
from pipelines.dicom.attributes import PATIENT, STUDY
from pipelines.dicom.companion import TYPE_2, reference, series_number_behind
from pipelines.dicom.derived import contributing_equipment, marked_description, put_own_equipment
from pipelines.dicom.elements import number, numbers, text
from pipelines.dicom.report_evidence import MODALITIES, distinct, is_image, newest_image, settle_dates
from pipelines.dicom.report_items import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    OWN_SCHEME,
    code_item,
    container,
    number_item,
)
from pipelines.dicom.writing import copy_elements, put, put_empty_where_absent
from pipelines.provenance import PRODUCT, Provenance, hashed_uid

RADIOTHERAPY_CLASSES = frozenset(
    {RTDoseStorage, RTPlanStorage, RTStructureSetStorage, RTBeamsTreatmentRecordStorage}
)  # fmt: skip
_HAS_ACQ_CONTEXT = RelationshipTypeValues.HAS_ACQ_CONTEXT
_ENGLISH = CodedConcept("en", "RFC5646", "English")
_SOURCE = CodedConcept("260753009", "SCT", "Source")
_RADIOTHERAPY = CodedConcept("108290001", "SCT", "Radiation oncology AND/OR radiotherapy")


@dataclass(frozen=True)
class NewReport:
    """What makes a report one of its own."""

    kind: str
    """`prognosis report`; with the predecessors it decides the UIDs."""
    description: str
    """A few words for the Series Description."""
    place: int
    """Of the series that are made of one source, which this is in a list sorted by number."""


def report_uid(kind: str, origin: Provenance, predecessors: Sequence[Predecessor]) -> str:
    """SOP Instance UID of a report; that of one that replaces others is another."""
    return str(origin.uid(kind, *_earlier(predecessors)))


def report_document(
    new: NewReport,
    items: Iterable[ContentItem],
    evidence: Sequence[Dataset],
    origin: Provenance,
    predecessors: Sequence[Predecessor] = (),
    source: Dataset | None = None,
) -> Dataset:
    """A Comprehensive 3D SR document, unverified, in the study of the newest image.

    The same arguments make the same dataset, byte for byte, in whatever order the evidence is: dates are those of the
    newest image.

    Parameters
    ----------
    items
        Below the title; `measurement_report_items` makes those that TID 1500 begins with.
    evidence
        Headers of everything that was used, of any study; one that is named twice counts once.
    predecessors
        Earlier reports that this one replaces.
    source
        Header whose patient, study, equipment and dates it takes; None: that of the newest image.

    Raises
    ------
    ValueError
        If there is no evidence.
    """
    used = distinct(evidence)
    newest = source or newest_image(used)
    root = ContainerContentItem(codes.DCM.ImagingMeasurementReport, is_content_continuous=False, template_id="1500")
    root.ContentSequence = ContentSequence([*items])
    with warnings.catch_warnings():
        # The library's warnings quote what it was given.
        warnings.simplefilter("ignore", UserWarning)
        made = Comprehensive3DSR(
            evidence=[_stub(newest), *map(_stub, used)],
            content=root,
            series_instance_uid=origin.uid(f"{new.kind} series", *_earlier(predecessors)),
            series_number=series_number_behind(newest, new.place),
            sop_instance_uid=report_uid(new.kind, origin, predecessors),
            instance_number=1,
            manufacturer=PRODUCT,
            is_complete=True,
            is_verified=False,
            is_final=False,
        )
    _settle(made, newest, origin, new.description)
    made.pop("PertinentOtherEvidenceSequence", None)
    made.CurrentRequestedProcedureEvidenceSequence = _by_study([_instance(one) for one in used])
    if predecessors:
        named = [
            (p.study_instance_uid, p.series_instance_uid, p.sop_class_uid, p.sop_instance_uid) for p in predecessors
        ]
        made.PredecessorDocumentsSequence = _by_study(named)
    return made


def measurement_report_items(evidence: Sequence[Dataset], origin: Provenance) -> list[ContentItem]:
    """Language, observer, procedure and images: what a measurement report begins with (TID 1500)."""
    used = distinct(evidence)
    procedures = [code_item(codes.DCM.ProcedureReported, code, HAS_CONCEPT_MOD) for code in _procedures(used)]
    images = [one for one in used if is_image(one)]
    library = [container(codes.DCM.ImageLibrary, _library_groups(images))] if images else []
    return [*LanguageOfContentItemAndDescendants(_ENGLISH), *_observer(origin), *procedures, *library]


def _stub(header: Dataset) -> Dataset:
    """The instance without its patient: the library logs and refuses names and sexes that the standard forbids."""
    stub = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        put(stub, keyword, text(header, keyword))
    put_empty_where_absent(stub, TYPE_2)
    return stub


def _settle(made: Dataset, newest: Dataset, origin: Provenance, description: str) -> None:
    """The patient, what the library leaves out, and what it fills in from the clock."""
    copy_elements(newest, made, PATIENT + STUDY)
    put_empty_where_absent(made, TYPE_2)
    put(made, "SeriesDescription", marked_description(description, origin.labelling))
    settle_dates(made, newest)
    put_own_equipment(made, origin)
    made.ContentQualification = origin.labelling.content_qualification
    made.ContributingEquipmentSequence = contributing_equipment(newest, origin)
    scheme = Dataset()
    scheme.CodingSchemeDesignator = OWN_SCHEME
    scheme.CodingSchemeName = PRODUCT
    scheme.CodingSchemeVersion = origin.version[:16]
    made.CodingSchemeIdentificationSequence = [scheme]


def _observer(origin: Provenance) -> Iterator[ContentItem]:
    device = DeviceObserverIdentifyingAttributes(
        uid=hashed_uid(["device", PRODUCT, origin.version]),
        name=f"{PRODUCT} {origin.version}",
        manufacturer_name=PRODUCT,
        model_name=origin.pipeline_name,
    )
    yield from ObservationContext(ObserverContext(codes.DCM.Device, device))


def _procedures(used: Sequence[Dataset]) -> list[Code | CodedConcept]:
    """What was done to the patient (CID 100)."""
    found: list[Code | CodedConcept] = []
    if any(text(one, "Modality") == "CT" for one in used):
        found.append(codes.SCT.ComputedTomography)
    if not found or any(text(one, "SOPClassUID") in RADIOTHERAPY_CLASSES for one in used):
        found.append(_RADIOTHERAPY)
    return found


def _library_groups(images: Sequence[Dataset]) -> Iterator[ContentItem]:
    """The images of each series, with what they share (TID 1601, 1602)."""
    by_series: dict[str, list[Dataset]] = {}
    for image in images:
        by_series.setdefault(text(image, "SeriesInstanceUID"), []).append(image)
    for series in by_series.values():
        entries = [*_shared(series[0]), *map(_image_item, series)]
        yield container(codes.DCM.ImageLibraryGroup, entries, is_continuous=True)


def _shared(header: Dataset) -> Iterator[ContentItem]:
    yield code_item(codes.DCM.Modality, MODALITIES[text(header, "Modality")], _HAS_ACQ_CONTEXT)
    for name, keyword in (
        (codes.DCM.SeriesInstanceUID, "SeriesInstanceUID"),
        (codes.DCM.FrameOfReferenceUID, "FrameOfReferenceUID"),
    ):
        if text(header, keyword):
            yield UIDRefContentItem(name, text(header, keyword), _HAS_ACQ_CONTEXT)
    spacing_mm = numbers(header, "PixelSpacing", 2)
    if spacing_mm is not None:
        yield _acquired(codes.DCM.VerticalPixelSpacing, spacing_mm[0])
        yield _acquired(codes.DCM.HorizontalPixelSpacing, spacing_mm[1])
    thickness_mm = number(header, "SliceThickness")
    if thickness_mm is not None:
        yield _acquired(codes.DCM.SliceThickness, thickness_mm)


def _acquired(name: Code, value_mm: float) -> ContentItem:
    return number_item(name, value_mm, "mm", (), _HAS_ACQ_CONTEXT)


def _image_item(header: Dataset) -> ContentItem:
    return ImageContentItem(
        _SOURCE, text(header, "SOPClassUID"), text(header, "SOPInstanceUID"), relationship_type=CONTAINS
    )


def _earlier(predecessors: Sequence[Predecessor]) -> list[str]:
    return sorted(one.sop_instance_uid for one in predecessors)


def _instance(header: Dataset) -> tuple[str, str, str, str]:
    study, series, kind, uid = (
        text(header, keyword) for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
    )
    return study, series, kind, uid


def _by_study(instances: Iterable[tuple[str, str, str, str]]) -> list[Dataset]:
    """Study, series, class and UID of each as items of a hierarchical reference (PS3.3 C.17.2.1)."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for study, series, sop_class_uid, sop_instance_uid in instances:
        item = reference(sop_class_uid, sop_instance_uid)
        studies.setdefault(study, {}).setdefault(series, []).append(item)
    return [_study_item(study, series) for study, series in studies.items()]


def _study_item(study_instance_uid: str, series: dict[str, list[Dataset]]) -> Dataset:
    study = Dataset()
    study.StudyInstanceUID = study_instance_uid
    study.ReferencedSeriesSequence = []
    for series_instance_uid, instances in series.items():
        item = Dataset()
        item.SeriesInstanceUID = series_instance_uid
        item.ReferencedSOPSequence = instances
        study.ReferencedSeriesSequence.append(item)
    return study
