"""What reconstruction from few views has to show, and whether the figures show it: met or missed, with the numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from models.training.few_view_measures import Measured
from models.training.few_view_methods import DDS, FBP_HANN, FBP_RAMP, IR, OURS, PRIOR, TV, title
from models.training.few_view_scans import Condition
from models.training.few_view_study import FewViewStudy

_PSNR_MARGIN_DB, _SSIM_MARGIN = 2.0, 0.03
_RECOVERY_MARGIN = 0.2
_MOST_SECONDS = 30.0
_LINEAR_WITHIN = 0.1
"""How much more a slice may take among others than alone."""


class Figures(Protocol):
    """What was measured, as a report has it."""

    @property
    def study(self) -> FewViewStudy: ...  # noqa: D102
    @property
    def rows(self) -> Sequence[Measured]: ...  # noqa: D102
    @property
    def growth_seconds(self) -> Mapping[int, float]: ...  # noqa: D102
    def mean(self, measure: str, method: str, condition: Condition) -> float | None: ...  # noqa: D102
    def margin(self, measure: str, method: str, other: str, condition: Condition) -> tuple[float, int] | None: ...  # noqa: D102
    def shares(self, method: str, condition: Condition, kind: str) -> list[float]: ...  # noqa: D102


def goals(figures: Figures) -> list[str]:
    """One sentence for each goal that was measured, beginning with `met` or `MISSED`."""
    study = figures.study
    tenth, twentieth = (Condition(views, study.photons) for views in study.lesion_views())
    return [
        *_quality(figures, tenth, TV, _PSNR_MARGIN_DB, _SSIM_MARGIN),
        *(
            sentence
            for other in (_better_fbp(figures, tenth), IR, PRIOR)
            for sentence in _quality(figures, tenth, other)
        ),
        *_quality(figures, twentieth, TV),
        *_reported(figures, tenth),
        *_lesions(figures, tenth),
        *_time(figures, tenth),
    ]


def _better_fbp(figures: Figures, condition: Condition) -> str:
    return max((FBP_HANN, FBP_RAMP), key=lambda name: figures.mean("psnr", name, condition) or -np.inf)


def _quality(
    figures: Figures, condition: Condition, other: str, psnr_db: float = 0.0, similarity: float = 0.0
) -> Iterator[str]:
    psnr, ssim = (figures.margin(measure, OURS, other, condition) for measure in ("psnr", "ssim"))
    if psnr is None or ssim is None:
        return
    (gained_db, slices), (gained, _) = psnr, ssim
    reached = all(
        found >= least if least else found > 0.0 for found, least in ((gained_db, psnr_db), (gained, similarity))
    )
    wanted = f"at least {psnr_db:g} dB and {similarity:g}" if psnr_db else "above"
    yield (
        f"{_judged(reached)}: {_of(figures, condition)}, against {title(other)} on {slices} slices ({wanted}): "
        f"PSNR {gained_db:+.2f} dB, SSIM {gained:+.4f}."
    )


def _reported(figures: Figures, condition: Condition) -> Iterator[str]:
    """No goal, but what one wants to know."""
    psnr, similarity = (figures.margin(measure, OURS, DDS, condition) for measure in ("psnr", "ssim"))
    if psnr is not None and similarity is not None:
        yield (
            f"No goal: {_of(figures, condition)}, against {title(DDS)} on {psnr[1]} slices: PSNR {psnr[0]:+.2f} dB, "
            f"SSIM {similarity[0]:+.4f}."
        )


def _lesions(figures: Figures, condition: Condition) -> Iterator[str]:
    for kind in ("bright", "dark", "plus"):
        shares = figures.shares(OURS, condition, kind)
        if shares:
            mean = float(np.mean(shares))
            within = float(np.mean(np.abs(np.array(shares) - 1.0) <= _RECOVERY_MARGIN))
            yield (
                f"{_judged(abs(mean - 1.0) <= _RECOVERY_MARGIN)}: {_of(figures, condition)}, contrast recovery of "
                f"{len(shares)} {kind} lesions (within 20 %): mean {mean:.2f}, {100.0 * within:.0f} % of them within."
            )
    counts = [figures.mean(name, OURS, condition) for name in ("invented", "erased")]
    if counts[0] is not None and counts[1] is not None:
        yield (
            f"{_judged(counts[0] == 0.0)}: {_of(figures, condition)}, invented blobs (none): {counts[0]:.1f} in a "
            f"slice; erased ones {counts[1]:.1f}."
        )


def _time(figures: Figures, condition: Condition) -> Iterator[str]:
    seconds, cpu = (figures.mean(name, OURS, condition) for name in ("time", "cpu_time"))
    if seconds is not None and cpu is not None:
        yield (
            f"{_judged(seconds <= _MOST_SECONDS)}: {_of(figures, condition)}, {seconds:.1f} s for a slice "
            f"({_MOST_SECONDS:g} s), {cpu:.1f} s of CPU time."
        )
    if len(figures.growth_seconds) > 1:
        each = {slices: total / slices for slices, total in figures.growth_seconds.items()}
        most = max(each.values()) / each[min(each)] - 1.0
        yield (
            f"{_judged(most <= _LINEAR_WITHIN)}: time grows no faster than slices: a slice takes {100.0 * most:+.0f} % "
            f"at most of what it takes alone, among {max(each)}."
        )


def _of(figures: Figures, condition: Condition) -> str:
    return f"ours at {figures.study.part(condition.views)}"


def _judged(reached: bool) -> str:
    return "met" if reached else "MISSED"
