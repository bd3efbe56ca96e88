"""How far the result of a pipeline in shadow agrees with the current one, made of the same series.

It makes no object, only findings: each is a fact about the pair, holds nothing, and becomes a point of a control chart.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, Comprehensive3DSRStorage, CTImageStorage, SegmentationStorage

from models.image_agreement import image_difference
from models.intensity import AIR_HU, body_mask
from models.segmentation_measures import organ_measures
from pipelines.base import InputRejected, Inputs, InputSeries, Outcome, Pipeline, Progress, no_progress
from pipelines.dicom.elements import text
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.prognosis_reading import ReadPrognosis, read_prognosis
from pipelines.dicom.reading import read_instance
from pipelines.dicom.segmentation_reading import read_segmentation
from pipelines.dicom.volume import axis_order
from pipelines.organ_agreement import by_standard_name
from pipelines.stability import Finding, Verdict

SHADOW, CURRENT = "shadow", "current"
"""Roles of the series of the two results; the trigger is the series that both were made of."""
PREFIX = "agreement_"
"""Of the names of all findings, so that none is that of a pipeline's own."""
HU = "[hnsf'U]"

Paths = Sequence[Path]


class ShadowAgreement(Pipeline):
    """Images, organs and prognoses of two results against each other, shadow minus current."""

    produces: ClassVar[frozenset[UID]] = frozenset()
    reports_quality: ClassVar[bool] = False

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Compare whatever kinds of objects both results have.

        Raises
        ------
        InputRejected
            If the results have no kind in common, or what they have can not be compared; says why.
        """
        shadow, current = (_by_sop_class(inputs.linked.get(role, ())) for role in (SHADOW, CURRENT))
        kinds = [kind for kind in _MEASURED if kind in shadow and kind in current]
        if not kinds:
            raise InputRejected("The two results hold nothing of the same kind that could be compared")
        findings: list[Finding] = []
        for number, kind in enumerate(kinds, start=1):
            findings += _MEASURED[kind](shadow[kind], current[kind], inputs)
            progress(number / len(kinds), kind.name)
        return Outcome((), tuple(findings))


def _by_sop_class(series: Iterable[InputSeries]) -> dict[UID, list[Path]]:
    found: dict[UID, list[Path]] = {}
    for one in series:
        kind = UID(text(read_instance(one.paths[0], ("SOPClassUID",)), "SOPClassUID"))
        found.setdefault(kind, []).extend(one.paths)
    return found


def _of_images(shadow: Paths, current: Paths, inputs: Inputs) -> Iterator[Finding]:
    """Inside the body of the current image."""
    one, other = read_image_series(shadow), read_image_series(current)
    if not one.volume.same_grid(other.volume):
        raise InputRejected("The two results have different voxel grids, so no voxel has a partner")
    order = axis_order(other.volume)
    one_hu, other_hu = (order.canonical(image.filled_zyx(AIR_HU)) for image in (one, other))
    body = body_mask(other_hu)
    if not body.any():
        raise InputRejected("The current result shows no body, so there is nothing to compare")
    difference = image_difference(one_hu, other_hu, body)
    yield _fact("difference_hu", difference.mean_hu, HU, "Mean difference inside the body, shadow minus current")
    yield _fact("abs_difference_hu", difference.mean_absolute_hu, HU, "Mean size of the difference")
    yield _fact("p95_difference_hu", difference.p95_absolute_hu, HU, "95 % of the voxels differ by no more")


def _of_organs(shadow: Paths, current: Paths, inputs: Inputs) -> Iterator[Finding]:
    source = read_image_series(inputs.trigger.paths)
    one, other = _organs(shadow, source), _organs(current, source)
    for organ in (organ for organ in one if organ in other):
        measures = organ_measures(one[organ], other[organ], source.volume.spacing_zyx_mm)
        key = organ.lower()
        yield _fact(f"{key}_dice", measures.dice, "1", f"Overlap (Dice) of {organ} in shadow and current")
        yield _fact(f"{key}_hd95_mm", measures.hd95_mm, "mm", f"Surfaces of {organ}, 95 % Hausdorff distance")
    alone = [(SHADOW, sorted(set(one) - set(other))), (CURRENT, sorted(set(other) - set(one)))]
    named = "; ".join(f"only in {whose}: {', '.join(organs)}" for whose, organs in alone if organs)
    what = "Organs that only one of the two has" + (f" ({named})" if named else "")
    yield _fact("organs_of_one_only", sum(len(organs) for _, organs in alone), "1", what)


def _organs(paths: Paths, source: ImageSeries) -> dict[str, NDArray[np.bool_]]:
    masks: dict[str, NDArray[np.bool_]] = {}
    for path in paths:
        masks |= read_segmentation(path, source).masks
    try:
        return by_standard_name(masks, source.volume)
    except ValueError as error:
        raise InputRejected("A result has two segments of the same organ") from error


def _of_prognoses(shadow: Paths, current: Paths, inputs: Inputs) -> Iterator[Finding]:
    one, other = (_prognosis(paths) for paths in (shadow, current))
    if one.event != other.event:
        raise InputRejected("The two prognoses are of different events, so their probabilities can not be compared")
    difference = one.probability_percent - other.probability_percent
    yield _fact("probability_percent", difference, "%", f"Probability of {one.event}, difference")
    differs = one.risk_group != other.risk_group
    yield _fact("risk_group_differs", float(differs), "1", "Whether the two risk groups differ")
    if one.linear_predictor is not None and other.linear_predictor is not None:
        what = "Linear predictor, each on the scale of its model, difference"
        yield _fact("linear_predictor", one.linear_predictor - other.linear_predictor, "1", what)


def _prognosis(paths: Paths) -> ReadPrognosis:
    if len(paths) != 1:
        raise InputRejected("A result has several reports, and it is not known which is the prognosis")
    return read_prognosis(paths[0])


def _fact(name: str, value: float, unit: str, what: str) -> Finding:
    return Finding(
        name=f"{PREFIX}{name}", value=value, unit=unit, verdict=Verdict.RELEASE, text=f"{what}: {value:.3g}"
    )  # fmt: skip


_MEASURED: Mapping[UID, Callable[[Paths, Paths, Inputs], Iterator[Finding]]] = {
    CTImageStorage: _of_images,
    SegmentationStorage: _of_organs,
    Comprehensive3DSRStorage: _of_prognoses,
}
"""How objects of a SOP class are compared; what is not listed is not."""
