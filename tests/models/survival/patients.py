"""Cohorts that tests share: a published one, and ways to write the same patients down in other rows."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from models.survival.cohort import Cohort, Flags, Floats, cohort

# Weeks of remission of children with leukaemia, 6-mercaptopurine against placebo; 0: still in remission.
# Freireich et al., Blood 1963;21:699; the table of every textbook since Cox 1972.
TREATED_WK = (6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35)
RELAPSED = (1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0)
PLACEBO_WK = (1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23)


def leukaemia() -> tuple[Cohort, Flags]:
    """Both groups, and who had the placebo."""
    time = np.array([*TREATED_WK, *PLACEBO_WK], np.float64)
    event = np.array([*RELAPSED, *[1] * len(PLACEBO_WK)])
    placebo = np.arange(len(time)) >= len(TREATED_WK)
    return cohort(placebo[:, None].astype(np.float64), ["placebo"], time, event, time_unit="wk"), placebo


def cut_at(whole: Cohort, *times: float) -> Cohort:
    """The same patients, every row divided at these times (counting process)."""
    rows: list[tuple[int, float, float, bool]] = []
    for row, (first, last, ended) in enumerate(zip(whole.start, whole.stop, whole.event, strict=True)):
        bounds = [first, *[time for time in sorted(times) if first < time < last], last]
        rows += [(row, a, b, bool(ended) and b == last) for a, b in pairwise(bounds)]
    index, start, stop, event = (np.array(column) for column in zip(*rows, strict=True))
    return cohort(whole.features[index], whole.feature_names, stop, event, start=start, patient=whole.patient[index])


def of_times(time: Sequence[float], event: Sequence[int], features: Floats | None = None) -> Cohort:
    """A cohort with one feature that is 0 for everybody, unless features are given."""
    values = np.zeros((len(time), 1)) if features is None else features
    return cohort(values, [f"f{index}" for index in range(values.shape[1])], time, event)
