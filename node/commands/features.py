"""The command that computes standardised features of a region: features."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from node.commands.options import ConfigOption, JsonOption
from node.config import site_structure_names
from node.errors import ConfigError, NodeError

if TYPE_CHECKING:
    from models.feature_settings import FeatureSettings
    from pipelines.feature_extraction import RegionFeatures

FolderArgument = Annotated[
    Path, typer.Argument(metavar="IMAGE_DIR", help="Folder of DICOM files, searched to the bottom.")
]
RoiOption = Annotated[
    str, typer.Option("--roi", metavar="NAME", help="ROI Name or Segment Label; TG-263 or a synonym.")
]
RoiFileOption = Annotated[
    Path | None,
    typer.Option("--roi-file", metavar="FILE", help="Structure set or segmentation; if left out, those of the folder."),
]
SeriesOption = Annotated[
    str | None, typer.Option(metavar="UID", help="Series of images; needed where the folder has several.")
]
SettingsOption = Annotated[
    Path | None, typer.Option("--settings", metavar="FILE", help="YAML with feature settings by name.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(features)


def features(
    folder: FolderArgument,
    roi: RoiOption,
    roi_file: RoiFileOption = None,
    series: SeriesOption = None,
    settings: SettingsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute the IBSI features of a region of a series; exit status 1 where there are none."""
    from pipelines.feature_extraction import objects_below, region_features

    chosen, synonyms = feature_settings(settings), site_structure_names(config)
    objects = objects_below(folder)
    images = _images(objects.images, series)
    found = region_features(images, (roi_file,) if roi_file else objects.regions, roi, chosen, synonyms)
    if as_json:
        Console().print_json(data=_record(found, chosen))
    else:
        _print(found)


def feature_settings(path: Path | None) -> "FeatureSettings":
    """Settings of a YAML file; the defaults without one.

    Raises
    ------
    ConfigError
        If the file can not be read, or a setting is unknown, of a wrong type or contradicts another.
    """
    from models.feature_settings import FeatureSettings

    try:
        return FeatureSettings.model_validate(_document(path) if path else {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(path or Path(), key, first["msg"].removeprefix("Value error, ")) from error


def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: no UTF-8, or a date that there is not
        raise ConfigError(path, "", f"can not be read: {error}") from error
    if not isinstance(document, dict | None):
        raise ConfigError(path, "", "is no mapping")
    return document or {}


def _images(images: Mapping[str, tuple[Path, ...]], wanted: str | None) -> tuple[Path, ...]:
    if wanted is not None:
        if wanted not in images:
            raise NodeError(f"the folder has no image series {wanted}")
        return images[wanted]
    if len(images) > 1:
        raise NodeError(f"the folder has {len(images)} image series: name one with --series ({', '.join(images)})")
    return next(iter(images.values()))


def _record(found: "RegionFeatures", settings: "FeatureSettings") -> dict[str, Any]:
    record = asdict(found)
    # JSON has no word for a value that is not defined but null.
    record["features"] = [
        {**one, "value": one["value"] if math.isfinite(one["value"]) else None} for one in record["features"]
    ]
    software = {"rtnode": version("rtnode"), "mirp": version("mirp")}
    return {"settings": settings.model_dump(mode="json"), "software": software, **record}


def _print(found: "RegionFeatures") -> None:
    table = Table("family", "feature", "IBSI", "aggregation", "value", "unit")
    for one in found.features:
        value = f"{one.value:.6g}" if math.isfinite(one.value) else "undefined"
        table.add_row(one.family, one.name, one.ibsi_code, one.aggregation, value, escape(one.unit))
    console = Console()
    for remark in found.remarks:
        console.print(escape(remark))
    console.print(table)
    console.print(f"{len(found.features)} features of {found.voxels} voxels")
    console.print(f"settings {found.features[0].settings_sha256}" if found.features else "")
