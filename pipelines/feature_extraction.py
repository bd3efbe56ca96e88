"""Features of a region of a DICOM series: the files of a folder to values that say what they are of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from models.feature_library import RadiomicsUnavailable
from models.feature_region import FeatureError
from models.feature_settings import FeatureSettings
from models.radiomics import Feature, features
from pipelines.base import InputRejected, PipelineError
from pipelines.dicom.elements import text
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.label_names import tg263_name
from pipelines.dicom.reading import read_instance
from pipelines.dicom.segmentation_reading import read_segmentation
from pipelines.dicom.stack import MODALITY_OF
from pipelines.dicom.structure_set import read_structure_set, roi_masks

AIR_HU = -1000.0
"""What a CT has where its scanner has no data."""
MODALITIES = frozenset({"CT", "MR", "PT"})
REGION_CLASSES = frozenset({str(RTStructureSetStorage), str(SegmentationStorage)})


@dataclass(frozen=True)
class RegionFeatures:
    """Features of one region, and what they were computed from."""

    series_instance_uid: str
    """Of the images."""
    roi_name: str
    """As it was asked for."""
    region_sop_instance_uid: str
    """Of the structure set or segmentation."""
    voxels: int
    """Of the region on the grid of the images."""
    remarks: tuple[str, ...]
    """What of the drawn region the mask does not show, one sentence each."""
    features: tuple[Feature, ...]


@dataclass(frozen=True)
class FolderObjects:
    """What features can be computed from below a folder."""

    images: Mapping[str, tuple[Path, ...]]
    """By Series Instance UID."""
    regions: tuple[Path, ...]
    """Structure sets and segmentations."""


@dataclass(frozen=True)
class _Region:
    sop_instance_uid: str
    mask_zyx: NDArray[np.bool_]
    remarks: tuple[str, ...]


def objects_below(folder: Path) -> FolderObjects:
    """Image series, structure sets and segmentations at or below a folder; what is none of them is passed over.

    Raises
    ------
    InputRejected
        If there is no such folder, or no image in it.
    """
    images: dict[str, list[Path]] = {}
    regions: list[Path] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = read_instance(path, ("SOPClassUID", "SeriesInstanceUID"))
        except InputRejected:
            continue
        if text(header, "SOPClassUID") in MODALITY_OF:
            images.setdefault(text(header, "SeriesInstanceUID"), []).append(path)
        elif text(header, "SOPClassUID") in REGION_CLASSES:
            regions.append(path)
    if not images:
        raise InputRejected(f"{folder} has no CT, MR or PET image")
    return FolderObjects({uid: tuple(paths) for uid, paths in images.items()}, tuple(regions))


def region_features(
    images: Iterable[Path],
    region_files: Sequence[Path],
    roi_name: str,
    settings: FeatureSettings,
    synonyms: Mapping[str, str] | None = None,
) -> RegionFeatures:
    """Compute the features of a region.

    Parameters
    ----------
    images
        Files of one CT, MR or PET series.
    region_files
        Structure sets and segmentations; exactly one of them has to have the region.
    roi_name
        ROI Name or Segment Label, or a name that stands for the same TG-263 name.
    settings
        How the features are to be computed.
    synonyms
        TG-263 names by the names that the site uses, in lower case.

    Raises
    ------
    InputRejected
        If the images are no series or their values no HU where the settings say so; if the region is absent, there
        twice, outside the images or too small.
    PipelineError
        If the library for features is not installed.
    """
    series = read_image_series(images, MODALITIES)
    if settings.intensities == "HU" and series.modality != "CT":
        raise InputRejected(f"The images are {series.modality}, whose values are no HU: set intensities to arbitrary")
    region = _region(series, region_files, roi_name, synonyms or {})
    volume = series.volume
    try:
        values = features(_intensities(series), region.mask_zyx, volume.spacing_zyx_mm, settings)
    except FeatureError as error:
        raise InputRejected(str(error)) from error
    except RadiomicsUnavailable as error:
        raise PipelineError(str(error)) from error
    return RegionFeatures(
        series_instance_uid=series.series_instance_uid,
        roi_name=roi_name,
        region_sop_instance_uid=region.sop_instance_uid,
        voxels=int(region.mask_zyx.sum()),
        remarks=region.remarks,
        features=values,
    )


def _intensities(series: ImageSeries) -> NDArray[np.float32]:
    return series.filled_zyx(AIR_HU) if series.modality == "CT" else series.volume.array_zyx


def _region(
    series: ImageSeries, region_files: Sequence[Path], roi_name: str, synonyms: Mapping[str, str]
) -> _Region:  # fmt: skip
    wanted = _standard(roi_name, synonyms)
    found: list[tuple[Path, str, str]] = []
    unusable: list[str] = []
    for path in region_files:
        try:
            class_uid, names = _names(path, series)
        except InputRejected as error:
            # Of a folder, a file that belongs to other images is no reason to refuse these.
            unusable.append(str(error))
            continue
        found += [(path, class_uid, name) for name in names if name == roi_name or _standard(name, synonyms) == wanted]
    if not found:
        reasons = f" ({'; '.join(dict.fromkeys(unusable))})" if unusable else ""
        raise InputRejected(f"No structure set or segmentation of these images has a region {roi_name}{reasons}")
    # A name as it stands goes before those that mean the same.
    literal = [one for one in found if one[2] == roi_name] or found
    if len(literal) > 1:
        raise InputRejected(f"{len(literal)} regions go by the name {roi_name}; name the file and the exact name")
    path, class_uid, name = literal[0]
    return _segment(path, series, name) if class_uid == SegmentationStorage else _contoured(path, series, name)


def _standard(name: str, synonyms: Mapping[str, str]) -> str:
    return synonyms.get(name.strip().lower()) or tg263_name(name)


def _names(path: Path, series: ImageSeries) -> tuple[str, list[str]]:
    """SOP Class of a file and the regions in it; none of another Frame of Reference."""
    header = read_instance(path, ("SOPClassUID", "FrameOfReferenceUID"))
    class_uid = text(header, "SOPClassUID")
    if class_uid not in REGION_CLASSES:
        raise InputRejected("A file named as that of the region is neither a structure set nor a segmentation")
    if class_uid == SegmentationStorage:
        if text(header, "FrameOfReferenceUID") != series.frame_of_reference_uid:
            return class_uid, []
        return class_uid, list(read_segmentation(path, series).masks)
    structures = read_structure_set(path)
    if structures.frame_of_reference_uid != series.frame_of_reference_uid:
        return class_uid, []
    return class_uid, [roi.name for roi in structures.rois]


def _segment(path: Path, series: ImageSeries, name: str) -> _Region:
    read = read_segmentation(path, series)
    return _Region(read.sop_instance_uid, read.masks[name], ())


def _contoured(path: Path, series: ImageSeries, name: str) -> _Region:
    structures = read_structure_set(path)
    read = roi_masks(structures, series, [name])
    return _Region(structures.sop_instance_uid, read.masks[name], read.remarks)
