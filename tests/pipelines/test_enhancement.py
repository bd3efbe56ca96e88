"""Enhancement with small random weights: what surrounds the network is under test, not what it learned."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import Dataset

from models.cyclegan import Architecture, Generator
from models.inference import load_generator
from models.weights import WeightsError, load_card, save, write_card
from pipelines.base import Outcome, PipelineError, TrainingOptions
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.writing import file_bytes
from pipelines.enhancement import Enhancement
from pipelines.execution import PipelineConfigError, load_pipeline
from pipelines.stability import Verdict, verdict_of
from pipelines.training_data import training_volumes
from tests.pipelines.conftest import dciodvfy_errors, inputs
from tests.pipelines.made import AXIAL, COLUMN_MM, ROW_MM, SLICE_MM, ct_series, oriented_series, write

ARCHITECTURE = Architecture(channels=4, encoder_blocks=1, decoder_blocks=1)
MEASURES = (
    "mean_change_hu",
    "largest_local_change_hu",
    "edge_shift_mm",
    "body_dice_loss",
    "air_xor_fraction",
    "noise_growth",
    "pixel_spacing_outside_mm",
    "slice_spacing_outside_mm",
    "body_mean_departure_sd",
)


def patient(slices: int = 4, rows: int = 48, columns: int = 56) -> np.ndarray[Any, np.dtype[np.int16]]:
    """A water cylinder in air with a bone that tells left from right and front from back."""
    z, y, x = np.mgrid[:slices, :rows, :columns]
    hu = np.where(np.hypot((y - 24) * 1.2, x - 28) < 20, 0, -1000)
    hu[np.hypot(y - 16, x - 36) < 4] = 700
    return np.asarray(hu + 5 * z + x - 28, dtype=np.int16)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that change something, with a card that says everything is usual."""
    torch.manual_seed(1)
    generator = Generator.of(ARCHITECTURE)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    domain = {
        "modality": "nothing",
        "pixel_spacing_mm": (COLUMN_MM, ROW_MM),
        "slice_spacing_mm": (SLICE_MM, SLICE_MM),
        "body_mean_hu": 0.0,
        "body_mean_sd_hu": 100.0,
        "patients": 1,
        "slices": 1,
    }
    facts = {"method": "cyclegan", "architecture": asdict(ARCHITECTURE), "window_hu": (-800.0, 1200.0)}
    limits = {name: {"flag_above": 1e6, "hold_above": 1e6} for name in MEASURES}
    save(path, generator.state_dict(), {**facts, "training_domain": domain, "limits": limits}, "Random.")
    return path


def enhanced(weights: Path, folder: Path, series: list[Dataset], **settings: Any) -> tuple[Outcome, ImageSeries]:
    """The outcome, and the new series as a reader finds it."""
    folder.mkdir(exist_ok=True)
    outcome = Enhancement(name="enhance", weights=str(weights), **settings).run(inputs(write(series, folder)))
    paths = [folder / f"{dataset.SOPInstanceUID}.dcm" for dataset in outcome.series[0]]
    for path, dataset in zip(paths, outcome.series[0], strict=True):
        path.write_bytes(file_bytes(dataset))
    assert dciodvfy_errors(paths[0]) == []
    return outcome, read_image_series(paths)


def with_limits(weights: Path, folder: Path, limits: Mapping[str, Any]) -> Path:
    """The same weights with another card."""
    copy = folder / "random.safetensors"
    copy.write_bytes(weights.read_bytes())
    write_card(copy.with_suffix(".md"), load_card(str(weights)).model_copy(update={"limits": limits}))
    return copy


def test_a_result_has_new_values_on_the_grid_of_its_source(weights: Path, tmp_path: Path) -> None:
    outcome, series = enhanced(weights, tmp_path, ct_series(patient()))
    assert series.volume.array_zyx.shape == patient().shape
    inside = patient() > -800
    assert np.abs(series.volume.array_zyx - patient())[inside].mean() > 1
    assert (series.volume.array_zyx[~inside] == patient()[~inside]).all()
    assert verdict_of(outcome.findings) is Verdict.RELEASE
    assert {finding.name for finding in outcome.findings} >= set(MEASURES)


def test_a_card_that_was_calibrated_is_asked_for_every_measure(weights: Path, tmp_path: Path) -> None:
    card = load_card(str(weights))
    calibrated = tmp_path / weights.name
    calibrated.write_bytes(weights.read_bytes())
    write_card(calibrated.with_suffix(".md"), card.model_copy(update={"usual": {"skin_steepness": 1.0}}))
    outcome, _ = enhanced(calibrated, tmp_path / "ct", ct_series(patient()))
    added = {"registration_shift_mm", "bend_mm", "structure_lost_hu", "mirrored_likeness", "metal_ml"}
    held = {finding.name for finding in outcome.findings if finding.verdict is Verdict.HOLD}
    # The card has no limits of them, and what has no limit is held.
    assert added <= held and not held & set(MEASURES)


def test_weights_without_the_witness_that_their_card_names_are_refused_before_anything_runs(
    weights: Path, tmp_path: Path
) -> None:
    copy = tmp_path / weights.name
    copy.write_bytes(weights.read_bytes())
    card = load_card(str(weights)).model_copy(update={"witness_sha256": "0" * 64})
    write_card(copy.with_suffix(".md"), card)
    with pytest.raises(WeightsError, match="_witness"):
        Enhancement(name="enhance", weights=str(copy)).weights_sha256()


def test_what_a_card_says_of_the_way_a_result_is_made_is_part_of_its_identity(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / weights.name
    copy.write_bytes(weights.read_bytes())
    card = load_card(str(weights))
    digests = []
    for changes in ({}, {"working_spacing_mm": 3.0}, {"window_hu": (-700.0, 1200.0)}, {"metrics": {"mae_hu": 3.0}}):
        write_card(copy.with_suffix(".md"), card.model_copy(update=changes))
        digests.append(Enhancement(name="enhance", weights=str(copy)).settings_sha256())
    assert digests[0] == digests[3] and len(set(digests)) == 3


def test_what_the_window_of_the_pipeline_leaves_alone_is_expected_to_stay(tmp_path: Path) -> None:
    # Hardly a voxel lies in it, so the result is the input.
    outcome, _ = enhanced(Path("mvct_to_kvct_headneck"), tmp_path, ct_series(patient()), window_hu=(1150.0, 1200.0))
    values = {finding.name: finding.value for finding in outcome.findings}
    assert values["mean_change_hu"] == values["unexpected_detail"] == values["unexpected_region"] == 0.0


def test_without_limits_a_result_is_held(weights: Path, tmp_path: Path) -> None:
    outcome, _ = enhanced(with_limits(weights, tmp_path, {}), tmp_path, ct_series(patient()))
    assert verdict_of(outcome.findings) is Verdict.HOLD


@pytest.mark.parametrize("orientation", [(-1.0, 0.0, 0.0, 0.0, -1.0, 0.0), (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)])
def test_anatomy_is_the_same_however_the_scanner_stores_it(
    weights: Path, tmp_path: Path, orientation: tuple[float, ...]
) -> None:
    _, supine = enhanced(weights, tmp_path / "supine", oriented_series(patient(), AXIAL, (0, 0, 0)))
    stored = patient()[:, :, ::-1]
    if orientation[4] < 0:
        stored = stored[:, ::-1]
    else:
        stored = stored[::-1]
    _, turned = enhanced(weights, tmp_path / "turned", oriented_series(stored, orientation, (0, 0, 0)))
    result = turned.volume.array_zyx[:, :, ::-1]
    result = result[:, ::-1] if orientation[4] < 0 else result[::-1]
    assert np.abs(result - supine.volume.array_zyx).max() <= 1


def test_values_outside_of_the_window_stay(weights: Path, tmp_path: Path) -> None:
    _, series = enhanced(weights, tmp_path, ct_series(patient()), window_hu=(-100, 100))
    outside = (patient() <= -100) | (patient() >= 100)
    assert (series.volume.array_zyx[outside] == patient()[outside]).all()
    assert (series.volume.array_zyx[~outside] != patient()[~outside]).any()


def test_padding_is_air_for_the_model_and_stays_in_the_result(weights: Path, tmp_path: Path) -> None:
    stored = patient()
    stored[:, :4] = -3024
    outcome, series = enhanced(weights, tmp_path, ct_series(stored, PixelPaddingValue=-3024))
    assert (series.volume.array_zyx[:, :4] == -3024).all()
    assert verdict_of(outcome.findings) is Verdict.RELEASE


def test_slices_at_an_angle_wait_for_a_person(weights: Path, tmp_path: Path) -> None:
    slanted = (1.0, 0.0, 0.0, 0.0, 0.96, 0.28)
    outcome, _ = enhanced(weights, tmp_path, oriented_series(patient(), slanted, (0, 0, 0)))
    (finding,) = [finding for finding in outcome.findings if finding.name == "obliquity_deg"]
    assert finding.value == pytest.approx(np.degrees(np.arcsin(0.28)), abs=0.01)
    assert finding.verdict is Verdict.HOLD


def test_limits_of_the_card_are_part_of_the_identity(weights: Path, tmp_path: Path) -> None:
    first = Enhancement(name="enhance", weights=str(weights))
    other = Enhancement(name="enhance", weights=str(with_limits(weights, tmp_path, {})))
    assert first.weights_sha256() == other.weights_sha256()
    assert first.settings_sha256() != other.settings_sha256()


def test_the_engines_of_the_machine_are_part_of_the_identity(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Enhancement(name="enhance", weights=str(weights))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    with_bf16 = pipeline.settings_sha256()
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert pipeline.settings_sha256() != with_bf16


def test_a_result_names_the_engine_that_computed_it(weights: Path, tmp_path: Path) -> None:
    outcome, _ = enhanced(weights, tmp_path, ct_series(patient()))
    engine = load_generator(str(weights)).engine.described()
    assert f"computed by {engine};" in outcome.series[0][0].DerivationDescription


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"weights": "absent"}, "settings.weights: the card .*absent.md can not be read"),
        ({"weights": "RANDOM", "window_hu": [-1000, 0]}, "settings.weights: .* was trained for"),
        ({"weights": "RANDOM", "window_hu": [100, 0]}, "settings: .*the lower value has to come first"),
        ({}, "settings: weights: Field required"),
    ],
)
def test_a_wrong_configuration_is_named(weights: Path, settings: dict[str, Any], sentence: str) -> None:
    if settings.get("weights") == "RANDOM":
        settings = {**settings, "weights": str(weights)}
    with pytest.raises(PipelineConfigError, match=f"^enhance: {sentence}"):
        load_pipeline("enhance", "pipelines.enhancement:Enhancement", settings)


def test_it_trains_on_dicom_and_then_works(tmp_path: Path) -> None:
    for number in range(4):
        folder = tmp_path / "data" / str(number)
        folder.mkdir(parents=True)
        uids = {"PatientID": f"P{number}", "PixelSpacing": [2, 2], "SeriesInstanceUID": f"1.2.{number}"}
        write(ct_series(patient(rows=72, columns=80) + number, **uids), folder)
    pipeline = Enhancement(name="enhance", weights="fresh", window_hu=(-800, 1000))
    path = pipeline.train(tmp_path / "data", tmp_path / "run", TrainingOptions(updates=1))
    fresh = Enhancement(name="enhance", weights=str(path))
    assert load_card(str(path)).window_hu == (-800, 1000)
    assert fresh.evaluate(tmp_path / "data", tmp_path / "evaluation")["patients"] == 1
    outcome, _ = enhanced(path, tmp_path / "in", ct_series(patient(), PixelSpacing=[2, 2]))
    assert len(outcome.series[0]) == 4


@pytest.mark.parametrize(
    ("chosen", "seed"),
    [({}, 0), ({"settings": {"seed": 5}}, 5), ({"seed": 7, "settings": {"seed": 5}}, 7)],
    ids=["neither", "file", "both"],
)
def test_what_is_chosen_at_the_command_line_goes_before_the_file(chosen: dict[str, Any], seed: int) -> None:
    pipeline = Enhancement(name="enhance", weights="x")
    assert pipeline._training_settings(TrainingOptions(**chosen)).seed == seed


def plain_volumes(folder: Path, *names: str) -> Path:
    """`.npz` volumes that say no split."""
    for name in names:
        np.savez(folder / f"{name}.npz", ct=patient(), spacing_zyx=np.array([SLICE_MM, ROW_MM, ROW_MM]))
    return folder


def test_plain_volumes_are_evaluated_on_one_whom_training_does_not_take(weights: Path, tmp_path: Path) -> None:
    data = plain_volumes(tmp_path, "a", "b", "c")
    pipeline = Enhancement(name="enhance", weights=str(weights))
    assert pipeline.evaluate(data, tmp_path / "out", comparators=False)["patients"] == 1
    (row,) = (tmp_path / "out" / "patients.csv").read_text().splitlines()[1:]
    (tested,) = (volume for volume in training_volumes(data) if volume.split == "test")
    assert row.startswith(tested.patient_id)


def test_of_two_plain_volumes_one_is_tested_only_where_a_list_says_so(weights: Path, tmp_path: Path) -> None:
    data = plain_volumes(tmp_path, "a", "b")
    pipeline = Enhancement(name="enhance", weights=str(weights))
    with pytest.raises(PipelineError, match="there is no test patient"):
        pipeline.evaluate(data, tmp_path / "out", comparators=False)
    (data / "splits.yaml").write_text("b: test\n")
    assert pipeline.evaluate(data, tmp_path / "out", comparators=False)["patients"] == 1


def test_training_without_data_says_so(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"has no research collection, no CT series and no \.npz volume"):
        Enhancement(name="enhance", weights="x").train(tmp_path, tmp_path / "out", TrainingOptions())
