"""A graph between the planes of one format, in OpenVINO's operators; needs no torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from vderain.frames import RGB_LUMA_WEIGHTS, PlaneFormat
from vderain.network.samples import rgb_from_samples, samples_from_rgb


def with_sample_types(ov: Any, model: Any, fmt: PlaneFormat) -> Any:
    """The model of float32 planes, changed to take the format's integers."""
    processor = ov.preprocess.PrePostProcessor(model)
    for index in range(len(model.inputs)):
        processor.input(index).tensor().set_element_type(_sample_type(ov, fmt))
    return processor.build()


def between_planes(ov: Any, change: Any, fmt: PlaneFormat, seen_frames: int) -> Any:
    """A model of a network's change in RGB, (1, C, H, W) -> (1, 3, H, W), between planes of any format and size.

    The arithmetic is that of ``network.samples``; the planes need no padding. ``change`` becomes part of the model.
    """
    ops = ov.opset13
    count = len(fmt.plane_shapes)
    names = [*"yuv"[:count], *(f"neighbour{index}" for index in range(1, seen_frames))]
    planes = [
        ops.parameter(ov.PartialShape([1, 1, -1, -1]), _sample_type(ov, fmt), name=name)
        for name in names
    ]
    rgb = _rgb(ops, planes[:count], fmt)
    seen = [rgb, *_differences(ops, planes[:count], planes[count:], fmt)]
    parameter = change.get_parameters()[0]
    parameter.output(0).replace(ops.concat(seen, 1).output(0) if len(seen) > 1 else rgb.output(0))
    output = change.get_results()[0].input_value(0)
    outputs = _sample_changes(ops, output, rgb, fmt)
    return ov.Model([ops.result(output) for output in outputs], planes, "change_between_planes")


def _sample_type(ov: Any, fmt: PlaneFormat) -> Any:
    return ov.Type.u8 if fmt.bit_depth == 8 else ov.Type.u16


def _rgb(ops: Any, planes: list[Any], fmt: PlaneFormat) -> Any:
    """(1, 3, H, W) in [0, 1]; chroma is repeated."""
    matrix, offsets = rgb_from_samples(fmt)
    sx, sy = fmt.subsampling
    full = []
    for index, plane in enumerate(planes):
        values = ops.convert(plane, "f32")
        if offsets[index]:
            values = ops.subtract(values, np.float32(offsets[index]))
        if index and sx * sy > 1:
            values = ops.interpolate(
                values, np.array([sy, sx], np.float32), "nearest", "scales", [0], [0],
                "asymmetric", "floor", axes=np.array([2, 3]),
            )  # fmt: skip
        full.append(values)
    packed = ops.concat(full, 1) if len(full) > 1 else full[0]
    return _conv1x1(ops, packed, matrix)


def _differences(
    ops: Any, current: list[Any], neighbours: list[Any], fmt: PlaneFormat
) -> list[Any]:
    """Neighbours' luma minus the frame's, in RGB's unit; computed in integers, which half precision would round."""
    exact = "f32" if fmt.bit_depth == 8 else "i32"
    if fmt.layout == "rgb":
        weights = np.array(RGB_LUMA_WEIGHTS, np.float32)
        channels = [ops.convert(plane, "f32") for plane in current]
        weighted = [
            ops.multiply(plane, weight) for plane, weight in zip(channels, weights, strict=True)
        ]
        own = ops.round(ops.add(ops.add(weighted[0], weighted[1]), weighted[2]), "half_to_even")
        own = ops.convert(own, exact) if exact != "f32" else own
    else:
        own = ops.convert(current[0], exact)
    unit = np.float32(rgb_from_samples(fmt)[0][0, 0])
    found = []
    for luma in neighbours:
        difference = ops.subtract(ops.convert(luma, exact), own)
        if exact != "f32":
            difference = ops.convert(difference, "f32")
        found.append(ops.multiply(difference, unit))
    return found


def _sample_changes(ops: Any, change: Any, rgb: Any, fmt: PlaneFormat) -> list[Any]:
    """The change of each plane in sample steps, clamped in RGB, chroma averaged."""
    zero, one = np.float32(0), np.float32(1)
    change = ops.maximum(change, ops.minimum(ops.negative(rgb), zero))
    change = ops.minimum(change, ops.maximum(ops.subtract(one, rgb), zero))
    sx, sy = fmt.subsampling
    changes = []
    for index, row in enumerate(samples_from_rgb(fmt)):
        block = (sy, sx) if index else (1, 1)
        # Matrix and mean are one convolution.
        kernel = np.broadcast_to(row[None, :, None, None] / (block[0] * block[1]), (1, 3, *block))
        kernel = np.ascontiguousarray(kernel, np.float32)
        changes.append(ops.convolution(change, kernel, list(block), [0, 0], [0, 0], [1, 1]))
    return changes


def _conv1x1(ops: Any, x: Any, matrix: Any) -> Any:
    kernel = np.ascontiguousarray(matrix[:, :, None, None], np.float32)
    return ops.convolution(x, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
