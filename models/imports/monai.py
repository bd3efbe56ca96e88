"""Read a MONAI bundle: what its inference does is taken from the configuration as facts, never carried out.

A bundle can name any Python to run. Here a network is built only if it is one of an allow-list, transforms are looked
up in the table below, and whatever is not understood is refused: an expression (`$...`), another class, another option.

References
----------
Cardoso et al., arXiv 2211.02701 (MONAI)
"""

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.imported import Architecture, ImportedModel, Normalisation, Resampling
from models.imported_networks import PROGRAM, empty_network, network_of, state_of
from models.imports.found import FoundModel, Naming, one_line
from models.imports.plain import checked, mapping_of, plain_settings
from models.imports.program import program_of, window_to
from models.weights import WeightsError

CONFIGURATIONS = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
_METADATA = "configs/metadata.json"
_STATES, _PROGRAMS = ("models/model.pt",), ("models/model.ts",)
_NETS = "monai.networks.nets."
_BACKGROUND = "background"
_DEEPEST = 8


@dataclass(frozen=True)
class _Way:
    """What the transforms do to the image and to the result, as far as they have been read."""

    source: Path
    axes: str | None = None
    spacing_mm: tuple[float | None, ...] | None = None
    normalisation: Normalisation | None = None
    is_normalised_first: bool = False
    is_softmax: bool = False
    is_nearest: bool = False


def read_monai(folder: Path, named: Naming = str, axes: str | None = None) -> FoundModel:
    """Model of a bundle: configs/inference.json (or yaml), configs/metadata.json, models/model.pt (or model.ts).

    Parameters
    ----------
    named
        From the names of its metadata.json to TG-263 names.
    axes
        Directions of the first, second and third axis of the images; needed only where the bundle does not turn them.

    Raises
    ------
    models.weights.WeightsError
        If something is missing, not understood or does not fit; the sentence names it.
    """
    configuration_path = next((folder / name for name in CONFIGURATIONS if (folder / name).is_file()), None)
    if configuration_path is None:
        raise WeightsError(f"{folder / CONFIGURATIONS[0]} is missing")
    configuration, metadata = mapping_of(configuration_path), mapping_of(folder / _METADATA)
    way = _read_way(configuration, configuration_path, axes)
    labels = _labels(metadata, folder / _METADATA)
    state_path, program_path = _first(folder, _STATES), _first(folder, _PROGRAMS)
    if state_path is None and program_path is None:
        raise WeightsError(f"{folder / _STATES[0]} is missing")
    is_state = state_path is not None
    model = checked(
        ImportedModel,
        folder,
        organs=tuple(named(label) for label in labels),
        original_organs=labels,
        axes=way.axes,
        spacing_mm=way.spacing_mm or (None, None, None),
        normalisation=way.normalisation,
        normalised_first=way.is_normalised_first,
        resampling=Resampling(grid="first_voxel", order=1),
        result_resampling=Resampling(grid="first_voxel", order=0 if way.is_nearest else 1),
        resampled_output="probabilities" if way.is_softmax else "logits",
        architecture=_architecture(configuration, configuration_path) if is_state else Architecture(),
        windows="strides",
        **_windows(configuration, configuration_path),
    )
    return FoundModel(
        method="monai" if is_state else "torchscript",
        model=model,
        tensors=_numbers(state_path, model) if state_path else {PROGRAM: program_of(folder / _PROGRAMS[0])},
        origin=one_line(f"MONAI bundle {metadata.get('name', folder.name)}, version {metadata.get('version')}"),
        modality=one_line(_image(metadata).get("modality"), 64),
        data=one_line(f"{metadata.get('data_source', '')} {metadata.get('data_type', '')}"),
        licence=one_line(metadata.get("copyright")),
    )


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _value(configuration: Mapping[str, Any], value: Any, what: str, source: Path) -> Any:
    """A plain value; `@name` is what the configuration has under that name, and an expression is refused."""
    for _ in range(_DEEPEST):
        if not isinstance(value, str) or not value.startswith(("@", "$", "%")):
            return value
        if not value.startswith("@"):
            break
        if value[1:] not in configuration:
            raise WeightsError(f"{what} in {source} is {one_line(value, 80)}, which is not there")
        value = configuration[value[1:]]
    raise WeightsError(f"{what} in {source} is an expression, which is not carried out: {one_line(value, 80)}")


def _class_of(one: Any, what: str, source: Path) -> str:
    if not isinstance(one, Mapping) or not isinstance(one.get("_target_"), str):
        raise WeightsError(f"{what} in {source} does not name its class")
    return str(one["_target_"])


def _transforms(configuration: Mapping[str, Any], name: str, source: Path) -> list[Mapping[str, Any]]:
    """Transforms of one part of the configuration, in their order, less those that are switched off."""
    whole = _value(configuration, configuration.get(name), name, source)
    if whole is None:
        return []
    if _class_of(whole, name, source).rpartition(".")[2] != "Compose":
        raise WeightsError(f"{name} in {source} is no Compose of transforms")
    listed = _value(configuration, whole.get("transforms"), f"{name} transforms", source)
    if not isinstance(listed, list):
        raise WeightsError(f"{name} in {source} has no list of transforms")
    every = [_value(configuration, one, name, source) for one in listed]
    # Those that are switched off may be of any class.
    return [one for one in every if not _is_disabled(configuration, one, source)]


def _is_disabled(configuration: Mapping[str, Any], transform: Any, source: Path) -> bool:
    stated = transform.get("_disabled_", False) if isinstance(transform, Mapping) else False
    return str(_value(configuration, stated, "_disabled_", source)).lower() == "true"


def _read_way(configuration: Mapping[str, Any], source: Path, axes: str | None) -> _Way:
    way = _Way(source)
    for part, known in (("preprocessing", _BEFORE), ("postprocessing", _AFTER)):
        for transform in _transforms(configuration, part, source):
            name = _transform_name(_class_of(transform, part, source))
            if name not in known:
                raise WeightsError(f"{part} in {source} has {one_line(name, 64)}, which is not known")
            options = {
                key: _value(configuration, value, f"{name} {key}", source)
                for key, value in transform.items()
                if key in _OPTIONS
            }
            way = known[name](way, options)
    if way.normalisation is None:
        way = replace(way, normalisation=Normalisation(scheme="linear"))
    if axes is not None and way.axes not in (None, axes):
        raise WeightsError(f"{source} turns images to {way.axes}, not to {axes}")
    if axes is None and way.axes is None:
        raise WeightsError(f"{source} does not turn images: say with --axes which directions their axes have")
    return replace(way, axes=way.axes or axes)


def _transform_name(target: str) -> str:
    """Name of a transform of a dictionary as MONAI prefers it; of one that is not MONAI's, the whole path."""
    module, _, name = target.rpartition(".")
    return target if module and not module.startswith("monai.transforms") else re.sub(r"(Dict|D)$", "d", name)


def _nothing(way: _Way, options: Mapping[str, Any]) -> _Way:
    return way


def _orientation(way: _Way, options: Mapping[str, Any]) -> _Way:
    if way.spacing_mm is not None or options.get("as_closest_canonical"):
        raise WeightsError(f"Orientationd in {way.source} comes after Spacingd or turns as it finds best")
    return replace(way, axes=str(options.get("axcodes")))


def _spacing(way: _Way, options: Mapping[str, Any]) -> _Way:
    sides, modes = options.get("pixdim"), options.get("mode", "bilinear")
    first = modes[0] if isinstance(modes, list) and modes else modes
    unknown = [name for name in ("scale_extent", "align_corners", "min_pixdim", "max_pixdim") if options.get(name)]
    if first != "bilinear" or unknown:
        raise WeightsError(f"Spacingd in {way.source} has options that are not known: {first} {' '.join(unknown)}")
    if not isinstance(sides, list) or len(sides) != 3 or not all(isinstance(mm, int | float) for mm in sides):
        raise WeightsError(f"Spacingd in {way.source} has no pixdim of three numbers")
    spacing_mm = tuple(float(mm) if mm > 0 else None for mm in sides)
    return replace(way, spacing_mm=spacing_mm, is_normalised_first=way.normalisation is not None)


def _normalised(way: _Way, normalisation: Normalisation) -> _Way:
    if way.normalisation is not None:
        raise WeightsError(f"{way.source} normalises images twice, which is not known")
    return replace(way, normalisation=normalisation)


def _scale_range(way: _Way, options: Mapping[str, Any]) -> _Way:
    numbers = [options.get(name) for name in ("a_min", "a_max", "b_min", "b_max")]
    if not all(isinstance(number, int | float) for number in numbers):
        raise WeightsError(f"ScaleIntensityRanged in {way.source} has no a_min, a_max, b_min and b_max")
    low_hu, high_hu, low, high = (float(number) for number in numbers if number is not None)
    return _normalised(way, window_to((low_hu, high_hu), (low, high), way.source, options.get("clip") is True))


def _normalize(way: _Way, options: Mapping[str, Any]) -> _Way:
    if options.get("nonzero"):
        raise WeightsError(f"NormalizeIntensityd in {way.source} is of nonzero voxels, which is not known")
    subtract, divide = options.get("subtrahend"), options.get("divisor")
    if subtract is None and divide is None:
        return _normalised(way, Normalisation(scheme="z_score"))
    facts = {"scheme": "linear", "subtract": _one(subtract), "divide": _one(divide)}
    return _normalised(way, checked(Normalisation, way.source, **facts))


def _one(value: Any) -> Any:
    """The value of the one channel."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _scale(way: _Way, options: Mapping[str, Any]) -> _Way:
    if (options.get("minv", 0.0), options.get("maxv", 1.0), options.get("factor")) != (0.0, 1.0, None):
        raise WeightsError(f"ScaleIntensityd in {way.source} has options that are not known")
    return _normalised(way, Normalisation(scheme="range"))


def _activations(way: _Way, options: Mapping[str, Any]) -> _Way:
    if options.get("sigmoid") or options.get("other"):
        raise WeightsError(f"the labels of {way.source} overlap or are found by a function, which is not supported")
    return replace(way, is_softmax=way.is_softmax or options.get("softmax") is True)


def _invert(way: _Way, options: Mapping[str, Any]) -> _Way:
    return replace(way, is_nearest=_one(options.get("nearest_interp", True)) is True)


def _discrete(way: _Way, options: Mapping[str, Any]) -> _Way:
    if _one(options.get("argmax")) is not True:
        raise WeightsError(f"AsDiscreted in {way.source} does not take the highest output")
    return way


_Reading = Callable[[_Way, Mapping[str, Any]], _Way]
_BEFORE: Mapping[str, _Reading] = {
    **dict.fromkeys(("LoadImaged", "EnsureChannelFirstd", "EnsureTyped", "CastToTyped", "ToTensord"), _nothing),
    "Orientationd": _orientation,
    "Spacingd": _spacing,
    "ScaleIntensityRanged": _scale_range,
    "NormalizeIntensityd": _normalize,
    "ScaleIntensityd": _scale,
}
"""What each known transform before the network adds to the way of an image."""
_AFTER: Mapping[str, _Reading] = {
    **dict.fromkeys(("EnsureTyped", "CastToTyped", "ToTensord", "SaveImaged"), _nothing),
    "Activationsd": _activations,
    "Invertd": _invert,
    "AsDiscreted": _discrete,
}
"""What each known transform behind the network adds."""
_OPTIONS = frozenset(
    "axcodes as_closest_canonical pixdim mode scale_extent align_corners min_pixdim max_pixdim a_min a_max b_min b_max "
    "clip nonzero subtrahend divisor minv maxv factor sigmoid softmax other nearest_interp argmax".split()
)
"""Options that change numbers; where files lie and what is logged does not matter."""


def _windows(configuration: Mapping[str, Any], source: Path) -> dict[str, Any]:
    inferer = _value(configuration, configuration.get("inferer"), "inferer", source)
    if _class_of(inferer, "inferer", source).rpartition(".")[2] != "SlidingWindowInferer":
        raise WeightsError(f"the inferer in {source} is no SlidingWindowInferer")
    options = {
        key: _value(configuration, inferer.get(key, default), f"inferer {key}", source)
        for key, default in (("roi_size", None), ("overlap", 0.25), ("mode", "constant"), ("sigma_scale", 0.125))
    }
    if options["mode"] not in ("constant", "gaussian") or options["sigma_scale"] != 0.125:
        raise WeightsError(f"the inferer in {source} has a mode that is not known: {one_line(options['mode'], 64)}")
    patch = options["roi_size"]
    return {
        "patch": tuple(patch) if isinstance(patch, list) else (patch,) * 3,
        "overlap": options["overlap"],
        "gaussian": options["mode"] == "gaussian",
    }


def _architecture(configuration: Mapping[str, Any], source: Path) -> Architecture:
    key = next((name for name in ("network_def", "network") if isinstance(configuration.get(name), Mapping)), None)
    if key is None:
        raise WeightsError(f"{source} has no network_def")
    definition = dict(configuration[key])
    target = _class_of(definition, key, source)
    if "." in target and not target.startswith(_NETS):
        raise WeightsError(f"{key} in {source} is {one_line(target, 80)}, not one of {_NETS}*")
    settings = {
        name: _value(configuration, value, f"{key} {name}", source)
        for name, value in definition.items()
        if not name.startswith("_")
    }
    return Architecture(network=target.rpartition(".")[2], settings=plain_settings(settings, source))


def _image(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    inputs = _format(metadata).get("inputs")
    image = inputs.get("image") if isinstance(inputs, Mapping) else None
    return image if isinstance(image, Mapping) else {}


def _format(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    stated = metadata.get("network_data_format")
    return stated if isinstance(stated, Mapping) else {}


def _labels(metadata: Mapping[str, Any], source: Path) -> tuple[str, ...]:
    """Names of the outputs 1, 2, ... of the network."""
    if _image(metadata).get("num_channels", 1) != 1:
        raise WeightsError(f"the bundle of {source} looks at several images, not at one CT")
    outputs = _format(metadata).get("outputs")
    result = outputs.get("pred") if isinstance(outputs, Mapping) else None
    names = result.get("channel_def") if isinstance(result, Mapping) else None
    if not isinstance(names, Mapping) or not all(str(key).isdecimal() for key in names):
        raise WeightsError(f"{source} has no channel_def of its output")
    numbered = {int(key): str(name) for key, name in names.items()}
    if sorted(numbered) != list(range(len(numbered))) or numbered.get(0, "").lower() != _BACKGROUND:
        raise WeightsError(f"the outputs in {source} are not the background and the labels 1, 2, ...")
    return tuple(numbered[number] for number in range(1, len(numbered)))


def _numbers(path: Path, model: ImportedModel) -> dict[str, Tensor]:
    """Numbers of the network, checked against it."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} holds more than numbers, so it was not opened") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(f"{path} is no file of numbers: {one_line(error, 200)}") from error
    for key in ("model", "state_dict"):
        content = content.get(key, content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} has no numbers of a network")
    outputs = 1 + len(model.organs)
    tensors = state_of(empty_network("monai", model.architecture, outputs), content)
    network_of("monai", model.architecture, outputs, tensors)
    return {f"0.{name}": tensor for name, tensor in tensors.items()}
