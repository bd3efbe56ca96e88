"""Persistent homology of a volume: the components, tunnels and cavities that appear and vanish as a threshold rises.

The filtration is by sublevel sets: at a threshold t the voxels with values up to t are there. A component is born
where a low value is, and dies where it meets an older one; of dense structures take the negative of the image. Voxels
are the top-dimensional cells (T-construction), so that voxels that share a corner are connected.

References
----------
Kaczynski, Mischaikow, Mrozek, Computational Homology, doi 10.1007/b97315; the lengths of lives as features of lung CT:
Tanabe et al., J Appl Physiol 2021, doi 10.1152/japplphysiol.00150.2021; computed by GUDHI (gudhi.inria.fr)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

DIMENSIONS = (0, 1, 2)
"""Connected components, tunnels, cavities."""


class TopologyUnavailable(Exception):
    """The library is not installed; the message is one plain sentence."""


@dataclass(frozen=True)
class Diagram:
    """Everything that appeared, one entry each, longest life first within a dimension."""

    dimension: NDArray[np.int8]
    birth: NDArray[np.float64]
    """Threshold at which it appears, in the unit of the values."""
    death: NDArray[np.float64]
    """Threshold at which it vanishes; infinite for what is there to the end."""

    @property
    def life(self) -> NDArray[np.float64]:
        """Difference of death and birth; infinite for what never vanishes."""
        return self.death - self.birth

    def of_dimension(self, dimension: int) -> "Diagram":
        """The part of one dimension."""
        return self._where(self.dimension == dimension)

    def longer_than(self, life: float) -> "Diagram":
        """Without short lives, which are what noise makes."""
        return self._where(self.life > life)

    def born_between(self, lowest: float, highest: float) -> "Diagram":
        """What appears at thresholds from the lowest to the highest, both included."""
        return self._where((self.birth >= lowest) & (self.birth <= highest))

    def _where(self, chosen: NDArray[np.bool_]) -> "Diagram":
        return Diagram(self.dimension[chosen], self.birth[chosen], self.death[chosen])


def diagram(values_zyx: NDArray[Any], mask_zyx: NDArray[np.bool_] | None = None) -> Diagram:
    """Persistence diagram of the sublevel sets of a volume.

    Parameters
    ----------
    values_zyx
        Intensities, finite.
    mask_zyx
        Where given, the space is this region alone: what lies outside is never there, so that a hole of the region
        is a hole at every threshold.

    Raises
    ------
    ValueError
        If the array is not of three axes, is empty, is not finite, or the mask is of another shape or empty.
    TopologyUnavailable
        If the library that computes it is absent.
    """
    values = np.asarray(values_zyx, np.float64)
    if values.ndim != 3 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"a volume of finite values is needed, not an array of shape {values.shape}")
    if mask_zyx is not None:
        if mask_zyx.shape != values.shape or not mask_zyx.any():
            raise ValueError(f"the region is empty, or not on the grid of {values.shape}")
        values = np.where(mask_zyx, values, np.inf)
    return _diagram_of(_pairs(values))


def betti_curves(of: Diagram, thresholds: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Betti numbers of the sublevel sets, (3, thresholds): components, tunnels and cavities at each threshold."""
    present = (of.birth[:, None] <= thresholds) & (thresholds < of.death[:, None])
    return np.stack([present[of.dimension == dimension].sum(axis=0) for dimension in DIMENSIONS])


def life_summary(of: Diagram) -> dict[str, float]:
    """A fixed number of features of a diagram: for each dimension how many lives there are and how long they are.

    Of what vanishes only; lengths are in the unit of the values. `h1_life_entropy` is that of the shares of the lives
    in their sum, in bits: 0 for a single life, the logarithm of the number for equal ones (Atienza et al., Pattern
    Recognit 2020, doi 10.1016/j.patcog.2020.107509). Without any life all are 0.
    """
    found: dict[str, float] = {}
    for dimension in DIMENSIONS:
        lives = of.of_dimension(dimension).life
        lives = lives[np.isfinite(lives)]
        shares = lives / lives.sum() if len(lives) else lives
        found |= {
            f"h{dimension}_count": float(len(lives)),
            f"h{dimension}_life_sum": float(lives.sum()),
            f"h{dimension}_life_max": float(lives.max(initial=0.0)),
            f"h{dimension}_life_entropy": float(special.entr(shares).sum() / np.log(2.0)),
        }
    return found


def _pairs(values: NDArray[np.float64]) -> list[tuple[int, tuple[float, float]]]:
    try:
        import gudhi
    except ImportError as error:
        raise TopologyUnavailable("persistent homology needs gudhi: install rtnode with the extra radiomics") from error
    complex_ = gudhi.CubicalComplex(top_dimensional_cells=values)
    return list(complex_.persistence(homology_coeff_field=2, min_persistence=0.0))


def _diagram_of(pairs: list[tuple[int, tuple[float, float]]]) -> Diagram:
    # What is born at infinity belongs to what the mask left out.
    pairs = [one for one in pairs if np.isfinite(one[1][0])]
    dimension = np.array([one for one, _ in pairs], np.int8)
    birth, death = np.array([life for _, life in pairs], np.float64).reshape(-1, 2).T
    order = np.lexsort((birth, birth - death, dimension))
    return Diagram(dimension[order], birth[order], death[order])
