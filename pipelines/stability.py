"""The stability gate: findings in, one verdict out.

A finding says what was measured on one result, in which unit, and against which limit. Limits come from the model card,
where training measured them on held-out data; a measurement without a limit holds the result for a person.
"""

import math
from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from models.limits import Limits

QUALITY_PAGE, QUALITY_PICTURE = "quality.html", "quality.png"
"""Files in the folder of a result that show a person how it was judged; kept and removed with it."""


class Verdict(StrEnum):
    """What happens to a result."""

    RELEASE = "release"
    """It is sent."""
    FLAG = "flag"
    """It is sent, and labelled."""
    HOLD = "hold"
    """It is not sent until a named person releases it."""


_SEVERITY = {Verdict.RELEASE: 0, Verdict.FLAG: 1, Verdict.HOLD: 2}


class Finding(BaseModel):
    """One measured fact about one result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Snake case, with the unit where the value has one: `mean_change_hu`."""
    value: float
    unit: str
    """UCUM code; "1" for a plain number."""
    verdict: Verdict
    text: str
    """One plain sentence for the person who decides."""
    flag_above: float | None = None
    """The limit that it was judged by, in the unit of the value; None where there was none, and in old records."""
    hold_above: float | None = None
    """The other one."""

    def limits(self) -> Limits | None:
        """The limits that it was judged by; None where there were none."""
        if self.flag_above is None or self.hold_above is None:
            return None
        return Limits(flag_above=self.flag_above, hold_above=self.hold_above)


def judged(name: str, value: float, unit: str, limits: Limits | None, what: str) -> Finding:
    """A finding with the verdict that `limits` give; without limits nobody knows what is normal, so it holds.

    So does a value that is no finite number: nothing was measured, and 0 is kept in its place.
    """
    if not math.isfinite(value):
        return Finding(name=name, value=0.0, unit=unit, verdict=Verdict.HOLD, text=f"{what}: could not be measured")
    if limits is None:
        return Finding(
            name=name, value=value, unit=unit, verdict=Verdict.HOLD, text=f"{what}: no limit was ever measured"
        )
    if value > limits.hold_above:
        bound, verdict = f"above the limit of {limits.hold_above:g}", Verdict.HOLD
    elif value > limits.flag_above:
        bound, verdict = f"above the usual {limits.flag_above:g}", Verdict.FLAG
    else:
        bound, verdict = f"within the usual {limits.flag_above:g}", Verdict.RELEASE
    text = f"{what}: {value:.3g}, {bound}"
    return Finding(name=name, value=value, unit=unit, verdict=verdict, text=text, **limits.model_dump())


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """The gravest verdict among the findings; without any finding nothing is proved, so the result is held."""
    return max((finding.verdict for finding in findings), key=_SEVERITY.__getitem__, default=Verdict.HOLD)
