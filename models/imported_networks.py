"""Build the networks of imported weights: classes of an allow-list with the numbers of the file, or a program in it.

A card names its network and the settings of it. A name is looked up in the tables here and nowhere else, and every
setting is a number, a name of another table, or a list of these: nothing that a card says is executed.

An ONNX or TorchScript program is stored as one tensor of bytes, so that there is one mechanism of verified files: its
SHA-256 is part of the card like that of any weights. It is a program of the one who made it all the same, and runs with
the rights of the worker.
"""

import importlib
import io
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor, nn

from models.imported import Architecture, ImportedModel
from models.sliding_window import Network
from models.weights import WeightsError, load_stored

PROGRAM = "program"
"""Name of the tensor that holds the bytes of a program."""
CHANNELS = 1
"""An imported network sees one CT."""
_NNUNET = frozenset({"PlainConvUNet", "ResidualEncoderUNet"})
"""Of `dynamic_network_architectures.architectures.unet`."""
_MONAI = frozenset(
    {"AttentionUnet", "BasicUNet", "DynUNet", "SegResNet", "SwinUNETR", "UNETR", "UNet", "VNet"}
)  # fmt: skip
"""Of `monai.networks.nets`."""
_LAYERS: Mapping[str, Mapping[str, type[nn.Module]]] = {
    "conv_op": {"Conv2d": nn.Conv2d, "Conv3d": nn.Conv3d},
    "norm_op": {
        "InstanceNorm2d": nn.InstanceNorm2d,
        "InstanceNorm3d": nn.InstanceNorm3d,
        "BatchNorm2d": nn.BatchNorm2d,
        "BatchNorm3d": nn.BatchNorm3d,
    },
    "dropout_op": {"Dropout2d": nn.Dropout2d, "Dropout3d": nn.Dropout3d},
    "nonlin": {"LeakyReLU": nn.LeakyReLU, "ReLU": nn.ReLU},
}
"""What a layer of an nnU-Net may be, by the setting that names it."""


def loaded_networks(weights: str, sha256: str, device: str, bf16: bool) -> tuple[Network, ...]:
    """Members of an ensemble, each (1, 1, D, H, W) on the CPU to (1, K, D, H, W) float32 on the CPU.

    They are loaded once per process, content and device.

    Raises
    ------
    models.weights.WeightsError
        If the file does not fit its card, or a package is not installed.
    """
    method, model, members = _members(weights, sha256, device)
    if method == "onnx":
        return members
    return tuple(_on_device(member, torch.device(device), bf16, model.dimensions) for member in members)


def network_of(method: str, architecture: Architecture, outputs: int, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A network in evaluation mode with these numbers.

    Raises
    ------
    models.weights.WeightsError
        If the network or a setting of it is not in the tables, or the numbers are not those of that network.
    """
    try:
        network = _BUILDERS[method](architecture, outputs)
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError, IndexError) as error:
        raise WeightsError(f"{architecture.network} can not be built as the card says: {error}") from error
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    if own.keys() != tensors.keys():
        odd = sorted(own.keys() ^ tensors.keys())
        raise WeightsError(f"the numbers are not those of {architecture.network}: {len(odd)} differ, {odd[0]} first")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise WeightsError(f"{name} of {architecture.network} has the shape {tuple(tensors[name].shape)}")
        tensor.data.copy_(tensors[name])
    return network.eval().requires_grad_(False)


def state_of(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The numbers of a state, each once and by the first of its names in the network; what is not in it is left out."""
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: state[name].contiguous() for name in own if name in state}


def empty_network(method: str, architecture: Architecture, outputs: int) -> nn.Module:
    """The network with the numbers of its making; errors as in `network_of`, of a name or setting."""
    try:
        return _BUILDERS[method](architecture, outputs)
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError, IndexError) as error:
        raise WeightsError(f"{architecture.network} can not be built: {error}") from error


def required(package: str, extra: str) -> ModuleType:
    """An optional package.

    Raises
    ------
    models.weights.WeightsError
        If it is not installed.
    """
    try:
        with warnings.catch_warnings():
            # Of packages about their own dependencies; nothing that a user of the weights can change.
            warnings.simplefilter("ignore")
            return importlib.import_module(package)
    except ImportError as error:
        raise WeightsError(f"the package {package} is not installed: pip install 'rtnode[{extra}]'") from error


@lru_cache(maxsize=2)
def _members(weights: str, sha256: str, device: str) -> tuple[str, ImportedModel, tuple[Any, ...]]:
    card, tensors = load_stored(weights)
    model = card.imported
    if model is None:
        raise WeightsError(f"the weights {weights} were not imported")
    if card.method in _PROGRAMS:
        if tensors.keys() != {PROGRAM} or tensors[PROGRAM].dtype != torch.uint8:
            raise WeightsError(f"the weights {weights} hold no program")
        return card.method, model, (_PROGRAMS[card.method](tensors[PROGRAM].numpy().tobytes(), device),)
    networks = [
        network_of(card.method, model.architecture, 1 + len(model.organs), _part(tensors, number))
        for number in range(model.members)
    ]
    return card.method, model, tuple(network.to(torch.device(device)) for network in networks)


def _part(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """The numbers of one member of an ensemble."""
    beginning = f"{number}."
    part = {name.removeprefix(beginning): one for name, one in tensors.items() if name.startswith(beginning)}
    return {name: one.float() if one.is_floating_point() else one for name, one in part.items()}


def _on_device(network: nn.Module, device: torch.device, bf16: bool, dimensions: int) -> Network:
    def run(patch: Tensor) -> Tensor:
        flat = patch[:, :, 0] if dimensions == 2 else patch
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            result = network(flat.to(device))
        if not isinstance(result, Tensor):
            raise WeightsError("the network returns something else than one tensor")
        whole = result.float().cpu()
        return whole[:, :, None] if dimensions == 2 else whole

    return run


def _nnunet(architecture: Architecture, outputs: int) -> nn.Module:
    if architecture.network not in _NNUNET:
        raise ValueError("it is no network of nnU-Net that is known here")
    unets = required("dynamic_network_architectures.architectures.unet", "nnunet")
    settings = {name: _layer(name, value) for name, value in architecture.settings.items()}
    network: nn.Module = getattr(unets, architecture.network)(
        input_channels=CHANNELS, num_classes=outputs, deep_supervision=False, **settings
    )
    return network


def _layer(setting: str, value: JsonValue) -> Any:
    """The class that a setting names; any other setting as it is."""
    if setting not in _LAYERS or value is None:
        return value
    return _LAYERS[setting][str(value)]


def _monai(architecture: Architecture, outputs: int) -> nn.Module:
    if architecture.network not in _MONAI:
        raise ValueError(f"it is none of {', '.join(sorted(_MONAI))}")
    nets = required("monai.networks.nets", "monai")
    network: nn.Module = getattr(nets, architecture.network)(**architecture.settings)
    return network


def _onnx(program: bytes, device: str) -> Network:
    runtime = required("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers = [name for name in _PROVIDERS[torch.device(device).type] if name in runtime.get_available_providers()]
    try:
        session = runtime.InferenceSession(program, options, providers=providers)
    except runtime.capi.onnxruntime_pybind11_state.Fail as error:
        raise WeightsError(f"the ONNX program can not be loaded: {error}") from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise WeightsError(f"the ONNX program takes {len(inputs)} inputs, not one")

    def run(patch: Tensor) -> Tensor:
        outputs = session.run(None, {inputs[0].name: np.ascontiguousarray(patch.numpy())})
        return torch.from_numpy(np.array(outputs[0], np.float32))

    return run


def _torchscript(program: bytes, device: str) -> nn.Module:
    try:
        with warnings.catch_warnings():
            # The format is old; those who bring it know no newer one.
            warnings.simplefilter("ignore", DeprecationWarning)
            network: nn.Module = torch.jit.load(io.BytesIO(program), map_location=torch.device(device))  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise WeightsError("the TorchScript program can not be loaded") from error
    return network.eval()


_BUILDERS: Mapping[str, Callable[[Architecture, int], nn.Module]] = {"nnunet": _nnunet, "monai": _monai}
_PROGRAMS: Mapping[str, Callable[[bytes, str], Any]] = {"onnx": _onnx, "torchscript": _torchscript}
_PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
}
METHODS = frozenset({*_BUILDERS, *_PROGRAMS})
"""What the card of imported weights states as its method."""
