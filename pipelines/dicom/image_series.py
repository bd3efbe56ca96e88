"""CT, MR and PET series, single-frame or enhanced multi-frame, as one volume with a header for every slice."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset

from pipelines.base import InputRejected
from pipelines.dicom.attributes import IMAGE_HEADER
from pipelines.dicom.elements import number, text
from pipelines.dicom.enhanced import frame_headers
from pipelines.dicom.one_series import check_one_series
from pipelines.dicom.pixels import LOSSY_METHODS, stored_values
from pipelines.dicom.reading import read_instance, transfer_syntax
from pipelines.dicom.stack import MODALITY_OF, PlaneError, distances_mm, fault_of, is_localizer, planes_of
from pipelines.dicom.volume import Volume, affine_of

CT = frozenset({"CT"})

PADDING_BELOW_HU = -900.0
"""A Pixel Padding Value of a CT counts only where it means no tissue; some scanners state one that is water."""
PLAUSIBLE_HU = 1e5
"""Beyond this a rescaled value is an error of the header, not a tissue."""
HU_RESCALE_TYPES = frozenset({"", "HU", "HU_MOD", "US"})
"""US is `unspecified`, as cone-beam scanners write it (PS3.3 C.11.1.1.2)."""


@dataclass(frozen=True)
class ImageSeries:
    """One series as a volume. Everything in `headers` has been decoded and belongs to the lists of `attributes`."""

    modality: str
    volume: Volume
    """float32: HU for CT, stored values after rescaling for MR and PET."""
    padding_zyx: NDArray[np.bool_]
    """Voxels that the scanner filled in where it has no data; they keep the value that the files give them."""
    headers: tuple[Dataset, ...]
    """One for each slice of the volume, in its order, without pixel data."""

    @property
    def header(self) -> Dataset:
        """Header of the first slice, for what is the same in all."""
        return self.headers[0]

    @property
    def series_instance_uid(self) -> str:
        """Series Instance UID."""
        return text(self.header, "SeriesInstanceUID")

    @property
    def frame_of_reference_uid(self) -> str:
        """Frame of Reference UID; never empty."""
        return text(self.header, "FrameOfReferenceUID")

    def filled_zyx(self, value: float) -> NDArray[np.float32]:
        """The values with all padding replaced, as a model wants them."""
        return np.where(self.padding_zyx, np.float32(value), self.volume.array_zyx)


@dataclass(frozen=True)
class _Slice:
    header: Dataset
    values: NDArray[np.float32]  # (rows, columns)
    padding: NDArray[np.bool_]  # (rows, columns)


def read_image_series(paths: Iterable[Path], modalities: frozenset[str] = CT) -> ImageSeries:
    """Read the instances of one series, in any order, into one volume.

    Parameters
    ----------
    paths
        Files of one series. Localizers among the slices of a scan are left out.
    modalities
        Values of Modality that the caller can work with.

    Raises
    ------
    InputRejected
        If a file is broken, the series is of another modality or mixes patients, studies, series or Frames of
        Reference, or its slices are not one regular volume (`stack.fault_of`).
    """
    images = tuple(read_instance(path, IMAGE_HEADER, pixels=True) for path in paths)
    if not images:
        raise InputRejected("The series has no image")
    _check_modality(images, modalities)
    check_one_series(images)
    scan = tuple(image for image in images if not is_localizer(image))
    if not scan:
        raise InputRejected("The series has only localizer images")
    _check_geometry(scan)
    return _assembled([slice_ for image in scan for slice_ in _slices(image)])


def _check_modality(images: Sequence[FileDataset], modalities: frozenset[str]) -> None:
    for image in images:
        modality = MODALITY_OF.get(text(image, "SOPClassUID"))
        if modality is None:
            raise InputRejected("A file is not a CT, MR or PET image")
        if modality not in modalities or text(image, "Modality") not in ("", modality):
            raise InputRejected(f"An image is not of the modality {' or '.join(sorted(modalities))}")


def _check_geometry(images: Sequence[FileDataset]) -> None:
    try:
        planes = [plane for image in images for plane in planes_of(image)]
    except PlaneError as error:
        raise InputRejected(str(error)) from error
    fault = fault_of(planes)
    if fault is not None:
        raise InputRejected(fault.text)


def _slices(image: FileDataset) -> list[_Slice]:
    headers = frame_headers(image)
    stored = stored_values(image)
    if len(stored) != len(headers):
        raise InputRejected(f"An image has {len(stored)} frames of pixels and {len(headers)} of geometry")
    for index, header in enumerate(headers):
        _note_compression(header, image)
        if "NumberOfFrames" in image:
            # Not an element of the file: kept so that a derived slice can name the frame it came from.
            header.ReferencedFrameNumber = index + 1
    return [_slice(header, values) for header, values in zip(headers, stored, strict=True)]


def _note_compression(header: Dataset, image: FileDataset) -> None:
    """Say in the header what the transfer syntax says about lost detail, for files that do not say it themselves."""
    syntax = transfer_syntax(image)
    if syntax not in LOSSY_METHODS or text(header, "LossyImageCompression") == "01":
        return
    native = int(image.Rows) * int(image.Columns) * int(image.BitsAllocated) // 8
    header.LossyImageCompression = "01"
    header.LossyImageCompressionMethod = LOSSY_METHODS[syntax]
    header.LossyImageCompressionRatio = f"{max(native / len(image.PixelData), 1.0):.2f}"


def _slice(header: Dataset, stored: NDArray[np.signedinteger[Any]]) -> _Slice:
    slope, intercept = _rescale(header)
    values = stored * slope + intercept
    # One value that is no number makes both of them none.
    largest = max(abs(float(values.min())), abs(float(values.max())))
    if not largest <= float(np.finfo(np.float32).max):
        raise InputRejected("Rescale Slope and Intercept make values that are not finite")
    if text(header, "Modality") == "CT" and largest > PLAUSIBLE_HU:
        raise InputRejected("Rescale Slope and Intercept make values that can not be HU")
    padding = _padding(header, stored)
    if text(header, "Modality") == "CT":
        padding &= values < PADDING_BELOW_HU
    return _Slice(header, values.astype(np.float32), padding)


def _rescale(header: Dataset) -> tuple[float, float]:
    """Rescale Slope and Intercept; 1 and 0 for MR without them, required of all others (PS3.3 C.8.2.1, C.8.9.4)."""
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    is_mr = MODALITY_OF[text(header, "SOPClassUID")] == "MR"
    if slope is None and intercept is None and is_mr:
        return 1.0, 0.0
    if slope is None or intercept is None or slope == 0:
        raise InputRejected("An image has no usable Rescale Slope and Intercept")
    if text(header, "Modality") == "CT" and text(header, "RescaleType").upper() not in HU_RESCALE_TYPES:
        raise InputRejected("Rescale Type says that the values are not HU")
    return slope, intercept


def _padding(header: Dataset, stored: NDArray[np.signedinteger[Any]]) -> NDArray[np.bool_]:
    """Where the scanner has no data (PS3.3 C.7.5.1.1.2)."""
    value = _stored_padding(header, "PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    limit = _stored_padding(header, "PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    return (stored >= low) & (stored <= high)


def _stored_padding(header: Dataset, keyword: str) -> int | None:
    """Writers often give a signed padding value as unsigned: 63536 for -2000."""
    value = number(header, keyword)
    if value is None:
        return None
    bits = int(header.BitsAllocated)
    is_wrapped = int(header.PixelRepresentation) == 1 and value >= 1 << (bits - 1)
    return int(value) - (1 << bits) if is_wrapped else int(value)


def _assembled(slices: Sequence[_Slice]) -> ImageSeries:
    planes = [plane for slice_ in slices for plane in planes_of(slice_.header)]
    order = np.argsort(distances_mm(planes), kind="stable")
    ascending = [slices[index] for index in order]
    values = np.stack([slice_.values for slice_ in ascending])
    return ImageSeries(
        modality=MODALITY_OF[text(ascending[0].header, "SOPClassUID")],
        volume=Volume(values, affine_of([planes[index] for index in order])),
        padding_zyx=np.stack([slice_.padding for slice_ in ascending]),
        headers=tuple(slice_.header for slice_ in ascending),
    )
