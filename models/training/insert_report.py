"""What a model makes of a real phantom: HU of the inserts of a CatPhan before and after, as table and picture."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.inference import EnhancementModel, enhanced
from models.insert_phantom import INSERTS, insert_places
from models.intensity import Hu
from models.training.volumes import TrainingVolume

_DISPLAY_HU = (-300.0, 450.0)


@dataclass(frozen=True)
class InsertResult:
    """One phantom: mean HU of every insert, and the slice that shows them."""

    before: Mapping[str, float]
    after: Mapping[str, float]
    planes: tuple[Hu, Hu]

    def mae_hu(self, means: Mapping[str, float]) -> float:
        """Mean over the inserts of the absolute error."""
        return float(np.mean([abs(means[name] - insert.hu) for name, insert in INSERTS.items()]))


def measured_inserts(model: EnhancementModel, volumes: Sequence[TrainingVolume]) -> list[InsertResult]:
    """Results of the volumes that show the module of a CatPhan 504; real images, enhanced whole."""
    results = []
    for volume in volumes:
        places = insert_places(volume.hu_zyx, volume.spacing_zyx_mm)
        if places is None:
            continue
        after = enhanced(model, volume.hu_zyx, volume.spacing_zyx_mm)
        both = (volume.hu_zyx, after)
        before_hu, after_hu = (places.measured(hu_zyx, volume.spacing_zyx_mm) for hu_zyx in both)
        results.append(InsertResult(before_hu, after_hu, (both[0][places.slice_index], both[1][places.slice_index])))
    return results


def insert_figures(results: Sequence[InsertResult]) -> dict[str, float]:
    """Mean error of the inserts before and after, mean over the phantoms; empty without a phantom."""
    if not results:
        return {}
    before, after = (
        float(np.mean([result.mae_hu(means) for result, means in zip(results, column, strict=True)]))
        for column in ([result.before for result in results], [result.after for result in results])
    )
    return {"insert_mae_before_hu": before, "insert_mae_after_hu": after, "insert_phantoms": float(len(results))}


def insert_sentence(results: Sequence[InsertResult]) -> str:
    """The error before and after, in words."""
    figures = insert_figures(results)
    before, after = figures["insert_mae_before_hu"], figures["insert_mae_after_hu"]
    phantoms = f"{len(results)} real phantom{'s' if len(results) > 1 else ''}"
    return f"Inserts of {phantoms}: mean error {before:.1f} HU before, {after:.1f} HU after."


def write_inserts(results: Sequence[InsertResult], output: Path) -> None:
    """Write inserts.csv (a row for each insert) and inserts.png (the slice before and after)."""
    with (output / "inserts.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["phantom", "insert", "nominal_hu", "before_hu", "after_hu"])
        for number, result in enumerate(results):
            for name, insert in INSERTS.items():
                writer.writerow([number, name, insert.hu, f"{result.before[name]:.1f}", f"{result.after[name]:.1f}"])
    _draw(results, output / "inserts.png")


def _draw(results: Sequence[InsertResult], png: Path) -> None:
    figure = Figure(figsize=(9.0, 4.5 * len(results)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(results), 2, squeeze=False)
    for axes, result in zip(grid, results, strict=True):
        for axis, plane, means, when in zip(
            axes, result.planes, (result.before, result.after), ("before", "after"), strict=True
        ):
            axis.imshow(plane, cmap="gray", vmin=_DISPLAY_HU[0], vmax=_DISPLAY_HU[1])
            axis.set_title(f"{when}: mean error of the inserts {result.mae_hu(means):.1f} HU")
            axis.set_axis_off()
    figure.savefig(png, dpi=100)
