"""A prognosis on one page: the patient's curve, the groups of the training cohort, the risk and where it comes from."""

import io
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from models.prognosis import GroupCurve
    from models.survival.interval import Interval

A4_INCH = (8.27, 11.69)
_FONT = "DejaVu Sans"
"""It comes with matplotlib: the page is the same on every machine."""
_STYLE: dict[Any, Any] = {
    "font.family": _FONT,
    "font.size": 9.0,
    "pdf.fonttype": 42,
    "pdf.compression": 6,
    "text.usetex": False,
    # A name or a remark with a dollar sign is no formula.
    "text.parse_math": False,
    "axes.unicode_minus": False,
}
_COLOURS = {"low": "tab:blue", "high": "tab:red"}
_LEFT, _RIGHT = 0.08, 0.95
_GAP = 0.1
"""Between two plots."""
_LINE = 0.0165
"""Height of a line of small text, as part of the page."""
_CHARACTERS = 104
"""In a line of small text."""
_TEXT_LINES = 22
"""Below the plots; what is more is cut, and the page says so."""
_UNPRINTABLE = "\N{WHITE SQUARE}"


@dataclass(frozen=True)
class PrognosisPage:
    """What is on the page; texts are plain."""

    title: str
    warnings: tuple[str, ...]
    """In red below the title, the first one large."""
    patient: tuple[tuple[str, str], ...]
    """Label and value."""
    statement: str
    """The prognosis in a few words."""
    curve_name: str
    curve_labels: tuple[str, ...]
    curve_values: tuple[float, ...]
    """The patient's, one for each label; none: no plot."""
    curves: "tuple[GroupCurve, ...]"
    """Of the training cohort by group; none: the probabilities are shown instead."""
    time_unit: str
    """Of curves and horizon, in words."""
    endpoint: str
    group: Literal["low", "high"] | None
    """The patient's; None where there is no prognosis."""
    probability: "Interval | None"
    horizon: float | None
    """Of the probability, in `time_unit`."""
    probabilities: tuple[tuple[float, bool], ...]
    """Of the training patients, with their outcome."""
    notes: tuple[tuple[str, str], ...] = field(default=())
    """Heading and text of each paragraph below the plots."""
    footer: str = ""


def prognosis_pdf_bytes(page: PrognosisPage) -> bytes:
    """The page as PDF, A4; the same page makes the same bytes."""
    with rc_context(_STYLE):
        buffer = io.BytesIO()
        empty = dict.fromkeys(("CreationDate", "ModDate", "Creator", "Producer"))
        _drawn(page).savefig(buffer, format="pdf", metadata=empty)
    return buffer.getvalue()


def prognosis_png(page: PrognosisPage, dots_per_inch: float = 110.0) -> bytes:
    """The page as a picture."""
    with rc_context(_STYLE):
        figure, buffer = _drawn(page), io.BytesIO()
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return buffer.getvalue()


def printable(text: str) -> str:
    """The text with a square for each character that the font lacks."""
    glyphs = get_font(findfont(FontProperties(family=_FONT))).get_charmap()
    return "".join(one if ord(one) in glyphs else _UNPRINTABLE for one in text)


def _drawn(page: PrognosisPage) -> Figure:
    figure = Figure(figsize=A4_INCH)
    top = _head(figure, page)
    plots = [_group_plot if page.curves else _probability_plot]
    if page.curve_values:
        plots.insert(0, _curve_plot)
    left = _LEFT + 0.02
    width = (_RIGHT - left - _GAP * (len(plots) - 1)) / len(plots)
    for number, plot in enumerate(plots):
        axes = figure.add_axes((left + number * (width + _GAP), top - 0.315, width, 0.285))
        plot(axes, page)
    _foot(figure, page, top - 0.39)
    return figure


def _head(figure: Figure, page: PrognosisPage) -> float:
    """Title, warnings, patient and statement; returns how far down they go."""
    y = 0.955
    _say(figure, y, page.title, size=16, weight="bold")
    for number, warning in enumerate(page.warnings):
        size, step = (19, 0.034) if number == 0 else (11, 0.022)
        y -= step
        _say(figure, y, warning, size=size, weight="bold", color="firebrick")
    y -= 0.03
    for number, (label, value) in enumerate(page.patient):
        x = _LEFT + (number % 2) * 0.45
        figure.text(x, y, f"{label}:", weight="bold")
        figure.text(x + 0.135, y, printable(value))
        y -= _LINE * 1.1 * (number % 2)
    y -= _LINE * (1.1 * (len(page.patient) % 2) + 0.6)
    for line in textwrap.wrap(page.statement, 80):
        _say(figure, y, line, size=11, weight="bold", color=_COLOURS.get(page.group or "", "black"))
        y -= 0.02
    return y


def _say(figure: Figure, y: float, text: str, **style: Any) -> None:
    figure.text(_LEFT, y, printable(text), **style)


def _curve_plot(axes: Axes, page: PrognosisPage) -> None:
    places = range(len(page.curve_values))
    axes.plot(places, page.curve_values, "o-", color="black", markersize=4)
    axes.set_xticks(places, [printable(one) for one in page.curve_labels], rotation=35, ha="right", fontsize=7)
    axes.set_title("This patient", fontsize=10)
    axes.set_ylabel(printable(page.curve_name))
    axes.grid(alpha=0.3)


def _group_plot(axes: Axes, page: PrognosisPage) -> None:
    """Kaplan-Meier of each group, that of the patient drawn thick, and the patient's own interval at the horizon."""
    for curve in sorted(page.curves, key=lambda one: one.group):
        draw_group(axes, curve, curve.group == page.group)
    if page.horizon is not None and page.probability is not None:
        free, low, high = (1.0 - one for one in (page.probability.value, page.probability.high, page.probability.low))
        spread = [[max(free - low, 0.0)], [max(high - free, 0.0)]]
        axes.errorbar([page.horizon], [free], yerr=spread, fmt="D", color="black", capsize=4, label="this patient")
    axes.set_ylim(0.0, 1.02)
    axes.set_xlim(left=0.0)
    axes.set_xlabel(f"time in {page.time_unit}")
    axes.set_ylabel(printable(f"part without {page.endpoint}"))
    axes.set_title("Training cohort (Kaplan-Meier, held out)", fontsize=10)
    axes.legend(fontsize=7, loc="lower left")
    axes.grid(alpha=0.3)


def draw_group(axes: Axes, curve: "GroupCurve", is_his: bool = False) -> None:
    """Kaplan-Meier of one group with its band; thick where it is that of the patient."""
    times, *lines = (_to_the_end(curve, values) for values in (curve.times, curve.survival, curve.low, curve.high))
    colour = _COLOURS[curve.group]
    label = f"{curve.group} risk: {curve.patients} patients, {curve.events} events"
    label += " (this patient's group)" if is_his else ""
    axes.step(times, lines[0], where="post", color=colour, linewidth=2.6 if is_his else 1.0, label=label)
    axes.fill_between(times, lines[1], lines[2], step="post", color=colour, alpha=0.25 if is_his else 0.08, lw=0)


def _to_the_end(curve: "GroupCurve", values: Sequence[float]) -> list[float]:
    """Times from 0 to the last that was watched; parts from 1, and the last one kept until there."""
    if values is curve.times:
        return [0.0, *curve.times, curve.last_watched]
    return [1.0, *values, values[-1] if values else 1.0]


def _probability_plot(axes: Axes, page: PrognosisPage) -> None:
    """Probabilities of the training patients by their outcome, and the patient's with its interval."""
    bins = [number / 20 for number in range(21)]
    for had, group, label in ((False, "low", "without"), (True, "high", "with")):
        values = [value for value, outcome in page.probabilities if outcome is had]
        if values:
            label = f"{len(values)} {label} the outcome"
            axes.hist(values, bins, color=_COLOURS[group], alpha=0.45, label=label)
    one = page.probability
    if one is not None:
        axes.axvspan(one.low, one.high, color="black", alpha=0.15, lw=0, label="95 % interval")
        axes.axvline(one.value, color="black", linewidth=2.2, label="this patient")
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel(printable(f"probability of {page.endpoint}"))
    axes.set_ylabel("training patients")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("Training cohort (held out)", fontsize=10)
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)


def _foot(figure: Figure, page: PrognosisPage, y: float) -> None:
    lines = list(_lines(page.notes))
    if len(lines) > _TEXT_LINES:
        rest = len(lines) - _TEXT_LINES + 1
        lines = [*lines[: _TEXT_LINES - 1], (f"{rest} more lines are in the structured report.", "bold")]
    for line, weight in lines:
        _say(figure, y, line, size=8, weight=weight)
        y -= _LINE
    for number, line in enumerate(textwrap.wrap(page.footer, 150)[:3]):
        _say(figure, 0.045 - number * 0.012, line, size=6, color="dimgrey")


def _lines(notes: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    for heading, text in notes:
        first, *rest = textwrap.wrap(f"{heading}: {text}", _CHARACTERS)
        yield first, "normal"
        yield from ((line, "normal") for line in rest)
