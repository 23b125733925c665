"""A GPU that is full, or too small for what stands beside a frame: nothing is built again for it, and nothing ends."""

from contextlib import closing

import pytest
import torch

from tests.engines.fake_device import FakeDevice
from tests.engines.host_device import PROGRAMS, HostDevice, HostStream, install_tensorrt
from tests.engines.test_contract import agreement_db, expected_change, make_clip
from tests.engines.test_takeover import FMT, exact, run
from vderain.engines import choice, gpu
from vderain.engines.cache import EngineCache
from vderain.engines.cuda import CudaBackend
from vderain.engines.pool import EnginePool
from vderain.engines.reference import ReferenceEngine, load_finite_network
from vderain.engines.slots import SlotEngine
from vderain.engines.tensorrt import TensorRtBackend
from vderain.errors import EngineFailedError, EngineLoadError, NoRoomError
from vderain.interfaces import EngineSpec
from vderain.network.planes import PlanesNetwork
from vderain.options import EngineOptions
from vderain.weights import find_weights

KINDS = {"tensorrt": TensorRtBackend, "cuda": CudaBackend}


@pytest.fixture(autouse=True)
def _gpu(monkeypatch, cache_folder):
    install_tensorrt(monkeypatch)
    monkeypatch.setattr(choice, "has_nvidia_gpu", lambda: True)
    PROGRAMS.clear()


def backend(name, weights, device):
    found = find_weights("fast", str(weights))
    return KINDS[name](*found, EngineOptions(), EngineCache(), device=device)


def test_a_full_gpu_is_no_reason_to_build_again(weights):
    backend("tensorrt", weights, HostDevice()).open(FMT).close()
    with pytest.raises(NoRoomError, match="no room for a frame"):
        backend("tensorrt", weights, HostDevice(room=0)).open(FMT)
    assert len(PROGRAMS) == 1
    with closing(backend("tensorrt", weights, HostDevice()).open(FMT)) as engine:
        assert engine.slots == 3
    assert len(PROGRAMS) == 1


def test_bytes_refused_by_a_gpu_without_room_for_them_are_kept(weights, monkeypatch):
    """TensorRT does not say why it takes no engine."""
    backend("tensorrt", weights, HostDevice()).open(FMT).close()
    known = dict(PROGRAMS)
    PROGRAMS.clear()
    with pytest.raises(NoRoomError, match="no engine for this GPU"):
        backend("tensorrt", weights, HostDevice(free_bytes=1)).open(FMT)
    assert not PROGRAMS  # else it was built again
    PROGRAMS.update(known)
    backend("tensorrt", weights, HostDevice()).open(FMT).close()
    assert len(PROGRAMS) == 1


@pytest.mark.parametrize("name", KINDS)
def test_the_drivers_own_words_are_of_memory_too(weights, name):
    class Driver(HostDevice):
        """Has room for ``room`` slots, and errors of no class of their own."""

        def host_buffer(self, shape, dtype):
            if len(self.streams) > self.room:
                raise RuntimeError(
                    "CUDA error: out of memory\nCUDA kernel errors might be reported"
                )
            return super().host_buffer(shape, dtype)

        def stream(self):
            stream = HostStream(self)
            self.streams.add(stream)
            return stream

    with closing(backend(name, weights, Driver(room=2)).open(FMT)) as engine:
        assert engine.slots == 2
    with pytest.raises(NoRoomError):
        backend(name, weights, Driver(room=0)).open(FMT)
    assert len(PROGRAMS) == (name == "tensorrt")


def leave_room(monkeypatch, device, beside, where):
    """Let self-checks find room beside at most ``beside`` slots."""
    owner, name = {"made": (ReferenceEngine, "__init__"), "computed": (PlanesNetwork, "forward")}[
        where
    ]
    real = getattr(owner, name)

    def tight(*arguments, **options):
        if len(device.streams) > beside:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, tight)


@pytest.mark.parametrize("where", ["made", "computed"])
@pytest.mark.parametrize("name", KINDS)
def test_a_self_check_without_room_beside_all_slots_is_made_beside_one(
    weights, monkeypatch, name, where
):
    device = HostDevice()
    leave_room(monkeypatch, device, 1, where)
    clip = make_clip(FMT)
    with closing(backend(name, weights, device).open(FMT)) as engine:
        assert engine.slots == 3 and engine.spec_for(FMT).notes == ()
        change = engine.submit(clip).result()
    assert agreement_db(change, expected_change(weights, clip), FMT) > 50
    assert len(PROGRAMS) == (name == "tensorrt")
    assert len(device.streams) == 0


@pytest.mark.parametrize("where", ["made", "computed"])
def test_a_self_check_without_any_room_ends_the_engine_and_not_the_run(weights, monkeypatch, where):
    device = HostDevice()
    leave_room(monkeypatch, device, 0, where)
    for name in KINDS:
        with pytest.raises(NoRoomError, match="no room for the self-check"):
            backend(name, weights, device).open(FMT)
    assert len(device.streams) == 0

    def make(name, *arguments):
        if name in KINDS:
            return KINDS[name](*arguments, device=device)
        return Fake(name, FakeDevice(2))

    monkeypatch.setattr(choice, "make_backend", make)
    with closing(EnginePool(EngineOptions(weights=str(weights), wait_engine=True))) as pool:
        report, out = run(pool)
    assert (out, report.engines[0].name) == (exact(), "openvino")
    told = report.engines[0].notes
    assert [note.partition(" ")[0] for note in told] == ["tensorrt", "cuda"]
    assert all("no room for the self-check" in note for note in told)


def test_what_else_fails_in_a_self_check_is_an_error_of_the_engine(weights, monkeypatch):
    def failing(*arguments, **options):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(gpu, "ReferenceEngine", failing)
    for name in KINDS:
        with pytest.raises(EngineLoadError, match=r"self-check on stand-in fails.*illegal") as told:
            backend(name, weights, HostDevice()).open(FMT)
        assert not isinstance(told.value, NoRoomError)


def test_a_reference_that_cannot_take_a_clip_fails_as_engines_do(weights, monkeypatch):
    path, card = find_weights("fast", str(weights))
    spec = EngineSpec("reference", "float32", "GPU", "tiny")
    engine = ReferenceEngine(load_finite_network(path, card), FMT, spec)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(EngineFailedError, match="out of memory"):
        engine.submit(make_clip(FMT))


class Fake:
    """A backend of one fake device."""

    def __init__(self, name, device):
        self.name, self.device = name, device

    def open(self, fmt):
        return SlotEngine(self.device.slots, fmt, EngineSpec(self.name, "float16", "fake", "tiny"))
