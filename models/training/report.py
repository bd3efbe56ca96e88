"""The report of an evaluation: one table, one page of pictures, as HTML that needs no other file."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jinja2 import Environment
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.image_quality import NoisePower
from models.intensity import Hu
from models.weights import Card

Quality: TypeAlias = dict[tuple[str, str], float]
"""By (name, unit)."""
Measures: TypeAlias = dict[tuple[str, str, str], float]
"""By (name, who, unit)."""

_DISPLAY_HU = (-250.0, 350.0)
_DIFFERENCE_HU = 200.0
_WHO: Mapping[str, str] = {
    "before": "input",
    "after": "model",
    "floor": "input, other noise",
    "hu_curve": "HU curve alone",
    "non_local_means": "non-local means",
}

_HTML = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Evaluation of {{ card.name }}</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 96rem; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ccc; padding: .2rem .5rem; text-align: right; white-space: nowrap; }
th:first-child { text-align: left; } .after { background: #eef4ff; } img { max-width: 100%; }
</style></head><body>
<h1>Evaluation of {{ card.name }}</h1>
<p>{{ patients }} test patients, simulated {{ modality }}; mean (SD) over patients, inside the body. Deformation, edge
shift, air, bone and body are measured against the input: what they give for the truth and for the input with other
noise is no motion. Weights SHA-256 {{ card.sha256 }}.</p>
<ul>{% for sentence in goals %}<li>{{ sentence }}</li>{% endfor %}</ul>
<table><thead><tr><th></th>
{% for who in columns %}<th class="{{ who }}">{{ title(who) }}</th>
{% endfor %}</tr></thead><tbody>
{% for label, cells in rows %}<tr><th>{{ label }}</th>
{% for cell in cells %}<td class="{{ columns[loop.index0] }}">{{ cell }}</td>
{% endfor %}</tr>
{% endfor %}</tbody></table>
{% if tuned %}<p>Tuned on training patients for mean absolute error, each with a HU curve fitted to its output:
{% for who, parameters in tuned.items() %}{{ title(who) }} ({{ parameters }}){{ ", " if not loop.last else "." }}
{% endfor %}</p>{% endif %}
<p><img alt="Input, results and truth of up to four patients, and the noise power"
src="data:image/png;base64,{{ png }}"></p>
</body></html>
"""


@dataclass(frozen=True)
class Example:
    """One slice of one patient by who made it, [row, column] in HU, and the noise power of the patient."""

    planes: Mapping[str, Hu]
    noise: Mapping[str, NoisePower]


@dataclass(frozen=True)
class Report:
    """What was measured of every patient."""

    card: Card
    modality: str
    """What was simulated, in words."""
    patient_ids: Sequence[str]
    rows: Sequence[Measures]
    """One for each patient."""
    tuned: Mapping[str, str]
    """Parameters of every comparator, in words."""
    said: Sequence[str] = ()
    """What was found beside the patients, in sentences."""

    def names(self) -> list[str]:
        """Name of every figure, as NAME_WHO_UNIT."""
        return [figure_name(*key) for key in self._keys()]

    def by_patient(self) -> Mapping[str, Mapping[str, float]]:
        """Figures of every patient, by name; those that the patient does not allow are left out."""
        return {
            patient: {figure_name(*key): value for key, value in row.items()}
            for patient, row in zip(self.patient_ids, self.rows, strict=True)
        }

    def figures(self) -> dict[str, float]:
        """Mean over the patients, and SD under NAME_sd."""
        found: dict[str, float] = {}
        for key in self._keys():
            mean, sd = self._mean_sd(key)
            found[figure_name(*key)] = mean
            found[f"{figure_name(*key)}_sd"] = sd
        return found

    def columns(self) -> list[str]:
        """Who was measured, in the order of the table."""
        return list(dict.fromkeys(who for _, who, _ in self._keys() if who))

    def table(self) -> Iterator[tuple[str, list[str]]]:
        """Label and cells of every measure; an empty cell where it has no meaning."""
        keys = set(self._keys())
        for name, unit in dict.fromkeys((name, unit) for name, who, unit in self._keys() if who):
            cells = [self._cell((name, who, unit)) if (name, who, unit) in keys else "" for who in self.columns()]
            yield f"{name.replace('_', ' ')} {_unit(unit)}".strip(), cells

    def goals(self) -> list[str]:
        """What the figures say about the aims of an enhancement, in sentences."""
        sentences = [
            *self._against_input(),
            *(self._comparison(who) for who in self.tuned),
            *self._structure(),
            *self.said,
        ]
        values = [self._of(("cnr_muscle_fat", who, "")) for who in ("before", "after", "truth")]
        if all(values):
            before, after, truth = (float(np.mean(value)) for value in values)
            sentences.append(
                f"Muscle-fat CNR against the input: model x {after / before:.1f}, truth x {truth / before:.1f}."
            )
        return sentences

    def markdown(self) -> str:
        """The table and what it says, for a card."""
        heading = (
            f"{len(self.rows)} test patients, simulated {self.modality}; mean (SD) over patients, inside the body."
        )
        columns = ["", *map(title, self.columns())]
        rows = [columns, ["---"] * len(columns), *([label, *cells] for label, cells in self.table())]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
        tuned = ", ".join(f"{title(who)} ({parameters})" for who, parameters in self.tuned.items())
        said = [*self.goals(), *([f"Tuned on training patients: {tuned}."] if tuned else [])]
        tested = f"Test patients: {', '.join(self.patient_ids)}."
        return "\n\n".join([heading, table, "\n".join(f"- {sentence}" for sentence in [*said, tested])]) + "\n"

    def record(self) -> dict[str, Any]:
        """Everything, as a program would read it."""
        facts = {"weights": self.card.name, "sha256": self.card.sha256, "comparators": dict(self.tuned)}
        return {**facts, "goals": self.goals(), "by_patient": self.by_patient()}

    def _against_input(self) -> Iterator[str]:
        """Mean absolute error and similarity against those of the input."""
        mae, mae_model = (float(np.mean(self._of(("mae", who, "hu")) or [np.nan])) for who in ("before", "after"))
        ssim, ssim_model = (float(np.mean(self._of(("ssim", who, "")) or [np.nan])) for who in ("before", "after"))
        if np.isfinite([mae, ssim]).all():
            yield (
                f"Model against the input: MAE {mae:.1f} to {mae_model:.1f} HU, {100.0 * mae_model / mae:.0f} % of the "
                f"input's; SSIM {ssim:.3f} to {ssim_model:.3f}, {ssim_model - ssim:+.3f}."
            )

    def _structure(self) -> Iterator[str]:
        """Whether the anatomy stayed: largest and mean over the patients, in voxels, with what no motion gives."""
        for name, label in (("deformation_p95", "95th percentile of the deformation"), ("edge_shift", "edge shift")):
            moved, still = (self._of((name, who, "voxel")) for who in ("after", "floor"))
            if moved and still:
                yield (
                    f"Output against input, {label}: {np.mean(moved):.2f} voxels (largest {max(moved):.2f}); "
                    f"the same patient with other noise {np.mean(still):.2f}."
                )

    def _comparison(self, who: str) -> str:
        mae, mae_model = (np.mean(self._of(("mae", name, "hu"))) for name in (who, "after"))
        ssim, ssim_model = (np.mean(self._of(("ssim", name, ""))) for name in (who, "after"))
        error = f"{'lower' if mae_model < mae else 'not lower'} MAE ({mae_model:.1f}, {mae:.1f} HU)"
        similarity = f"{'higher' if ssim_model > ssim else 'not higher'} SSIM ({ssim_model:.3f}, {ssim:.3f})"
        return f"Model against {title(who)}: {error}, {similarity}."

    def _keys(self) -> list[tuple[str, str, str]]:
        return list(dict.fromkeys(key for row in self.rows for key in row))

    def _of(self, key: tuple[str, str, str]) -> list[float]:
        return [row[key] for row in self.rows if key in row]

    def _mean_sd(self, key: tuple[str, str, str]) -> tuple[float, float]:
        values = self._of(key)
        # Sample SD needs two patients.
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    def _cell(self, key: tuple[str, str, str]) -> str:
        mean, sd = self._mean_sd(key)
        patients = len(self._of(key))
        return f"{_rounded(mean, 3)} ({_rounded(sd, 2)})" + (f" n={patients}" if patients < len(self.rows) else "")


def figure_name(name: str, who: str, unit: str) -> str:
    """`mae`, `before`, `hu` give mae_before_hu; empty parts are left out."""
    return "_".join(part for part in (name, who, unit) if part)


def title(who: str) -> str:
    """Column heading."""
    return _WHO.get(who, who.replace("_", " "))


def write_html(report: Report, png: Path, html: Path) -> None:
    """One page with the table and the picture inside."""
    template = Environment(autoescape=True).from_string(_HTML)
    content = template.render(
        card=report.card,
        modality=report.modality,
        patients=len(report.rows),
        goals=report.goals(),
        columns=report.columns(),
        rows=list(report.table()),
        tuned=report.tuned,
        title=title,
        png=base64.b64encode(png.read_bytes()).decode(),
    )
    html.write_text(content, encoding="utf-8")


def draw_page(examples: Sequence[Example], png: Path) -> None:
    """One row for each example: every image and, last, model minus truth; below them the noise power of the first."""
    columns = len(examples[0].planes) + 1
    figure = Figure(figsize=(2.6 * columns, 2.7 * len(examples) + 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(examples) + 1, columns, height_ratios=[*[1.0] * len(examples), 1.1])
    for number, example in enumerate(examples):
        axes = [figure.add_subplot(grid[number, column]) for column in range(columns)]
        _draw_row(example, axes, titled=number == 0)
    _draw_noise(examples[0], figure.add_subplot(grid[len(examples), :]))
    figure.savefig(png, dpi=90)


def _draw_row(example: Example, axes: Sequence[Axes], titled: bool) -> None:
    shown = {title(who): plane for who, plane in example.planes.items()}
    for axis, (heading, plane) in zip(axes, shown.items(), strict=False):
        axis.imshow(plane, cmap="gray", vmin=_DISPLAY_HU[0], vmax=_DISPLAY_HU[1])
        axis.set_title(heading if titled else "", fontsize=10)
    error = example.planes["after"] - example.planes["truth"]
    axes[-1].imshow(error, cmap="RdBu_r", vmin=-_DIFFERENCE_HU, vmax=_DIFFERENCE_HU)
    axes[-1].set_title("model - truth, ±200 HU" if titled else "", fontsize=10)
    for axis in axes:
        axis.set_axis_off()


def _draw_noise(example: Example, axis: Axes) -> None:
    if not example.noise:
        axis.set_axis_off()
        return
    for who, noise in example.noise.items():
        axis.semilogy(noise.frequency_per_mm, noise.power_hu2_mm2, marker=".", label=title(who))
    axis.set_xlabel("spatial frequency, 1/mm")
    axis.set_ylabel("noise power in soft tissue, HU² mm²")
    axis.legend(fontsize=8)


def _rounded(value: float, digits: int) -> str:
    """To significant digits, whole numbers in full and never as a power of ten."""
    return f"{value:.0f}" if abs(value) >= 10.0**digits else f"{value:.{digits}g}"


def _unit(unit: str) -> str:
    return {"hu": "(HU)", "db": "(dB)", "mm": "(mm)", "per_mm": "(1/mm)", "fraction": "(fraction)"}.get(unit, "")
