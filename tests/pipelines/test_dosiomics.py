"""The risk of failure from dose: what is said of a patient, what speaks against it, and what is refused."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, EncapsulatedPDFStorage

from models.outcomes import SIMULATED
from models.simulated_implant import ImplantCohortSettings, simulated_implants
from models.weights import WeightsError
from pipelines.base import InputRejected, Inputs, Outcome
from pipelines.dicom.writing import file_bytes
from pipelines.dose_prognosis_features import DoseExtraction
from pipelines.dosiomics import Dosiomics
from pipelines.implant_phantom_study import write_implant_cohort
from pipelines.stability import Verdict, verdict_of
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.implants_made import (
    QUICK,
    USED,
    inputs,
    move_contours,
    only,
    pipeline,
    prognosis_model,
    put,
)

COHORT = ImplantCohortSettings(patients=2)
SEED = 6


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("implants")
    write_implant_cohort(COHORT, folder, SEED)
    return folder


@pytest.fixture(scope="module")
def patient(collection: Path) -> Path:
    return collection / f"implant_{SEED}_0000"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Dosiomics:
    return pipeline(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def outcome(work: Dosiomics, patient: Path) -> Outcome:
    return work.run(inputs(patient))


def texts(outcome: Outcome) -> str:
    """Everything that the report says in words."""
    words = ("TextValue", "CodeMeaning", "CodeValue")
    return "\n".join(str(one.value) for one in outcome.series[0][0].iterall() if one.keyword in words)


def finding(outcome: Outcome, name: str) -> tuple[float, Verdict]:
    (found,) = [one for one in outcome.findings if one.name == name]
    return found.value, found.verdict


def test_a_report_and_a_page_are_made_and_valid(outcome: Outcome, tmp_path: Path) -> None:
    made = [series[0] for series in outcome.series]
    assert [one.SOPClassUID for one in made] == [Comprehensive3DSRStorage, EncapsulatedPDFStorage]
    for number, one in enumerate(made):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(file_bytes(one))
        assert dciodvfy_errors(path) == []
    assert all(SIMULATED in one.SeriesDescription for one in made)


def test_the_report_has_the_measures_the_cut_and_what_is_not_computed(outcome: Outcome) -> None:
    said = texts(outcome)
    for name in ("target_d90", "rectum_d2cc", "urethra_d10", "largest_ml@100", *USED):
        assert name in said
    assert "The dose was cut at 2 x the prescription" in said
    assert "BED and EQD2 are not computed: no fractions are stated" in said
    assert "the prescription of the plan, 145 Gy" in said


def test_a_usual_patient_is_released(outcome: Outcome) -> None:
    assert verdict_of(outcome.findings) is Verdict.RELEASE, [one.text for one in outcome.findings]
    assert finding(outcome, "target_outside_dose_percent") == (0.0, Verdict.RELEASE)
    assert finding(outcome, "dose_parts") == (0.0, Verdict.RELEASE)


def test_measures_of_the_files_are_those_of_the_true_dose(work: Dosiomics, collection: Path) -> None:
    truth = simulated_implants(COHORT, SEED).measures
    for number, true in enumerate(truth):
        folder = collection / f"implant_{SEED}_{number:04d}"
        paths = {role: list((folder / role).glob("*.dcm")) for role in ("dose", "structure_set", "plan")}
        found = work.case(paths).measured.sets()["dose_metrics"]
        assert found["target_d90"] == pytest.approx(true.d90_gy, rel=0.02)
        assert found["target_v100"] == pytest.approx(true.v100_percent, abs=1.0)
        assert found["target_volume"] == pytest.approx(true.volume_ml, rel=0.02)


def test_the_same_inputs_make_the_same_bytes(work: Dosiomics, patient: Path, outcome: Outcome) -> None:
    again = work.run(inputs(patient))
    assert [file_bytes(one) for (one,) in again.series] == [file_bytes(one) for (one,) in outcome.series]


def test_a_plan_of_another_dose_says_nothing_about_the_prescription(
    work: Dosiomics, patient: Path, tmp_path: Path
) -> None:
    dose = only(patient / "dose")
    dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    put(tmp_path / "dose", dose)
    paths = {role: list((patient / role).glob("*.dcm")) for role in ("structure_set", "plan")}
    stranger = work.case({**paths, "dose": list((tmp_path / "dose").glob("*.dcm"))})
    assert (stranger.plan.prescription_gy, stranger.prescription_gy) == (None, 145.0)


def test_another_prescription_than_the_training_patients_had_holds(
    work: Dosiomics, patient: Path, tmp_path: Path
) -> None:
    plan = only(patient / "plan")
    plan.DoseReferenceSequence[0].TargetPrescriptionDose = "160"
    folder = tmp_path / "patient"
    put(folder / "plan", plan)
    for role in ("dose", "structure_set"):
        put(folder / role, only(patient / role))
    value, verdict = finding(work.run(inputs(folder, "structure_set", "plan")), "prescription_departure_percent")
    assert (round(value, 2), verdict) == (10.34, Verdict.HOLD)


def test_fractions_that_a_plan_states_give_an_eqd2(work: Dosiomics, patient: Path, tmp_path: Path) -> None:
    plan = only(patient / "plan")
    plan.BrachyTreatmentType = "HDR"
    plan.FractionGroupSequence[0].NumberOfFractionsPlanned = 10
    paths = {role: list((patient / role).glob("*.dcm")) for role in ("dose", "structure_set")}
    paths["plan"] = list(put(tmp_path / "plan", plan).glob("*.dcm"))
    found = work.case(paths).measured.sets()["dose_metrics"]
    # D (D/n + 3) / (2 + 3), and as the dose rises so does its effect, so the percentiles are those of one voxel.
    d90 = found["target_d90"]
    assert found["target_eqd2_d90"] == pytest.approx(d90 * (d90 / 10 + 3) / 5, rel=0.01)


def test_a_dose_of_application_setups_waits_for_a_person(work: Dosiomics, patient: Path, tmp_path: Path) -> None:
    dose = only(patient / "dose")
    dose.DoseSummationType = "BRACHY"
    found = work.run(inputs(patient, dose=put(tmp_path / "dose", dose)))
    assert finding(found, "dose_parts") == (1.0, Verdict.HOLD)


def test_without_limits_everything_measured_holds(patient: Path, tmp_path: Path) -> None:
    found = pipeline(tmp_path, prognosis_model(limits={})).run(inputs(patient))
    held = {one.name for one in found.findings if one.verdict is Verdict.HOLD}
    assert {"dose_cut_percent", "dose_spacing_mm", "feature_distance"} <= held


def test_an_organ_that_is_absent_is_said_to_be(work: Dosiomics, patient: Path, tmp_path: Path) -> None:
    structures = only(patient / "structure_set")
    structures.StructureSetROISequence[1].ROIName = "Smith John"
    said = texts(work.run(_with(patient, tmp_path, structures)))
    assert "Urethra is not measured: the structure set does not have it." in said
    assert "the prescription of the settings, 145 Gy" in said  # as there is no plan
    assert "Smith" not in said


def test_the_sites_own_name_of_the_target_is_understood(patient: Path, tmp_path: Path) -> None:
    structures = only(patient / "structure_set")
    structures.StructureSetROISequence[0].ROIName = "Prostata"
    found = pipeline(tmp_path, structure_names={"prostata": "Prostate"}).run(_with(patient, tmp_path, structures))
    assert len(found.series) == 2


def test_a_model_of_other_settings_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="other settings of extraction"):
        pipeline(tmp_path, extraction=DoseExtraction()).weights_sha256()


def _with(patient: Path, tmp_path: Path, structures: Dataset) -> Inputs:
    folder = tmp_path / "patient"
    put(folder / "structure_set", structures)
    put(folder / "dose", only(patient / "dose"))
    return inputs(folder, "structure_set")


def _relative(dose: Dataset) -> None:
    dose.DoseUnits = "RELATIVE"


def _of_other_frame(dose: Dataset) -> None:
    dose.FrameOfReferenceUID = "1.2.3.4"


def _smaller(dose: Dataset) -> None:
    frames = int(dose.NumberOfFrames) // 2
    dose.PixelData = dose.PixelData[: frames * dose.Rows * dose.Columns * 4]
    dose.NumberOfFrames, dose.GridFrameOffsetVector = frames, list(dose.GridFrameOffsetVector)[:frames]


def _of_a_beam(dose: Dataset) -> None:
    dose.DoseSummationType = "BEAM"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_relative, "Dose Units is not GY"),
        (_of_other_frame, "The structure set and the dose have different Frames of Reference"),
        (_smaller, "The region Prostate is not wholly inside the dose grid"),
        (_of_a_beam, r"No dose of the series is of a whole plan \(Dose Summation Type is BEAM\)"),
    ],
)
def test_a_dose_that_can_not_be_used_is_refused(
    work: Dosiomics, patient: Path, tmp_path: Path, change: Callable[[Dataset], None], reason: str
) -> None:
    dose = only(patient / "dose")
    change(dose)
    with pytest.raises(InputRejected, match=f"^{reason}$"):
        work.run(inputs(patient, dose=put(tmp_path / "dose", dose)))


def test_several_doses_are_refused_unless_one_alone_is_of_the_whole_plan(
    work: Dosiomics, patient: Path, tmp_path: Path
) -> None:
    whole, beam = only(patient / "dose"), only(patient / "dose")
    beam.SOPInstanceUID, beam.DoseSummationType = "1.2.3.5", "BEAM"
    beams = put(tmp_path / "beams", beam, deepcopy(beam))
    with pytest.raises(InputRejected, match="No dose of the series is of a whole plan"):
        work.run(inputs(patient, dose=beams))
    other = deepcopy(whole)
    other.SOPInstanceUID = "1.2.3.6"
    with pytest.raises(InputRejected, match="The series has 2 doses of whole plans, and nothing says which one counts"):
        work.run(inputs(patient, dose=put(tmp_path / "plans", whole, other)))
    assert work.run(inputs(patient, dose=put(tmp_path / "one", beam, whole))).series


def _renamed(structures: Dataset) -> None:
    structures.StructureSetROISequence[0].ROIName = "Smith John"


def _three_voxels(structures: Dataset) -> None:
    move_contours(structures, 0, shrunk_to_mm=2.5)


def _outside(structures: Dataset) -> None:
    move_contours(structures, 0, by_mm=200.0)


def _twice(structures: Dataset) -> None:
    structures.StructureSetROISequence[2].ROIName = "Prostate"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_renamed, "The structure set has no region Prostate, nor one that stands for it"),
        (_three_voxels, r"Prostate: The region has \d voxels.*; features need at least 64"),
        (_outside, "The region Prostate is not wholly inside the dose grid"),
        (_twice, "2 regions go by the name Prostate, and nothing says which one counts"),
    ],
)
def test_a_structure_set_that_can_not_be_used_is_refused(
    work: Dosiomics, patient: Path, tmp_path: Path, change: Callable[[Dataset], None], reason: str
) -> None:
    structures = only(patient / "structure_set")
    change(structures)
    with pytest.raises(InputRejected, match=f"^{reason}$"):
        work.run(_with(patient, tmp_path, structures))


def test_a_dose_without_any_prescription_is_refused(patient: Path, tmp_path: Path) -> None:
    unknown = QUICK.model_copy(update={"prescription_gy": None})
    pipe = pipeline(tmp_path, prognosis_model(unknown), extraction=unknown)
    with pytest.raises(InputRejected, match="The prescription is stated neither by a plan of the dose nor in the sett"):
        pipe.run(inputs(patient, "structure_set"))
