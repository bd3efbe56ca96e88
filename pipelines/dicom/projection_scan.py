"""Whether projections (DICOM-CT-PD) are one whole scan, judged from the headers alone.

The reader refuses what is found here; the node asks the same question to know whether a series that is still arriving
is whole. Projections are no stack of slices: all views of a rotation may lie at one place.

How many views there should be is what Images in Acquisition says. Where nothing says it, the views have to be evenly
spaced and go around: a full turn, half a turn for parallel beams. A view that is missing shows as a double step, and a
shorter scan has to state its number. Views that were thinned out evenly are whole, whatever Number of Source Angular
Steps says of the scan that they were taken from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.dicom import projection_elements as pd
from pipelines.dicom.elements import whole_number
from pipelines.dicom.projection_views import Beam, View, ViewError, views_of

SAME_GEOMETRY = 1e-6
"""Relative difference up to which two numbers of a geometry are the same; elements are 32-bit floats."""
SAME_ANGLE_RAD = 1e-5
"""Views nearer than this have one angle: what a 32-bit float leaves of an angle after a dozen turns."""
SAME_ANGLE_STEP = 0.01
"""The same, as a part of the angular step; the larger of the two counts."""
SAME_PLACE_MM = 0.01
"""Views nearer than this, along the axis, are at one place."""


@dataclass(frozen=True)
class ScanFault:
    """Why projections are not one whole scan."""

    curable: bool
    """Whether more instances of the series could make it whole."""
    text: str
    """One plain sentence, without a full stop."""


def scan_fault(headers: Sequence[Dataset]) -> ScanFault | None:
    """Why the projections with these headers are not one whole scan; None when they are.

    Nothing is raised, whatever the headers hold; they may come in any order.
    """
    try:
        views = views_of(headers)
    except ViewError as error:
        return ScanFault(False, str(error))
    return contradiction(views) or _gap(views, _stated(headers))


def contradiction(views: Sequence[View]) -> ScanFault | None:
    """What these views, by ascending Instance Number, can not all be true with; missing views are none."""
    if len(views) < 2:
        return None
    return next((fault for check in _CHECKS if (fault := check(views)) is not None), None)


def announced_views(headers: Sequence[Dataset]) -> int:
    """How many views the headers announce; 0 where they do not, as most helical scans.

    Images in Acquisition, else the views of a rotation for an axial scan.
    """
    stated = _stated(headers)
    if stated or not headers or pd.private_text(headers[0], pd.SCAN_TYPE) != "AXIAL":
        return stated
    return int(max(pd.private_number(header, pd.VIEWS_PER_ROTATION) or 0 for header in headers))


def expected_views(headers: Sequence[Dataset], views: Sequence[View]) -> int:
    """How many views there are with those that are missing, for at least two views without contradiction."""
    return _expected(views, _stated(headers))


def _stated(headers: Sequence[Dataset]) -> int:
    keywords = ("NumberOfSeriesRelatedInstances", "ImagesInAcquisition")
    return max((whole_number(header, keyword) or 0 for header in headers for keyword in keywords), default=0)


def _incurable(sentence: str) -> ScanFault:
    return ScanFault(curable=False, text=sentence)


def _frames(views: Sequence[View]) -> ScanFault | None:
    words = ("Frames of Reference", "patient positions", "spectra")
    counts = [len(set(values)) for values in zip(*(view.belongs for view in views), strict=True)]
    found = next(((count, word) for count, word in zip(counts, words, strict=True) if count > 1), None)
    return None if found is None else _incurable(f"The series has views of {found[0]} {found[1]}")


def _sizes(views: Sequence[View]) -> ScanFault | None:
    count = len({view.size for view in views})
    return None if count == 1 else _incurable(f"The series has views of {count} detector sizes")


def _geometries(views: Sequence[View]) -> ScanFault | None:
    numbers = np.array([view.numbers for view in views])
    if len({view.kind for view in views}) == 1 and np.allclose(numbers, numbers[0], rtol=SAME_GEOMETRY, atol=0):
        return None
    return _incurable("The series has views of more than one geometry")


def _instance_numbers(views: Sequence[View]) -> ScanFault | None:
    twice = len(views) - len({view.instance_number for view in views})
    return None if twice == 0 else _incurable(f"{twice} of {len(views)} views have the Instance Number of another view")


def _repeated(views: Sequence[View]) -> ScanFault | None:
    """Two views from one place; in a helical scan the same angle comes again further on."""
    angles = np.array([view.angle + view.shifts[0] for view in views])
    places = np.array([view.axial_position + view.shifts[1] for view in views])
    bins = np.ceil(2 * np.pi / max(SAME_ANGLE_STEP * _typical_step(views), SAME_ANGLE_RAD))
    # Two sets of bins, so that no border lies between two angles in both.
    shares = (angles / (2 * np.pi) * bins)[None] + np.array([[0.0], [0.5]])
    count = max(_equal_pairs(np.floor(share) % bins, places) for share in shares)
    return (
        None if count == 0 else _incurable(f"{count} of {len(views)} views were taken from the place of another view")
    )


def _equal_pairs(bins: NDArray[np.float64], places_mm: NDArray[np.float64]) -> int:
    order = np.lexsort((places_mm, bins))
    same = (np.diff(bins[order]) == 0) & (np.diff(places_mm[order]) < SAME_PLACE_MM)
    return int(np.count_nonzero(same))


def _turning(views: Sequence[View]) -> ScanFault | None:
    """Angles stand still or go back; between views that are no neighbours, a rotation may have been left out."""
    steps = _steps(views)
    if not steps.any():
        return ScanFault(True, "The views have only one angle")
    apart = np.diff([float(view.instance_number) for view in views])
    back = (steps < 0) & (steps > -np.pi / 2)
    if not back.any():
        return None
    neighbours = bool((apart[back] <= apart.min()).any())
    return ScanFault(not neighbours, "The angles of the views do not run in one direction")


_CHECKS: tuple[Callable[[Sequence[View]], ScanFault | None], ...] = (
    _frames,
    _sizes,
    _geometries,
    _instance_numbers,
    _repeated,
    _turning,
)


def _gap(views: Sequence[View], stated: int) -> ScanFault | None:
    if len(views) < 2:
        return ScanFault(True, "The series has only one view" if views else "The series has no view")
    expected = _expected(views, stated)
    missing = expected - len(views)
    if missing <= 0:
        return None
    return ScanFault(True, f"{missing} of {expected} views {'is' if missing == 1 else 'are'} missing")


def _expected(views: Sequence[View], stated: int) -> int:
    if stated:
        return max(stated, len(views))
    steps = np.mod(_steps(views), 2 * np.pi)
    step = _typical_step(views)
    between = int(np.maximum(np.rint(steps / step) - 1, 0).sum())
    turn = np.pi if views[0].kind[0] is Beam.PARALLEL else 2 * np.pi
    return max(len(views) + between, int(np.rint(turn / step)))


def _steps(views: Sequence[View]) -> NDArray[np.float64]:
    """From each view to the next, rad, from -pi to pi; positive in the direction in which most go."""
    steps = np.diff([view.angle for view in views])
    wrapped = np.mod(steps + np.pi, 2 * np.pi) - np.pi
    wrapped[np.abs(wrapped) < SAME_ANGLE_RAD] = 0.0
    return np.asarray(wrapped * (-1.0 if np.sign(wrapped).sum() < 0 else 1.0), dtype=np.float64)


def _typical_step(views: Sequence[View]) -> float:
    """Mean of the steps without those over missing views; 0 where all views have one angle."""
    steps = _steps(views)
    forward = steps[steps > 0]
    if not forward.size:
        return 0.0
    return float(forward[forward < 1.5 * np.median(forward)].mean())
