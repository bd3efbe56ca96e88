"""From the files of others to verified weights with a card: what kind they are, and one try before they count."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from models.imported import ImportedModel
from models.imported_finder import load_imported_finder
from models.imported_networks import CHANNELS
from models.imports.found import FoundModel, Naming, one_line
from models.imports.monai import CONFIGURATIONS, read_monai
from models.imports.nnunet import read_nnunet
from models.imports.program import ENDINGS, read_program
from models.weights import Card, WeightsError

KINDS = ("nnunet", "monai", "onnx", "torchscript")


def kind_of(path: Path) -> str:
    """What lies there, one of KINDS.

    Raises
    ------
    models.weights.WeightsError
        If it is none of them.
    """
    if (path / "plans.json").is_file():
        return "nnunet"
    if any((path / name).is_file() for name in CONFIGURATIONS):
        return "monai"
    if path.is_file() and path.suffix in ENDINGS:
        return ENDINGS[path.suffix]
    raise WeightsError(
        f"{path} is no folder with plans.json (nnU-Net) or {CONFIGURATIONS[0]} (MONAI) and no .onnx, .ts or .pt file"
    )


def found_model(
    path: Path,
    kind: str | None = None,
    named: Naming = str,
    facts: Path | None = None,
    axes: str | None = None,
    folds: Sequence[str] | None = None,
) -> FoundModel:
    """Read what lies there; options as in `read_nnunet`, `read_monai` and `read_program` (`facts`: its YAML file).

    Raises
    ------
    models.weights.WeightsError
        If something is missing or not understood; the sentence names it.
    """
    kind = kind or kind_of(path)
    if folds is not None and kind != "nnunet":
        raise WeightsError("only an nnU-Net has folds")
    if kind == "nnunet":
        return read_nnunet(path, named, axes, folds)
    if kind == "monai":
        return read_monai(path, named, axes)
    if ENDINGS.get(path.suffix) != kind:
        raise WeightsError(f"{path} has not the ending of a program of the kind {kind}")
    return read_program(path, facts, named, axes)


def written(found: FoundModel, path: Path) -> Card:
    """Write weights and card, once the network has taken an empty patch; nothing is overwritten.

    Raises
    ------
    models.weights.WeightsError
        If there is such a file, or the network can not be loaded or returns something else than its labels.
    """
    card_path = path.with_suffix(".md")
    if path.exists() or card_path.exists():
        raise WeightsError(f"{path} or its card is there already")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        tried_path = Path(folder) / path.name
        card = found.write(tried_path)
        _try(str(tried_path), found.model)
        os.replace(tried_path.with_suffix(".md"), card_path)
        os.replace(tried_path, path)
    return card


def _try(weights: str, model: ImportedModel) -> None:
    """One patch of zeros through every network."""
    patch, outputs = torch.zeros(1, CHANNELS, *model.patch), 1 + len(model.organs)
    for network in load_imported_finder(weights).networks:
        try:
            with torch.inference_mode():
                shape = tuple(network(patch).shape)
        except (RuntimeError, ValueError) as error:
            raise WeightsError(f"the network takes no patch of {model.patch}: {one_line(error, 200)}") from error
        if shape != (1, outputs, *model.patch):
            raise WeightsError(f"the network makes {shape} of a patch of {model.patch}, not {outputs} outputs of it")
