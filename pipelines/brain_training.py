"""Training and evaluation of the prognosis from head CT: which features, and what its card says."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.base import Progress, TrainingOptions
from pipelines.brain_measurement import patient_features
from pipelines.prognosis_training import PrognosisWork, evaluate, train

if TYPE_CHECKING:
    from pipelines.brain_ct import BrainCt

_METHOD = "prognosis_brain_ct"
_CARD = """## Intended use

Research on the prognosis after cardiac arrest from a plain head CT: probability of the poor neurological outcome,
beside the grey-white ratio as the baseline. No decision about a patient may rest on it.

## Data

Head CTs of a research collection with outcomes. The shipped model comes from made-up heads (`rtnode phantom head`):
parametric anatomy with swelling as one number, whose effect on the outcome was chosen. The atlas is the mean of the
same made-up anatomy, so that regions fit these heads better than they will fit patients.

## Limits

Without contrast medium, whole brain, closed skull, slices of one spacing without a sheared gantry tilt. The limits of
the findings are those of the training patients; a scanner, kernel or slice thickness that they did not have is outside
of them. Haemorrhage, infarction, tumours, shunts and earlier surgery were not in the made-up heads, and nobody has
measured what they do to the result.

## Licence

Apache-2.0, as the program. Atlas and made-up heads are code of this project; no image of a patient was used.
"""


def train_brain_ct(
    pipeline: "BrainCt", data: Path, output: Path, options: TrainingOptions, progress: Progress
) -> Path:  # fmt: skip
    """Write the model; returns its path.

    Raises
    ------
    PipelineError
        If settings, patients or outcomes can not be used.
    """
    return train(work(pipeline), data, output, options, progress)


def evaluate_brain_ct(
    pipeline: "BrainCt", data: Path, output: Path, progress: Progress, comparators: bool, record: bool
) -> dict[str, float]:
    """Measure the model on the test patients.

    Raises
    ------
    PipelineError
        If the model computes other features, or patients or outcomes can not be used.
    """
    return evaluate(work(pipeline), data, output, progress, comparators, record)


def work(pipeline: "BrainCt") -> PrognosisWork:
    """What training has to know of the pipeline."""
    return PrognosisWork(
        method=_METHOD,
        weights=pipeline.weights,
        extraction=pipeline.extraction(),
        of_patient=partial(patient_features, settings=pipeline.features),
        training=pipeline.training_settings(),
        card_text=_CARD,
    )
