"""Structured reports: what a model says of a patient with all that it was measured from, and how a result was judged.

References
----------
PS3.16 TID 1500 Measurement Report, TID 1411 Volumetric ROI Measurements and Qualitative Evaluations, TID 1501
Measurement and Qualitative Evaluation Group, TID 1502 Time Point Context
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from highdicom.sr import CodedConcept, CompositeContentItem, ContentItem
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import EncapsulatedPDFStorage

from models.limits import Limits
from models.prognosis import Prediction
from pipelines.base import Predecessor
from pipelines.dicom.report_content import (
    CurvePoint,
    Measured,
    MeasuredRegion,
    PrognosisContent,
    in_percent,
    marks,
)
from pipelines.dicom.report_document import NewReport, measurement_report_items, report_document
from pipelines.dicom.report_items import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    HAS_PROPERTIES,
    algorithm_items,
    code_item,
    container,
    interval_items,
    measurement_group,
    number_item,
    own_code,
    text_item,
)
from pipelines.dicom.report_regions import region_group
from pipelines.provenance import Provenance
from pipelines.stability import Finding, verdict_of

__all__ = [
    "CurvePoint",
    "Measured",
    "MeasuredRegion",
    "PrognosisContent",
    "prognosis_report",
    "quality_report",
]

PROGNOSIS, QUALITY = "prognosis report", "quality report"
"""Kinds of reports; they decide the UIDs."""
_PROGNOSIS_PLACE, _QUALITY_PLACE = 6, 8
_GROUPS = {"high": codes.SCT.HighRisk, "low": codes.SCT.LowRisk}
_QUALITATIVE_EVALUATIONS = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")


def prognosis_report(
    content: PrognosisContent,
    evidence: Sequence[Dataset],
    origin: Provenance,
    predecessors: Sequence[Predecessor] = (),
    page: Dataset | None = None,
) -> Dataset:
    """The report of a prognosis as a Comprehensive 3D SR; the same arguments make the same dataset, byte for byte.

    Parameters
    ----------
    content
        What it says.
    evidence
        Headers of every image, structure set, dose and registration that was used, of any study; those that the
        regions name need not be there again.
    origin
        What made it; with the predecessors it decides the UIDs.
    predecessors
        Earlier reports that this one replaces.
    page
        What `prognosis_pdf` made of the same content, to be referred to.

    Raises
    ------
    ValueError
        If there is no evidence at all.
    """
    used = [*evidence, *content.instances()]
    pages = [] if page is None else [page]
    groups = [_prognosis_group(content, origin), _cohort_group(content, origin)]
    groups += [region_group(region, used, origin) for region in content.regions]
    groups += _findings_groups(content.findings, content.model.limits, origin)
    items = [
        *_warning_items(content.warnings(origin.labelling)),
        text_item(codes.DCM.Summary, content.summary()),
        *measurement_report_items(used, origin),
        container(codes.DCM.ImagingMeasurements, groups),
        *_remark_items(content.remarks),
        *map(_page_item, pages),
    ]
    new = NewReport(PROGNOSIS, content.series_description("Report"), _PROGNOSIS_PLACE)
    return report_document(new, items, [*used, *pages], origin, predecessors)


def quality_report(
    findings: Sequence[Finding],
    evidence: Sequence[Dataset],
    origin: Provenance,
    title: str = "Quality report",
    limits: Mapping[str, Limits] | None = None,
    remarks: Sequence[str] = (),
    predecessors: Sequence[Predecessor] = (),
    source: Dataset | None = None,
) -> Dataset:
    """How a result was judged as a Comprehensive 3D SR: every finding with value, unit, limits and verdict.

    Parameters
    ----------
    findings
        At least one.
    evidence
        Headers of the result and of what it was made from.
    limits
        Of findings that do not state their own, by name.
    source
        Header of the image whose patient, study, equipment and dates the report takes; None: the newest of the
        evidence, which may be the result.

    Raises
    ------
    ValueError
        If there is no finding, or no evidence.
    """
    if not findings:
        raise ValueError("a quality report without a finding")
    items = [
        *_warning_items([", ".join(marks(origin.labelling))]),
        text_item(codes.DCM.Summary, f"Verdict: {verdict_of(findings)}"),
        *measurement_report_items(evidence, origin),
        container(codes.DCM.ImagingMeasurements, _findings_groups(findings, limits or {}, origin)),
        *_remark_items(remarks),
    ]
    new = NewReport(_quality_kind(findings), title, _QUALITY_PLACE)
    return report_document(new, items, evidence, origin, predecessors, source)


def _quality_kind(findings: Sequence[Finding]) -> str:
    """Other findings on the same result, as by other limits of a site, make another report with other UIDs."""
    said = json.dumps([finding.model_dump(mode="json") for finding in findings], sort_keys=True)
    return f"{QUALITY} {hashlib.sha256(said.encode()).hexdigest()}"


def _warning_items(sentences: Iterable[str]) -> Iterator[ContentItem]:
    for sentence in sentences:
        yield text_item(own_code("warning", "Warning"), sentence)


def _remark_items(remarks: Sequence[str]) -> list[ContentItem]:
    texts = [text_item(codes.DCM.Comment, remark) for remark in remarks]
    return [container(_QUALITATIVE_EVALUATIONS, texts)] if texts else []


def _prognosis_group(content: PrognosisContent, origin: Provenance) -> ContentItem:
    """Risk group, probability with its interval, the curve, and what computed them."""
    items = algorithm_items(content.weights_name, origin.version, _algorithm_parameters(content, origin))
    if content.prediction is None:
        items.append(text_item(own_code("risk_group", "Risk group"), "none yet"))
    else:
        items += _prediction_items(content, content.prediction)
    items += [_curve_item(content.curve_name, point) for point in content.curve]
    return measurement_group("Prognosis", origin.uid("prognosis"), items)


def _curve_item(name: str, point: CurvePoint) -> ContentItem:
    when = text_item(own_code("curve_point", "Point of the curve"), point.label, HAS_CONCEPT_MOD)
    return number_item(own_code(name, name), point.value, "1", [when])


def _prediction_items(content: PrognosisContent, prediction: Prediction) -> list[ContentItem]:
    probability = in_percent(prediction.probability)
    said = [text_item(own_code("event", "Event"), content.event(), HAS_CONCEPT_MOD), *interval_items(probability, "%")]
    limits = _limit_items(content.model.limits.get("feature_distance"), "1")
    distance = own_code("feature_distance", "Distance from the training patients")
    return [
        code_item(own_code("risk_group", "Risk group"), _GROUPS[prediction.group]),
        number_item(own_code("event_probability", "Probability of the event"), probability.value, "%", said),
        number_item(own_code("linear_predictor", "Linear predictor"), prediction.risk, "1"),
        number_item(distance, prediction.distance, "1", limits),
    ]


def _algorithm_parameters(content: PrognosisContent, origin: Provenance) -> list[str]:
    model = content.model
    return [
        f"weights SHA-256 {content.weights_sha256}",
        f"method {model.method}, feature set {model.feature_set}, {model.model.kind}",
        f"settings SHA-256 {origin.settings_sha256}",
    ]


def _cohort_group(content: PrognosisContent, origin: Provenance) -> ContentItem:
    """Who the model was trained on, and how well it did on those that it had not seen."""
    cohort = content.model.cohort
    items: list[ContentItem] = [
        text_item(own_code("cohort", "Cohort"), cohort.sentence()),
        number_item(own_code("patients", "Patients"), cohort.patients, "{patients}"),
        number_item(own_code("events", "Patients with the event"), cohort.events, "{patients}"),
    ]
    p = content.model.held_out.get("permutation_p")
    if p is not None:
        items.append(number_item(own_code("permutation_p", "p of a permutation test"), p, "1"))
    for name, words, value in content.validation():
        meaning = f"{words[0].upper()}{words[1:]} on patients not trained on"
        items.append(number_item(own_code(name, meaning), value.value, "1", interval_items(value, "1")))
    return measurement_group("Training cohort", origin.uid("training cohort"), items)


def _findings_groups(
    findings: Sequence[Finding], limits: Mapping[str, Limits], origin: Provenance
) -> list[ContentItem]:  # fmt: skip
    if not findings:
        return []
    verdict = text_item(own_code("verdict", "Verdict"), str(verdict_of(findings)))
    measured = [_finding_item(one, limits.get(one.name) or one.limits()) for one in findings]
    return [measurement_group("Findings", origin.uid("findings"), [verdict, *measured])]


def _finding_item(finding: Finding, limits: Limits | None) -> ContentItem:
    said = [
        text_item(own_code("verdict", "Verdict"), str(finding.verdict), HAS_PROPERTIES),
        text_item(codes.DCM.Comment, finding.text, HAS_PROPERTIES),
    ]
    name = own_code(finding.name, finding.name)
    return number_item(name, finding.value, finding.unit, [*said, *_limit_items(limits, finding.unit)])


def _limit_items(limits: Limits | None, unit: str) -> list[ContentItem]:
    if limits is None:
        return []
    named = (("flag_above", "Flagged above", limits.flag_above), ("hold_above", "Held above", limits.hold_above))
    return [number_item(own_code(code, meaning), value, unit, (), HAS_PROPERTIES) for code, meaning, value in named]


def _page_item(page: Dataset) -> ContentItem:
    return CompositeContentItem(
        own_code("page", "The same as a page"), EncapsulatedPDFStorage, page.SOPInstanceUID, relationship_type=CONTAINS
    )
