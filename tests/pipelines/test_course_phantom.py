"""A made-up cohort as a research collection: read back by what reads any collection."""

from pathlib import Path

import numpy as np
import pytest

from models.rigid_motion import carried
from models.simulated_response import ResponseSettings
from pipelines.course_phantom import fraction_number, write_course, write_courses
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.registration import known_matrix, usable_registrations
from pipelines.dicom.treatment_record import read_treatment_record
from pipelines.outcomes import collected_patients, read_outcomes, read_truth
from tests.pipelines.conftest import dciodvfy_errors

SMALL = ResponseSettings(shape_zyx=(8, 32, 32), spacing_zyx_mm=(10.0, 10.0, 10.0), fractions=2)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_courses(folder, 3, seed=4, settings=SMALL)
    return folder


def test_a_cohort_reads_as_any_collection_with_outcomes(cohort: Path) -> None:
    patients = collected_patients(cohort)
    assert [one.split for one in patients] == ["train", "train", "test"]
    assert [len(patients[0].series(role)) for role in ("planning_ct", "structure_set", "cbct", "registration")] == [
        1, 1, 2, 2,
    ]  # fmt: skip
    outcomes = read_outcomes(cohort)
    assert outcomes.kind == "survival" and outcomes.statement.is_simulated
    assert set(read_truth(cohort)) == {one.patient for one in patients} == set(outcomes.of_patient)


def test_the_same_arguments_make_the_same_files(cohort: Path, tmp_path: Path) -> None:
    write_courses(tmp_path, 3, seed=4, settings=SMALL)
    files = sorted(path.relative_to(cohort) for path in cohort.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert all((cohort / one).read_bytes() == (tmp_path / one).read_bytes() for one in files)


def test_the_registration_of_the_machine_leads_back_to_the_planning_ct(tmp_path: Path) -> None:
    files = write_course(tmp_path, 0.0, settings=SMALL)
    planning, day = read_image_series(files.planning_ct), read_image_series(files.cbct[0])
    matrix = known_matrix(
        planning.frame_of_reference_uid, day.frame_of_reference_uid, usable_registrations(files.registrations)
    )
    assert matrix is not None
    bodies = [
        one.volume.points_lps(np.argwhere(one.volume.array_zyx > -300.0)[:, ::-1].astype(np.float64))
        for one in (planning, day)
    ]
    middle = carried(bodies[0].mean(axis=0)[None], matrix)[0]
    assert middle[:2] == pytest.approx(bodies[1].mean(axis=0)[:2], abs=1.5)


def test_records_and_registrations_are_valid_and_say_which_fraction_it_was(tmp_path: Path) -> None:
    files = write_course(tmp_path, 0.0, settings=SMALL)
    record = read_treatment_record(files.treatment_records[1])
    assert record.fraction_numbers == (25,) and record.planned == 25
    assert [fraction_number(image, 5) for image in (1, 2, 3, 4, 5)] == [1, 7, 13, 19, 25]
    for path in (files.treatment_records[0], files.registrations[0], files.structure_set, files.cbct[0][0]):
        assert dciodvfy_errors(path) == []
