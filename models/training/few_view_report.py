"""The report of an evaluation of few-view reconstruction: one table, what it says about the goals, one page."""

import base64
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment

from models.training.few_view_goals import goals
from models.training.few_view_measures import Measured, Recovered
from models.training.few_view_methods import DDS, PRIOR, TITLES, TV, title
from models.training.few_view_scans import Condition
from models.training.few_view_study import FewViewStudy
from models.training.few_view_tuning import Tuned
from models.training.report import figure_name
from models.weights import Card

_MEASURES: Mapping[tuple[str, str], tuple[str, int]] = {
    ("psnr", "db"): ("PSNR (dB)", 2),
    ("ssim", ""): ("SSIM", 4),
    ("ssim_soft_tissue", ""): ("SSIM soft tissue", 3),
    ("rmse", "hu"): ("RMSE (HU)", 1),
    ("edge_rise", "mm"): ("edge 10-90 % (mm)", 2),
    ("chi_squared", ""): ("chi² of the data", 2),
    ("invented", "per_slice"): ("invented blobs", 1),
    ("erased", "per_slice"): ("erased blobs", 1),
    ("time", "s"): ("time (s)", 1),
    ("cpu_time", "s"): ("CPU time (s)", 1),
    ("peak_memory", "mib"): ("peak memory (MiB)", 0),
}
"""Columns of the table with their digits; time is that of a slice."""
_KINDS: Mapping[str, str] = {"bright": "disc +50 HU", "dark": "disc -50 HU", "plus": "plus +50 HU"}
_METHOD_UNDER_TEST = "_ours_"

_HEADING = """\
{patients} test patients, up to {slices} slices of each; simulated fan beam of 595 mm source to axis, measured
inside the body and the circle that every view sees. Parts are those of {usual} views in a full turn. Mean over patients
(SD over slices); n is the number of slices. The rise of an edge is that of the mean edge of the truth, edges
that stand alone. Blobs are counted in the difference to the truth over discs of 5 mm, beyond 25 HU: invented where the
image stands out more than the truth does, erased where less. Memory is that of the whole process."""

_HTML = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Reconstruction from few views with {{ card.name }}</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 96rem; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-bottom: 1.5rem; }
th, td { border-bottom: 1px solid #ccc; padding: .2rem .5rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td:nth-child(2) { text-align: left; } .ours { background: #eef4ff; }
img { max-width: 100%; }
</style></head><body>
<h1>Reconstruction from few views with {{ card.name }}</h1>
<p>{{ heading }} Weights SHA-256 {{ card.sha256 }}.</p>
<ul>{% for sentence in sentences %}<li>{{ sentence }}</li>{% endfor %}</ul>
{% for header, rows in tables %}<table><thead><tr>{% for cell in header %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>{% for cells in rows %}<tr{% if cells[1].startswith("ours") %} class="ours"{% endif %}>
{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
{% endfor %}
{% for png in pictures %}<p><img alt="" src="data:image/png;base64,{{ png }}"></p>
{% endfor %}</body></html>
"""


@dataclass(frozen=True)
class FewViewReport:
    """What was measured of every method, slice and lesion."""

    card: Card
    study: FewViewStudy
    patient_ids: Sequence[str]
    rows: Sequence[Measured]
    lesions: Sequence[Recovered]
    tuned: Tuned | None
    parameters: Mapping[str, str]
    """Of every method, in words."""
    growth_seconds: Mapping[int, float] = field(default_factory=dict)
    """CPU time of the method under test for so many slices together."""

    def methods(self) -> list[str]:
        """Who was measured, in the order of the table."""
        found = dict.fromkeys(row.method for row in self.rows)
        order = [*TITLES, *sorted(found.keys() - TITLES.keys(), key=lambda name: (len(name), name))]
        return [name for name in order if name in found]

    def mean(self, measure: str, method: str, condition: Condition) -> float | None:
        """Mean over patients of the means over their slices; None where it was not measured."""
        by_patient: dict[str, list[float]] = {}
        for row in self._rows_of(method, condition):
            value = _named(row, measure)
            if value is not None:
                by_patient.setdefault(row.patient_id, []).append(value)
        return float(np.mean([np.mean(values) for values in by_patient.values()])) if by_patient else None

    def margin(self, measure: str, method: str, other: str, condition: Condition) -> tuple[float, int] | None:
        """Method minus other, mean over patients of the slices that both were measured on, and their number."""
        theirs = {(row.patient_id, row.number): _named(row, measure) for row in self._rows_of(other, condition)}
        by_patient: dict[str, list[float]] = {}
        for row in self._rows_of(method, condition):
            mine, its = _named(row, measure), theirs.get((row.patient_id, row.number))
            if mine is not None and its is not None:
                by_patient.setdefault(row.patient_id, []).append(mine - its)
        if not by_patient:
            return None
        return float(np.mean([np.mean(values) for values in by_patient.values()])), sum(map(len, by_patient.values()))

    def shares(self, method: str, condition: Condition, kind: str) -> list[float]:
        """Recovered contrast of every lesion of a kind."""
        return [one.share for one in self.lesions if (one.method, one.condition, one.kind) == (method, condition, kind)]

    def figures(self) -> dict[str, float]:
        """Every cell of the tables by name; SD under NAME_sd."""
        found: dict[str, float] = {}
        for condition, method in self._pairs():
            who = f"{method}_{_condition_name(condition, self.study)}"
            for (name, unit), values in self._values(method, condition).items():
                key = figure_name(name, who, unit)
                found[key] = self.mean(name, method, condition) or 0.0
                found[f"{key}_sd"] = _sd(values)
            for kind in _KINDS:
                shares = self.shares(method, condition, kind)
                if shares:
                    key = figure_name(f"recovery_{kind}", who, "")
                    found[key], found[f"{key}_sd"] = float(np.mean(shares)), _sd(shares)
        found |= {f"cpu_time_ours_{slices}_slices_s": seconds for slices, seconds in self.growth_seconds.items()}
        return {**found, "patients": float(len(self.patient_ids))}

    def tables(self) -> list[tuple[list[str], list[list[str]]]]:
        """Header and rows of the table of quality and of the one of lesions."""
        quality = ["views", "method", "n", *(label for label, _ in _MEASURES.values())]
        tables = [(quality, list(self._quality_rows()))]
        if self.lesions:
            lesions = [f"contrast recovery, {label}" for label in _KINDS.values()]
            tables.append((["views", "method", *lesions], list(self._lesion_rows())))
        return tables

    def sentences(self) -> list[str]:
        """What the figures say about the goals, and how it was run."""
        # That of total variation depends on the views, so it is told below.
        said = [f"{title(name)}: {words}." for name, words in self.parameters.items() if words and name != TV]
        if self.tuned is not None:
            tuned = "; ".join(f"{title(name)} ({words})" for name, words in self.tuned.words().items())
            said.append(
                f"Tuned on training patients for PSNR at {self.study.photons:.0e} photons, and used at others as well: "
                f"{tuned}. {title(TV)} takes {self.study.tv_iterations} iterations; {title(PRIOR)} and {title(DDS)} "
                f"were tuned at {self.study.reference_views} views."
            )
        if self.growth_seconds:
            times = ", ".join(f"{n} in {seconds:.1f} s" for n, seconds in self.growth_seconds.items())
            said.append(f"CPU time of {title('ours')} at {self.study.reference_views} views by slices: {times}.")
        return [*goals(self), *said, f"Test patients: {', '.join(self.patient_ids)}."]

    def heading(self) -> str:
        """What was measured on what."""
        return _HEADING.format(
            patients=len(self.patient_ids), slices=self.study.slices, usual=self.study.usual_views
        ).replace("\n", " ")

    def markdown(self) -> str:
        """Tables and sentences, for a card."""
        tables = [
            "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows])
            for header, rows in self.tables()
        ]
        return "\n\n".join([self.heading(), *tables, "\n".join(f"- {one}" for one in self.sentences())]) + "\n"

    def record(self) -> dict[str, Any]:
        """Everything beside the rows, as a program would read it."""
        trials = [] if self.tuned is None else [vars(trial) for trial in self.tuned.trials]
        facts = {"weights": self.card.name, "sha256": self.card.sha256, "parameters": dict(self.parameters)}
        return {**facts, "study": vars(self.study), "tuning": trials, "sentences": self.sentences()}

    def _pairs(self) -> list[tuple[Condition, str]]:
        """Conditions and the methods that were measured there, in the order of the table."""
        found = {(row.condition, row.method) for row in self.rows}
        pairs = ((condition, method) for condition in self.study.conditions() for method in self.methods())
        return [pair for pair in pairs if pair in found]

    def _rows_of(self, method: str, condition: Condition) -> list[Measured]:
        return [row for row in self.rows if (row.method, row.condition) == (method, condition)]

    def _values(self, method: str, condition: Condition) -> dict[tuple[str, str], list[float]]:
        """Of all slices, by (name, unit)."""
        found: dict[tuple[str, str], list[float]] = {}
        for row in self._rows_of(method, condition):
            for key, value in row.values.items():
                found.setdefault(key, []).append(value)
        return found

    def _quality_rows(self) -> Iterator[list[str]]:
        for condition, method in self._pairs():
            values = self._values(method, condition)
            cells = [
                f"{self.mean(key[0], method, condition):.{digits}f} ({_sd(values[key]):.{digits}f})"
                if key in values
                else ""
                for key, (_, digits) in _MEASURES.items()
            ]
            yield [self._label(condition), title(method), str(len(self._rows_of(method, condition))), *cells]

    def _lesion_rows(self) -> Iterator[list[str]]:
        for condition, method in self._pairs():
            by_kind = [self.shares(method, condition, kind) for kind in _KINDS]
            if any(by_kind):
                cells = [f"{np.mean(some):.2f} ({_sd(some):.2f}) n={len(some)}" if some else "" for some in by_kind]
                yield [self._label(condition), title(method), *cells]

    def _label(self, condition: Condition) -> str:
        return f"{condition.views} ({self.study.part(condition.views)}), {condition.photons:.0e} photons"


def of_method_under_test(figure: str) -> bool:
    """Whether a figure belongs into the card of the prior as one of the method."""
    return _METHOD_UNDER_TEST in figure and not figure.endswith("_sd")


def write_rows(report: FewViewReport, folder: Path) -> None:
    """One row for each slice, method and condition, and one for each lesion: slices.csv and lesions.csv."""
    named = [
        {
            "slice": row.number,
            **_who(row),
            **{figure_name(name, "", unit): f"{v:.6g}" for (name, unit), v in row.values.items()},
        }
        for row in report.rows
    ]
    _write_csv(folder / "slices.csv", named)
    lesions = [
        {"slice": one.number, **_who(one), "kind": one.kind, "recovery": f"{one.share:.4g}"} for one in report.lesions
    ]
    if lesions:
        _write_csv(folder / "lesions.csv", lesions)


def write_html(report: FewViewReport, pictures: Sequence[Path], html: Path) -> None:
    """One page with tables and pictures inside."""
    content = (
        Environment(autoescape=True)
        .from_string(_HTML)
        .render(
            card=report.card,
            heading=report.heading(),
            sentences=report.sentences(),
            tables=report.tables(),
            pictures=[base64.b64encode(picture.read_bytes()).decode() for picture in pictures],
        )
    )
    html.write_text(content, encoding="utf-8")


def _who(row: Measured | Recovered) -> dict[str, Any]:
    condition = row.condition
    return {"patient": row.patient_id, "method": row.method, "views": condition.views, "photons": condition.photons}


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _condition_name(condition: Condition, study: FewViewStudy) -> str:
    many = "" if condition.photons == study.photons else f"_{condition.photons:.0f}_photons"
    return f"{condition.views}_views{many}"


def _named(row: Measured, measure: str) -> float | None:
    return next((value for (name, _), value in row.values.items() if name == measure), None)


def _sd(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
