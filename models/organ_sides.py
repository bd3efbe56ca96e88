"""Left and right by TG-263 names: which organ takes the place of which in a mirrored patient, and which are pairs."""

from collections.abc import Sequence

_PAIRS = frozenset(
    {"SeminalVes", "Lungs", "Kidneys", "Parotids", "Eyes", "Femurs", "Breasts", "Glnd_Submands", "Hippocampi", "Testes"}
    | {
        "Ovaries",
        "Lung",
        "Kidney",
        "Parotid",
        "Eye",
        "Lens",
        "Femur",
        "Femur_Head",
        "OpticNrv",
        "Breast",
        "Glnd_Submand",
    }
)
"""TG-263 names of two sides, and names that should state a side and do not."""


def pieces_of(organ: str) -> int:
    """Of how many pieces an organ is: 2 for what has one name for its left and its right."""
    return 2 if organ in _PAIRS else 1


def mirrored_organs(organs: Sequence[str]) -> list[int | None]:
    """Of each organ the number of the one that takes its place in a mirrored patient; None where that has no number.

    Left and right, _L and _R in TG-263, change places; an organ without a side stays.
    """
    return [_number(organs, _mirrored_name(organ)) for organ in organs]


def _mirrored_name(organ: str) -> str:
    if organ.endswith("_L"):
        return f"{organ[:-2]}_R"
    return f"{organ[:-2]}_L" if organ.endswith("_R") else organ


def _number(organs: Sequence[str], name: str) -> int | None:
    return organs.index(name) if name in organs else None
