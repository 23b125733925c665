"""A GPU that is full, or too small for more than a frame: nothing is built again for it, and nothing ends."""

import gc
from contextlib import closing
from dataclasses import replace

import pytest
import torch

from tests.engines.fake_device import FakeDevice
from tests.engines.host_device import PROGRAMS, HostDevice, HostStream, install_tensorrt
from tests.engines.test_contract import agreement_db, expected_change, make_clip, make_format
from tests.engines.test_fallback import FMT, exact, run
from tests.fakes import GRAY
from vderain.engines import registry
from vderain.engines.backends import nvidia
from vderain.engines.backends.cuda import CudaBackend
from vderain.engines.backends.reference import ReferenceEngine, load_finite_network
from vderain.engines.backends.slots import SlotEngine
from vderain.engines.backends.tensorrt import TensorRtBackend
from vderain.engines.pool import EnginePool
from vderain.engines.store.cache import EngineCache
from vderain.errors import EngineFailedError, EngineLoadError, NoRoomError
from vderain.interfaces import EngineSpec
from vderain.network.inference.memory import working_bytes
from vderain.network.planes import PlanesNetwork
from vderain.options import EngineOptions
from vderain.weights import find_weights

KINDS = {"tensorrt": TensorRtBackend, "cuda": CudaBackend}


@pytest.fixture(autouse=True)
def _gpu(monkeypatch, cache_folder):
    install_tensorrt(monkeypatch)
    monkeypatch.setattr(registry, "has_nvidia_gpu", lambda: True)
    PROGRAMS.clear()


def backend(name, weights, device):
    found = find_weights("fast", str(weights))
    return KINDS[name](*found, EngineOptions(), EngineCache(), device=device)


def free_slots(device):
    return device.room - len(device.streams)


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


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be reported",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
@pytest.mark.parametrize("name", KINDS)
def test_the_libraries_own_words_are_of_memory_too(weights, name, words):
    class Driver(HostDevice):
        """Has room for ``room`` slots, and errors of no class of their own."""

        def host_buffer(self, shape, dtype):
            if len(self.streams) > self.room:
                raise RuntimeError(words)
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


@pytest.mark.parametrize("name", KINDS)
def test_a_slot_that_does_not_fit_gives_back_what_it_has_taken(weights, name):
    class Short(HostDevice):
        """Has room for the first slot's two graphs, and for one of the second's."""

        captures = 0

        def captured(self, step, stream):
            self.captures += 1
            if self.captures == 4:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
            return super().captured(step, stream)

    backend("tensorrt", weights, HostDevice()).open(FMT).close()  # builds alone
    device = Short()
    gc.disable()
    try:
        with closing(backend(name, weights, device).open(FMT)) as engine:
            assert engine.slots == 1 == len(device.streams)
    finally:
        gc.enable()


def leave_room(monkeypatch, device, slots, where):
    """Let self-checks find room next to at most ``slots`` slots."""
    owner, name = {"made": (ReferenceEngine, "__init__"), "computed": (PlanesNetwork, "forward")}[
        where
    ]
    real = getattr(owner, name)

    def tight(*arguments, **options):
        if len(device.streams) > slots:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, tight)


@pytest.mark.parametrize("where", ["made", "computed"])
@pytest.mark.parametrize("name", KINDS)
def test_a_self_check_without_room_next_to_all_slots_runs_with_one_slot(
    weights, monkeypatch, name, where
):
    device = HostDevice()
    leave_room(monkeypatch, device, 1, where)
    clip = make_clip(FMT)
    with closing(backend(name, weights, device).open(FMT)) as engine:
        assert engine.slots == 3 and engine.open(FMT).notes == ()
        change = engine.change(clip).result()
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

    monkeypatch.setattr(registry, "make_backend", make)
    with closing(EnginePool(EngineOptions(weights=str(weights), wait_engine=True))) as pool:
        report, out = run(pool)
    assert (out, report.engines[0].name) == (exact(), "openvino")
    told = report.engines[0].notes
    assert [note.partition(" ")[0] for note in told] == ["tensorrt", "cuda"]
    assert all("no room for the self-check" in note for note in told)


def test_what_else_fails_in_a_self_check_is_an_error_of_the_engine(weights, monkeypatch):
    def failing(*arguments, **options):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(nvidia, "ReferenceEngine", failing)
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
        engine.change(make_clip(FMT))


class Fake:
    """A backend of one fake device."""

    def __init__(self, name, device):
        self.name, self.device = name, device

    def open(self, fmt):
        return SlotEngine(self.device.slots, fmt, EngineSpec(self.name, "float16", "fake", "tiny"))


class Build:
    """Builds tensorrt on a GPU with much room when it is looked at for the second time."""

    def __init__(self, weights):
        self.weights, self.looks = weights, 0

    def __call__(self, name, options, fmt):
        self.fmt = fmt
        return self

    def outcome(self):
        self.looks += 1
        if self.looks < 2:
            return None
        backend("tensorrt", self.weights, HostDevice()).open(self.fmt).close()
        return ""

    def close(self):
        pass


def swapping(weights, monkeypatch, devices):
    """A run that begins with cuda and sees tensorrt built after a frame: report, frames, frames of cuda alone."""

    def make(name, *arguments):
        if name not in KINDS:
            return Fake(name, FakeDevice(2))
        return KINDS[name](*arguments, device=devices[name])

    monkeypatch.setattr(registry, "make_backend", make)
    options = EngineOptions(weights=str(weights))
    with closing(EnginePool(options, start_build=Build(weights))) as pool:
        report, out = run(pool)
    with closing(EnginePool(replace(options, engine="cuda"))) as pool:
        _, expected = run(pool)
    return report.engines, out, expected


USED = "tensorrt was built during the run and used after 1 frames"


@pytest.mark.parametrize("room", [3, 4, 5])
def test_an_engine_without_room_next_to_the_running_one_opens_when_that_is_closed(
    weights, monkeypatch, room
):
    """With some room left, it would hold fewer frames at once for the rest of the run."""
    device = HostDevice(room)
    engines, out, expected = swapping(weights, monkeypatch, {"tensorrt": device, "cuda": device})
    assert out == expected
    assert [(spec.name, spec.notes) for spec in engines] == [("tensorrt", (USED,))]
    assert len(PROGRAMS) == 1
    assert free_slots(device) == room


@pytest.mark.parametrize("room", [6, 16])
def test_with_room_for_both_no_frame_waits_for_the_running_one_to_close(weights, monkeypatch, room):
    device = HostDevice(room)
    engines, out, expected = swapping(weights, monkeypatch, {"tensorrt": device, "cuda": device})
    assert out == expected
    assert [(spec.name, spec.notes) for spec in engines] == [("tensorrt", (USED,))]


def test_an_engine_that_does_not_fit_alone_either_leaves_the_run_to_the_first(weights, monkeypatch):
    devices = {"tensorrt": HostDevice(room=0), "cuda": HostDevice(room=3)}
    engines, out, expected = swapping(weights, monkeypatch, devices)
    assert out == expected
    assert [spec.name for spec in engines] == ["cuda"]
    being_built, told = engines[0].notes
    assert "tensorrt is being built" in being_built
    assert told.startswith("tensorrt was built and cannot run: ") and "no room for a frame" in told
    assert len(PROGRAMS) == 1
    assert free_slots(devices["cuda"]) == 3


def test_where_the_first_does_not_come_back_the_next_engine_goes_on(weights, monkeypatch):
    class Shrinking(HostDevice):
        """Somebody else takes what was given back."""

        def release(self):
            if not self.streams:
                self.room = 0

    small = Shrinking(room=3)
    backend("cuda", weights, HostDevice()).open(GRAY).close()  # its verdict
    devices = {"tensorrt": HostDevice(room=0), "cuda": small}
    answers = FakeDevice(2)

    def make(name, *arguments):
        if name not in KINDS:
            return Fake(name, answers)
        return KINDS[name](*arguments, device=devices[name])

    monkeypatch.setattr(registry, "make_backend", make)
    with closing(
        EnginePool(EngineOptions(weights=str(weights)), start_build=Build(weights))
    ) as pool:
        report, out = run(pool)
    assert [pts for pts, _ in out] == list(range(12)) and out[1:] == exact()[1:]
    (spec,) = report.engines
    assert spec.name == "openvino" and "continues" not in " ".join(spec.notes)
    kinds = [note.partition(":")[0] for note in spec.notes[1:]]
    assert kinds == ["tensorrt was built and cannot run", "cuda cannot run"]
    assert len(PROGRAMS) == 1


def test_an_engine_that_cannot_run_for_other_reasons_leaves_the_running_one_open(
    weights, monkeypatch
):
    class Broken(HostDevice):
        def stream(self):
            raise RuntimeError("an illegal memory access was encountered")

    device = HostDevice()
    devices = {"tensorrt": Broken(), "cuda": device}
    engines, out, expected = swapping(weights, monkeypatch, devices)
    assert out == expected
    assert [spec.name for spec in engines] == ["cuda"]
    assert engines[0].notes[-1].startswith("tensorrt was built and cannot run, cuda continues: ")
    assert "used after" not in engines[0].notes[-1]


class Tight(HostDevice):
    """Has room for all but a frame of the test."""

    def __init__(self):
        super().__init__(total_bytes=1 << 10)


def test_a_frame_too_large_for_tensorrt_is_refused_with_what_to_do(weights):
    with pytest.raises(NoRoomError, match=r"needs about .* 64x48 .*scale=0\.5.*engine='cuda'"):
        backend("tensorrt", weights, Tight()).open(replace(FMT, width=64, height=48))
    assert not PROGRAMS


def test_a_frame_too_large_for_openvino_goes_to_the_reference_in_stripes(weights, monkeypatch):
    clip = make_clip(make_format("yuv420", 64, 96))
    config = find_weights("fast", str(weights))[1].config
    free = int(0.9 * working_bytes(config, 96, 64, 4))
    for module in ("openvino", "reference"):
        monkeypatch.setattr(f"vderain.engines.backends.{module}.available_bytes", lambda: free)
    options = EngineOptions(weights=str(weights), device="cpu", precision="float32")
    with closing(EnginePool(options)) as pool:
        change = pool.change(clip).result()
        spec = pool.open(clip.format)
    assert spec.name == "reference" and "in stripes" in spec.notes[-1]
    assert "scale=0.5, or engine='reference'" in spec.notes[0]
    assert agreement_db(change, expected_change(weights, clip), clip.format) > 60


def test_an_error_that_torch_raises_out_of_a_capture_keeps_its_reason():
    def capture():
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    with pytest.raises(RuntimeError) as raised:
        capture()
    assert nvidia.out_of_memory(raised.value)
