"""Weights and their cards: a file of numbers is used only if its SHA-256 is the one that its card states.

A card is Markdown with YAML front matter. The front matter is what programs read: architecture, window, training
domain, limits and measured figures; the text below is for people.
"""

import hashlib
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError

from models.imported import ImportedModel
from models.limits import Limits

if TYPE_CHECKING:
    from torch import Tensor

_ROOT = Path(__file__).parent
_FENCE = "---\n"


class _CardDumper(yaml.SafeDumper):
    """Lists of numbers in a line, which a person can read, and not a number a line."""


def _in_a_line(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    is_flat = not any(isinstance(item, list | dict) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=is_flat)


_CardDumper.add_representer(list, _in_a_line)


class WeightsError(Exception):
    """Weights can not be used; the message is one plain sentence."""


class TrainingDomain(BaseModel):
    """What the training images had in common; an image outside it is outside what was ever measured.

    None is what nobody told of a network that was trained elsewhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: str
    """What the images are, in words: `simulated MVCT, head and neck`."""
    pixel_spacing_mm: tuple[float, float] | None
    """Smallest and largest."""
    slice_spacing_mm: tuple[float, float] | None
    """Smallest and largest."""
    body_mean_hu: float | None
    """Mean over the training volumes of the mean HU inside the body."""
    body_mean_sd_hu: float | None
    """Standard deviation of that mean between volumes."""
    height_mm: tuple[float, float] | None = None
    """Of the scans along the patient, smallest and largest; None also where it does not matter."""
    patients: int | None
    slices: int | None


class SegmentationTask(BaseModel):
    """What a network that segments looks at, and what it finds; the card of other networks has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    organs: tuple[str, ...] = Field(min_length=1)
    """TG-263 names of the outputs of the network, in their order; output 0 is what is none of them."""
    windows_hu: tuple[tuple[float, float], ...] = Field(min_length=1)
    """The CT is seen once through each of them."""
    takes_mr: bool = False
    """Whether there is one channel more for an MR on the grid of the CT; the CT alone will do."""
    spacing_zyx_mm: tuple[float, float, float]
    """Images are resampled to this before the network sees them."""
    patch_zyx: tuple[int, int, int]
    """Voxels that the network sees at a time, as in its training."""

    @property
    def channels(self) -> int:
        """Of the input of the network."""
        return len(self.windows_hu) + self.takes_mr


class Card(BaseModel):
    """What is known about one weights file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    method: str
    """What the weights are for: `cyclegan`."""
    architecture: Mapping[str, int]
    """Settings of the network, as its configuration class takes them."""
    window_hu: tuple[float, float]
    working_spacing_mm: float | None = None
    """Images with finer pixels are converted at this pixel spacing; None: always at their own."""
    segmentation: SegmentationTask | None = None
    """Only of networks that segment."""
    imported: ImportedModel | None = None
    """Only of networks that were trained elsewhere."""
    training_domain: TrainingDomain
    limits: Mapping[str, Limits] = Field(default_factory=dict)
    """By name of the measure, as in `models.stability_measures`."""
    usual: Mapping[str, float] = Field(default_factory=dict)
    """Of validation patients, by name: what becomes of tissues, as in `models.enhancement_measures`, or how the organs
    lie that are found, as in `models.organ_alignment`."""
    domain_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the file with the features of the training images (`models.feature_domain`); None: there is none."""
    witness_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the weights beside these that bear witness to their results (`models.witness`); None: there are none."""
    judged_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Only of a witness: of the weights whose results it was trained on."""
    organ_ml: Mapping[str, tuple[float, float]] = Field(default_factory=dict)
    """Smallest and largest volume of each organ that was drawn in the training patients, mL, by TG-263 name."""
    organ_places_mm: Mapping[str, tuple[float, float, float]] = Field(default_factory=dict)
    """Where along the patient organs lie, as in `models.organ_places`, by TG-263 name."""
    organ_surroundings_hu: Mapping[str, tuple[float | None, ...]] = Field(default_factory=dict)
    """Of the organs found in validation patients, as in `models.organ_surroundings`, by TG-263 name."""
    metrics: Mapping[str, float] = Field(default_factory=dict)
    """Measured on test patients, with the unit in the name."""
    text: str = Field(default="", exclude=True)
    """The part for people, Markdown."""


def shipped(methods: Collection[str] | None = None) -> list[str]:
    """Names of the weights that come with the package; of these methods only, if some are given.

    Raises
    ------
    WeightsError
        If methods are given and a file can not be used.
    """
    names = sorted(path.stem for path in (_ROOT / "weights").glob("*.safetensors"))
    return names if methods is None else [name for name in names if load_card(name).method in methods]


def card_path(weights: str) -> Path:
    """Where the card of shipped weights (by name) or of a `.safetensors` file (by path) lies.

    Raises
    ------
    WeightsError
        If it is neither a name nor such a path.
    """
    return _paths(weights)[1]


def domain_path(weights: str) -> Path:
    """Where the features of the training images of such weights lie; errors as in `card_path`."""
    return _paths(weights)[0].with_suffix(".domain")


def witness_path(weights: str) -> Path:
    """Where the weights of the witness of such weights lie; errors as in `card_path`."""
    path = _paths(weights)[0]
    return path.with_name(f"{path.stem}_witness{path.suffix}")


def witness_of(weights: str) -> str:
    """Name, or path, of the weights of the witness of such weights; errors as in `card_path`."""
    path = witness_path(weights)
    return str(path) if Path(weights).suffix else path.stem


def load_card(weights: str) -> Card:
    """Card of shipped weights (by name) or of a `.safetensors` file (by path, card beside it); SHA-256 verified.

    Raises
    ------
    WeightsError
        If file or card is absent, the card is malformed, or the file is not the one the card describes.
    """
    weights_path, card_path = _paths(weights)
    card = _read_card(card_path)
    _verified_bytes(weights_path, card)
    return card


def load_weights(weights: str) -> "tuple[Card, dict[str, Tensor]]":
    """Card and tensors, float32 on the CPU; `weights` and errors as in `load_card`."""
    card, tensors = load_stored(weights)
    return card, {name: tensor.float() for name, tensor in tensors.items()}


def load_stored(weights: str) -> "tuple[Card, dict[str, Tensor]]":
    """Card and tensors of the type that they are stored in, on the CPU; `weights` and errors as in `load_card`."""
    # Torch takes a second to import; who only reads cards, as every worker does, is spared it.
    from safetensors.torch import load as tensors_from_bytes

    weights_path, card_path = _paths(weights)
    card = _read_card(card_path)
    try:
        return card, tensors_from_bytes(_verified_bytes(weights_path, card))
    except SafetensorError as error:
        raise WeightsError(f"{weights_path} is not a safetensors file: {error}") from error


def save(
    weights_path: Path,
    tensors: "Mapping[str, Tensor]",
    card: Mapping[str, Any],
    text: str,
    card_path: Path | None = None,
) -> Card:
    """Write weights and their card (beside them unless `card_path` says otherwise); SHA-256 and name are filled in."""
    from safetensors.torch import save as tensors_to_bytes

    content = tensors_to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(content).hexdigest()
    complete = Card.model_validate({**card, "name": weights_path.stem, "sha256": digest, "text": text})
    weights_path.parent.mkdir(parents=True, exist_ok=True)
    weights_path.write_bytes(content)
    write_card(card_path or weights_path.with_suffix(".md"), complete)
    return complete


def write_card(path: Path, card: Card) -> None:
    """Write a card as Markdown with YAML front matter."""
    front = yaml.dump(card.model_dump(mode="json"), Dumper=_CardDumper, sort_keys=False, allow_unicode=True, width=120)
    path.write_text(f"{_FENCE}{front}{_FENCE}{card.text}", encoding="utf-8")


def _paths(weights: str) -> tuple[Path, Path]:
    """Weights file and card; a bare name is a shipped one, anything with an ending is a path."""
    path = Path(weights)
    if path.suffix == ".safetensors":
        return path, path.with_suffix(".md")
    if path.name != weights:
        raise WeightsError(f"{weights} is neither the name of shipped weights nor a .safetensors file")
    return _ROOT / "weights" / f"{weights}.safetensors", _ROOT / "cards" / f"{weights}.md"


def _read_card(path: Path) -> Card:
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"the card {path} can not be read: {error.strerror}") from error
    _, *parts = content.split(_FENCE, 2)
    if len(parts) != 2:
        raise WeightsError(f"the card {path} has no YAML front matter")
    try:
        return Card.model_validate({**_mapping(parts[0]), "text": parts[1]})
    except (yaml.YAMLError, ValidationError, ValueError) as error:
        raise WeightsError(f"the card {path} is malformed: {error}") from error


def _mapping(front: str) -> dict[str, Any]:
    content = yaml.safe_load(front)
    if not isinstance(content, dict):
        raise ValueError("the front matter is not a mapping")
    return content


def _verified_bytes(path: Path, card: Card) -> bytes:
    try:
        modified_ns = path.stat().st_mtime_ns
        content, digest = _content(path, modified_ns)
    except OSError as error:
        raise WeightsError(f"the weights file {path} can not be read: {error.strerror}") from error
    if digest != card.sha256:
        raise WeightsError(f"the weights file {path} is not the one its card describes: its SHA-256 is {digest}")
    return content


@lru_cache(maxsize=8)
def _content(path: Path, modified_ns: int) -> tuple[bytes, str]:
    """Content and SHA-256; cached because a pipeline asks for the digest with every job."""
    content = path.read_bytes()
    return content, hashlib.sha256(content).hexdigest()
