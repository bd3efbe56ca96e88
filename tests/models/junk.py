"""What files of others may hold where something else belongs."""

from collections.abc import Iterator, Sequence
from typing import Any

JUNK: tuple[Any, ...] = (None, -1, 0, True, "x", "$x", [], {}, [[1]], ["a", 0], {"a": [1]}, float("inf"), 10**30)


def places(content: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys and indices that lead to every value inside."""
    if isinstance(content, dict | list):
        inside = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in inside:
            yield (*before, key)
            yield from places(value, (*before, key))


def put(content: Any, place: Sequence[Any], value: Any) -> None:
    """Put another value there."""
    for key in place[:-1]:
        content = content[key]
    content[place[-1]] = value
