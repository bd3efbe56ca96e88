"""How often a validation finds as much when outcomes belong to nobody.

References
----------
Phipson and Smyth, Stat Appl Genet Mol Biol 2010, doi 10.2202/1544-6115.1585 (the observed order counts as one)
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from models.survival.cohort import Cohort, SurvivalError


def permutation_p(cohort: Cohort, score: Callable[[Cohort], float], permutations: int = 199, seed: int = 0) -> float:
    """The p of a score, such as the held-out C of a whole nested validation, against outcomes dealt out at random.

    The score is computed anew for every permutation, training and all: permuting only against ready predictions would
    take no account of what the training saw.

    Raises
    ------
    SurvivalError
        If a patient has several rows: his outcomes can not be given to another.
    """
    if len(cohort.patients) < cohort.rows:
        raise SurvivalError("Outcomes of patients with several rows can not be permuted")
    random = np.random.default_rng(seed)
    observed = score(cohort)
    as_much = sum(score(_dealt(cohort, random)) >= observed for _ in range(permutations))
    return (1.0 + as_much) / (1.0 + permutations)


def _dealt(cohort: Cohort, random: np.random.Generator) -> Cohort:
    order = random.permutation(cohort.rows)
    return replace(cohort, start=cohort.start[order], stop=cohort.stop[order], event=cohort.event[order])
