"""Which network the plans of an nnU-Net name, and its settings, from plans of all releases of its second version."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from models.imported import Architecture
from models.imports.plain import checked, plain_settings

_BLOCKS = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
_MOST_STAGES = 16
_MOST_FEATURES = 4096


class _EarlierNetwork(BaseModel):
    """What such plans say of the network; the names are theirs."""

    UNet_class_name: Literal["PlainConvUNet", "ResidualEncoderUNet"]
    patch_size: list[int]
    n_conv_per_stage_encoder: list[int] = Field(max_length=_MOST_STAGES)
    n_conv_per_stage_decoder: list[int]
    UNet_base_num_features: int = Field(ge=1, le=_MOST_FEATURES)
    unet_max_num_features: int = Field(ge=1, le=_MOST_FEATURES)
    conv_kernel_sizes: list[list[int]]
    pool_op_kernel_sizes: list[list[int]]


def architecture_of(configuration: Mapping[str, Any], source: Path) -> Architecture:
    """Network and settings of a configuration of the plans.

    Raises
    ------
    models.weights.WeightsError
        If they are missing, or a setting is no plain value.
    """
    stated = configuration.get("architecture")
    if isinstance(stated, Mapping):
        settings = plain_settings(stated.get("arch_kwargs"), source)
        return Architecture(network=_class_name(stated.get("network_class_name")), settings=_named(settings))
    return _earlier_architecture(configuration, source)


def _earlier_architecture(configuration: Mapping[str, Any], source: Path) -> Architecture:
    """Of plans that were made before the architecture was a part of them."""
    known = checked(_EarlierNetwork, source, **{str(name): value for name, value in configuration.items()})
    stages, dimensions = len(known.n_conv_per_stage_encoder), len(known.patch_size)
    settings = {
        "n_stages": stages,
        "features_per_stage": [
            min(known.UNet_base_num_features << stage, known.unet_max_num_features) for stage in range(stages)
        ],
        "conv_op": f"Conv{dimensions}d",
        "kernel_sizes": known.conv_kernel_sizes,
        "strides": known.pool_op_kernel_sizes,
        _BLOCKS[known.UNet_class_name]: known.n_conv_per_stage_encoder,
        "n_conv_per_stage_decoder": known.n_conv_per_stage_decoder,
        "conv_bias": True,
        "norm_op": f"InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "nonlin": "LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return Architecture(network=known.UNet_class_name, settings=plain_settings(settings, source))


def _named(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the bare names of classes."""
    layers = ("conv_op", "norm_op", "dropout_op", "nonlin")
    return {name: _class_name(value) if name in layers and value else value for name, value in settings.items()}


def _class_name(path: Any) -> str:
    return str(path).rpartition(".")[2]
