from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.imported_finder import load_imported_finder
from models.imports.importing import found_model, kind_of, written
from models.intensity import Hu
from models.organ_finder import load_organ_finder
from models.segmentation_measures import dice
from models.sliding_window import slid
from models.weights import WeightsError, load_card
from tests.models.monai_bundles import configuration, metadata, written_bundle
from tests.models.nnunet_folders import toy_folder
from tests.models.programs import FACTS, PATCH, ByHu, facts, onnx, torchscript

SPACING_MM = (3.0, 2.0, 2.0)
WRITERS = {"onnx": onnx, "torchscript": torchscript}
Writer = Callable[..., Path]


def two_boxes() -> Hu:
    hu = np.zeros((12, 20, 30), np.float32)
    hu[3:8, 4:9, 18:26], hu[3:8, 4:9, 5:11] = 500.0, 1000.0
    return hu


@pytest.mark.parametrize("method", WRITERS)
def test_an_imported_program_finds_the_organs_where_they_are(tmp_path: Path, method: str) -> None:
    path = WRITERS[method](tmp_path / {"onnx": "toy.onnx", "torchscript": "toy.ts"}[method])
    card = written(found_model(path, facts=facts(tmp_path)), tmp_path / "out" / "toy.safetensors")
    finder = load_organ_finder(str(tmp_path / "out" / "toy.safetensors"))
    hu = two_boxes()
    found = finder.find(hu, SPACING_MM)
    np.testing.assert_array_equal(found.mask("urinary_bladder"), hu == 500.0)
    np.testing.assert_array_equal(found.mask("rectum"), hu == 1000.0)
    assert card.method == method == load_card(str(tmp_path / "out" / "toy.safetensors")).method
    assert "made up" in card.text and card.window_hu == (-1000.0, 1000.0)


@pytest.mark.parametrize("method", WRITERS)
def test_a_program_gives_what_torch_gives(tmp_path: Path, method: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4), nn.ReLU(), nn.Conv3d(4, 3, 1)).eval()
    path = WRITERS[method](tmp_path / {"onnx": "toy.onnx", "torchscript": "toy.pt"}[method], network)
    written(found_model(path, facts=facts(tmp_path)), tmp_path / "toy.safetensors")
    finder = load_imported_finder(str(tmp_path / "toy.safetensors"))
    volume = torch.rand(1, 12, 14, 20, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = slid(network, volume, finder.model)
        found = slid(finder.networks[0], volume, finder.model)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert dice(found.argmax(0).numpy() == 1, expected.argmax(0).numpy() == 1) > 0.99


@pytest.mark.parametrize("method", WRITERS)
def test_a_program_of_two_dimensions_sees_slices(tmp_path: Path, method: str) -> None:
    text = FACTS.replace("[3, 2, 2]", "[2, 2]").replace("[8, 12, 16]", "[12, 16]")
    path = WRITERS[method](tmp_path / {"onnx": "toy.onnx", "torchscript": "toy.ts"}[method], patch=(12, 16))
    written(found_model(path, facts=facts(tmp_path, text)), tmp_path / "toy.safetensors")
    hu = two_boxes()
    found = load_organ_finder(str(tmp_path / "toy.safetensors")).find(hu, (7.0, 2.0, 2.0))
    np.testing.assert_array_equal(found.mask("rectum"), hu == 1000.0)


def test_a_program_may_end_with_the_softmax(tmp_path: Path) -> None:
    gentle = nn.Sequential(ByHu(), Shrinks())
    cases = {
        "logits": (gentle, FACTS),
        "odds": (nn.Sequential(gentle, nn.Softmax(dim=1)), FACTS + "output: probabilities\n"),
    }
    found = []
    for name, (network, text) in cases.items():
        path = torchscript(tmp_path / f"{name}.ts", network)
        written(found_model(path, facts=facts(tmp_path, text)), tmp_path / f"{name}.safetensors")
        found.append(load_organ_finder(str(tmp_path / f"{name}.safetensors")).find(two_boxes(), SPACING_MM))
    np.testing.assert_array_equal(found[0].labels_zyx, found[1].labels_zyx)
    # Of logits 0, 0.25 and 0: the organ of 500 HU.
    assert found[0].mean_probability["urinary_bladder"] == pytest.approx(np.exp(0.25) / (2.0 + np.exp(0.25)), rel=1e-4)
    assert found[1].mean_probability == pytest.approx(dict(found[0].mean_probability), rel=1e-4)


class Shrinks(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 1000.0


@pytest.mark.parametrize("method", WRITERS)
def test_axes_of_the_array_are_those_of_the_file(tmp_path: Path, method: str) -> None:
    text = facts(tmp_path, FACTS + "axes: IAR\n")
    path = WRITERS[method](tmp_path / {"onnx": "toy.onnx", "torchscript": "toy.ts"}[method])
    written(found_model(path, facts=text), tmp_path / "toy.safetensors")
    finder = load_imported_finder(str(tmp_path / "toy.safetensors"))
    assert finder.model.turned_axes() == ((0, 1, 2), (0, 1, 2))
    hu = two_boxes()
    np.testing.assert_array_equal(finder.find(hu, SPACING_MM).mask("rectum"), hu == 1000.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (FACTS.replace("window_hu: [-1000, 1000]\n", ""), "either window_hu or normalisation"),
        (FACTS + "normalisation: {scheme: z_score}\n", "either window_hu or normalisation"),
        (FACTS.replace("[-1000, 1000]", "[1000, -1000]"), "lower to a higher"),
        (FACTS.replace("1: urinary_bladder", "3: urinary_bladder"), "not the numbers from 1"),
        (FACTS.replace("[3, 2, 2]", "[3, 2]"), "not as many axes"),
        (FACTS.replace("[3, 2, 2]", "[3, 0, 2]"), "spacing_mm"),
        (FACTS.replace("rectum", "urinary_bladder"), "two labels are of the same organ"),
        (FACTS + "axes: XYZ\n", "axes"),
        (FACTS + "output: votes\n", "output"),
        (FACTS + "own: 1\n", "own"),
        ("- 1\n", "no mapping"),
        ("labels: [\n", "no YAML file"),
    ],
)
def test_facts_that_are_not_understood_are_refused_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(WeightsError, match=sentence) as refused:
        found_model(torchscript(tmp_path / "toy.ts"), facts=facts(tmp_path, text))
    assert "\n" not in str(refused.value)


def test_a_program_needs_its_facts(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="a YAML file has to say its labels"):
        found_model(torchscript(tmp_path / "toy.ts"))
    with pytest.raises(WeightsError, match="axes of a program belong into"):
        found_model(torchscript(tmp_path / "toy.ts"), facts=facts(tmp_path), axes="RAS")
    with pytest.raises(WeightsError, match="only an nnU-Net has folds"):
        found_model(torchscript(tmp_path / "toy.ts"), facts=facts(tmp_path), folds=("0",))


@pytest.mark.parametrize("name", ["toy.onnx", "toy.ts"])
def test_what_is_no_program_or_not_one_of_these_facts_is_not_imported(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    (tmp_path / name).write_bytes(b"no program at all" * 100)
    with pytest.raises(WeightsError, match="can not be loaded"):
        written(found_model(tmp_path / name, facts=facts(tmp_path)), out / "toy.safetensors")
    writer: Writer = onnx if name == "toy.onnx" else torchscript
    writer(tmp_path / name, nn.Conv3d(1, 2, 1))
    with pytest.raises(WeightsError, match="not 3 outputs of it"):
        written(found_model(tmp_path / name, facts=facts(tmp_path)), out / "toy.safetensors")
    writer(tmp_path / name, nn.Conv2d(1, 3, 1), PATCH[1:])
    with pytest.raises(WeightsError, match="takes no patch of"):
        written(found_model(tmp_path / name, facts=facts(tmp_path)), out / "toy.safetensors")
    assert list(out.iterdir()) == []


def test_an_onnx_program_whose_numbers_lie_in_another_file_is_refused(tmp_path: Path) -> None:
    import onnx as onnx_format

    model = onnx_format.load(onnx(tmp_path / "toy.onnx", nn.Conv3d(1, 3, 1)))
    onnx_format.save(model, tmp_path / "apart.onnx", save_as_external_data=True, location="numbers", size_threshold=0)
    with pytest.raises(WeightsError, match="have to be in the same file"):
        written(found_model(tmp_path / "apart.onnx", facts=facts(tmp_path)), tmp_path / "toy.safetensors")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    found = found_model(torchscript(tmp_path / "toy.ts"), facts=facts(tmp_path))
    written(found, tmp_path / "toy.safetensors")
    with pytest.raises(WeightsError, match="is there already"):
        written(found, tmp_path / "toy.safetensors")


def test_the_kind_is_seen_from_what_lies_there(tmp_path: Path) -> None:
    assert kind_of(toy_folder(tmp_path / "nnunet")) == "nnunet"
    assert kind_of(written_bundle(tmp_path / "monai", configuration(), metadata(), {})) == "monai"
    assert kind_of(torchscript(tmp_path / "toy.ts")) == "torchscript"
    assert kind_of(onnx(tmp_path / "toy.onnx")) == "onnx"
    with pytest.raises(WeightsError, match=r"no folder with plans\.json"):
        kind_of(tmp_path)
    with pytest.raises(WeightsError, match="not the ending of a program of the kind onnx"):
        found_model(tmp_path / "toy.ts", "onnx", facts=facts(tmp_path))


def test_a_changed_program_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    written(found_model(onnx(tmp_path / "toy.onnx"), facts=facts(tmp_path)), path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not the one its card describes"):
        load_organ_finder(str(path))


def test_the_description_that_the_documentation_shows_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "bring_your_own_model.md").read_text(encoding="utf-8")
    example = text.split("```yaml\n# organs.yaml\n")[1].split("```")[0]
    model = found_model(torchscript(tmp_path / "organs.ts"), facts=facts(tmp_path, example)).model
    assert model.organs == ("bladder", "rectum") and model.patch == (64, 160, 160) and model.axes == "SPL"
