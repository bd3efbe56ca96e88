"""Whether training finds nothing where there is nothing: the p of cohorts whose outcomes have no part in their images.

python -m tests.benchmarks.null_cohorts COHORT RUN [cohorts] [permutations]

COHORT is what `rtnode phantom course` made, RUN the output of `rtnode train prognosis_delta_radiomics` on it, where the
features lie. The images of made-up courses do not depend on the effect, so for every cohort outcomes are drawn anew
with an effect of 0, for patients drawn without replacement. The p have to be even between 0 and 1.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import kstest

from models.outcomes import CohortStatement, EventTime, Outcomes
from models.simulated_response import ResponseSettings, simulated_outcomes
from models.training.prognosis_learning import learning
from models.training.prognosis_sets import PatientFeatures, feature_tables
from node.config import embedded_config
from pipelines.base import TrainingOptions, no_progress
from pipelines.delta_radiomics import DeltaRadiomics
from pipelines.outcomes import collected_patients
from pipelines.prognosis_training import patient_features, training_settings

_LEAST_ICC = 0.75


def unstable(run: Path) -> frozenset[str]:
    """Features that the training left out, from the table that it wrote."""
    with (run / "feature_stability.csv").open(newline="", encoding="utf-8") as file:
        return frozenset(row["feature"] for row in csv.DictReader(file) if not float(row["icc"]) >= _LEAST_ICC)


def null_p(
    patients: Sequence[PatientFeatures],
    left_out: frozenset[str],
    pipeline: DeltaRadiomics,
    permutations: int,
    seed: int,
) -> float:
    """The p of one cohort of half of the patients."""
    random = np.random.default_rng([seed, 20])
    drawn = [patients[index] for index in sorted(random.permutation(len(patients))[: len(patients) // 2])]
    found = simulated_outcomes(len(drawn), ResponseSettings(effect=0.0), random)
    times = zip(found.time_d.tolist(), found.event.tolist(), strict=True)
    of_patient = {one.patient: EventTime(time_d, event) for one, (time_d, event) in zip(drawn, times, strict=True)}
    outcomes = Outcomes(CohortStatement(name="no effect", endpoint="death", is_simulated=True), of_patient)
    options = TrainingOptions(seed=seed, settings={"permutations": permutations})
    settings = training_settings(pipeline.training, options)
    return learning(outcomes, settings).permutation_p(feature_tables(drawn, left_out)[settings.feature_set])


def main(cohort: str, run: str, cohorts: int = 20, permutations: int = 39) -> None:
    """Print every p, and how well they agree with being even."""
    pipeline = embedded_config().pipeline("prognosis_delta_radiomics", verify=False)
    assert isinstance(pipeline, DeltaRadiomics)
    patients = patient_features(pipeline.work(), collected_patients(Path(cohort)), Path(run), no_progress)
    left_out = unstable(Path(run))
    found = []
    for seed in range(cohorts):
        found.append(null_p(patients, left_out, pipeline, permutations, seed))
        sys.stdout.write(f"cohort {seed + 1}: p {found[-1]:.3f}\n")
        sys.stdout.flush()
    below = sum(p <= 0.05 for p in found)
    fit = kstest(found, "uniform").pvalue
    sys.stdout.write(
        f"{cohorts} cohorts of {len(patients) // 2} patients, {permutations} permutations each: "
        f"p from {min(found):.3f} to {max(found):.3f}, {below} at or below 0.05; "
        f"even by Kolmogorov-Smirnov with p {fit:.2f}\n"
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(argument) for argument in sys.argv[3:]))
