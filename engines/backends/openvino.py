"""The OpenVINO engine: the default without a GPU.

The graph for a kind of planes (layout, depth, colours) comes from the file of graphs next to the weights, or is
traced with torch where that file has none. Once checked, it is kept in the cache. It serves every size: at 720p
it is reshaped and compiled in about a tenth of a second, so that a folder of images of a hundred sizes is checked
once. Padding therefore happens outside the graph.
"""

from __future__ import annotations

import functools
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vderain.engines.backends.operators import OperatorTime, operator_times
from vderain.engines.backends.slots import SlotEngine, fill_padded, first_line
from vderain.engines.engine import frame_flop, require_room, spec_from_card
from vderain.engines.graphs.archive import GraphFile, graphs_state, read_graphs
from vderain.engines.graphs.reference import CHECKED_PX, GraphReference
from vderain.engines.graphs.runtime import import_openvino, open_core, pack, unpack
from vderain.engines.store.cache import Built, EngineCache
from vderain.engines.store.key import EngineKey, cpu_features, package_versions
from vderain.engines.store.opening import first_passing, load_cached
from vderain.engines.store.selfcheck import (
    AGREEMENT_DB,
    INT8_AGREEMENT_DB,
    CheckResult,
    check_engine,
)
from vderain.errors import EngineBuildError, EngineLoadError, VderainError, needs_torch
from vderain.frames import Clip, Plane, PlaneFormat
from vderain.interfaces import Engine
from vderain.machine import available_bytes, cpu_fields, cpu_flags
from vderain.network.card import Card
from vderain.network.config import NetworkConfig
from vderain.network.inference.memory import working_bytes
from vderain.options import EngineOptions

if TYPE_CHECKING:
    from vderain.network.base import ChangeNetwork

logger = logging.getLogger(__name__)

# Two clips in flight, each on half of the cores: at 720p on two cores 15 % more frames per second, and
# 10 % less CPU time per frame, than one clip after the other on all cores.
SLOTS = 2

_SIDE_PX = 64  # of the format that names a graph for every size
_SMALLEST_CHECK, _LARGEST_CHECK = (320, 180), (1280, 720)  # width and height

_CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16", "int8": "INT8"}
_HINTS = {
    "float32": "f32",
    "bfloat16": "bf16",
    "float16": "f16",
    "int8": "f32",
}  # int8 is in the graph
# CPUs that multiply 8-bit numbers faster than float32, and without overflow of sums.
_INT8_CPU = ("avx512_vnni", "avx_vnni", "amx_int8")


def openvino_devices() -> dict[str, str]:
    """Short name -> full name of the devices that OpenVINO finds; EngineLoadError without openvino."""
    core = open_core(import_openvino())
    names = core.available_devices
    return {name: str(core.get_property(name, "FULL_DEVICE_NAME")) for name in names}


class OpenVinoBackend:
    """OpenVINO on one device.

    Raises EngineLoadError where openvino or the device is missing, EngineBuildError where the device
    lacks the precision asked for.
    """

    def __init__(
        self, weights: Path, card: Card, options: EngineOptions, cache: EngineCache
    ) -> None:
        self._ov = import_openvino()
        self._core = open_core(self._ov)
        self._weights = weights
        self._card = card
        self._graphs, self._unusable = graphs_state(weights, card)
        self._cache = cache
        self._device = self._checked_device(options.device)
        self._device_name = str(self._core.get_property(self._device, "FULL_DEVICE_NAME"))
        self._capabilities = self._core.get_property(self._device, "OPTIMIZATION_CAPABILITIES")
        self._precisions = self._wanted_precisions(options.precision)
        self._threads = options.threads
        self._settings: dict[str, Any] = {}
        self._slots = options.slots or SLOTS
        if self._device == "CPU":
            # Decoder and encoder share the cores, so the system chooses the threads' cores.
            self._settings = {"NUM_STREAMS": self._slots, "ENABLE_CPU_PINNING": False}
            if options.threads:
                self._settings["INFERENCE_NUM_THREADS"] = options.threads

    def open(self, fmt: PlaneFormat) -> Engine:
        """An engine for clips of one format, in the first precision that passes the self-check."""
        return first_passing("openvino", fmt, self._precisions, self._load)

    def operator_times(self, fmt: PlaneFormat, seconds: float) -> list[OperatorTime]:
        """What each kind of operator takes of a frame in the precision that ``open`` chooses.

        Measured for about ``seconds``, one frame at a time in one stream, with OpenVINO's counters on.
        """
        engine = self.open(fmt)
        precision = engine.open(fmt).precision
        engine.close()
        build = functools.partial(self._build, fmt, precision, [])
        blob = self._cache.fetch(self._key(fmt, precision), build, []).blob
        request = self._compiled(fmt, precision, blob, {"PERF_COUNT": True}).create_infer_request()
        rng = np.random.default_rng(0)
        for tensor in request.input_tensors:
            tensor.data[:] = rng.integers(fmt.peak // 8, fmt.peak, tensor.data.shape)
        return operator_times(request.infer, lambda: request.profiling_info, seconds)

    def _load(
        self, fmt: PlaneFormat, precision: str, notes: list[str]
    ) -> tuple[Engine, CheckResult]:
        early: list[Future[Any]] = []
        build = functools.partial(self._build, fmt, precision, early)
        if self._device == "CPU":
            self._require_room(fmt, 2 if precision in ("bfloat16", "float16") else 4)

        def make(blob: bytes, notes: list[str]) -> Engine:
            compiled = early.pop() if early else None
            return self._engine(fmt, precision, blob, notes, compiled)

        return load_cached(self._cache, self._key(fmt, precision), build, make, notes)

    def _require_room(self, fmt: PlaneFormat, itemsize: int) -> None:
        free, config = available_bytes(), self._card.config
        if free is not None and isinstance(config, NetworkConfig):
            padded = fmt.padded(config.multiple)
            needed = working_bytes(config, padded.height, padded.width, itemsize)
            require_room("openvino", needed, fmt, free, "reference")

    def _key(self, fmt: PlaneFormat, precision: str) -> EngineKey:
        versions = package_versions("vderain", "openvino")
        made = ("graphs", self._graphs) if self._graphs else package_versions("torch")[0]
        return EngineKey(
            engine="openvino",
            precision=precision,
            device=f"{self._device} {self._device_name}",
            features=(*sorted(self._capabilities), *cpu_features()),
            weights=self._card.sha256,
            config=self._card.config,
            format=self._any_size(fmt),
            versions=(*versions, made),
            calibration=self._calibration if precision == "int8" else (),
        )

    @property
    def _calibration(self) -> tuple[tuple[str, float, float], ...]:
        return tuple((name, *limits) for name, limits in sorted(self._card.int8.items()))

    def _build(self, fmt: PlaneFormat, precision: str, early: list[Future[Any]]) -> Built:
        """Make and check the graph for a kind of planes.

        What is compared is compiled at once, and with it the model for ``fmt``, which ``early`` gets.
        """
        check_fmt = self._check_format(fmt)
        with ThreadPoolExecutor(2, thread_name_prefix="vderain-compile") as threads:
            try:
                # The check runs the graph as it is read back from its file.
                blob = pack(self._ov, self._model(self._any_size(fmt), precision))
                referring = threads.submit(self._reference, check_fmt)
                early.append(threads.submit(self._compiled, fmt, precision, blob, {}))
                engine = self._engine(check_fmt, precision, blob, [])
            except VderainError:
                raise
            except Exception as error:  # exporter, converter and compiler share no class of errors
                raise EngineBuildError(
                    f"openvino cannot build the network for {fmt}: {first_line(error)}"
                ) from error
            with closing(engine), closing(referring.result()) as reference:
                check = self._compared(engine, reference, check_fmt, precision)
        return Built(blob, check.to_dict())

    def _compared(
        self, engine: Engine, reference: Engine, fmt: PlaneFormat, precision: str
    ) -> CheckResult:
        flop = frame_flop(self._card.config, fmt)
        bar_db = INT8_AGREEMENT_DB if precision == "int8" else AGREEMENT_DB
        return check_engine(engine, reference, fmt, flop=flop, bar_db=bar_db)

    def _model(self, fmt: PlaneFormat, precision: str) -> Any:
        """The network between planes of any size: from the file of graphs, else traced with torch."""
        if self._graphs:
            seen = self._card.config.seen_frames
            int8 = precision == "int8"
            return self._file.planes_model(self._ov, self._core, fmt, seen, int8=int8)
        network = self._network if precision != "int8" else self._quantized()  # or what to install
        from vderain.engines.graphs.planes import with_sample_types
        from vderain.engines.graphs.traced import planes_model

        return with_sample_types(self._ov, planes_model(self._ov, network, fmt), fmt)

    def _reference(self, fmt: PlaneFormat) -> Engine:
        """The engine that the new one is compared with."""
        if self._graphs:
            settings = self._hints("float32")
            if self._device == "CPU":
                settings["NUM_STREAMS"] = 1  # one copy of the graph compiles faster than two
            compiled = functools.partial(
                self._core.compile_model, device_name=self._device, config=settings
            )
            return GraphReference(self._ov, self._core, compiled, self._file, self._card, fmt)
        from vderain.engines.backends.reference import ReferenceEngine

        spec = spec_from_card(self._card, "reference", "float32", "CPU")
        return ReferenceEngine(self._network, fmt, spec, threads=self._threads)

    @functools.cached_property
    def _file(self) -> GraphFile:
        return read_graphs(self._weights)

    @functools.cached_property
    def _network(self) -> ChangeNetwork:
        try:
            from vderain.engines.backends.reference import load_finite_network
        except ImportError as error:
            raise EngineBuildError(
                f"{self._unusable}, and without it {needs_torch('openvino')}; vderain export --graphs makes"
                " it where torch is installed"
            ) from error
        return load_finite_network(self._weights, self._card)

    def _quantized(self) -> ChangeNetwork:
        network = self._network
        from vderain.network.inference.quantize import quantize

        return quantize(network, self._card.int8)

    def _any_size(self, fmt: PlaneFormat) -> PlaneFormat:
        """A small format that stands for all sizes of its kind; needs no padding."""
        return replace(fmt, width=_SIDE_PX, height=_SIDE_PX).padded(self._card.config.multiple)

    def _check_format(self, fmt: PlaneFormat) -> PlaneFormat:
        """The format of the self-check, whose result holds for every size.

        On a CPU it is small, so that a first run begins at once: a CPU adds in float32 whatever it multiplies.
        On other devices it has the working size, between the smallest that is meaningful and 720p.
        """
        if self._device == "CPU":
            return replace(fmt, width=CHECKED_PX[0], height=CHECKED_PX[1])
        smallest, largest = ((w * h, w, h) for w, h in (_SMALLEST_CHECK, _LARGEST_CHECK))
        if smallest[0] <= fmt.width * fmt.height <= largest[0]:
            return fmt
        _, width, height = smallest if fmt.width * fmt.height < smallest[0] else largest
        return replace(fmt, width=width, height=height)

    def _hints(self, precision: str) -> dict[str, Any]:
        return {**self._settings, "INFERENCE_PRECISION_HINT": _HINTS[precision]}

    def _engine(
        self,
        fmt: PlaneFormat,
        precision: str,
        blob: bytes,
        notes: list[str],
        early: Future[Any] | None = None,
    ) -> SlotEngine[_RequestSlot]:
        """An engine for one size, from the bytes that ``pack`` made of the network, or compiled of them ``early``."""
        device = f"{self._device} ({self._device_name})"
        spec = spec_from_card(
            self._card, "openvino", precision, device, tuple(dict.fromkeys(notes))
        )
        try:
            compiled = early.result() if early else self._compiled(fmt, precision, blob, {})
            slots = [
                _RequestSlot(compiled.create_infer_request(), fmt.plane_shapes)
                for _ in range(self._slots)
            ]
            return SlotEngine(slots, fmt, spec)
        except (RuntimeError, ValueError) as error:
            raise EngineLoadError(f"openvino cannot load it: {first_line(error)}") from error

    def _compiled(self, fmt: PlaneFormat, precision: str, blob: bytes, more: dict[str, Any]) -> Any:
        """The model of one size with ``more`` settings; raises what OpenVINO raises."""
        padded = fmt.padded(self._card.config.multiple)
        model = unpack(self._core, blob)
        shapes = padded.clip_shapes(self._card.config.seen_frames)
        model.reshape({index: [1, 1, *shape] for index, shape in enumerate(shapes)})
        settings = {**self._hints(precision), **more}
        return self._core.compile_model(model, self._device, settings)

    def _checked_device(self, wanted: str) -> str:
        device = "CPU" if wanted.lower() in ("auto", "cpu") else wanted.upper()
        available = self._core.available_devices
        if device not in {*available, *(name.split(".")[0] for name in available)}:
            raise EngineLoadError(
                f"device={wanted!r}: openvino finds no such device; available: {', '.join(available)}"
            )
        return device

    def _wanted_precisions(self, wanted: str) -> tuple[str, ...]:
        """Precisions to try, in this order."""
        if wanted == "auto":
            wanted = self._fastest_precision()
        if wanted == "int8" and not self._card.int8:
            raise EngineBuildError(
                f"precision='int8': {self._weights} have no int8 scales on their card; "
                "vderain export measures them on calibration images"
            )
        if _CAPABILITIES[wanted] not in self._capabilities:
            raise EngineBuildError(
                f"precision={wanted!r}: {self._device} ({self._device_name}) cannot compute in it; "
                "use precision='auto'"
            )
        return tuple(dict.fromkeys((wanted, "float32")))

    def _fastest_precision(self) -> str:
        """bfloat16 where OpenVINO itself would choose it, else int8 on a CPU with instructions for it."""
        preferred = self._core.get_property(self._device, "INFERENCE_PRECISION_HINT")
        if preferred == self._ov.Type.bf16:
            return "bfloat16"
        fast = self._device == "CPU" and cpu_flags(cpu_fields(), _INT8_CPU)
        return "int8" if fast and self._card.int8 else "float32"


class _RequestSlot:
    """``Slot`` over an infer request, whose tensors are the buffers."""

    def __init__(self, request: Any, shapes: tuple[tuple[int, int], ...]) -> None:
        self._request = request
        self._shapes = shapes

    def upload(self, clip: Clip) -> None:
        for index, plane in enumerate(clip.inputs):
            fill_padded(self._request.get_input_tensor(index).data[0, 0], plane)

    def launch(self) -> None:
        self._request.start_async()

    def download(self) -> None:
        """Nothing to do: the result is in the host's memory."""

    def wait(self) -> tuple[Plane, ...]:
        self._request.wait()
        return tuple(
            self._request.get_output_tensor(index).data[0, 0, :height, :width].copy()
            for index, (height, width) in enumerate(self._shapes)
        )

    def close(self) -> None:
        self._request = None
