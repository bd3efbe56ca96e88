import subprocess
from pathlib import Path

import numpy as np
import pytest

from models.phantoms import head_and_neck_phantom
from tests.node.commands.test_operator_commands import rtnode
from tests.pipelines.organ_data_made import openkbp

PIPELINE = """
class: pipelines.enhancement:Enhancement
settings: {weights: fresh}
when: {role: mvct}
send_to: []
limits: {time_s: 60, memory_gib: 4}
"""
SEGMENTATION = """
class: pipelines.segmentation:Segmentation
settings:
  weights: fresh
  organs: [Parotid_L, Parotid_R]
  training:
    {patch_zyx: [16, 16, 16], spacing_zyx_mm: [10, 10, 10], batch: 1, channels: 4, levels: 3, validation_batches: 2}
when: {role: mvct}
send_to: []
limits: {time_s: 60, memory_gib: 4}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    (folder / "pipelines").mkdir(parents=True)
    (folder / "node.yaml").write_text(f"{{state_dir: {tmp_path}, min_free_gib: 0}}")
    (folder / "roles.yaml").write_text("- {role: mvct, all: {Modality: CT}}")
    (folder / "pipelines" / "enhance.yaml").write_text(PIPELINE)
    (folder / "pipelines" / "segment.yaml").write_text(SEGMENTATION)
    (folder / "pipelines" / "copy.yaml").write_text(
        PIPELINE.replace("enhancement:Enhancement", "copy_series:CopySeries").replace("{weights: fresh}", "{}")
    )
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two training patients and a validation patient, as OpenKBP names and stores them."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in (1, 2, 201):
        phantom = head_and_neck_phantom((5, 64, 64), (20.0, 5.0, 5.0), np.random.default_rng(number))
        ct = (phantom.hu_zyx[::-1].transpose(1, 2, 0) + 1024).clip(0).astype(np.int16)
        np.savez(folder / f"pt_{number}.npz", ct=ct, voxel_mm=np.array([5.0, 5.0, 20.0]))
    return folder


def study(
    config: Path, data: Path, output: Path, sizes: str, pipeline: str = "enhance"
) -> subprocess.CompletedProcess[str]:
    where = ["--data", str(data), "--output", str(output)]
    return rtnode(
        "study", "data-size", pipeline, *where, "--sizes", sizes, "--seeds", "2", "--updates", "2", config=config
    )


def test_a_study_leaves_rows_a_table_a_figure_and_one_sentence(config: Path, data: Path, tmp_path: Path) -> None:
    answer = study(config, data, tmp_path / "out", "4,8")
    assert answer.returncode == 0, answer.stderr
    assert len((tmp_path / "out" / "data_size.csv").read_text().splitlines()) == 1 + 4
    assert (tmp_path / "out" / "data_size.png").read_bytes().startswith(b"\x89PNG")
    sentence = answer.stdout.splitlines()[0]
    assert sentence.startswith("Whether fewer than 8 slices suffice can not be told from 1 validation patient: a")
    assert sentence in (tmp_path / "out" / "data_size.md").read_text()


@pytest.mark.parametrize(
    ("sizes", "pipeline", "reason"),
    [
        ("4,500", "enhance", "rtnode: 500 slices were asked for, but the 2 training patients have 10"),
        ("4", "copy", "rtnode: copy has nothing to train, so there is no training size to study"),
    ],
)
def test_what_can_not_be_studied_is_one_plain_sentence(
    config: Path, data: Path, tmp_path: Path, sizes: str, pipeline: str, reason: str
) -> None:
    answer = study(config, data, tmp_path / "out", sizes, pipeline)
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1].startswith(reason)


@pytest.mark.parametrize("sizes", ["many", "16,,32", "-4", "1.5"])
def test_a_size_that_is_no_number_is_refused(config: Path, data: Path, tmp_path: Path, sizes: str) -> None:
    answer = study(config, data, tmp_path / "out", f"16,{sizes}")
    assert answer.returncode == 2 and "neither a number of slices nor `all`" in answer.stderr


def ablation(config: Path, data: Path, output: Path, pipeline: str, *options: str) -> subprocess.CompletedProcess[str]:
    where = ["--data", str(data), "--output", str(output)]
    return rtnode("study", "ablation", pipeline, *where, "--updates", "1", *options, config=config)


def test_an_ablation_leaves_rows_a_table_a_figure_and_one_sentence(config: Path, tmp_path: Path) -> None:
    for number in (1, 201):
        openkbp(tmp_path / "openkbp", number)
    output = tmp_path / "out"
    answer = ablation(config, tmp_path / "openkbp", output, "segment", "--seed", "3")
    assert answer.returncode == 0, answer.stderr
    sentence, where = answer.stdout.splitlines()
    assert sentence.startswith("Best at the end: windows ") and where == f"table, figure and rows: {output}"
    page = (output / "segmentation_ablation.md").read_text()
    assert sentence in page and "seed 3, 1 updates" in page
    # A row for each organ of each of nine trainings, after the only update.
    assert len((output / "segmentation_ablation.csv").read_text().splitlines()) == 1 + 9 * 2
    assert (output / "segmentation_ablation.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        ("enhance", "rtnode: enhance has no choices to compare"),
        ("segment", "rtnode: {data} has no planning CT in which Parotid_L or Parotid_R was drawn"),
    ],
)
def test_what_can_not_be_ablated_is_one_plain_sentence(
    config: Path, data: Path, tmp_path: Path, pipeline: str, reason: str
) -> None:
    answer = ablation(config, data, tmp_path / "out", pipeline)
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1] == reason.format(data=data)
