"""The TensorRT engine: Torch-TensorRT builds it, our own runtime runs it. The only importer of torch_tensorrt.

The whole folded network becomes one engine of static shape; half precision means a network converted to
float16, since newer Torch-TensorRT ignores ``enabled_precisions``. What it builds goes into our own cache
as TensorRT's own bytes, never as a pickle. At run time every slot has an execution context, a stream and
buffers of its own; Torch-TensorRT's module, with a context and a lock for all, is the fallback.

On a GPU whose memory is too small for a whole frame the frame goes in tiles. How it is cut follows from the
GPU's size and not from what is free at the moment, or every run would build engines of other tiles.

Not yet run on a GPU.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vderain.engines.backends.device import CudaDevice, Device
from vderain.engines.backends.nvidia import (
    DTYPES,
    SLOTS,
    SPARE,
    GpuEngine,
    GpuSlot,
    Launch,
    Ports,
    check_on_device,
    make_slots,
    out_of_memory,
    wanted_precisions,
)
from vderain.engines.backends.reference import load_finite_network
from vderain.engines.backends.slots import first_line
from vderain.engines.backends.tiles import GATHERING, GIVEN, TiledEngine, Tiling, plan_tiles
from vderain.engines.engine import spec_from_card
from vderain.engines.store.cache import Built, EngineCache
from vderain.engines.store.key import EngineKey, package_versions
from vderain.engines.store.opening import first_passing, load_cached
from vderain.engines.store.selfcheck import CheckResult
from vderain.errors import EngineBuildError, EngineLoadError, NoRoomError
from vderain.frames import PlaneFormat
from vderain.interfaces import Engine
from vderain.machine import package_version
from vderain.network.base import ChangeNetwork
from vderain.network.card import Card
from vderain.network.config import NetworkConfig
from vderain.network.inference.graph import device_graph
from vderain.network.inference.means import GatheringNetwork, GivenNetwork
from vderain.network.inference.memory import means_length, working_bytes
from vderain.options import EngineOptions

logger = logging.getLogger(__name__)

KNOWN_VERSIONS = ("2.11", "2.12", "2.13")  # of torch-tensorrt
OPTIMIZATION_LEVEL = 5  # the builder tries every tactic; built once per size
TILING = "moderate"  # of layers whose activations exceed the L2 cache

_PACKAGES = ("torch-tensorrt", "torch_tensorrt")
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
        runtimes: tuple[type[OwnRuntime] | type[TorchRuntime], ...] | None = None,
    ) -> None:
        self._runtimes = runtimes or (OwnRuntime, TorchRuntime)
        check_version(package_version(*_PACKAGES))
        self._device: Device = device or CudaDevice(options.device)
        self._trt = _import_tensorrt()
        self._weights = weights
        self._card = card
        self._cache = cache
        self._wanted = options.slots or SLOTS
        self._precisions = wanted_precisions("tensorrt", options)

    def open(self, fmt: PlaneFormat) -> Engine:
        """An engine for clips of one format, in the first precision that passes the self-check."""
        return first_passing("tensorrt", fmt, self._precisions, self._load)

    def is_built(self, fmt: PlaneFormat) -> bool:
        """Whether the cache has an engine for a format, so that opening it takes seconds."""
        precision = self._precisions[0]
        tiling = self._tiling(fmt, precision)
        if tiling is None:
            return self._cache.has(self._key(fmt, precision))
        parts = (self._key(tiling.tile, precision, part) for part in (GATHERING, GIVEN))
        return all(self._cache.has(key) for key in parts)

    def _load(
        self, fmt: PlaneFormat, precision: str, notes: list[str]
    ) -> tuple[Engine, CheckResult]:
        tiling = self._tiling(fmt, precision)
        if tiling is not None:
            return self._tiled(fmt, precision, tiling, notes)
        build = functools.partial(self._build, fmt, precision)
        ports = Ports.of(self._card.config, fmt, precision)
        make = functools.partial(self._engine, ports, precision)
        return load_cached(self._cache, self._key(fmt, precision), build, make, notes)

    def _tiling(self, fmt: PlaneFormat, precision: str) -> Tiling | None:
        """How a frame is cut that this GPU is too small for; None where it is not, or no cut helps."""
        config = self._card.config
        # Without gates a tile's means would be an input that nothing reads.
        if not isinstance(config, NetworkConfig) or not config.squeeze_ratio:
            return None
        room, padded = int(SPARE * self._device.total_bytes()), fmt.padded(config.multiple)
        itemsize = DTYPES[precision].itemsize
        if working_bytes(config, padded.height, padded.width, itemsize) <= room:
            return None
        return plan_tiles(config, padded, itemsize, room // len((GATHERING, GIVEN)))

    def _tiled(
        self, fmt: PlaneFormat, precision: str, tiling: Tiling, notes: list[str]
    ) -> tuple[TiledEngine, CheckResult]:
        """An engine over two of a tile's size; the self-check is of the whole frame, and has an entry of its own."""
        config = self._card.config
        assert isinstance(config, NetworkConfig)  # others are not tiled
        with contextlib.ExitStack() as stack:
            parts = []
            for part in (GATHERING, GIVEN):
                gathering = part == GATHERING
                ports = Ports.of_tile(config, tiling.tile, precision, gathering=gathering)
                build = functools.partial(self._build_part, ports, precision, part)
                # One slot, so that tiles are as large as they can be: their overlap costs more than a copy.
                make = functools.partial(self._engine, ports, precision, wanted=1)
                key = self._key(tiling.tile, precision, part)
                parts.append(load_cached(self._cache, key, build, make, notes)[0])
                stack.callback(parts[-1].close)
            spec = parts[-1].open(fmt)
            engine = TiledEngine(parts[0], parts[1], tiling, means_length(config), fmt, spec)
            check = functools.partial(self._check_tiled, engine, fmt)
            verdict = self._cache.fetch(self._key(fmt, precision, f"in {tiling}"), check, notes)
            stack.pop_all()
        return engine, CheckResult(**verdict.check)

    def _check_tiled(self, engine: TiledEngine, fmt: PlaneFormat) -> Built:
        network = load_finite_network(self._weights, self._card)
        return Built(b"", check_on_device(engine, network, fmt, self._card, self._device).to_dict())

    def _key(self, fmt: PlaneFormat, precision: str, part: str = "") -> EngineKey:
        name = f"tensorrt, level {OPTIMIZATION_LEVEL}, tiling {TILING}"
        return EngineKey(
            engine=f"{name}, {part}" if part else name,
            precision=precision,
            device=self._device.name,
            features=self._device.features,
            weights=self._card.sha256,
            config=self._card.config,
            format=fmt,
            versions=package_versions(*_VERSIONS),
        )

    def _build(self, fmt: PlaneFormat, precision: str) -> Built:
        """Build for a format, which takes minutes, and check what was built."""
        network = load_finite_network(self._weights, self._card)
        padded = fmt.padded(self._card.config.multiple)
        ports = Ports.of(self._card.config, fmt, precision)
        with _told(fmt, precision):
            blob = self._converted(device_graph(network, padded, DTYPES[precision]), ports)
        check = functools.partial(self._checked, ports, precision, blob, network)
        try:
            return Built(blob, check(self._wanted).to_dict())
        except NoRoomError:
            if self._wanted == 1:
                raise
        # Whether it answers rightly does not depend on how many frames are in flight.
        return Built(blob, check(1).to_dict())

    def _checked(
        self, ports: Ports, precision: str, blob: bytes, network: ChangeNetwork, wanted: int
    ) -> CheckResult:
        engine = self._engine(ports, precision, blob, [], wanted=wanted)
        try:
            return check_on_device(engine, network, ports.fmt, self._card, self._device)
        finally:
            engine.close()

    def _build_part(self, ports: Ports, precision: str, part: str) -> Built:
        """Build a graph of a tile; it is checked with the other one, not by itself."""
        network = load_finite_network(self._weights, self._card)
        with _told(ports.fmt, precision, part):
            graph = device_graph(network, ports.fmt, DTYPES[precision])
            kind = GatheringNetwork if part == GATHERING else GivenNetwork
            blob = self._converted(kind(graph).eval(), ports)
        return Built(blob, CheckResult({}).to_dict())

    def _converted(self, graph: torch.nn.Module, ports: Ports) -> bytes:
        """TensorRT's bytes for a graph; it is converted whole, or not at all."""
        import torch_tensorrt

        device = self._device.torch_device
        inputs = tuple(
            torch.zeros((1, 1, *shape), dtype=dtype, device=device)
            for shape, dtype in zip(ports.inputs, ports.taken, strict=True)
        )
        with torch.no_grad():
            program = torch.export.export(graph.to(device), inputs)
        with self._timing_cache() as timing_cache:
            blob = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
                program,
                arg_inputs=inputs,
                device=device,
                require_full_compilation=True,
                min_block_size=1,
                optimization_level=OPTIMIZATION_LEVEL,
                tiling_optimization_level=TILING,
                timing_cache_path=str(timing_cache),
                immutable_weights=True,
                disable_tf32=True,
                hardware_compatible=False,
                version_compatible=False,
                cache_built_engines=False,
                reuse_cached_engines=False,
            )
        return bytes(blob)

    @contextlib.contextmanager
    def _timing_cache(self) -> Iterator[Path]:
        """A copy of our timing cache, put back when the build is done: two builds may run at once."""
        kept = self._cache.private_path(f"timing-{self._timing_digest()}.bin")
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "timing.bin"
            timings = _kept_timings(kept) if kept is not None else b""
            if timings:
                copy.write_bytes(timings)
            yield copy
            if kept is not None and copy.exists():
                timings = copy.read_bytes()
                self._cache.keep(kept, hashlib.sha256(timings).digest() + timings)

    def _timing_digest(self) -> str:
        """Timings belong to a device and to TensorRT's version."""
        facts = (self._device.name, self._device.features, package_versions(*_VERSIONS))
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def _engine(
        self, ports: Ports, precision: str, blob: bytes, notes: list[str], *, wanted: int = 0
    ) -> GpuEngine:
        """An engine over TensorRT's bytes, on our own runtime if it can load them."""
        wanted = wanted or self._wanted
        slots: list[GpuSlot] = []
        for runtime in self._runtimes:
            try:
                launch = runtime(self._trt, blob, ports).make_launch
                slots = make_slots(self._device, ports, launch, wanted=wanted, notes=notes)
                break
            except (RuntimeError, MemoryError) as error:
                if out_of_memory(error) or self._is_full(blob):
                    raise NoRoomError(f"tensorrt cannot load it: {first_line(error)}") from error
                if runtime is self._runtimes[-1]:
                    raise EngineLoadError(
                        f"tensorrt cannot load it: {first_line(error)}"
                    ) from error
                notes.append(f"{runtime.__name__} does not run ({first_line(error)})")
        told = tuple(dict.fromkeys(notes))
        spec = spec_from_card(self._card, "tensorrt", precision, self._device.name, told)
        return GpuEngine(slots, ports.fmt, spec)

    def _is_full(self, blob: bytes) -> bool:
        """Whether the GPU could not even hold the engine's weights: TensorRT does not say why it refuses bytes."""
        return self._device.free_bytes() < len(blob)


class OwnRuntime:
    """TensorRT's own runtime: the engine once, an execution context for every slot.

    Raises RuntimeError where the bytes are no engine for this GPU and version, or one with other inputs
    and outputs than ``ports``: an engine in float32 must not pass for one in half precision.
    """

    def __init__(self, trt: Any, blob: bytes, ports: Ports) -> None:
        self._trt = trt
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(blob)
        if self._engine is None:
            raise RuntimeError("these bytes are no engine for this GPU and this TensorRT")
        self.inputs, self.outputs = binding_names(trt, self._engine)
        dtypes = [*ports.taken, *[ports.answer] * len(ports.outputs)]
        wanted = [
            ((1, 1, *shape), _trt_type(trt, dtype))
            for shape, dtype in zip((*ports.inputs, *ports.outputs), dtypes, strict=True)
        ]
        found = [
            (tuple(self._engine.get_tensor_shape(name)), self._engine.get_tensor_dtype(name))
            for name in (*self.inputs, *self.outputs)
        ]
        if found != wanted:
            raise RuntimeError(f"the engine has {found} where {wanted} are needed")

    def make_launch(self, taken: list[Tensor], given: list[Tensor], stream: Any) -> Launch:
        """A context over a slot's buffers."""
        context = self._engine.create_execution_context()
        if context is None:
            raise MemoryError("no room for an execution context")
        for name, tensor in zip((*self.inputs, *self.outputs), (*taken, *given), strict=True):
            if not context.set_tensor_address(name, tensor.data_ptr()):
                raise RuntimeError(f"TensorRT does not take the buffer of {name}")

        def launch() -> None:
            if not context.execute_async_v3(stream.cuda_stream):
                raise RuntimeError("TensorRT could not queue the network; its log says why")

        return launch


class TorchRuntime:
    """Torch-TensorRT's own module over the same bytes, one for every slot: the fallback, and a check of ours."""

    def __init__(self, trt: Any, blob: bytes, ports: Ports) -> None:
        own = OwnRuntime(trt, blob, ports)
        self._blob = blob
        self._inputs, self._outputs = own.inputs, own.outputs

    def make_launch(self, taken: list[Tensor], given: list[Tensor], stream: Any) -> Launch:
        """A module whose answers are copied into a slot's buffers."""
        from torch_tensorrt.dynamo.runtime import TorchTensorRTModule

        module = TorchTensorRTModule(
            serialized_engine=self._blob,
            input_binding_names=list(self._inputs),
            output_binding_names=list(self._outputs),
            name="vderain",
        )

        @torch.inference_mode()
        def launch() -> None:
            answers = module(*taken)
            for target, answer in zip(given, _as_tuple(answers), strict=True):
                target.copy_(answer)

        return launch


def _kept_timings(path: Path) -> bytes:
    """What lies behind its checksum; nothing where that is missing or damaged: TensorRT measures again."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        logger.warning("%s is done without: %s", path, error)
        return b""
    size = hashlib.sha256().digest_size
    checksum, timings = data[:size], data[size:]
    if checksum != hashlib.sha256(timings).digest():
        logger.warning("%s is damaged and done without", path)
        return b""
    return timings


@contextlib.contextmanager
def _told(fmt: PlaneFormat, precision: str, part: str = "network") -> Iterator[None]:
    """Say that a build begins, and why it failed."""
    logger.info("building the tensorrt engine of the %s for %s in %s", part, fmt, precision)
    try:
        yield
    except Exception as error:  # exporter, converters and builder share no class of errors
        raise EngineBuildError(
            f"tensorrt cannot build the {part} for {fmt}: {first_line(error)}"
        ) from error


def binding_names(trt: Any, engine: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of an engine's inputs and outputs, each in the order of the graph's."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = tuple(n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT)
    return inputs, tuple(name for name in names if name not in inputs)


def check_version(found: str | None) -> None:
    """Raise EngineLoadError unless this version of torch-tensorrt is one whose calls are known."""
    if found is None:
        raise EngineLoadError(
            "torch-tensorrt is not installed; pip install 'vderain[tensorrt]' (needs an NVIDIA GPU)"
        )
    if ".".join(found.split(".")[:2]) not in KNOWN_VERSIONS:
        raise EngineLoadError(
            f"torch-tensorrt {found} is not known to work; install one of "
            f"{', '.join(KNOWN_VERSIONS)}: pip install 'vderain[tensorrt]'"
        )


def _trt_type(trt: Any, dtype: torch.dtype) -> Any:
    names = {
        torch.uint8: trt.DataType.UINT8,
        torch.int32: trt.DataType.INT32,
        torch.float16: trt.DataType.HALF,
        torch.float32: trt.DataType.FLOAT,
    }
    return names[dtype]


def _as_tuple(answers: Any) -> tuple[Tensor, ...]:
    return (answers,) if isinstance(answers, Tensor) else tuple(answers)


def _import_tensorrt() -> Any:
    """The tensorrt module, once torch_tensorrt has loaded its libraries."""
    try:
        import tensorrt
        import torch_tensorrt  # noqa: F401  # loads the libraries
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineLoadError(
            f"tensorrt cannot be imported ({first_line(error)}); pip install 'vderain[tensorrt]'"
        ) from error
    return tensorrt
