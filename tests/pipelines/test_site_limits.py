from datetime import date

import pytest
from pydantic import ValidationError

from models.limits import Limits
from pipelines.copy_series import CopySeries
from pipelines.site_limits import SiteLimit, SiteStability
from pipelines.stability import Verdict

CARD = Limits(flag_above=1.0, hold_above=2.0)
OWN = SiteLimit(flag_above=2.5, hold_above=3.0, by="A. Physicist", on=date(2026, 11, 20))


def test_a_limit_of_the_site_decides_and_the_finding_says_whose_it_is() -> None:
    site = SiteStability(limits={"edge_shift_mm": OWN})
    finding = site.judged("edge_shift_mm", 2.2, "mm", CARD, "Shift of edges in mm")
    assert finding.verdict is Verdict.RELEASE
    assert "set by A. Physicist on 2026-11-20 (model card: 1 and 2)" in finding.text
    assert site.judged("edge_shift_mm", 3.1, "mm", CARD, "Shift").verdict is Verdict.HOLD


def test_a_finding_without_any_limit_holds_unless_the_site_has_set_one() -> None:
    assert SiteStability().judged("new", 0.0, "1", None, "New").verdict is Verdict.HOLD
    found = SiteStability(limits={"new": OWN}).judged("new", 0.0, "1", None, "New")
    assert found.verdict is Verdict.RELEASE and "model card: no limit" in found.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"flag_above": 1.0, "hold_above": 2.0, "on": "2026-11-20"},
        {"flag_above": 1.0, "hold_above": 2.0, "by": " ", "on": "2026-11-20"},
        {"flag_above": 1.0, "hold_above": 2.0, "by": "A. Physicist"},
        {"flag_above": 2.0, "hold_above": 1.0, "by": "A. Physicist", "on": "2026-11-20"},
    ],
    ids=["nobody", "blank name", "no day", "holds before it flags"],
)
def test_a_limit_of_the_site_needs_a_person_a_day_and_an_order(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SiteLimit.model_validate(wrong)


def test_limits_of_the_site_are_part_of_the_digest_of_the_settings() -> None:
    plain = CopySeries(name="copy")
    assert (
        plain.settings_sha256()
        != plain.model_copy(update={"stability": SiteStability(limits={"new": OWN})}).settings_sha256()
    )
