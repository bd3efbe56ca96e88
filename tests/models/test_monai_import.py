import json
from collections.abc import Callable
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.imported_finder import load_imported_finder
from models.imports.importing import written
from models.imports.monai import read_monai
from models.organ_finder import load_organ_finder
from models.segmentation_measures import dice
from models.weights import WeightsError, load_card
from tests.models.junk import JUNK, places, put
from tests.models.monai_bundles import NETWORKS, configuration, found_by_monai, metadata, state, written_bundle
from tests.models.nnunet_peer import image
from tests.models.test_nnunet_import import _EVERY, LEAST_DICE, LEAST_VOXELS, Touches, changed

SPACING_MM = (2.5, 1.2, 1.7)


def toy_bundle(folder: Path, network: str = "SegResNet") -> Path:
    return written_bundle(folder, configuration(network), metadata(), state(network))


@pytest.mark.parametrize("network", NETWORKS)
def test_an_imported_bundle_finds_what_monai_finds(tmp_path: Path, network: str) -> None:
    bundle = toy_bundle(tmp_path / "bundle", network)
    hu, _ = image(1, (22, 33, 30), SPACING_MM)
    theirs = found_by_monai(bundle, hu, SPACING_MM, tmp_path / "image.nii.gz")
    read_monai(bundle).write(tmp_path / "toy.safetensors")
    found = load_organ_finder(str(tmp_path / "toy.safetensors")).find(hu, SPACING_MM)
    assert found.organs == ("spleen", "Kidney left")
    for label, organ in enumerate(found.organs, 1):
        assert (theirs == label).sum() >= LEAST_VOXELS
        assert dice(found.mask(organ), theirs == label) >= LEAST_DICE, organ


def test_a_bundle_whose_classes_are_chosen_from_logits_and_whose_image_is_normalised_first(tmp_path: Path) -> None:
    settings = configuration()
    before = settings["preprocessing"]["transforms"]
    before.insert(3, before.pop(4))
    settings["postprocessing"]["transforms"].pop(0)
    settings["inferer"] |= {"mode": "constant", "overlap": 0.6}
    bundle = written_bundle(tmp_path / "bundle", settings, metadata(), state())
    hu, _ = image(1, (22, 33, 30), SPACING_MM)
    theirs = found_by_monai(bundle, hu, SPACING_MM, tmp_path / "image.nii.gz")
    read_monai(bundle).write(tmp_path / "toy.safetensors")
    finder = load_imported_finder(str(tmp_path / "toy.safetensors"))
    assert finder.model.resampled_output == "logits" and finder.model.normalised_first
    for label in (1, 2):
        ours = finder.find(hu, SPACING_MM).labels_zyx == label
        assert dice(ours, theirs == label) >= LEAST_DICE


def test_a_patch_that_the_network_can_not_take_is_refused(tmp_path: Path) -> None:
    settings = configuration()
    settings["inferer"]["roi_size"] = [15, 16, 16]
    bundle = written_bundle(tmp_path / "bundle", settings, metadata(), state())
    with pytest.raises(WeightsError, match=r"takes no patch of \(15, 16, 16\)"):
        written(read_monai(bundle), tmp_path / "toy.safetensors")
    assert not (tmp_path / "toy.safetensors").exists()


def test_the_card_tells_what_the_bundle_tells(tmp_path: Path) -> None:
    names = {"Kidney left": "Kidney_L", "spleen": "Spleen"}
    read_monai(toy_bundle(tmp_path / "bundle"), names.__getitem__).write(tmp_path / "toy.safetensors")
    card = load_card(str(tmp_path / "toy.safetensors"))
    assert card.method == "monai" and card.imported is not None
    assert card.imported.organs == ("Spleen", "Kidney_L") and card.imported.axes == "RAS"
    assert card.window_hu == (-160.0, 240.0) and card.training_domain.modality == "CT"
    assert "MONAI bundle Toy organs, version 0.1.0" in card.text and "made up" in card.text


def test_a_bundle_with_a_program_only_is_one_of_torchscript(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path / "bundle")
    (bundle / "models" / "model.pt").rename(bundle / "models" / "model.ts")
    found = read_monai(bundle)
    assert found.method == "torchscript" and set(found.tensors) == {"program"}


def test_a_configuration_may_be_yaml_and_numbers_may_lie_one_level_down(tmp_path: Path) -> None:
    bundle = written_bundle(tmp_path / "bundle", configuration(), metadata(), {"state_dict": state()})
    (bundle / "configs" / "inference.json").rename(bundle / "configs" / "inference.yaml")
    assert read_monai(bundle).model.patch == (16, 16, 16)


def transform(part: str, number: int, **options: Any) -> Callable[[tuple[dict[str, Any], ...]], None]:
    """Change one transform."""

    def change(files: tuple[dict[str, Any], ...]) -> None:
        files[0][part]["transforms"][number] |= options

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (changed(0, "network_def", "_target_", to="os.system"), r"os\.system, not one of monai\.networks\.nets"),
        (changed(0, "network_def", "_target_", to="$__import__('os')"), "can not be built: it is none of"),
        (changed(0, "network_def", "_target_", to="monai.networks.nets.TorchVisionFCModel"), "it is none of"),
        (changed(0, "network_def", "init_filters", to="$open('/etc/passwd')"), "init_filters .* is an expression"),
        (changed(0, "network_def", "init_filters", to="@output_dir"), "init_filters .* is an expression"),
        (changed(0, "network_def", "init_filters", to="@nowhere"), "which is not there"),
        (changed(0, "network_def", "init_filters", to="%nowhere"), "is an expression"),
        (changed(0, "network_def", "init_filters", to=10**9), "no plain value"),
        (changed(0, "network_def", "init_filters", to=16), "has the shape"),
        (changed(0, "network_def", "blocks_up", to=[1, 1]), "numbers are not those|can not be built"),
        (changed(0, "network_def", "own", to=1), "can not be built"),
        (changed(0, "network_def", to=None), "no network_def"),
        (changed(0, "preprocessing", to="$@own"), "preprocessing .* is an expression"),
        (changed(0, "preprocessing", "transforms", to="$@one + @two"), "is an expression"),
        (changed(0, "preprocessing", "_target_", to="OneOf"), "no Compose"),
        (
            transform("preprocessing", 0, _target_="scripts.own.LoadImaged"),
            "scripts.own.LoadImaged, which is not known",
        ),
        (transform("preprocessing", 2, axcodes="RAX"), "axes"),
        (transform("preprocessing", 2, _disabled_="$True"), "_disabled_ .* is an expression"),
        (transform("preprocessing", 3, mode="nearest"), "options that are not known: nearest"),
        (transform("preprocessing", 3, scale_extent=True), "scale_extent"),
        (transform("preprocessing", 3, pixdim="$2 * [1]"), "is an expression"),
        (transform("preprocessing", 3, pixdim=2.0), "no pixdim of three numbers"),
        (transform("preprocessing", 4, a_min=None), "no a_min"),
        (transform("preprocessing", 4, a_min=500), "lower to a higher"),
        (transform("preprocessing", 5, _target_="CropForegroundd"), "CropForegroundd, which is not known"),
        (transform("preprocessing", 5, _target_="ScaleIntensityd"), "normalises images twice"),
        (transform("preprocessing", 4, _target_="NormalizeIntensityd", nonzero=True), "nonzero"),
        (transform("preprocessing", 2, _target_="EnsureTyped"), "say with --axes"),
        (transform("postprocessing", 0, softmax=False, sigmoid=True), "overlap"),
        (transform("postprocessing", 2, argmax=False), "does not take the highest"),
        (transform("postprocessing", 2, _target_="KeepLargestConnectedComponentd"), "is not known|not known"),
        (changed(0, "inferer", "_target_", to="SimpleInferer"), "no SlidingWindowInferer"),
        (changed(0, "inferer", "mode", to="own"), "mode that is not known"),
        (changed(0, "inferer", "roi_size", to=[-1, -1, 16]), "patch"),
        (changed(1, "network_data_format", "inputs", "image", "num_channels", to=4), "several images"),
        (changed(1, "network_data_format", "outputs", to={}), "no channel_def"),
        (
            changed(1, "network_data_format", "outputs", "pred", "channel_def", to={"0": "spleen"}),
            "not the background and the labels",
        ),
    ],
)
def test_what_is_not_understood_is_refused_in_a_sentence(
    tmp_path: Path, change: Callable[[Any], None], sentence: str
) -> None:
    files = configuration(), metadata(), state()
    change(files)
    with pytest.raises(WeightsError, match=sentence) as refused:
        read_monai(written_bundle(tmp_path / "bundle", *files))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["configs/inference.json", "configs/metadata.json", "models/model.pt"])
def test_a_file_that_is_missing_or_broken_is_named(tmp_path: Path, name: str) -> None:
    bundle = toy_bundle(tmp_path / "bundle")
    whole = (bundle / name).read_bytes()
    (bundle / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=Path(name).name):
        read_monai(bundle)
    (bundle / name).unlink()
    with pytest.raises(WeightsError, match=Path(name).name):
        read_monai(bundle)


def test_numbers_that_would_run_something_are_not_opened(tmp_path: Path) -> None:
    bundle, trap = toy_bundle(tmp_path / "bundle"), tmp_path / "touched"
    torch.save({"model": Touches(trap)}, bundle / "models" / "model.pt")
    with pytest.raises(WeightsError, match="more than numbers"):
        read_monai(bundle)
    assert not trap.exists()


def test_axes_are_those_of_the_bundle_or_have_to_be_said(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="turns images to RAS, not to LPS"):
        read_monai(toy_bundle(tmp_path / "bundle"), axes="LPS")
    settings = configuration()
    settings["preprocessing"]["transforms"].pop(2)
    bundle = written_bundle(tmp_path / "unturned", settings, metadata(), state())
    assert read_monai(bundle, axes="LPS").model.axes == "LPS"


def test_an_image_is_found_the_same_wherever_it_lies_in_memory(tmp_path: Path) -> None:
    read_monai(toy_bundle(tmp_path / "bundle")).write(tmp_path / "toy.safetensors")
    finder = load_imported_finder(str(tmp_path / "toy.safetensors"))
    hu, _ = image(1, (12, 16, 16), SPACING_MM)
    turned = np.asfortranarray(hu)
    expected, found = (finder.find(one, SPACING_MM).labels_zyx for one in (hu, turned))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("name", "content"), [("inference", configuration()), ("metadata", metadata())])
def test_junk_in_a_file_is_refused_in_a_sentence_or_does_not_matter(
    tmp_path: Path, name: str, content: dict[str, Any]
) -> None:
    bundle = toy_bundle(tmp_path / "bundle")
    for place, junk in list(product(places(content), JUNK))[::_EVERY]:
        changed_content = deepcopy(content)
        put(changed_content, place, junk)
        (bundle / "configs" / f"{name}.json").write_text(json.dumps(changed_content))
        refusal = refused(bundle)
        assert refusal is None or ("\n" not in refusal and len(refusal) < 600)


def refused(bundle: Path) -> str | None:
    """The sentence that refuses a bundle, if one does."""
    try:
        read_monai(bundle)
    except WeightsError as error:
        return str(error)
    return None
