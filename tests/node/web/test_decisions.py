"""A person releases or rejects on the page, in a real browser; what comes from elsewhere is refused."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page as BrowserPage
from playwright.sync_api import sync_playwright

from node.config import Web, load_config
from node.ledger.schema import ResultState
from node.web.decisions import Decisions
from node.web.page import Page
from pipelines.stability import Verdict
from tests.node.released import Released
from tests.node.web.test_page import CHROMIUM
from tests.peers import config_folder

COPY = {"class": "pipelines.copy_series:CopySeries", "when": {"role": "cbct"}, "send_to": ["PACS"]}
PACS = {"ae_title": "PACS", "host": "127.0.0.1", "port": 1}


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Released]:
    state = Released(tmp_path / "state")
    state.result({"CT": ["PACS"]}, Verdict.HOLD)
    yield state
    state.ledger.close()


@pytest.fixture
def four_eyes() -> bool:
    return False


@pytest.fixture
def decisions(held: Released, tmp_path: Path, four_eyes: bool) -> Decisions:
    folder = config_folder(tmp_path, peers={"PACS": PACS}, pipelines={"copy": COPY | {"four_eyes": four_eyes}})
    return Decisions(load_config(folder), held.ledger)


@pytest.fixture
def address(held: Released, decisions: Decisions) -> Iterator[str]:
    page = Page(Web(port=0), held.ledger, decisions)
    host, port = page.start()
    yield f"http://{host}:{port}"
    page.stop()


@pytest.fixture
def browser_page() -> Iterator[BrowserPage]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def decide(page: BrowserPage, word: str, name: str, reason: str) -> str:
    """Fill in the form, and return what the page says then."""
    page.fill("input[name=name]", name)
    page.fill("textarea[name=reason]", reason)
    page.click(f"button:has-text('{word}')")
    return page.inner_text("body")


def state_of(held: Released) -> tuple[str, list[str]]:
    result = held.ledger.jobs.result_of(1)
    assert result is not None
    return str(result.state), [one.peer for one in held.ledger.deliveries.of_result(1)]


@pytest.mark.req("NODE-06")
def test_person_releases_a_result_on_the_page(held: Released, address: str, browser_page: BrowserPage) -> None:
    browser_page.goto(f"{address}/jobs/1")
    browser_page.click("button:has-text('Release')")
    assert state_of(held) == ("held", []), "the browser asks for a name and a reason first"
    text = decide(browser_page, "Release", "Ohta <b>", "compared with the planning CT")
    assert browser_page.url == f"{address}/jobs/1"
    assert "Result 1: released" in text
    assert browser_page.query_selector("form") is None
    assert state_of(held) == ("released", ["PACS"])
    decision = held.ledger.events.of("result/1")[-1]
    assert (decision.who, decision.why) == ("Ohta <b>", "compared with the planning CT")


@pytest.mark.parametrize("four_eyes", [True])
@pytest.mark.req("NODE-06")
def test_first_of_two_persons_sends_nothing_and_another_can_reject(
    held: Released, address: str, browser_page: BrowserPage
) -> None:
    browser_page.goto(f"{address}/jobs/1")
    assert "a second person has to release it too" in decide(browser_page, "Release", "Ohta", "looks fine")
    assert state_of(held) == ("held", [])
    assert "released by Ohta already" in decide(browser_page, "Release", "ohta", "once more")
    assert state_of(held) == ("held", [])
    browser_page.goto(f"{address}/jobs/1")
    assert "Result 1: rejected" in decide(browser_page, "Reject", "Sato", "bent jaw")
    assert state_of(held) == ("rejected", [])


def post(address: str, decisions: Decisions, host: str | None = None, origin: str = "", **changes: str) -> int:
    form = {"token": decisions.token, "name": "Ohta", "reason": "looks fine", **changes}
    headers = {"Origin": origin or address} | ({"Host": host} if host else {})
    return httpx.post(f"{address}/results/1/release", data=form, headers=headers).status_code


def test_forms_of_other_sites_are_refused(held: Released, address: str, decisions: Decisions) -> None:
    assert post(address, decisions, origin="http://evil.example.org") == 403
    assert post(address, decisions, origin="null") == 403
    assert post(address, decisions, token="guessed") == 403
    # A name that another site lets point at this machine: it would own the page's origin, and could read the token.
    rebound = "evil.example.org:8080"
    assert post(address, decisions, host=rebound, origin=f"http://{rebound}") == 403
    no_origin = httpx.post(f"{address}/results/1/release", data={"token": decisions.token})
    assert no_origin.status_code == 403
    assert state_of(held) == (ResultState.HELD, [])
    assert post(address, decisions) == 303


def test_nobody_decides_without_a_name_and_a_reason(held: Released, address: str, decisions: Decisions) -> None:
    for lacking in ({"name": " "}, {"reason": ""}, {"name": "x" * 101}):
        assert post(address, decisions, **lacking) == 400
    assert post(address, decisions, reason="x" * 30_000) == 413
    assert httpx.get(f"{address}/results/1/release").status_code == 405
    assert state_of(held) == (ResultState.HELD, [])


def test_a_result_that_is_decided_stays_so(held: Released, address: str, decisions: Decisions) -> None:
    held.ledger.decisions.reject(1, "Sato", "bent jaw")
    assert post(address, decisions) == 409
    assert state_of(held) == (ResultState.REJECTED, [])


def test_page_has_no_form_and_takes_none_until_the_site_says_so(held: Released, decisions: Decisions) -> None:
    assert not Web().decisions
    page = Page(Web(port=0), held.ledger)
    host, port = page.start()
    address = f"http://{host}:{port}"
    assert "<form" not in httpx.get(f"{address}/jobs/1").text
    assert post(address, decisions) == 404
    page.stop()
