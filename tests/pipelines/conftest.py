"""Fixtures of the pipelines: a validator, and real data where this machine has them."""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from models.organ_finder import OrganFinder
from pipelines.base import Inputs, InputSeries, Labelling

REPOSITORY = Path(__file__).parents[2]
FoundBy: TypeAlias = Callable[[OrganFinder], list[dict[str, Any]]]
"""Takes what is to find the organs; gives a list of the settings that it will have been loaded with."""


def dciodvfy_errors(path: Path) -> list[str]:
    """Lines that begin with Error in what dciodvfy says of a file."""
    program = shutil.which("dciodvfy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    assert program is not None, "dciodvfy is absent: install dicom3tools"
    run = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, check=False, timeout=60)
    said = (run.stderr + run.stdout).splitlines()
    assert said, f"dciodvfy said nothing about {path.name}"
    return [line for line in said if line.startswith("Error")]


def inputs(paths: list[Path], labelling: Labelling | None = None) -> Inputs:
    """A job's inputs with one series."""
    return Inputs(InputSeries("ct", "1.2.3", tuple(paths)), labelling=labelling or Labelling())


@pytest.fixture
def found_by(monkeypatch: pytest.MonkeyPatch) -> FoundBy:
    """Makes a finder the one that a segmentation loads; with what it was loaded."""

    def use(finder: OrganFinder) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        def load(weights: str, **settings: Any) -> OrganFinder:
            asked.append({"weights": weights, **settings})
            return finder

        monkeypatch.setattr("pipelines.segmentation.load_organ_finder", load)
        return asked

    return use


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Folder of real data by name; the test is skipped where it is absent."""
    root = Path(os.environ.get("RTNODE_DATA", REPOSITORY / ".." / "shared" / "data"))

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"real data {name} are not below RTNODE_DATA ({root})")
        return root / name

    return folder


@pytest.fixture(scope="session")
def unpacked(real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Content of a packed archive of real data."""

    def unpack(name: str, archive: str) -> Path:
        target = tmp_path_factory.mktemp("real")
        with tarfile.open(real_data(name) / archive) as tar:
            tar.extractall(target, filter="data")
        return target

    return unpack
