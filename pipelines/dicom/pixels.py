"""Pixel data to stored values: native and compressed, checked against what the header announces."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEG2000MC,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from pipelines.base import InputRejected
from pipelines.dicom.elements import text, whole_number
from pipelines.dicom.reading import UNREADABLE, quiet, transfer_syntax

MAX_SIDE_PIXELS = 4096
"""No medical slice image is larger; a header that announces more is broken or hostile."""
MAX_VALUES = 2**30
"""Most pixels of one instance."""

LOSSY_METHODS: dict[UID, str] = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
    JPEG2000MC: "ISO_15444_2",
    HTJ2K: "ISO_15444_15",
}
"""Transfer syntaxes that may lose something, with their Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1)."""

UNDECODABLE: tuple[type[Exception], ...] = (*UNREADABLE, RuntimeError, MemoryError)
"""What pydicom and its decoders raise on pixel data that are broken."""

# The fastest bit-exact decoder of each family; gdcm decodes the rest, pydicom itself RLE.
_DECODERS: dict[UID, str] = {
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
}


def stored_values(dataset: FileDataset) -> NDArray[np.signedinteger[Any]]:
    """Stored values of an image.

    Returns
    -------
    Indexed [frame, row, column]; a single-frame image has one frame.

    Raises
    ------
    InputRejected
        If the pixels are absent, cut off, of another size than the header announces, or can not be decoded.

    References
    ----------
    PS3.3 C.7.6.3 Image Pixel Module; PS3.5 section 8
    """
    shape = _announced_shape(dataset)
    _check_sample_format(dataset)
    if "PixelData" not in dataset or not dataset["PixelData"].value:
        raise InputRejected("An image has no pixel data")
    syntax = transfer_syntax(dataset)
    if not syntax.is_transfer_syntax or not syntax.is_encapsulated:
        _check_native_length(dataset, shape)
    return _signed_or_not(_decoded(dataset, syntax, shape), dataset)


def is_lossy(syntax: UID) -> bool:
    """Whether pixels in this transfer syntax may have lost something."""
    return syntax in LOSSY_METHODS


def _announced_shape(dataset: FileDataset) -> tuple[int, int, int]:
    frames = whole_number(dataset, "NumberOfFrames") if text(dataset, "NumberOfFrames") else 1
    rows, columns = whole_number(dataset, "Rows"), whole_number(dataset, "Columns")
    if not rows or not columns or not frames or min(rows, columns, frames) < 1:
        raise InputRejected("An image has no usable Rows and Columns")
    if max(rows, columns) > MAX_SIDE_PIXELS or rows * columns * frames > MAX_VALUES:
        raise InputRejected(f"An image announces {frames} frames of {rows} x {columns} pixels, which is too large")
    return frames, rows, columns


def _check_sample_format(dataset: FileDataset) -> None:
    photometric = text(dataset, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputRejected(f"Photometric Interpretation is {_shown(photometric)}, not MONOCHROME")
    if whole_number(dataset, "SamplesPerPixel") != 1:
        raise InputRejected("An image has more than one sample per pixel")
    allocated, stored = whole_number(dataset, "BitsAllocated"), whole_number(dataset, "BitsStored")
    if allocated not in (8, 16, 32) or stored is None or not 1 <= stored <= allocated:
        raise InputRejected("An image has no usable Bits Allocated and Bits Stored")
    if whole_number(dataset, "HighBit") not in (None, stored - 1):
        raise InputRejected("High Bit is not Bits Stored less one")
    if whole_number(dataset, "PixelRepresentation") not in (0, 1):
        raise InputRejected("An image has no usable Pixel Representation")


def _shown(value: str) -> str:
    """A code string of the standard, or a word for what is none: free text may hold anything."""
    return value if value in ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT") else "unknown"


def _check_native_length(dataset: FileDataset, shape: tuple[int, int, int]) -> None:
    announced = int(np.prod(shape)) * int(dataset.BitsAllocated) // 8
    found = len(dataset["PixelData"].value)
    # PS3.5 8.1.1: an odd length is padded to an even one.
    if found not in (announced, announced + announced % 2):
        raise InputRejected(f"The pixel data have {found} bytes where the header announces {announced}")


def _decoded(dataset: FileDataset, syntax: UID, shape: tuple[int, int, int]) -> NDArray[np.generic]:
    try:
        with quiet():
            decoder = get_decoder(syntax)
            values, _ = decoder.as_array(dataset, raw=True, decoding_plugin=_DECODERS.get(syntax, ""))
    except UNDECODABLE as error:
        raise InputRejected(f"The pixel data can not be decoded ({_syntax_name(syntax)})") from error
    if values.size != np.prod(shape) or values.shape[-2:] != shape[1:]:
        raise InputRejected("The compressed pixel data have another size than the header announces")
    return values.reshape(shape)


def _syntax_name(syntax: UID) -> str:
    return syntax.name if syntax.is_transfer_syntax else "unknown transfer syntax"


def _signed_or_not(values: NDArray[np.generic], dataset: FileDataset) -> NDArray[np.signedinteger[Any]]:
    """Take the bits that count: above Bits Stored old scanners keep overlays."""
    signed, unused = int(dataset.PixelRepresentation) == 1, 32 - int(dataset.BitsStored)
    bits = values.astype(np.int64).astype(np.uint32) << np.uint32(unused)
    if signed:
        return bits.view(np.int32) >> unused
    # Only 32 bits without a sign, as a dose may have them, need more than 32 with one.
    return (bits >> np.uint32(unused)).astype(np.int32 if unused else np.int64)
