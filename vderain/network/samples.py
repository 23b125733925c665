"""Converts planes (YUV, gray, RGB) to the RGB that a network sees, and its change back, in numpy; torch-free.

``planes.PlanesNetwork`` does the same in torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vderain.frames import LUMA_WEIGHTS, Plane, PlaneFormat, rgb_luma

Values = npt.NDArray[np.float32]


def rgb_from_samples(fmt: PlaneFormat) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Matrix (3, P) and offsets (P,), float64: RGB in [0, 1] = matrix @ (samples - offsets)."""
    planes = len(fmt.plane_shapes)
    if fmt.layout == "rgb":
        return np.eye(3) / fmt.peak, np.zeros(3)
    kr, kb = LUMA_WEIGHTS[fmt.matrix]
    kg = 1 - kr - kb
    matrix = np.array(
        [
            [1, 0, 2 * (1 - kr)],
            [1, -2 * (1 - kb) * kb / kg, -2 * (1 - kr) * kr / kg],
            [1, 2 * (1 - kb), 0],
        ]
    )
    unit = 1 << (fmt.bit_depth - 8)
    luma, chroma = (fmt.peak, fmt.peak) if fmt.full_range else (219 * unit, 224 * unit)
    offsets = np.array([0 if fmt.full_range else 16 * unit, 128 * unit, 128 * unit], np.float64)
    scaled: npt.NDArray[Any] = matrix / np.array([luma, chroma, chroma])
    return scaled[:, :planes], offsets[:planes]


def samples_from_rgb(fmt: PlaneFormat) -> npt.NDArray[Any]:
    """Matrix (P, 3), float64: change in sample steps = matrix @ change in RGB."""
    planes = len(fmt.plane_shapes)
    if planes == 3:
        return np.asarray(np.linalg.inv(rgb_from_samples(fmt)[0]))
    kr, kb = LUMA_WEIGHTS[fmt.matrix]
    scale = rgb_from_samples(fmt)[0][0, 0]
    return np.array([[kr, 1 - kr - kb, kb]]) / float(scale)


def network_input(inputs: Sequence[Plane], fmt: PlaneFormat, multiple: int) -> Values:
    """What a ``ChangeNetwork`` takes, (C, padded H, padded W), of the planes that ``Clip.inputs`` holds."""
    count = len(fmt.plane_shapes)
    current, neighbours = inputs[:count], inputs[count:]
    padded = fmt.padded(multiple)
    matrix, offsets = rgb_from_samples(fmt)
    sx, sy = fmt.subsampling
    full = []
    for index, (plane, shape) in enumerate(zip(current, padded.plane_shapes, strict=True)):
        values = _replicated(plane.astype(np.float32) - np.float32(offsets[index]), shape)
        full.append(values.repeat(sy, 0).repeat(sx, 1) if index else values)
    rgb = np.tensordot(matrix.astype(np.float32), np.stack(full), 1)
    own = current[0].astype(np.float32)
    if fmt.layout == "rgb":
        own = np.rint(rgb_luma(current))
    unit = np.float32(matrix[0, 0])
    differences = [unit * (luma.astype(np.float32) - own) for luma in neighbours]
    shape = padded.plane_shapes[0]
    return np.concatenate([rgb, *(_replicated(d, shape)[None] for d in differences)])


def sample_change(change: Values, seen: Values, fmt: PlaneFormat) -> tuple[Plane, ...]:
    """A network's prediction, (3, padded H, padded W), as the ``bounded`` change of a frame's planes in sample steps.

    ``seen`` is the network's input.
    """
    changes = np.tensordot(samples_from_rgb(fmt).astype(np.float32), bounded(change, seen), 1)
    sx, sy = fmt.subsampling
    planes = []
    for index, (plane, (height, width)) in enumerate(zip(changes, fmt.plane_shapes, strict=True)):
        if index and sx * sy > 1:
            rows, columns = plane.shape
            plane = plane.reshape(rows // sy, sy, columns // sx, sx).mean((1, 3))
        planes.append(np.ascontiguousarray(plane[:height, :width]))
    return tuple(planes)


def bounded(change: Values, seen: Values) -> Values:
    """A change in RGB, clipped: the sum stays in [0, 1]; a value outside moves no further out."""
    rgb = seen[:3]
    return np.clip(change, np.minimum(-rgb, 0), np.maximum(1 - rgb, 0))


def _replicated(plane: Values, shape: tuple[int, int]) -> Values:
    below, right = shape[0] - plane.shape[0], shape[1] - plane.shape[1]
    return np.pad(plane, ((0, below), (0, right)), mode="edge")
