"""Whether instances belong together: one patient, one study, one series, one Frame of Reference."""

from collections.abc import Sequence

from pydicom.dataset import FileDataset

from pipelines.base import InputRejected
from pipelines.dicom.elements import text
from pipelines.dicom.stack import is_localizer


def check_one_series(images: Sequence[FileDataset]) -> None:
    """A pipeline must never join what does not belong together, so absence counts as a difference too.

    Localizers may have a Frame of Reference of their own.

    Raises
    ------
    InputRejected
        If the images are of several patients, studies, series or Frames of Reference, do not say of which, or one is
        there twice.
    """
    _check_same(images, "patients", ("PatientID", "IssuerOfPatientID"), required=False)
    _check_same(images, "patients", ("PatientName",), required=False)
    _check_same(images, "patients", ("PatientBirthDate",), required=False)
    _check_same(images, "studies", ("StudyInstanceUID",))
    _check_same(images, "series", ("SeriesInstanceUID",))
    scan = [image for image in images if not is_localizer(image)]
    _check_same(scan, "Frames of Reference", ("FrameOfReferenceUID",))
    if len({text(image, "SOPInstanceUID") for image in images}) < len(images):
        raise InputRejected("Two files have the same SOP Instance UID")


def _check_same(
    images: Sequence[FileDataset], what: str, keywords: tuple[str, ...], required: bool = True
) -> None:  # fmt: skip
    found = {tuple(text(image, keyword) for keyword in keywords) for image in images}
    if len(found) > 1:
        raise InputRejected(f"The series has images of {len(found)} {what}")
    if required and not all(all(values) for values in found):
        raise InputRejected(f"An image does not say to which {_SINGULAR[what]} it belongs")


_SINGULAR = {"studies": "study", "series": "series", "Frames of Reference": "Frame of Reference"}
