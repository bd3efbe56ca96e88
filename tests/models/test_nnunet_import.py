import json
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.imported_finder import ImportedFinder, load_imported_finder
from models.imports.nnunet import read_nnunet
from models.organ_finder import load_organ_finder
from models.segmentation_measures import dice
from models.weights import WeightsError, load_card
from tests.models import nnunet_peer
from tests.models.junk import JUNK, places, put
from tests.models.nnunet_folders import checkpoint, dataset, plans, toy_folder, written_folder

LEAST_DICE = 0.99
LEAST_VOXELS = 50
"""An organ of fewer would prove little."""
ROOT = Path(__file__).parents[2]
_EVERY = 11
"""Of all places and all junk, which would take a minute; prime to the number of junks, so each comes everywhere."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of real nnU-Nets, and what their makers' package finds; in a process of its own, as it sets globals."""
    folder = tmp_path_factory.mktemp("nnunet")
    command = [sys.executable, "-m", "tests.models.nnunet_peer", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def imported(source: Path, folder: Path, **options: Any) -> ImportedFinder:
    path = folder / "toy.safetensors"
    read_nnunet(source, **options).write(path)
    return load_imported_finder(str(path))


@pytest.mark.parametrize("case", nnunet_peer.CASES, ids=lambda case: case.name)
def test_an_imported_nnunet_finds_what_the_package_of_its_makers_finds(
    trained: Path, tmp_path: Path, case: nnunet_peer.Case
) -> None:
    finder = imported(trained / case.name, tmp_path)
    peer = np.load(trained / f"{case.name}.npz")
    found = finder.find(peer["hu"], case.unseen_spacing_mm)
    for label, organ in enumerate(finder.organs, 1):
        theirs = peer["labels"] == label
        assert theirs.sum() >= LEAST_VOXELS
        assert dice(found.mask(organ), theirs) >= LEAST_DICE, organ
        assert 1.0 / 3.0 < found.mean_probability[organ] <= 1.0
    assert finder.model.members == len(case.folds)


def test_the_card_tells_what_the_folder_tells(trained: Path, tmp_path: Path) -> None:
    names = {"parotid_left": "Parotid_L"}
    finder = imported(trained / "isotropic", tmp_path, named=lambda name: names.get(name, name), folds=("1",))
    card = load_card(str(tmp_path / "toy.safetensors"))
    assert card.method == "nnunet" and finder.organs == ("Parotid_L", "parotid_right") and finder.model.members == 1
    assert card.training_domain.patients == 5 and card.training_domain.pixel_spacing_mm == (2.0, 2.0)
    assert card.training_domain.modality == "CT" and card.training_domain.body_mean_hu is None
    assert card.text.startswith(
        "# toy\n\n**Nothing was measured here: every result of this model waits for a person.**"
    )
    assert "made up" in card.text and "| 1 | parotid_left | Parotid_L |" in card.text
    assert not card.limits and not card.metrics
    for section in ("Intended use", "Data", "Metrics", "Limits", "Licence"):
        assert f"\n## {section}\n" in card.text


def test_the_finder_of_organs_loads_it(tmp_path: Path) -> None:
    imported(toy_folder(tmp_path / "model"), tmp_path)
    finder = load_organ_finder(str(tmp_path / "toy.safetensors"))
    assert finder.organs == ("parotid_left", "parotid_right") and not finder.takes_mr
    assert "nnunetv2" not in sys.modules
    hu = np.zeros((4, 4, 4), np.float32)
    with pytest.raises(ValueError, match="takes no MR"):
        finder.find(hu, (3.0, 1.0, 2.0), hu)


def test_images_are_turned_to_the_axes_of_the_training_images(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path / "model")
    hu = np.random.default_rng(0).normal(0.0, 200.0, (10, 20, 24)).astype(np.float32)
    as_lps = imported(folder, tmp_path).find(hu, (3.0, 1.5, 2.0)).labels_zyx
    turned = imported(folder, tmp_path, axes="RAS").find(hu[:, ::-1, ::-1], (3.0, 1.5, 2.0)).labels_zyx
    assert set(np.unique(as_lps)) == {0, 1, 2}
    np.testing.assert_array_equal(turned[:, ::-1, ::-1], as_lps)
    # Columns of the files run to the feet, rows to the left, slices to posterior.
    other = imported(folder, tmp_path, axes="ILP").find(hu.transpose(2, 0, 1)[::-1], (2.0, 3.0, 1.5)).labels_zyx
    np.testing.assert_array_equal(other[::-1].transpose(1, 2, 0), as_lps)


def test_a_reader_that_turns_its_images_says_their_axes(tmp_path: Path) -> None:
    turning = {**plans(), "image_reader_writer": "NibabelIOWithReorient"}
    folder = written_folder(tmp_path / "model", turning, dataset(), {"0": checkpoint()})
    assert read_nnunet(folder).model.axes == "SAR"
    with pytest.raises(WeightsError, match="turn images to RAS, not to LPS"):
        read_nnunet(folder, axes="LPS")


def test_transposed_plans_keep_each_number_with_its_axis(tmp_path: Path) -> None:
    transposed = {**plans(), "transpose_forward": [2, 0, 1]}
    model = read_nnunet(written_folder(tmp_path / "model", transposed, dataset(), {"0": checkpoint()})).model
    assert model.axes == "LSP" and model.spacing_mm == (3.0, 1.0, 2.0) and model.patch == (8, 16, 16)


def earlier() -> dict[str, Any]:
    """The same plans as releases before the architecture was a part of them wrote them."""
    content = plans()
    configuration = content["configurations"]["3d_fullres"]
    settings = configuration.pop("architecture")["arch_kwargs"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": settings["n_conv_per_stage"],
        "n_conv_per_stage_decoder": settings["n_conv_per_stage_decoder"],
        "pool_op_kernel_sizes": settings["strides"],
        "conv_kernel_sizes": settings["kernel_sizes"],
    }
    content["foreground_intensity_properties_by_modality"] = content.pop("foreground_intensity_properties_per_channel")
    return content


def test_plans_from_before_the_architecture_was_in_them_give_the_same_network(tmp_path: Path) -> None:
    new = imported(toy_folder(tmp_path / "new"), tmp_path)
    old = imported(written_folder(tmp_path / "old", earlier(), dataset(), {"0": checkpoint()}), tmp_path)
    hu = np.random.default_rng(0).normal(0.0, 200.0, (8, 16, 16)).astype(np.float32)
    found, expected = (one.find(hu, (3.0, 1.0, 2.0)).labels_zyx for one in (old, new))
    np.testing.assert_array_equal(found, expected)


def test_a_label_to_be_ignored_is_no_organ(tmp_path: Path) -> None:
    described = dataset()
    described["labels"]["ignore"] = 3
    folder = written_folder(tmp_path / "model", plans(), described, {"0": checkpoint()})
    assert read_nnunet(folder).model.organs == ("parotid_left", "parotid_right")


def test_a_configuration_has_what_it_inherits(tmp_path: Path) -> None:
    inheriting = plans()
    inheriting["configurations"]["3d_fullres_wide"] = {"inherits_from": "3d_fullres", "patch_size": [16, 16, 16]}
    content = {**checkpoint(), "init_args": {"configuration": "3d_fullres_wide"}}
    model = read_nnunet(written_folder(tmp_path / "model", inheriting, dataset(), {"0": content})).model
    assert model.patch == (16, 16, 16) and model.spacing_mm == (3.0, 1.0, 2.0)


Files = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
"""Plans, data set, checkpoint."""


def changed(place: int, *keys: str, to: Any) -> Callable[[Files], None]:
    """Put another value into one of the files."""

    def change(files: Files) -> None:
        inner: dict[str, Any] = files[place]
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = to

    return change


_FULLRES = ("configurations", "3d_fullres")
_SETTINGS = (*_FULLRES, "architecture", "arch_kwargs")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (changed(0, *_FULLRES, "previous_stage", to="3d_lowres"), "second stage of a cascade"),
        (changed(0, *_FULLRES, "preprocessor_name", to="Own"), "prepared by Own"),
        (changed(0, *_FULLRES, "normalization_schemes", to=["OwnNormalization"]), "normalisation OwnNormalization"),
        (changed(0, *_FULLRES, "resampling_fn_data", to="own"), "resamples by own"),
        (changed(0, *_FULLRES, "resampling_fn_data_kwargs", to={"order": 17}), "order"),
        (changed(0, *_FULLRES, "spacing", to=[3.0, -1.0, 2.0]), "spacing_mm"),
        (changed(0, *_FULLRES, "spacing", to=None), "no patch_size and spacing"),
        (changed(0, *_FULLRES, "patch_size", to=[8192, 8192, 8192]), "patch"),
        (changed(0, *_FULLRES, "inherits_from", to="3d_fullres"), "inherits from itself"),
        (changed(0, "configurations", to={}), "no configuration 3d_fullres"),
        (changed(0, "image_reader_writer", to="OwnIO"), "read by OwnIO"),
        (changed(0, "transpose_forward", to=[0, 0, 2]), "axes"),
        (changed(0, "foreground_intensity_properties_per_channel", to={}), "no foreground_intensity_properties"),
        (changed(0, *_FULLRES, "architecture", "network_class_name", to="os.system"), "system can not be built"),
        (changed(0, *_SETTINGS, "conv_op", to="subprocess.Popen"), "can not be built.*Popen"),
        (changed(0, *_SETTINGS, "features_per_stage", to=[10**9, 8]), "features_per_stage in .* no plain value"),
        (changed(0, *_SETTINGS, "nonlin", to="$import os"), "nonlin in .* no plain value"),
        (changed(0, *_SETTINGS, "features_per_stage", to=[4, 16]), "has the shape"),
        (changed(0, *_SETTINGS, "n_conv_per_stage", to=[2, 1]), "numbers are not those"),
        (changed(1, "labels", to={"background": 0, "whole": [1, 2], "core": 2}), "regions that overlap"),
        (changed(1, "labels", to={"background": 0, "a": 1, "b": 5}), "not the numbers from 0"),
        (changed(1, "labels", to={"background": 0, "a": 1}), "has the shape"),
        (changed(1, "labels", to=None), "no labels"),
        (changed(1, "channel_names", to={"0": "CT", "1": "MR"}), r"looks at 2 images \(CT, MR\)"),
        (changed(2, "network_weights", to=3), "no network_weights"),
        (changed(2, "init_args", to={}), "no configuration None"),
    ],
)
def test_what_is_not_understood_is_refused_in_a_sentence(
    tmp_path: Path, change: Callable[[Files], None], sentence: str
) -> None:
    files = plans(), dataset(), checkpoint()
    change(files)
    folder = written_folder(tmp_path / "model", files[0], files[1], {"0": files[2]})
    with pytest.raises(WeightsError, match=sentence) as refused:
        read_nnunet(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["plans.json", "dataset.json", "fold_0/checkpoint_final.pth"])
def test_a_file_that_is_missing_or_broken_is_named(tmp_path: Path, name: str) -> None:
    folder = toy_folder(tmp_path / "model")
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=Path(name).name):
        read_nnunet(folder)
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=Path(name).name):
        read_nnunet(folder)


def test_a_fold_that_was_asked_for_has_to_be_there(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path / "model")
    with pytest.raises(WeightsError, match=r"fold_3.checkpoint_final\.pth is missing"):
        read_nnunet(folder, folds=("0", "3"))
    with pytest.raises(WeightsError, match="numbers or `all`"):
        read_nnunet(folder, folds=("../../elsewhere",))


class Touches:
    """Makes a file when a pickle of it is read by a reader that runs what it is told."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def test_a_checkpoint_that_would_run_something_is_not_opened(tmp_path: Path) -> None:
    trap = tmp_path / "touched"
    content = {**checkpoint(), "logging": Touches(trap)}
    folder = written_folder(tmp_path / "model", plans(), dataset(), {"0": content})
    with pytest.raises(WeightsError, match="more than numbers"):
        read_nnunet(folder)
    assert not trap.exists()
    torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert trap.exists()  # the trap is one


SPACINGS = {"spacings": [[3.0, 1.0, 2.0], [2.0, 1.0, 2.0]]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plans.json", plans()),
        ("plans.json", earlier()),
        ("dataset.json", dataset()),
        ("dataset_fingerprint.json", SPACINGS),
    ],
)
def test_junk_in_a_file_is_refused_in_a_sentence_or_does_not_matter(
    tmp_path: Path, name: str, content: dict[str, Any]
) -> None:
    folder = toy_folder(tmp_path / "model")
    for place, junk in list(product(places(content), JUNK))[::_EVERY]:
        changed_content = deepcopy(content)
        put(changed_content, place, junk)
        (folder / name).write_text(json.dumps(changed_content))
        refusal = refused(folder)
        assert refusal is None or ("\n" not in refusal and len(refusal) < 600)


def refused(folder: Path) -> str | None:
    """The sentence that refuses a folder, if one does."""
    try:
        read_nnunet(folder)
    except WeightsError as error:
        return str(error)
    return None


def test_a_package_that_is_missing_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = toy_folder(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures.architectures.unet", None)
    assert "pip install 'rtnode[nnunet]'" in (refused(folder) or "")
