"""Made-up patients: every object valid, tied to the others, and the same for the same seed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import MRImageStorage

from models.intensity import body_mask
from pipelines.dicom.dose import read_dose
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.registration import read_registration
from pipelines.dicom.structure_set import masks, read_structure_set
from pipelines.phantom_study import Kind, PhantomPatient, PhantomSize, PhantomStudy, write_phantom, write_planning_ct
from tests.pipelines.conftest import dciodvfy_errors

SIZE = PhantomSize(matrix=64, slices=40, slice_mm=6.0, fractions=2)


@pytest.fixture(scope="module", params=list(Kind))
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return write_phantom(request.param, tmp_path_factory.mktemp("phantom"), size=SIZE)


@pytest.fixture
def planning(study: PhantomStudy) -> ImageSeries:
    return read_image_series(study.planning_ct)


def one_of_each(study: PhantomStudy) -> Iterator[Path]:
    for series in (study.planning_ct, *study.fractions, study.mr):
        yield from (series[:1] + series[-1:])
    yield from (study.structure_set, study.rt_plan, study.rt_dose, *study.registrations)


def body_centre_lps_mm(series: ImageSeries) -> NDArray[np.float64]:
    centre_zyx = np.argwhere(body_mask(series.volume.array_zyx)).mean(axis=0)
    return series.volume.points_lps(centre_zyx[None, ::-1]).ravel()


def test_every_object_is_valid(study: PhantomStudy) -> None:
    assert [error for path in one_of_each(study) for error in dciodvfy_errors(path)] == []


def test_organs_lie_where_they_are_drawn(study: PhantomStudy, planning: ImageSeries) -> None:
    found = masks(read_structure_set(study.structure_set), planning)
    assert {"External", "PTV_High"} <= set(found)
    assert planning.volume.array_zyx[found["External"]].mean() > -200
    assert planning.volume.array_zyx[~found["External"]].mean() < -900
    left, right = (np.argwhere(found[name]).mean(axis=0) for name in pair_of(found))
    assert left[2] > right[2]


def pair_of(found: object) -> tuple[str, str]:
    return ("Parotid_L", "Parotid_R") if "Parotid_L" in str(found) else ("Femur_Head_L", "Femur_Head_R")


def test_dose_plan_and_structure_set_refer_to_each_other(study: PhantomStudy, planning: ImageSeries) -> None:
    dose, plan = read_dose(study.rt_dose), dcmread(study.rt_plan)
    structures = read_structure_set(study.structure_set)
    assert dose.rt_plan_uid == plan.SOPInstanceUID
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structures.sop_instance_uid
    assert structures.series_instance_uid == planning.series_instance_uid
    frames = {dose.frame_of_reference_uid, structures.frame_of_reference_uid, planning.frame_of_reference_uid}
    assert len(frames) == 1
    assert dose.volume.same_grid(planning.volume)
    target = masks(structures, planning)["PTV_High"]
    assert dose.volume.array_zyx[target].mean() > 2 * dose.volume.array_zyx[~target].mean()


def test_one_fraction_shares_the_frame_of_reference_and_one_is_registered(
    study: PhantomStudy, planning: ImageSeries
) -> None:
    first, second = (read_image_series(paths) for paths in study.fractions)
    assert second.frame_of_reference_uid == planning.frame_of_reference_uid
    ((registration,),) = (read_registration(path) for path in study.registrations)
    assert registration.moving_frame_of_reference_uid == first.frame_of_reference_uid
    assert registration.fixed_frame_of_reference_uid == planning.frame_of_reference_uid
    moved = (registration.matrix @ [*body_centre_lps_mm(first), 1.0])[:3]
    setup_error_mm = np.linalg.norm(moved - body_centre_lps_mm(planning))
    assert setup_error_mm < 10 < np.linalg.norm(body_centre_lps_mm(first) - body_centre_lps_mm(planning))


def test_images_tell_the_machine_that_made_them(study: PhantomStudy, planning: ImageSeries) -> None:
    fraction = read_image_series(study.fractions[0]).header
    assert planning.header.SeriesDescription == "Planning CT"
    assert fraction.Manufacturer in ("TomoTherapy Incorporated", "Varian Medical Systems")
    assert fraction.PatientID == planning.header.PatientID
    assert fraction.StudyInstanceUID != planning.header.StudyInstanceUID


def test_the_pelvis_has_an_mr_in_the_frame_of_reference_and_on_the_grid_of_its_ct(
    study: PhantomStudy, planning: ImageSeries
) -> None:
    is_pelvis = planning.header.BodyPartExamined == "PELVIS"
    assert len(study.mr) == (len(study.planning_ct) if is_pelvis else 0)
    if not is_pelvis:
        return
    mr = read_image_series(study.mr, frozenset({"MR"}))
    assert (mr.header.Modality, mr.header.SOPClassUID) == ("MR", MRImageStorage)
    assert mr.frame_of_reference_uid == planning.frame_of_reference_uid
    assert mr.volume.same_grid(planning.volume)
    found = masks(read_structure_set(study.structure_set), planning)
    # T2-weighted: urine is brightest, muscle and bone are dark, air shows noise alone.
    signal = mr.volume.array_zyx
    assert signal[found["Bladder"]].mean() > signal[found["Prostate"]].mean() > 2 * signal[~found["External"]].mean()


def test_no_header_says_phantom_where_a_rule_for_phantoms_would_look(study: PhantomStudy) -> None:
    for path in one_of_each(study):
        header = dcmread(path, stop_before_pixels=True)
        for keyword in ("PatientName", "PatientID", "StudyDescription", "SeriesDescription", "ProtocolName"):
            assert "phantom" not in str(header.get(keyword, "")).lower()


def test_the_planning_ct_can_be_had_alone(tmp_path: Path) -> None:
    tiny = PhantomSize(matrix=32, slices=6, slice_mm=20, fractions=0)
    whole = write_phantom(Kind.HEADNECK, tmp_path / "whole", seed=3, size=tiny).planning_ct
    alone = write_planning_ct(Kind.HEADNECK, tmp_path / "alone", seed=3, size=tiny)
    assert [path.read_bytes() for path in alone] == [path.read_bytes() for path in whole]
    assert {path for path in (tmp_path / "alone").rglob("*") if path.is_file()} == set(alone)


def test_the_same_seed_makes_the_same_files_and_another_another_patient(tmp_path: Path) -> None:
    tiny = PhantomSize(matrix=32, slices=6, slice_mm=20, fractions=1)
    content = []
    for number, seed in enumerate((1, 1, 2)):
        write_phantom(Kind.PELVIS, tmp_path / str(number), PhantomPatient("X-1", "Phantom^X"), seed, tiny)
        files = sorted((tmp_path / str(number)).rglob("*.dcm"))
        content.append({str(path.relative_to(tmp_path / str(number))): path.read_bytes() for path in files})
    assert content[0] == content[1]
    assert not set(content[0]) & set(content[2])
    assert all(b"Phantom^X" in file for file in content[0].values())
