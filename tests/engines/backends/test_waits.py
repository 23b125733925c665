"""The host waits for the device in one place only; counted on a device that stands in, in every engine for GPUs."""

from contextlib import closing

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.engines.host_device import BufferKnowing, HostEvent, HostStream, install_tensorrt
from tests.engines.test_contract import make_clip, make_format
from vderain.engines.backends.cuda import CudaBackend
from vderain.engines.backends.tensorrt import TensorRtBackend
from vderain.engines.store.cache import EngineCache
from vderain.options import EngineOptions
from vderain.weights import find_weights

aten = torch.ops.aten


class Waits(TorchDispatchMode):
    """What of torch's work would make the host wait, were the stand-in a GPU: names of it, as it happens.

    A copy between the host's buffers and the device that is not told to go on by itself, and a number
    that is read out of a tensor.
    """

    def __init__(self, device):
        super().__init__()
        self.device = device
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is aten._local_scalar_dense.default:
            self.seen.append("a number is read")
        if function is aten.copy_.default:
            target, source, *non_blocking = args
            crosses = self.device.is_host(target) != self.device.is_host(source)
            if crosses and not any(non_blocking):
                self.seen.append("a copy waits")
        return function(*args, **(kwargs or {}))


class CountingDevice(BufferKnowing):
    """Knows what it was waited for."""

    def __init__(self):
        super().__init__()
        self.waits = Waits(self)

    def event(self):
        device = self

        class Event(HostEvent):
            def synchronize(self):
                device.waits.seen.append("an event")
                super().synchronize()

        return Event(self)

    def stream(self):
        device = self

        class Stream(HostStream):
            def synchronize(self):
                device.waits.seen.append("a stream")

        stream = Stream(self)
        self.streams.add(stream)
        return stream


@pytest.fixture(params=["cuda", "tensorrt"])
def opened(request, weights, monkeypatch, shared_cache):
    install_tensorrt(monkeypatch)
    kind = {"cuda": CudaBackend, "tensorrt": TensorRtBackend}[request.param]
    device = CountingDevice()
    found = find_weights("fast", str(weights))
    backend = kind(*found, EngineOptions(), EngineCache(shared_cache / "waits"), device=device)

    def open_engine(fmt):
        return closing(backend.open(fmt)), device.waits

    return open_engine


STARTS = {
    "change": lambda engine, clip: engine.change(clip),
    "image": lambda engine, clip: engine.submit(clip, strength=0.5),
}


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("start", STARTS)
def test_the_host_waits_for_each_answer_once_and_for_nothing_else(opened, start, bit_depth):
    clip = make_clip(make_format("yuv420", 20, 18, bit_depth))
    opening, waits = opened(clip.format)
    with opening as engine, waits:
        waits.seen.clear()
        pending = [STARTS[start](engine, clip) for _ in range(engine.slots)]
        assert engine.slots == 3 and waits.seen == []
        for answered, answer in enumerate(pending, start=1):
            answer.result()
            assert waits.seen == ["an event"] * answered


def test_with_all_slots_taken_the_host_waits_for_the_oldest_alone(opened):
    clip = make_clip(make_format("yuv420", 20, 18))
    opening, waits = opened(clip.format)
    with opening as engine, waits:
        pending = [engine.change(clip) for _ in range(engine.slots)]
        waits.seen.clear()
        pending.append(engine.change(clip))
        assert waits.seen == ["an event"]
        pending[0].result()
        assert waits.seen == ["an event"]
