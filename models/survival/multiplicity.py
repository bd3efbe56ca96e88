"""The p of several feature sets that were all tried on the same patients."""

from collections.abc import Mapping


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p of several feature sets, corrected so that one is falsely called significant at most as often as stated.

    References
    ----------
    Holm, Scand J Stat 1979;6:65
    """
    order = sorted(p_values, key=lambda name: p_values[name])
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}
