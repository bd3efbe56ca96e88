"""What computes a generator: torch in float32 is the reference; a faster engine is taken where it gives the same image.

An engine gets one float32 image (1, C, H, W) in [-1, 1] on the CPU, H and W multiples of the stride, and returns
(1, 1, H, W) in float32 on the CPU. On one machine the same image gives the same bytes.
"""

import importlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from models.intensity import normalised
from models.phantoms import head_and_neck_phantom

log = logging.getLogger(__name__)

MEAN_DIFFERENCE_LIMIT_HU = 1.0
"""An engine that departs from the reference by more than this in the mean is not used; noise of MVCT is 25 to 45 HU."""

_TRACED_SHAPE = (64, 96)
_CHECK_SHAPE = (160, 128)
"""Other than the traced one: a network whose trace holds for one size only must not pass."""
_CHECK_SPACING_MM = (3.0, 2.0, 2.0)
_CHECK_NOISE_SD_HU = 35.0

Run: TypeAlias = Callable[[Tensor], Tensor]


class EngineUnavailable(Exception):
    """An engine can not compute a generator here; the message says why."""


@dataclass(frozen=True)
class Engine:
    """One way to compute one generator."""

    name: str
    run: Run
    """(1, C, H, W) -> (1, 1, H, W)."""

    def described(self) -> str:
        """Name and release of the library: `openvino-bf16 2026.4.1`."""
        return f"{self.name} {_library_version(self.name)}"


def fastest_engine(generator: nn.Module, window_hu: tuple[float, float]) -> Engine:
    """Return the first of the offered engines that agrees with the reference on a test image, else the reference.

    `generator` maps (B, C, H, W) to (B, 1, H, W) in [-1, 1] for `window_hu`; further channels are not compared. One
    that lies on another device than the CPU is computed there by the reference.
    """
    reference = made_engine(REFERENCE, generator)
    if _device(generator).type != "cpu":
        return reference
    for name in _offered_names():
        if name == REFERENCE:
            break
        try:
            engine = made_engine(name, generator)
            difference_hu = mean_difference_hu(engine, reference, check_image(generator, window_hu), window_hu)
        except EngineUnavailable as error:
            log.warning("engine can not compute this model", extra={"engine": name, "reason": str(error)})
            continue
        if difference_hu <= MEAN_DIFFERENCE_LIMIT_HU:
            log.info("engine chosen", extra={"engine": engine.described(), "mean_difference_hu": difference_hu})
            return engine
        log.warning("engine departs from the reference", extra={"engine": name, "mean_difference_hu": difference_hu})
    log.info("engine chosen", extra={"engine": reference.described(), "mean_difference_hu": 0.0})
    return reference


def offered_engines() -> tuple[str, ...]:
    """Engines that this machine can try, fastest first, with the release of their library; the reference is the last.

    On one machine this and the weights decide which engine computes a result, so it belongs to the result's identity.
    Nothing is loaded to find out.
    """
    return tuple(f"{name} {_library_version(name)}" for name in _offered_names())


def made_engine(name: str, generator: nn.Module) -> Engine:
    """Prepare one engine, by its name in `ENGINES`, for a generator in evaluation mode.

    Raises
    ------
    EngineUnavailable
        If its library is not installed or does not know an operation of the generator.
    """
    return Engine(name, ENGINES[name](generator))


def mean_difference_hu(engine: Engine, reference: Engine, image: Tensor, window_hu: tuple[float, float]) -> float:
    """Mean absolute difference of two engines on an image (1, C, H, W), in HU, where that lies inside the window.

    NaN if an engine gives one.

    Raises
    ------
    EngineUnavailable
        If an engine fails while it computes.
    """
    hu_per_unit = (window_hu[1] - window_hu[0]) / 2.0
    try:
        with torch.inference_mode():
            difference = (engine.run(image) - reference.run(image))[:, :1].abs()
    except RuntimeError as error:
        raise EngineUnavailable(f"{engine.name} can not compute the test image: {error}") from error
    middle = image.shape[1] // 2
    return float(difference[image[:, middle : middle + 1].abs() < 1.0].mean()) * hu_per_unit


def check_image(generator: nn.Module, window_hu: tuple[float, float]) -> Tensor:
    """Head and neck of a phantom with the noise of an MVCT, the same at every call: (1, C, 160, 128) in [-1, 1]."""
    rng = np.random.default_rng(0)
    shape_zyx = (input_channels(generator), *_CHECK_SHAPE)
    hu_zyx = head_and_neck_phantom(shape_zyx, _CHECK_SPACING_MM, rng).hu_zyx
    noisy_zyx = hu_zyx + rng.normal(0.0, _CHECK_NOISE_SD_HU, shape_zyx)
    return torch.from_numpy(normalised(noisy_zyx, window_hu))[None]


def input_channels(generator: nn.Module) -> int:
    """How many slices the generator sees at once: the input channels of its first convolution."""
    return next(layer.in_channels for layer in generator.modules() if isinstance(layer, nn.Conv2d))


def _torch_f32(generator: nn.Module) -> Run:
    device = _device(generator)

    def run(image: Tensor) -> Tensor:
        result: Tensor = generator(image.to(device, memory_format=torch.channels_last))
        return result.cpu()

    return run


def _torch_bf16(generator: nn.Module) -> Run:
    def run(image: Tensor) -> Tensor:
        # The change is computed in bfloat16; adding it to a float32 image makes float32 again.
        with torch.autocast("cpu", torch.bfloat16):
            result: Tensor = generator(image.contiguous(memory_format=torch.channels_last))
        return result.float()

    return run


def _openvino(precision: str) -> Callable[[nn.Module], Run]:
    def made(generator: nn.Module) -> Run:
        try:
            compiled = _compiled(generator, precision)
        except ImportError as error:
            raise EngineUnavailable("openvino is not installed") from error

        def run(image: Tensor) -> Tensor:
            # A request of its own: threads of one process may share the model.
            outputs = compiled.create_infer_request().infer({0: image.contiguous().numpy()})
            return torch.from_numpy(outputs[0].copy())

        return run

    return made


def _compiled(generator: nn.Module, precision: str) -> Any:
    """Convert by tracing, for any batch and size, and compile for this CPU."""
    openvino = _openvino_module()
    example = torch.zeros(1, input_channels(generator), *_TRACED_SHAPE)
    try:
        with _root_logger_kept(), warnings.catch_warnings():
            # Of torch, to the converter: its tracer will go one day.
            warnings.simplefilter("ignore", DeprecationWarning)
            # The tracer's own check would compute the network twice more, on the size that was traced.
            traced = torch.jit.trace(generator, example, check_trace=False)  # type: ignore[no-untyped-call]
            model = openvino.convert_model(traced, example_input=example)
        model.reshape([1, input_channels(generator), -1, -1])
        return openvino.Core().compile_model(model, "CPU", _openvino_settings(precision))
    except (RuntimeError, importlib.import_module("openvino.frontend").OpConversionFailure) as error:
        raise EngineUnavailable(f"openvino can not convert the generator: {error}") from error


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Put back what the converter changes of the root logger; it forgets to where a conversion fails."""
    root = logging.getLogger()
    level, filters, handlers = root.level, root.filters[:], root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters[:], root.handlers[:] = filters, handlers


def _openvino_settings(precision: str) -> Mapping[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        # Pinned threads of several workers would meet on the same cores.
        "ENABLE_CPU_PINNING": False,
    }


def _openvino_module() -> Any:
    # openvino reports its use to a server through this package; without it, it does not.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


REFERENCE = "torch-f32"

ENGINES: Mapping[str, Callable[[nn.Module], Run]] = {
    "openvino-bf16": _openvino("bf16"),
    "torch-bf16": _torch_bf16,
    "openvino-f32": _openvino("f32"),
    REFERENCE: _torch_f32,
}
"""Fastest first, as `tests/benchmarks/enhancement_speed.py` measured with one thread on a CPU that has bfloat16."""


def _offered_names() -> tuple[str, ...]:
    return tuple(name for name in ENGINES if _library_version(name) and (has_bf16() or "bf16" not in name))


def _library_version(name: str) -> str:
    """Release of the library behind an engine; empty where it is not installed."""
    library = name.partition("-")[0]
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def has_bf16() -> bool:
    """Whether the CPU multiplies in bfloat16 by itself; emulated, it is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def _device(generator: nn.Module) -> torch.device:
    return next(generator.parameters()).device
