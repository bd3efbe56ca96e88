"""Measure reconstruction from few views on patients that neither the prior nor the comparators have seen.

All methods get the same simulated scans in one run, so the truth is exact. Slow parts run on fewer slices; how many,
the study says and the report states.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from models.diffusion import DiffusionPrior, load_prior
from models.engines import has_bf16
from models.few_view import FewViewSettings
from models.inference import nobody
from models.intensity import Hu
from models.lesions import Lesion
from models.training.card import record_evaluation
from models.training.few_view_figure import LesionPicture, Picture, draw_curves, draw_lesions, draw_pictures
from models.training.few_view_measures import (
    TRUTH,
    Measured,
    Recovered,
    measured,
    recovered,
    timed,
    truth_values,
)
from models.training.few_view_methods import (
    DDS,
    FBP_HANN,
    OURS,
    TV,
    Method,
    decomposed_sampling,
    fbp_with,
    iterative,
    ours,
    prior_alone,
    published_descent,
    total_variation,
)
from models.training.few_view_report import FewViewReport, of_method_under_test, write_html, write_rows
from models.training.few_view_scans import (
    Condition,
    ScannedPatient,
    ScannedSlices,
    is_whole,
    lesions_of,
    scanned_patient,
    with_lesions,
)
from models.training.few_view_study import FewViewStudy
from models.training.few_view_tuning import Tuned
from models.training.few_view_tuning import tuned as tuned_comparators
from models.training.progress import Progress, part
from models.training.volumes import TrainingDataError, TrainingVolume, of_split
from models.weights import card_path

log = logging.getLogger(__name__)

_LESION_METHODS = (FBP_HANN, TV, DDS, OURS)
_TUNING_SHARE = 0.3
"""Part of the progress bar that tuning takes."""
_DEFAULT_STUDY = FewViewStudy()


def evaluate(
    weights: str,
    volumes: Sequence[TrainingVolume],
    output: Path,
    settings: FewViewSettings,
    study: FewViewStudy = _DEFAULT_STUDY,
    progress: Progress = nobody,
    comparators: bool = True,
    record: bool = False,
) -> Mapping[str, float]:
    """Figures by name, NAME_METHOD_VIEWS_views_UNIT: mean over test patients; SD over their slices with _sd.

    The method under test is run with `settings`, but with T = 1, and as ours_tT with each larger T of the study.
    Test patients are those whose split says so, where their slices are whole. With `comparators`, the others are tuned
    on whole slices of the training patients, where there are any, and measured beside the method under test; filtered
    backprojection and the iterative one, which need no tuning, always are. Into `output` go report.html, report.json,
    report.md, slices.csv, lesions.csv and pictures; with `record`, figures and text of the report also into the card of
    the prior.

    Raises
    ------
    TrainingDataError
        If there is no test patient with whole slices.
    models.weights.WeightsError
        If the weights can not be used.
    """
    prior = load_prior(weights, bf16=has_bf16())
    tested = _scanned(of_split(volumes, "test"), study, study.slices, study.seed)
    if not tested:
        raise TrainingDataError("there is no test patient with whole slices of planning CT")
    output.mkdir(parents=True, exist_ok=True)
    parameters = _tuned(volumes, prior, study, part(progress, 0.0, _TUNING_SHARE)) if comparators else None
    bench = _Bench(_Methods(prior, settings, study, parameters), study)
    bench.run(tested, part(progress, _TUNING_SHARE, 1.0))
    report = FewViewReport(
        prior.card,
        study,
        [patient.patient_id for patient in tested],
        bench.rows,
        bench.lesions,
        parameters,
        bench.parameters,
        bench.growth_seconds,
    )
    figures = report.figures()
    _write(report, bench, figures, output)
    if record:
        kept = {name: value for name, value in prior.card.metrics.items() if not of_method_under_test(name)}
        own = {name: value for name, value in figures.items() if of_method_under_test(name)}
        record_evaluation(card_path(weights), prior.card, {**kept, **own}, report.markdown(), lambda name: True)
    return figures


def _scanned(volumes: Sequence[TrainingVolume], study: FewViewStudy, slices: int, seed: int) -> list[ScannedPatient]:
    """Whole patients, each with noise of its own."""
    whole = [volume for volume in volumes if is_whole(volume)]
    found = [scanned_patient(volume, slices, study.most_views, seed + number) for number, volume in enumerate(whole)]
    return [patient for patient in found if patient is not None]


def _tuned(
    volumes: Sequence[TrainingVolume], prior: DiffusionPrior, study: FewViewStudy, progress: Progress
) -> Tuned | None:
    """On the training patients; None where there are none with whole slices."""
    training = [volume for volume in volumes if volume.split == "train"]
    patients = _scanned(training, study, study.tuning_slices, study.tuning_seed)
    return tuned_comparators(patients, prior, study, progress) if patients else None


@dataclass(frozen=True)
class _Methods:
    """Which methods run where."""

    prior: DiffusionPrior
    settings: FewViewSettings
    study: FewViewStudy
    tuned: Tuned | None

    def for_all_slices(self, condition: Condition) -> list[Method]:
        """The fast ones, and the one under test."""
        found = [fbp_with(hann=False), fbp_with(hann=True), iterative(self.study.ir_iterations)]
        if self.tuned is not None:
            found.append(self._total_variation(self.tuned, condition))
            found.append(prior_alone(self.prior, self.tuned.prior_depth, self.study.prior_steps, self.study.seed))
        return [*found, ours(self.prior, self.settings, 1)]

    def for_costly_slices(self, condition: Condition) -> list[Method]:
        """The slow ones at the conditions where they run."""
        found = []
        study = self.study
        sampled = study.views if study.dds_is_everywhere else study.lesion_views()
        if self.tuned is not None and condition.views in sampled and condition.photons == study.photons:
            found.append(decomposed_sampling(self.prior, self.tuned.dds_data_weight, study.dds_steps, study.seed))
        if study.is_reference(condition):
            found += [ours(self.prior, self.settings, steps) for steps in study.more_steps]
        return found

    def published(self, condition: Condition) -> list[Method]:
        """The descent by Adam, where it is compared."""
        if self.tuned is None or not self.study.is_reference(condition):
            return []
        start = self._total_variation(self.tuned, condition)
        return [published_descent(self.prior, self.study.published_iterations, start, self.study.seed)]

    def _total_variation(self, tuned: Tuned, condition: Condition) -> Method:
        return total_variation(tuned.tv_weight_mm[condition.views], self.study.tv_iterations)


@dataclass
class _Bench:
    """Runs everything, and keeps what was measured."""

    methods: _Methods
    study: FewViewStudy
    rows: list[Measured] = field(default_factory=list)
    lesions: list[Recovered] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    lesion_pictures: list[LesionPicture] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)
    """By method, in words."""
    growth_seconds: dict[int, float] = field(default_factory=dict)
    """Of all slices, by their number."""

    def run(self, patients: Sequence[ScannedPatient], progress: Progress) -> None:
        """All conditions of all patients."""
        conditions = self.study.conditions()
        for number, patient in enumerate(patients):
            for done, condition in enumerate(conditions):
                progress((number + done / len(conditions)) / len(patients), "evaluating")
                scan = patient.scan(patient.projector(condition.views), condition.photons)
                self._condition(scan, condition, number)
        progress(1.0, "evaluating")

    def _condition(self, scan: ScannedSlices, condition: Condition, patient: int) -> None:
        study = self.study
        few = scan.of(slice(0, study.costly_slices))
        is_main = condition.photons == study.photons
        if is_main:
            self._keep(TRUTH, truth_values(scan), scan, condition)
        images = self._run(self.methods.for_all_slices(condition), scan if is_main else few, condition)
        images |= self._run(self.methods.for_costly_slices(condition), few, condition)
        if patient < study.published_slices:
            images |= self._run(self.methods.published(condition), scan.of(slice(0, 1)), condition)
        if is_main and condition.views in study.lesion_views():
            title = f"{scan.patient_id}, {study.part(condition.views)} of the views"
            self.pictures.append(Picture(title, scan.truth[0], {name: hu[0] for name, hu in images.items()}))
            self._lesions(few, condition, {name: hu[: len(few.truth)] for name, hu in images.items()})
        if patient == 0 and study.is_reference(condition):
            self._growth(scan)

    def _run(self, methods: Sequence[Method], scan: ScannedSlices, condition: Condition) -> dict[str, Hu]:
        """Measure methods; their images in HU by name."""
        found: dict[str, Hu] = {}
        for method in methods:
            run = timed(method, scan)
            self._keep(method.name, measured(run, scan), scan, condition)
            self.parameters.setdefault(method.name, method.parameters)
            found[method.name] = scan.in_hu(run.images)
            ran = {"method": method.name, "views": condition.views, "photons": condition.photons}
            log.info("method measured", extra={**ran, "slices": len(scan.truth), "seconds": round(run.seconds, 2)})
        return found

    def _keep(
        self, name: str, values: Sequence[Mapping[tuple[str, str], float]], scan: ScannedSlices, condition: Condition
    ) -> None:
        self.rows += [
            Measured(scan.patient_id, number, name, condition, dict(one)) for number, one in enumerate(values)
        ]

    def _lesions(self, scan: ScannedSlices, condition: Condition, without: Mapping[str, Hu]) -> None:
        """Reconstruct the slices once more, with lesions in them."""
        lesions = lesions_of(scan, self.study.seed)
        planted = with_lesions(scan, lesions)
        shown: dict[str, Hu] = {}
        methods = [*self.methods.for_all_slices(condition), *self.methods.for_costly_slices(condition)]
        for method in (method for method in methods if method.name in _LESION_METHODS):
            found = planted.in_hu(method.run(planted))
            shown[method.name] = found[0]
            for number, some in enumerate(lesions):
                shares = recovered(found[number], without[method.name][number], some, scan.pixel_mm)
                self.lesions += [
                    Recovered(scan.patient_id, number, method.name, condition, kind, share) for kind, share in shares
                ]
        self._show_lesion(planted, condition, lesions[0], shown)

    def _show_lesion(
        self, planted: ScannedSlices, condition: Condition, lesions: Sequence[Lesion], shown: Mapping[str, Hu]
    ) -> None:
        if not lesions:
            return
        title = f"{planted.patient_id}, {self.study.part(condition.views)} of the views"
        self.lesion_pictures.append(LesionPicture(title, lesions, planted.truth[0], shown, planted.pixel_mm))

    def _growth(self, scan: ScannedSlices) -> None:
        """Time of the method under test for one slice, two, four: copies of the first."""
        method = ours(self.methods.prior, self.methods.settings, 1)
        one = scan.of(slice(0, 1))
        for slices in self.study.growth:
            many = replace(
                one,
                truth=one.truth.repeat(slices, axis=0),
                region=one.region.repeat(slices, axis=0),
                measured=one.measured.repeated(slices),
            )
            self.growth_seconds[slices] = timed(method, many).cpu_seconds * slices


def _write(report: FewViewReport, bench: _Bench, figures: Mapping[str, float], output: Path) -> None:
    pictures = list(_drawn(report, bench, output))
    (output / "report.md").write_text(report.markdown(), encoding="utf-8")
    (output / "report.json").write_text(json.dumps({**report.record(), "figures": figures}, indent=2), encoding="utf-8")
    write_rows(report, output)
    write_html(report, pictures, output / "report.html")


def _drawn(report: FewViewReport, bench: _Bench, output: Path) -> Iterator[Path]:
    """The pictures of the page, as they are drawn."""
    draw_pictures(bench.pictures, output / "images.png")
    yield output / "images.png"
    draw_curves(report, output / "curves.png")
    yield output / "curves.png"
    if bench.lesion_pictures:
        draw_lesions(bench.lesion_pictures, output / "lesions.png")
        yield output / "lesions.png"
