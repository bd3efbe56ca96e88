"""A research collection of made-up implants: valid files, an index that fits them, and the same for the same seed."""

import csv
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from models.simulated_implant import ImplantCohortSettings, simulated_implants
from node.config import load_config
from node.roles import role_of
from pipelines.dicom.dose import read_dose
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.structure_set import masks, read_structure_set
from pipelines.implant_phantom_study import write_implant_cohort
from pipelines.outcomes import CollectedPatient, collected_patients, read_outcomes, read_truth
from tests.pipelines.conftest import REPOSITORY, dciodvfy_errors

SETTINGS = ImplantCohortSettings(patients=2)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("implants")
    write_implant_cohort(SETTINGS, folder, seed=1)
    return folder


@pytest.fixture(scope="module")
def patient(collection: Path) -> CollectedPatient:
    return collected_patients(collection)[0]


def test_every_object_is_valid_and_has_the_role_of_the_index(patient: CollectedPatient) -> None:
    rules = load_config(REPOSITORY / "config").roles
    for role in ("planning_ct", "structure_set", "plan", "dose"):
        (paths,) = patient.series(role)
        assert dciodvfy_errors(paths[0]) == []
        assert role_of(dcmread(paths[0], stop_before_pixels=True), rules) == role


def test_the_dose_is_that_of_the_seeds_in_the_plan(patient: CollectedPatient) -> None:
    implant = simulated_implants(SETTINGS, seed=1).implants[0]
    plan, dose = dcmread(patient.series("plan")[0][0]), read_dose(patient.series("dose")[0][0])
    channels = plan.ApplicationSetupSequence[0].ChannelSequence
    seeds = np.array([one.BrachyControlPointSequence[0].ControlPoint3DPosition for one in channels], np.float64)
    np.testing.assert_allclose(seeds, implant.seeds_mm, atol=1e-3)
    assert float(plan.SourceSequence[0].ReferenceAirKermaRate) == pytest.approx(implant.strength_u, abs=1e-5)
    place = np.array([[20.0, 18.0, 15.0]])
    expected = implant.dose_gy(dose.volume.points_lps(place))
    # Positions are written to a micrometre.
    assert dose.volume.array_zyx[15, 18, 20] == pytest.approx(expected[0], rel=1e-4)
    assert dose.rt_plan_uid == plan.SOPInstanceUID


def test_seeds_are_seen_in_the_ct_and_the_prostate_is_drawn_around_them(patient: CollectedPatient) -> None:
    series = read_image_series(patient.series("planning_ct")[0])
    found = masks(read_structure_set(patient.series("structure_set")[0][0]), series)
    assert set(found) == {"Prostate", "Urethra", "Rectum"}
    seeds = series.volume.array_zyx > 1500.0
    assert 20 < seeds.sum() < 120
    assert (seeds & found["Prostate"]).sum() > 0.6 * seeds.sum()
    assert not (seeds & found["Rectum"]).any()


def test_outcomes_and_truth_are_of_the_patients_of_the_index(collection: Path) -> None:
    names = [one.patient for one in collected_patients(collection)]
    outcomes = read_outcomes(collection)
    assert list(outcomes.of_patient) == names == list(read_truth(collection))
    assert outcomes.statement.is_simulated
    assert [one.split for one in collected_patients(collection)] == ["train", "test"]
    with (collection / "outcomes.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["patient", "time_d", "event"]


def test_the_same_seed_makes_the_same_files(collection: Path, tmp_path: Path) -> None:
    write_implant_cohort(SETTINGS, tmp_path, seed=1)
    once, again = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (collection, tmp_path)
    )
    assert once == again
