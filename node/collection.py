"""The research collection: received series that match a rule, copied de-identified into a data set with an index.

    FOLDER/index.json                     one entry for each series: pseudonym, split, role, folder, number of instances
    FOLDER/PSEUDONYM/SERIES/N.dcm         the copies; every name is a digest or a number

The key that makes the digests, and with it the way back to the patients, lies in a file of its own that only its owner
can read. Who opts out is left out, and what was collected before is removed.
"""

import csv
import logging
import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydicom import dcmread, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

from models.training.volumes import Split
from node.config import CollectionRule
from node.deidentification import Deidentifier
from node.errors import NodeError
from node.headers import READ_ERRORS, text_of
from node.ledger import Ledger
from node.ledger.schema import Series, SeriesState
from node.storage import Storage
from pipelines.collection_index import CollectedSeries, read_index, write_index
from pipelines.dicom.reading import quiet
from pipelines.patient_splits import splits_of

KEY_BYTES = 32
OWNER_ONLY = 0o600
COLLECTED = frozenset({"CT", "MR", "PT", "RTSTRUCT", "RTDOSE", "RTPLAN", "REG"})
"""Modalities without text in their pixels; a screenshot or an ultrasound may show a name that no rule can find."""

log = logging.getLogger(__name__)


class NotCollected(Exception):
    """A series is not copied; the message says why, of several series at once."""


@dataclass(frozen=True)
class Collected:
    """What was done; numbers of series."""

    added: int
    removed: int
    left_out: Mapping[str, int]
    """By reason; what was collected of them before stays as it is."""


class Collector:
    """Copies what the rule asks for."""

    def __init__(self, rule: CollectionRule, ledger: Ledger, storage: Storage) -> None:
        self._rule = rule
        self._ledger = ledger
        self._storage = storage
        self._deidentifier = Deidentifier(own_key(rule.key_file), rule.structure_names)

    def collect(self) -> Collected:
        """Bring the data set up to date."""
        opted_out = opt_outs(self._rule.opt_out_file)
        index = {one.series_instance_uid: one for one in read_index(self._rule.folder)}
        known = {one.patient: one.split for one in index.values() if one.split is not None}
        removed = self._remove(index, pseudonyms_of(opted_out, self._deidentifier))
        added = 0
        left_out: Counter[str] = Counter()
        for series in self._ledger.series.all():
            if not self._is_wanted(series, opted_out) or self._is_there(index, series):
                continue
            try:
                collected = self._copied(series)
            except NotCollected as error:
                left_out[str(error)] += 1
                continue
            index[collected.series_instance_uid] = collected
            self._remember(series.patient_id)
            added += 1
        write_index(self._rule.folder, with_splits([one for one in index.values() if one.instances], known))
        outcome = Collected(added, removed, dict(left_out))
        log.info("collected", extra={"collection": self._rule.name, **asdict(outcome)})
        return outcome

    def _is_wanted(self, series: Series, opted_out: set[str]) -> bool:
        return (
            series.state == SeriesState.SETTLED
            and series.role in self._rule.roles
            and series.modality in COLLECTED
            and series.patient_id not in opted_out
            and series.patient_id != ""
        )

    def _is_there(self, index: dict[str, CollectedSeries], series: Series) -> bool:
        known = index.get(self._deidentifier.uid(series.series_instance_uid))
        return known is not None and known.revision == series.revision and known.instances > 0

    def _copied(self, series: Series) -> CollectedSeries:
        """Copy a series whole, and only then put the copy in the place of an earlier one."""
        paths = self._paths(series)
        pseudonym = self._deidentifier.pseudonym(series.patient_id)
        uid = self._deidentifier.uid(series.series_instance_uid)
        folder = self._rule.folder / pseudonym / uid.rsplit(".", 1)[-1]
        fresh = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        try:
            for number, path in enumerate(paths):
                self._copy_instance(path, fresh / f"{number:05d}.dcm")
        except NotCollected:
            shutil.rmtree(fresh)
            raise
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
        return CollectedSeries(
            patient=pseudonym,
            series_instance_uid=uid,
            study_instance_uid=self._deidentifier.uid(series.study_instance_uid),
            modality=series.modality,
            role=series.role or "",
            folder=str(folder.relative_to(self._rule.folder)),
            instances=len(paths),
            revision=series.revision,
        )

    def _paths(self, series: Series) -> list[Path]:
        """All files of the series; one that went after its retention time leaves a row without a path."""
        instances = self._ledger.series.instances(series.id)
        paths = [self._storage.absolute(one.path) for one in instances if one.path]
        if not paths or len(paths) < len(instances) or not all(path.is_file() for path in paths):
            raise NotCollected("files of them are gone")
        return paths

    def _copy_instance(self, source: Path, target: Path) -> None:
        try:
            with quiet():
                original = dcmread(source)
                if text_of(original, "BurnedInAnnotation") == "YES":
                    raise NotCollected("their pixels may show text")
                copy = self._deidentifier.deidentified(original)
                copy.file_meta.TransferSyntaxUID = original.file_meta.get("TransferSyntaxUID", ExplicitVRLittleEndian)
                dcmwrite(target, copy, enforce_file_format=True)
        except READ_ERRORS as error:
            log.warning("instance not collected", extra={"error": type(error).__name__})
            raise NotCollected("a file can not be read or copied") from error

    def _remove(self, index: dict[str, CollectedSeries], pseudonyms: set[str]) -> int:
        gone = [uid for uid, one in index.items() if one.patient in pseudonyms]
        for uid in gone:
            del index[uid]
        for pseudonym in pseudonyms:
            shutil.rmtree(self._rule.folder / pseudonym, ignore_errors=True)
        return len(gone)

    def _remember(self, patient_id: str) -> None:
        """The way back from pseudonym to patient, for the owner of the key alone."""
        path = self._rule.key_file.with_suffix(".csv")
        row = [self._deidentifier.pseudonym(patient_id), patient_id]
        known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if not any(line.startswith(f"{row[0]},") for line in known):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, OWNER_ONLY)
            with os.fdopen(descriptor, "a", encoding="utf-8", newline="") as file:
                csv.writer(file).writerow(row)


def own_key(path: Path) -> bytes:
    """The key of the file, made when there is none.

    Raises
    ------
    NodeError
        If others than its owner may read the file, or it is too short.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES))
    return existing_key(path)


def existing_key(path: Path) -> bytes:
    """The key of the file.

    Raises
    ------
    NodeError
        If it can not be read, others than its owner may read it, or it is too short.
    """
    try:
        mode, key = path.stat().st_mode, path.read_text().strip()
    except OSError as error:
        raise NodeError(f"the key of the collection can not be read: {error}") from error
    if mode & 0o077:
        raise NodeError(f"{path} may be read by others than its owner: chmod 600 {path}")
    if len(key) < 2 * KEY_BYTES:
        raise NodeError(f"{path} holds no key of {2 * KEY_BYTES} hexadecimal digits")
    return bytes.fromhex(key)


def opt_outs(path: Path | None) -> set[str]:
    """The Patient IDs of the file: UTF-8, one on each line; a line that starts with `#` is a comment.

    Raises
    ------
    NodeError
        If the file is named and can not be read, or a line may be meant otherwise: then nobody can tell who has opted
        out.
    """
    if path is None:
        return set()
    try:
        # Editors of Windows put a byte order mark before the first Patient ID.
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise NodeError(f"the opt-out list can not be read: {error}") from error
    except UnicodeDecodeError as error:
        raise NodeError(f"the opt-out list {path} is no UTF-8 text") from error
    listed = {number: line.strip() for number, line in enumerate(lines, start=1)}
    return {line for number, line in listed.items() if line and not _is_comment(line, f"line {number} of {path}")}


def _is_comment(line: str, where: str) -> bool:
    if line.startswith("#"):
        return True
    if "\0" in line:
        raise NodeError(f"the opt-out list is no UTF-8 text: {where}")
    # Part of the Patient ID, or not? A wrong guess would collect somebody who has opted out.
    if re.search(r"\s#", line):
        raise NodeError(f"{where} has a # behind a blank: a comment is a line of its own")
    return False


def pseudonyms_of(patient_ids: Iterable[str], deidentifier: Deidentifier) -> set[str]:
    """What these patients are called in the data set."""
    return {deidentifier.pseudonym(patient_id) for patient_id in patient_ids}


def with_splits(entries: Collection[CollectedSeries], known: Mapping[str, Split]) -> list[CollectedSeries]:
    """The entries with a split for each patient; who has one keeps it, however the data set grows."""
    splits = splits_of({one.patient for one in entries}, known)
    return [replace(one, split=splits[one.patient]) for one in entries]


def check_opt_outs(rules: Iterable[CollectionRule], data: Path) -> None:
    """Refuse images of a data set that still holds somebody who has opted out since it was collected.

    Looks at the data sets of the rules that lie in `data`, or `data` in them; a copy elsewhere nobody knows of.

    Raises
    ------
    NodeError
        If there is such a patient, or the list or the key can not be read: then nobody can tell.
    """
    for rule in rules:
        held = {one.patient for one in read_index(rule.folder)} if _overlap(rule.folder, data) else set()
        opted_out = opt_outs(rule.opt_out_file) if held else set()
        if opted_out:
            pseudonyms = pseudonyms_of(opted_out, Deidentifier(existing_key(rule.key_file)))
            if held & pseudonyms:
                raise NodeError(
                    f"{rule.name} holds images of {len(held & pseudonyms)} who opted out since they were collected: "
                    f"run rtnode collect {rule.name} first"
                )


def _overlap(one: Path, other: Path) -> bool:
    one, other = one.resolve(), other.resolve()
    return one.is_relative_to(other) or other.is_relative_to(one)
