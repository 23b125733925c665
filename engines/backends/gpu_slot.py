"""One frame in flight on an NVIDIA GPU: its stream, its buffers and its CUDA graphs.

Not yet run on a GPU; the tests run all of it but CUDA itself, on a device that stands in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy.typing as npt
import torch
from torch import Tensor

from vderain.engines.backends.device import Device
from vderain.engines.backends.lumas import Alignment, Lumas
from vderain.engines.backends.slots import fill_padded
from vderain.engines.backends.surfaces import (
    dlpack_device,
    fill_padded_tensor,
    planes_of,
    surface_of,
)
from vderain.frames import Clip, DevicePlanes, Plane, PlaneFormat
from vderain.network.change.tensors import add_change
from vderain.network.config import AnyConfig
from vderain.network.inference.graph import HALF_BIT_DEPTH


@dataclass(frozen=True, slots=True)
class Ports:
    """The samples of one frame on the bus, and the inputs and outputs of the graph.

    Attributes:
        fmt: of the clips.
        planes: (H, W) of each input plane after padding, in the network's order.
        outputs: (H, W) of each plane of the change after padding.
        change: dtype of the change.
        frames: T of the network.
        ranks: of the neighbours that the network sees.

    """

    fmt: PlaneFormat
    planes: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[int, int], ...]
    change: torch.dtype = torch.float16
    frames: int = 1
    ranks: tuple[int, ...] = ()

    @classmethod
    def of(cls, config: AnyConfig, fmt: PlaneFormat, precision: str) -> Ports:
        """Those of ``device_graph``: a change of more than 12 bits does not fit into float16."""
        half = precision == "float16" and fmt.bit_depth <= HALF_BIT_DEPTH
        padded = fmt.padded(config.multiple)
        change = torch.float16 if half else torch.float32
        inputs = padded.clip_shapes(config.seen_frames)
        return cls(fmt, inputs, padded.plane_shapes, change, config.frames, config.ranks)

    @property
    def floor(self) -> tuple[tuple[int, int], ...]:
        """(H, W) of the padded floor of a clip with neighbours; empty for clips of one frame."""
        has_neighbours = len(self.planes) > len(self.fmt.plane_shapes)
        return self.planes[:1] if has_neighbours else ()

    @property
    def sample(self) -> torch.dtype:
        """Dtype of a sample on the bus: 8 or 16 bit, and 32 bit for samples that int16 cannot hold."""
        if self.fmt.bit_depth == 8:
            return torch.uint8
        return torch.int16 if self.fmt.bit_depth < 16 else torch.int32

    @property
    def taken(self) -> torch.dtype:
        """Dtype of a sample as the graph takes it: TensorRT has no 16 bit integers."""
        return torch.uint8 if self.fmt.bit_depth == 8 else torch.int32


Step = Callable[[], None]
MakeStep = Callable[[list[Tensor], list[Tensor], Any], Step]
"""(input buffers, output buffers, stream) of a slot -> a step that queues the network and can be captured."""


class GpuSlot:
    """``Slot`` with a stream, an event, and one set of buffers on each side.

    Upload, alignment, network, addition and download of a frame are one graph on the slot's stream. Frames of
    other slots are on other streams, so that copy engines and multiprocessors work at the same time. The bus
    carries the samples of planes, 8 or 16 bits each, except for a change that is asked for itself, which is
    float16. A frame that is on this device already stays there; for it, and for clips whose neighbours were
    aligned on the host, the steps before and after the network are queued one by one.
    """

    def __init__(
        self, device: Device, ports: Ports, make_step: MakeStep, lumas: Lumas | None
    ) -> None:
        self._device = device
        self._ports = ports
        self._stream = device.stream()
        self._done = device.event()
        here, there = device.host_buffer, device.torch_device
        with device.on(self._stream):
            self._sent = [here((1, 1, *shape), ports.sample) for shape in ports.planes]
            self._arrived = [torch.empty_like(sent, device=there) for sent in self._sent]
            # The same buffers where the graph takes samples as they come.
            self._taken = [arrived.to(ports.taken) for arrived in self._arrived]
            self._given = [
                torch.zeros((1, 1, *shape), dtype=ports.change, device=there)
                for shape in ports.outputs
            ]
            self._returned = [here(tuple(given.shape), ports.change) for given in self._given]
            self._dry = [torch.zeros_like(given, dtype=ports.sample) for given in self._given]
            self._fetched = [here(tuple(dry.shape), ports.sample) for dry in self._dry]
            self._strength = here((1,), torch.float32), torch.ones(1, device=there)
            # The floor of a clip that has neighbours; the network does not take it.
            self._floor = [
                (
                    here((1, 1, *shape), ports.sample),
                    torch.zeros((1, 1, *shape), dtype=ports.sample, device=there),
                )
                for shape in ports.floor
            ]
            self._alignment: Alignment | None = None
            try:
                self._capture(make_step(self._taken, self._given, self._stream), lumas)
            except BaseException:
                self.close()  # its graphs refer to it: it would hold its memory until garbage is collected
                raise
        self._here = dlpack_device(there)
        self._held: Sequence[Any] = ()
        self._result: Callable[[], Sequence[Plane]] = self._change

    def _capture(self, network: Step, lumas: Lumas | None) -> None:
        """Capture the graphs: one of a whole clip in host memory, and the parts that other clips need."""
        device, fmt, adding = self._device, self._ports.fmt, self._adding_step()
        self._launch: Step | None = device.captured(_in_turn(network, adding), self._stream)
        self._align: Step | None = None
        count, own = len(fmt.plane_shapes), 0
        steps = [network, adding, self._bring]
        if lumas is not None:
            self._alignment = Alignment(device, fmt, lumas, self._ports.frames - 1)
            # The luma of a YUV frame is on the device already.
            own = 0 if fmt.layout == "rgb" else 1
            align = self._alignment.step(
                self._taken[0] if own else None,
                self._taken[count:],
                self._floor[0][1],
                self._ports.ranks,
            )
            self._align = device.captured(align, self._stream)
            steps.insert(0, align)
        self._frame = slice(own, count)  # the planes that are uploaded with each frame
        steps.insert(0, functools.partial(self._take, self._frame))
        self._whole: Step | None = device.captured(_in_turn(*steps), self._stream)

    def queue(self, clip: Clip, strength: float, *, on_device: bool) -> None:
        """Queue all work of a clip; the derained frame is downloaded, or stays on the device that it was on."""
        self._strength[0].numpy()[0] = strength
        there = self._lies_here(clip.planes)
        self._result = self._fetched_planes
        if not there and (clip.unaligned is None) == (self._alignment is None):
            assert self._whole is not None
            self._held = (clip,)
            self._put(clip.planes[self._frame], self._frame)
            self._put_neighbours(clip)
            with self._device.on(self._stream):
                self._whole()
                self._done.record(self._stream)
            return
        self.upload(clip)
        self.launch()
        with self._device.on(self._stream):
            if on_device and there:
                fmt = self._ports.fmt
                planes = [
                    _cut(dry, shape) for dry, shape in zip(self._dry, fmt.plane_shapes, strict=True)
                ]
                with self._device.surface_memory():
                    surface = surface_of(planes, fmt, self._device.torch_device)
                self._result = lambda: surface
            else:
                self._bring()
            self._done.record(self._stream)

    def _adding_step(self) -> Step:
        """A step that adds the change to the frame."""
        taken = self._taken[: len(self._given)]

        @torch.inference_mode()
        def step() -> None:
            sent, strength = self._strength
            strength.copy_(sent, non_blocking=True)
            floor = self._floor[0][1] if self._floor else None
            results = add_change(taken, self._given, self._ports.fmt, strength, floor)
            for dry, result in zip(self._dry, results, strict=True):
                dry.copy_(result)

        return step

    def _lies_here(self, image: Sequence[Plane]) -> TypeGuard[DevicePlanes]:
        return isinstance(image, DevicePlanes) and image.device == self._here

    def upload(self, clip: Clip) -> None:
        """Queue the upload of the clip's planes; a frame that is on the device is copied there."""
        count = len(self._ports.fmt.plane_shapes)
        self._held = (clip,)  # until the device has read it
        own, sent = slice(0, count), [slice(count, None)]
        if self._lies_here(clip.planes):
            with self._device.on(self._stream):
                self._device.follow_decoder(self._stream)
                for taken, plane in zip(self._taken[own], planes_of(clip.planes), strict=True):
                    fill_padded_tensor(taken[0, 0], plane)
        else:
            self._put(clip.planes, own)
            sent.insert(0, own)
        self._put_neighbours(clip)
        with self._device.on(self._stream):
            if clip.unaligned is not None:
                assert self._align is not None
                self._align()
                sent.pop()
            for mine in sent:
                self._take(mine)
            for floor, arrived in self._floor if clip.unaligned is None else []:
                arrived.copy_(floor, non_blocking=True)

    def _put(self, planes: Sequence[Plane], mine: slice) -> None:
        for sent, plane in zip(self._sent[mine], planes, strict=True):
            fill_padded(sent[0, 0].numpy(), plane)

    def _put_neighbours(self, clip: Clip) -> None:
        """Put down the neighbours and the floor, or how to align the neighbours."""
        if clip.unaligned is not None:
            assert self._alignment is not None
            self._alignment.put(clip.unaligned, self._stream, self._done)
            return
        self._put(clip.neighbours, slice(len(self._ports.fmt.plane_shapes), None))
        for sent, _ in self._floor:
            sent.zero_()  # also in the padding; a floor of zero limits nothing
            if clip.floor is not None:
                height, width = clip.floor.shape
                sent[0, 0].numpy()[:height, :width] = clip.floor

    def _take(self, mine: slice) -> None:
        """Queue the upload of planes that were put down."""
        buffers = self._sent[mine], self._arrived[mine], self._taken[mine]
        for sent, arrived, taken in zip(*buffers, strict=True):
            arrived.copy_(sent, non_blocking=True)
            if taken is not arrived:
                taken.copy_(arrived)  # widened on the device, so that the bus carries less

    def _bring(self) -> None:
        for dry, fetched in zip(self._dry, self._fetched, strict=True):
            fetched.copy_(dry, non_blocking=True)

    def launch(self) -> None:
        """Queue the network and the addition of its change."""
        assert self._launch is not None
        with self._device.on(self._stream):
            self._launch()

    def download(self) -> None:
        """Queue the download of the change, and the event."""
        with self._device.on(self._stream):
            for given, returned in zip(self._given, self._returned, strict=True):
                returned.copy_(given, non_blocking=True)
            self._result = self._change
            self._done.record(self._stream)

    def wait(self) -> Sequence[Plane]:
        """Wait for the device; no other method does."""
        self._done.synchronize()
        self._held = ()
        return self._result()

    def _change(self) -> tuple[Plane, ...]:
        return self._copies(self._returned, "float32")

    def _fetched_planes(self) -> tuple[Plane, ...]:
        return self._copies(self._fetched, self._ports.fmt.dtype)

    def _copies(self, buffers: Sequence[Tensor], dtype: npt.DTypeLike) -> tuple[Plane, ...]:
        return tuple(
            _cut(buffer, shape).numpy().astype(dtype, copy=True)
            for buffer, shape in zip(buffers, self._ports.fmt.plane_shapes, strict=True)
        )

    def close(self) -> None:
        """Release the stream and all buffers."""
        self._launch = self._align = self._whole = self._alignment = self._stream = None
        for buffers in (self._sent, self._arrived, self._taken, self._given, self._returned):
            buffers.clear()
        for buffers in (self._dry, self._fetched):
            buffers.clear()
        self._floor.clear()
        self._device.release()


def _in_turn(*steps: Step) -> Step:
    """All of the steps as one."""

    @torch.inference_mode()
    def step() -> None:
        for one in steps:
            one()

    return step


def _cut(buffer: Tensor, shape: tuple[int, int]) -> Tensor:
    """The plane inside a padded (1, 1, H, W) buffer."""
    return buffer[0, 0, : shape[0], : shape[1]]
