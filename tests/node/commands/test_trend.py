import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.control_chart import Baseline
from node.config import TrendSettings
from node.ledger import Ledger
from tests.command_line import answer_of
from tests.node.test_trends import Ward

SETTINGS = TrendSettings(baselines={"edge_shift_mm": Baseline(mean=0.5, sigma=0.1)})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    (folder / "pipelines").mkdir(parents=True)
    (folder / "node.yaml").write_text(f"{{state_dir: {tmp_path}, min_free_gib: 0, web: {{port: 8123}}}}")
    (folder / "roles.yaml").write_text("- {role: cbct, all: {Modality: CT}}")
    pipeline = "{class: pipelines.copy_series:CopySeries, when: {role: cbct}}"
    (folder / "pipelines" / "enhance.yaml").write_text(pipeline)
    return folder


@pytest.fixture
def ward(tmp_path: Path, config: Path) -> Iterator[Ward]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    yield Ward(ledger)
    ledger.close()


def test_trend_lists_every_chart_with_its_state(ward: Ward, config: Path) -> None:
    for value in (0.5, 0.45, 0.9):
        ward.file(value, settings=SETTINGS)
    ward.file(0.5, device="Maker / [red]", settings=TrendSettings())
    listed = json.loads(answer_of("trend", "enhance", "--json", "--config", str(config)).stdout)
    assert [(one["device"], one["points"], one["last"], one["rules"], one["state"]) for one in listed] == [
        ("Maker / One", 3, 0.9, [1], "one value beyond 3 sigma (Nelson rule 1)"),
        ("Maker / [red]", 1, 0.5, [], "collecting its baseline"),
    ]
    assert "edge_shift" in answer_of("trend", "--config", str(config)).stdout


def test_trend_of_an_unknown_pipeline_fails_in_one_line(ward: Ward, config: Path) -> None:
    answer = answer_of("trend", "enhanse", "--config", str(config))
    assert (answer.returncode, answer.stderr) == (1, "rtnode: the configuration has no pipeline enhanse\n")


def test_show_tells_the_trend_and_where_the_page_is(ward: Ward, config: Path, tmp_path: Path) -> None:
    ward.file(0.9, settings=SETTINGS)
    page = tmp_path / "results" / "1" / "quality.html"
    page.parent.mkdir(parents=True)
    page.write_text("<html></html>")
    shown = json.loads(answer_of("show", "1", "--json", "--config", str(config)).stdout)
    assert [one["rules"] for one in shown["trend"]] == [[1]]
    assert shown["page"] == {"address": "http://127.0.0.1:8123/jobs/1", "file": str(page)}
    assert "http://127.0.0.1:8123/jobs/1" in answer_of("show", "1", "--config", str(config)).stdout
