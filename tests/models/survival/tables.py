"""Two public tables of features and survival, where this machine has them (RTNODE_DATA).

LUMIERE: glioblastoma, 90 patients of whom MR was taken again and again, one row for each time between two images.
Lung1 (NSCLC-Radiomics): lung cancer, 421 patients, CT features and stage; CC BY-NC, so it serves to test only.
"""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from models.survival.cohort import Cohort, cohort

FOLDER = Path(os.environ.get("RTNODE_DATA", Path(__file__).parents[4] / "shared" / "data")) / "survival_tables"
LUMIERE, LUNG1 = FOLDER / "lumiere_delta_radiomics.csv", FOLDER / "lung1_radiomics_clinical_421x200.csv"
Row = Mapping[str, str]
_STAGES = ("I", "II", "IIIa", "IIIb")


def rows_of(path: Path, complete: Sequence[str] = ()) -> list[Row]:
    """Rows that have a value in these columns; in all, unless some are named."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if all(row[name] not in ("", "NA") for name in complete or row)]


def lumiere() -> Cohort:
    """Shape and texture of the tumour between its images, in weeks; rows without features are left out."""
    with LUMIERE.open(newline="", encoding="utf-8") as file:
        names = [name for name in next(csv.reader(file)) if name.startswith("original_")]
    rows = rows_of(LUMIERE, names)
    numbers = {name: index for index, name in enumerate(sorted({row["Patient"] for row in rows}))}
    return cohort(
        [[float(row[name]) for name in names] for row in rows],
        names,
        column(rows, "stop"),
        column(rows, "event"),
        start=column(rows, "start"),
        patient=[numbers[row["Patient"]] for row in rows],
        time_unit="wk",
    )


def lung1() -> dict[str, Cohort]:
    """By set of features: clinical, radiomics, both; in days."""
    rows = [row for row in rows_of(LUNG1) if row["Overall.Stage"] in _STAGES]
    radiomics = [name for name in rows[0] if name.startswith(("original_", "wavelet-"))]
    clinical: dict[str, Callable[[Row], float]] = {
        "age": lambda row: float(row["age"]),
        "T": lambda row: float(row["clinical.T.Stage"]),
        "N": lambda row: float(row["Clinical.N.Stage"]),
        "M": lambda row: float(row["Clinical.M.Stage"] != "0"),
        "stage": lambda row: float(_STAGES.index(row["Overall.Stage"])),
        "male": lambda row: float(row["gender"] == "male"),
    }
    images = np.array([[float(row[name]) for name in radiomics] for row in rows])
    persons = np.array([[value(row) for value in clinical.values()] for row in rows])
    sets = {
        "clinical": (persons, list(clinical)),
        "radiomics": (images, radiomics),
        "both": (np.hstack([persons, images]), [*clinical, *radiomics]),
    }
    time, event = column(rows, "Survival.time"), column(rows, "deadstatus.event")
    return {name: cohort(values, names, time, event) for name, (values, names) in sets.items()}


def column(rows: Sequence[Row], name: str) -> list[float]:
    """Numbers of one column."""
    return [float(row[name]) for row in rows]
