"""Learning curve of a training log."""

import csv
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_learning_curve(log: Path, png: Path, what: str = "weighted loss") -> None:
    """Draw every column of the CSV log, which are `what`, against the number of updates; nothing without a row."""
    if not log.exists():
        return
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    updates = [int(row["update"]) for row in rows]
    for term in (name for name in rows[0] if name != "update"):
        values = [float(row[term] or "nan") for row in rows]
        if not all(np.isnan(values)):
            axes.plot(updates, values, label=term.replace("_", " "))
    axes.set_yscale("log")
    axes.set_xlabel("updates")
    axes.set_ylabel(what)
    axes.legend()
    figure.savefig(png, dpi=100)
