"""Limits of a measure: where a result is labelled, and where it waits for a person."""

from pydantic import BaseModel, ConfigDict


class Limits(BaseModel):
    """Values of one measure above which a result is flagged or held; measured on validation patients."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flag_above: float
    hold_above: float
