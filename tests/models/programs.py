"""A small network whose answer is known, as an ONNX and as a TorchScript program."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

PATCH = (8, 12, 16)
FACTS = """\
labels: {1: urinary_bladder, 2: rectum}
spacing_mm: [3, 2, 2]
patch: [8, 12, 16]
window_hu: [-1000, 1000]
licence: made up
"""


class ByHu(nn.Module):
    """Output 1 highest above 250 HU, output 2 above 750 HU, of a window from -1000 to 1000 HU mapped to [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        hu = 2000.0 * x[:, :1] - 1000.0
        return torch.cat([0.0 * hu, hu - 250.0, 2.0 * hu - 1000.0], dim=1)


def torchscript(path: Path, network: nn.Module | None = None, patch: tuple[int, ...] = PATCH) -> Path:
    """Write a program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace((network or ByHu()).eval(), torch.zeros(1, 1, *patch))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path)
    return path


def onnx(path: Path, network: nn.Module | None = None, patch: tuple[int, ...] = PATCH) -> Path:
    """Write a program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export((network or ByHu()).eval(), (torch.zeros(1, 1, *patch),), path, dynamo=False)
    return path


def facts(folder: Path, text: str = FACTS) -> Path:
    """Write the YAML file."""
    path = folder / "labels.yaml"
    path.write_text(text)
    return path
