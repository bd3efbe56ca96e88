"""The report of a course: structured report and page, from what was computed of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from models.delta_features import SLOPES, needed
from models.prognosis import Prediction, PrognosisModel
from pipelines.base import Predecessor
from pipelines.course_features import CourseFeatures, ImagedFraction
from pipelines.dicom.encapsulated_pdf import prognosis_documents
from pipelines.dicom.reading import read_instance
from pipelines.dicom.report_content import CurvePoint, Measured, MeasuredRegion, PrognosisContent
from pipelines.provenance import Provenance
from pipelines.stability import Finding

TITLE = "Prognosis from delta-radiomics"
_REFERENCED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "Modality",
    "StructureSetROISequence",
)


@dataclass(frozen=True)
class CourseReport:
    """Everything that the report of a course says."""

    course: CourseFeatures
    model: PrognosisModel
    weights_name: str
    weights_sha256: str
    prediction: Prediction | None
    """None where the model can say nothing yet."""
    remarks: Sequence[str]
    findings: tuple[Finding, ...]
    other_evidence: Sequence[Path]
    """Registrations and treatment records."""


def course_documents(
    report: CourseReport, origin: Provenance, predecessors: Sequence[Predecessor] = ()
) -> tuple[Dataset, Dataset]:
    """The structured report and the page; parameters as of `prognosis_documents`."""
    course, model = report.course, report.model
    structures = read_instance(course.region.path, _REFERENCED)
    regions = [_of_fraction(course, one, structures) for one in course.fractions]
    if model.feature_set in course.sets:
        regions.append(_of_change(course, model, structures))
    name, curve = _curve(course, model)
    content = PrognosisContent(
        title=TITLE,
        regions=tuple(regions),
        model=model,
        weights_name=report.weights_name,
        weights_sha256=report.weights_sha256,
        prediction=report.prediction,
        curve=curve,
        curve_name=name,
        remarks=tuple(report.remarks),
        findings=report.findings,
    )
    others = [read_instance(path, _REFERENCED[:-1]) for path in report.other_evidence]
    return prognosis_documents(content, [*course.planning_headers, structures, *others], origin, predecessors)


def _of_fraction(course: CourseFeatures, one: ImagedFraction, structures: Dataset) -> MeasuredRegion:
    measured = tuple(
        Measured(name, feature.value, feature.unit, feature.ibsi_code, _detail(name, feature.aggregation))
        for name, feature in one.features.items()
    )
    return MeasuredRegion(course.region.name, one.fraction.label, one.headers, structures, measured)


def _of_change(course: CourseFeatures, model: PrognosisModel, structures: Dataset) -> MeasuredRegion:
    """What the model was given: the changes of its own features."""
    changes = course.sets[model.feature_set]
    wanted = {name for one in (model.model, *model.resampled) for name in one.feature_names}
    measured = tuple(
        Measured(f"{name} {model.feature_set}", changes[name], "1", "", "change between time points of the course")
        for name in sorted(wanted & set(changes))
    )
    headers = tuple(header for one in course.fractions for header in one.headers)
    return MeasuredRegion(course.region.name, f"course, {_span(model.feature_set)}", headers, structures, measured)


def _span(feature_set: str) -> str:
    first, last = needed(feature_set)
    return f"{'all images ' if feature_set in SLOPES else ''}{first} to {last}"


def _detail(name: str, aggregation: str) -> str:
    image = name.split("@", 1)[1]
    return ", ".join(word for word in (f"image {image}", aggregation) if word)


def _curve(course: CourseFeatures, model: PrognosisModel) -> tuple[str, tuple[CurvePoint, ...]]:
    """The feature that weighs most in the model, over the fractions."""
    weights: Mapping[str, float] = dict(zip(model.model.feature_names, model.model.coefficients, strict=True))
    name = max(weights, key=lambda one: (abs(weights[one]), one))
    return name, tuple(_points(course.fractions, name))


def _points(fractions: Iterable[ImagedFraction], name: str) -> Iterable[CurvePoint]:
    for one in fractions:
        if name in one.features:
            yield CurvePoint(f"fraction {one.fraction.number}", one.features[name].value)
