"""What the report of a prognosis says, and the words that the structured report and the page have in common."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom import Dataset

from models.outcomes import SIMULATED
from models.prognosis import Prediction, PrognosisModel
from models.survival.interval import Interval
from pipelines.base import Labelling
from pipelines.dicom.derived import NOT_FOR_TREATMENT
from pipelines.stability import Finding

_TIME_UNITS = {"d": "days", "wk": "weeks", "mo": "months", "a": "years", "h": "hours"}
"""UCUM codes of times, in the plural."""
_HELD_OUT = {
    "c_index": "C-index",
    "roc_auc": "area under the ROC curve",
    "pr_auc": "area under the precision-recall curve",
}
"""What the measures of `PrognosisModel.held_out` are called."""


@dataclass(frozen=True)
class Measured:
    """One value of a region."""

    name: str
    """A plain identifier, `cm_contrast@log_2mm`."""
    value: float
    """nan where the region does not define it."""
    unit: str
    """UCUM; 1 for plain numbers."""
    ibsi_code: str = ""
    """Of the feature, where the value is the feature itself and not a change of it."""
    detail: str = ""
    """What else it takes to know what it is, parted by semicolons: aggregation; filter; digest of the settings."""


@dataclass(frozen=True)
class MeasuredRegion:
    """Values of one region at one time."""

    roi_name: str
    time_point: str
    """`fraction 3, 2025-01-20`; empty where there is only one."""
    images: tuple[Dataset, ...]
    """Headers of every image that was used."""
    region: Dataset | None
    """Header of the structure set or segmentation that has the region."""
    measurements: tuple[Measured, ...]


@dataclass(frozen=True)
class CurvePoint:
    """One point of the patient's curve."""

    label: str
    """`fraction 3`, or a date."""
    value: float


@dataclass(frozen=True)
class PrognosisContent:
    """What the report of a prognosis says."""

    title: str
    """A few words: `Prognosis from delta-radiomics`."""
    regions: tuple[MeasuredRegion, ...]
    model: PrognosisModel
    weights_name: str
    weights_sha256: str
    prediction: Prediction | None
    """None where there is not yet enough of the patient for one; a remark says what is missing."""
    curve: tuple[CurvePoint, ...] = ()
    """The patient's feature or risk over the fractions, in their order."""
    curve_name: str = ""
    remarks: tuple[str, ...] = ()
    """One sentence for whatever a reader has to know: a missing fraction, a region that was cut."""
    findings: tuple[Finding, ...] = ()

    def instances(self) -> list[Dataset]:
        """Headers of all that the regions name."""
        return [one for region in self.regions for one in (*region.images, region.region) if one is not None]

    def series_description(self, kind: str) -> str:
        """For a report or a page: the title, or that the cohort is simulated; there is no room for both."""
        return f"{kind} {SIMULATED}" if self.model.cohort.is_simulated else self.title

    def warnings(self, labelling: Labelling) -> list[str]:
        """What has to be read before anything else."""
        simulated = [SIMULATED] if self.model.cohort.is_simulated else []
        return [*simulated, ", ".join(marks(labelling))]

    def event(self) -> str:
        """What the probability is of: `death within 730 days`."""
        model = self.model
        within = "" if model.horizon is None else f" within {model.horizon:g} {in_words(model.time_unit)}"
        return model.cohort.endpoint + within

    def summary(self) -> str:
        """The prognosis in two sentences."""
        if self.prediction is None:
            return f"No prognosis yet: nothing can be said of {self.event()}."
        probability = in_percent(self.prediction.probability)
        return (
            f"Risk group: {self.prediction.group}. Probability of {self.event()}: {probability.value:.0f} % "
            f"(95 % interval {probability.low:.0f} to {probability.high:.0f} %)."
        )

    def validation(self) -> Iterator[tuple[str, str, Interval]]:
        """Name, words and value of each measure of the model on patients that it had not seen.

        The interval has no width where none was measured.
        """
        held_out = self.model.held_out
        for name, words in _HELD_OUT.items():
            if name in held_out:
                value = held_out[name]
                ends = (held_out.get(f"{name}_low", value), held_out.get(f"{name}_high", value))
                yield name, words, Interval(value, *ends)


def marks(labelling: Labelling) -> list[str]:
    """What the labelling says about the use of a result."""
    return [labelling.content_qualification, *([NOT_FOR_TREATMENT] if labelling.not_for_treatment else [])]


def in_percent(interval: Interval) -> Interval:
    """A probability in percent."""
    return Interval(100.0 * interval.value, 100.0 * interval.low, 100.0 * interval.high)


def in_words(time_unit: str) -> str:
    """A UCUM code of a time: `days`."""
    return _TIME_UNITS.get(time_unit, time_unit)
