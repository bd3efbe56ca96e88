"""The phantoms, configurations and reference values of the IBSI, and features compared with them."""

import csv
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from models.feature_settings import FeatureSettings
from models.ibsi_names import FEATURE_NAMES
from models.radiomics import Feature, features

GOLDEN = Path(__file__).parents[1] / "golden" / "ibsi_digital_phantom.csv"

# Zwanenburg, IBSI-1 digital phantom, CC BY 4.0 (github.com/theibsi/data_sets); [slice, row, column], voxels of 2 mm.
_DIGITAL_IMAGE = (
    ("14411", "14611", "41641", "44641"),
    ("14411", "11611", "11311", "44611"),
    ("14411", "11111", "11911", "11611"),
    ("14411", "11111", "11111", "11611"),
)
_DIGITAL_MASK = (
    ("11111", "11111", "11111", "11111"),
    ("11111", "11111", "01111", "11111"),
    ("11100", "11111", "11011", "11111"),
    ("11100", "11111", "11111", "11111"),
)
THREE_DIGITS = 3
"""Reference values are printed with so many."""


@dataclass(frozen=True)
class Phantom:
    """An image and its region."""

    image_zyx: NDArray[Any]
    mask_zyx: NDArray[np.bool_]
    spacing_zyx_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Reference:
    """One value of the consensus."""

    tag: str
    aggregation: str
    value: float
    tolerance: float

    def allowed(self) -> float:
        """How far a value may be off: the tolerance, and half a unit of the last digit that is printed."""
        size = math.floor(math.log10(abs(self.value))) if self.value else 0
        return (self.tolerance + 0.5 * 10.0 ** (size - THREE_DIGITS + 1)) * (1 + 1e-9)


@dataclass(frozen=True)
class Comparison:
    """A reference value and what was computed; None where nothing was."""

    reference: Reference
    computed: float | None

    @property
    def passed(self) -> bool:
        known = self.reference
        return self.computed is not None and abs(self.computed - known.value) <= known.allowed()


def digital_phantom() -> Phantom:
    """The digital phantom; its intensities are discretised already."""
    image, mask = (
        np.array([[[int(voxel) for voxel in row] for row in plane] for plane in planes], np.float64)
        for planes in (_DIGITAL_IMAGE, _DIGITAL_MASK)
    )
    return Phantom(image, mask > 0, (2.0, 2.0, 2.0))


DIGITAL_PHANTOM = FeatureSettings.model_validate(
    {
        "intensities": "arbitrary",
        "discretisation": None,
        "aggregations": [
            "2D, averaged", "2D, slice-merged", "2.5D, direction-merged", "2.5D, merged", "3D, averaged", "3D, merged",
        ],
    }
)  # fmt: skip

_IN_SLICES = ["2D, averaged", "2D, slice-merged", "2.5D, direction-merged", "2.5D, merged"]
_IN_VOLUME = ["3D, averaged", "3D, merged"]
_CT: dict[str, dict[str, Any]] = {
    "A": {
        "dimensions": "2D",
        "resegmentation_range": [-500, 400],
        "discretisation": {"method": "fixed_bin_size", "width": 25},
        "aggregations": _IN_SLICES,
    },
    "B": {
        "dimensions": "2D",
        "resampling": {"spacing_mm": 2, "interpolation": "linear"},
        "resegmentation_range": [-500, 400],
        "discretisation": {"method": "fixed_bin_number", "bins": 32},
        "aggregations": _IN_SLICES,
    },
    "C": {
        "resampling": {"spacing_mm": 2, "interpolation": "linear"},
        "resegmentation_range": [-1000, 400],
        "discretisation": {"method": "fixed_bin_size", "width": 25},
        "volume_histogram": {"method": "fixed_bin_size", "width": 2.5},
        "aggregations": _IN_VOLUME,
    },
    "D": {
        "resampling": {"spacing_mm": 2, "interpolation": "linear"},
        "outlier_sd": 3,
        "discretisation": {"method": "fixed_bin_number", "bins": 32},
        "aggregations": _IN_VOLUME,
    },
    "E": {
        "resampling": {"spacing_mm": 2, "interpolation": "cubic"},
        "resegmentation_range": [-1000, 400],
        "outlier_sd": 3,
        "discretisation": {"method": "fixed_bin_number", "bins": 32},
        "volume_histogram": {"method": "fixed_bin_number", "bins": 1000},
        "aggregations": _IN_VOLUME,
    },
}
CT_CONFIGURATIONS = {
    name: FeatureSettings.model_validate({"margin_mm": 20.0, **setting}) for name, setting in _CT.items()
}

_FILTERS: dict[str, dict[str, Any] | None] = {
    "1.A": None,
    "2.A": {"kind": "mean", "support_voxels": 5},
    "3.A": {"kind": "laplacian_of_gaussian", "sigma_mm": 1.5, "truncate_sd": 4.0},
    "4.A": {"kind": "laws", "kernel": "L5E5", "energy_distance_voxels": 7},
    "5.A": {"kind": "gabor", "sigma_mm": 5, "wavelength_mm": 2, "aspect_ratio": 1.5, "angle_step_deg": 22.5},
    "6.A": {"kind": "separable_wavelet", "family": "db3", "bands": "LH", "level": 1},
    "7.A": {"kind": "separable_wavelet", "family": "db3", "bands": "HH", "level": 2},
    "8.A": {"kind": "nonseparable_wavelet", "family": "simoncelli", "level": 1},
    "9.A": {"kind": "nonseparable_wavelet", "family": "simoncelli", "level": 2},
}
_IN_3D: dict[str, dict[str, Any]] = {
    "4.B": {"kernel": "L5E5E5"},
    "5.B": {"all_planes": True},
    "6.B": {"bands": "LLH"},
    "7.B": {"bands": "HHH"},
}


def _filter_configurations() -> Iterator[tuple[str, FeatureSettings]]:
    """A works in the slices as they are, B in a volume of 1 mm voxels; the whole image is seen."""
    shared = {"resegmentation_range": [-1000, 400], "families": ["statistics"], "margin_mm": 1000.0}
    for name, filter_ in _FILTERS.items():
        yield (
            name,
            FeatureSettings.model_validate(
                {**shared, "dimensions": "2D", "aggregations": _IN_SLICES[:1], "filter": filter_}
            ),
        )
        in_3d = name.replace("A", "B")
        filter_in_3d = None if filter_ is None else filter_ | _IN_3D.get(in_3d, {})
        resampling = {"spacing_mm": 1, "interpolation": "cubic"}
        yield in_3d, FeatureSettings.model_validate({**shared, "resampling": resampling, "filter": filter_in_3d})


FILTER_CONFIGURATIONS = dict(_filter_configurations())


def ibsi_folder() -> Path:
    """Where the data of the IBSI lie, if anywhere."""
    return Path(os.environ.get("RTNODE_DATA", "../shared/data")) / "ibsi"


def ct_phantom(folder: Path) -> Phantom:
    """The CT phantom: a lung tumour and its GTV."""
    nifti = folder / "ibsi_1_ct_radiomics_phantom" / "nifti"
    image = SimpleITK.ReadImage(nifti / "image" / "phantom.nii.gz")
    mask = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(nifti / "mask" / "mask.nii.gz")) > 0
    column_mm, row_mm, slice_mm = (round(mm, 6) for mm in image.GetSpacing())  # type: ignore[no-untyped-call]
    return Phantom(SimpleITK.GetArrayFromImage(image).astype(np.float64), mask, (slice_mm, row_mm, column_mm))


def references(folder: Path, dataset: str) -> list[Reference]:
    """Values of the first standard for one phantom and configuration, without those that have no number."""
    with (folder / "ibsi1_reference_values.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == dataset]
    found: list[Reference] = []
    for row in rows:
        if row["value"]:
            tag = _tag(row, {(one.tag, one.aggregation) for one in found})
            tolerance = float(row["tolerance"] or 0.0)
            found.append(Reference(tag, row["aggregation"], float(row["value"]), tolerance))
    return found


def _tag(row: dict[str, str], used: set[tuple[str, str]]) -> str:
    # The table gives the percentiles of the histogram their neighbours' codes, and small zone emphasis none.
    percentiles = {"10": "ih_p10", "90": "ih_p90"}
    if "percentile" in row["feature"] and "discretised" in row["feature"]:
        return percentiles[row["feature"][:2]]
    code = row["ibsi_id"] or FEATURE_NAMES["szm_sze"].ibsi_code
    # Of the volume histogram two features share a code; the first is that at 10 %.
    tags = [tag for tag, known in FEATURE_NAMES.items() if known.ibsi_code == code]
    return next(tag for tag in tags if (tag, row["aggregation"]) not in used)


def filter_references(folder: Path, configuration: str) -> list[Reference]:
    """Values of the second standard for one configuration."""
    path = folder / "ibsi_2_reference_data" / "reference_feature_values" / "reference_values.csv"
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter=";") if row["filter_id"] == configuration]
    return [
        Reference(row["feature_tag"], "", float(row["consensus_value"]), float(row["tolerance"]))
        for row in rows
        if row["consensus_value"]
    ]


def golden_references() -> list[Reference]:
    """Values for the digital phantom that live in the project."""
    with GOLDEN.open(encoding="utf-8") as file:
        return [
            Reference(row["tag"], row["aggregation"], float(row["value"]), float(row["tolerance"]))
            for row in csv.DictReader(file)
        ]


def computed_features(phantom: Phantom, settings: FeatureSettings) -> dict[tuple[str, str], Feature]:
    """Features by tag and aggregation."""
    made = features(phantom.image_zyx, phantom.mask_zyx, phantom.spacing_zyx_mm, settings)
    return {(one.tag, one.aggregation): one for one in made}


def compared(phantom: Phantom, settings: FeatureSettings, known: list[Reference]) -> list[Comparison]:
    """Every reference value beside the computed one."""
    made = computed_features(phantom, settings)
    found = [(one, made.get((one.tag, one.aggregation))) for one in known]
    return [Comparison(one, None if feature is None else feature.value) for one, feature in found]
