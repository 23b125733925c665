"""The part of a GPU that slots need; tests put another device in its place.

Not yet run on a GPU.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from vderain.errors import EngineLoadError, OptionError
from vderain.frames import Plane
from vderain.machine import share_context

_WARM_UPS = 3  # the first calls choose kernels and allocate, which a captured graph must not do


class Device(Protocol):
    """A device that slots are made on: its memory, its queues and its name."""

    torch_device: torch.device
    name: str
    features: tuple[str, ...]

    def free_bytes(self) -> int:
        """Free memory."""

    def total_bytes(self) -> int:
        """Total memory."""

    def current(self) -> AbstractContextManager[Any]:
        """Make this the current device of torch and TensorRT within the block."""

    def stream(self) -> Any:
        """A new queue of work."""

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Let torch queue its work on ``stream`` within the block."""

    def follow_decoder(self, stream: Any) -> None:
        """Let work queued on ``stream`` from now on wait for what video decoders have queued so far."""

    def follow(self, stream: Any, event: Any) -> None:
        """Let work queued on ``stream`` from now on wait for the last recording of ``event``."""

    def event(self) -> Any:
        """A new event, with ``record(stream)`` and ``synchronize()``."""

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory of the host that the device reads and writes by itself."""

    def captured(self, step: Callable[[], None], stream: Any) -> Callable[[], None]:
        """Run ``step`` once on ``stream`` and capture it; the result queues all of it on the current stream."""

    def surface_memory(self) -> AbstractContextManager[Any]:
        """Within the block, memory is allocated that ``release`` never returns to the device."""

    def release(self) -> None:
        """Return unused memory to the device."""


class CudaDevice:
    """An NVIDIA GPU; EngineLoadError, with what to do, where torch cannot use it."""

    def __init__(self, wanted: str = "auto") -> None:
        _, _, number = wanted.partition(":")
        if wanted.lower() not in ("auto", "cuda") and not (
            wanted.lower().startswith("cuda:") and number.isdecimal()
        ):
            raise OptionError(
                f"device={wanted!r}: this engine runs on an NVIDIA GPU: cuda, cuda:0, cuda:1"
            )
        _refuse_missing_gpu()
        index = int(number or 0)
        share_context(index)
        if index >= torch.cuda.device_count():
            raise EngineLoadError(
                f"device={wanted!r}: there are {torch.cuda.device_count()} GPUs, counted from 0"
            )
        self.torch_device = torch.device("cuda", index)
        self._pools: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        facts = torch.cuda.get_device_properties(index)
        self.name = str(facts.name)
        self.features: tuple[str, ...] = (
            f"compute {facts.major}.{facts.minor}",
            f"{facts.total_memory >> 20} MiB",
            f"{facts.multi_processor_count} multiprocessors",
            f"CUDA {torch.version.cuda}",
            f"driver {driver_version()}",
        )

    def free_bytes(self) -> int:
        """Memory that no process uses."""
        return int(torch.cuda.mem_get_info(self.torch_device)[0])

    def total_bytes(self) -> int:
        """The GPU's whole memory."""
        return int(torch.cuda.get_device_properties(self.torch_device).total_memory)

    def current(self) -> AbstractContextManager[Any]:
        """Make the GPU torch's current one, which TensorRT uses too."""
        return torch.cuda.device(self.torch_device)

    def stream(self) -> Any:
        """A CUDA stream."""
        return torch.cuda.Stream(self.torch_device)  # type: ignore[no-untyped-call]  # undeclared in torch

    @contextlib.contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        """Make the GPU and the stream torch's current ones."""
        with torch.cuda.device(self.torch_device), torch.cuda.stream(stream):
            yield

    def follow_decoder(self, stream: Any) -> None:
        """FFmpeg decodes on the default stream of the primary context, which torch uses too."""
        stream.wait_stream(torch.cuda.default_stream(self.torch_device))

    def follow(self, stream: Any, event: Any) -> None:
        """Let the stream wait; the host does not."""
        stream.wait_event(event)

    def event(self) -> Any:
        """A CUDA event."""
        # Blocking: a thread that spins would take a core from the decoder or the encoder.
        return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # undeclared in torch

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Pinned memory."""
        with self.current():  # otherwise torch makes a context on GPU 0
            return torch.empty(shape, dtype=dtype, pin_memory=True)

    def captured(self, step: Callable[[], None], stream: Any) -> Callable[[], None]:
        """A CUDA graph, which launches hundreds of kernels at once.

        The graphs of a stream share their memory: they run one after the other and keep nothing in it.
        A graph holds addresses alone, so the result keeps the step, and with it weights, buffers and contexts.
        """
        with self.on(stream), torch.inference_mode():
            for _ in range(_WARM_UPS):
                step()
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            # A decoder in another thread may allocate during the capture.
            with (
                _no_collection(),
                torch.cuda.graph(
                    graph, pool=self._pool(stream), stream=stream, capture_error_mode="thread_local"
                ),
            ):
                step()
        return functools.partial(_replay, graph, step)

    def _pool(self, stream: Any) -> Any:
        if stream not in self._pools:
            self._pools[stream] = torch.cuda.graph_pool_handle()
        return self._pools[stream]

    def surface_memory(self) -> AbstractContextManager[Any]:
        """FFmpeg's encoder registers surfaces by their addresses, and keeps them when a frame is encoded.

        An address that another allocation has got since, after an engine was closed, would be taken for the old one.
        """
        return torch.cuda.use_mem_pool(_lasting_pool(self.torch_device.index), self.torch_device)

    def release(self) -> None:
        """Return torch's unused memory to the GPU."""
        torch.cuda.empty_cache()


@functools.cache
def _lasting_pool(index: int) -> Any:
    """Memory of a GPU that torch keeps until the process ends."""
    with torch.cuda.device(index):
        return torch.cuda.MemPool()


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage: among it may be another graph or a decoder's memory, and freeing them spoils a capture."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _replay(graph: Any, step: Callable[[], None]) -> None:
    """Queue a graph on the current stream; ``step`` is what it was captured from."""
    graph.replay()


def transfers_per_s(
    device: Device, planes: Sequence[Plane], seconds: float, *, back: bool
) -> float:
    """Transfers per second of these planes to the device or back, through buffers like those of slots."""
    host = [torch.from_numpy(plane) for plane in planes]
    buffers = [device.host_buffer(tuple(t.shape), t.dtype) for t in host]
    there = [torch.empty_like(buffer, device=device.torch_device) for buffer in buffers]
    stream, arrived = device.stream(), device.event()
    done, since = 0, time.monotonic()
    while time.monotonic() - since < seconds:
        if not back:
            for buffer, tensor in zip(buffers, host, strict=True):
                buffer.copy_(tensor)
        with device.on(stream):
            for buffer, remote in zip(buffers, there, strict=True):
                ends = (buffer, remote) if back else (remote, buffer)
                ends[0].copy_(ends[1], non_blocking=True)
            arrived.record(stream)
        arrived.synchronize()
        if back:
            for buffer, tensor in zip(buffers, host, strict=True):
                tensor.copy_(buffer)
        done += 1
    return done / (time.monotonic() - since)


def used_bytes(wanted: str) -> int | None:
    """Memory in use on the GPU of ``device`` by all programs; None where it is unknown.

    Only for a GPU that an engine runs on: the query itself takes hundreds of megabytes of any other GPU.
    """
    number = wanted.partition(":")[2]
    try:
        free, total = torch.cuda.mem_get_info(int(number) if number.isdecimal() else 0)
    except (AssertionError, RuntimeError):  # there is no GPU, or it failed
        return None
    return int(total - free)


def driver_version(path: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The version of NVIDIA's driver; "unknown" where the system does not name it."""
    try:
        found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", path.read_text())
    except OSError:
        found = None
    return found[0] if found else "unknown"


def _refuse_missing_gpu() -> None:
    if torch.cuda.is_available():
        return
    if torch.version.cuda is None:
        raise EngineLoadError(
            f"torch {torch.__version__} is a CPU build; for an NVIDIA GPU install torch's CUDA build "
            "(on Linux: pip install torch, from PyPI)"
        )
    raise EngineLoadError(
        "torch finds no NVIDIA GPU; check the driver with nvidia-smi, or use engine='openvino'"
    )
