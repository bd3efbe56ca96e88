"""Made-up cohorts whose hazard is known.

The hazard is Weibull's, shape k and scale s: a patient with linear predictor x b has the event at
s (-log(u) exp(-x b))^(1/k), u even between 0 and 1.

References
----------
Bender et al., Stat Med 2005, doi 10.1002/sim.2059
"""

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.survival.cohort import Cohort, Floats, cohort


class SimulatedCohortSettings(BaseModel):
    """What a made-up cohort is like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patients: int = Field(200, ge=2)
    features: int = Field(20, ge=1)
    effects: tuple[float, ...] = (0.8, -0.6, 0.4)
    """Logarithms of the hazard ratio for one standard deviation of the first features; the others have none."""
    correlation: float = Field(0.3, ge=0.0, lt=1.0)
    """Of every two features."""
    shape: float = Field(1.2, gt=0.0)
    scale_d: float = Field(900.0, gt=0.0)
    watched_d: tuple[float, float] = (300.0, 2500.0)
    """Patients without the event are censored evenly between these."""

    @model_validator(mode="after")
    def _fits(self) -> "SimulatedCohortSettings":
        if len(self.effects) > self.features:
            raise ValueError("there are more effects than features")
        return self


@dataclass(frozen=True)
class SimulatedCohort:
    """A cohort, and the risk that nobody knows."""

    cohort: Cohort
    risk: Floats
    """(n,) true linear predictor: no model orders patients better."""


def simulated_cohort(settings: SimulatedCohortSettings, random: np.random.Generator) -> SimulatedCohort:
    """Draw a cohort; times in days."""
    n, p = settings.patients, settings.features
    shared = random.standard_normal((n, 1))
    own = random.standard_normal((n, p))
    features = np.sqrt(settings.correlation) * shared + np.sqrt(1.0 - settings.correlation) * own
    effects = np.zeros(p)
    effects[: len(settings.effects)] = settings.effects
    risk = features @ effects
    times = settings.scale_d * (random.exponential(size=n) * np.exp(-risk)) ** (1.0 / settings.shape)
    censored = random.uniform(*settings.watched_d, size=n)
    names = [f"feature_{index}" for index in range(p)]
    return SimulatedCohort(cohort(features, names, np.minimum(times, censored), times <= censored), risk)
