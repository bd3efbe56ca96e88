"""The partial likelihood of Cox's model, with Breslow's handling of ties and risk sets of (start, stop] rows.

References
----------
Cox, J R Stat Soc B 1972, doi 10.1111/j.2517-6161.1972.tb00899.x; Breslow, Biometrics 1974, doi 10.2307/2529620
"""

from dataclasses import dataclass

import numpy as np

from models.survival.cohort import Cohort, Floats, Numbers

_LARGEST = 30.0
"""Beyond this a linear predictor is no longer told from this: exp would swamp all other patients."""


@dataclass(frozen=True)
class RiskSets:
    """Who is at risk at each time of an event; n rows, m distinct event times."""

    times: Floats
    """(m,) distinct times of events, ascending."""
    deaths: Floats
    """(m,) events at each."""
    is_event: Floats
    """(n,) 1 where the event came."""
    order_stop: Numbers
    """(n,) rows by descending stop."""
    order_start: Numbers
    """(n,) rows by descending start."""
    not_ended: Numbers
    """(m,) how many rows have stop >= t."""
    not_begun: Numbers
    """(m,) how many of them start at t or later."""
    until_stop: Numbers
    """(n,) how many event times are <= stop."""
    until_start: Numbers
    """(n,) how many event times are <= start."""

    @classmethod
    def of(cls, cohort: Cohort) -> "RiskSets":
        """The risk sets of a cohort."""
        times, deaths = np.unique(cohort.stop[cohort.event], return_counts=True)
        stop, start = np.sort(cohort.stop), np.sort(cohort.start)
        return cls(
            times,
            deaths.astype(np.float64),
            cohort.event.astype(np.float64),
            np.argsort(-cohort.stop),
            np.argsort(-cohort.start),
            cohort.rows - np.searchsorted(stop, times, side="left"),
            cohort.rows - np.searchsorted(start, times, side="left"),
            np.searchsorted(times, cohort.stop, side="right"),
            np.searchsorted(times, cohort.start, side="right"),
        )

    def sum_at_risk(self, values: Floats) -> Floats:
        """Sum over the rows at risk at each event time, (m,)."""
        ended = np.concatenate([[0.0], np.cumsum(values[self.order_stop])])
        begun = np.concatenate([[0.0], np.cumsum(values[self.order_start])])
        return np.asarray(ended[self.not_ended] - begun[self.not_begun])

    def log_likelihood(self, eta: Floats) -> float:
        """Logarithm of the partial likelihood at linear predictors (n,)."""
        eta = np.clip(eta, -_LARGEST, _LARGEST)
        return float(eta @ self.is_event - self.deaths @ np.log(self.sum_at_risk(np.exp(eta))))

    def derivatives(self, eta: Floats) -> tuple[Floats, Floats]:
        """First derivative of the log-likelihood by each eta, and the negative of the second, (n,) each."""
        hazard_ratio = np.exp(np.clip(eta, -_LARGEST, _LARGEST))
        at_risk = self.sum_at_risk(hazard_ratio)
        first = hazard_ratio * self._over_row(self.deaths / at_risk)
        second = hazard_ratio**2 * self._over_row(self.deaths / at_risk**2)
        return self.is_event - first, np.maximum(first - second, 0.0)

    def cumulative_hazard(self, eta: Floats) -> Floats:
        """Breslow's cumulative hazard of a patient with eta 0, at each event time, (m,)."""
        return np.cumsum(self.deaths / self.sum_at_risk(np.exp(np.clip(eta, -_LARGEST, _LARGEST))))

    def _over_row(self, steps: Floats) -> Floats:
        """Sum of steps at the event times in (start, stop] of each row."""
        total = np.concatenate([[0.0], np.cumsum(steps)])
        return np.asarray(total[self.until_stop] - total[self.until_start])
