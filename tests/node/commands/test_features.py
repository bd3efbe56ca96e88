"""The command `rtnode features`: features of a region of a folder."""

import json
from pathlib import Path

import pytest

from models.feature_settings import FeatureSettings
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.structure_set_writing import Roi, structure_set
from tests.command_line import answer_of
from tests.pipelines.made import ct_series, ramp, write
from tests.pipelines.organs_made import NEW, ball, written

REPOSITORY = Path(__file__).parents[3]
SETTINGS = """
families: [statistics, glcm]
discretisation: {method: fixed_bin_number, bins: 16}
"""


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    """Folder with a CT and a bladder."""
    folder = tmp_path / "ct"
    folder.mkdir()
    images = write(ct_series(), folder)
    written(structure_set(read_image_series(images), [Roi("Blase", ball())], "TEST", NEW), folder)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "structure_names.yaml").write_text("Blase: Bladder\n")
    return folder


def file_of(text: str, tmp_path: Path) -> str:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return str(path)


def test_a_program_gets_every_value_with_the_settings_that_made_it(ct: Path, config: Path, tmp_path: Path) -> None:
    settings = file_of(SETTINGS, tmp_path)
    answer = answer_of(
        "features", str(ct), "--roi", "Bladder", "--settings", settings, "--config", str(config), "--json"
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    made = FeatureSettings.model_validate(told["settings"])
    assert made.discretisation is not None
    assert made.discretisation.model_dump() == {"method": "fixed_bin_number", "bins": 16}
    assert {one["settings_sha256"] for one in told["features"]} == {made.sha256()}
    assert {one["family"] for one in told["features"]} == {"statistics", "glcm"}
    mean = next(one for one in told["features"] if one["ibsi_code"] == "Q4LE")
    assert mean["value"] == pytest.approx(float(ramp()[ball()].mean()))
    assert (told["voxels"], set(told["software"])) == (ball().sum(), {"rtnode", "mirp"})


def test_a_person_gets_a_table(ct: Path, tmp_path: Path) -> None:
    answer = answer_of("features", str(ct), "--roi", "Blase", "--settings", file_of(SETTINGS, tmp_path))
    assert answer.returncode == 0, answer.stderr
    assert "ACUI" in answer.stdout
    assert f"43 features of {ball().sum()} voxels" in answer.stdout


def test_an_absent_region_or_folder_is_told_in_one_line(ct: Path, tmp_path: Path) -> None:
    for folder, sentence in ((ct, "has a region Rectum"), (tmp_path / "nothing", "has no CT, MR or PET image")):
        answer = answer_of("features", str(folder), "--roi", "Rectum")
        assert answer.returncode == 1
        assert sentence in answer.stderr
        assert len(answer.stderr.splitlines()) == 1


def test_of_several_series_one_has_to_be_named(ct: Path, tmp_path: Path) -> None:
    others = ct_series(SeriesInstanceUID="1.2.3.4")
    for image in others:
        image.SOPInstanceUID += ".9"
    (ct / "other").mkdir()
    write(others, ct / "other")
    asked = ("features", str(ct), "--roi", "Blase", "--settings", file_of(SETTINGS, tmp_path))
    answer = answer_of(*asked)
    assert answer.returncode == 1
    assert "the folder has 2 image series: name one with --series" in answer.stderr
    assert answer_of(*asked, "--series", "1.2.3.4").returncode == 0
    assert "has no image series 9.9" in answer_of(*asked, "--series", "9.9").stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("bin_width: 25", "settings.yaml: bin_width: Extra inputs are not permitted"),
        ("resegmentation_range: [400, -500]", "has to go from the lower to the higher intensity"),
        ("[25]", "settings.yaml: is no mapping"),
        ("{", "settings.yaml: can not be read"),
    ],
)
def test_settings_that_can_not_be_used_are_a_configuration_error(
    ct: Path, tmp_path: Path, text: str, sentence: str
) -> None:
    answer = answer_of("features", str(ct), "--roi", "Blase", "--settings", file_of(text, tmp_path))
    assert answer.returncode == 78
    assert sentence in answer.stderr


def test_a_synonym_of_no_tg263_name_is_a_configuration_error(ct: Path, config: Path) -> None:
    (config / "structure_names.yaml").write_text("Blase: Blaeschen\n")
    answer = answer_of("features", str(ct), "--roi", "Bladder", "--config", str(config))
    assert answer.returncode == 78
    assert "structure_names.yaml: Blase: Blaeschen is no name of TG-263" in answer.stderr


def test_the_shipped_synonyms_can_be_read(ct: Path) -> None:
    answer = answer_of("features", str(ct), "--roi", "Bladder", "--config", str(REPOSITORY / "config"))
    assert answer.returncode == 1
    assert "has a region Bladder" in answer.stderr
