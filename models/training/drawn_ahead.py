"""Draw what the next updates learn from while the present one is computed; the number of processes changes nothing."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

Drawn = TypeVar("Drawn")


class DrawnAhead(Generic[Drawn]):
    """The draws of the updates up to `count`, each by its number alone."""

    def __init__(self, draw: Callable[[int], Drawn], count: int, processes: int) -> None:
        """Draw when asked, or with processes ahead of that."""
        self._numbered, self._count, self._processes = _Numbered(draw), count, processes

    def behind(self, number: int) -> Iterator[Drawn]:
        """The draws of the updates `number .. count - 1`, in their order.

        Processes are forked, so that the images are not copied to them; they never use a graphics card.
        """
        if not self._processes:
            return (self._numbered[one] for one in range(number, self._count))
        loader: DataLoader[Drawn] = DataLoader(
            self._numbered,
            batch_size=None,
            sampler=range(number, self._count),
            num_workers=self._processes,
            multiprocessing_context="fork",
            collate_fn=_unchanged,
        )
        return iter(loader)


class _Numbered(Dataset[Drawn]):
    def __init__(self, draw: Callable[[int], Drawn]) -> None:
        self._draw = draw

    def __getitem__(self, number: int) -> Drawn:
        return self._draw(number)


def _unchanged(drawn: Drawn) -> Drawn:
    return drawn
