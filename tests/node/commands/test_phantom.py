"""The command `rtnode phantom`: made-up patients, and projections of them or of a CT."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from node.config import load_config
from node.roles import role_of
from pipelines.dicom.projections import read_projections
from tests.command_line import answer_of
from tests.pipelines.made import ct_series, ramp, write

REPOSITORY = Path(__file__).parents[3]
FEW = ("--views", "6")


def phantom(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return answer_of("phantom", *map(str, arguments))


def projections(output: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return phantom("projections", "--output", output, *arguments)


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    """Folder with a CT of 5 slices, beside something that is no DICOM."""
    folder = tmp_path / "ct"
    folder.mkdir()
    write_ct(folder)
    (folder / "README.txt").write_text("about the CT")
    return folder


def write_ct(folder: Path, **changes: Any) -> None:
    write(ct_series(ramp(rows=20), PixelSpacing=[2.0, 2.0], **changes), folder)


def views_in(folder: Path) -> list[Path]:
    return sorted((folder / "projections").glob("*.dcm"))


@pytest.mark.parametrize(("kind", "files", "further"), [("headneck", 19, set()), ("pelvis", 35, {"mr"})])
def test_a_made_up_patient_is_written_as_ever(tmp_path: Path, kind: str, files: int, further: set[str]) -> None:
    answer = phantom(kind, "--output", tmp_path, "--matrix", "32", "--slices", "16", "--fractions", "0")
    assert (answer.returncode, answer.stdout.splitlines()[-1]) == (0, f"{files} files in {tmp_path}"), answer.stderr
    folders = {"planning_ct", "structure_set", "rt_plan", "rt_dose"} | further
    assert {path.name for path in tmp_path.iterdir()} == folders
    for name in {"planning_ct", "structure_set", "mr"} & folders:
        header = dcmread(next((tmp_path / name).iterdir()), stop_before_pixels=True)
        assert role_of(header, load_config(REPOSITORY / "config").roles) == name


def test_slices_that_do_not_show_the_target_are_one_plain_sentence(tmp_path: Path) -> None:
    answer = phantom("headneck", "--output", tmp_path, "--matrix", "32", "--slices", "6")
    assert (answer.returncode, answer.stderr.splitlines()[-1]) == (
        1,
        "rtnode: the target of the made-up patient lies outside of so few or so coarse slices",
    )


def test_without_a_ct_a_head_and_neck_is_made_up_and_kept_beside_its_projections(tmp_path: Path) -> None:
    answer = projections(tmp_path, *FEW, "--slices", "20:22")
    assert (answer.returncode, answer.stdout) == (0, f"12 views in {tmp_path / 'projections'}\n"), answer.stderr
    found = read_projections(views_in(tmp_path))
    planning = dcmread(next((tmp_path / "planning_ct").glob("*.dcm")))
    assert found.header.FrameOfReferenceUID == planning.FrameOfReferenceUID
    assert found.header.PatientID == planning.PatientID == "DEMO-HN"
    # A head of some 150 mm, mostly water.
    assert 2.0 < found.line_integrals.max() < 8.0


def test_options_are_those_of_the_scan(ct: Path, tmp_path: Path) -> None:
    options = ("--geometry", "parallel", "--photons", "5e4", "--water", "0.00716", "--slices", "1:4")
    answer = projections(tmp_path, "--ct", ct, *FEW, *options)
    assert (answer.returncode, answer.stdout) == (0, f"6 views in {tmp_path / 'projections'}\n"), answer.stderr
    found = read_projections(views_in(tmp_path))
    assert found.line_integrals.shape[:2] == (6, 3)
    assert found.photons is not None and (found.photons == 5e4).all()
    assert found.water_attenuation_per_mm == 0.00716


def test_the_same_options_make_the_same_files_and_another_seed_another_series(ct: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("once", "again", "other")]
    options = ("--ct", str(ct), *FEW, "--slices", "0:1")
    for folder, seed in zip(folders[::2], ("0", "1"), strict=True):
        assert projections(folder, *options, "--seed", seed).returncode == 0
    # In a process of its own, where sets and dictionaries have other orders.
    command = [sys.executable, "-m", "node", "phantom", "projections", "--output", str(folders[1]), *options]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    once, again, other = ({path.name: path.read_bytes() for path in views_in(folder)} for folder in folders)
    assert once == again
    assert not set(once) & set(other)


def test_infinitely_many_photons_make_no_noise(ct: Path, tmp_path: Path) -> None:
    for seed in ("0", "1"):
        options = ("--photons", "inf", "--seed", seed, "--slices", "0:1")
        assert projections(tmp_path / seed, "--ct", ct, *FEW, *options).returncode == 0
    one, other = (read_projections(views_in(tmp_path / seed)) for seed in ("0", "1"))
    assert one.photons is None
    np.testing.assert_array_equal(one.line_integrals, other.line_integrals)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--geometry", "cone"], "cone-beam projections are not made, as none are reconstructed"),
        (["--geometry", "helical"], "'helical' is neither fan nor parallel"),
        (["--slices", "20"], "'20' is not two numbers of slices, as 20:24"),
        (["--slices", "-1:4"], "'-1:4' is not two numbers of slices, as 20:24"),
        (["--photons", "nan"], "Invalid value for '--photons'"),
        (["--photons", "50"], "Invalid value for '--photons'"),
        (["--water", "nan"], "Invalid value for '--water'"),
        (["--series", "1.2"], "it chooses among those of --ct"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(tmp_path: Path, options: list[str], reason: str) -> None:
    answer = projections(tmp_path / "out", *options)
    assert answer.returncode == 2
    assert reason in " ".join(answer.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_slices_that_the_ct_lacks_are_one_plain_sentence(ct: Path, tmp_path: Path) -> None:
    answer = projections(tmp_path, "--ct", ct, "--slices", "4:9")
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1] == "rtnode: Slices 4:9 are no part of the 5 slices of the CT, 0:5"
    assert views_in(tmp_path) == []


def test_of_several_series_one_has_to_be_chosen(ct: Path, tmp_path: Path) -> None:
    (ct / "second").mkdir()
    others = ct_series(ramp(rows=20), PixelSpacing=[2.0, 2.0], SeriesInstanceUID="1.2.3")
    for index, one in enumerate(others):
        one.SOPInstanceUID = f"1.2.3.{index}"
    write(others, ct / "second")
    answer = projections(tmp_path, "--ct", ct, *FEW)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"rtnode: {ct} has several CT series, choose with --series: 1.2.")
    assert projections(tmp_path, "--ct", ct, *FEW, "--series", "1.2.3", "--slices", "0:1").returncode == 0
    unknown = projections(tmp_path, "--ct", ct, *FEW, "--series", "1.2.4")
    assert (unknown.returncode, unknown.stderr) == (1, f"rtnode: {ct} has no CT series 1.2.4\n")


def test_a_folder_without_a_ct_is_one_plain_sentence(tmp_path: Path) -> None:
    (tmp_path / "mr").mkdir()
    write_ct(tmp_path / "mr", Modality="MR")
    answer = projections(tmp_path, "--ct", tmp_path / "mr")
    assert (answer.returncode, answer.stderr) == (1, f"rtnode: {tmp_path / 'mr'} has no CT\n")


def test_a_course_of_treatment_has_the_roles_that_a_prognosis_needs(tmp_path: Path) -> None:
    assert phantom("course", "--output", tmp_path).returncode == 0
    rules = load_config(REPOSITORY / "config").roles
    series = {path.parent: path for path in (tmp_path / "COURSE-0-0000").rglob("*.dcm")}
    roles = Counter(role_of(dcmread(path, stop_before_pixels=True), rules) for path in series.values())
    assert roles == {"planning_ct": 1, "structure_set": 1, "cbct": 5, "registration": 5, "treatment_record": 5}
    assert (tmp_path / "outcomes.csv").is_file() and (tmp_path / "index.json").is_file()
