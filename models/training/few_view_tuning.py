"""The comparators' parameters, from training patients, so that each method is compared at its best."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.diffusion import DiffusionPrior
from models.metrics import psnr_db
from models.training.few_view_methods import (
    DDS,
    PRIOR,
    TV,
    Method,
    decomposed_sampling,
    prior_alone,
    total_variation,
)
from models.training.few_view_scans import ScannedPatient, ScannedSlices
from models.training.few_view_study import FewViewStudy
from models.training.progress import Progress

log = logging.getLogger(__name__)

_MOST_BEYOND = 5
"""Values that a grid may get beyond either end."""
_END = "nothing beyond it was tried"
_LEAST_GAIN_DB = 0.05
"""A neighbour that is better by less is no reason to go on: some parameters do better for ever, by next to nothing."""


@dataclass(frozen=True)
class Trial:
    """One value of one parameter."""

    method: str
    views: int
    value: float
    psnr_db: float
    """Mean over the training slices."""


@dataclass(frozen=True)
class Tuned:
    """Parameters of the comparators."""

    tv_weight_mm: Mapping[int, float]
    """By number of views."""
    prior_depth: int
    dds_data_weight: float
    trials: Sequence[Trial] = ()

    def words(self) -> dict[str, str]:
        """By method, for a report."""
        weights = ", ".join(f"{weight:g} mm at {views} views" for views, weight in self.tv_weight_mm.items())
        ended = [views for views, weight in self.tv_weight_mm.items() if self._is_end(TV, weight, views)]
        weights += "".join(f"; at {views} views {_END}" for views in ended)
        others = {PRIOR: ("depth", self.prior_depth), DDS: ("data weight", self.dds_data_weight)}
        return {TV: weights} | {
            method: f"{name} {value:g}" + f"; {_END}" * self._is_end(method, value)
            for method, (name, value) in others.items()
        }

    def _is_end(self, method: str, value: float, views: int | None = None) -> bool:
        """Whether a value is the least or the largest that was tried."""
        tried = [one.value for one in self.trials if one.method == method and views in (None, one.views)]
        return bool(tried) and not min(tried) < value < max(tried)


def climbed(
    grid: Sequence[float],
    score: Callable[[float], float],
    start: float,
    limits: tuple[float, float] = (0.0, np.inf),
) -> tuple[float, dict[float, float]]:
    """Value with the best score, and all scores it took: from the start to the better neighbour, and so to the top.

    No neighbour is better by 0.05 (dB), so it is not at an end of what was tried: a grid whose end is the best goes on
    in the ratio of its last two, up to five values farther and within the limits.
    """
    values = _longer(sorted(grid), limits)
    scores: dict[float, float] = {}
    at = values.index(start)
    while True:
        beside = [number for number in (at, at - 1, at + 1) if 0 <= number < len(values)]
        for number in beside:
            if values[number] not in scores:
                scores[values[number]] = score(values[number])
        best = max(beside, key=lambda number: scores[values[number]])
        if scores[values[best]] <= scores[values[at]] + _LEAST_GAIN_DB:
            return values[at], scores
        at = best


def tuned(patients: Sequence[ScannedPatient], prior: DiffusionPrior, study: FewViewStudy, progress: Progress) -> Tuned:
    """Climb to the best mean PSNR: total variation for each number of views, the others at the reference views."""
    weights: dict[int, float] = {}
    depth, data_weight = 0.0, 0.0
    trials: list[Trial] = []
    weight_mm = _middle(study.tv_grid_mm)
    for done, views in enumerate(sorted(study.views, reverse=True)):
        progress(done / len(study.views), "tuning comparators")
        search = _Search(views, [patient.scan(patient.projector(views), study.photons) for patient in patients])
        # The next number of views is likely to want much the same weight.
        start_mm = min(study.tv_grid_mm, key=lambda mm, near=weight_mm: abs(mm - near))  # type: ignore[misc]
        weight_mm = weights[views] = search.best(
            lambda value: total_variation(value, study.tv_iterations), study.tv_grid_mm, start_mm
        )
        if views == study.reference_views:
            depth = search.best(
                lambda value: prior_alone(prior, round(value), study.prior_steps, study.tuning_seed),
                study.prior_grid,
                _middle(study.prior_grid),
                limits=(1.0, prior.schedule.steps),
            )
            data_weight = search.best(
                lambda value: decomposed_sampling(prior, value, study.dds_steps, study.tuning_seed),
                study.dds_grid,
                _middle(study.dds_grid),
            )
        trials += search.trials
    return Tuned(weights, round(depth), data_weight, trials)


def mean_psnr_db(method: Method, scans: Sequence[ScannedSlices]) -> float:
    """Over all slices of all scans."""
    found = []
    for scan in scans:
        images = scan.in_hu(method.run(scan))
        found += [psnr_db(*planes) for planes in zip(images, scan.truth, scan.region, strict=True)]
    return float(np.mean(found))


@dataclass
class _Search:
    """Searches at one number of views, and what they tried."""

    views: int
    scans: Sequence[ScannedSlices]
    trials: list[Trial] = field(default_factory=list)

    def best(
        self,
        make: Callable[[float], Method],
        grid: Sequence[float],
        start: float,
        limits: tuple[float, float] = (0.0, np.inf),
    ) -> float:
        """Value with which a method does best."""
        value, scores = climbed(grid, lambda value: mean_psnr_db(make(value), self.scans), start, limits)
        name = make(value).name
        self.trials += [Trial(name, self.views, tried, score) for tried, score in sorted(scores.items())]
        log.info("comparator tuned", extra={"method": name, "views": self.views, "value": value, "tried": len(scores)})
        return value


def _middle(grid: Sequence[float]) -> float:
    return sorted(grid)[len(grid) // 2]


def _longer(values: list[float], limits: tuple[float, float]) -> list[float]:
    """With values beyond both ends, in the ratio of the last two."""
    below, above = values[0] / values[1], values[-1] / values[-2]
    fewer = [values[0] * below**n for n in range(_MOST_BEYOND, 0, -1)]
    more = [values[-1] * above**n for n in range(1, _MOST_BEYOND + 1)]
    return [value for value in [*fewer, *values, *more] if limits[0] <= value <= limits[1]]
