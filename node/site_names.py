"""The names that a site gives its regions: structure_names.yaml, and the pipelines that take them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.errors import ConfigError

FILE = "structure_names.yaml"
SETTING, SITE = "structure_names", "site"
"""A pipeline whose file says `structure_names: site` gets the names of the site."""


def checked_names(document: object, path: Path) -> dict[str, str]:
    """TG-263 names by the site's own names in lower case.

    Raises
    ------
    ConfigError
        If the content of the file is no mapping of names to names of TG-263.
    """
    from pipelines.dicom.structure_names import standard_name

    if not isinstance(document, Mapping):
        raise ConfigError(path, "", "is no mapping")
    names: dict[str, str] = {}
    for name, standard in document.items():
        if standard_name(str(standard)) != standard:
            raise ConfigError(path, str(name), f"{standard} is no name of TG-263")
        names[str(name).strip().lower()] = standard
    return names


def asks_for_names(settings: Mapping[str, Any]) -> bool:
    """Whether a pipeline with these settings gets the names of the site."""
    return settings.get(SETTING) == SITE
