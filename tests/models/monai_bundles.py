"""MONAI bundles with random numbers, and what MONAI itself finds with them."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.imported import Architecture
from models.imported_networks import empty_network

NETWORKS: dict[str, dict[str, Any]] = {
    "SegResNet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "init_filters": 8, "blocks_down": [1, 1],
                  "blocks_up": [1]},
    "UNet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2],
             "norm": "batch"},
}  # fmt: skip


def configuration(network: str = "SegResNet") -> dict[str, Any]:
    """As a bundle of the model zoo states its inference."""
    image = {"keys": "image"}
    return {
        "imports": ["$import glob"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cpu')",
        "spacing": [2.0, 1.5, 3.0],
        "network_def": {"_target_": network, **NETWORKS[network]},
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", **image},
                {"_target_": "EnsureChannelFirstd", **image},
                {"_target_": "Orientationd", **image, "axcodes": "RAS"},
                {"_target_": "Spacingd", **image, "pixdim": "@spacing", "mode": "bilinear"},
                {
                    "_target_": "ScaleIntensityRanged", **image,
                    "a_min": -160, "a_max": 240, "b_min": -1.0, "b_max": 1.0, "clip": True,
                },
                {"_target_": "EnsureTyped", **image},
            ],
        },
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [16, 16, 16], "sw_batch_size": 2, "overlap": 0.25, "mode": "gaussian",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd", "keys": "pred", "orig_keys": "image", "transform": "@preprocessing",
                    "nearest_interp": False, "to_tensor": True,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {"_target_": "SaveImaged", "_disabled_": True, "keys": "pred", "output_dir": "@output_dir"},
            ],
        },
    }  # fmt: skip


def metadata() -> dict[str, Any]:
    """Names of the organs, and what the makers say of their data."""
    return {
        "name": "Toy organs",
        "version": "0.1.0",
        "copyright": "made up",
        "data_source": "none",
        "network_data_format": {
            "inputs": {"image": {"type": "image", "modality": "CT", "num_channels": 1}},
            "outputs": {
                "pred": {"num_channels": 3, "channel_def": {"0": "background", "1": "spleen", "2": "Kidney left"}}
            },
        },
    }


def state(network: str = "SegResNet") -> dict[str, torch.Tensor]:
    """Random numbers of a network."""
    torch.manual_seed(6)
    return empty_network("monai", Architecture(network=network, settings=NETWORKS[network]), 3).state_dict()


def written_bundle(
    folder: Path, configuration: dict[str, Any], metadata: dict[str, Any], numbers: dict[str, Any]
) -> Path:
    """A bundle folder of these."""
    for part in ("configs", "models"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "configs" / "inference.json").write_text(json.dumps(configuration))
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    torch.save(numbers, folder / "models" / "model.pt")
    return folder


def found_by_monai(
    bundle: Path, hu_zyx: NDArray[Any], spacing_zyx_mm: tuple[float, float, float], file: Path
) -> NDArray[Any]:
    """Labels that the bundle finds in an image, run by MONAI as the bundle says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nibabel
        from monai.bundle.config_parser import ConfigParser

        z_mm, y_mm, x_mm = spacing_zyx_mm
        # Columns to the patient's left and rows to posterior, in a frame whose axes run to the right and to anterior.
        nifti: Any = nibabel.Nifti1Image  # its stubs know no types
        nibabel.save(nifti(hu_zyx.transpose(2, 1, 0), np.diag([-x_mm, -y_mm, z_mm, 1.0])), file)
        parser = ConfigParser()
        parser.read_config(str(bundle / "configs" / "inference.json"))
        network = parser.get_parsed_content("network_def").eval()
        network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
        seen = parser.get_parsed_content("preprocessing")({"image": str(file)})
        with torch.inference_mode():
            seen["pred"] = parser.get_parsed_content("inferer")(seen["image"][None], network)[0]
            result = parser.get_parsed_content("postprocessing")(seen)["pred"]
    return np.asarray(result[0]).transpose(2, 1, 0)
