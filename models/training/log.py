"""CSV log of a training: means of what was measured since the last row; a resumed training goes on with it."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path


class TrainingLog:
    """Rows of the number of updates and of the mean of each column; a column without a value stays empty."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path, self._columns = path, columns
        self.sums: dict[str, float] = {}
        """Sum of each column since the last row; a checkpoint keeps it."""
        self.counts: dict[str, int] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Take the values of one update."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def write_row(self, update: int) -> None:
        """Write the means and begin new ones."""
        means = {name: f"{total / self.counts[name]:.5f}" for name, total in self.sums.items()}
        row = {"update": update, **{name: means.get(name, "") for name in self._columns}}
        self.sums, self.counts = {}, {}
        is_new = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            if is_new:
                writer.writeheader()
            writer.writerow(row)

    def begin_anew(self) -> None:
        """Forget the rows of another training."""
        self._path.unlink(missing_ok=True)

    def go_on(self, update: int, sums: Mapping[str, float], counts: Mapping[str, int]) -> None:
        """Go on after an update: drop the rows that were written after it."""
        self.sums, self.counts = dict(sums), dict(counts)
        if not self._path.exists():
            return
        header, *rows = self._path.read_text(encoding="utf-8").splitlines()
        kept = [row for row in rows if int(row.split(",", 1)[0]) <= update]
        self._path.write_text("\n".join([header, *kept, ""]), encoding="utf-8")
