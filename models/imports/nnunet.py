"""Read the folder of a trained nnU-Net (v2): plans.json, dataset.json and the checkpoints of its folds.

References
----------
Isensee et al., Nat Methods 2021, doi 10.1038/s41592-020-01008-z
"""

import pickle
from collections.abc import Mapping, Sequence
from itertools import chain, permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar
from torch import Tensor

from models.imported import ImportedModel, Normalisation, Resampling
from models.imported_networks import empty_network, network_of, state_of
from models.imports.found import FoundModel, Naming, one_line
from models.imports.nnunet_network import architecture_of
from models.imports.plain import checked, mapping_of
from models.weights import WeightsError

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
"""The first of these that a fold has is taken."""
_HARMLESS: list[Any] = [
    np.dtype,
    *(type(np.dtype(name)) for name in ("bool", "int32", "int64", "float32", "float64")),
    # Under the names of both numpy 1 and 2: scores of the training are numbers of numpy.
    (scalar, "numpy._core.multiarray.scalar"),
    (scalar, "numpy.core.multiarray.scalar"),
]
"""What a checkpoint holds beside tensors and plain values."""
_AXES_OF_READERS = {"SimpleITKIO": "LPS", "NibabelIO": "LPS", "NibabelIOWithReorient": "RAS"}
"""Directions of the first, second and third axis of a file; only the last one of these readers turns the images."""
_TURNING_READER = "NibabelIOWithReorient"
_SPLINES = "resample_data_or_seg_to_shape"
_NORMALISATIONS = {"ZScoreNormalization": "z_score", "NoNormalization": "linear", "RescaleTo01Normalization": "range"}
_PREPROCESSOR = "DefaultPreprocessor"
_TRANSPOSITIONS = [list(order) for order in permutations(range(3))]


def read_nnunet(
    folder: Path, named: Naming = str, axes: str | None = None, folds: Sequence[str] | None = None
) -> FoundModel:
    """Model of a folder such as `nnUNet_results/Dataset001_X/nnUNetTrainer__nnUNetPlans__3d_fullres`.

    Parameters
    ----------
    named
        From the labels of its dataset.json to TG-263 names.
    axes
        Directions of the first, second and third axis of the files that it was trained on; None: LPS, unless the
        plans say that images were turned to RAS.
    folds
        `0`, `1`, `all`: the members of the ensemble; None: every fold that has a checkpoint.

    Raises
    ------
    models.weights.WeightsError
        If something is missing, not understood or does not fit; the sentence names it.
    """
    plans, dataset = mapping_of(folder / "plans.json"), mapping_of(folder / "dataset.json")
    checkpoints = [_checkpoint(path) for path in _checkpoint_paths(folder, folds)]
    configuration_name = _configuration_name(checkpoints, folder)
    configuration = _configuration(plans, configuration_name, folder / "plans.json")
    labels = _labels(dataset, folder / "dataset.json")
    architecture = architecture_of(configuration, folder / "plans.json")
    model = checked(
        ImportedModel,
        folder,
        organs=tuple(named(label) for label in labels),
        original_organs=labels,
        members=len(checkpoints),
        architecture=architecture,
        crop_to_nonzero=True,
        normalisation=_normalisation(plans, configuration, dataset, folder),
        resampling=_resampling(configuration, "data", folder),
        result_resampling=_resampling(configuration, "probabilities", folder),
        **_geometry(plans, configuration, checkpoints[0], axes, folder),
    )
    return FoundModel(
        method="nnunet",
        model=model,
        tensors=_tensors(checkpoints, model),
        origin=one_line(
            f"nnU-Net v2, configuration {configuration_name}, {len(checkpoints)} fold(s), "
            f"trainer {checkpoints[0].get('trainer_name')}, data set {plans.get('dataset_name')}"
        ),
        modality=one_line(next(iter(_channels(dataset).values())), 64),
        data=one_line(f"{dataset.get('description', '')} {dataset.get('reference', '')}"),
        licence=one_line(dataset.get("licence", dataset.get("license"))),
        **_training_images(folder, dataset, model, plans),
    )


def _checkpoint_paths(folder: Path, folds: Sequence[str] | None) -> list[Path]:
    names = ["all", *(str(number) for number in range(10))] if folds is None else folds
    if not all(name == "all" or name.isdecimal() for name in names):
        raise WeightsError(f"folds are numbers or `all`, not {', '.join(names)}")
    candidates = [[folder / f"fold_{name}" / checkpoint for checkpoint in CHECKPOINTS] for name in names]
    found = [next((path for path in paths if path.is_file()), None) for paths in candidates]
    if folds is not None and None in found:
        raise WeightsError(f"{candidates[found.index(None)][0]} is missing")
    paths = [path for path in found if path is not None]
    if not paths:
        raise WeightsError(f"{folder} has no fold_X/{CHECKPOINTS[0]}")
    return paths


def _checkpoint(path: Path) -> dict[str, Any]:
    """Content of a checkpoint; its pickle may make tensors, plain values and numbers of numpy, and nothing else."""
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} holds more than numbers, so it was not opened") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(f"{path} is no checkpoint: {one_line(error, 200)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("network_weights"), Mapping):
        raise WeightsError(f"{path} has no network_weights")
    return content


def _configuration_name(checkpoints: Sequence[Mapping[str, Any]], folder: Path) -> str:
    arguments = [one.get("init_args") for one in checkpoints]
    names = {str(one.get("configuration")) for one in arguments if isinstance(one, Mapping)}
    if len(names) != 1:
        raise WeightsError(f"the checkpoints in {folder} do not agree on one configuration")
    return names.pop()


def _configuration(plans: Mapping[str, Any], name: str, source: Path) -> dict[str, Any]:
    """A configuration of the plans with what it inherits."""
    known, chain_of_names = plans.get("configurations"), [name]
    merged: dict[str, Any] = {}
    while isinstance(known, Mapping) and isinstance(known.get(chain_of_names[-1]), Mapping):
        merged = {**known[chain_of_names[-1]], **merged}
        parent = known[chain_of_names[-1]].get("inherits_from")
        if parent is None:
            break
        if parent in chain_of_names:
            raise WeightsError(f"the configuration {name} in {source} inherits from itself")
        chain_of_names.append(str(parent))
    else:
        raise WeightsError(f"{source} has no configuration {chain_of_names[-1]}")
    if merged.get("previous_stage"):
        raise WeightsError(f"{name} is the second stage of a cascade, which is not supported")
    if merged.get("preprocessor_name", _PREPROCESSOR) != _PREPROCESSOR:
        raise WeightsError(f"the images of {name} are prepared by {merged['preprocessor_name']}, which is not known")
    return merged


def _labels(dataset: Mapping[str, Any], source: Path) -> tuple[str, ...]:
    """Names of the labels 1, 2, ... in their order; a label to be ignored is no output of the network."""
    labels = dataset.get("labels")
    if not isinstance(labels, Mapping) or not labels:
        raise WeightsError(f"{source} has no labels")
    values = {str(name): _single(value) for name, value in labels.items() if name != "ignore"}
    if None in values.values():
        raise WeightsError(f"the labels in {source} are regions that overlap, which is not supported")
    ordered = sorted(values, key=lambda name: values[name] or 0)
    if [values[name] for name in ordered] != list(range(len(values))):
        raise WeightsError(f"the labels in {source} are not the numbers from 0, each once")
    return tuple(ordered[1:])


def _single(label: Any) -> int | None:
    """The number of a label; None of a region of several."""
    if isinstance(label, list) and len(label) == 1:
        return _single(label[0])
    return int(label) if isinstance(label, int) or (isinstance(label, str) and label.isdecimal()) else None


def _channels(dataset: Mapping[str, Any]) -> dict[str, Any]:
    channels = dataset.get("channel_names", dataset.get("modality"))
    return channels if isinstance(channels, dict) else {}


def _geometry(
    plans: Mapping[str, Any],
    configuration: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
    axes: str | None,
    folder: Path,
) -> dict[str, Any]:
    """Spacing, patch and mirrored axes in the order of the axes that the network has, and their directions."""
    reader = str(plans.get("image_reader_writer", "SimpleITKIO"))
    if reader not in _AXES_OF_READERS:
        raise WeightsError(f"the images of {folder} are read by {reader}, which is not known")
    if axes is not None and reader == _TURNING_READER and axes != _AXES_OF_READERS[reader]:
        raise WeightsError(f"the plans in {folder} turn images to {_AXES_OF_READERS[reader]}, not to {axes}")
    directions = (axes or _AXES_OF_READERS[reader])[::-1]  # the arrays of a file have its last axis first
    transposed = plans.get("transpose_forward", [0, 1, 2])
    patch, spacing = configuration.get("patch_size"), configuration.get("spacing")
    if not isinstance(patch, list) or not isinstance(spacing, list) or len(patch) != len(spacing):
        raise WeightsError(f"the plans in {folder} have no patch_size and spacing")
    mirrored = checkpoint.get("inference_allowed_mirroring_axes") or ()
    is_listed = isinstance(mirrored, list | tuple) and all(isinstance(axis, int) for axis in mirrored)
    if len(directions) != 3 or transposed not in _TRANSPOSITIONS or len(patch) not in (2, 3) or not is_listed:
        raise WeightsError(f"the axes of the model in {folder} can not be understood")
    flat = 3 - len(patch)
    return {
        "axes": "".join(directions[axis] for axis in transposed),
        "patch": tuple([1] * flat + patch),
        "spacing_mm": tuple([None] * flat + spacing),
        "dimensions": len(patch),
        "mirrored": tuple(axis + flat for axis in mirrored),
    }


def _normalisation(
    plans: Mapping[str, Any], configuration: Mapping[str, Any], dataset: Mapping[str, Any], folder: Path
) -> Normalisation:
    schemes = configuration.get("normalization_schemes")
    channels = _channels(dataset)
    if not isinstance(schemes, list) or len(schemes) != 1 or len(channels) != 1:
        images = ", ".join(str(name) for name in channels.values())
        raise WeightsError(f"the model in {folder} looks at {len(channels)} images ({images}), not at one CT")
    scheme = one_line(schemes[0], 64)
    if scheme == "CTNormalization":
        return _ct_normalisation(plans, folder / "plans.json")
    if scheme not in _NORMALISATIONS:
        raise WeightsError(f"the normalisation {scheme} in {folder} is not known")
    masked = scheme == "ZScoreNormalization" and configuration.get("use_mask_for_norm") == [True]
    return Normalisation.model_validate({"scheme": _NORMALISATIONS[scheme], "inside_nonzero": masked})


def _ct_normalisation(plans: Mapping[str, Any], source: Path) -> Normalisation:
    known = plans.get("foreground_intensity_properties_per_channel")
    known = known or plans.get("foreground_intensity_properties_by_modality")
    first = known.get("0") if isinstance(known, Mapping) else None
    if not isinstance(first, Mapping):
        raise WeightsError(f"{source} has no foreground_intensity_properties_per_channel")
    return checked(
        Normalisation,
        source,
        scheme="linear",
        clip_hu=(first.get("percentile_00_5"), first.get("percentile_99_5")),
        subtract=first.get("mean"),
        divide=first.get("std"),
    )


def _resampling(configuration: Mapping[str, Any], what: str, folder: Path) -> Resampling:
    name = configuration.get(f"resampling_fn_{what}", _SPLINES)
    if name != _SPLINES:
        raise WeightsError(f"the model in {folder} resamples by {name}, which is not known")
    settings = configuration.get(f"resampling_fn_{what}_kwargs")
    settings = settings if isinstance(settings, Mapping) else {}
    return checked(
        Resampling,
        folder,
        order=settings.get("order", 3),
        order_between_slices=settings.get("order_z", 0),
        slices_apart=settings.get("force_separate_z", False),
    )


def _tensors(checkpoints: Sequence[Mapping[str, Any]], model: ImportedModel) -> dict[str, Tensor]:
    """Numbers of all members, each checked against the network that it belongs to."""
    outputs = 1 + len(model.organs)
    empty = empty_network("nnunet", model.architecture, outputs)
    members = [state_of(empty, checkpoint["network_weights"]) for checkpoint in checkpoints]
    for member in members:
        network_of("nnunet", model.architecture, outputs, member)
    numbered = (((f"{number}.{name}", one) for name, one in member.items()) for number, member in enumerate(members))
    return dict(chain.from_iterable(numbered))


def _training_images(
    folder: Path, dataset: Mapping[str, Any], model: ImportedModel, plans: Mapping[str, Any]
) -> dict[str, Any]:
    """Number and spacings of the training images, as far as the folder tells."""
    count = dataset.get("numTraining")
    facts: dict[str, Any] = {"patients": count if isinstance(count, int) else None}
    path = folder / "dataset_fingerprint.json"
    if not path.is_file():
        return facts
    try:
        spacings = np.asarray(mapping_of(path).get("spacings", ()), float)
    except (ValueError, TypeError):
        return facts
    if spacings.ndim != 2 or spacings.shape[1] != 3 or not np.isfinite(spacings).all():
        return facts
    # Of the files, before the axes were put in the order of the network.
    turned = spacings[:, plans.get("transpose_forward", [0, 1, 2])]
    slices = [axis for axis, letter in enumerate(model.axes) if letter in "SI"]
    rest = np.delete(turned, slices, axis=1)
    facts["slice_spacing_mm"] = (float(turned[:, slices].min()), float(turned[:, slices].max()))
    facts["pixel_spacing_mm"] = (float(rest.min()), float(rest.max()))
    return facts
