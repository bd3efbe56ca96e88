"""Training and evaluation of the risk of failure from dose: what `prognosis_training` has to know of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from models.training.prognosis_sets import PatientFeatures
from pipelines.base import Progress, TrainingOptions
from pipelines.dose_prognosis_features import BOTH, METRICS
from pipelines.outcomes import CollectedPatient
from pipelines.prognosis_training import PrognosisWork, evaluate, train

if TYPE_CHECKING:
    from pipelines.dosiomics import Dosiomics

_ROLES = ("dose", "structure_set", "plan")
CARD = """
## Intended use

Research into the risk of biochemical failure after a permanent prostate implant, from the dose and the structure set of
the CT after it. No decision about a patient may rest on it.

## Data

Features of the dose in the prostate: measures of the dose-volume histogram, and standardised (IBSI) features of the
dose as it is, of eight wavelet bands and of Laplacians of Gaussian. Hot spots are cut at a stated multiple of the
prescription before, as the dose next to a seed says where a voxel happens to lie.

## Limits

Dose alone: neither stage, grade nor PSA is known to the model. Failures are few, so few features can be told from
chance, and the interval of a probability is wide. The dose has to be of a whole plan, in Gy, and cover the prostate.

## Licence

Apache-2.0, as the program.
"""


def train_dosiomics(
    pipeline: "Dosiomics", data: Path, output: Path, options: TrainingOptions, progress: Progress
) -> Path:  # fmt: skip
    """Train; errors as of `prognosis_training.train`."""
    return train(_work(pipeline), data, output, options, progress)


def evaluate_dosiomics(
    pipeline: "Dosiomics", data: Path, output: Path, progress: Progress, comparators: bool, record: bool
) -> Mapping[str, float]:
    """Measure on the test patients; errors as of `prognosis_training.evaluate`."""
    return evaluate(_work(pipeline), data, output, progress, comparators, record)


def _work(pipeline: "Dosiomics") -> PrognosisWork:
    def of_patient(collected: CollectedPatient) -> PatientFeatures:
        paths = {role: [path for series in collected.series(role) for path in series] for role in _ROLES}
        case = pipeline.case({role: found for role, found in paths.items() if found or role == "dose"})
        return PatientFeatures(collected.patient, case.measured.sets(), case.measures)

    return PrognosisWork(
        method=pipeline.name,
        weights=pipeline.weights,
        extraction=pipeline.extraction.model_dump(mode="json"),
        of_patient=of_patient,
        training={"feature_set": BOTH, "baseline_set": METRICS, **pipeline.training},
        card_text=CARD,
    )
