"""The TensorRT engine: Torch-TensorRT builds it, our own runtime runs it. The only importer of torch_tensorrt.

The whole folded network becomes one engine of static shape. Half precision means a network converted to
float16, since newer Torch-TensorRT ignores ``enabled_precisions``. The cache holds TensorRT's own bytes, never a
pickle. At run time every slot has its own execution context, stream and buffers, and TensorRT's work is part of
the slot's CUDA graph.

Not yet run on a GPU.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vderain.engines.backends.device import CudaDevice, Device
from vderain.engines.backends.gpu_slot import Ports, Step
from vderain.engines.backends.nvidia import (
    DTYPES,
    SLOTS,
    SPARE,
    GpuEngine,
    check_on_device,
    make_slots,
    out_of_memory,
    wanted_precisions,
)
from vderain.engines.backends.reference import load_finite_network
from vderain.engines.backends.slots import first_line
from vderain.engines.engine import require_room, spec_from_card
from vderain.engines.store.cache import Built, EngineCache
from vderain.engines.store.key import EngineKey, package_versions
from vderain.engines.store.opening import first_passing, load_cached
from vderain.engines.store.selfcheck import CheckResult
from vderain.errors import EngineBuildError, EngineLoadError, NoRoomError
from vderain.frames import PlaneFormat
from vderain.machine import package_version
from vderain.network.base import ChangeNetwork
from vderain.network.card import Card
from vderain.network.inference.allocated import peak_bytes
from vderain.network.inference.graph import device_graph
from vderain.options import EngineOptions

logger = logging.getLogger(__name__)

KNOWN_VERSIONS = ("2.11", "2.12", "2.13")  # of torch-tensorrt
OPTIMIZATION_LEVEL = 5  # the builder tries every tactic; built once per size
TILING = "moderate"  # of layers whose activations exceed the L2 cache

TIMINGS = 8  # of each tactic, averaged: a single one is unreliable while a run uses the GPU

_VERSIONS = (
    *("vderain", "torch", "torch-tensorrt", "tensorrt", "tensorrt-cu13"),
    *("tensorrt-cu13-bindings", "tensorrt-cu12"),
)


class TensorRtBackend:
    """TensorRT on one NVIDIA GPU.

    Raises EngineLoadError where the packages, a version that is known, or the GPU is missing.
    """

    def __init__(
        self,
        weights: Path,
        card: Card,
        options: EngineOptions,
        cache: EngineCache,
        *,
        device: Device | None = None,
    ) -> None:
        check_version(package_version("torch-tensorrt"))
        self._device: Device = device or CudaDevice(options.device)
        self._trt = _import_tensorrt()
        self._weights = weights
        self._card = card
        self._cache = cache
        self._wanted = options.slots or SLOTS
        self._precisions = wanted_precisions("tensorrt", options)

    def open(self, fmt: PlaneFormat) -> GpuEngine:
        """An engine for clips of one format, in the first precision that passes the self-check."""
        # TensorRT builds on torch's current GPU, and loads there.
        with self._device.current():
            return first_passing("tensorrt", fmt, self._precisions, self._load)

    def is_built(self, fmt: PlaneFormat) -> bool:
        """Whether the cache has an engine for a format, so that opening it takes seconds."""
        return self._cache.has(self._key(fmt, self._precisions[0]))

    def _load(
        self, fmt: PlaneFormat, precision: str, notes: list[str]
    ) -> tuple[GpuEngine, CheckResult]:
        build = functools.partial(self._build, fmt, precision)
        ports = Ports.of(self._card.config, fmt, precision)
        make = functools.partial(self._engine, ports, precision)
        return load_cached(self._cache, self._key(fmt, precision), build, make, notes)

    def _key(self, fmt: PlaneFormat, precision: str) -> EngineKey:
        return EngineKey(
            engine=f"tensorrt, level {OPTIMIZATION_LEVEL}, tiling {TILING}, timings {TIMINGS}",
            precision=precision,
            device=self._device.name,
            features=self._device.features,
            weights=self._card.sha256,
            config=self._card.config,
            format=fmt,
            versions=package_versions(*_VERSIONS),
        )

    def _build(self, fmt: PlaneFormat, precision: str) -> Built:
        """Build for a format, which takes minutes, and check the result."""
        network = load_finite_network(self._weights, self._card)
        padded = fmt.padded(self._card.config.multiple)
        ports = Ports.of(self._card.config, fmt, precision)
        graph = device_graph(network, padded, DTYPES[precision])
        needed = peak_bytes(graph, ports.planes, ports.taken)
        require_room("tensorrt", needed, fmt, int(SPARE * self._device.total_bytes()), "cuda")
        with _building(fmt, precision):
            blob = self._converted(graph, ports)
        check = functools.partial(self._checked, ports, precision, blob, network)
        try:
            return Built(blob, check(self._wanted).to_dict())
        except NoRoomError:
            if self._wanted == 1:
                raise
        # Whether the results are right does not depend on the number of frames in flight.
        return Built(blob, check(1).to_dict())

    def _checked(
        self, ports: Ports, precision: str, blob: bytes, network: ChangeNetwork, wanted: int
    ) -> CheckResult:
        engine = self._engine(ports, precision, blob, [], wanted=wanted)
        try:
            return check_on_device(engine, network, ports.fmt, self._card, self._device)
        finally:
            engine.close()

    def _converted(self, graph: torch.nn.Module, ports: Ports) -> bytes:
        """TensorRT's bytes for a graph, which is converted as a whole."""
        import torch_tensorrt

        device = self._device.torch_device
        inputs = tuple(
            torch.zeros((1, 1, *shape), dtype=ports.taken, device=device) for shape in ports.planes
        )
        with torch.no_grad():
            program = torch.export.export(graph.to(device), inputs)
        # All users of the machine share the default path.
        with tempfile.TemporaryDirectory() as folder:
            blob = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
                program,
                arg_inputs=inputs,
                device=device,
                require_full_compilation=True,
                min_block_size=1,
                optimization_level=OPTIMIZATION_LEVEL,
                tiling_optimization_level=TILING,
                num_avg_timing_iters=TIMINGS,
                timing_cache_path=f"{folder}/timing.bin",
                immutable_weights=True,
                disable_tf32=True,
                hardware_compatible=False,
                version_compatible=False,
                cache_built_engines=False,
                reuse_cached_engines=False,
            )
        return bytes(blob)

    def _engine(
        self, ports: Ports, precision: str, blob: bytes, notes: list[str], *, wanted: int = 0
    ) -> GpuEngine:
        """An engine over TensorRT's bytes."""
        try:
            steps = Runtime(self._trt, blob, ports).make_step
            slots = make_slots(
                self._device, ports, steps, wanted=wanted or self._wanted, notes=notes
            )
        except (RuntimeError, MemoryError) as error:
            full = out_of_memory(error) or self._is_full(blob)
            kind = NoRoomError if full else EngineLoadError
            raise kind(f"tensorrt cannot load it: {first_line(error)}") from error
        all_notes = tuple(dict.fromkeys(notes))
        spec = spec_from_card(self._card, "tensorrt", precision, self._device.name, all_notes)
        return GpuEngine(slots, ports.fmt, spec)

    def _is_full(self, blob: bytes) -> bool:
        """Whether the GPU could not even hold the engine's weights: TensorRT names no reason when it refuses bytes."""
        return self._device.free_bytes() < len(blob)


class Runtime:
    """TensorRT's own runtime: one engine, and an execution context for each slot.

    Raises RuntimeError where the bytes are no engine for this GPU and version, or an engine with other inputs
    and outputs than ``ports``: an engine in float32 must not pass for one in half precision.
    """

    def __init__(self, trt: Any, blob: bytes, ports: Ports) -> None:
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(blob)
        if self._engine is None:
            raise RuntimeError("these bytes are no engine for this GPU and this TensorRT")
        self.inputs, self.outputs = binding_names(trt, self._engine)
        wanted = [
            ((1, 1, *shape), _trt_type(trt, dtype))
            for shapes, dtype in ((ports.planes, ports.taken), (ports.outputs, ports.change))
            for shape in shapes
        ]
        found = [
            (tuple(self._engine.get_tensor_shape(name)), self._engine.get_tensor_dtype(name))
            for name in (*self.inputs, *self.outputs)
        ]
        if found != wanted:
            raise RuntimeError(f"the engine has {found} where {wanted} are needed")

    def make_step(self, taken: list[Tensor], given: list[Tensor], stream: Any) -> Step:
        """A step that runs a context on a slot's buffers; it becomes part of the slot's graphs."""
        context = self._engine.create_execution_context()
        if context is None:
            raise MemoryError("no room for an execution context")
        for name, tensor in zip((*self.inputs, *self.outputs), (*taken, *given), strict=True):
            if not context.set_tensor_address(name, tensor.data_ptr()):
                raise RuntimeError(f"TensorRT does not take the buffer of {name}")

        def step() -> None:
            if not context.execute_async_v3(stream.cuda_stream):
                raise RuntimeError("TensorRT could not queue the network; its log says why")

        return step


@contextlib.contextmanager
def _building(fmt: PlaneFormat, precision: str) -> Iterator[None]:
    """Log that a build begins, and raise EngineBuildError where it fails."""
    logger.info("building the tensorrt engine for %s in %s", fmt, precision)
    try:
        yield
    except Exception as error:  # exporter, converters and builder share no class of errors
        raise EngineBuildError(
            f"tensorrt cannot build the network for {fmt}: {first_line(error)}"
        ) from error


def binding_names(trt: Any, engine: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of an engine's inputs and outputs, each in the order of the graph's."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = tuple(n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT)
    return inputs, tuple(name for name in names if name not in inputs)


def check_version(found: str | None) -> None:
    """Raise EngineLoadError unless this version of torch-tensorrt is among the known ones."""
    if found is None:
        raise EngineLoadError(
            "torch-tensorrt is not installed; pip install 'vderain[nvidia]' (needs an NVIDIA GPU)"
        )
    if ".".join(found.split(".")[:2]) not in KNOWN_VERSIONS:
        raise EngineLoadError(
            f"torch-tensorrt {found} is not known to work; install one of "
            f"{', '.join(KNOWN_VERSIONS)}: pip install 'vderain[nvidia]'"
        )


def _trt_type(trt: Any, dtype: torch.dtype) -> Any:
    names = {
        torch.uint8: trt.DataType.UINT8,
        torch.int32: trt.DataType.INT32,
        torch.float16: trt.DataType.HALF,
        torch.float32: trt.DataType.FLOAT,
    }
    return names[dtype]


def _import_tensorrt() -> Any:
    """The tensorrt module, whose libraries torch_tensorrt loads."""
    try:
        import tensorrt
        import torch_tensorrt  # noqa: F401  # loads the libraries
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineLoadError(
            f"tensorrt cannot be imported ({first_line(error)}); pip install 'vderain[nvidia]'"
        ) from error
    return tensorrt
