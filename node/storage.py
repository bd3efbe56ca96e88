"""Where instance files lie; the only module that writes, moves or deletes them.

    incoming/    being written; nothing here was ever acknowledged
    instances/   patient / study / series / instance, each folder and file named by a digest of its identifier
    conflicts/   another content under a SOP Instance UID that is taken
    quarantine/  refused, kept for a person
    jobs/        one folder for each attempt of a job, written by the worker
    results/     one folder for each job's result, with its page and picture

An identifier from the network becomes a path only as a digest, so no name can leave the folder.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from node.errors import NodeError, StorageFull
from pipelines.stability import QUALITY_PAGE, QUALITY_PICTURE

FOLDERS = ("incoming", "instances", "conflicts", "quarantine", "jobs", "results")
BYTES_PER_GIB = 2**30


@dataclass(frozen=True)
class Identity:
    """The identifiers that place an instance in the patient / study / series / instance tree (PS3.3 A.1.2)."""

    patient_id: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


class Storage:
    """The files below the state folder. Paths are given and returned relative to it, as the ledger keeps them."""

    def __init__(self, state_dir: Path, min_free_gib: float = 0.0) -> None:
        self.root = state_dir.resolve()
        self._min_free_bytes = int(min_free_gib * BYTES_PER_GIB)
        try:
            for folder in FOLDERS:
                (self.root / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NodeError(f"state_dir of node.yaml can not be used: {error}") from error

    def require_space(self) -> None:
        """Raise StorageFull when less is free than the site's floor."""
        free_bytes = shutil.disk_usage(self.root).free
        if free_bytes < self._min_free_bytes:
            raise StorageFull(f"{free_bytes / BYTES_PER_GIB:.1f} GiB are free, below the floor of the configuration")

    @contextmanager
    def incoming(self, content: bytes | memoryview) -> Iterator[Path]:
        """Write to a new file and make it durable; whatever was not moved on by the end of the block is removed.

        Raises
        ------
        OSError
            If it can not be written; nothing half-written stays.
        """
        path = self.root / "incoming" / f"{uuid.uuid4().hex}.dcm"
        try:
            with path.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)

    def instance_path(self, identity: Identity) -> str:
        """Where the instance lies, or would lie."""
        parts = (
            identity.patient_id,
            identity.study_instance_uid,
            identity.series_instance_uid,
            identity.sop_instance_uid,
        )
        return "/".join(("instances", *map(_digest, parts))) + ".dcm"

    def keep(self, incoming: Path, relative: str) -> None:
        """Move a durable file from incoming to its final name, and make the move durable."""
        target = self.absolute(relative)
        created = _created_folders(target.parent)
        os.replace(incoming, target)
        for folder in (target.parent, *created):
            fsync_folder(folder)

    def set_aside(self, incoming: Path, folder: str) -> str:
        """Move a file to `conflicts` or `quarantine`; returns where it lies."""
        relative = f"{folder}/{uuid.uuid4().hex}.dcm"
        self.keep(incoming, relative)
        return relative

    def absolute(self, relative: str) -> Path:
        """The path in the file system; raises ValueError for one that would leave the state folder."""
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root):
            raise ValueError("the path leaves the state folder")
        return path

    def attempt_folder(self, job_id: int, attempt: int) -> Path:
        """A new folder for one attempt of a job; never one in which a worker of an earlier run may still write."""
        folder = self.root / "jobs" / str(job_id) / f"{attempt}-{uuid.uuid4().hex[:8]}"
        folder.mkdir(parents=True)
        return folder

    def keep_result(self, job_id: int, attempt_folder: Path) -> str:
        """Move what the attempt has written to the results, durably; returns the folder."""
        relative = f"results/{job_id}"
        target = self.root / relative
        shutil.rmtree(target, ignore_errors=True)
        os.replace(attempt_folder, target)
        fsync_folder(target.parent)
        self.remove_job(job_id)
        return relative

    def result_file(self, job_id: int, name: str) -> Path:
        """A file that lies beside the report of a job, whether it is there or not."""
        return self.root / "results" / str(job_id) / name

    def remove(self, relatives: Iterable[str]) -> None:
        """Delete files, and the folders that are empty after it."""
        for relative in relatives:
            path = self.absolute(relative)
            path.unlink(missing_ok=True)
            _remove_empty(path.parent, self.root)

    def remove_job(self, job_id: int) -> None:
        """Delete what the attempts of a job left."""
        shutil.rmtree(self.root / "jobs" / str(job_id), ignore_errors=True)

    def sweep(self) -> int:
        """Remove what a crash left in incoming: it was never acknowledged. Returns how many files."""
        left = list((self.root / "incoming").iterdir())
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)


def page_files(paths: Iterable[str]) -> list[str]:
    """Page and picture of the results that these instances are of; what names no result has none."""
    folders = {"/".join(path.split("/")[:2]) for path in paths if path.startswith("results/")}
    return [f"{folder}/{name}" for folder in sorted(folders) for name in (QUALITY_PAGE, QUALITY_PICTURE)]


def sha256_of(content: bytes | memoryview) -> str:
    """SHA-256 of the content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(identifier: str) -> str:
    return hashlib.sha256(identifier.encode()).hexdigest()[:24]


def _created_folders(folder: Path) -> list[Path]:
    """Make the folder; returns the parents in which a new name has to become durable."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return [path.parent for path in missing]


def _remove_empty(folder: Path, root: Path) -> None:
    while folder.parent != root and folder != root:
        try:
            folder.rmdir()
        except OSError:  # not empty, or gone already
            return
        folder = folder.parent
