"""Training volumes for the models, from all that lies below a folder: research collections, CT series, `.npz` files.

A collection is read through its index; of what its folder holds beside that, nothing is. All other DICOM files are
sorted into series, and every `.npz` file is one volume (`models.training.volumes`).
"""

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import yaml
from pydantic import TypeAdapter, ValidationError
from pydicom.sr.codedict import codes

from models.grid import has_square_pixels
from models.intensity import AIR_HU
from models.training.volumes import Domain, Split, TrainingDataError, TrainingVolume, read_volume
from pipelines.base import InputRejected, PipelineError, Progress, no_progress
from pipelines.collection_index import CollectedSeries, collections_below, paths_of, read_index
from pipelines.dicom.derived import NOT_FOR_TREATMENT
from pipelines.dicom.elements import items, number, text, words
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.reading import read_instance
from pipelines.dicom.volume import axis_order
from pipelines.patient_splits import splits_of, strictest
from pipelines.provenance import PRODUCT

SPLITS_FILE = "splits.yaml"

MEGAVOLTAGE_KVP = 1000.0
"""KVP is in kV; no X-ray tube that images patients reaches a tenth of this."""
DOMAIN_OF_ROLE: Mapping[str, Domain] = {domain: domain for domain in get_args(Domain)}
"""A series of a collection is read when its role is one of these; other roles are no images to train on."""
_ORIGIN = ("ImageType", "Manufacturer", "SeriesDescription", "ContributingEquipmentSequence")
_PROCESSORS = frozenset({codes.DCM.ProcessingEquipment.value, codes.DCM.SynthesizingEquipment.value})

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Sources:
    """What was found below the folder, not read yet."""

    npz: tuple[Path, ...]
    collected: Mapping[str, tuple[Path, CollectedSeries]]
    """Series of collections, with the folder of theirs, by Series Instance UID; two collections may hold the same."""
    loose: Mapping[str, Sequence[Path]]
    """Files of all other CT series, by Series Instance UID."""


@dataclass(frozen=True)
class _LooseSeries:
    """A series outside of collections; whose it is can be said only when all are read."""

    patient_id: str
    issuer: str
    volume: TrainingVolume


def training_volumes(data: Path, progress: Progress = no_progress) -> list[TrainingVolume]:
    """All training volumes at or below a folder, whatever layouts are mixed there.

    The domain of a collected series is its role; of a loose one it is told from the header, and a planning CT where the
    header does not say. A series that the reader refuses (a gap, slices of different spacing) is left out and logged,
    and so is a volume whose axial pixels are not square, or a loose series that a program made of another; patients
    may differ in spacing.

    The split is one for each patient over all layouts, and none is left without: as the collection's index or
    OpenKBP's numbers say (training before validation before test where they differ), else by digest among all whose
    data do not say it; one or two of these are training patients. Digests divide them anew when others join, while
    a collection keeps what its index says. A file `splits.yaml` in the folder (patient: train, validation or test)
    goes before all of this. One Patient ID is one patient, unless the headers name two issuers of it; a `.npz`
    volume is one by its file name; a patient under two pseudonyms is two patients here.

    Raises
    ------
    PipelineError
        If there is no folder or no volume, or a `.npz` file or an index can not be used.
    """
    if not data.is_dir():
        raise PipelineError(f"{data} is no folder")
    sources = _sources(data)
    refused: list[str] = []
    named = [*_npz_volumes(sources, refused), *_collected_volumes(sources, refused, progress)]
    loose = _named(list(_loose_series(sources, refused, progress)), {volume.patient_id for volume in named})
    if not named and not loose:
        raise PipelineError(_nothing(data, refused))
    return _with_splits(named, loose, _stated_splits(data))


def dicom_files(data: Path) -> list[Path]:
    """The files at or below a folder that may be DICOM: of a collection those of its index, of all else every one.

    Series of a collection that have lost an instance are left out.

    Raises
    ------
    InputRejected
        If the index of a collection can not be read.
    """
    collections = list(collections_below(data))
    files: list[Path] = []
    for folder in collections:
        for entry in read_index(folder):
            with suppress(InputRejected):
                files += paths_of(folder, entry)
    return files + [path for path in _outside(data, collections) if path.suffix != ".npz"]


def _sources(data: Path) -> _Sources:
    collections = list(collections_below(data))
    outside = _outside(data, collections)
    collected = {
        entry.series_instance_uid: (folder, entry)
        for folder in collections
        for entry in read_index(folder)
        if entry.modality == "CT" and entry.role in DOMAIN_OF_ROLE
    }
    loose = _series_of(path for path in outside if path.suffix != ".npz")
    return _Sources(
        npz=tuple(path for path in outside if path.suffix == ".npz"),
        collected=collected,
        loose={uid: paths for uid, paths in sorted(loose.items()) if uid not in collected},
    )


def _outside(data: Path, collections: Sequence[Path]) -> list[Path]:
    """Files that are in no collection."""
    return [
        path
        for path in sorted(data.rglob("*"))
        if path.is_file() and not any(path.is_relative_to(folder) for folder in collections)
    ]


def _series_of(paths: Iterator[Path]) -> dict[str, list[Path]]:
    """Files of each CT series; of an instance that lies there twice, one."""
    series: dict[str, dict[str, Path]] = {}
    for path in paths:
        try:
            header = read_instance(path, ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality"))
        except InputRejected:
            continue
        if text(header, "Modality") == "CT":
            instances = series.setdefault(text(header, "SeriesInstanceUID"), {})
            instances.setdefault(text(header, "SOPInstanceUID") or str(path), path)
    return {uid: list(instances.values()) for uid, instances in series.items()}


def _npz_volumes(sources: _Sources, refused: list[str]) -> Iterator[TrainingVolume]:
    for path in sources.npz:
        try:
            yield _with_square_pixels(read_volume(path))
        except TrainingDataError as error:
            raise PipelineError(str(error)) from error
        except InputRejected as error:
            _leave_out({"file": str(path)}, error, refused)


def _collected_volumes(sources: _Sources, refused: list[str], progress: Progress) -> Iterator[TrainingVolume]:
    for count, (uid, (folder, entry)) in enumerate(sources.collected.items(), start=1):
        try:
            volume = _volume(read_image_series(paths_of(folder, entry)), entry.patient)
            yield replace(volume, split=entry.split, domain=DOMAIN_OF_ROLE[entry.role])
        except InputRejected as error:
            _leave_out({"series_instance_uid": uid}, error, refused)
        progress(count / len(sources.collected), "reading")


def refuse_result(path: Path) -> None:
    """Refuse what a program made of an image, ours or another: a model must not learn what a model has made.

    Raises
    ------
    InputRejected
        If the header names this program as its maker or one of its processors, or says that the image is derived and
        names equipment that processed or synthesized it (PS3.3 C.12.1, CID 7005).
    """
    header = read_instance(path, _ORIGIN)
    equipment = items(header, "ContributingEquipmentSequence")
    makers = {text(one, "Manufacturer").lower() for one in (header, *equipment)}
    if PRODUCT in makers or NOT_FOR_TREATMENT in text(header, "SeriesDescription").upper():
        raise InputRejected(f"The series is a result of {PRODUCT}")
    purposes = [item for one in equipment for item in items(one, "PurposeOfReferenceCodeSequence")]
    if "DERIVED" in words(header, "ImageType") and any(text(one, "CodeValue") in _PROCESSORS for one in purposes):
        raise InputRejected("The series is derived, and its header names what processed it")


def _loose_series(sources: _Sources, refused: list[str], progress: Progress) -> Iterator[_LooseSeries]:
    for count, (uid, paths) in enumerate(sources.loose.items(), start=1):
        try:
            refuse_result(paths[0])
            series = read_image_series(paths)
            patient_id, issuer = text(series.header, "PatientID"), text(series.header, "IssuerOfPatientID")
            yield _LooseSeries(patient_id, issuer, _volume(series, _digest(patient_id)))
        except InputRejected as error:
            _leave_out({"series_instance_uid": uid}, error, refused)
        progress(count / len(sources.loose), "reading")


def _leave_out(what: Mapping[str, str], error: InputRejected, refused: list[str]) -> None:
    log.warning("series left out", extra={**what, "reason": str(error)})
    refused.append(str(error))


def _nothing(data: Path, refused: Sequence[str]) -> str:
    if refused:
        return f"{data} has no series that can be used, the first of {len(refused)} because: {refused[0]}"
    return f"{data} has no research collection, no CT series and no .npz volume to train on"


def _volume(series: ImageSeries, patient: str) -> TrainingVolume:
    order = axis_order(series.volume)
    volume = TrainingVolume(
        patient_id=patient,
        split=None,
        hu_zyx=order.canonical(series.filled_zyx(AIR_HU)).clip(AIR_HU),
        spacing_zyx_mm=order.spacing_zyx_mm(series.volume),
        domain=_domain(series),
        source=series.series_instance_uid,
    )
    return _with_square_pixels(volume)


def _with_square_pixels(volume: TrainingVolume) -> TrainingVolume:
    if not has_square_pixels(volume.spacing_zyx_mm):
        _, row_mm, column_mm = volume.spacing_zyx_mm
        raise InputRejected(f"The pixels of {row_mm:g} x {column_mm:g} mm are not square")
    return volume


def _domain(series: ImageSeries) -> Domain:
    """By what only such a machine writes; names of products and descriptions are the business of the node's rules."""
    if (number(series.header, "KVP") or 0.0) >= MEGAVOLTAGE_KVP:
        return "mvct"
    model = text(series.header, "ManufacturerModelName").lower().replace("-", " ")
    return "cbct" if "CBCT" in words(series.header, "ImageType") or "cone beam" in model else "planning_ct"


def _digest(patient_id: str, issuer: str = "") -> str:
    """A name that leads back to no patient without the data themselves."""
    return hashlib.sha256(f"{issuer}\\{patient_id}".encode()).hexdigest()[:12]


def _named(loose: Sequence[_LooseSeries], known: Collection[str]) -> list[TrainingVolume]:
    """The volumes under one name for each patient.

    A Patient ID that is a pseudonym or a name that others go by is that patient. Of one system a hospital has the
    issuer, of the next it has not: an issuer tells patients apart only where every series of the Patient ID has one.
    In doubt two patients become one, for one patient in two splits would make the test worthless.
    """
    issuers: dict[str, set[str]] = {}
    for series in loose:
        issuers.setdefault(series.patient_id, set()).add(series.issuer)
    return [replace(one.volume, patient_id=_name(one, issuers[one.patient_id], known)) for one in loose]


def _name(series: _LooseSeries, issuers: Collection[str], known: Collection[str]) -> str:
    if series.patient_id in known:
        return series.patient_id
    tells_apart = len(issuers) > 1 and "" not in issuers
    return _digest(series.patient_id, series.issuer) if tells_apart else _digest(series.patient_id)


def _stated_splits(data: Path) -> Mapping[str, Split]:
    path = data / SPLITS_FILE
    if not path.exists():
        return {}
    try:
        return TypeAdapter(dict[str, Split]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise PipelineError(f"{path} is no list of patients with train, validation or test") from error


def _with_splits(
    named: Sequence[TrainingVolume], loose: Sequence[TrainingVolume], stated: Mapping[str, Split]
) -> list[TrainingVolume]:
    said: dict[str, list[Split]] = {}
    for volume in named:
        if volume.split is not None:
            said.setdefault(volume.patient_id, []).append(volume.split)
    splits = {patient: strictest(several) for patient, several in said.items()}
    # The order in which splits are dealt must not be that of names, for names often follow a diagnosis or a date.
    dealt = {volume.patient_id: volume.patient_id for volume in loose}
    dealt |= {volume.patient_id: _digest(volume.patient_id) for volume in named}
    if unknown := set(stated) - set(dealt):
        raise PipelineError(f"{SPLITS_FILE} names {min(unknown)}, of whom there is no volume")
    silent = {digest: patient for patient, digest in dealt.items() if patient not in splits and patient not in stated}
    splits |= {silent[digest]: split for digest, split in splits_of(silent, {}).items()}
    splits |= stated
    return [replace(volume, split=splits[volume.patient_id]) for volume in (*named, *loose)]
