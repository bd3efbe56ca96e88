"""Training data that can not be used are refused on the command line before anything is computed."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from node.collection import own_key
from node.deidentification import Deidentifier
from pipelines.collection_index import CollectedSeries, write_index
from tests.command_line import answer_of
from tests.pipelines.made import ct_series, ramp, write

CONFIG = {
    "node.yaml": "{min_free_gib: 0}",
    "roles.yaml": "- {role: mvct, all: {Modality: CT}}",
    "pipelines/enhance.yaml": "{class: pipelines.enhancement:Enhancement, settings: {weights: a}, when: {role: mvct}}",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "config" / "pipelines").mkdir(parents=True)
    for name, text in CONFIG.items():
        (tmp_path / "config" / name).write_text(text)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def run(command: str, data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    where = ["--data", str(data), "--config", str(data.parent / "config"), "--output", str(data.parent / "runs")]
    return answer_of(command, "enhance", *where, *options)


def train(data: Path) -> subprocess.CompletedProcess[str]:
    return run("train", data, "--updates", "1")


def refusal(data: Path) -> str:
    """What the command says last; it has to fail and to leave nothing."""
    answer = train(data)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "Traceback" not in answer.stderr
    assert not (data.parent / "runs").exists()
    return answer.stderr.splitlines()[-1]


def test_an_empty_folder_is_refused(data: Path) -> None:
    assert refusal(data) == f"rtnode: {data} has no research collection, no CT series and no .npz volume to train on"


def test_a_spacing_of_zero_is_refused(data: Path) -> None:
    np.savez(data / "neck.npz", ct=ramp(), spacing_zyx=np.array([3.0, 0.0, 1.0]))
    expected = f"rtnode: {data / 'neck.npz'}: the spacing [3.0, 0.0, 1.0] is not three positive numbers of mm"
    assert refusal(data) == expected


def test_series_with_a_gap_is_refused_with_its_reason(data: Path) -> None:
    series = ct_series(PatientName="SECRET^NAME")
    write([*series[:2], *series[3:]], data)
    answer = train(data)
    assert answer.stderr.splitlines()[-1].startswith(f"rtnode: {data} has no series that can be used, the first of 1")
    assert '"reason": "1 slice is missing' in answer.stderr
    assert "SECRET" not in answer.stderr


def test_pixels_that_are_not_square_are_refused_before_anything_is_simulated(data: Path) -> None:
    for number in range(3):
        (data / str(number)).mkdir()
        uids: dict[str, Any] = {"PatientID": str(number), "SeriesInstanceUID": f"1.2.{number}"}
        write(ct_series(PixelSpacing=[2.0, 1.5], **uids), data / str(number))
    reason = "The pixels of 2 x 1.5 mm are not square"
    assert refusal(data) == f"rtnode: {data} has no series that can be used, the first of 3 because: {reason}"


def test_one_patient_alone_is_refused(data: Path) -> None:
    for number in range(2):
        (data / str(number)).mkdir()
        write(ct_series(SeriesInstanceUID=f"1.2.{number}", PixelSpacing=[2, 2]), data / str(number))
    assert refusal(data) == "rtnode: unpaired training needs at least two patients, and there is one"


def test_a_single_volume_counts_as_trained_on_and_is_not_evaluated(data: Path) -> None:
    pipeline = data.parent / "config" / "pipelines" / "enhance.yaml"
    pipeline.write_text(CONFIG["pipelines/enhance.yaml"].replace("weights: a", "weights: mvct_to_kvct_headneck"))
    np.savez(data / "neck.npz", ct=ramp(), spacing_zyx=np.array([3.0, 2.0, 2.0]))
    answer = run("evaluate", data)
    assert (answer.returncode, answer.stderr.splitlines()[-1]) == (1, "rtnode: there is no test patient")


def test_who_opted_out_after_the_collection_is_not_trained_on(data: Path) -> None:
    folder = data.parent
    (folder / "opt_out.txt").write_text("RAMP-1\n")
    entry = {"name": "research", "roles": ["mvct"], "folder": str(data), "key_file": str(folder / "key")}
    listed = json.dumps([{**entry, "opt_out_file": str(folder / "opt_out.txt")}])
    (folder / "config" / "collections.yaml").write_text(listed)
    pseudonym = Deidentifier(own_key(folder / "key")).pseudonym("RAMP-1")
    write_index(data, [CollectedSeries(pseudonym, "1.2.3", "1.2", "CT", "mvct", "A/1", 5, 1, "train")])
    assert refusal(data) == (
        "rtnode: research holds images of 1 who opted out since they were collected: run rtnode collect research first"
    )
