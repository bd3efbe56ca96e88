"""A made-up cohort after cardiac arrest whose truth is known: how swollen each brain is, and what that does.

The swelling is Beta(1.1, 1.6); its standardised value times the effect is added to the log-odds of the poor outcome,
and the outcome is drawn by it. With an effect of 0 it is drawn by a coin, whatever the brain looks like. The
coefficients are chosen and not those of any patients.
"""

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.survival.cohort import Flags, Floats

_SHAPE = (1.1, 1.6)
_MEAN = _SHAPE[0] / sum(_SHAPE)
_SD = float(np.sqrt(_SHAPE[0] * _SHAPE[1] / (sum(_SHAPE) ** 2 * (sum(_SHAPE) + 1.0))))


class OedemaCohortSettings(BaseModel):
    """What the cohort is like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patients: int = Field(120, ge=1)
    effect: float = 2.0
    """Logarithm of the odds ratio of the poor outcome for one standard deviation of swelling."""
    intercept: float = 0.4
    """Log-odds of the poor outcome at the mean swelling: somewhat more patients have it than not."""


@dataclass(frozen=True)
class OedemaCohort:
    """Who is how swollen, and what became of them."""

    oedema: Floats
    """(n,), 0 to 1, as `HeadAnatomy.oedema`."""
    risk: Floats
    """(n,) true log-odds of the poor outcome: no model orders patients better."""
    poor: Flags
    """(n,)."""


def oedema_cohort(settings: OedemaCohortSettings, random: np.random.Generator) -> OedemaCohort:
    """Draw a cohort; a larger one of the same seed begins with the same patients."""
    (coin,) = random.spawn(1)
    oedema = random.beta(*_SHAPE, size=settings.patients)
    risk = settings.intercept + settings.effect * (oedema - _MEAN) / _SD
    poor = coin.uniform(size=settings.patients) < 1.0 / (1.0 + np.exp(-risk))
    return OedemaCohort(oedema, risk, poor)
