"""Models that are a few named numbers: a JSON file, used only if its SHA-256 is the one that its card states.

As with weights (`models.weights`) the card is Markdown with YAML front matter beside the file. What the file may hold,
the class of the model says; nothing in it is ever run.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.weights import WeightsError

_FENCE = "---\n"
Model = TypeVar("Model", bound=BaseModel)


class NumbersCard(BaseModel):
    """What is known about one file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    method: str
    """What the model is for: `delta_radiomics`."""
    metrics: Mapping[str, float] = Field(default_factory=dict)
    """Measured on patients that were held out, with the unit in the name."""
    text: str = Field(default="", exclude=True)
    """The part for people, Markdown."""


def save_numbers(
    path: Path, model: BaseModel, method: str, metrics: Mapping[str, float], text: str, card_path: Path | None = None
) -> NumbersCard:
    """Write a model as `path` (.json) and its card, beside it (.md) unless `card_path` says otherwise.

    Raises
    ------
    WeightsError
        If the path does not end in .json.
    """
    if path.suffix != ".json":
        raise WeightsError(f"{path} is not a .json file")
    content = (model.model_dump_json(indent=1) + "\n").encode()
    digest = hashlib.sha256(content).hexdigest()
    card = NumbersCard(name=path.stem, sha256=digest, method=method, metrics=metrics, text=text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    write_numbers_card(card_path or path.with_suffix(".md"), card)
    return card


def write_numbers_card(path: Path, card: NumbersCard) -> None:
    """Write a card as Markdown with YAML front matter."""
    front = yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    path.write_text(f"{_FENCE}{front}{_FENCE}{card.text}", encoding="utf-8")


def load_numbers(path: Path, kind: type[Model], card_path: Path | None = None) -> tuple[NumbersCard, Model]:
    """Read a model of this class and its card, which lies beside it unless `card_path` says otherwise.

    Raises
    ------
    WeightsError
        If file or card is absent, the card is malformed, the file is not the one that the card describes, or does not
        hold such a model.
    """
    card = _read_card(card_path or path.with_suffix(".md"))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"the model {path} can not be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.sha256:
        raise WeightsError(f"the model {path} is not the one its card describes: its SHA-256 is {digest}")
    try:
        return card, kind.model_validate_json(content)
    except ValidationError as error:
        raise WeightsError(f"the model {path} is malformed: {error}") from error


def _read_card(path: Path) -> NumbersCard:
    try:
        _, *parts = path.read_text(encoding="utf-8").split(_FENCE, 2)
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"the card {path} can not be read: {error}") from error
    if len(parts) != 2:
        raise WeightsError(f"the card {path} has no YAML front matter")
    try:
        return NumbersCard.model_validate(_front_matter(parts[0]) | {"text": parts[1]})
    except (yaml.YAMLError, ValueError) as error:
        raise WeightsError(f"the card {path} is malformed: {error}") from error


def _front_matter(front: str) -> dict[str, Any]:
    content = yaml.safe_load(front)
    if not isinstance(content, dict):
        raise ValueError("the front matter is not a mapping")
    return content
