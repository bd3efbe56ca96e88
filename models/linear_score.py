"""A score that is linear in standardised features: what trained models of outcomes have in common."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from models.survival.cohort import Floats


class LinearScore(BaseModel):
    """All its numbers, and the names of the features that it wants, in their order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    refusal: ClassVar[type[Exception]]
    """What is raised where the features do not fit."""

    feature_names: tuple[str, ...] = Field(min_length=1)
    """k features with a coefficient; more than these are not needed."""
    mean: tuple[FiniteFloat, ...]
    """(k,)."""
    sd: tuple[FiniteFloat, ...]
    """(k,)."""
    coefficients: tuple[FiniteFloat, ...]
    """(k,), of the standardised features."""

    @model_validator(mode="after")
    def _has_a_number_for_each_feature(self) -> "LinearScore":
        if len({len(self.feature_names), len(self.mean), len(self.sd), len(self.coefficients)}) > 1:
            raise ValueError("features, means, standard deviations and coefficients differ in number")
        if len(set(self.feature_names)) < len(self.feature_names):
            raise ValueError("two features have one name")
        if min(self.sd) <= 0.0:
            raise ValueError("a standard deviation is not above 0")
        return self

    def score(self, features: Floats, feature_names: Sequence[str]) -> Floats:
        """Sum of coefficient times standardised feature, (n, p) to (n,).

        Raises
        ------
        Exception
            `refusal`, if a feature of the model is absent or is no number.
        """
        absent = [name for name in self.feature_names if name not in feature_names]
        if absent:
            raise self.refusal(f"The feature {absent[0]} is absent")
        values = features[:, [feature_names.index(name) for name in self.feature_names]]
        if not np.isfinite(values).all():
            raise self.refusal("A feature of the model is no number")
        return np.asarray((values - self.mean) / self.sd @ np.array(self.coefficients))
