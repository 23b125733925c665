"""Adding a change to planes: outside every engine's graph, so that it is exact in any precision; torch-free."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vderain.frames import RGB_LUMA_WEIGHTS, Plane, PlaneFormat


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
        New planes; equal to the input where |strength * change| < 0.5. With a ``floor``, no luma sample is
        below the lower one of the input and the floor. Chroma stays as it was where the floor withholds
        more than half of the darkening of one of the pixels of a sample.

    """
    bounds = sample_bounds(fmt)
    result = tuple(
        _add(plane, delta if strength == 1.0 else delta * np.float32(strength), *bound, fmt)
        for plane, delta, bound in zip(planes, change, bounds, strict=True)
    )
    if floor is None:
        return result
    return (
        _floored_rgb(planes, result, floor)
        if fmt.layout == "rgb"
        else _floored(planes, result, floor, fmt)
    )


def _floored(
    planes: Sequence[Plane], result: Sequence[Plane], floor: Plane, fmt: PlaneFormat
) -> tuple[Plane, ...]:
    before, asked = planes[0], result[0]
    luma = np.maximum(asked, np.minimum(before, floor))
    if len(planes) == 1:
        return (luma,)
    withheld = np.asarray(cv2.subtract(luma, asked) > cv2.subtract(before, luma)).reshape(
        luma.shape
    )
    if not withheld.any():
        return (luma, *result[1:])
    sx, sy = fmt.subsampling
    if sx > 1:
        withheld = withheld[:, ::2] | np.pad(withheld, ((0, 0), (0, luma.shape[1] % 2)))[:, 1::2]
    if sy > 1:
        withheld = withheld[::2] | np.pad(withheld, ((0, luma.shape[0] % 2), (0, 0)))[1::2]
    chroma = (
        np.where(withheld, plane, moved)
        for plane, moved in zip(planes[1:], result[1:], strict=True)
    )
    return (luma, *chroma)


def _floored_rgb(
    planes: Sequence[Plane], result: Sequence[Plane], floor: Plane
) -> tuple[Plane, ...]:
    """Shorten the change of each pixel, rounding upwards, until its luma is at the floor."""
    before = _rgb_luma(planes)
    after = _rgb_luma(result)
    lowest = np.minimum(np.rint(before), floor.astype(np.float32))
    low = np.rint(after) < lowest
    if not low.any():
        return tuple(result)
    share = (before[low] - lowest[low]) / (before[low] - after[low])
    shortened = []
    for plane, moved in zip(planes, result, strict=True):
        start = plane[low].astype(np.float32)
        end = moved[low].astype(np.float32)
        new = moved.copy()
        new[low] = np.ceil(start + np.clip(share, 0, 1) * (end - start)).astype(plane.dtype)
        shortened.append(new)
    return tuple(shortened)


def _rgb_luma(planes: Sequence[Plane]) -> Plane:
    red, green, blue = (
        np.float32(weight) * plane for weight, plane in zip(RGB_LUMA_WEIGHTS, planes, strict=True)
    )
    return np.asarray(red + green + blue)


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
