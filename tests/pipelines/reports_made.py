"""A prognosis by arithmetic: a planning CT, a CBCT of another study, a structure set, a dose, and what a model says."""

from dataclasses import replace
from typing import Any

from pydicom import Dataset
from pydicom.uid import RTDoseStorage, RTStructureSetStorage, SegmentationStorage

from models.classification import LogisticModel
from models.limits import Limits
from models.outcomes import TrainingCohort
from models.prognosis import FeatureDomain, GroupCurve, Prediction, PrognosisModel
from models.survival.cox_model import CoxModel
from models.survival.interval import Interval
from pipelines.base import Labelling
from pipelines.dicom.report_content import CurvePoint, Measured, MeasuredRegion, PrognosisContent
from pipelines.provenance import Provenance
from pipelines.stability import judged
from tests.pipelines.made import ROOT, ct_series

WEIGHTS = "0123456789abcdef" * 4
SETTINGS = "b" * 64
ORIGIN = Provenance("prognosis_delta_radiomics", "a" * 64, (WEIGHTS,), Labelling(), ("1.2.3", "1.2.4"), "0.1.0")
LIMITS = {"feature_distance": Limits(flag_above=2.5, hold_above=4.0)}
DETAIL = f"3D, merged; filter log 2 mm; settings SHA-256 {SETTINGS}"
PLANNING = tuple(
    Measured(*values)
    for values in (
        ("morph_volume", 12345.678901234567, "mm3", "RNU0", f"settings SHA-256 {SETTINGS}"),
        ("cm_contrast@log_2mm", 0.1 + 0.2, "1", "ACUI", DETAIL),
        ("cm_corr", float("nan"), "1", "NI2N", DETAIL),
        ("stat_mean", -17.25, "[hnsf'U]", "Q4LE", f"settings SHA-256 {SETTINGS}"),
    )
)
DAY = (
    Measured("cm_contrast@log_2mm early_middle relative", -1.25e-7, "1", "", DETAIL),
    Measured("d90", 61.5, "Gy"),
)
FREE = GroupCurve(
    group="low", patients=60, events=9, times=(100.0, 400.0, 700.0), survival=(0.98, 0.93, 0.85),
    low=(0.9, 0.82, 0.7), high=(1.0, 0.98, 0.93), last_watched=1000.0,
)  # fmt: skip
ILL = GroupCurve(
    group="high", patients=58, events=31, times=(60.0, 200.0, 500.0, 800.0), survival=(0.9, 0.75, 0.55, 0.46),
    low=(0.8, 0.62, 0.4, 0.31), high=(0.97, 0.86, 0.68, 0.6), last_watched=950.0,
)  # fmt: skip
DOMAIN = FeatureDomain(feature_names=("d90",), mean=(60.0,), precision=((1.0,),))


def planning_ct(**changes: Any) -> list[Dataset]:
    """Five slices of 2020-01-02."""
    return ct_series(SpecificCharacterSet="ISO_IR 192", **changes)


def cbct(**changes: Any) -> list[Dataset]:
    """Five slices of 2020-01-09, another study and Frame of Reference."""
    own = {"StudyInstanceUID": f"{ROOT}.51", "SeriesInstanceUID": f"{ROOT}.52", "FrameOfReferenceUID": f"{ROOT}.53"}
    series = planning_ct(**{**own, "ContentDate": "20200109", "StudyDate": "20200109", "SeriesNumber": 9, **changes})
    for index, one in enumerate(series):
        one.SOPInstanceUID = f"{ROOT}.54.{index + 1}"
    return series


def structure_set(roi_name: str = "GTV") -> Dataset:
    """The header of a structure set whose fourth ROI has the name."""
    roi = Dataset()
    roi.ROINumber, roi.ROIName = 4, roi_name
    return _companion(RTStructureSetStorage, "RTSTRUCT", "61", StructureSetROISequence=[roi])


def segments(roi_name: str = "GTV") -> Dataset:
    """The header of a segmentation whose second segment has the name."""
    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel = 2, roi_name
    return _companion(SegmentationStorage, "SEG", "62", SegmentSequence=[segment])


def rt_dose() -> Dataset:
    """The header of a dose."""
    return _companion(RTDoseStorage, "RTDOSE", "63")


def _companion(sop_class_uid: str, modality: str, tail: str, **changes: Any) -> Dataset:
    (made,) = planning_ct()[:1]
    made.SOPClassUID, made.Modality = sop_class_uid, modality
    made.SOPInstanceUID, made.SeriesInstanceUID = f"{ROOT}.{tail}.1", f"{ROOT}.{tail}"
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return made


def regions(region: Dataset | None = None) -> tuple[MeasuredRegion, ...]:
    """The GTV on the planning CT and on the day's images."""
    where = structure_set() if region is None else region
    return (
        MeasuredRegion("GTV", "planning, 2020-01-02", tuple(planning_ct()), where, PLANNING),
        MeasuredRegion("GTV", "fraction 3, 2020-01-09", tuple(cbct()), None, DAY),
    )


def survival_model(is_simulated: bool = True) -> PrognosisModel:
    """A Cox model of one feature."""
    cox = CoxModel(
        feature_names=("d90",), mean=(60.0,), sd=(2.0,), coefficients=(-0.5,), baseline_times=(100.0, 500.0),
        baseline_cumulative_hazard=(0.1, 0.4), time_unit="d", high_risk_above=0.0, penalty=0.1, l1_ratio=0.5,
        patients=118, events=40,
    )  # fmt: skip
    cohort = TrainingCohort(
        name="response during treatment, made up", endpoint="death", is_simulated=is_simulated, patients=118, events=40
    )
    return PrognosisModel(
        method="prognosis_delta_radiomics", model=cox, resampled=(cox,), cohort=cohort,
        feature_set="early_middle_relative", extraction={}, horizon=730.0, high_above=0.0, curves=(ILL, FREE),
        held_out={"c_index": 0.71, "c_index_low": 0.62, "c_index_high": 0.79, "permutation_p": 0.004},
        domain=DOMAIN, limits=LIMITS,
    )  # fmt: skip


def classifier(is_simulated: bool = False) -> PrognosisModel:
    """A logistic model of one feature, without times."""
    logistic = LogisticModel(
        feature_names=("d90",), mean=(60.0,), sd=(2.0,), coefficients=(-0.5,), intercept=0.1, inverse_penalty=0.1,
        l1_ratio=0.5, patients=50, with_outcome=20,
    )  # fmt: skip
    cohort = TrainingCohort(
        name="cardiac arrest, one hospital", endpoint="poor neurological outcome (CPC 3 to 5)",
        is_simulated=is_simulated, patients=50, events=20,
    )  # fmt: skip
    return PrognosisModel(
        method="prognosis_brain_ct", model=logistic, resampled=(), cohort=cohort, feature_set="whole",
        extraction={}, high_above=0.5, held_out={"roc_auc": 0.8, "roc_auc_low": 0.66, "roc_auc_high": 0.9},
        domain=DOMAIN,
        probabilities=tuple(((number % 17) / 17, number % 5 < 2) for number in range(50)),
    )  # fmt: skip


def content(model: PrognosisModel | None = None, **changes: Any) -> PrognosisContent:
    """A patient of high risk."""
    used = model or survival_model()
    made = PrognosisContent(
        title="Prognosis from delta-radiomics",
        regions=regions(),
        model=used,
        weights_name="delta_radiomics_simulated",
        weights_sha256=WEIGHTS,
        prediction=Prediction(1.234, "high", Interval(0.613, 0.44, 0.781), used.horizon, used.time_unit, 1.5),
        curve=tuple(CurvePoint(f"fraction {number}", 0.2 * number**0.5) for number in (1, 2, 3, 5)),
        curve_name="linear predictor",
        remarks=("Fraction 4 has no images.", "The GTV was cut by the field of view: 2 % lie outside."),
        findings=(judged("feature_distance", 3.0, "1", LIMITS["feature_distance"], "Distance from training patients"),),
    )
    return replace(made, **changes)


def evidence() -> list[Dataset]:
    """Everything that was used, among it what the regions do not name."""
    return [*planning_ct(), *cbct(), structure_set(), rt_dose()]
