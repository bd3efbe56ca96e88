"""Read files of settings that nobody here wrote: of bounded size, and plain values only."""

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, JsonValue, ValidationError

from models.weights import WeightsError

_LARGEST_BYTES = 32 << 20
"""Names every training image of the largest data sets."""
_LARGEST_NUMBER = 8192
_LONGEST_LIST = 64
_LONGEST_TEXT = 64
_DEEPEST = 4

Checked = TypeVar("Checked", bound=BaseModel)


def mapping_of(path: Path) -> dict[str, Any]:
    """Content of a JSON or YAML file.

    Raises
    ------
    models.weights.WeightsError
        If it is not there, larger than 32 MiB, or no mapping.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise WeightsError(f"{path} is larger than {_LARGEST_BYTES >> 20} MiB")
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise WeightsError(f"{path} can not be read: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise WeightsError(
            f"{path} is no {path.suffix.removeprefix('.').upper()} file: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise WeightsError(f"{path} is no mapping of names")
    return content


def checked(kind: type[Checked], source: Path, /, **values: Any) -> Checked:
    """A record of these values.

    Raises
    ------
    models.weights.WeightsError
        If a value is none that the record takes; it names the first.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise WeightsError(f"{source} can not be used: {place} {first['msg']}".replace("  ", " ")) from error


def plain_settings(values: Any, source: Path) -> dict[str, JsonValue]:
    """Settings of a network.

    Raises
    ------
    models.weights.WeightsError
        If they are no mapping, or a value is not plain or larger than any network has.
    """
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise WeightsError(f"{source} has no settings of a network")
    return {name: _plain(value, name, source, 0) for name, value in values.items()}


def _plain(value: Any, name: str, source: Path, depth: int) -> JsonValue:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float) and abs(value) <= _LARGEST_NUMBER:
        return value
    if isinstance(value, str) and len(value) <= _LONGEST_TEXT and not value.startswith(("$", "@", "%")):
        return value
    if depth < _DEEPEST and isinstance(value, list | tuple) and len(value) <= _LONGEST_LIST:
        return [_plain(one, name, source, depth + 1) for one in value]
    if depth < _DEEPEST and isinstance(value, dict) and len(value) <= _LONGEST_LIST:
        return {str(key): _plain(one, f"{name}.{key}", source, depth + 1) for key, one in value.items()}
    raise WeightsError(f"{name} in {source} is no plain value that a network can have")
