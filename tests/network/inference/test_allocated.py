"""What a graph allocates is counted, and a frame goes in the largest stripes that fit."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from tests.engines.test_contract import make_format
from tests.networks import EVERY_TIER, FIVE_GATES, NINE_MEDIAN
from vderain.network.build import build_network
from vderain.network.config import PAPER
from vderain.network.inference.allocated import peak_bytes, stripe_rows
from vderain.network.inference.graph import device_graph

FRAME = 4 * 32 * 48  # bytes of a plane in float32


class Steps(nn.Module):
    """Two planes alive at once, then three, then one."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.ones(48))

    def forward(self, x):
        first = x + 1
        second = first * self.weight
        second.view(-1).add_(1)  # neither a view nor a result in place takes memory
        third = first + second
        del first, second
        return third


def test_what_is_alive_at_once_is_counted_once_and_weights_and_inputs_are_not():
    graph = Steps()
    assert peak_bytes(graph, [(32, 48)], torch.float32) == 3 * FRAME
    assert peak_bytes(nn.Identity(), [(32, 48)], torch.float32) == 0
    assert graph.weight.device.type == "cpu"  # the graph can still be used


def allocated_bytes(graph, inputs):
    """The most that torch's own allocator had given out at once, by its profiler."""
    with torch.inference_mode():
        graph(*inputs)  # libraries keep what they make at first
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            kept = graph(*inputs)
    assert kept is not None
    now = most = 0
    for event in sorted(seen.profiler.kineto_results.events(), key=lambda one: one.start_ns()):
        if event.name() == "[memory]" and event.device_type() == DeviceType.CPU:
            now += event.nbytes()
            most = max(most, now)
    return most


@pytest.mark.parametrize("config", [FIVE_GATES, NINE_MEDIAN], ids=["gates", "median"])
@pytest.mark.parametrize("rows", [0, 24])
def test_the_count_is_what_the_allocator_gives_out(config, rows):
    fmt = make_format("yuv420", 256, 192)
    graph = device_graph(build_network(config), fmt, torch.float32, rows=rows)
    shapes = fmt.clip_shapes(config.seen_frames)
    inputs = [torch.zeros((1, 1, *shape)) for shape in shapes]
    counted = peak_bytes(graph, shapes, torch.float32)
    # Convolutions on a CPU take some more for themselves.
    assert counted <= allocated_bytes(graph, inputs) <= 1.1 * counted


@pytest.mark.parametrize("name", EVERY_TIER)
def test_the_peak_grows_with_the_frame_and_with_the_precision(name):
    config = EVERY_TIER[name]

    def peak(width, dtype):
        fmt = make_format("yuv420", width, 48)
        graph = device_graph(build_network(config), fmt.padded(config.multiple), dtype)
        return peak_bytes(graph, fmt.clip_shapes(config.seen_frames), torch.uint8)

    half = peak(64, torch.float16)
    assert 1.8 * half < peak(128, torch.float16) < 2.2 * half
    assert 1.2 * half < peak(64, torch.float32) < 2.2 * half


def test_stripes_save_memory_where_features_are_wide():
    fmt = make_format("yuv420", 960, 544)

    def peak(rows):
        graph = device_graph(network, fmt, torch.float16, rows=rows)
        return peak_bytes(graph, fmt.clip_shapes(1), torch.uint8)

    network = build_network(replace(PAPER, rain_blocks=2, detail_blocks=2))
    whole, some = peak(0), peak(544 // 8)
    assert some < 0.6 * whole
    assert stripe_rows(peak, 544, some) <= 544 // 8
    assert stripe_rows(peak, 544, some // 2) == 0


def test_the_largest_stripe_that_fits_is_taken():
    assert stripe_rows(lambda rows: 10 * rows, 96, 500) == 48
    assert stripe_rows(lambda rows: 10 * rows, 96, 470) == 24
    assert stripe_rows(lambda rows: 10 * rows, 97, 70) == 7
    assert stripe_rows(lambda rows: 10 * rows, 96, 50) == 0
