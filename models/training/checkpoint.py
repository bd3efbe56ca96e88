"""State of an interrupted training: tensors as safetensors, everything else as JSON beside them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


@dataclass(frozen=True)
class RunFiles:
    """What a training writes while it runs, and what it runs on."""

    checkpoint: Path
    log: Path
    data_sha256: str
    """Digest of the training images: with others, a training begins anew."""

    def write(self, tensors: Mapping[str, Tensor], settings_sha256: str, state: Mapping[str, Any]) -> None:
        """Write a checkpoint of these settings and images."""
        identity = {"settings_sha256": settings_sha256, "data_sha256": self.data_sha256}
        write_checkpoint(self.checkpoint, tensors, {**state, **identity})

    def read(self, settings_sha256: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The last checkpoint; None where there is none of these settings and images."""
        found = read_checkpoint(self.checkpoint)
        if found is None:
            return None
        is_ours = (found[1].get("settings_sha256"), found[1].get("data_sha256")) == (settings_sha256, self.data_sha256)
        return found if is_ours else None


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write both files; the JSON last and by renaming, so a checkpoint with its JSON is whole."""
    stem = f"{path.name}.{state['update']}"
    save_file(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path.parent / stem
    )
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({**state, "tensors": stem}), encoding="utf-8")
    partial.replace(path)
    for old in path.parent.glob(f"{path.name}.*"):
        if old.name != stem:
            old.unlink()


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and state of the last checkpoint; None where there is none."""
    if not path.exists():
        return None
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return load_file(path.parent / state["tensors"]), state


def optimiser_tensors(prefix: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments of an Adam optimiser by parameter number, named with a prefix."""
    state = optimiser.state_dict()["state"]
    return {f"{prefix}.{number}.{name}": value for number, entry in state.items() for name, value in entry.items()}


def restore_optimiser(prefix: str, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Inverse of `optimiser_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in with_prefix(prefix, tensors).items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def module_tensors(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """State of a module, named with a prefix; a tensor that has several names is stored under each."""
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors stored with this prefix, without it."""
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
