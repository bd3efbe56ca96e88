from pathlib import Path

import pytest
import yaml

from models.weights import load_card, shipped
from tests.command_line import answer_of
from tests.models.nnunet_folders import toy_folder
from tests.models.programs import facts, torchscript

SHIPPED = Path(__file__).parents[3] / "models"


def test_an_nnunet_is_imported_and_the_pipeline_that_runs_it_is_printed(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path / "nnUNetTrainer__3d_fullres")
    answer = answer_of("models", "import", str(folder), "--output", str(tmp_path / "out"))
    assert answer.returncode == 0, answer.stderr
    weights = tmp_path / "out" / "nnUNetTrainer__3d_fullres.safetensors"
    card = load_card(str(weights))
    assert card.imported is not None and card.imported.organs == ("Parotid_L", "Parotid_R")
    assert card.sha256 in answer.stdout and "3 x 1 x 2 mm" in answer.stdout and "parotid_left" in answer.stdout
    pipeline = yaml.safe_load(answer.stdout[answer.stdout.index("class:") :])
    assert pipeline["class"] == "pipelines.segmentation:Segmentation"
    assert pipeline["settings"] == {"weights": str(weights), "one_piece": False}
    assert {"when", "send_to", "limits", "labelling"} < set(pipeline)


def test_options_name_the_weights_the_organs_the_axes_and_the_folds(tmp_path: Path) -> None:
    folder, names = toy_folder(tmp_path / "model"), tmp_path / "names.yaml"
    names.write_text("parotid_left: PTV_High\n")
    options = ["--name", "my model", "--labels", str(names), "--axes", "RAS", "--folds", "0", "--kind", "nnunet"]
    answer = answer_of("models", "import", str(folder), *options, "--output", str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    card = load_card(str(tmp_path / "my_model.safetensors"))
    assert card.imported is not None and card.imported.organs == ("PTV_High", "Parotid_R")
    assert card.imported.axes == "SAR" and card.imported.members == 1


def test_a_program_is_imported_with_its_labels(tmp_path: Path) -> None:
    path = torchscript(tmp_path / "organs.ts")
    options = ["--labels", str(facts(tmp_path)), "--output", str(tmp_path)]
    assert answer_of("models", "import", str(path), *options).returncode == 0
    card = load_card(str(tmp_path / "organs.safetensors"))
    assert card.imported is not None and card.imported.organs == ("Bladder", "Rectum")


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        (["--folds", "4"], 1, "checkpoint_final.pth is missing"),
        (["--axes", "UVW"], 1, "can not be used"),
        (["--kind", "monai"], 1, "inference.json is missing"),
        (["--kind", "own"], 2, "own is none of"),
        (["--labels", "nowhere.yaml"], 2, "can not be read"),
    ],
)
def test_what_can_not_be_imported_is_told_in_a_sentence_and_nothing_is_written(
    tmp_path: Path, options: list[str], status: int, sentence: str
) -> None:
    folder = toy_folder(tmp_path / "model")
    answer = answer_of("models", "import", str(folder), *options, "--output", str(tmp_path / "out"))
    assert answer.returncode == status and sentence in " ".join(answer.stderr.split())
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("arguments", [[], ["list"], ["verify"]])
def test_the_shipped_weights_are_listed_and_verified_as_before(arguments: list[str]) -> None:
    for json in ([], ["--json"]):
        answer = answer_of("models", *arguments, *json)
        assert answer.returncode == 0
        assert all(name in answer.stdout for name in shipped()) and "verified" in answer.stdout
    assert answer.stdout == answer_of("models", "--json", *arguments).stdout


def test_verifying_fails_where_a_file_is_not_what_its_card_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("weights", "cards"):
        (tmp_path / part).mkdir()
    (tmp_path / "weights" / "broken.safetensors").write_bytes(b"")
    monkeypatch.setattr("models.weights._ROOT", tmp_path)
    assert answer_of("models").returncode == 0
    assert answer_of("models", "verify").returncode == 1


@pytest.mark.parametrize("absent", ["weights/mvct_to_kvct_headneck.domain", "cards/mvct_to_kvct_headneck_witness.md"])
def test_verifying_fails_where_what_judges_the_results_of_weights_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    for part in ("weights", "cards"):
        (tmp_path / part).mkdir()
        for path in (SHIPPED / part).glob("mvct_to_kvct_headneck*"):
            if "unpaired" not in path.name:
                (tmp_path / part / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("models.weights._ROOT", tmp_path)
    assert answer_of("models", "verify").returncode == 0
    (tmp_path / absent).unlink()
    assert answer_of("models", "verify").returncode == 1
