"""What is measured of a few-view reconstruction, to judge whether it can be trusted: data, prior, and null space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import fbp
from models.data_step import MeasuredRays
from models.few_view import FewViewResult, residuals_by_view
from models.intensity import Hu, body_mask
from models.null_space import null_space_share
from models.scan_geometry import Floats
from models.scan_simulation import hu_of
from models.stability_measures import domain_measures
from models.weights import TrainingDomain

UNITS: Mapping[str, str] = {
    "projection_residual": "1",
    "seed_spread_hu": "[hnsf'U]",
    "null_space_share": "1",
    "outside_field_line_integral": "1",
    "missing_views_fraction": "1",
    "pixel_spacing_outside_mm": "mm",
    "body_mean_departure_sd": "1",
}
"""UCUM."""

_RESIDUAL_PERCENTILE = 95.0
_SPREAD_PERCENTILE = 99.0
_EDGE_ELEMENTS = 2


@dataclass(frozen=True)
class Evidence:
    """What was found of some slices; every array begins with the slice."""

    hu: Hu
    """(slice, row, column)."""
    spread_hu: Hu
    residuals: tuple[Floats, ...]
    """Of each slice: root mean square of the residual of each view in units of its noise, (view,)."""
    null_space: Floats
    """(slice,) part of the difference to the filtered backprojection that no ray sees."""
    edge_line_integrals: Floats
    """(slice,) mean over the views at the outermost elements of the detector, of the side where it is larger."""


def evidence_of(
    measured: MeasuredRays, result: FewViewResult, water_per_mm: float, seen: NDArray[np.bool_]
) -> Evidence:
    """Look at reconstructed slices; `seen` are the pixels that every view covers, (row, column)."""
    plain = fbp.reconstructed(measured.line_integrals, measured.projector.geometry, hann=True)
    difference = np.where(seen, result.images - plain, np.float32(0.0))
    edges = [
        part.mean(axis=(1, 2))
        for part in (measured.line_integrals[..., :_EDGE_ELEMENTS], measured.line_integrals[..., -_EDGE_ELEMENTS:])
    ]
    return Evidence(
        hu=hu_of(result.images, water_per_mm),
        spread_hu=np.asarray(result.spread * (1000.0 / water_per_mm), np.float32),
        residuals=tuple(residuals_by_view(measured, result.images)),
        null_space=null_space_share(measured.projector, difference),
        edge_line_integrals=np.asarray(np.maximum(*edges), np.float64),
    )


def joined(parts: Sequence[Evidence], order: Sequence[int]) -> Evidence:
    """All slices of all parts; `order` is the number in the stack of each, part by part."""
    place = np.argsort(order)
    residuals = [values for part in parts for values in part.residuals]
    return Evidence(
        hu=np.concatenate([part.hu for part in parts])[place],
        spread_hu=np.concatenate([part.spread_hu for part in parts])[place],
        residuals=tuple(residuals[index] for index in place),
        null_space=np.concatenate([part.null_space for part in parts])[place],
        edge_line_integrals=np.concatenate([part.edge_line_integrals for part in parts])[place],
    )


def few_view_measures(
    evidence: Evidence, domain: TrainingDomain, spacing_zyx_mm: tuple[float, float, float], missing_fraction: float
) -> dict[str, float]:
    """Measures by name, units as in `UNITS`.

    `projection_residual` is the 95th percentile over all views and slices, 1 where only noise is left;
    `seed_spread_hu` the 99th percentile inside the body; the others are the largest of any slice.
    """
    body = body_mask(evidence.hu)
    spread = evidence.spread_hu[body] if body.any() else evidence.spread_hu
    outside = domain_measures(domain, evidence.hu, spacing_zyx_mm)
    return {
        "projection_residual": float(np.percentile(np.concatenate(evidence.residuals), _RESIDUAL_PERCENTILE)),
        "seed_spread_hu": float(np.percentile(spread, _SPREAD_PERCENTILE)),
        "null_space_share": float(evidence.null_space.max()),
        "outside_field_line_integral": float(evidence.edge_line_integrals.max()),
        "missing_views_fraction": missing_fraction,
        # Each slice is reconstructed by itself, so their distance is no matter.
        "pixel_spacing_outside_mm": outside["pixel_spacing_outside_mm"],
        "body_mean_departure_sd": outside["body_mean_departure_sd"],
    }
