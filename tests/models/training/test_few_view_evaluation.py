import csv
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from models.diffusion import METHOD, Architecture, DenoisingNetwork
from models.few_view import FewViewSettings
from models.phantoms import head_and_neck_phantom
from models.training.few_view_evaluation import evaluate
from models.training.few_view_scans import is_whole, lesions_of, scanned_patient, with_lesions
from models.training.few_view_study import FewViewStudy
from models.training.volumes import Split, TrainingDataError, TrainingVolume
from models.weights import load_card, save
from tests.models.test_weights import FACTS

PIXELS, SPACING = 200, (30.0, 1.6, 1.6)
STUDY = FewViewStudy(
    slices=1,
    views=(8, 4),
    reference_views=8,
    fewer_views=4,
    usual_views=80,
    other_photons=(1e6,),
    more_steps=(2,),
    tv_grid_mm=(125.0, 250.0, 500.0),
    tv_iterations=2,
    ir_iterations=3,
    prior_grid=(2, 4, 8),
    prior_steps=2,
    dds_grid=(10.0, 100.0, 1000.0),
    dds_steps=2,
    published_iterations=2,
    growth=(1, 2),
)
SETTINGS = FewViewSettings(iterations=1, data_iterations=1, seeds=1, tv_iterations=1)


@cache
def patient(number: int, split: Split | None) -> TrainingVolume:
    phantom = head_and_neck_phantom((3, PIXELS, PIXELS), SPACING, np.random.default_rng(number))
    return TrainingVolume(f"phantom_{number}", split, phantom.hu_zyx, SPACING)


def weights_in(folder: Path) -> str:
    architecture = {"channels": 8, "levels": 2, "blocks": 1, "steps": 100}
    network = DenoisingNetwork(Architecture(**architecture))
    facts = {**FACTS, "method": METHOD, "architecture": architecture, "window_hu": (-1000.0, 2000.0)}
    save(folder / "tiny.safetensors", network.state_dict(), {**facts, "metrics": {"left_t1_hu": 15.0}}, "# tiny\n")
    return str(folder / "tiny.safetensors")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """Folder and figures of an evaluation that wrote into its card."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("few_view")
    volumes = [patient(1, "train"), patient(2, "test")]
    figures = evaluate(weights_in(folder), volumes, folder / "out", SETTINGS, STUDY, record=True)
    return folder, dict(figures)


def test_every_method_is_measured_where_it_shall_be(evaluated: tuple[Path, dict[str, float]]) -> None:
    figures = evaluated[1]
    everywhere = ("fbp_ramp", "fbp_hann", "ir", "tv", "prior", "dds", "ours")
    assert all(f"psnr_{method}_{views}_views_db" in figures for method in everywhere for views in (8, 4))
    assert {"psnr_published_8_views_db", "psnr_ours_t2_8_views_db"} <= figures.keys()
    assert "psnr_ours_t2_4_views_db" not in figures and "psnr_published_4_views_db" not in figures
    assert {f"rmse_{name}_8_views_1000000_photons_hu" for name in ("tv", "ours")} <= figures.keys()
    assert figures["patients"] == 1.0 and np.isfinite(list(figures.values())).all()


def test_iterations_reach_nearer_to_the_truth_than_backprojection(evaluated: tuple[Path, dict[str, float]]) -> None:
    figures = evaluated[1]
    assert figures["psnr_ir_8_views_db"] > figures["psnr_fbp_hann_8_views_db"]
    assert figures["chi_squared_ir_8_views"] < figures["chi_squared_fbp_ramp_8_views"]


def test_time_and_memory_are_those_of_the_run(evaluated: tuple[Path, dict[str, float]]) -> None:
    figures = evaluated[1]
    assert figures["time_ours_8_views_s"] > 0.0 and figures["peak_memory_ours_8_views_mib"] > 50.0
    assert {"cpu_time_ours_1_slices_s", "cpu_time_ours_2_slices_s"} <= figures.keys()


def test_lesions_are_recovered_by_every_method_that_is_asked(evaluated: tuple[Path, dict[str, float]]) -> None:
    folder, figures = evaluated
    rows = list(csv.DictReader((folder / "out" / "lesions.csv").read_text().splitlines()))
    assert {row["method"] for row in rows} == {"fbp_hann", "tv", "dds", "ours"}
    assert {row["kind"] for row in rows} == {"bright", "dark", "plus"} and {row["views"] for row in rows} == {"8", "4"}
    # Backprojection is linear, so the lesions come out whatever the noise is: those of -50 HU as those of 50.
    assert figures["recovery_bright_fbp_hann_8_views"] == pytest.approx(
        figures["recovery_dark_fbp_hann_8_views"], abs=0.2
    )


def test_the_folder_holds_table_rows_and_pages(evaluated: tuple[Path, dict[str, float]]) -> None:
    out = evaluated[0] / "out"
    assert all(
        (out / name).stat().st_size > 1000 for name in ("images.png", "curves.png", "lesions.png", "report.html")
    )
    assert "| 8 (1/10), 1e+05 photons | ours, T = 1 | 1 |" in (out / "report.md").read_text()
    recorded = json.loads((out / "report.json").read_text())
    assert {trial["method"] for trial in recorded["tuning"]} == {"tv", "prior", "dds"}
    assert recorded["study"]["views"] == [8, 4]
    methods = {row["method"] for row in csv.DictReader((out / "slices.csv").read_text().splitlines())}
    assert {"truth", "ours", "ours_t2", "published"} <= methods


def test_the_card_gets_the_figures_of_the_method_and_keeps_those_of_the_prior(
    evaluated: tuple[Path, dict[str, float]],
) -> None:
    folder, figures = evaluated
    card = load_card(str(folder / "tiny.safetensors"))
    assert card.metrics["left_t1_hu"] == 15.0
    assert card.metrics["psnr_ours_8_views_db"] == pytest.approx(figures["psnr_ours_8_views_db"], rel=1e-3)
    assert not any("_tv_" in name or name.endswith("_sd") for name in card.metrics)
    assert "ours at 1/10, against IR + TV on 1 slices" in card.text


def test_without_comparators_the_others_are_those_that_need_no_tuning(tmp_path: Path) -> None:
    study = replace(STUDY, more_steps=(), other_photons=(), growth=())
    volumes = [patient(1, "train"), patient(2, "test")]
    figures = evaluate(weights_in(tmp_path), volumes, tmp_path / "out", SETTINGS, study, comparators=False)
    assert "psnr_ir_8_views_db" in figures and not any("_tv_" in name or "_dds_" in name for name in figures)
    assert load_card(str(tmp_path / "tiny.safetensors")).metrics == {"left_t1_hu": 15.0}


def test_cut_outs_of_slices_are_not_scanned(tmp_path: Path) -> None:
    small = replace(patient(2, "test"), hu_zyx=patient(2, "test").hu_zyx[:, 20:180, 20:180])
    assert not is_whole(small) and is_whole(patient(2, "test"))
    with pytest.raises(TrainingDataError, match="no test patient with whole slices"):
        evaluate(weights_in(tmp_path), [small, patient(1, "train")], tmp_path / "out", SETTINGS, STUDY)


def test_a_scan_of_fewer_views_is_a_part_of_the_same_scan() -> None:
    scanned = scanned_patient(patient(2, "test"), 1, 8, seed=5)
    assert scanned is not None
    whole, half = (scanned.scan(scanned.projector(views), 1e5).measured.line_integrals for views in (8, 4))
    np.testing.assert_array_equal(half, whole[:, ::2])


def test_lesions_change_the_rays_by_what_they_are_and_leave_the_noise() -> None:
    scanned = scanned_patient(patient(2, "test"), 1, 8, seed=5)
    assert scanned is not None
    projector = scanned.projector(8)
    differences = []
    for photons in (1e4, np.inf):
        scan = scanned.scan(projector, photons)
        planted = with_lesions(scan, lesions_of(scan, 0))
        differences.append(planted.measured.line_integrals - scan.measured.line_integrals)
    np.testing.assert_allclose(differences[0], differences[1], atol=2e-6)
    # 50 HU of water over 5 mm at most, here and there two lesions in a row.
    assert 0.003 < np.abs(differences[0]).max() < 0.015


def test_a_study_whose_views_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="regular selections"):
        FewViewStudy(views=(160, 80, 40, 30))
