"""The report of a study of windows and class weights: a row for each training, a table, a figure and one sentence."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.training.segmentation_settings import SegmentationSettings
from models.training.segmentation_study import WEIGHTS, WINDOWS_HU, VariantResult, write_rows

CSV, MARKDOWN, PNG = "segmentation_ablation.csv", "segmentation_ablation.md", "segmentation_ablation.png"
_COLOURS = dict(zip(WINDOWS_HU, ("tab:orange", "tab:blue", "tab:green"), strict=True))
_LINES = dict(zip(WEIGHTS, ("-", "--", ":"), strict=True))

_TEXT = """\
# Windows and class weights of a segmentation

{sentence}

One training for each row, seed {seed}, {updates} updates of {batch} patches of {patch} voxels at {spacing} mm, all else
the same. Dice over the same patches of the validation patients, after {early} updates and at the end ({late}); the test
patients were not used. One training each: how much another seed would change is not known.

{table}

Windows: air to soft tissue is [-1200, 100] HU, soft tissue [-160, 240] HU; all of the settings: {windows}. Weights as
published: the smallest organ 1000, the next 100, all else 1.

![Dice against the number of updates]({png})
"""


def write_report(results: Sequence[VariantResult], settings: SegmentationSettings, output: Path) -> str:
    """Write rows, table and figure into `output`; the sentence that answers."""
    output.mkdir(parents=True, exist_ok=True)
    write_rows(output / CSV, results)
    _draw(results, output / PNG)
    answer = sentence(results)
    text = _TEXT.format(
        sentence=answer,
        seed=settings.seed,
        updates=settings.updates,
        batch=settings.batch,
        patch=" x ".join(str(n) for n in settings.patch_zyx),
        spacing=" x ".join(f"{mm:g}" for mm in settings.spacing_zyx_mm),
        early=results[0].updates[_early(results[0])],
        late=results[0].updates[-1],
        table=_table(results),
        windows=", ".join(f"[{low:g}, {high:g}]" for low, high in settings.windows_hu),
        png=PNG,
    )
    (output / MARKDOWN).write_text(text, encoding="utf-8")
    return answer


def sentence(results: Sequence[VariantResult]) -> str:
    """Which was best late, and what the early ones had said."""
    late = max(results, key=lambda one: one.mean(-1))
    early = max(results, key=lambda one: one.mean(_early(one)))
    said = f"Best at the end: windows {_words(late)}, mean Dice {late.mean(-1):.3f}"
    if early is late:
        return f"{said}; it was the best after {early.updates[_early(early)]} updates too."
    return (
        f"{said}; after {early.updates[_early(early)]} updates the best was windows {_words(early)} "
        f"({early.mean(_early(early)):.3f}; {early.mean(-1):.3f} at the end)."
    )


def _early(one: VariantResult) -> int:
    """Row after about a fifth of the updates."""
    return max(0, round(len(one.updates) / 5) - 1)


def _words(one: VariantResult) -> str:
    return f"{one.variant.windows}, weights {one.variant.weights}"


def _table(results: Sequence[VariantResult]) -> str:
    organs = list(results[0].dice)
    lines = [
        f"| windows | weights | mean, early | mean, end | {' | '.join(f'{organ}, end' for organ in organs)} |",
        f"|{'---|' * (4 + len(organs))}",
    ]
    for one in results:
        ends = " | ".join(f"{one.dice[organ][-1]:.3f}" for organ in organs)
        early, end = one.mean(_early(one)), one.mean(-1)
        lines.append(f"| {one.variant.windows} | {one.variant.weights} | {early:.3f} | {end:.3f} | {ends} |")
    return "\n".join(lines)


def _draw(results: Sequence[VariantResult], png: Path) -> None:
    smallest = min(results[0].dice, key=lambda organ: results[0].dice[organ][-1])
    figure = Figure(figsize=(11, 5), layout="constrained")
    FigureCanvasAgg(figure)
    whole, hardest = figure.subplots(1, 2, sharey=True)
    for one in results:
        _curve(whole, one, [one.mean(row) for row in range(len(one.updates))])
        _curve(hardest, one, one.dice[smallest])
    whole.set_title("mean over the organs")
    hardest.set_title(smallest)
    whole.set_ylabel("Dice, validation patches")
    whole.legend(fontsize="small")
    figure.savefig(png, dpi=100)


def _curve(axes: Axes, one: VariantResult, values: Sequence[float]) -> None:
    axes.plot(
        one.updates, values, _LINES[one.variant.weights], color=_COLOURS[one.variant.windows], label=_words(one)
    )  # fmt: skip
    axes.set_xlabel("updates")
