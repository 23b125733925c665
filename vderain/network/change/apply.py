"""Adding a change to planes: outside every engine's graph, so that it is exact in any precision; torch-free."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vderain.frames import Plane, PlaneFormat
from vderain.network.change.darkening import bounded_below


def apply_change(
    planes: Sequence[Plane],
    change: Sequence[Plane],
    fmt: PlaneFormat,
    *,
    strength: float = 1.0,
    floor: Plane | None = None,
) -> tuple[Plane, ...]:
    """Add a change, round, and keep the result within the range that the samples may have.

    Args:
        planes: integer samples (H, W) as ``fmt`` says.
        change: float32 of the same shapes, in sample steps.
        fmt: whose range bounds the result. Samples of the input outside it (footroom, headroom) stay
            where they are under a change of zero, and never move further out.
        strength: scales the change.
        floor: luma samples (H, W) below which no pixel is darkened (``Clip.floor``).

    Returns:
        New planes; equal to the input where |strength * change| < 0.5, and ``bounded_below`` a ``floor``.

    """
    bounds = sample_bounds(fmt)
    result = tuple(
        _add(plane, delta if strength == 1.0 else delta * np.float32(strength), *bound, fmt)
        for plane, delta, bound in zip(planes, change, bounds, strict=True)
    )
    return result if floor is None else bounded_below(planes, result, floor, fmt)


def sample_bounds(fmt: PlaneFormat) -> tuple[tuple[int, int], ...]:
    """(lowest, highest) nominal sample value of each plane."""
    planes = len(fmt.plane_shapes)
    if fmt.full_range:
        return ((0, fmt.peak),) * planes
    unit = 1 << (fmt.bit_depth - 8)
    return ((16 * unit, 235 * unit), *((16 * unit, 240 * unit),) * (planes - 1))


def _add(plane: Plane, delta: Plane, low: int, high: int, fmt: PlaneFormat) -> Plane:
    depth = cv2.CV_8U if fmt.bit_depth == 8 else cv2.CV_16U
    # One pass: rounds the change, adds, saturates to the type.
    result: Plane = np.asarray(cv2.add(plane, delta, dtype=depth)).reshape(plane.shape)
    if low > 0:
        result = np.maximum(result, np.minimum(plane, fmt.dtype.type(low)))
    if high < np.iinfo(fmt.dtype).max:
        result = np.minimum(result, np.maximum(plane, fmt.dtype.type(high)))
    return result
