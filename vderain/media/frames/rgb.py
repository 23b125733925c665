"""Planes to 8 bit RGB, for stills and contact sheets; the flow itself never converts an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vderain.frames import LUMA_WEIGHTS, Plane, PlaneFormat

Image = npt.NDArray[np.uint8]  # (H, W, 3), RGB


def planes_to_rgb(planes: Sequence[Plane], fmt: PlaneFormat) -> Image:
    """RGB, (H, W, 3) uint8, of planes as ``fmt`` describes them; chroma is enlarged bilinearly.

    HDR is not tone-mapped: the code values are shown as they are.
    """
    if fmt.layout == "rgb":
        rgb = np.stack(planes, axis=-1) * np.float32(1 / fmt.peak)
        return _to_uint8(rgb)
    step = 1 << (fmt.bit_depth - 8)
    offset, luma_span, chroma_span = (0, fmt.peak, fmt.peak)
    if not fmt.full_range:
        offset, luma_span, chroma_span = 16 * step, 219 * step, 224 * step
    luma = (planes[0].astype(np.float32) - offset) / luma_span
    if fmt.layout == "gray":
        return _to_uint8(np.stack((luma, luma, luma), axis=-1))
    cb, cr = (
        (_enlarge(plane, fmt).astype(np.float32) - 128 * step) / chroma_span for plane in planes[1:]
    )
    red_weight, blue_weight = LUMA_WEIGHTS[fmt.matrix]
    red = luma + 2 * (1 - red_weight) * cr
    blue = luma + 2 * (1 - blue_weight) * cb
    green = (luma - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    return _to_uint8(np.stack((red, green, blue), axis=-1))


def _enlarge(plane: Plane, fmt: PlaneFormat) -> npt.NDArray[Any]:
    """A chroma plane at the size of luma, float32; what an odd size rounds up is cut off."""
    sx, sy = fmt.subsampling
    size = (plane.shape[1] * sx, plane.shape[0] * sy)
    large = cv2.resize(plane.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return large[: fmt.height, : fmt.width]


def _to_uint8(rgb: npt.NDArray[Any]) -> Image:
    levels: Image = np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
    return levels
