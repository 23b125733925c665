"""Aligns neighbours on the device, from luma that is uploaded once for each frame.

Not yet run on a GPU.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vderain.alignment import stand_in, thumbnail_shape
from vderain.engines.backends.device import Device
from vderain.engines.backends.surfaces import dlpack_device, fill_padded_tensor, planes_of
from vderain.frames import DevicePlanes, PlaneFormat, SeenFrame, Unaligned
from vderain.network.tensor_alignment import align_neighbours


@dataclass(slots=True, eq=False)
class _Row:
    """A row of the tensor that holds lumas."""

    index: int
    arrived: Any  # event: the upload is complete
    sent_at: int = -1  # number of the clip that uploaded it
    readers: set[Any] = field(default_factory=set)  # events of clips that read it


class Lumas:
    """The lumas of the frames of an engine's clips, on the device, as rows of one tensor.

    A captured graph finds a row by its number. A row is reused once the clips in flight have read it.

    Args:
        device: of the tensor.
        fmt: of the clips.
        sample: dtype on the bus.
        frames: T of a clip.
        slots: how many clips may be in flight.

    """

    def __init__(
        self, device: Device, fmt: PlaneFormat, sample: torch.dtype, frames: int, slots: int
    ) -> None:
        self._device = device
        self._slots = slots
        self._here = dlpack_device(device.torch_device)
        shape, count = fmt.plane_shapes[0], frames + slots - 1
        self._sent = [device.host_buffer(shape, sample) for _ in range(count)]
        self.samples = torch.zeros((count, *shape), dtype=sample, device=device.torch_device)
        self._rows: OrderedDict[int, _Row] = OrderedDict(
            (-1 - index, _Row(index, device.event())) for index in range(count)
        )  # by the frame's number, the most recently used last
        self._clips = 0

    def rows(self, frames: Sequence[SeenFrame], stream: Any, read: Any) -> list[int]:
        """The rows of frames for work that is queued on ``stream`` next; ``read`` is recorded behind that work."""
        self._clips += 1
        # Frames that have a row come first, so that none of them loses it to another.
        for frame in frames:
            if frame.number in self._rows:
                self._rows.move_to_end(frame.number)
        found = []
        for frame in frames:
            row = self._rows.get(frame.number) or self._sent_row(frame, stream)
            self._rows.move_to_end(frame.number)
            self._device.follow(stream, row.arrived)
            row.readers.add(read)
            found.append(row.index)
        return found

    def _sent_row(self, frame: SeenFrame, stream: Any) -> _Row:
        """Queue the upload of a frame's luma into the row that was used least recently."""
        _, row = self._rows.popitem(last=False)
        self._rows[frame.number] = row
        for read in row.readers:
            self._device.follow(stream, read)
        row.readers.clear()
        target = self.samples[row.index]
        with self._device.on(stream):
            if isinstance(frame.planes, DevicePlanes) and frame.planes.device == self._here:
                self._device.follow_decoder(stream)
                target.copy_(planes_of(frame.planes)[0], non_blocking=True)
            else:
                if row.sent_at >= 0 and self._clips - row.sent_at < self._slots:
                    row.arrived.synchronize()  # a clip in flight may still upload from this buffer
                buffer = self._sent[row.index]
                buffer.numpy()[:] = frame.luma
                target.copy_(buffer, non_blocking=True)
            row.arrived.record(stream)
        row.sent_at = self._clips
        return row


class Alignment:
    """What one slot needs to align the neighbours of a clip, in static shapes.

    Args:
        device: of the slot.
        fmt: of the clips.
        lumas: shared by all slots.
        count: T - 1.

    """

    def __init__(self, device: Device, fmt: PlaneFormat, lumas: Lumas, count: int) -> None:
        self._fmt = fmt
        self._lumas = lumas
        small = thumbnail_shape(fmt.plane_shapes[0])
        half = (small[0] + 1) // 2, (small[1] + 1) // 2
        wanted = [
            ((count + 1,), torch.int64),
            ((count, *half, 2), torch.float32),
            ((count, *half), torch.uint8),
            ((count,), torch.int64),
        ]
        self._sent = [device.host_buffer(shape, dtype) for shape, dtype in wanted]
        there = device.torch_device
        self._arrived = [torch.zeros(s.shape, dtype=s.dtype, device=there) for s in self._sent]
        for sent in self._sent:
            sent.zero_()

    def put(self, clip: Unaligned, stream: Any, read: Any) -> None:
        """Put down how a clip's neighbours are aligned, for the step that aligns them."""
        ordered = sorted(clip.neighbours, key=lambda one: abs(one.offset))
        frames = [clip.frame, *(one.frame for one in ordered)]
        places = {one.offset: place for place, one in enumerate(ordered, start=1) if one.offset}
        rows, flows, hidden, stand_ins = (sent.numpy() for sent in self._sent)
        rows[:] = self._lumas.rows(frames, stream, read)
        for place, one in enumerate(ordered):
            flows[place] = 0.0 if one.flow is None else one.flow
            hidden[place] = 255 if one.hidden is None else one.hidden
            stand_ins[place] = places.get(stand_in(one.offset), 0)

    def step(
        self, own: Tensor | None, neighbours: Sequence[Tensor], floor: Tensor, ranks: Sequence[int]
    ) -> Callable[[], None]:
        """A step that uploads this and fills the padded (1, 1, H, W) inputs of the network, and the floor.

        ``own`` is the input of the frame's luma; None where luma is no plane of the frame.
        """
        height, width = self._fmt.plane_shapes[0]

        @torch.inference_mode()
        def step() -> None:
            for sent, arrived in zip(self._sent, self._arrived, strict=True):
                arrived.copy_(sent, non_blocking=True)
            rows, flows, hidden, stand_ins = self._arrived
            ordered, lowest = align_neighbours(
                self._lumas.samples, rows, flows, hidden, stand_ins,
                dtype=neighbours[0].dtype, bit_depth=self._fmt.bit_depth,
            )  # fmt: skip
            if own is not None:
                fill_padded_tensor(own[0, 0], self._lumas.samples.index_select(0, rows[:1])[0])
            chosen = [ordered[rank] for rank in ranks] if ranks else ordered
            for target, plane in zip(neighbours, chosen, strict=True):
                fill_padded_tensor(target[0, 0], plane)
            floor.zero_()  # also in the padding; a floor of zero limits nothing
            floor[0, 0, :height, :width].copy_(lowest)

        return step
