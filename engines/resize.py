"""Computing the change at a smaller size: the change is enlarged, never the picture."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from vderain.engines.engine import clip_inputs
from vderain.frames import Clip, Plane, PlaneFormat
from vderain.interfaces import Engine, EngineSpec, Pending


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
        self._spec = inner.spec_for(inner_fmt)
        self.slots = inner.slots

    def spec_for(self, fmt: PlaneFormat) -> EngineSpec:
        """The inner engine's, with a note on the size."""
        size = f"{self._inner_fmt.width}x{self._inner_fmt.height}"
        return replace(self._spec, notes=(*self._spec.notes, f"the change is computed at {size}"))

    def submit(self, clip: Clip) -> Pending:
        """Shrink the clip's planes by averaging and start computing."""
        planes = clip_inputs(clip, self._fmt, self._spec.frames)
        shapes = self._inner_fmt.clip_shapes(self._spec.frames)
        small = [
            _resized(plane, shape, cv2.INTER_AREA)
            for plane, shape in zip(planes, shapes, strict=True)
        ]
        count = len(self._fmt.plane_shapes)
        shrunk = Clip(small[:count], self._inner_fmt, small[count:])
        return _Enlarged(self._inner.submit(shrunk), self._fmt)

    def close(self) -> None:
        """Close the inner engine."""
        self._inner.close()


class _Enlarged:
    """``Pending`` whose answer grows to the full size."""

    def __init__(self, inner: Pending, fmt: PlaneFormat) -> None:
        self._inner = inner
        self._shapes = fmt.plane_shapes

    def result(self) -> tuple[Plane, ...]:
        return tuple(
            _resized(change, shape, cv2.INTER_LINEAR)
            for change, shape in zip(self._inner.result(), self._shapes, strict=True)
        )


def _resized(plane: Plane, shape: tuple[int, int], interpolation: int) -> Plane:
    height, width = shape
    resized = cv2.resize(plane, (width, height), interpolation=interpolation)
    return np.asarray(resized).reshape(shape)
