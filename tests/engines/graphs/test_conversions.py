"""Between planes and RGB: numpy, torch and OpenVINO compute what the standards say, in every format."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.network.test_planes import (
    WEIGHTS,
    YUV,
    formats,
    random_planes,
    reference_change,
    reference_rgb,
)
from vderain.engines.graphs.planes import between_planes
from vderain.engines.graphs.runtime import import_openvino
from vderain.frames import RGB_LUMA_WEIGHTS
from vderain.network.base import ChangeNetwork
from vderain.network.planes import PlanesNetwork
from vderain.network.samples import network_input, sample_change

NEIGHBOURS = 2
# What stands for a network: a matrix, so large that some changes leave the range and are clamped.
MIX = np.random.default_rng(5).normal(0, 0.4, (3, 3 + NEIGHBOURS)).astype(np.float32)
FORMATS = [*formats([*YUV, "gray", "rgb"], (8, 10, 12, 16), 16, 12, tuple(WEIGHTS))]


class Mixed(ChangeNetwork):
    """``MIX`` at each pixel."""

    def change(self, rainy):
        return F.conv2d(rainy, torch.from_numpy(MIX)[:, :, None, None])


def by_numpy(planes, fmt):
    seen = network_input(planes, fmt, 1)
    return sample_change(np.tensordot(MIX, seen, 1), seen, fmt)


def by_torch(planes, fmt):
    network = PlanesNetwork(Mixed(), fmt, multiple=1)
    with torch.inference_mode():
        changes = network(*(torch.from_numpy(p.astype(np.int32))[None, None] for p in planes))
    return [change[0, 0].numpy() for change in changes]


def by_openvino(planes, fmt):
    ov = import_openvino()
    ops = ov.opset13
    rainy = ops.parameter(ov.PartialShape([1, 3 + NEIGHBOURS, -1, -1]), ov.Type.f32)
    kernel = np.ascontiguousarray(MIX[:, :, None, None])
    change = ops.convolution(rainy, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    network = ov.Model([ops.result(change.output(0))], [rainy], "mixed")
    model = between_planes(ov, network, fmt, 1 + NEIGHBOURS)
    compiled = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([plane[None, None] for plane in planes])
    return [found[index][0, 0] for index in range(len(fmt.plane_shapes))]


def by_the_standard(planes, fmt):
    """In float64."""
    count = len(fmt.plane_shapes)
    rgb, own = reference_rgb(planes[:count], fmt), planes[0].astype(np.float32)
    if fmt.layout == "rgb":
        weights = np.float32(RGB_LUMA_WEIGHTS)
        own = np.rint(sum(w * p for w, p in zip(weights, planes[:count], strict=True)))
    luma = fmt.peak if fmt.full_range else 219 << (fmt.bit_depth - 8)
    differences = [(plane - own.astype(np.float64)) / luma for plane in planes[count:]]
    seen = np.concatenate([rgb, np.stack(differences, -1)], -1)
    change = seen @ MIX.T.astype(np.float64)
    bounded = np.clip(change, np.minimum(-rgb, 0), np.maximum(1 - rgb, 0))
    assert 0.1 < (bounded != change).mean() < 0.9
    return reference_change(bounded, fmt)


BACK_ENDS: dict[str, Callable] = {"numpy": by_numpy, "torch": by_torch, "openvino": by_openvino}


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_every_back_end_converts_as_the_standard_says(fmt):
    clip = [*random_planes(fmt), *(random_planes(fmt, seed)[0] for seed in (1, 2))]
    expected = by_the_standard(clip, fmt)
    for name, convert in BACK_ENDS.items():
        found = convert(clip, fmt)
        assert [plane.shape for plane in found] == [plane.shape for plane in expected], name
        worst = max(np.abs(got - want).max() for got, want in zip(found, expected, strict=True))
        assert worst < 1e-5 * fmt.peak, name
