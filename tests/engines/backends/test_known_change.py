"""A network that darkens by a known amount, through every engine, against float64.

The bound is one level in float32, at any depth. bfloat16 has 8 bits of mantissa, so a change is right to
1/256 of itself: one level in 8 bit, and in 10 bit for changes up to half the range.
"""

import numpy as np
import pytest

from tests.engines.conftest import openvino_backend, write_weights
from tests.network.test_planes import reference_planes
from vderain.engines.backends import openvino as openvino_module
from vderain.engines.backends.reference import ReferenceBackend
from vderain.engines.store.cache import EngineCache
from vderain.engines.store.selfcheck import CheckResult
from vderain.frames import Clip, PlaneFormat
from vderain.network.change.apply import apply_change, sample_bounds
from vderain.options import EngineOptions
from vderain.weights import find_weights


def darkening(amount):
    """Change a network so that it answers ``amount`` everywhere."""

    def spoil(network):
        for parameter in network.parameters():
            parameter.zero_()
        network.detail.tail.bias.fill_(amount)

    return spoil


@pytest.fixture(autouse=True)
def _without_self_check(monkeypatch):
    """It would refuse this network: where dark colours leave RGB, only the reference clamps."""
    passed = CheckResult({"rainy": 99.0})
    monkeypatch.setattr(openvino_module, "check_engine", lambda *args, **options: passed)


def open_engine(name, path, fmt, folder):
    if name == "reference":
        return ReferenceBackend(*find_weights("fast", str(path))).open(fmt)
    found, options = find_weights("fast", str(path)), EngineOptions(precision=name)
    engine = openvino_backend(*found, options, EngineCache(folder / "cache")).open(fmt)
    assert engine.open(fmt).precision == name
    return engine


@pytest.mark.parametrize("amount", [-20 / 255, -110 / 255])
@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("layout", ["yuv420", "rgb"])
@pytest.mark.parametrize("name", ["reference", "float32", "bfloat16"])
def test_a_known_change_is_right_within_a_level(tmp_path, name, layout, bit_depth, amount):
    path = write_weights(tmp_path / "dark.safetensors", spoil=darkening(amount))
    fmt = PlaneFormat(layout, 18, 14, bit_depth, "bt601", full_range=layout == "rgb")
    grey = np.linspace(0, fmt.peak, 14 * 18).reshape(14, 18)  # over the whole range, edges included
    planes = [grey.astype(fmt.dtype)]
    for shape in fmt.plane_shapes[1:]:
        neutral = np.full(shape, 128 << (bit_depth - 8), fmt.dtype)
        planes.append(planes[0] if layout == "rgb" else neutral)
    engine = open_engine(name, path, fmt, tmp_path)
    change = engine.change(Clip(tuple(planes), fmt)).result()
    result = apply_change(tuple(planes), change, fmt)
    exact = reference_planes(planes, np.full((14, 18, 3), amount), fmt)
    for got, want, plane, (low, high) in zip(
        result, exact, planes, sample_bounds(fmt), strict=True
    ):
        bounded = np.clip(want, np.minimum(plane, low), np.maximum(plane, high))
        assert np.abs(got - bounded).max() <= 1
    engine.close()
