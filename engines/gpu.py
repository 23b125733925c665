"""What the engines on NVIDIA GPUs share: slots with a stream of their own, and the self-check on the device.

Not yet run on a GPU; the tests run all of it but CUDA itself, on a device that stands in.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vderain.engines.contract import spec_from_card
from vderain.engines.device import Device
from vderain.engines.reference import ReferenceEngine
from vderain.engines.selfcheck import CheckResult, check_engine
from vderain.engines.slots import fill_padded
from vderain.errors import EngineBuildError
from vderain.frames import Plane, PlaneFormat
from vderain.interfaces import Engine
from vderain.network.base import ChangeNetwork
from vderain.network.card import Card
from vderain.network.config import AnyConfig
from vderain.network.graph import HALF_BIT_DEPTH
from vderain.options import EngineOptions

SLOTS = 3  # one frame on its way up, one in the network, one on its way down

SPARE = 0.85  # of the free memory may be planned for

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def wanted_precisions(name: str, options: EngineOptions) -> tuple[str, ...]:
    """What to try, in this order: half precision unless another is asked for, then float32."""
    first = "float16" if options.precision == "auto" else options.precision
    if first not in DTYPES:
        raise EngineBuildError(f"--precision {first}: {name} computes in {', '.join(DTYPES)}")
    return tuple(dict.fromkeys((first, "float32")))


@dataclass(frozen=True, slots=True)
class Ports:
    """What crosses the bus for one frame, and what the graph takes and gives.

    Attributes:
        fmt: of the clips.
        inputs: (H, W) of each input plane after padding, in the network's order.
        outputs: (H, W) of each plane of the answer after padding.
        answer: dtype of the answer.

    """

    fmt: PlaneFormat
    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[int, int], ...]
    answer: torch.dtype = torch.float16

    @classmethod
    def of(cls, config: AnyConfig, fmt: PlaneFormat, precision: str) -> Ports:
        """Those of ``device_graph``: a change of more than 12 bits does not fit into float16."""
        half = precision == "float16" and fmt.bit_depth <= HALF_BIT_DEPTH
        shapes = fmt.padded(config.multiple).plane_shapes
        return cls(fmt, shapes * config.frames, shapes, torch.float16 if half else torch.float32)

    @property
    def carried(self) -> torch.dtype:
        """What crosses the bus: 8 bit, 16 bit, and 32 bit for the samples that int16 cannot hold."""
        if self.fmt.bit_depth == 8:
            return torch.uint8
        return torch.int16 if self.fmt.bit_depth < 16 else torch.int32

    @property
    def taken(self) -> torch.dtype:
        """What the graph takes: TensorRT knows no 16 bit integers."""
        return torch.uint8 if self.fmt.bit_depth == 8 else torch.int32


Launch = Callable[[], None]
MakeLaunch = Callable[[list[Tensor], list[Tensor], Any], Launch]
"""From a slot's input buffers, output buffers and stream to what queues the network between them."""


class GpuSlot:
    """``Slot`` with a stream, an event, and one set of buffers on each side.

    Upload, network and download of a frame follow each other on its stream; those of other frames are on
    other streams, so that the copy engines and the multiprocessors work at the same time.
    """

    def __init__(self, device: Device, ports: Ports, make_launch: MakeLaunch) -> None:
        self._device = device
        self._ports = ports
        self._stream = device.stream()
        self._done = device.event()
        here, there = device.host_buffer, device.torch_device
        with device.on(self._stream):
            self._sent = [here((1, 1, *shape), ports.carried) for shape in ports.inputs]
            self._arrived = [torch.empty_like(sent, device=there) for sent in self._sent]
            self._taken = [
                arrived if ports.taken == ports.carried else arrived.to(ports.taken)
                for arrived in self._arrived
            ]
            self._given = [
                torch.zeros((1, 1, *shape), dtype=ports.answer, device=there)
                for shape in ports.outputs
            ]
            self._returned = [here(tuple(given.shape), ports.answer) for given in self._given]
            self._launch: Launch | None = make_launch(self._taken, self._given, self._stream)

    def upload(self, planes: Sequence[Plane]) -> None:
        """Copy into the host's buffers, and queue the copy to the device."""
        for sent, plane in zip(self._sent, planes, strict=True):
            fill_padded(sent[0, 0].numpy(), plane)
        with self._device.on(self._stream):
            for sent, arrived, taken in zip(self._sent, self._arrived, self._taken, strict=True):
                arrived.copy_(sent, non_blocking=True)
                if taken is not arrived:
                    taken.copy_(arrived)  # widened on the device, so that the bus carries less

    def launch(self) -> None:
        """Queue the network."""
        assert self._launch is not None
        with self._device.on(self._stream):
            self._launch()

    def download(self) -> None:
        """Queue the copy back, and the event."""
        with self._device.on(self._stream):
            for given, returned in zip(self._given, self._returned, strict=True):
                returned.copy_(given, non_blocking=True)
            self._done.record(self._stream)

    def wait(self) -> tuple[Plane, ...]:
        """The only place where the host waits for the device."""
        self._done.synchronize()
        shapes = self._ports.fmt.plane_shapes
        return tuple(
            returned[0, 0, :height, :width].numpy().astype("float32", copy=True)
            for returned, (height, width) in zip(self._returned, shapes, strict=True)
        )

    def close(self) -> None:
        """Let go of the stream and all buffers."""
        self._launch = self._stream = None
        for buffers in (self._sent, self._arrived, self._taken, self._given, self._returned):
            buffers.clear()
        self._device.release()


def make_slots(
    device: Device,
    ports: Ports,
    make_launch: MakeLaunch,
    *,
    wanted: int,
    notes: list[str],
) -> list[GpuSlot]:
    """As many slots as the device's memory has room for, up to ``wanted``; a note where it has not.

    Raises MemoryError where there is no room for a single one.
    """
    slots: list[GpuSlot] = []
    while len(slots) < wanted:
        try:
            slots.append(GpuSlot(device, ports, make_launch))
        except (MemoryError, torch.OutOfMemoryError) as error:
            device.release()
            if not slots:
                raise MemoryError(
                    f"the GPU has no room for a frame of {ports.fmt} "
                    f"({device.free_bytes() >> 20} MiB free)"
                ) from error
            notes.append(
                f"the GPU has room for {len(slots)} of {wanted} frames of {ports.fmt} at once"
            )
            break
    return slots


def check_on_device(
    engine: Engine, network: ChangeNetwork, fmt: PlaneFormat, card: Card, device: Device
) -> CheckResult:
    """Compare an engine with the reference, in float32 on the same device, on all pictures.

    Raises EngineLoadError where either fails.
    """
    spec = spec_from_card(card, "reference", "float32", device.name)
    there = copy.deepcopy(network).to(device.torch_device)
    free = int(SPARE * device.free_bytes())
    reference = ReferenceEngine(there, fmt, spec, free_bytes=free)
    try:
        return check_engine(engine, reference, fmt, flop=0.0)
    finally:
        reference.close()
        device.release()
