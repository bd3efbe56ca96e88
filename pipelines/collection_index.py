"""The index of a research collection: which series it holds, of whom, in which role and split.

What lies in the folder and not in the index is not part of the collection.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from models.training.volumes import Split
from pipelines.base import InputRejected

INDEX = "index.json"
_KEY = "series_instance_uid"
"""What every entry of an index has had in all versions."""


@dataclass(frozen=True)
class CollectedSeries:
    """One series of the collection."""

    patient: str
    """Pseudonym."""
    series_instance_uid: str
    study_instance_uid: str
    modality: str
    role: str
    """As the node's rules gave it."""
    folder: str
    """Below the folder of the collection."""
    instances: int
    revision: int
    split: Split | None = None
    """Given once and kept; None in an index that was written before splits were."""


_ENTRIES = TypeAdapter(tuple[CollectedSeries, ...])


def read_index(folder: Path) -> list[CollectedSeries]:
    """The entries of a collection; none where there is no index yet.

    Raises
    ------
    InputRejected
        If the index can not be read, or lacks something.
    """
    path = folder / INDEX
    if not path.is_file():
        return []
    try:
        return list(_ENTRIES.validate_json(path.read_bytes()))
    except (OSError, ValidationError) as error:
        raise InputRejected(f"{path} is not the index of a research collection") from error


def write_index(folder: Path, entries: Iterable[CollectedSeries]) -> None:
    """Replace the index, at once."""
    folder.mkdir(parents=True, exist_ok=True)
    ordered = sorted(entries, key=lambda one: (one.patient, one.role, one.series_instance_uid))
    temporary = folder / f"{INDEX}.new"
    temporary.write_bytes(_ENTRIES.dump_json(tuple(ordered), indent=1))
    os.replace(temporary, folder / INDEX)


def collections_below(data: Path) -> Iterator[Path]:
    """Folders of research collections at or below `data`; other files of the name of the index are passed over."""
    for path in sorted(data.rglob(INDEX)):
        if _is_index(path):
            yield path.parent


def _is_index(path: Path) -> bool:
    """Whether the file is the index of a collection, or may have been: damage must not make loose files of one."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return True
    return isinstance(document, list) and all(isinstance(one, dict) and _KEY in one for one in document)


def paths_of(folder: Path, entry: CollectedSeries) -> list[Path]:
    """The files of one series of the collection.

    Raises
    ------
    InputRejected
        If not all of them are there.
    """
    paths = sorted((folder / entry.folder).glob("*.dcm"))
    if len(paths) != entry.instances:
        raise InputRejected(f"The collection has {len(paths)} of the {entry.instances} images of the series")
    return paths
