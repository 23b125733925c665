"""The bound on darkening: no luma sample of a frame falls below the floor; torch-free.

``alignment.order`` makes the floor from the aligned neighbours. ``tensors`` applies the bound on tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vderain.frames import Plane, PlaneFormat, rgb_luma


def bounded_below(
    planes: Sequence[Plane], changed: Sequence[Plane], floor: Plane, fmt: PlaneFormat
) -> tuple[Plane, ...]:
    """The ``changed`` planes, whose luma is at least the lower one of the input and the floor.

    Args:
        planes: integer samples (H, W) of the input.
        changed: the same with the change added; shapes and dtype of ``planes``.
        floor: luma samples (H, W).
        fmt: of the planes.

    Returns:
        New planes. Chroma stays that of the input where the floor withholds more than half of the darkening of
        one of the pixels of a chroma sample.

    """
    if fmt.layout == "rgb":
        return _bounded_rgb(planes, changed, floor)
    return _bounded_luma(planes, changed, floor, fmt)


def _bounded_luma(
    planes: Sequence[Plane], changed: Sequence[Plane], floor: Plane, fmt: PlaneFormat
) -> tuple[Plane, ...]:
    before, asked = planes[0], changed[0]
    luma = np.maximum(asked, np.minimum(before, floor))
    if len(planes) == 1:
        return (luma,)
    withheld = np.asarray(cv2.subtract(luma, asked) > cv2.subtract(before, luma)).reshape(
        luma.shape
    )
    if not withheld.any():
        return (luma, *changed[1:])
    sx, sy = fmt.subsampling
    if sx > 1:
        withheld = withheld[:, ::2] | np.pad(withheld, ((0, 0), (0, luma.shape[1] % 2)))[:, 1::2]
    if sy > 1:
        withheld = withheld[::2] | np.pad(withheld, ((0, luma.shape[0] % 2), (0, 0)))[1::2]
    chroma = (
        np.where(withheld, plane, moved)
        for plane, moved in zip(planes[1:], changed[1:], strict=True)
    )
    return (luma, *chroma)


def _bounded_rgb(
    planes: Sequence[Plane], changed: Sequence[Plane], floor: Plane
) -> tuple[Plane, ...]:
    """Shorten the change of each pixel, rounding upwards, until its luma is at the floor."""
    before = rgb_luma(planes)
    after = rgb_luma(changed)
    lowest = np.minimum(np.rint(before), floor.astype(np.float32))
    low = np.rint(after) < lowest
    if not low.any():
        return tuple(changed)
    share = (before[low] - lowest[low]) / (before[low] - after[low])
    shortened = []
    for plane, moved in zip(planes, changed, strict=True):
        start = plane[low].astype(np.float32)
        end = moved[low].astype(np.float32)
        new = moved.copy()
        new[low] = np.ceil(start + np.clip(share, 0, 1) * (end - start)).astype(plane.dtype)
        shortened.append(new)
    return tuple(shortened)
