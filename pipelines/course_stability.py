"""Which features of a course survive another outline and more noise: measured on the first images of some patients."""

import csv
import logging
from collections.abc import Iterable
from pathlib import Path

from models.feature_robustness import FeatureStability, robustness, stable_features, standard_perturbations
from pipelines.base import InputRejected, PipelineError
from pipelines.course_features import CourseReader, CourseSources

TABLE = "feature_stability.csv"
_PART_OF_VOXEL = 0.75

log = logging.getLogger(__name__)


def unstable_features(
    reader: CourseReader, patients: Iterable[CourseSources], wanted: int, output: Path
) -> frozenset[str]:  # fmt: skip
    """Names of the features that do not repeat with an ICC of 0.75; a table of all of them in `output`.

    Parameters
    ----------
    reader
        How features are computed.
    patients
        The first of them who can be used are.
    wanted
        How many; with less than two nothing is measured, and nothing is left out.
    output
        Made where absent.

    Raises
    ------
    PipelineError
        If fewer than two patients can be used.
    """
    if wanted < 2:
        return frozenset()
    subjects = []
    for sources in patients:
        try:
            subjects.append(reader.first_subject(sources))
        except InputRejected as error:
            log.warning("patient left out of the stability of features", extra={"reason": str(error)})
        if len(subjects) == wanted:
            break
    if len(subjects) < 2:
        raise PipelineError("The stability of features can not be measured: fewer than two patients can be used")
    rows: list[tuple[str, FeatureStability]] = []
    unstable: set[str] = set()
    for image, settings in reader.extraction.features.items():
        by_mm = max(1.0, _PART_OF_VOXEL * settings.resampling.spacing_mm if settings.resampling else 0.0)
        found = robustness(subjects, settings, standard_perturbations(shift_mm=by_mm, size_mm=by_mm))
        stable = {tag for tag, _ in stable_features(found)}
        unstable |= {f"{one.tag}@{image}" for one in found if one.tag not in stable}
        rows += [(f"{one.tag}@{image}", one) for one in found]
    _write(output, rows)
    return frozenset(unstable)


def _write(output: Path, rows: Iterable[tuple[str, FeatureStability]]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    with (output / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("feature", "perturbation", "icc", "least_concordance", "cov"))
        for name, one in rows:
            writer.writerow((name, one.perturbation, *(f"{x:.4f}" for x in (one.icc, one.least_concordance, one.cov))))
