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
_ONNX_FATAL = 4
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


def loaded_networks(weights: str, sha256: str, device: str) -> tuple[Network, ...]:
    """Members of an ensemble, each (1, 1, D, H, W) on the CPU to (1, K, D, H, W) float32 on the CPU.

    They are loaded once per process, content and device.

    Raises
    ------
    models.weights.WeightsError
        If the file does not fit its card, or a package is not installed.
    """
    model, members = _members(weights, sha256, device)
    return tuple(_asked(member, torch.device(device), model.dimensions) for member in members)


def network_of(method: str, architecture: Architecture, outputs: int, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A network in evaluation mode with these numbers, as `state_of` gives them.

    Raises
    ------
    models.weights.WeightsError
        If the network or a setting of it is not in the tables, or the numbers are not those of that network.
    """
    network = empty_network(method, architecture, outputs)
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    if own.keys() != tensors.keys():
        raise WeightsError(f"the numbers are not those of {architecture.network}")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise WeightsError(f"{name} of {architecture.network} has the shape {tuple(tensors[name].shape)}")
        tensor.data.copy_(tensors[name])
    return network.eval().requires_grad_(False)


def state_of(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The numbers of a state of this network, each once and by the first of its names.

    Raises
    ------
    models.weights.WeightsError
        If they are not those of this network.
    """
    odd = sorted(network.state_dict().keys() ^ state.keys(), key=str)
    if odd or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        kind = type(network).__name__
        raise WeightsError(f"the numbers are not those of {kind}: {len(odd)} names differ, {odd[:1]} first")
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: state[name].contiguous() for name in own}


def empty_network(method: str, architecture: Architecture, outputs: int) -> nn.Module:
    """The network with the numbers of its making; errors as in `network_of`, of a name or setting."""
    try:
        with warnings.catch_warnings():
            # Of torch, about the first numbers of layers, which are replaced.
            warnings.simplefilter("ignore", UserWarning)
            return _BUILDERS[method](architecture, outputs)
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{architecture.network} can not be built: {reason}") from error


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
def _members(weights: str, sha256: str, device: str) -> tuple[ImportedModel, tuple[Callable[[Tensor], Any], ...]]:
    card, tensors = load_stored(weights)
    model = card.imported
    if model is None:
        raise WeightsError(f"the weights {weights} were not imported")
    if card.method in _PROGRAMS:
        if tensors.keys() != {PROGRAM} or tensors[PROGRAM].dtype != torch.uint8:
            raise WeightsError(f"the weights {weights} hold no program")
        return model, (_PROGRAMS[card.method](tensors[PROGRAM].numpy().tobytes(), device),)
    networks = [
        network_of(card.method, model.architecture, 1 + len(model.organs), _part(tensors, number))
        for number in range(model.members)
    ]
    return model, tuple(network.to(torch.device(device)) for network in networks)


def _part(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """The numbers of one member of an ensemble."""
    beginning = f"{number}."
    part = {name.removeprefix(beginning): one for name, one in tensors.items() if name.startswith(beginning)}
    return {name: one.float() if one.is_floating_point() else one for name, one in part.items()}


def _asked(network: Callable[[Tensor], Any], device: torch.device, dimensions: int) -> Network:
    """The network with an input and an output of three dimensions on the CPU, in float32."""

    def run(patch: Tensor) -> Tensor:
        flat = patch[:, :, 0] if dimensions == 2 else patch
        result = network(flat.to(device))
        if not isinstance(result, Tensor) or result.ndim != flat.ndim:
            raise WeightsError("the network does not return one tensor with the axes of its input")
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


def _onnx(program: bytes, device: str) -> Callable[[Tensor], Tensor]:
    runtime = required("onnxruntime", "onnx")
    failures = _onnx_failures(runtime)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = _ONNX_FATAL  # what it has to say is in the exception
    providers = [name for name in _PROVIDERS[torch.device(device).type] if name in runtime.get_available_providers()]
    try:
        session = runtime.InferenceSession(program, options, providers=providers)
    except failures as error:
        raise WeightsError("the ONNX program can not be loaded; its numbers have to be in the same file") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        raise WeightsError("the ONNX program does not take one image of float32")

    def run(patch: Tensor) -> Tensor:
        try:
            outputs = session.run(None, {inputs[0].name: np.ascontiguousarray(patch.cpu().numpy())})
        except failures as error:
            raise WeightsError(f"the ONNX program takes no patch of {tuple(patch.shape)}") from error
        return torch.from_numpy(np.array(outputs[0], np.float32))

    return run


def _onnx_failures(runtime: ModuleType) -> tuple[type[Exception], ...]:
    """Its exceptions, which have no class in common but the widest."""
    known = vars(runtime.capi.onnxruntime_pybind11_state).values()
    return tuple(one for one in known if isinstance(one, type) and issubclass(one, Exception))


def _torchscript(program: bytes, device: str) -> Callable[[Tensor], Any]:
    try:
        with warnings.catch_warnings():
            # The format is old; those who bring it may have no newer one.
            warnings.simplefilter("ignore", DeprecationWarning)
            network: nn.Module = torch.jit.load(io.BytesIO(program), map_location=torch.device(device))  # type: ignore[no-untyped-call]
    except (RuntimeError, torch.jit.Error) as error:
        raise WeightsError("the TorchScript program can not be loaded") from error
    network.eval()

    def run(patch: Tensor) -> Any:
        try:
            return network(patch)
        except (RuntimeError, torch.jit.Error) as error:
            raise WeightsError(f"the TorchScript program takes no patch of {tuple(patch.shape)}") from error

    return run


_BUILDERS: Mapping[str, Callable[[Architecture, int], nn.Module]] = {"nnunet": _nnunet, "monai": _monai}
_PROGRAMS: Mapping[str, Callable[[bytes, str], Any]] = {"onnx": _onnx, "torchscript": _torchscript}
_PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
}
METHODS = frozenset({*_BUILDERS, *_PROGRAMS})
"""What the card of imported weights states as its method."""
