"""What the device's module measures, over a device that computes on the CPU."""

import contextlib
import ctypes
import functools
import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.engines.host_device import HostDevice
from vderain.engines.backends import device as device_module
from vderain.engines.backends.device import (
    CudaDevice,
    driver_version,
    transfers_per_s,
)
from vderain.machine import share_context


class Noting(HostDevice):
    """Keeps the host's buffers."""

    def __init__(self):
        super().__init__()
        self.buffers = []

    def host_buffer(self, shape, dtype):
        self.buffers.append(super().host_buffer(shape, dtype).fill_(7))
        return self.buffers[-1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_planes_reach_the_device_through_its_own_buffers(dtype):
    device, planes = Noting(), [np.full(shape, 3, dtype) for shape in ((4, 6), (2, 3))]
    assert transfers_per_s(device, planes, 0.01, back=False) > 0
    assert [tuple(buffer.shape) for buffer in device.buffers] == [(4, 6), (2, 3)]
    for buffer, plane in zip(device.buffers, planes, strict=True):
        np.testing.assert_array_equal(buffer.numpy(), plane)


def test_planes_come_back_into_the_hosts_memory():
    device, planes = Noting(), [np.full((5, 5), 3, np.uint8)]
    assert transfers_per_s(device, planes, 0.01, back=True) > 0
    np.testing.assert_array_equal(planes[0], device.buffers[0].numpy())


def driver(asked, code=0):
    """NVIDIA's driver, which notes what it is asked."""

    def number_of(handle, index):
        ctypes.cast(handle, ctypes.POINTER(ctypes.c_int))[0] = 40 + index
        return 0

    def set_flags(handle, flags):
        asked.append(("flags", handle.value, flags))
        return code

    return SimpleNamespace(
        cuInit=lambda flags: 0, cuDeviceGet=number_of, cuDevicePrimaryCtxSetFlags_v2=set_flags
    )


@pytest.mark.parametrize("index", [0, 1])
def test_the_context_is_made_as_ffmpeg_wants_it_before_torch_makes_it(monkeypatch, index):
    asked = []
    share = functools.partial(share_context, load=lambda name: driver(asked))
    monkeypatch.setattr(device_module, "share_context", share)
    facts = SimpleNamespace(
        name="GPU", major=9, minor=0, total_memory=1 << 30, multi_processor_count=1
    )

    def properties(number):
        asked.append(("torch", number))
        return facts

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    assert CudaDevice(f"cuda:{index}").torch_device == torch.device("cuda", index)
    assert asked == [("flags", 40 + index, 4), ("torch", index)]


class Stream:
    def synchronize(self):
        pass


@pytest.fixture
def captured(monkeypatch):
    """Captures a step on a stream, without CUDA; notes the memory pools of graphs and their replays."""
    pools, replays, collecting = [], [], []

    @contextlib.contextmanager
    def graph(made, *, pool, stream, capture_error_mode):
        pools.append(pool)
        collecting.append(gc.isenabled())
        yield

    made = SimpleNamespace(replay=lambda: replays.append("replay"))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: made)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(CudaDevice, "on", lambda device, stream: contextlib.nullcontext())
    device = object.__new__(CudaDevice)
    device._pools = weakref.WeakKeyDictionary()

    def capture(step, stream):
        return device.captured(step, stream)

    capture.pools, capture.replays, capture.collecting = pools, replays, collecting
    return capture


def test_the_graphs_of_a_stream_share_their_memory(captured):
    one, other = Stream(), Stream()
    for stream in (one, one, other):
        captured(lambda: None, stream)
    first, second, third = captured.pools
    assert first is second and second is not third


def test_no_garbage_is_collected_in_a_capture(captured):
    """Other graphs and decoders' memory would be freed in its thread, which spoils it."""
    captured(lambda: None, Stream())
    assert captured.collecting == [False] and gc.isenabled()


def test_a_graph_keeps_the_weights_that_it_reads_and_does_not_run_its_step_again(captured):
    class Weights:
        used = 0

    weights = Weights()
    alive = weakref.ref(weights)

    def made(weights):
        def step():
            weights.used += 1

        return step

    replay = captured(made(weights), Stream())
    used = weights.used
    del weights
    gc.collect()
    assert alive() is not None
    replay()
    assert captured.replays == ["replay"] and alive().used == used
    del replay
    gc.collect()
    assert alive() is None


def test_memory_for_surfaces_outlives_the_device(monkeypatch):
    used = []
    monkeypatch.setattr(torch.cuda, "MemPool", object)
    monkeypatch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
    monkeypatch.setattr(
        torch.cuda,
        "use_mem_pool",
        lambda pool, device: contextlib.nullcontext(used.append((pool, device))),
    )
    device_module._lasting_pool.cache_clear()
    for index in (0, 0, 1):
        device = object.__new__(CudaDevice)
        device.torch_device = torch.device("cuda", index)
        with device.surface_memory():
            pass
    device_module._lasting_pool.cache_clear()
    (first, _), (second, _), (third, where) = used
    assert first is second and second is not third and where == torch.device("cuda", 1)


def test_without_a_driver_the_context_stays_as_it_is_and_a_refusal_is_logged(caplog):
    def missing(name):
        raise OSError("no such library")

    share_context(0, missing)
    assert not caplog.records
    share_context(0, lambda name: driver([], code=708))
    assert "error 708" in caplog.text


def test_the_drivers_version_is_the_systems(tmp_path):
    told = tmp_path / "version"
    told.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.133.20  Sun Mar 30\nGCC 12\n"
    )
    assert driver_version(told) == "570.133.20"
    assert driver_version(tmp_path / "none") == "unknown"
