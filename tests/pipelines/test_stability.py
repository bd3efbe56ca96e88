import pytest

from models.limits import Limits
from pipelines.stability import Finding, Verdict, judged

LIMITS = Limits(flag_above=1.0, hold_above=2.0)


@pytest.mark.parametrize(
    ("value", "verdict"), [(1.0, Verdict.RELEASE), (1.5, Verdict.FLAG), (2.0, Verdict.FLAG), (2.1, Verdict.HOLD)]
)
def test_a_value_is_judged_by_the_limits_it_is_above(value: float, verdict: Verdict) -> None:
    assert judged("shift_mm", value, "mm", LIMITS, "Shift").verdict is verdict


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_could_not_be_measured_holds_and_can_be_kept(value: float) -> None:
    finding = judged("shift_mm", value, "mm", LIMITS, "Shift")
    assert (finding.verdict, finding.text) == (Verdict.HOLD, "Shift: could not be measured")
    assert Finding.model_validate_json(finding.model_dump_json()) == finding


def test_without_a_limit_a_value_holds() -> None:
    assert judged("shift_mm", 0.0, "mm", None, "Shift").verdict is Verdict.HOLD
