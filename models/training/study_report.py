"""The report of a data-size study: a row for each training, a table, a figure, and one sentence."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.training.noninferiority import RELATIVE_MARGIN, SIGNIFICANCE, SizeAgainstLargest, Verdict
from models.training.noninferiority import compared_with_largest as _compared
from models.training.pairs import MODALITY_NAMES
from models.training.settings import TrainingSettings
from models.training.study_cell import QUALITY, STRUCTURE, Cell

CSV, MARKDOWN, PNG = "data_size.csv", "data_size.md", "data_size.png"

_LABELS: Mapping[str, str] = {
    "mae_hu": "MAE (HU)",
    "ssim": "SSIM",
    "psnr_db": "PSNR (dB)",
    "deformation_p95_mm": "deformation p95 (mm)",
    "edge_shift_mm": "edge shift (mm)",
    "air_xor_fraction": "air changed (fraction)",
}
_MEASURES = (*QUALITY, *STRUCTURE)

_TEXT = """\
# Data-size study

{sentence}

Every training was {method} and had {updates} updates; {cells} trainings, {seeds} for each size. Judged inside the body
on simulated {modality} of the validation patients ({patients}); the test patients were not used. Mean over patients,
then mean (SD) over seeds. Quality is measured against the truth; structure against the input, where *no model* stands
for the same image with other noise, which has not moved.

{table}
Difference: MAE minus that of {largest} slices, mean over patients. p: of the hypothesis that it is {margin:.3g} HU or
more, adjusted after Holm.

![Quality and structure against the number of training slices]({png})
"""


@dataclass(frozen=True)
class StudyResult:
    """All cells of a study, and what the measures give without a model."""

    cells: Sequence[Cell]
    without_model: Mapping[str, float]
    settings: TrainingSettings
    """Of every cell, seed and number of slices aside."""

    @cached_property
    def sizes(self) -> list[int]:
        """Numbers of training slices, rising."""
        return sorted({cell.size for cell in self.cells})

    @cached_property
    def seeds(self) -> int:
        """Number of trainings of each size."""
        return len({cell.seed for cell in self.cells})

    @cached_property
    def patients(self) -> list[str]:
        """Validation patients."""
        return sorted(self.cells[0].values)

    @cached_property
    def verdict(self) -> Verdict:
        """The test of every size against the largest, in HU of mean absolute error."""
        return _compared({size: self._error_by_patient(size) for size in self.sizes})

    def of_size(self, size: int) -> list[Cell]:
        """The cells of one size, one for each seed."""
        return [cell for cell in self.cells if cell.size == size]

    def over_seeds(self, size: int, measure: str) -> tuple[float, float]:
        """Mean and sample SD over the seeds; SD 0 of one seed."""
        values = [cell.mean(measure) for cell in self.of_size(size)]
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    def sentence(self) -> str:
        """The answer, with test, margin and numbers."""
        verdict = self.verdict
        if not verdict.comparisons:
            return f"Only one size was trained, {verdict.largest} slices, so there is nothing to compare."
        if not verdict.can_tell:
            return (
                f"Whether fewer than {verdict.largest} slices suffice can not be told from "
                f"{_patients(verdict.patients)}: {self._test()} needs {verdict.patients_needed}."
            )
        gain = self.without_model["mae_hu"] - self.over_seeds(verdict.largest, "mae_hu")[0]
        # Where training gains less than the margin, a model that does nothing would pass as not worse.
        if gain <= verdict.margin:
            return (
                f"Nothing can be said about the size: with {verdict.largest} slices and {self.settings.updates} "
                f"updates the MAE is {_below(gain)} that of the input, and the margin of the test would be "
                f"{verdict.margin:.2g} HU."
            )
        return f"{self._finding()} ({self._test()}; {_patients(verdict.patients)}, {_seeds(self.seeds)})."

    def _finding(self) -> str:
        smallest, largest = self.verdict.smallest, self.verdict.largest
        if smallest == largest:
            return f"No size below {largest} slices was shown to be not worse than {largest}"
        mean, best = (self.over_seeds(size, "mae_hu")[0] for size in (smallest, largest))
        return (
            f"{smallest} slices are the smallest training set that is not worse than {largest}: MAE {mean:.1f} against "
            f"{best:.1f} HU"
        )

    def _test(self) -> str:
        sizes = len(self.verdict.comparisons)
        return (
            f"a one-sided paired permutation test of non-inferiority with a margin of {100 * RELATIVE_MARGIN:g} % of "
            f"the MAE ({self.verdict.margin:.2g} HU), Holm-corrected over {sizes} {'size' if sizes == 1 else 'sizes'}, "
            f"from the largest down, at a level of {SIGNIFICANCE:g}"
        )

    def _error_by_patient(self, size: int) -> list[float]:
        cells = self.of_size(size)
        return [float(np.mean([cell.values[patient]["mae_hu"] for cell in cells])) for patient in self.patients]


def write_report(result: StudyResult, output: Path) -> None:
    """Write the CSV with a row for each cell, the Markdown page and the figure into a folder."""
    _write_rows(result, output / CSV)
    draw_study(result, output / PNG)
    text = _TEXT.format(
        sentence=result.sentence(),
        updates=result.settings.updates,
        method=result.settings.method,
        modality=MODALITY_NAMES[result.settings.scans.modality],
        cells=len(result.cells),
        seeds=result.seeds,
        patients=len(result.patients),
        table="".join(f"| {' | '.join(row)} |\n" for row in _table(result)),
        largest=result.verdict.largest,
        margin=result.verdict.margin,
        png=PNG,
    )
    (output / MARKDOWN).write_text(text, encoding="utf-8")


def draw_study(result: StudyResult, png: Path) -> None:
    """Quality in the upper row, structure in the lower, against the number of training slices."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3, sharex=True)
    for row, measures in zip(axes, (QUALITY, STRUCTURE), strict=True):
        for axis, measure in zip(row, measures, strict=True):
            _draw_measure(result, measure, axis)
    for axis in axes[1]:
        axis.set_xlabel("training slices")
    axes[0, 0].legend(fontsize=8)
    axes[1, 0].legend(fontsize=8)
    figure.savefig(png, dpi=110)


def _draw_measure(result: StudyResult, measure: str, axis: Axes) -> None:
    means, spreads = np.transpose([result.over_seeds(size, measure) for size in result.sizes])
    axis.set_xscale("log", base=2)
    axis.scatter(
        [cell.size for cell in result.cells],
        [cell.mean(measure) for cell in result.cells],
        s=14,
        color="tab:gray",
        label="one training",
        zorder=3,
    )
    axis.plot(result.sizes, means, color="tab:blue", label="mean and SD over seeds")
    axis.fill_between(result.sizes, means - spreads, means + spreads, color="tab:blue", alpha=0.2)
    label = "input" if measure in QUALITY else "no motion: input, other noise"
    axis.axhline(result.without_model[measure], color="tab:red", linestyle="--", label=label)
    axis.set_title(_LABELS[measure], fontsize=10)
    axis.set_xticks(result.sizes, [str(size) for size in result.sizes], fontsize=8)
    axis.set_xticks([], minor=True)


def _write_rows(result: StudyResult, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["slices", "seed", "training_patients", *_MEASURES])
        for cell in result.cells:
            values = [f"{cell.mean(measure):.6g}" for measure in _MEASURES]
            writer.writerow([cell.size, cell.seed, cell.patients, *values])


def _table(result: StudyResult) -> Iterator[list[str]]:
    yield ["slices", "patients", *(_LABELS[measure] for measure in _MEASURES), "difference (HU)", "p", "not worse"]
    yield ["---:"] * (len(_MEASURES) + 5)
    yield ["no model", "", *(f"{result.without_model[measure]:.4g}" for measure in _MEASURES), "", "", ""]
    compared = {found.size: found for found in result.verdict.comparisons}
    for size in result.sizes:
        cells = [f"{mean:.4g} ({sd:.2g})" for mean, sd in (result.over_seeds(size, name) for name in _MEASURES)]
        yield [str(size), _training_patients(result.of_size(size)), *cells, *_comparison(compared.get(size))]


def _comparison(found: SizeAgainstLargest | None) -> list[str]:
    if found is None:
        return ["", "", ""]
    return [f"{found.mean_difference:+.3g}", f"{found.p:.2g}", "yes" if found.not_worse else "not shown"]


def _training_patients(cells: Sequence[Cell]) -> str:
    counts = sorted({cell.patients for cell in cells})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _patients(count: int) -> str:
    return f"{count} validation patient{'' if count == 1 else 's'}"


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"mean of {count} seeds"


def _below(gain_hu: float) -> str:
    return f"{abs(gain_hu):.2g} HU {'below' if gain_hu >= 0.0 else 'above'}"
