"""An engine that fails during a run, one that is built during a run, and what the report says of both."""

from contextlib import closing
from dataclasses import asdict, replace

import pytest
import torch

from tests.command import vderain
from tests.engines.conftest import write_weights
from tests.engines.fake_device import FakeDevice
from tests.engines.host_device import HostDevice, install_tensorrt
from tests.engines.test_contract import agreement_db, expected_change, make_clip, make_format
from tests.fakes import GRAY, ListSink, ListSource, OffsetEngine, gray_frame
from tests.media.synth import write
from tests.networks import TEMPORAL
from vderain.clips import clips
from vderain.engines import registry
from vderain.engines.backends.cuda import CudaBackend
from vderain.engines.backends.tensorrt import TensorRtBackend
from vderain.engines.pool import EnginePool
from vderain.errors import EngineFailedError, EngineLoadError
from vderain.frames import Frame
from vderain.interfaces import EngineSpec
from vderain.options import EngineOptions
from vderain.pipeline import derain

FMT = make_format("gray", 6, 4)
OPTIONS = EngineOptions()


class Offering:
    """Backends of fake devices under the engines' names; ``built`` says which need no building."""

    def __init__(self, monkeypatch, devices, built=True):
        self.devices = devices
        self.built = built
        self.opened = []
        monkeypatch.setattr(registry, "has_nvidia_gpu", lambda: True)
        monkeypatch.setattr(registry, "make_backend", lambda name, *_: self.backend(name))

    def backend(self, name):
        device = self.devices[name]
        if isinstance(device, Exception):
            raise device
        offering = self

        class Backend:
            def open(self, fmt):
                offering.opened.append(name)
                spec = EngineSpec(name, "float16", f"{name} device", "tiny")
                return device.engine(fmt, spec)

        class SlowBackend(Backend):
            def is_built(self, fmt):
                return offering.built

        return SlowBackend() if name == "tensorrt" else Backend()


def failing(call, count, slots=3):
    return FakeDevice(slots, (0.01, 0.0), {(call, count): RuntimeError("illegal memory access")})


def run(pool, frames=12):
    """Derain through the real pipeline; returns the report and what came out, by level."""
    source = ListSource([gray_frame(10 * i, i) for i in range(frames)])
    sink = ListSink()
    report = derain(source, pool, sink)
    out = [(item.pts, int(item.planes[0][0, 0])) for item in sink.items if isinstance(item, Frame)]
    return report, out


def exact(frames=12):
    return [(i, 2 * 10 * i + 1) for i in range(frames)]  # the change is the image, plus one


@pytest.mark.parametrize("call", ["upload", "launch", "download", "wait"])
@pytest.mark.parametrize("count", [0, 1, 5, 11])
def test_a_gpu_that_fails_in_the_middle_of_a_file_costs_no_frame(
    weights, cache_folder, monkeypatch, call, count
):
    Offering(monkeypatch, {"tensorrt": failing(call, count), "cuda": FakeDevice(2)})
    with closing(EnginePool(replace(OPTIONS, weights=str(weights)))) as pool:
        report, out = run(pool)
    assert out == exact()
    assert [spec.name for spec in report.engines] == ["cuda"]
    (note,) = report.engines[0].notes
    assert note.startswith("tensorrt failed at frame")
    assert "illegal memory access" in note and "fell back to the next engine" in note


def test_engines_fall_back_until_one_holds(weights, cache_folder, monkeypatch):
    devices = {
        "tensorrt": failing("wait", 2),
        "cuda": failing("launch", 1),
        "openvino": EngineLoadError("openvino cannot be imported"),
        "reference": FakeDevice(1),
    }
    Offering(monkeypatch, devices)
    with closing(EnginePool(replace(OPTIONS, weights=str(weights)))) as pool:
        report, out = run(pool)
    assert out == exact()
    notes = report.engines[0].notes
    assert report.engines[0].name == "reference"
    assert [note.split()[0] for note in notes] == ["tensorrt", "cuda", "openvino"]
    assert devices["tensorrt"].live == devices["cuda"].live == 0


def test_an_engine_that_takes_over_gets_the_neighbours_as_it_takes_them(
    tmp_path, cache_folder, monkeypatch
):
    class Seeing(OffsetEngine):
        frames = TEMPORAL.frames

        def __init__(self, aligns, fails):
            super().__init__()
            self.aligns, self.fails = aligns, fails

        def engine(self, fmt, spec):
            return self

        def change(self, clip):
            if self.fails and len(self.submitted) == 4:
                raise EngineFailedError("illegal memory access")
            return super().change(clip)

    one, other = Seeing(aligns=True, fails=True), Seeing(aligns=False, fails=False)
    Offering(monkeypatch, {"tensorrt": one, "cuda": other})
    path = write_weights(tmp_path / "w.safetensors", TEMPORAL)
    with closing(EnginePool(replace(OPTIONS, weights=str(path)))) as pool:
        assert not pool.aligns  # before it is known which engine it will be
        pool.open(FMT)
        assert pool.aligns
        for _, clip in clips([gray_frame(9, i) for i in range(9)], pool.window, lambda: True):
            pool.submit(clip).result()
        assert not pool.aligns
    assert len(one.submitted) == 4 and all(clip.unaligned for clip in one.submitted)
    assert len(other.submitted) == 5 and all(len(clip.neighbours) == 2 for clip in other.submitted)


def test_where_the_last_engine_fails_too_the_run_ends_with_both_reasons(
    weights, cache_folder, monkeypatch
):
    devices = {name: failing("wait", 1) for name in ("tensorrt", "cuda", "openvino", "reference")}
    Offering(monkeypatch, devices)
    with closing(EnginePool(replace(OPTIONS, weights=str(weights)))) as pool:
        sink = ListSink()
        with pytest.raises(EngineFailedError, match="illegal memory access"):
            derain(ListSource([gray_frame(1, i) for i in range(40)]), pool, sink)
    assert sink.state == "aborted"


def test_an_engine_asked_for_by_name_is_replaced_only_in_the_middle_of_a_file(
    weights, cache_folder, monkeypatch
):
    options = replace(OPTIONS, weights=str(weights), engine="cuda")
    Offering(monkeypatch, {"cuda": failing("wait", 3), "openvino": FakeDevice(2)})
    with closing(EnginePool(options)) as pool:
        report, out = run(pool)
    assert (out, report.engines[0].name) == (exact(), "openvino")
    Offering(monkeypatch, {"cuda": EngineLoadError("no GPU"), "openvino": FakeDevice(2)})
    with closing(EnginePool(options)) as pool, pytest.raises(EngineLoadError, match="no GPU"):
        pool.open(FMT)


def test_a_clip_that_does_not_fit_changes_no_engine(weights, cache_folder, monkeypatch):
    offering = Offering(monkeypatch, {"tensorrt": FakeDevice(2), "cuda": FakeDevice(2)})
    with closing(EnginePool(replace(OPTIONS, weights=str(weights)))) as pool:
        with pytest.raises(EngineLoadError, match="sees 1 frames"):
            pool.change(make_clip(FMT, frames=2))
        assert pool.open(FMT).name == "tensorrt"
    assert offering.opened == ["tensorrt"]


class Build:
    """A build that ends after some looks at it."""

    def __init__(self, offering, looks, outcome=""):
        self.offering, self.looks, self.answer = offering, looks, outcome
        self.closed = False

    def __call__(self, name, options, fmt):
        self.started = name, fmt
        return self

    def outcome(self):
        self.looks -= 1
        if self.looks > 0:
            return None
        self.offering.built = not self.answer
        return self.answer

    def close(self):
        self.closed = True


@pytest.mark.parametrize("looks", [1, 3, 100])
def test_the_run_begins_with_cuda_and_tensorrt_takes_over_between_two_frames(
    weights, cache_folder, monkeypatch, looks
):
    devices = {"tensorrt": FakeDevice(3, (0.01, 0.0)), "cuda": FakeDevice(2, (0.01, 0.0))}
    offering = Offering(monkeypatch, devices, built=False)
    build = Build(offering, looks)
    pool = EnginePool(replace(OPTIONS, weights=str(weights)), start_build=build)
    with closing(pool):
        report, out = run(pool)
    assert out == exact()
    assert build.started == ("tensorrt", GRAY) and build.closed
    if looks == 100:
        assert report.engines[0].name == "cuda"
        assert "tensorrt is being built" in report.engines[0].notes[0]
        return
    assert report.engines[0].name == "tensorrt"
    after = f"tensorrt was built during the run and used after {looks - 1} frames"
    assert report.engines[0].notes == (after,)
    assert devices["cuda"].calls.count("upload") == looks - 1
    assert devices["cuda"].live == 0


def test_a_build_that_fails_changes_nothing_and_is_reported(weights, cache_folder, monkeypatch):
    devices = {"tensorrt": FakeDevice(3), "cuda": FakeDevice(2)}
    offering = Offering(monkeypatch, devices, built=False)
    build = Build(offering, 2, "no tactic fits into the memory")
    pool = EnginePool(replace(OPTIONS, weights=str(weights)), start_build=build)
    with closing(pool):
        report, out = run(pool)
    assert (out, report.engines[0].name) == (exact(), "cuda")
    assert report.engines[0].notes[-1].endswith("cuda continues: no tactic fits into the memory")


def test_wait_engine_builds_first(weights, cache_folder, monkeypatch):
    devices = {"tensorrt": FakeDevice(3), "cuda": FakeDevice(2)}
    offering = Offering(monkeypatch, devices, built=False)
    options = replace(OPTIONS, weights=str(weights), wait_engine=True)
    with closing(EnginePool(options, start_build=None)) as pool:
        assert pool.open(FMT).name == "tensorrt"
    assert offering.opened == ["tensorrt"]


def test_formats_and_options_survive_the_way_to_a_builder():
    assert type(FMT)(**asdict(FMT)) == FMT
    assert EngineOptions(**asdict(OPTIONS)) == OPTIONS


def test_no_gpu_is_an_error_that_says_what_to_install(weights, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    clip = write(tmp_path / "clip.mkv")
    run = ["run", clip, str(tmp_path / "out.mkv")]
    for command in (["engine", "build", "--size", "16x16"], run):
        for name in ("tensorrt", "cuda"):
            done = vderain(*command, "--engine", name, "--weights", weights)
            assert done.returncode == 1
            assert "install" in done.stderr or "nvidia-smi" in done.stderr
            assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]  # no part of an output


def test_a_frame_that_tensorrt_has_no_room_for_goes_to_cuda(weights, cache_folder, monkeypatch):
    install_tensorrt(monkeypatch)

    def make(name, *arguments):
        if name == "tensorrt":
            return TensorRtBackend(*arguments, device=HostDevice(room=0))
        return CudaBackend(*arguments, device=HostDevice())

    monkeypatch.setattr(registry, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(registry, "make_backend", make)
    options = replace(OPTIONS, weights=str(weights), wait_engine=True)
    clip = make_clip(make_format("yuv420", 20, 18))
    with closing(EnginePool(options)) as pool:
        change = pool.change(clip).result()
        spec = pool.open(clip.format)
    assert spec.name == "cuda" and "the GPU has no room for a frame" in spec.notes[0]
    assert agreement_db(change, expected_change(weights, clip), clip.format) > 50
