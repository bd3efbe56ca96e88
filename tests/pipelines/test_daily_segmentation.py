"""Organs of the day beside those carried over: a made-up pelvis whose organs and whose place on the couch are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import RTStructureSetStorage, SegmentationStorage, SpatialRegistrationStorage

from models.inference import nobody
from models.phantoms import fraction_of, pelvis_phantom
from models.segmentation import Segmentation as FoundOrgans
from models.segmentation_measures import dice
from models.weights import Card, load_card
from pipelines.base import InputRejected, Inputs, InputSeries, Outcome
from pipelines.daily_segmentation import DailySegmentation
from pipelines.dicom.writing import file_bytes
from pipelines.phantom_study import COUCH_SHIFT_LPS_MM, Kind, PhantomSize, PhantomStudy, write_phantom
from pipelines.stability import Finding, Verdict, verdict_of
from tests.models.segmenters import TASK, saved_segmenter
from tests.pipelines.conftest import FoundBy, dciodvfy_errors
from tests.pipelines.made import changed, write
from tests.pipelines.organ_readers import contours, regions, segments
from tests.pipelines.two_parotids import MEASURES, OBLIQUE, folder_in, placed, stored, with_limits

ORGANS = ("Bladder", "Prostate", "Rectum")
SIZE = PhantomSize(matrix=64, slices=32, slice_mm=6.0, fractions=2)
SHAPE, SPACING = (32, 64, 64), (6.0, 500 / 64, 500 / 64)
SEED = 0


@dataclass(frozen=True)
class Oracle:
    """Finds the organs where they are."""

    card: Card
    labels_zyx: NDArray[np.uint8]
    organs: tuple[str, ...] = ORGANS
    takes_mr: bool = False

    def find(
        self,
        hu_zyx: NDArray[Any],
        spacing_zyx_mm: tuple[float, float, float],
        mr_zyx: Any = None,
        progress: Any = nobody,
    ) -> FoundOrgans:
        assert hu_zyx.shape == self.labels_zyx.shape and mr_zyx is None
        return FoundOrgans(self.labels_zyx, self.organs, dict.fromkeys(self.organs, 0.9))


def of_the_day(fraction: int) -> dict[str, NDArray[np.bool_]]:
    """Where the organs are on the day of a fraction."""
    phantom = pelvis_phantom(SHAPE, SPACING, np.random.default_rng(SEED))
    masks = fraction_of(phantom, fraction, np.random.default_rng([SEED, fraction])).masks
    return {organ: masks[organ] for organ in ORGANS}


def way_lps_mm(fraction: int) -> NDArray[np.float64]:
    """From the images of the day back to the planning CT: the couch, less the setup error as `fraction_of` draws it."""
    setup = np.random.default_rng([SEED, fraction]).normal(0.0, 1.5, 3)[::-1]
    couch = np.array(COUCH_SHIFT_LPS_MM if fraction % 2 else (0, 0, 0))
    return np.asarray(couch - setup)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return write_phantom(Kind.PELVIS, tmp_path_factory.mktemp("pelvis"), seed=SEED, size=SIZE)


def series(role: str, paths: tuple[Path, ...]) -> InputSeries:
    return InputSeries(role, dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID, paths)


def inputs_of(study: PhantomStudy, fraction: int = 1, linked: Mapping[str, tuple[Path, ...]] | None = None) -> Inputs:
    """What a job of that fraction gets; `linked` replaces or adds series, by role."""
    roles = {"planning_ct": study.planning_ct, "structure_set": (study.structure_set,), **(linked or {})}
    return Inputs(
        series("cbct", study.fractions[fraction - 1]),
        {role: (series(role, paths),) for role, paths in roles.items()},
    )


def run(
    folder: Path, found_by: FoundBy, inputs: Inputs, fraction: int = 1, limit: float | None = None, **settings: Any
) -> Outcome:
    weights = with_limits(saved_segmenter(folder, TASK.model_copy(update={"organs": ORGANS})), limit)
    labels = np.zeros(SHAPE, np.uint8)
    for number, mask in enumerate(of_the_day(fraction).values(), start=1):
        labels[mask] = number
    found_by(Oracle(load_card(weights), labels))
    return DailySegmentation(name="segment_cbct", weights=weights, **settings).run(inputs)


@dataclass(frozen=True)
class Made:
    """What one job made, as files."""

    outcome: Outcome
    segmentation: Path
    structure_set: Path
    registration: Path
    carried: Path
    images: Sequence[Dataset]

    def finding(self, name: str) -> Finding:
        (found,) = [one for one in self.outcome.findings if one.name == name]
        return found


def made(folder: Path, outcome: Outcome, images: tuple[Path, ...]) -> Made:
    paths = []
    for number, (one,) in enumerate(outcome.series):
        paths.append(folder / f"{number}.dcm")
        paths[-1].write_bytes(file_bytes(one))
    by_place = sorted((dcmread(path) for path in images), key=lambda one: float(one.ImagePositionPatient[2]))
    segmentation, structure_set, registration, carried = paths
    return Made(outcome, segmentation, structure_set, registration, carried, by_place)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory, study: PhantomStudy) -> Made:
    """The first fraction, whose Frame of Reference is its own; registered by its images."""
    folder = tmp_path_factory.mktemp("day")
    with pytest.MonkeyPatch.context() as patch:

        def found_by(finder: Any) -> list[dict[str, Any]]:
            patch.setattr("pipelines.segmentation.load_organ_finder", lambda weights, **settings: finder)
            return []

        return made(folder, run(folder, found_by, inputs_of(study), limit=1e6), study.fractions[0])


def test_found_organs_registration_and_carried_organs_are_four_valid_objects(day: Made) -> None:
    assert [one.SOPClassUID for (one,) in day.outcome.series] == [
        SegmentationStorage,
        RTStructureSetStorage,
        SpatialRegistrationStorage,
        RTStructureSetStorage,
    ]
    paths = (day.segmentation, day.structure_set, day.registration, day.carried)
    assert [error for path in paths for error in dciodvfy_errors(path)] == []
    assert {one.SOPClassUID for (one,) in day.outcome.series} == DailySegmentation.produces
    assert len({one.SeriesInstanceUID for (one,) in day.outcome.series}) == 4
    assert len({one.SeriesNumber for (one,) in day.outcome.series}) == 4
    assert {one.StudyInstanceUID for (one,) in day.outcome.series} == {day.images[0].StudyInstanceUID}
    assert {one.PatientID for (one,) in day.outcome.series} == {"DEMO-PE"}


def test_what_was_found_is_written_on_the_images_of_the_day(day: Made) -> None:
    for read in (segments(day.segmentation, day.images), regions(day.structure_set, day.images)):
        assert set(read) == set(ORGANS)
        assert all(np.array_equal(read[organ], mask) for organ, mask in of_the_day(1).items())
    uids = {one.SOPInstanceUID for one in day.images}
    for path in (day.structure_set, day.carried):
        assert {uid for drawn in contours(path).values() for uid, _ in drawn} <= uids


def test_the_registration_leads_back_over_couch_and_setup_error(day: Made, study: PhantomStudy) -> None:
    dataset = dcmread(day.registration)
    planning = dcmread(study.planning_ct[0], stop_before_pixels=True)
    assert dataset.FrameOfReferenceUID == planning.FrameOfReferenceUID
    moved = dataset.RegistrationSequence[1]
    assert moved.FrameOfReferenceUID == day.images[0].FrameOfReferenceUID
    step = moved.MatrixRegistrationSequence[0].MatrixSequence[0]
    matrix = np.array(step.FrameOfReferenceTransformationMatrix, float).reshape(4, 4)
    centre = -np.array(COUCH_SHIFT_LPS_MM)
    assert np.linalg.norm(matrix[:3, :3] @ centre + matrix[:3, 3] - (centre + way_lps_mm(1))) < 2.5
    for name in ("registration_doubt", "registration_inverse_mm", "registration_rotation_deg"):
        assert day.finding(name).verdict is Verdict.HOLD
    assert day.finding("registration_rotation_deg").value < 2.0
    assert dcmread(day.carried).StructureSetDescription.count(dataset.SOPInstanceUID) == 1


def test_all_regions_of_the_planning_day_are_carried_over(day: Made, study: PhantomStudy) -> None:
    names = {item.ROIName for item in dcmread(study.structure_set).StructureSetROISequence}
    carried = dcmread(day.carried)
    assert {item.ROIName for item in carried.StructureSetROISequence} == names
    predecessor = carried.PredecessorStructureSetSequence[0].ReferencedSOPInstanceUID
    assert predecessor == dcmread(study.structure_set).SOPInstanceUID


def test_found_and_carried_organs_are_compared(day: Made) -> None:
    carried, found = regions(day.carried, day.images), of_the_day(1)
    voxel_mm3 = float(np.prod(SPACING))
    for organ in ORGANS:
        key = organ.lower()
        assert day.finding(f"{key}_dice").value == pytest.approx(dice(carried[organ], found[organ]), abs=1e-6)
        ratio = float(found[organ].sum()) * voxel_mm3 / (float(carried[organ].sum()) * voxel_mm3)
        assert day.finding(f"{key}_volume_ratio").value == pytest.approx(ratio, abs=1e-6)
        centres = [np.argwhere(mask).mean(axis=0) * SPACING for mask in (carried[organ], found[organ])]
        shift_mm = float(np.linalg.norm(centres[1] - centres[0]))
        assert day.finding(f"{key}_centroid_shift_mm").value == pytest.approx(shift_mm, abs=1e-6)
        assert day.finding(f"{key}_mean_surface_distance_mm").unit == "mm"
    assert day.finding("prostate_dice").value > 0.6


def test_no_limit_of_agreement_was_measured_so_a_person_looks(day: Made) -> None:
    names = {one.name for one in day.outcome.findings}
    assert {*MEASURES, "identity_differences", "segmentation_difference_percent"} <= names
    held = {one.name for one in day.outcome.findings if one.verdict is Verdict.HOLD}
    assert held == {name for name in names if name.startswith(("bladder_", "prostate_", "rectum_", "registration_"))}
    assert verdict_of(day.outcome.findings) is Verdict.HOLD


def test_a_given_registration_is_taken_as_it_is(tmp_path: Path, study: PhantomStudy, found_by: FoundBy) -> None:
    inputs = inputs_of(study, linked={"registration": (study.registrations[0],)})
    outcome = run(tmp_path, found_by, inputs, registration="given", objects=["structure_set"])
    assert [one.Modality for (one,) in outcome.series] == ["RTSTRUCT", "REG", "RTSTRUCT"]
    step = outcome.series[1][0].RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
    matrix = np.array(step.FrameOfReferenceTransformationMatrix, float).reshape(4, 4)
    np.testing.assert_allclose(matrix[:3, 3], COUCH_SHIFT_LPS_MM, atol=1e-6)
    assert "registration_inverse_mm" not in {one.name for one in outcome.findings}


def test_a_registration_that_is_wanted_and_not_there_is_told(
    tmp_path: Path, study: PhantomStudy, found_by: FoundBy
) -> None:
    with pytest.raises(InputRejected, match="No registration leads from the Frame of Reference of the planning CT"):
        run(tmp_path, found_by, inputs_of(study), registration="given")


def test_within_one_frame_of_reference_nothing_has_to_be_given(
    tmp_path: Path, study: PhantomStudy, found_by: FoundBy
) -> None:
    outcome = run(tmp_path, found_by, inputs_of(study, 2), 2, registration="given", organs=["Bladder"])
    paths = made(tmp_path, outcome, study.fractions[1])
    assert dciodvfy_errors(paths.registration) == []
    assert set(segments(paths.segmentation, paths.images)) == {"Bladder"}
    assert {one.name for one in outcome.findings if one.name.endswith("_dice")} == {"bladder_dice"}


def with_patient(paths: tuple[Path, ...], folder: Path, patient_id: str) -> tuple[Path, ...]:
    """The same files, of somebody else."""
    folder.mkdir()
    written = []
    for path in paths:
        written.append(folder / path.name)
        changed(dcmread(path), PatientID=patient_id).save_as(written[-1])
    return tuple(written)


@pytest.mark.parametrize("role", ["planning_ct", "structure_set"])
def test_planning_data_of_another_patient_are_refused(
    tmp_path: Path, study: PhantomStudy, found_by: FoundBy, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before anything is laid on anything.
    monkeypatch.delattr("pipelines.daily_segmentation.registered")
    own = {"planning_ct": study.planning_ct, "structure_set": (study.structure_set,)}[role]
    other = with_patient(own, tmp_path / "other", "DEMO-XX")
    with pytest.raises(InputRejected) as caught:
        run(tmp_path, found_by, inputs_of(study, linked={role: other}))
    assert str(caught.value) == "The planning CT, its structure set and the images are not of one patient"


def test_two_files_of_a_structure_set_are_one_too_many(tmp_path: Path, study: PhantomStudy, found_by: FoundBy) -> None:
    twice = (study.structure_set, *with_patient((study.structure_set,), tmp_path / "second", "DEMO-PE"))
    with pytest.raises(InputRejected, match="The series of the structure set has 2 files"):
        run(tmp_path, found_by, inputs_of(study, linked={"structure_set": twice}))


def test_an_organ_that_was_drawn_twice_is_carried_over_and_not_compared(
    tmp_path: Path, study: PhantomStudy, found_by: FoundBy
) -> None:
    dataset = dcmread(study.structure_set)
    names = {item.ROIName: item for item in dataset.StructureSetROISequence}
    names["Prostate"].ROIName = "BLADDER"
    dataset.save_as(tmp_path / "twice.dcm")
    inputs = inputs_of(study, 2, {"structure_set": (tmp_path / "twice.dcm",)})
    outcome = run(tmp_path, found_by, inputs, 2, registration="given")
    carried = outcome.series[-1][0]
    assert {"Bladder", "BLADDER"} < {item.ROIName for item in carried.StructureSetROISequence}
    (said,) = [one for one in outcome.findings if one.name == "bladder_not_compared"]
    assert said.text == "Bladder was drawn 2 times on the planning CT, so it is not compared"
    assert {one.name for one in outcome.findings if one.name.endswith("_dice")} == {"rectum_dice"}


def test_oblique_images_are_refused_whatever_is_to_be_sent(
    tmp_path: Path, study: PhantomStudy, found_by: FoundBy
) -> None:
    paths = write(placed(stored(OBLIQUE), OBLIQUE), folder_in(tmp_path, "oblique"))
    inputs = Inputs(series("cbct", tuple(paths)), inputs_of(study).linked)
    with pytest.raises(InputRejected, match="The slices are not transverse"):
        run(tmp_path, found_by, inputs, objects=["segmentation"])


def test_the_same_inputs_make_the_same_bytes(day: Made, study: PhantomStudy, found_by: FoundBy) -> None:
    inputs = inputs_of(study)
    turned = InputSeries("cbct", inputs.trigger.series_instance_uid, inputs.trigger.paths[::-1])
    # In the same folder: the path of the weights is a setting, and settings decide UIDs.
    again = run(day.segmentation.parent, found_by, Inputs(turned, inputs.linked), limit=1e6)
    assert [file_bytes(one) for (one,) in again.series] == [file_bytes(one) for (one,) in day.outcome.series]
    assert again.findings == day.outcome.findings
