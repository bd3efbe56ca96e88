"""Held-out concordance on two public tables, in one run with what other libraries do by default.

python -m tests.benchmarks.survival_tables [repeats] [folds]

The tables lie below RTNODE_DATA. Every method is trained and tested on the same folds, with scaling inside them.
lifelines and scikit-survival take part where they are installed; neither is a part of this project: lifelines wants an
older pandas, scikit-survival is GPL.
"""

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from models.survival.cohort import Cohort, Floats, SurvivalError
from models.survival.cox_model import CoxSettings, fit_cox
from models.survival.group_comparison import hazard_ratio, log_rank_p
from models.survival.preparation import preparation
from models.survival.validation import Procedure, held_out_c_index, repeated_nested
from tests.models.survival.tables import lumiere, lung1


@dataclass(frozen=True)
class PeerModel:
    """A fitted model of another library behind the same face."""

    of_features: Callable[[Floats], Floats]
    high_risk_above: float

    def risk(self, features: Floats, feature_names: tuple[str, ...]) -> Floats:
        """(n, p) to (n,)."""
        return self.of_features(features)

    def event_probability(self, risk: Floats, time: float) -> Floats:
        """Not compared."""
        raise NotImplementedError


def peer(fit: Callable[[Floats, Cohort], Callable[[Floats], Floats]]) -> Procedure:
    """A procedure that standardises, fits, and cuts at the median of the training patients."""

    def procedure(training: Cohort, random: np.random.Generator) -> PeerModel:
        prepared = preparation(training)
        predict = fit(prepared.standardised(training.features), training)
        found = predict(prepared.standardised(training.features))
        return PeerModel(lambda features: predict(prepared.standardised(features)), float(np.median(found)))

    return procedure


def scikit_survival(features: Floats, training: Cohort) -> Callable[[Floats], Floats]:
    """CoxnetSurvivalAnalysis as it comes: l1_ratio 0.5, the last of its 100 penalties."""
    from sksurv.linear_model import CoxnetSurvivalAnalysis
    from sksurv.util import Surv

    model = CoxnetSurvivalAnalysis().fit(features, Surv.from_arrays(training.event, training.stop))
    return lambda values: np.asarray(model.predict(values))


def lifelines(features: Floats, training: Cohort) -> Callable[[Floats], Floats]:
    """CoxPHFitter or, with several rows for a patient, CoxTimeVaryingFitter, both without penalty as they come."""
    import pandas
    from lifelines import CoxPHFitter, CoxTimeVaryingFitter

    table: Any = pandas.DataFrame(features).assign(
        begin=training.start, end=training.stop, died=training.event, patient=training.patient
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if training.start.any():
            model: Any = CoxTimeVaryingFitter()
            model.fit(table, id_col="patient", event_col="died", start_col="begin", stop_col="end")
        else:
            model = CoxPHFitter()
            model.fit(table.drop(columns=["begin", "patient"]), duration_col="end", event_col="died")
    slopes = model.params_.to_numpy()
    return lambda values: np.asarray(values @ slopes)


def methods(cohort: Cohort) -> Mapping[str, Procedure]:
    """Ours first, then the libraries that are installed and can read these rows."""
    settings = CoxSettings()
    found: dict[str, Procedure] = {"rtnode": lambda training, random: fit_cox(training, settings, random)}
    if find_spec("sksurv") and not cohort.start.any():
        found["scikit-survival"] = peer(scikit_survival)
    if find_spec("lifelines"):
        found["lifelines"] = peer(lifelines)
    return found


def line(cohort: Cohort, procedure: Procedure, folds: int, repeats: int) -> str:
    """Concordance with its interval, and the groups of the first repeat."""
    start = time.perf_counter()
    found = repeated_nested(cohort, procedure, folds, repeats)
    seconds = time.perf_counter() - start
    c = held_out_c_index(cohort, found)
    high = found[0].high_risk
    try:
        ratio = hazard_ratio(cohort, high)
        groups = f"{ratio.value:6.2f} ({ratio.low:.2f} to {ratio.high:.2f}) {log_rank_p(cohort, high):10.2g}"
    except SurvivalError as error:
        groups = str(error)
    return f"{c.value:.3f} ({c.low:.3f} to {c.high:.3f}) {groups} {seconds:8.1f}"


def main(repeats: int = 10, folds: int = 5) -> None:
    """Print one line for every table, set of features and method."""
    cohorts = {"LUMIERE radiomics": lumiere()} | {f"Lung1 {name}": one for name, one in lung1().items()}
    head = f"{repeats} times {folds} folds\n{'cohort':<20}{'patients':>9}{'events':>7}{'features':>9}  {'method':<16}"
    sys.stdout.write(head + "C held out (95 %)       hazard ratio of groups   log-rank p  seconds\n")
    for name, cohort in cohorts.items():
        size = f"{name:<20}{len(cohort.patients):>9}{cohort.events:>7}{cohort.features.shape[1]:>9}"
        for method, procedure in methods(cohort).items():
            try:
                measured = line(cohort, procedure, folds, repeats)
            except (ArithmeticError, ValueError, RuntimeError) as error:
                measured = f"failed: {type(error).__name__}: {str(error).splitlines()[0][:60]}"
            sys.stdout.write(f"{size}  {method:<16}{measured}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
