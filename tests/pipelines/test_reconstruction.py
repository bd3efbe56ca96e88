"""Few-view reconstruction with a small untrained prior: what surrounds the network is under test, not what it learned.

The truth is a cylinder of water with a dense rod in the slice nearest to the head, simulated as a scan.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, ParametricMapStorage

from models.diffusion import Architecture, DenoisingNetwork
from models.few_view_measures import UNITS
from models.iterative import estimated_photons
from models.limits import Limits
from models.scan_simulation import Exposure
from models.weights import load_card, save, write_card
from pipelines.base import InputRejected, Outcome, PipelineError
from pipelines.dicom import projection_elements as pd
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.projections import read_projections
from pipelines.dicom.writing import file_bytes
from pipelines.projection_phantom import RayKind, SimulatedScanner, write_projections
from pipelines.reconstruction import SparseReconstruction
from pipelines.stability import Finding, Verdict, verdict_of
from tests.pipelines.conftest import dciodvfy_errors, inputs
from tests.pipelines.made import changed
from tests.pipelines.projections_made import ANGLE, with_private
from tests.pipelines.test_projection_phantom import (
    MIDDLE_LPS_MM,
    PIXEL_MM,
    PIXELS,
    ROD_HU,
    ROD_LPS_MM,
    SLICES,
    ct_of,
    rod_hu,
)

VIEWS = 40
PHOTON_STATISTICS = 0x70331065
PHOTONS = 2e5
BODY_RADIUS_MM = 68.0
ARCHITECTURE = Architecture(channels=8, levels=2, blocks=1)
RELEASED = {name: Limits(flag_above=1e6, hold_above=1e6) for name in UNITS}
LIMITS = {**RELEASED, "missing_views_fraction": Limits(flag_above=0.0, hold_above=0.05)}


def from_middle_mm() -> NDArray[np.float64]:
    """Distance of each pixel from the middle of the image: (row, column)."""
    offsets = (np.arange(PIXELS) - (PIXELS - 1) / 2) * PIXEL_MM
    return np.asarray(np.hypot(offsets[:, None], offsets))


def body_hu() -> NDArray[np.int16]:
    """Water with partial pixels at its rim, and a rod of 4 x 4 pixels and twice its density."""
    water = np.clip((BODY_RADIUS_MM - from_middle_mm()) / PIXEL_MM + 0.5, 0.0, 1.0)
    return np.where(rod_hu() > 0, ROD_HU, 1000.0 * (water - 1.0)).astype(np.int16)


@dataclass(frozen=True)
class Scan:
    """A CT, and the files of its projections."""

    ct: ImageSeries
    paths: tuple[Path, ...]


def scan_of(folder: Path, rays: RayKind = RayKind.FAN, photons: float = PHOTONS, position: str = "HFS") -> Scan:
    ct = ct_of(folder, body_hu(), PatientPosition=position)
    scanner = SimulatedScanner(rays, views=VIEWS, exposure=Exposure(photons=photons))
    return Scan(ct, write_projections(ct, scanner, folder / "views"))


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """A fan of 40 views for each of three slices."""
    return scan_of(tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained prior, which sees no noise, with a card that says everything is usual."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    domain = {
        "modality": "planning CT",
        "pixel_spacing_mm": (PIXEL_MM, PIXEL_MM),
        "slice_spacing_mm": (3.0, 3.0),
        "body_mean_hu": 0.0,
        "body_mean_sd_hu": 100.0,
        "patients": 1,
        "slices": 1,
    }
    facts = {"method": "diffusion", "architecture": asdict(ARCHITECTURE), "window_hu": (-1000.0, 2000.0)}
    network = DenoisingNetwork(ARCHITECTURE).state_dict()
    save(path, network, {**facts, "training_domain": domain, "limits": LIMITS}, "Untrained.")
    return path


@pytest.fixture(scope="module")
def reconstruct(weights: Path) -> Callable[..., Outcome]:
    return partial(reconstructed, weights)


@pytest.fixture(scope="module")
def outcome(scan: Scan, reconstruct: Callable[..., Outcome]) -> Outcome:
    """Of the whole scan."""
    return reconstruct(scan.paths)


def pipeline(weights: Path, **settings: Any) -> SparseReconstruction:
    return SparseReconstruction(name="few", weights=str(weights), **{"matrix": PIXELS, "seeds": 2, **settings})


def reconstructed(weights: Path, paths: Sequence[Path], **settings: Any) -> Outcome:
    return pipeline(weights, **settings).run(inputs(list(paths)))


def with_limits(weights: Path, folder: Path, limits: Mapping[str, Any]) -> Path:
    """The same weights with another card."""
    copy = folder / "untrained.safetensors"
    copy.write_bytes(weights.read_bytes())
    write_card(copy.with_suffix(".md"), load_card(str(weights)).model_copy(update={"limits": limits}))
    return copy


def reread(datasets: Sequence[Dataset], folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{dataset.SOPInstanceUID}.dcm" for dataset in datasets]
    for path, dataset in zip(paths, datasets, strict=True):
        path.write_bytes(file_bytes(dataset))
    return paths


def by_name(outcome: Outcome) -> dict[str, Finding]:
    return {finding.name: finding for finding in outcome.findings}


@pytest.mark.parametrize(
    ("rays", "position"), [(RayKind.FAN, "HFS"), (RayKind.PARALLEL, "HFS"), (RayKind.PARALLEL, "FFP")]
)
def test_the_rod_stands_where_the_ct_has_it(
    reconstruct: Callable[..., Outcome], tmp_path: Path, rays: RayKind, position: str
) -> None:
    made = scan_of(tmp_path, rays, position=position)
    series = read_image_series(reread(reconstruct(made.paths).series[0], tmp_path / "out"))
    assert series.frame_of_reference_uid == made.ct.frame_of_reference_uid
    assert series.volume.array_zyx.shape == made.ct.volume.array_zyx.shape
    rod = np.argwhere(series.volume.array_zyx > ROD_HU / 2)
    assert len(rod) > 8
    (found,) = series.volume.points_lps(rod.mean(axis=0)[None, ::-1])
    assert found == pytest.approx(ROD_LPS_MM, abs=0.5)
    middle = (np.array(series.volume.array_zyx.shape) - 1) / 2
    (found,) = series.volume.points_lps(middle[None, ::-1])
    assert found == pytest.approx(MIDDLE_LPS_MM, abs=1e-3)
    assert series.volume.spacing_zyx_mm == pytest.approx(made.ct.volume.spacing_zyx_mm, abs=1e-4)


def test_water_is_water_and_air_is_air(outcome: Outcome, tmp_path: Path) -> None:
    hu = read_image_series(reread(outcome.series[0], tmp_path / "out")).volume.array_zyx
    water = hu[:-1, from_middle_mm() < BODY_RADIUS_MM - 2 * PIXEL_MM]
    assert water.mean(axis=1) == pytest.approx(0.0, abs=5.0)
    assert water.std() < 60.0
    assert hu[:, from_middle_mm() > BODY_RADIUS_MM + 2 * PIXEL_MM].mean() == pytest.approx(-1000.0, abs=10.0)


def test_patient_and_study_are_those_of_the_projections(scan: Scan, outcome: Outcome) -> None:
    view = dcmread(scan.paths[0], stop_before_pixels=True)
    for one in (outcome.series[0][0], outcome.series[1][0]):
        for keyword in ("PatientID", "PatientName", "PatientSex", "StudyInstanceUID", "FrameOfReferenceUID"):
            assert one[keyword].value == view[keyword].value, keyword
        assert one.SeriesInstanceUID != view.SeriesInstanceUID
    assert outcome.series[0][0].SeriesDescription == "Few-view CT NOT FOR TREATMENT"
    assert outcome.series[0][0].PatientPosition == "HFS"


def test_every_object_is_valid(outcome: Outcome, tmp_path: Path) -> None:
    paths = [path for series in outcome.series for path in reread(series, tmp_path / "out")]
    assert len(paths) == SLICES + 1
    assert {path.name: dciodvfy_errors(path) for path in paths} == {path.name: [] for path in paths}


def test_a_slice_names_the_views_that_measured_it(scan: Scan, outcome: Outcome) -> None:
    views = [str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in scan.paths]
    for number, one in enumerate(outcome.series[0]):
        named = [str(item.ReferencedSOPInstanceUID) for item in one.SourceImageSequence]
        assert named == views[number * VIEWS : (number + 1) * VIEWS]
        assert {item.ReferencedSOPClassUID for item in one.SourceImageSequence} == {CTImageStorage}


def test_a_result_says_how_it_was_made(outcome: Outcome, weights: Path) -> None:
    one = outcome.series[0][0]
    assert one.DerivationDescription == (
        "Iterative reconstruction of 120 views over a diffusion prior (untrained), T = 1, mean of 2 noise seeds"
    )
    assert one.DerivationCodeSequence[0].CodeValue == "FEWVIEW"
    assert load_card(str(weights)).sha256[:8] in str(one.ContributingEquipmentSequence)


def test_the_same_views_in_any_order_make_the_same_bytes(
    scan: Scan, outcome: Outcome, reconstruct: Callable[..., Outcome]
) -> None:
    again = reconstruct(scan.paths[::-1])
    assert [[file_bytes(one) for one in series] for series in again.series] == [
        [file_bytes(one) for one in series] for series in outcome.series
    ]
    assert again.findings == outcome.findings


def test_other_settings_or_limits_are_other_work(weights: Path, tmp_path: Path) -> None:
    settings: list[dict[str, Any]] = [{}, {"seeds": 3}, {"steps": 2}, {"electronic_sd": 5.0}, {"matrix": 64}]
    digests = [pipeline(weights, **one).settings_sha256() for one in settings]
    digests.append(pipeline(with_limits(weights, tmp_path, {})).settings_sha256())
    assert len(set(digests)) == len(digests)
    assert pipeline(weights).settings_sha256() == digests[0]


def test_findings_are_named_and_judged_by_the_limits_of_the_card(outcome: Outcome) -> None:
    found = by_name(outcome)
    assert found.keys() == {"identity_differences", "geometry_differences", *UNITS}
    assert {found[name].unit for name in UNITS} == set(UNITS.values())
    assert verdict_of(outcome.findings) is Verdict.RELEASE
    # An untrained prior adds nothing, and leaves the data explained down to their noise.
    assert 0.7 < found["projection_residual"].value < 2.0
    assert found["outside_field_line_integral"].value == pytest.approx(0.0, abs=0.01)
    assert found["missing_views_fraction"].value == found["pixel_spacing_outside_mm"].value == 0.0


@pytest.mark.parametrize("name", sorted(UNITS))
def test_above_a_limit_a_result_is_held(weights: Path, tmp_path: Path, name: str, quick: Sequence[Path]) -> None:
    lowered = {**RELEASED, name: Limits(flag_above=-2.0, hold_above=-1.0)}
    held = reconstructed(with_limits(weights, tmp_path, lowered), quick)
    assert {one.name for one in held.findings if one.verdict is Verdict.HOLD} == {name}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The views of a single slice."""
    folder = tmp_path_factory.mktemp("quick")
    scanner = SimulatedScanner(RayKind.PARALLEL, views=VIEWS, slices=(2, 3))
    return write_projections(ct_of(folder, body_hu()), scanner, folder / "views")


def test_without_limits_a_result_is_held(weights: Path, tmp_path: Path, quick: Sequence[Path]) -> None:
    held = by_name(reconstructed(with_limits(weights, tmp_path, {}), quick))
    assert {name for name, one in held.items() if one.verdict is Verdict.HOLD} == set(UNITS)
    assert held["seed_spread_hu"].text.endswith("no limit was ever measured")


def test_up_to_five_percent_of_missing_views_are_reconstructed_and_flagged(
    scan: Scan, outcome: Outcome, reconstruct: Callable[..., Outcome], tmp_path: Path
) -> None:
    kept = [path for number, path in enumerate(scan.paths) if number not in (VIEWS + 7, 2 * VIEWS + 21)]
    found = reconstruct(kept)
    flagged = by_name(found)["missing_views_fraction"]
    assert flagged.value == pytest.approx(2 / 120) and flagged.verdict is Verdict.FLAG
    assert verdict_of(found.findings) is Verdict.FLAG
    assert [len(one.SourceImageSequence) for one in found.series[0]] == [VIEWS, VIEWS - 1, VIEWS - 1]
    whole, lacking = (
        read_image_series(reread(one.series[0], tmp_path / str(number))).volume
        for number, one in enumerate((outcome, found))
    )
    assert lacking.same_grid(whole)
    # Alone or beside others, a slice is the same up to how its numbers are rounded.
    np.testing.assert_allclose(lacking.array_zyx[0], whole.array_zyx[0], atol=1.0)
    assert 0.0 < np.abs(lacking.array_zyx - whole.array_zyx).mean() < 20.0


View = Callable[[Dataset], Any]


def of_view(number: int, change: View) -> Callable[[Scan, Path], list[Path]]:
    """The scan with one view changed."""
    return lambda scan, folder: [
        changed_file(path, folder, change) if index == number else path for index, path in enumerate(scan.paths)
    ]


def of_all(change: View) -> Callable[[Scan, Path], list[Path]]:
    return lambda scan, folder: [changed_file(path, folder, change) for path in scan.paths]


def changed_file(path: Path, folder: Path, change: View) -> Path:
    dataset = dcmread(path)
    change(dataset)
    dataset.save_as(folder / path.name)
    return folder / path.name


REJECTED: dict[str, tuple[Callable[[Scan, Path], list[Path]], str]] = {
    "missing": (
        lambda scan, _: [path for number, path in enumerate(scan.paths) if number % 16],
        "8 of 120 views are missing, more than 5%",
    ),
    "a slice": (lambda scan, _: list(scan.paths[:VIEWS]), "80 of 120 views are missing, more than 5%"),
    "twice": (lambda scan, _: [*scan.paths, scan.paths[3]], "Two files have the same SOP Instance UID"),
    "same angle": (
        of_view(3, lambda view: with_private(view, {ANGLE: ("FL", 2 * np.pi * 4 / VIEWS)})),
        "1 of 120 views were taken from the place of another view",
    ),
    "unsorted": (
        of_view(3, lambda view: with_private(view, {ANGLE: ("FL", 2 * np.pi * 9.5 / VIEWS)})),
        "The angles of the views do not run in one direction",
    ),
    "columns": (
        of_view(3, lambda view: with_private(view, {0x70291011: ("US", 5)})),
        "The pixel matrix of a view is not that of the detector that its header describes",
    ),
    "negative": (
        of_view(3, lambda view: changed(view, RescaleIntercept=-2.0)),
        "A view has negative counts: line integrals that no noise explains",
    ),
    "no angle": (
        of_view(3, lambda view: with_private(view, {ANGLE: ("FL", None)})),
        "A view has no usable Detector Focal Center Angular Position (7031,1001)",
    ),
    "no position": (
        of_all(lambda view: changed(view, PatientPosition=None)),
        "Patient Position is absent, and not one of HFS, FFS, HFP, FFP",
    ),
    "no frame": (
        of_all(lambda view: changed(view, FrameOfReferenceUID=None)),
        "An image does not say to which Frame of Reference it belongs",
    ),
    "no photons": (
        of_all(lambda view: pd.put_private(view, pd.PHOTONS, np.zeros(view.Rows, np.float32))),
        "A view was taken without a photon: its Photon Statistics are 0",
    ),
    "helical": (
        of_all(lambda view: pd.put_private(view, pd.SCAN_TYPE, "HELICAL")),
        "The projections are of a helical scan, which is not reconstructed",
    ),
}


@pytest.mark.parametrize("kind", REJECTED)
def test_bad_projections_are_rejected_in_one_sentence(
    scan: Scan, reconstruct: Callable[..., Outcome], tmp_path: Path, kind: str
) -> None:
    make, sentence = REJECTED[kind]
    with pytest.raises(InputRejected) as caught:
        reconstruct(make(scan, tmp_path))
    assert str(caught.value) == sentence


def without_photons(view: Dataset) -> None:
    del view[PHOTON_STATISTICS]


def test_photons_that_are_not_stated_are_estimated(reconstruct: Callable[..., Outcome], tmp_path: Path) -> None:
    paths = scan_of(tmp_path, RayKind.PARALLEL, photons=1e4).paths
    stated = by_name(reconstruct(paths))["projection_residual"].value
    (tmp_path / "silent").mkdir()
    silent = by_name(reconstruct([changed_file(path, tmp_path / "silent", without_photons) for path in paths]))
    # The residual is one in units of the noise, so it moves by the ratio of the noises.
    estimated = estimated_photons(read_projections(paths).line_integrals)
    assert 3e3 < estimated < 1e4
    assert silent["projection_residual"].value == pytest.approx(stated * np.sqrt(estimated / 1e4), rel=0.1)


def test_a_scan_whose_noise_can_not_be_told_is_rejected(reconstruct: Callable[..., Outcome], tmp_path: Path) -> None:
    ct = ct_of(tmp_path)
    scanner = SimulatedScanner(RayKind.PARALLEL, views=12, exposure=Exposure(photons=np.inf))
    with pytest.raises(InputRejected, match="Photon Statistics are absent, and can not be estimated: the scan has no"):
        reconstruct(write_projections(ct, scanner, tmp_path / "views"))


def test_the_map_is_the_spread_on_the_grid_of_the_slices(outcome: Outcome) -> None:
    images, (spread,) = outcome.series
    assert spread.SOPClassUID == ParametricMapStorage
    assert (spread.NumberOfFrames, spread.Rows, spread.Columns) == (SLICES, PIXELS, PIXELS)
    assert {str(item.ReferencedSOPInstanceUID) for item in spread.SourceImageSequence} == {
        str(one.SOPInstanceUID) for one in images
    }
    values = np.frombuffer(spread.FloatPixelData, "<f4")
    assert values.min() >= 0.0 and 0.0 < by_name(outcome)["seed_spread_hu"].value <= values.max()


@pytest.mark.parametrize("settings", [{"spread_map": False}, {"seeds": 1}])
def test_no_map_is_made_where_none_is_wanted_or_nothing_spreads(
    quick: Sequence[Path], reconstruct: Callable[..., Outcome], settings: dict[str, Any]
) -> None:
    found = reconstruct(quick, **settings)
    assert len(found.series) == 1
    assert (by_name(found)["seed_spread_hu"].value == 0.0) is (settings == {"seeds": 1})


def test_what_no_view_covers_is_air(quick: Sequence[Path], reconstruct: Callable[..., Outcome], tmp_path: Path) -> None:
    wider = [
        changed_file(path, tmp_path, lambda view: changed(view, ReconstructionDiameter=2 * PIXELS * PIXEL_MM))
        for path in quick
    ]
    series = read_image_series(reread(reconstruct(wider).series[0], tmp_path / "out"))
    assert series.volume.spacing_zyx_mm[1] == pytest.approx(2 * PIXEL_MM)
    corner_mm = np.hypot(PIXELS, PIXELS) * PIXEL_MM / 2
    outside = 2 * from_middle_mm() > corner_mm + 2 * PIXEL_MM
    assert (series.volume.array_zyx[:, outside] == -1000).all()


def test_progress_grows_to_the_end(weights: Path, scan: Scan) -> None:
    told: list[float] = []
    pipeline(weights).run(inputs(list(scan.paths)), lambda done, _: told.append(done))
    assert told == sorted(told) and 0.9 < told[-1] <= 1.0 and len(told) >= 3


@pytest.mark.parametrize(
    ("weights_name", "sentence"),
    [("cbct_to_ct", "of the method supervised, not diffusion"), ("nobody", "can not be read")],
)
def test_weights_that_are_no_prior_are_refused(quick: Sequence[Path], weights_name: str, sentence: str) -> None:
    with pytest.raises(PipelineError, match=sentence):
        reconstructed(Path(weights_name), quick)
