"""Folders that look like those of a trained nnU-Net, with random numbers."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.imported import Architecture
from models.imported_networks import empty_network

NETWORK = "PlainConvUNet"
SETTINGS: dict[str, Any] = {
    "n_stages": 2,
    "features_per_stage": [4, 8],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 2]],
    "n_conv_per_stage": [1, 1],
    "n_conv_per_stage_decoder": [1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}


def plans() -> dict[str, Any]:
    """As nnU-Net writes them, less what inference does not ask for."""
    settings = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [8, 16, 16],
        "spacing": [3.0, 1.0, 2.0],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**settings, "order": 3},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**settings, "order": 1},
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{NETWORK}",
            "arch_kwargs": deepcopy(SETTINGS),
        },
    }
    intensities = {"mean": 40.0, "std": 90.0, "percentile_00_5": -150.0, "percentile_99_5": 300.0}
    return {
        "dataset_name": "Dataset001_toy",
        "transpose_forward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "configurations": {"3d_fullres": configuration},
    }


def dataset() -> dict[str, Any]:
    """Two organs in a CT."""
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "parotid_right": 2, "parotid_left": 1},
        "numTraining": 7,
        "file_ending": ".nii.gz",
    }


def checkpoint(seed: int = 0) -> dict[str, Any]:
    """Random numbers of that network, and what else a checkpoint has."""
    torch.manual_seed(seed)
    settings = {name: value.rpartition(".")[2] if isinstance(value, str) else value for name, value in SETTINGS.items()}
    return {
        "network_weights": empty_network("nnunet", Architecture(network=NETWORK, settings=settings), 3).state_dict(),
        "init_args": {"configuration": "3d_fullres", "fold": 0, "device": torch.device("cpu")},
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "lrs": [0.01]},
        "_best_ema": np.float64(0.5),
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


def written_folder(
    folder: Path, plans: dict[str, Any], dataset: dict[str, Any], checkpoints: dict[str, dict[str, Any]]
) -> Path:
    """A folder of these; checkpoints by fold."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for fold, content in checkpoints.items():
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def toy_folder(folder: Path) -> Path:
    """One fold."""
    return written_folder(folder, plans(), dataset(), {"0": checkpoint()})
