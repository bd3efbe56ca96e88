"""From a made-up cohort on disk to a model that is used: coarse images and few patients, so that it is quick."""

import logging
from pathlib import Path
from typing import Any

import pytest

from models.feature_settings import FeatureSettings
from models.ibsi_names import Family
from models.outcomes import SIMULATED
from models.prognosis import load_prognosis
from models.simulated_response import ResponseSettings
from pipelines.base import PipelineError, TrainingOptions
from pipelines.course_features import CourseExtraction
from pipelines.course_phantom import write_courses
from pipelines.course_stability import TABLE
from pipelines.delta_radiomics import DeltaRadiomics

COARSE = ResponseSettings(
    shape_zyx=(8, 36, 36), spacing_zyx_mm=(9.0, 9.0, 9.0), fractions=2, effect=2.0, noise_sd_hu=8.0
)
EXTRACTION = CourseExtraction(
    registration="given",
    features={"original": FeatureSettings(families=(Family.STATISTICS,), margin_mm=0.0, least_voxels=8)},
)
TRAINING = {
    "feature_set": "early_late_difference", "folds": 2, "repeats": 1, "permutations": 3, "resamples": 3,
    "cox": {"inner_folds": 2, "penalties": 5, "most_features": 3},
}  # fmt: skip


def pipeline(weights: Path, **settings: Any) -> DeltaRadiomics:
    chosen = {"name": "delta", "extraction": EXTRACTION, "training": TRAINING, "stability_patients": 2, **settings}
    return DeltaRadiomics(weights=str(weights), **chosen)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_courses(folder, 30, seed=3, settings=COARSE)
    return folder


@pytest.fixture(scope="module")
def trained(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained")
    return pipeline(output / "model.json").train(cohort, output, TrainingOptions())


def test_training_makes_a_model_that_the_pipeline_takes(trained: Path) -> None:
    card, model = load_prognosis(str(trained))
    assert pipeline(trained).weights_sha256() == (card.sha256,)
    assert model.cohort.patients == 20 and model.cohort.is_simulated
    assert SIMULATED in card.text.splitlines()[2]
    assert {"feature_distance", "gtv_outside", "registration_doubt"} <= set(model.limits)
    assert (trained.parent / TABLE).is_file()


def test_test_patients_are_measured_beside_the_oracle(cohort: Path, trained: Path, tmp_path: Path) -> None:
    figures = pipeline(trained).evaluate(cohort, tmp_path)
    assert figures["patients"] == 10
    assert figures["oracle_c_index"] > 0.7
    assert 0.0 <= figures["test_c_index"] <= 1.0


def test_features_that_were_computed_once_are_not_computed_again(
    cohort: Path, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = sorted((trained.parent / "features").iterdir())
    written = [path.stat().st_mtime_ns for path in kept]
    with caplog.at_level(logging.WARNING):
        pipeline(trained, stability_patients=0).train(cohort, trained.parent, TrainingOptions())
    assert len(kept) == 20 and not caplog.records
    assert [path.stat().st_mtime_ns for path in sorted((trained.parent / "features").iterdir())] == written


def test_a_folder_without_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="has no research collection"):
        pipeline(tmp_path / "model.json").train(tmp_path, tmp_path, TrainingOptions())
