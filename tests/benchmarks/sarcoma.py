"""Features of real tumours to a real outcome: soft-tissue sarcoma in CT, lung metastases or not, by cross-validation.

python -m tests.benchmarks.sarcoma [repeats] [permutations]

The images, cut out around a GTV that an expert drew, and the outcomes lie below RTNODE_DATA (Vallieres et al., Phys Med
Biol 2015, doi 10.1088/0031-9155/60/14/5471, CC BY 3.0). Nothing is chosen by the result: the settings stand here, and
the volume alone is measured beside them. So few patients make wide intervals.
"""

import csv
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models.classification import LogisticSettings
from models.feature_settings import FeatureSettings
from models.outcomes import CohortStatement, Outcomes
from models.radiomics import features
from models.training.prognosis_learning import learning
from models.training.prognosis_sets import PatientFeatures, feature_tables
from models.training.prognosis_settings import PrognosisTraining

FOLDER = Path(os.environ.get("RTNODE_DATA", Path(__file__).parents[3] / "shared" / "data"))
_RESAMPLED = {"spacing_mm": 3.0, "interpolation": "linear"}
SETTINGS = {
    "original": FeatureSettings.model_validate(
        {
            "resampling": _RESAMPLED,
            "resegmentation_range": (-150.0, 250.0),
            "discretisation": {"method": "fixed_bin_size", "width": 20.0},
            "families": ("morphology", "statistics", "glcm", "glrlm", "glszm"),
        }
    ),
    "log_3mm": FeatureSettings.model_validate(
        {
            "resampling": _RESAMPLED,
            "resegmentation_range": (-150.0, 250.0),
            "discretisation": {"method": "fixed_bin_number", "bins": 32},
            "filter": {"kind": "laplacian_of_gaussian", "sigma_mm": 3.0},
            "families": ("statistics",),
        }
    ),
}


def outcomes() -> dict[str, bool]:
    """Lung metastases by patient."""
    with (FOLDER / "survival_tables" / "sts_lung_mets_outcome.csv").open(newline="", encoding="utf-8") as file:
        return {row["patient"]: row["lung_metastases"] == "1" for row in csv.DictReader(file)}


def measured(path: Path) -> PatientFeatures:
    """Features of one tumour: all of them, and the volume alone."""
    with np.load(path) as content:
        hu_zyx, mask_zyx = content["ct"].astype(np.float32), content["mask"]
        slice_mm, row_mm, column_mm = (float(mm) for mm in content["spacing_zyx"])
    values = {
        f"{one.tag}@{name}": one.value
        for name, settings in SETTINGS.items()
        for one in features(hu_zyx, mask_zyx, (slice_mm, row_mm, column_mm), settings)
    }
    return PatientFeatures(
        path.stem, {"radiomics": values, "volume": {"morph_volume": values["morph_volume@original"]}}
    )


def lines(repeats: int, permutations: int) -> Iterator[str]:
    """The size of the cohort, then a line for each set."""
    started = time.process_time()
    paths = sorted((FOLDER / "sts_ct_npz").glob("STS_*.npz"))
    tables = feature_tables([measured(path) for path in paths])
    statement = CohortStatement(name="soft-tissue sarcoma", endpoint="lung metastases")
    found = Outcomes(statement, {path.stem: outcomes()[path.stem] for path in paths})
    patients = tables["radiomics"].patients
    seconds = time.process_time() - started
    yield f"{len(patients)} patients, {int(found.events(patients).sum())} with lung metastases; {seconds:.0f} CPU s"
    settings = PrognosisTraining(
        feature_set="radiomics",
        folds=5,
        repeats=repeats,
        permutations=permutations,
        logistic=LogisticSettings(inverse_penalties=(0.03, 0.1, 0.3)),
    )
    way = learning(found, settings)
    for name, table in tables.items():
        one, p = way.validated(table), way.permutation_p(table)
        assert one.pr_auc is not None
        yield (
            f"{name:<10} {len(table.names):>4} features  "
            f"ROC-AUC {one.score.value:.3f} ({one.score.low:.3f} to {one.score.high:.3f})  "
            f"PR-AUC {one.pr_auc.value:.3f} ({one.pr_auc.low:.3f} to {one.pr_auc.high:.3f})  permutation p {p:.3f}"
        )


def main(repeats: int = 10, permutations: int = 99) -> None:
    """Print the table."""
    for line in lines(repeats, permutations):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
