"""Segmentation of a made-up CT whose organs are known: objects, findings, refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from models.imports.importing import found_model
from models.imports.importing import written as written_import
from models.weights import WeightsError, load_card, write_card
from pipelines.base import InputRejected, Labelling, Outcome, PipelineError
from pipelines.dicom.writing import file_bytes
from pipelines.execution import PipelineConfigError, load_pipeline
from pipelines.segmentation import Segmentation
from pipelines.stability import Finding, Verdict, verdict_of
from tests.models.programs import facts, onnx
from tests.models.segmenters import saved_segmenter
from tests.models.test_weights import FACTS
from tests.models.test_weights import saved as saved_generator
from tests.pipelines.conftest import FoundBy, dciodvfy_errors, inputs
from tests.pipelines.made import COLUMN_MM, ROW_MM, SLICE_MM, write
from tests.pipelines.organ_readers import contours, polygon_mm2, regions, segments
from tests.pipelines.organs_made import POSITIONS, written
from tests.pipelines.two_parotids import (
    BALLS,
    MEASURES,
    OBLIQUE,
    ball,
    ct,
    finder_of,
    folder_in,
    of_class,
    placed,
    stored,
    truth,
    weights_in,
    with_limits,
)


@pytest.fixture
def run(tmp_path: Path, found_by: FoundBy) -> Callable[..., Outcome]:
    """Runs the pipeline on a CT series."""

    def outcome(series: list[Dataset] | None = None, limit: float | None = 1e6, **settings: Any) -> Outcome:
        weights = weights_in(tmp_path, limit=limit)
        found_by(finder_of(weights))
        paths = write(series or ct(), folder_in(tmp_path, "ct"))
        return Segmentation(name="segment", weights=weights, **settings).run(inputs(paths))

    return outcome


def finding(outcome: Outcome, name: str) -> Finding:
    (found,) = [one for one in outcome.findings if one.name == name]
    return found


@pytest.mark.parametrize("position", POSITIONS)
def test_both_objects_hold_exactly_the_organs_in_every_position_of_the_patient(
    tmp_path: Path, found_by: FoundBy, position: str
) -> None:
    source, weights = ct(position), weights_in(tmp_path, position)
    found_by(finder_of(weights))
    paths = write(source, folder_in(tmp_path, "ct"))
    outcome = Segmentation(name="segment", weights=weights).run(inputs(paths))
    assert [one.SOPClassUID for (one,) in outcome.series] == [SegmentationStorage, RTStructureSetStorage]
    seg, rtstruct = (written(one, tmp_path) for (one,) in outcome.series)
    assert dciodvfy_errors(seg) == dciodvfy_errors(rtstruct) == []
    for read in (segments(seg, source), regions(rtstruct, source)):
        assert list(read) == list(BALLS)
        for organ, mask in truth(position).items():
            np.testing.assert_array_equal(read[organ], mask)
    # The patient's left has the greater x, whatever column that is.
    left, right = (np.vstack([points for _, points in drawn]) for drawn in contours(rtstruct).values())
    assert left[:, 0].mean() > 0.0 > right[:, 0].mean()
    assert verdict_of(outcome.findings) is Verdict.RELEASE


def test_the_polygons_enclose_the_volume_of_the_voxels(tmp_path: Path, run: Callable[..., Outcome]) -> None:
    drawn = contours(written(of_class(run(), RTStructureSetStorage), tmp_path))
    for organ, mask in truth().items():
        voxels_mm3 = float(mask.sum()) * SLICE_MM * ROW_MM * COLUMN_MM
        polygons_mm3 = SLICE_MM * sum(polygon_mm2(points) for _, points in drawn[organ])
        assert polygons_mm3 == pytest.approx(voxels_mm3, rel=0.02)
        assert voxels_mm3 == pytest.approx(4 / 3 * np.pi * BALLS[organ][1] ** 3, rel=0.02)


def test_objects_say_what_they_are_and_of_whom(run: Callable[..., Outcome]) -> None:
    outcome, source = run(series_description="Organs head and neck"), ct()
    for (one,) in outcome.series:
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
            if keyword in one:
                assert one[keyword].value == source[0][keyword].value
        assert one.SeriesDescription == "Organs head and neck NOT FOR TREATMENT"
        assert one.Manufacturer == "rtnode"
        assert one.SeriesInstanceUID not in {source[0].SeriesInstanceUID}
    rtstruct = of_class(outcome, RTStructureSetStorage)
    assert rtstruct.ApprovalStatus == "UNAPPROVED"
    assert {item.ROIGenerationAlgorithm for item in rtstruct.StructureSetROISequence} == {"AUTOMATIC"}
    assert [item.SegmentLabel for item in of_class(outcome, SegmentationStorage).SegmentSequence] == list(BALLS)


def test_within_the_limits_of_the_card_a_result_is_released_and_every_measure_told(run: Callable[..., Outcome]) -> None:
    outcome = run()
    assert verdict_of(outcome.findings) is Verdict.RELEASE
    assert {one.name for one in outcome.findings} == {
        *MEASURES,
        "sides_swapped",
        "identity_differences",
        "segmentation_difference_percent",
        "rt_structure_set_difference_percent",
    }
    assert finding(outcome, "segmentation_difference_percent").value == 0.0
    assert finding(outcome, "rt_structure_set_difference_percent").value == 0.0
    assert finding(outcome, "organ_doubt").value < 0.01


def test_without_limits_a_person_has_to_look_and_is_told_why(run: Callable[..., Outcome]) -> None:
    outcome = run(limit=None)
    held = {one.name for one in outcome.findings if one.verdict is Verdict.HOLD}
    assert held == set(MEASURES)
    doubt = finding(outcome, "organ_doubt").text
    assert doubt.startswith("Mean doubt of the network") and doubt.endswith("no limit was ever measured")


def test_a_card_that_knows_the_usual_has_the_organs_held_against_it(tmp_path: Path, found_by: FoundBy) -> None:
    usual = {f"organ_shift_{axis}_mm{end}": 0.0 for axis in "zyx" for end in ("", "_sd")}
    known = {
        "usual": {**usual, "parotid_l_misfit_hu": 0.0, "parotid_l_misfit_hu_sd": 5.0},
        "organ_surroundings_hu": {"Parotid_L": (-300.0,) * 24},
        "organ_places_mm": {organ: (-10.0, 0.0, 10.0) for organ in BALLS},
    }
    weights = weights_in(tmp_path)
    paths = write(ct(), folder_in(tmp_path, "ct"))
    found_by(finder_of(with_limits(weights, 1e6, **known)))
    outcome = Segmentation(name="segment", weights=weights).run(inputs(paths))
    assert finding(outcome, "missing_organ_part").verdict is Verdict.RELEASE
    held = {one.name for one in outcome.findings if one.verdict is Verdict.HOLD}
    assert held >= {"organ_shift_sd", "organ_misfit_sd", "piece_apart_ml", "metal_part"}
    # The parotid is nowhere near -300 HU: each point of water departs by that, of the ball by 300 HU at most.
    assert finding(outcome, "organ_misfit_sd").value == pytest.approx(60.0, rel=0.01)


@pytest.mark.parametrize("name", ["organ_doubt", "body_mean_departure_sd"])
def test_a_measure_above_its_limit_holds_the_result(tmp_path: Path, found_by: FoundBy, name: str) -> None:
    weights = weights_in(tmp_path)
    limits = {one: {"flag_above": 1e6, "hold_above": 1e6} for one in MEASURES}
    with_limits(weights, None, limits={**limits, name: {"flag_above": -2.0, "hold_above": -1.0}})
    found_by(finder_of(weights))
    paths = write(ct(), folder_in(tmp_path, "ct"))
    outcome = Segmentation(name="segment", weights=weights).run(inputs(paths))
    assert [one.name for one in outcome.findings if one.verdict is Verdict.HOLD] == [name]


def test_only_the_organs_and_objects_that_are_wanted_are_written(tmp_path: Path, run: Callable[..., Outcome]) -> None:
    outcome = run(organs=["Parotid_R"], objects=["structure_set"])
    ((rtstruct,),) = outcome.series
    read = regions(written(rtstruct, tmp_path), ct())
    assert list(read) == ["Parotid_R"]
    np.testing.assert_array_equal(read["Parotid_R"], truth()["Parotid_R"])
    only = run(objects=["segmentation"])
    assert [one.SOPClassUID for (one,) in only.series] == [SegmentationStorage]
    assert "rt_structure_set_difference_percent" not in {one.name for one in only.findings}


def test_nothing_but_the_organs_that_are_wanted_is_judged(tmp_path: Path, found_by: FoundBy) -> None:
    weights = with_limits(weights_in(tmp_path), 1e6, organ_ml={"Parotid_L": (1000.0, 2000.0), "Parotid_R": (1.0, 20.0)})
    found_by(finder_of(weights))
    paths = write(ct(), folder_in(tmp_path, "ct"))
    both, right = (
        Segmentation(name="segment", weights=weights, organs=organs).run(inputs(paths))
        for organs in ((), ("Parotid_R",))
    )
    assert finding(both, "volume_outside_part").value > 50.0 and finding(right, "volume_outside_part").value == 0.0


def test_crumbs_go_and_are_told_or_stay_where_that_is_wanted(tmp_path: Path, run: Callable[..., Outcome]) -> None:
    source = ct()
    pixels = np.frombuffer(source[15].PixelData, "<i2").reshape(48, 64).copy()
    pixels[24, 30:34] = 500
    source[15]["PixelData"].value = pixels.tobytes()
    part = 4 / (4 + float(truth()["Parotid_L"].sum()))
    for one_piece, extra in ((True, 0), (False, 4)):
        outcome = run(source, one_piece=one_piece)
        read = segments(written(of_class(outcome, SegmentationStorage), tmp_path), source)
        assert int(read["Parotid_L"].sum()) == int(truth()["Parotid_L"].sum()) + extra
        assert finding(outcome, "stray_part").value == pytest.approx(part)


def test_oblique_slices_have_a_segmentation(tmp_path: Path, run: Callable[..., Outcome]) -> None:
    source = placed(stored(OBLIQUE), OBLIQUE)
    outcome = run(source, objects=["segmentation"])
    path = written(of_class(outcome, SegmentationStorage), tmp_path)
    read = segments(path, source)
    assert dciodvfy_errors(path) == []
    assert all(np.array_equal(read[organ], ball(organ, OBLIQUE)) for organ in BALLS)
    # Nothing was learnt at an angle, so a person looks.
    angle = finding(outcome, "obliquity_deg")
    assert angle.value == pytest.approx(np.degrees(np.arcsin(0.28)), abs=0.01)
    assert angle.verdict is Verdict.HOLD


def test_oblique_slices_have_no_structure_set_and_are_refused_before_any_work(
    tmp_path: Path, found_by: FoundBy
) -> None:
    weights = weights_in(tmp_path)
    asked = found_by(finder_of(weights))
    paths = write(placed(stored(OBLIQUE), OBLIQUE), folder_in(tmp_path, "ct"))
    with pytest.raises(InputRejected) as caught:
        Segmentation(name="segment", weights=weights).run(inputs(paths))
    assert str(caught.value) == ("The slices are not transverse, and planning systems take no contours on oblique ones")
    assert not asked


@pytest.mark.parametrize("objects", [["segmentation"], ["structure_set"], ["segmentation", "structure_set"]])
def test_where_nothing_was_found_no_object_is_made(run: Callable[..., Outcome], objects: list[str]) -> None:
    water = stored(POSITIONS["HFS"]).clip(max=0)
    with pytest.raises(InputRejected) as caught:
        run(placed(water, POSITIONS["HFS"]), objects=objects)
    assert str(caught.value) == "No organ was found in the images, so there is nothing to write"


def test_an_organ_that_was_not_found_is_left_out_and_flagged(tmp_path: Path, run: Callable[..., Outcome]) -> None:
    hu = stored(POSITIONS["HFS"])
    source = placed(np.where(hu > 750, 0, hu).astype(np.int16), POSITIONS["HFS"])
    outcome = run(source)
    lacking = finding(outcome, "parotid_r_not_found")
    assert (lacking.verdict, lacking.text) == (Verdict.FLAG, "Parotid_R not found")
    assert finding(outcome, "organs_not_found").value == 1.0
    for (one,) in outcome.series:
        path = written(one, tmp_path)
        assert dciodvfy_errors(path) == []
    assert list(segments(written(of_class(outcome, SegmentationStorage), tmp_path), source)) == ["Parotid_L"]
    assert list(contours(written(of_class(outcome, RTStructureSetStorage), tmp_path))) == ["Parotid_L"]
    assert finding(outcome, "segmentation_difference_percent").value == 0.0


def test_a_scan_of_a_few_slices_is_held_for_its_height(tmp_path: Path, found_by: FoundBy) -> None:
    weights = weights_in(tmp_path)
    limits = {name: {"flag_above": 1e6, "hold_above": 1e6} for name in MEASURES}
    limits["height_missing_mm"] = {"flag_above": 0.0, "hold_above": 30.0}
    domain = {**FACTS["training_domain"], "height_mm": (150.0, 300.0)}
    with_limits(weights, None, limits=limits, training_domain=domain)
    found_by(finder_of(weights))
    paths = write(ct(slices=12), folder_in(tmp_path, "ct"))
    outcome = Segmentation(name="segment", weights=weights).run(inputs(paths))
    missing = finding(outcome, "height_missing_mm")
    assert missing.value == pytest.approx(150.0 - 12 * SLICE_MM)
    assert [one.name for one in outcome.findings if one.verdict is not Verdict.RELEASE] == ["height_missing_mm"]
    assert missing.verdict is Verdict.HOLD and verdict_of(outcome.findings) is Verdict.HOLD


def test_sides_that_are_exchanged_are_held_whatever_the_card_says(tmp_path: Path, found_by: FoundBy) -> None:
    weights = weights_in(tmp_path, organs=("Parotid_R", "Parotid_L"))
    found_by(finder_of(weights))
    paths = write(ct(), folder_in(tmp_path, "ct"))
    outcome = Segmentation(name="segment", weights=weights).run(inputs(paths))
    swapped = finding(outcome, "sides_swapped")
    assert (swapped.value, swapped.verdict) == (1.0, Verdict.HOLD)
    assert [one.name for one in outcome.findings if one.verdict is Verdict.HOLD] == ["sides_swapped"]


@pytest.mark.parametrize(("mirror", "capabilities"), [(False, {"amx_bf16": True}), (True, {})])
def test_the_finder_is_loaded_as_the_settings_say_and_the_cpu_can(
    tmp_path: Path,
    found_by: FoundBy,
    monkeypatch: pytest.MonkeyPatch,
    mirror: bool,
    capabilities: dict[str, bool],
) -> None:
    weights = weights_in(tmp_path)
    asked = found_by(finder_of(weights))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    paths = write(ct(slices=4), folder_in(tmp_path, "ct"))
    Segmentation(name="segment", weights=weights, mirror=mirror).run(inputs(paths))
    assert asked == [{"weights": weights, "bf16": bool(capabilities), "mirror": mirror}]


def test_the_arithmetic_of_the_machine_is_part_of_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Segmentation(name="segment", weights=weights_in(tmp_path))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    with_bf16 = pipeline.settings_sha256()
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert pipeline.settings_sha256() != with_bf16


def test_weights_that_fail_at_work_may_be_mended(tmp_path: Path) -> None:
    weights = weights_in(tmp_path, organs=("Parotid_L", "SpinalCord"))
    paths = write(ct(slices=4), folder_in(tmp_path, "ct"))
    with pytest.raises(PipelineError, match="one side only") as caught:
        Segmentation(name="segment", weights=weights, mirror=True).run(inputs(paths))
    assert not isinstance(caught.value, InputRejected)


IMPORTED = """
labels: {1: Parotid_L, 2: Parotid_R}
spacing_mm: [3, 2, 1.5]
patch: [8, 12, 16]
window_hu: [-1000, 1000]
licence: made up
"""


def test_weights_that_were_trained_elsewhere_serve_and_wait_for_a_person(tmp_path: Path) -> None:
    program = found_model(onnx(tmp_path / "toy.onnx"), facts=facts(tmp_path, IMPORTED))
    written_import(program, tmp_path / "imported.safetensors")
    weights, source = str(tmp_path / "imported.safetensors"), ct("FFP")
    settings = {"weights": weights, "organs": ["Parotid_R", "Parotid_L"], "mirror": True}
    pipeline = load_pipeline("segment", "pipelines.segmentation:Segmentation", settings)
    outcome = pipeline.run(inputs(write(source, folder_in(tmp_path, "ct"))))
    read = segments(written(of_class(outcome, SegmentationStorage), tmp_path), source)
    assert list(read) == ["Parotid_R", "Parotid_L"]
    assert all(np.array_equal(read[organ], mask) for organ, mask in truth("FFP").items())
    assert verdict_of(outcome.findings) is Verdict.HOLD
    # Of what is not known of the training nothing is claimed.
    assert not {one.name for one in outcome.findings} & {"pixel_spacing_outside_mm", "body_mean_departure_sd"}
    with pytest.raises(WeightsError, match="does not know the organ Bladder"):
        Segmentation(name="segment", weights=weights, organs=("Bladder",)).weights_sha256()


def test_an_organ_that_the_weights_do_not_know_is_told_before_any_image_comes(tmp_path: Path) -> None:
    weights = weights_in(tmp_path)
    with pytest.raises(WeightsError, match=r"does not know the organ Bladder$"):
        Segmentation(name="segment", weights=weights, organs=("Parotid_L", "Rectum", "Bladder")).weights_sha256()
    settings = {"weights": weights, "organs": ["Bladder"]}
    with pytest.raises(PipelineConfigError, match=r"settings.weights: .* does not know the organ Bladder"):
        load_pipeline("segment", "pipelines.segmentation:Segmentation", settings)
    load_pipeline("segment", "pipelines.segmentation:Segmentation", {**settings, "organs": ["Parotid_R"]})


def test_weights_that_find_no_organs_are_told_before_any_image_comes(tmp_path: Path) -> None:
    path, _ = saved_generator(tmp_path)
    with pytest.raises(WeightsError, match="of the method cyclegan, which finds no organs"):
        Segmentation(name="segment", weights=str(path)).weights_sha256()


def test_no_object_at_all_can_not_be_asked_for() -> None:
    with pytest.raises(PipelineConfigError, match="objects"):
        load_pipeline("segment", "pipelines.segmentation:Segmentation", {"weights": "a", "objects": []}, verify=False)


def test_limits_are_part_of_the_identity_and_training_settings_are_not(tmp_path: Path) -> None:
    weights = weights_in(tmp_path)

    def digest(**settings: Any) -> str:
        return Segmentation(name="segment", weights=weights, **settings).settings_sha256()

    first = digest()
    assert digest(training={"updates": 7}) == digest(made_up_pelves=5) == first
    others = [digest(mirror=True), digest(one_piece=False), digest(organs=("Parotid_L",)), digest(use_mr=False)]
    with_limits(weights, 2e6)
    assert len({first, *others, digest()}) == 6


def test_the_same_inputs_make_the_same_bytes(tmp_path: Path, run: Callable[..., Outcome]) -> None:
    first, second = (run(ct()) for _ in range(2))
    assert [file_bytes(one) for (one,) in first.series] == [file_bytes(one) for (one,) in second.series]
    assert first.findings == second.findings
    other = run(organs=["Parotid_L"])
    assert not {one.SOPInstanceUID for (one,) in first.series} & {one.SOPInstanceUID for (one,) in other.series}


def test_who_answers_for_a_result_may_have_it_marked_as_a_product(tmp_path: Path, found_by: FoundBy) -> None:
    weights = weights_in(tmp_path)
    found_by(finder_of(weights))
    paths = write(ct(), folder_in(tmp_path, "ct"))
    labelling = Labelling("PRODUCT", not_for_treatment=False)
    outcome = Segmentation(name="segment", weights=weights).run(inputs(paths, labelling))
    assert of_class(outcome, SegmentationStorage).ContentQualification == "PRODUCT"
    assert {one.SeriesDescription for (one,) in outcome.series} == {"Organs"}


def test_progress_rises(tmp_path: Path, found_by: FoundBy) -> None:
    weights, done = weights_in(tmp_path), list[float]()
    found_by(finder_of(weights))
    paths = write(ct(), folder_in(tmp_path, "ct"))
    Segmentation(name="segment", weights=weights).run(inputs(paths), lambda part, what: done.append(part))
    assert done == sorted(done) and done[0] == 0.05 and 0.8 < done[-1] <= 1.0


def test_organs_go_by_the_spelling_of_tg263_by_which_left_and_right_are_told(tmp_path: Path) -> None:
    named = Segmentation(name="segment", weights="any", organs=("parotid_l", "PAROTID_R", "Lump"))
    assert named.organs == ("Parotid_L", "Parotid_R", "Lump")


def test_a_card_that_says_otherwise_how_the_network_is_asked_makes_other_results(tmp_path: Path) -> None:
    weights = saved_segmenter(tmp_path)
    one = Segmentation(name="segment", weights=weights)
    before, card = one.settings_sha256(), load_card(weights)
    assert card.segmentation is not None
    write_card(tmp_path / "organs.md", card.model_copy(update={"metrics": {"mean_dice": 0.5}}))
    assert one.settings_sha256() == before
    coarser = card.segmentation.model_copy(update={"spacing_zyx_mm": (4.0, 3.0, 3.0)})
    write_card(tmp_path / "organs.md", card.model_copy(update={"segmentation": coarser}))
    assert one.settings_sha256() != before
