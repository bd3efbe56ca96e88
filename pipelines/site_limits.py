"""Limits that a site sets in place of those of the model card, each with the person who answers for it."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from models.limits import Limits
from pipelines.stability import Finding, judged

Person = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class SiteLimit(BaseModel):
    """Limits of one finding, as a named person decided on a day."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    flag_above: float
    hold_above: float
    by: Person
    on: date

    @model_validator(mode="before")
    @classmethod
    def _on_is_a_word(cls, values: Any) -> Any:
        """YAML 1.1 reads the key `on` as true."""
        return (
            {"on" if key is True else key: value for key, value in values.items()}
            if isinstance(values, dict)
            else values
        )

    @model_validator(mode="after")
    def _flags_before_it_holds(self) -> "SiteLimit":
        if self.hold_above < self.flag_above:
            raise ValueError("hold_above has to be flag_above or more")
        return self


class SiteStability(BaseModel):
    """The part `stability` of a pipeline's file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limits: Mapping[str, SiteLimit] = Field(default_factory=dict)
    """By name of the finding."""

    def judged(self, name: str, value: float, unit: str, limits: Limits | None, what: str) -> Finding:
        """A finding with the verdict of the site's limits where it has set some, else of `limits`.

        The text names the person, the day and what the model card says.
        """
        own = self.limits.get(name)
        if own is None:
            return judged(name, value, unit, limits, what)
        finding = judged(name, value, unit, Limits(flag_above=own.flag_above, hold_above=own.hold_above), what)
        usual = "no limit" if limits is None else f"{limits.flag_above:g} and {limits.hold_above:g}"
        said = f"{finding.text}; limits of the site, set by {own.by} on {own.on.isoformat()} (model card: {usual})"
        return finding.model_copy(update={"text": said})
