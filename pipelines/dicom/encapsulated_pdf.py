"""The report of a prognosis as one page of PDF in a DICOM object, for who reads no structured report.

References
----------
PS3.3 A.45.1 Encapsulated PDF IOD, C.24.2 Encapsulated Document
"""

from collections.abc import Iterator, Sequence

from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage, EncapsulatedPDFStorage

from models.prognosis_figure import PrognosisPage, prognosis_pdf_bytes
from pipelines.base import Predecessor
from pipelines.dicom.companion import NewInstance, companion, reference, series_number_behind
from pipelines.dicom.derived import coded, contributing_equipment, marked_description, put_own_equipment
from pipelines.dicom.elements import text
from pipelines.dicom.report import PROGNOSIS, prognosis_report
from pipelines.dicom.report_content import PrognosisContent, in_words
from pipelines.dicom.report_document import report_uid
from pipelines.dicom.report_evidence import dates, distinct, newest_image, settle_dates
from pipelines.dicom.writing import put
from pipelines.provenance import PRODUCT, Provenance

SERIES_PLACE = 7
"""Of the series that are made of one source, which this is in a list sorted by number."""


def prognosis_documents(
    content: PrognosisContent,
    evidence: Sequence[Dataset],
    origin: Provenance,
    predecessors: Sequence[Predecessor] = (),
) -> tuple[Dataset, Dataset]:
    """The structured report and the page, which refer to each other; parameters as of `prognosis_report`."""
    header = newest_image([*evidence, *content.instances()])
    page = prognosis_pdf(content, header, origin, report_uid(PROGNOSIS, origin, predecessors))
    return prognosis_report(content, evidence, origin, predecessors, page), page


def prognosis_pdf(
    content: PrognosisContent, header: Dataset, origin: Provenance, report_instance_uid: str | None = None
) -> Dataset:
    """The page as an Encapsulated PDF; the same arguments make the same dataset, byte for byte.

    Parameters
    ----------
    content
        What it says.
    header
        The image in whose study it is to be, and whose dates it takes.
    origin
        What made it; decides the UIDs.
    report_instance_uid
        Of the structured report of the same content, to be referred to.
    """
    new = NewInstance(
        series_instance_uid=origin.uid("prognosis page series"),
        sop_instance_uid=origin.uid("prognosis page"),
        series_number=series_number_behind(header, SERIES_PLACE),
        series_description=marked_description(content.series_description("PDF"), origin.labelling),
        manufacturer=PRODUCT,
    )
    made = companion(header, new, EncapsulatedPDFStorage, "DOC")
    # No operator: the page is no object of radiotherapy.
    del made.OperatorsName
    settle_dates(made, header)
    put_own_equipment(made, origin)
    made.ContributingEquipmentSequence = contributing_equipment(header, origin)
    made.ContentQualification = origin.labelling.content_qualification
    made.ConversionType = "WSD"
    made.InstanceNumber = 1
    put(made, "AcquisitionDateTime", "".join(dates(header)) or None)
    made.BurnedInAnnotation = "YES"
    made.DocumentTitle = ", ".join([content.title, *content.warnings(origin.labelling)])
    made.ConceptNameCodeSequence = [coded(codes.DCM.ImagingMeasurementReport)]
    made.SourceInstanceSequence = list(_sources(content, report_instance_uid))
    if not made.SourceInstanceSequence:
        del made.SourceInstanceSequence
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document = prognosis_pdf_bytes(prognosis_page(content, header, origin))
    made.EncapsulatedDocumentLength = len(document)
    made.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return made


def prognosis_page(content: PrognosisContent, header: Dataset, origin: Provenance) -> PrognosisPage:
    """What the page shows."""
    model, prediction = content.model, content.prediction
    return PrognosisPage(
        title=content.title,
        warnings=tuple(content.warnings(origin.labelling)),
        patient=tuple(_patient(header)),
        statement=content.summary(),
        curve_name=content.curve_name,
        curve_labels=tuple(point.label for point in content.curve),
        curve_values=tuple(point.value for point in content.curve),
        curves=model.curves,
        time_unit=in_words(model.time_unit),
        endpoint=model.cohort.endpoint,
        group=prediction.group if prediction else None,
        probability=prediction.probability if prediction else None,
        horizon=model.horizon,
        probabilities=model.probabilities,
        notes=tuple(_notes(content)),
        footer=f"{PRODUCT} {origin.version}. {origin.description()}",
    )


def _sources(content: PrognosisContent, report_instance_uid: str | None) -> Iterator[Dataset]:
    if report_instance_uid is not None:
        yield reference(Comprehensive3DSRStorage, report_instance_uid)
    for one in distinct(content.instances()) if content.instances() else ():
        yield reference(text(one, "SOPClassUID"), text(one, "SOPInstanceUID"))


def _patient(header: Dataset) -> Iterator[tuple[str, str]]:
    # The first of up to three groups is the one that every reader can read (PS3.5 6.2.1).
    name = text(header, "PatientName").split("=")[0]
    yield "Patient", ", ".join(part for part in name.split("^") if part)
    yield "Patient ID", text(header, "PatientID")
    yield "Birth date", _day(text(header, "PatientBirthDate"))
    yield "Sex", text(header, "PatientSex")
    yield "Newest image", _day(dates(header)[0])
    yield "Study ID", text(header, "StudyID")


def _day(date: str) -> str:
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date


def _notes(content: PrognosisContent) -> Iterator[tuple[str, str]]:
    yield "Cohort", f"{content.model.cohort.sentence()}."
    for _, words, value in content.validation():
        interval = f"95 % interval {value.low:.2f} to {value.high:.2f}"
        yield "Validation", f"{words} {value.value:.2f} ({interval}) on patients that the model had not seen."
    yield (
        "Model",
        f"{content.weights_name}, feature set {content.model.feature_set}, weights SHA-256 {content.weights_sha256}",
    )
    for region in content.regions:
        when = f", {region.time_point}" if region.time_point else ""
        yield "Measured", f"{region.roi_name}{when}: {len(region.measurements)} values of {len(region.images)} images."
    for finding in content.findings:
        yield f"Finding ({finding.verdict})", f"{finding.text}."
    for remark in content.remarks:
        yield "Remark", remark
