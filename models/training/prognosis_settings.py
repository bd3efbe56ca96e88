"""How a model of outcomes is trained and validated."""

from pydantic import BaseModel, ConfigDict, Field

from models.classification import LogisticSettings
from models.survival.cox_model import CoxSettings


class PrognosisTraining(BaseModel):
    """Settings; what they choose is chosen before any outcome is seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    feature_set: str
    """The set that the model is of. Chosen by what the sets are, not by how they fare: the best of many is luck."""
    baseline_set: str | None = None
    """What the model has to beat."""
    folds: int = Field(5, ge=2)
    repeats: int = Field(5, ge=1)
    """Of the nested cross-validation of every set."""
    permutations: int = Field(99, ge=0)
    """Of the outcomes, for the p of the chosen set; each is one nested cross-validation."""
    resamples: int = Field(50, ge=0)
    """Models of cohorts drawn with replacement, for the interval of a patient's probability."""
    horizon_d: float | None = Field(None, gt=0.0)
    """Of the probability; None takes the time by which three quarters of the events had come."""
    high_risk_percentile: float = Field(50.0, gt=0.0, lt=100.0)
    """Training patients above it are the high-risk group."""
    least_icc: float = Field(0.75, ge=-1.0, le=1.0)
    """A feature that repeats worse than this, where its stability was measured, is left out."""
    seed: int = Field(0, ge=0)
    cox: CoxSettings = CoxSettings(most_features=20, penalties=15)
    logistic: LogisticSettings = LogisticSettings()
