"""A CUDA graph refuses copies from the host's memory; counted on the meta device, whose tensors hold nothing."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.engines.test_contract import make_format
from tests.networks import EVERY_TIER
from vderain.engines.backends.gpu_slot import Ports
from vderain.network.build import build_network
from vderain.network.change.tensors import add_change
from vderain.network.config import NlclConfig
from vderain.network.inference.graph import device_graph
from vderain.network.tensor_alignment import align_neighbours

META = torch.device("meta")


class HostCopies(TorchDispatchMode):
    """Names of the operators that take something from the host to the device."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given, made = tree_leaves((args, kwargs)), tree_leaves(result)
        kinds = [
            {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)}
            for leaves in (given, made)
        ]
        if "cpu" in kinds[0] and "meta" in kinds[0] | kinds[1]:
            self.seen.append(str(function))
        return result


NETWORKS = {**EVERY_TIER, "nlcl": NlclConfig()}
FRAMES = [
    *((name, "yuv420", bit_depth) for name in NETWORKS for bit_depth in (8, 16)),
    *((name, "rgb", 8) for name in NETWORKS),
]


@pytest.mark.parametrize(("name", "layout", "bit_depth"), FRAMES)
def test_a_captured_frame_copies_nothing_from_the_host(name, layout, bit_depth):
    config = NETWORKS[name]
    fmt = make_format(layout, 64, 48, bit_depth)
    ports = Ports.of(config, fmt, "float16")
    graph = device_graph(build_network(config), fmt.padded(config.multiple), torch.float16).to(META)
    taken = [torch.empty((1, 1, *shape), dtype=ports.taken, device=META) for shape in ports.planes]
    strength = torch.empty((), device=META)
    with torch.inference_mode(), HostCopies() as copies:
        change = graph(*taken)
        floor = torch.empty_like(taken[0]) if ports.floor else None
        add_change(taken[: len(change)], change, fmt, strength, floor)
    assert copies.seen == []


@pytest.mark.parametrize("count", [4, 8])
def test_aligning_copies_nothing_from_the_host(count):
    lumas = torch.empty((count + 3, 48, 64), dtype=torch.int16, device=META)
    numbers = torch.empty(count + 1, dtype=torch.int64, device=META)
    flows = torch.empty((count, 24, 32, 2), device=META)
    hidden = torch.empty((count, 12, 16), dtype=torch.uint8, device=META)
    with torch.inference_mode(), HostCopies() as copies:
        align_neighbours(
            lumas, numbers, flows, hidden, numbers[1:], dtype=torch.int32, bit_depth=10
        )
    assert copies.seen == []


class Means(TorchDispatchMode):
    """Dtypes of what is averaged."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "mean" in str(function):
            self.seen.append(args[0].dtype)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", EVERY_TIER)
def test_gates_average_in_float32_where_all_else_is_half(name):
    config, fmt = EVERY_TIER[name], make_format("yuv420", 64, 48)
    graph = device_graph(build_network(config), fmt.padded(config.multiple), torch.float16).to(META)
    ports = Ports.of(config, fmt, "float16")
    taken = [torch.empty((1, 1, *shape), device=META) for shape in ports.planes]
    with torch.inference_mode(), Means() as means:
        graph(*taken)
    assert set(means.seen) == {torch.float32}
