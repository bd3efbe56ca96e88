from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Page as BrowserPage
from playwright.sync_api import sync_playwright

from models.control_chart import Baseline
from node.config import TrendSettings, Web
from node.ledger import Ledger
from node.ledger.jobs import LinkedSeries, Made
from node.ledger.schema import LinkKind, ResultInstance, SeriesState
from node.ledger.series import Arrival, Settlement
from node.ledger.trends import Process
from node.storage import Identity, Storage
from node.web.page import Page
from pipelines.stability import Finding, Verdict

CHROMIUM = "/usr/bin/chromium"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    yield ledger
    ledger.close()


@pytest.fixture
def address(ledger: Ledger, tmp_path: Path) -> Iterator[str]:
    page = Page(Web(port=0), ledger, storage=Storage(tmp_path))
    host, port = page.start()
    yield f"http://{host}:{port}"
    page.stop()


@pytest.fixture
def browser_page() -> Iterator[BrowserPage]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()


def finish_a_job(ledger: Ledger) -> int:
    """One settled series, one finished job with a finding whose text would be a script if it were not escaped."""
    identity = Identity("SECRETID", "1.2.1", "1.2.2", "1.2.3")
    ledger.series.receive(Arrival(identity, "CT", "1.2", "1.2", "0" * 64, 1, "CONSOLE"), "a.dcm", lambda: None)
    (series,) = ledger.series.receiving()
    links = frozenset({(LinkKind.FRAME_OF_REFERENCE, "1.2.4")})
    ledger.series.settle(series, 1, Settlement(SeriesState.SETTLED, "mvct", None, links))
    ledger.jobs.queue("enhance_mvct", "key", [LinkedSeries("mvct", ledger.series.get(series.id))])
    (job,) = ledger.jobs.claim(1)
    finding = Finding(
        name="edge_shift_mm",
        value=0.25,
        unit="mm",
        verdict=Verdict.FLAG,
        text="<script>1</script>",
        flag_above=0.2,
        hold_above=0.4,
    )
    instance = ResultInstance(
        series_instance_uid="1.2.5",
        modality="CT",
        sop_class_uid="1.2",
        sop_instance_uid="1.2.6",
        transfer_syntax_uid="1.2",
        path="b.dcm",
        sha256="0" * 64,
    )
    usual = TrendSettings(baselines={"edge_shift_mm": Baseline(mean=0.1, sigma=0.02)})
    process = Process("Maker / <One>", "0" * 64, usual)
    ledger.jobs.finish(job, Made(Verdict.FLAG, [finding], [instance], {"CT": ["TPS"]}, process=process))
    return job.id


def test_page_of_an_empty_node_says_what_to_do(address: str, browser_page: BrowserPage) -> None:
    browser_page.goto(address)
    assert browser_page.title() == "rtnode"
    assert "No job yet" in browser_page.inner_text("body")


def test_a_click_on_a_job_shows_its_findings_and_deliveries(
    ledger: Ledger, address: str, browser_page: BrowserPage
) -> None:
    job_id = finish_a_job(ledger)
    browser_page.goto(address)
    assert browser_page.inner_text("td.finished") == "finished"
    browser_page.click(f"a[href='/jobs/{job_id}']")
    text = browser_page.inner_text("body")
    assert "edge_shift_mm" in text
    assert "0.25" in text
    assert "TPS" in text
    assert "result released" in text


def test_what_a_pipeline_says_is_text_not_markup(ledger: Ledger, address: str) -> None:
    job_id = finish_a_job(ledger)
    page = httpx.get(f"{address}/jobs/{job_id}").text
    assert "&lt;script&gt;1&lt;/script&gt;" in page
    assert "<script>" not in page


def test_the_page_of_a_job_shows_picture_bars_and_chart_in_a_browser(
    ledger: Ledger, address: str, browser_page: BrowserPage, tmp_path: Path
) -> None:
    job_id = finish_a_job(ledger)
    folder = tmp_path / "results" / str(job_id)
    folder.mkdir()
    Image.new("RGB", (64, 48), "red").save(folder / "quality.png")
    complaints: list[str] = []
    browser_page.on("console", lambda message: complaints.append(message.text))
    browser_page.goto(f"{address}/jobs/{job_id}")
    # A browser that was forbidden to load it would show no width.
    assert browser_page.evaluate("document.querySelector('img').naturalWidth") == 64
    bar = browser_page.locator("svg.bar rect")
    # Released to 0.2, flagged to 0.4, held to 0.6; the mark at 0.25.
    boxes = [bar.nth(number).bounding_box() for number in range(4)]
    lefts = [box["x"] - boxes[0]["x"] for box in boxes if box and boxes[0]]
    assert lefts == pytest.approx([0.0, 260 / 3, 520 / 3, 260 * 0.25 / 0.6 - 2], abs=0.2)
    assert browser_page.locator("svg.chart circle").count() == 1
    assert "one value beyond 3 sigma (Nelson rule 1)" in browser_page.inner_text("body")
    assert "trend alarm" in browser_page.inner_text("body")
    assert "Maker / <One>" in browser_page.inner_text("body")
    assert [one for one in complaints if "Content Security Policy" in one] == []


def test_a_job_without_a_picture_shows_none(ledger: Ledger, address: str) -> None:
    job_id = finish_a_job(ledger)
    assert "<img" not in httpx.get(f"{address}/jobs/{job_id}").text
    assert httpx.get(f"{address}/jobs/{job_id}/picture.png").status_code == 404


def test_status_for_programs_counts_states(ledger: Ledger, address: str) -> None:
    finish_a_job(ledger)
    answer = httpx.get(f"{address}/status.json").json()
    assert answer == {
        "series": {"settled": 1},
        "set aside": {},
        "jobs": {"finished": 1},
        "results": {"released": 1},
        "deliveries": {"queued": 1},
    }


def test_page_names_no_patient(ledger: Ledger, address: str) -> None:
    job_id = finish_a_job(ledger)
    assert "SECRETID" not in httpx.get(f"{address}/jobs/{job_id}").text + httpx.get(address).text


def test_unknown_job_is_not_found(address: str) -> None:
    assert httpx.get(f"{address}/jobs/99").status_code == 404


def test_page_forbids_scripts_and_frames(address: str) -> None:
    headers = httpx.get(address).headers
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-frame-options"] == "DENY"
