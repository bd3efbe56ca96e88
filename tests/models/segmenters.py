"""Segmenters whose answer is known."""

from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.unet import METHOD, Architecture, SegmentationNetwork, Segmenter, load_segmenter
from models.weights import SegmentationTask, save
from tests.models.test_weights import FACTS

TASK = SegmentationTask(
    organs=("Parotid_L", "Parotid_R"),
    windows_hu=((-1000.0, 1000.0), (-160.0, 240.0)),
    spacing_zyx_mm=(3.0, 3.0, 3.0),
    patch_zyx=(16, 16, 16),
)
SIZE = {"inputs": 2, "outputs": 3, "channels": 4, "levels": 3}


def saved_segmenter(folder: Path, task: SegmentationTask = TASK, **size: int) -> str:
    """Random weights with their card."""
    torch.manual_seed(0)
    architecture = {**SIZE, "inputs": task.channels, "outputs": 1 + len(task.organs), **size}
    facts = {**FACTS, "method": METHOD, "architecture": architecture, "segmentation": task}
    path = folder / "organs.safetensors"
    save(path, SegmentationNetwork(Architecture(**architecture)).state_dict(), facts, "")
    return str(path)


class ByHu(nn.Module):
    """Organ 1 from 250 to 750 HU, organ 2 above, background below; each voxel by itself."""

    def forward(self, channels: Tensor) -> Tensor:
        unit = channels[:, 0]  # HU / 1000 in the first window
        return torch.stack([torch.zeros_like(unit), 40.0 * (unit - 0.25), 80.0 * (unit - 0.5)], dim=1)


def by_hu(folder: Path, task: SegmentationTask = TASK) -> Segmenter:
    """A segmenter whose network is `ByHu`."""
    return replace(load_segmenter(saved_segmenter(folder, task)), network=ByHu())


def saved_by_hu(folder: Path, task: SegmentationTask = TASK) -> str:
    """Weights of the real network that answer as `ByHu` does; for two organs and two windows, which are chosen here."""
    architecture = Architecture(2, 3, channels=2, levels=1)
    network = SegmentationNetwork(architecture)
    # Nothing is left of the block but its shortcut: each window, whose middle is where an organ begins.
    weight = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 1000.0]]).reshape(3, 2, 1, 1, 1)
    nothing = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    network.load_state_dict({**nothing, "exit.weight": weight, "exit.bias": torch.tensor([0.0, -5.0, -5.0])})
    seen = task.model_copy(update={"windows_hu": ((-500.0, 1000.0), (0.0, 1500.0))})
    facts = {**FACTS, "method": METHOD, "architecture": asdict(architecture), "segmentation": seen}
    path = folder / "by_hu.safetensors"
    save(path, network.state_dict(), facts, "")
    return str(path)
