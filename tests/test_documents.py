import re
import subprocess
import sys
from pathlib import Path

import yaml

from models.outcomes import SIMULATED
from models.prognosis import load_prognosis, shipped_prognoses
from models.weights import shipped
from node.conformance import statement

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_conformance_statement_is_what_the_code_says() -> None:
    assert (ROOT / "CONFORMANCE.md").read_text(encoding="utf-8") == statement()


def test_every_promise_of_the_architecture_is_proved_by_a_test() -> None:
    promised = set(re.findall(r"^\| (NODE-\d\d) \|", ARCHITECTURE, re.MULTILINE))
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    proved = set(re.findall(r'mark\.req\("(NODE-\d\d)"\)', tests))
    assert promised == proved


def test_every_file_that_the_architecture_names_exists() -> None:
    for path in re.findall(r"`((?:node|pipelines|models)/[\w/]+(?:\.py|/))`", ARCHITECTURE):
        assert (ROOT / path).exists(), path


def test_every_command_that_the_readme_shows_exists() -> None:
    shown = set(re.findall(r"^(?:\.venv/bin/)?rtnode (\w+)", README, re.MULTILINE))
    known = subprocess.run([sys.executable, "-m", "node", "--help"], capture_output=True, text=True, check=True).stdout
    assert shown
    for command in shown:
        assert re.search(rf"^│ {command}\s", known, re.MULTILINE), command


def test_every_pipeline_file_says_whom_it_sends_to_and_how_it_is_marked() -> None:
    for path in (ROOT / "config" / "pipelines").glob("*.yaml"):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"class", "settings", "when", "send_to", "limits", "labelling"} <= set(document), path.name


def test_every_shipped_model_has_a_card_with_all_sections() -> None:
    for name in (*shipped(), *shipped_prognoses()):
        card = (ROOT / "models" / "cards" / f"{name}.md").read_text(encoding="utf-8").lower()
        for section in ("intended use", "data", "metrics", "limits", "licence"):
            assert re.search(rf"^## .*{section}", card, re.MULTILINE), (name, section)


def test_a_shipped_prognosis_of_made_up_patients_says_so_first() -> None:
    for name in shipped_prognoses():
        card, model = load_prognosis(name)
        assert model.cohort.is_simulated, name
        assert card.text.split("\n\n")[1] == f"**{SIMULATED}**", name


def test_no_shipped_weights_file_is_larger_than_16_mb() -> None:
    for path in (ROOT / "models" / "weights").glob("*"):
        assert path.stat().st_size <= 16e6, path.name
