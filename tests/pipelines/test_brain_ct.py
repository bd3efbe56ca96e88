from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, EncapsulatedPDFStorage

from models.brain_features import GWR, BrainFeatureSettings
from models.classification import LogisticModel
from models.limits import Limits
from models.outcomes import SIMULATED, TrainingCohort
from models.prognosis import FeatureDomain, PrognosisModel
from models.simulated_oedema import OedemaCohortSettings
from models.stored_numbers import save_numbers
from pipelines.base import InputRejected, Inputs, InputSeries, PipelineError
from pipelines.brain_ct import BrainCt
from pipelines.brain_measurement import canonical_image, extraction, measured_brain
from pipelines.dicom.volume import Volume
from pipelines.dicom.writing import file_bytes
from pipelines.head_phantom_study import HeadImages, write_head_cohort
from pipelines.stability import Verdict, verdict_of
from tests.pipelines.conftest import dciodvfy_errors

IMAGES = HeadImages(matrix=112, field_mm=224.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("heads")
    write_head_cohort(folder, OedemaCohortSettings(patients=1), images=IMAGES)
    return sorted((folder / "head0000").glob("*.dcm"))


def model_file(folder: Path, limits: dict[str, Limits], pixel_mm: float = 1.0) -> Path:
    """A model of one ratio, as training would write it."""
    logistic = LogisticModel(
        feature_names=("gwr_average",), mean=(1.15,), sd=(0.05,), coefficients=(-1.0,), intercept=0.3,
        inverse_penalty=0.1, l1_ratio=0.5, patients=40, with_outcome=22,
    )  # fmt: skip
    model = PrognosisModel(
        method="prognosis_brain_ct",
        model=logistic,
        resampled=(logistic,),
        cohort=TrainingCohort(name="made up", endpoint="poor outcome", is_simulated=True, patients=40, events=22),
        feature_set=GWR,
        extraction=extraction(BrainFeatureSettings(pixel_mm=pixel_mm)),
        high_above=0.5,
        domain=FeatureDomain(feature_names=("gwr_average",), mean=(1.15,), precision=((400.0,),)),
        limits=limits,
    )
    save_numbers(folder / "m.json", model, "prognosis_brain_ct", {}, "")
    return folder / "m.json"


def changed(files: list[Path], folder: Path, keep: slice = slice(None), **elements: object) -> list[Path]:
    """The slices, sorted from the feet up, with other elements."""
    datasets = sorted((dcmread(path) for path in files), key=lambda one: float(one.ImagePositionPatient[2]))
    paths = []
    for number, dataset in enumerate(datasets[keep]):
        for keyword, value in elements.items():
            setattr(dataset, keyword, value(number, dataset) if callable(value) else value)
        paths.append(folder / f"{number}.dcm")
        dataset.save_as(paths[-1])
    return paths


def job(paths: list[Path]) -> Inputs:
    return Inputs(InputSeries("head_ct", "1.2.3", tuple(paths)))


def test_a_head_ct_becomes_a_report_and_a_page_with_ratio_and_probability(files: list[Path], tmp_path: Path) -> None:
    names = "atlas_misfit atlas_bend_mm size_departure slice_spacing_mm slices_per_cm noise_hu bright_share metal_ml"
    generous = {name: Limits(flag_above=1e3, hold_above=1e4) for name in [*names.split(), "feature_distance"]}
    pipeline = BrainCt(name="prognosis_brain_ct", weights=str(model_file(tmp_path, generous)))
    outcome = pipeline.run(job(files))
    (report,), (page,) = outcome.series
    assert (report.SOPClassUID, page.SOPClassUID) == (Comprehensive3DSRStorage, EncapsulatedPDFStorage)
    said = " ".join(str(element.value) for element in report.iterall() if element.VR in ("LO", "SH", "UC", "UT"))
    for words in (SIMULATED, "gwr_basal_ganglia", "posterior limb", "grey-white ratio", "poor outcome"):
        assert words in said, words
    assert report.StudyInstanceUID == dcmread(files[0]).StudyInstanceUID
    assert verdict_of(outcome.findings) is Verdict.RELEASE
    for number, dataset in enumerate((report, page)):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(file_bytes(dataset))
        assert dciodvfy_errors(path) == []


def test_without_limits_the_report_waits_for_a_person(files: list[Path], tmp_path: Path) -> None:
    outcome = BrainCt(name="p", weights=str(model_file(tmp_path, {}))).run(job(files))
    assert verdict_of(outcome.findings) is Verdict.HOLD


def test_a_model_of_other_features_is_refused_before_anything_is_measured(files: list[Path], tmp_path: Path) -> None:
    pipeline = BrainCt(name="p", weights=str(model_file(tmp_path, {}, pixel_mm=2.0)))
    with pytest.raises(PipelineError, match="computed otherwise"):
        pipeline.run(job(files))


def test_contrast_medium_is_refused(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="contrast medium"):
        measured_brain(changed(files, tmp_path, ContrastBolusAgent="Iohexol"), BrainFeatureSettings())


def test_slices_sheared_by_a_tilted_gantry_are_refused(files: list[Path], tmp_path: Path) -> None:
    def shifted(number: int, dataset: object) -> list[float]:
        x, y, z = (float(value) for value in dataset.ImagePositionPatient)  # type: ignore[attr-defined]
        return [x, y + 1.5 * number, z]

    with pytest.raises(InputRejected, match="tilted gantry"):
        measured_brain(changed(files, tmp_path, ImagePositionPatient=shifted), BrainFeatureSettings())


def test_a_head_without_its_top_is_refused_and_a_few_slices_too(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="cut off at the upper end"):
        measured_brain(changed(files, tmp_path, slice(0, 24)), BrainFeatureSettings())
    with pytest.raises(InputRejected, match="too few or too thick slices"):
        measured_brain(changed(files, tmp_path, slice(0, 8)), BrainFeatureSettings())


def test_the_canonical_image_keeps_every_voxel_at_its_place() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    affine = np.array([[0.0, 0.0, -2.0, 5.0], [-1.0, 0.0, 0.0, 6.0], [0.0, 3.0, 0.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
    found = canonical_image(Volume(values, affine), values)
    assert (np.diag(found.affine) > 0.0).all()
    for value in (0.0, 5.0, 23.0):
        places = [
            one @ (*np.argwhere(array == value)[0][::-1], 1.0)
            for one, array in ((affine, values), (found.affine, found.hu_zyx))
        ]
        np.testing.assert_allclose(places[0], places[1])
