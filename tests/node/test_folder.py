"""A folder of files, judged and linked as the node would do it; the commands `simulate` and `run`."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from node.config import load_config
from node.errors import EX_CONFIG, NodeError
from node.folder import plans, series_of
from tests.command_line import answer_of
from tests.dicom_files import ct_series, encoded, structure_set, write
from tests.peers import config_folder

NEEDY = {"class": "tests.trials:CopyWithPlan", "when": {"role": "cbct"}, "send_to": ["CONSOLE"]}
COPY = {"class": "pipelines.copy_series:CopySeries", "when": {"role": "cbct"}}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return config_folder(tmp_path, pipelines={"needy": NEEDY, "copy": COPY})


@pytest.fixture
def cbct() -> list[Dataset]:
    return ct_series(4, SeriesDescription="CBCT", RescaleType="HU")


def rtnode(*arguments: object) -> subprocess.CompletedProcess[str]:
    return answer_of(*map(str, arguments))


def test_every_series_of_the_folder_gets_its_role_and_state(config: Path, cbct: list[Dataset], tmp_path: Path) -> None:
    gap = ct_series(5)
    write([*cbct, *gap[:2], *gap[3:], structure_set(gap)], tmp_path / "files" / "deep")
    found = {
        one.known.role: (one.known.state, len(one.paths))
        for one in series_of(tmp_path / "files", load_config(config).roles)
    }
    assert found == {"cbct": ("settled", 4), "planning_ct": ("incomplete", 4), "structure_set": ("settled", 1)}


def test_a_file_twice_counts_once_and_what_is_no_dicom_is_passed_over(cbct: list[Dataset], tmp_path: Path) -> None:
    write([*cbct, *cbct[:2], b"no DICOM", encoded(cbct[0])[:200]], tmp_path)
    [series] = series_of(tmp_path, [])
    assert len(series.paths) == 4


@pytest.mark.parametrize(("name", "complaint"), [("none", "is no folder"), (".", "has no DICOM file")])
def test_a_folder_without_images_is_named(tmp_path: Path, name: str, complaint: str) -> None:
    with pytest.raises(NodeError, match=complaint):
        series_of(tmp_path / name, [])


def test_simulate_says_what_would_start_and_what_is_missing(config: Path, cbct: list[Dataset], tmp_path: Path) -> None:
    files = tmp_path / "files"
    frame = cbct[0].FrameOfReferenceUID
    planning_ct = ct_series(3, FrameOfReferenceUID=frame)
    write([*cbct, *planning_ct], files)
    said = json.loads(rtnode("simulate", files, "--config", config, "--json").stdout)
    jobs: dict[str, dict[str, Any]] = {job["pipeline"]: job for job in said["jobs"]}
    assert [one["role"] for one in jobs["needy"]["inputs"]] == ["cbct", "planning_ct"]
    assert jobs["needy"]["missing"] == ["structure_set tied to it by Frame of Reference or reference (0 of 1 there)"]
    assert (jobs["copy"]["missing"], jobs["needy"]["send_to"]) == ([], ["CONSOLE"])
    assert not (tmp_path / "state").exists()


def test_simulate_and_the_plans_agree(config: Path, cbct: list[Dataset], tmp_path: Path) -> None:
    write([*cbct, structure_set(cbct)], tmp_path / "files")
    settings = load_config(config)
    found = plans(settings, settings.loaded_pipelines(), series_of(tmp_path / "files", settings.roles))
    said = json.loads(rtnode("simulate", tmp_path / "files", "--config", config, "--json").stdout)
    assert [job["missing"] for job in said["jobs"]] == [list(plan.route.missing) for plan in found]


@pytest.fixture
def neck_config(tmp_path: Path) -> Path:
    """With one pipeline, for head and neck."""
    neck = {**COPY, "when": {"role": "cbct", "body_part": ["HEAD", "NECK"]}}
    return config_folder(tmp_path, pipelines={"neck": neck})


@pytest.mark.parametrize(("body_part", "started"), [("PELVIS", []), ("neck", ["neck"]), (None, ["neck"])])
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of the small letters
def test_simulate_shows_the_body_part_and_starts_what_is_for_it(
    neck_config: Path, tmp_path: Path, body_part: str | None, started: list[str]
) -> None:
    write(ct_series(4, SeriesDescription="CBCT", BodyPartExamined=body_part), tmp_path / "files")
    said = json.loads(rtnode("simulate", tmp_path / "files", "--config", neck_config, "--json").stdout)
    assert [one["body_parts"] for one in said["series"]] == [[body_part] if body_part else []]
    assert [job["pipeline"] for job in said["jobs"]] == started


def test_an_empty_list_of_body_parts_ends_the_command_with_78(tmp_path: Path) -> None:
    folder = config_folder(tmp_path, pipelines={"none": {**COPY, "when": {"role": "cbct", "body_part": []}}})
    ended = rtnode("simulate", tmp_path, "--config", folder)
    assert ended.returncode == EX_CONFIG
    assert f"{folder / 'pipelines' / 'none.yaml'}: when.body_part: Tuple should have at least 1 item" in ended.stderr


def test_run_takes_another_body_part_only_when_the_series_is_named(neck_config: Path, tmp_path: Path) -> None:
    pelvis = ct_series(4, SeriesDescription="CBCT", RescaleType="HU", BodyPartExamined="PELVIS")
    write(pelvis, tmp_path / "files")
    arguments = ["run", "neck", tmp_path / "files", "--output", tmp_path / "out", "--config", neck_config]
    refused = rtnode(*arguments)
    assert (refused.returncode, (tmp_path / "out").exists()) == (1, False)
    assert "it waits for the role cbct and the body part HEAD or NECK; see rtnode simulate" in refused.stderr
    assert rtnode(*arguments, "--series", pelvis[0].SeriesInstanceUID).returncode == 0


def test_run_writes_the_result_of_one_pipeline(config: Path, cbct: list[Dataset], tmp_path: Path) -> None:
    write(cbct, tmp_path / "files")
    ended = rtnode("run", "copy", tmp_path / "files", "--output", tmp_path / "out", "--config", config)
    assert ended.returncode == 0, ended.stderr
    made = [dcmread(path) for path in (tmp_path / "out").rglob("*.dcm")]
    assert {(one.FrameOfReferenceUID, one.SeriesDescription) for one in made if one.Modality == "CT"} == {
        (cbct[0].FrameOfReferenceUID, "Copy NOT FOR TREATMENT")
    }


@pytest.mark.parametrize(
    ("pipeline", "complaint"),
    [
        ("needy", "rtnode: needy waits for planning_ct tied to it by Frame of Reference or reference (0 of 1 there)"),
        ("nobody", "there is no pipeline nobody; known are copy, needy"),
    ],
)
def test_run_says_why_it_can_not(
    config: Path, cbct: list[Dataset], tmp_path: Path, pipeline: str, complaint: str
) -> None:
    write(cbct, tmp_path / "files")
    ended = rtnode("run", pipeline, tmp_path / "files", "--output", tmp_path / "out", "--config", config)
    assert (ended.returncode in (1, 78), complaint in ended.stderr) == (True, True), ended.stderr


def test_of_a_folder_with_a_course_each_fraction_takes_the_earlier_ones(tmp_path: Path) -> None:
    reports = {"class": "tests.fraction_reports:FractionReport", "when": {"role": "cbct"}}
    config = load_config(config_folder(tmp_path, pipelines={"reports": reports}))
    planning_ct = ct_series(3)
    frame = planning_ct[0].FrameOfReferenceUID
    days = [
        ct_series(3, FrameOfReferenceUID=frame, SeriesDescription="CBCT", AcquisitionDate=date, AcquisitionTime="0930")
        for date in ("20250122", "20250120", "20250121")
    ]
    write([*planning_ct, structure_set(planning_ct), *(one for each in days for one in each)], tmp_path / "files")
    found = plans(config, config.loaded_pipelines(), series_of(tmp_path / "files", config.roles))
    order = {days[index][0].SeriesInstanceUID: fraction for index, fraction in ((1, 1), (2, 2), (0, 3))}
    taken = {
        order[plan.trigger.known.series_instance_uid]: [
            order[one.series_instance_uid] for role, one in plan.route.inputs[1:] if role == "cbct"
        ]
        for plan in found
    }
    assert taken == {1: [], 2: [1], 3: [2, 1]}


def test_simulate_says_that_a_pipeline_in_shadow_sends_to_nobody(tmp_path: Path) -> None:
    config = config_folder(tmp_path, pipelines={"watched": {**COPY, "send_to": ["CONSOLE"], "shadow": True}})
    write(ct_series(3, SeriesDescription="CBCT"), tmp_path / "files")
    [job] = json.loads(rtnode("simulate", tmp_path / "files", "--config", config, "--json").stdout)["jobs"]
    assert (job["pipeline"], job["send_to"]) == ("watched", [])
    assert "nobody (shadow)" in " ".join(rtnode("simulate", tmp_path / "files", "--config", config).stdout.split())
