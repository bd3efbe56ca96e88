from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter
from pydicom import dcmread

from models.simulated_oedema import OedemaCohortSettings
from node.roles import RoleRule, role_of
from pipelines.head_phantom_study import HeadImages, write_head_cohort
from pipelines.outcomes import collected_patients, read_outcomes, read_truth

SMALL = HeadImages(matrix=40, slice_mm=10.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cohort")
    write_head_cohort(made, OedemaCohortSettings(patients=3), images=SMALL)
    return made


def test_the_collection_says_who_is_in_it_and_what_became_of_them(folder: Path) -> None:
    patients, outcomes = collected_patients(folder), read_outcomes(folder)
    assert [one.split for one in patients] == ["train", "train", "test"]
    assert all(len(one.series("head_ct")[0]) == 17 for one in patients)
    assert outcomes.statement.is_simulated
    assert set(outcomes.of_patient) == set(read_truth(folder)) == {one.patient for one in patients}


def test_the_shipped_rules_give_the_images_the_role_of_a_head_ct(folder: Path) -> None:
    words = (Path(__file__).parents[2] / "config" / "roles.yaml").read_text(encoding="utf-8")
    rules = TypeAdapter(tuple[RoleRule, ...]).validate_python(yaml.safe_load(words))
    header = dcmread(next((folder / "head0000").glob("*.dcm")), stop_before_pixels=True)
    assert role_of(header, rules) == "head_ct"


def test_more_patients_leave_the_first_ones_as_they_were(folder: Path, tmp_path: Path) -> None:
    write_head_cohort(tmp_path, OedemaCohortSettings(patients=1), images=SMALL)
    (patient,) = collected_patients(tmp_path)
    for path in patient.series("head_ct")[0]:
        assert path.read_bytes() == (folder / "head0000" / path.name).read_bytes()
    assert read_outcomes(tmp_path).of_patient["head0000"] == read_outcomes(folder).of_patient["head0000"]
