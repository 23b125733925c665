"""Computes the change at a smaller size and enlarges the change; the image keeps its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from vderain.engines.engine import added, clip_inputs
from vderain.flow.future import Future
from vderain.frames import Clip, Plane, PlaneFormat
from vderain.interfaces import Engine, EngineSpec


def scaled_format(fmt: PlaneFormat, scale: float) -> PlaneFormat:
    """The same format at ``scale`` times the size, at least one pixel."""
    width, height = (max(1, round(side * scale)) for side in (fmt.width, fmt.height))
    return replace(fmt, width=width, height=height)


class ScaledEngine:
    """``Engine`` for one plane format over an engine for a smaller one, which it owns."""

    def __init__(self, inner: Engine, fmt: PlaneFormat, inner_fmt: PlaneFormat) -> None:
        self._inner = inner
        self._fmt = fmt
        self._inner_fmt = inner_fmt
        self.slots = inner.slots
        self.window = inner.window

    def open(self, fmt: PlaneFormat) -> EngineSpec:
        """The inner engine's, with a note on the size."""
        spec = self._inner.open(self._inner_fmt)
        size = f"{self._inner_fmt.width}x{self._inner_fmt.height}"
        return replace(spec, notes=(*spec.notes, f"the change is computed at {size}"))

    def submit(self, clip: Clip, *, strength: float = 1.0, on_device: bool = False) -> Future:
        """As the protocol says; the change is added on the host."""
        return added(self.change(clip), clip, strength)

    def change(self, clip: Clip) -> Future:
        """Shrink the clip's planes by averaging and submit them; the result is enlarged."""
        planes = clip_inputs(clip, self._fmt, self.window)
        shapes = self._inner_fmt.clip_shapes(self.window.seen_frames)
        small = [
            _resized(plane, shape, cv2.INTER_AREA)
            for plane, shape in zip(planes, shapes, strict=True)
        ]
        count = len(self._fmt.plane_shapes)
        shrunk = Clip(small[:count], self._inner_fmt, small[count:])
        return self._inner.change(shrunk).then(self._enlarged)

    def close(self) -> None:
        """Close the inner engine."""
        self._inner.close()

    def _enlarged(self, change: Sequence[Plane]) -> tuple[Plane, ...]:
        return tuple(
            _resized(plane, shape, cv2.INTER_LINEAR)
            for plane, shape in zip(change, self._fmt.plane_shapes, strict=True)
        )


def _resized(plane: Plane, shape: tuple[int, int], interpolation: int) -> Plane:
    height, width = shape
    resized = cv2.resize(plane, (width, height), interpolation=interpolation)
    return np.asarray(resized).reshape(shape)
