"""Which engine runs, what happens when it cannot, and what is kept open."""

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from tests.engines.conftest import write_weights
from tests.engines.test_contract import agreement_db, expected_change, make_clip, make_format
from tests.fakes import FakeEngine
from vderain import engines
from vderain.engines import registry
from vderain.engines.backends import openvino as openvino_module
from vderain.engines.backends import slots as slots_module
from vderain.engines.pool import EnginePool
from vderain.engines.registry import candidates, usable_engines
from vderain.engines.resize import scaled_format
from vderain.engines.store.selfcheck import (
    CheckResult,
    check_engine,
    check_images,
    fitted,
    planes_from_rgb,
)
from vderain.errors import EngineBuildError, EngineLoadError, OptionError, WeightsError
from vderain.flow.future import Future
from vderain.frames import Clip, PlaneFormat
from vderain.options import EngineOptions

FMT = make_format("gray", 16, 16)


def open_pool(weights, **options):
    keep = options.pop("keep", 4)
    return EnginePool(EngineOptions(weights=str(weights), **options), keep=keep)


def hide_openvino(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)


def test_the_reference_takes_over_where_openvino_is_missing(weights, cache_folder, monkeypatch):
    hide_openvino(monkeypatch)
    pool = open_pool(weights)
    clip = make_clip(FMT)
    change = pool.change(clip).result()
    assert agreement_db(change, expected_change(weights, clip), FMT) > 100
    spec = pool.open(FMT)
    pool.close()
    assert (spec.name, spec.precision) == ("reference", "float32")
    assert len(spec.notes) == 1
    assert spec.notes[0].startswith("openvino cannot run: openvino cannot be imported")


def test_the_reference_takes_over_where_openvino_cannot_build(weights, cache_folder, monkeypatch):
    def fail(self, fmt, precision):
        raise TypeError("no such operator")

    monkeypatch.setattr(openvino_module.OpenVinoBackend, "_model", fail)
    pool = open_pool(weights)
    spec = pool.open(FMT)
    pool.close()
    assert spec.name == "reference"
    assert "no such operator" in spec.notes[0]
    with pytest.raises(EngineBuildError, match="no such operator"):
        open_pool(weights, engine="openvino").open(FMT)


def test_an_engine_asked_for_by_name_is_not_replaced(weights, cache_folder, monkeypatch):
    hide_openvino(monkeypatch)
    for options in ({"engine": "openvino"}, {"precision": "bfloat16"}, {"device": "GPU"}):
        with pytest.raises(EngineLoadError, match="pip install openvino"):
            open_pool(weights, **options).open(FMT)


def test_unknown_device_lists_those_there_are(weights, cache_folder):
    with pytest.raises(EngineLoadError, match=r"device='TPU': .* available: .*CPU"):
        open_pool(weights, device="TPU").open(FMT)


def test_contradicting_options(weights):
    for options in ({"precision": "bfloat16"}, {"device": "GPU"}):
        with pytest.raises(OptionError, match="reference"):
            open_pool(weights, engine="reference", **options)


def test_a_precision_that_the_device_lacks_is_refused(weights, cache_folder, monkeypatch):
    monkeypatch.setitem(openvino_module._CAPABILITIES, "float16", "NO_SUCH_CAPABILITY")
    with pytest.raises(EngineBuildError, match=r"precision='float16': CPU .* cannot compute in it"):
        open_pool(weights, precision="float16").open(FMT)


def test_weights_are_checked_when_the_pool_is_made(tmp_path):
    path = write_weights(tmp_path / "own.safetensors")
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(WeightsError, match="sha256"):
        open_pool(path)
    with pytest.raises(WeightsError, match="no such weights"):
        open_pool(tmp_path / "absent.safetensors")


def spoil_answers(monkeypatch, wrong_in):
    """Let openvino answer wrongly in some precisions."""
    answer = slots_module._result

    def wrong_answer(slot, spec):
        wrong = 3 if spec.precision in wrong_in else 0
        return tuple(plane + np.float32(wrong) for plane in answer(slot, spec))

    monkeypatch.setattr(slots_module, "_result", wrong_answer)
    monkeypatch.setitem(openvino_module._CAPABILITIES, "bfloat16", "FP32")  # on any CPU


def must_not_build(*args):
    raise AssertionError("built again")


def test_a_wrong_precision_falls_back_and_the_verdict_is_kept(weights, cache_folder, monkeypatch):
    spoil_answers(monkeypatch, ["bfloat16"])
    for _ in range(2):
        pool = open_pool(weights, precision="bfloat16")
        clip = make_clip(FMT)
        change = pool.change(clip).result()
        spec = pool.open(FMT)
        pool.close()
        assert agreement_db(change, expected_change(weights, clip), FMT) > 60
        assert (spec.name, spec.precision) == ("openvino", "float32")
        assert len(spec.notes) == 1
        assert spec.notes[0].startswith("openvino in bfloat16 is not used, it fails the self-check")
        assert len(list(cache_folder.glob("*.bin"))) == 2
        # The second run must not build: it finds both verdicts.
        monkeypatch.setattr(openvino_module.OpenVinoBackend, "_build", must_not_build)


def test_a_wrong_engine_is_never_used(weights, cache_folder, monkeypatch):
    spoil_answers(monkeypatch, ["bfloat16", "float32"])
    with pytest.raises(EngineBuildError, match="self-check"):
        open_pool(weights, engine="openvino").open(FMT)
    pool = open_pool(weights)
    assert pool.open(FMT).name == "reference"
    pool.close()


class AnsweringWith(FakeEngine):
    """An engine that changes every sample by a constant."""

    def __init__(self, offset):
        self.offset = offset
        self.clips = []

    def change(self, clip):
        self.clips.append(clip)
        shapes = clip.format.plane_shapes
        change = tuple(np.full(shape, self.offset, np.float32) for shape in shapes)
        return Future(lambda: change)


def test_self_check_bars():
    fmt = PlaneFormat("yuv420", 34, 26, full_range=True)
    still = AnsweringWith(0)
    same = check_engine(AnsweringWith(0), still, fmt, flop=1)
    assert same.passed
    assert set(same.agreement_db) == {"rainy", "dry", "night"}
    assert not check_engine(AnsweringWith(1), still, fmt, flop=1).passed  # 48 dB
    assert check_engine(AnsweringWith(0.7), still, fmt, flop=1).passed  # 51 dB
    assert not check_engine(AnsweringWith(float("nan")), still, fmt, flop=1).passed
    # Weights that move dry images are not the engine's fault; moving them further is.
    moved = check_engine(AnsweringWith(5), AnsweringWith(5), fmt, flop=1)
    assert moved.passed
    assert moved.dry_db < 46
    assert CheckResult({"dry": 51.0}, 44.1, 45.0).passed
    assert not CheckResult({"dry": 51.0}, 43.9, 45.0).passed


def test_a_heavy_network_is_checked_on_one_image():
    engine = AnsweringWith(0)
    result = check_engine(engine, AnsweringWith(0), FMT, flop=1e13)
    assert list(result.agreement_db) == ["rainy"]
    assert len(engine.clips) == 1
    assert result.passed


def test_self_check_results_survive_the_sidecar():
    result = check_engine(AnsweringWith(0), AnsweringWith(0), FMT, flop=1)
    assert CheckResult(**json.loads(json.dumps(result.to_dict()))) == result


def test_check_images_fill_any_size():
    image = check_images()["rainy"]
    height, width = image.shape[:2]
    large = fitted(image, 3 * height, 3 * width)
    np.testing.assert_array_equal(large[height : 2 * height, width : 2 * width], image)
    np.testing.assert_array_equal(large[height - 1], large[height])
    assert fitted(image, 1, 1).shape == (1, 1, 3)


@pytest.mark.parametrize("layout", ["yuv420", "yuv422", "yuv444", "gray", "rgb"])
def test_planes_from_rgb(layout):
    fmt = PlaneFormat(layout, 5, 3, 10, "bt709", full_range=layout == "rgb")
    white = planes_from_rgb(np.full((3, 5, 3), 255, np.uint8), fmt)
    black = planes_from_rgb(np.zeros((3, 5, 3), np.uint8), fmt)
    red = planes_from_rgb(np.full((3, 5, 3), (255, 0, 0), np.uint8), fmt)
    values = [[int(plane.max()) for plane in planes] for planes in (white, black, red)]
    expected = {
        "rgb": [[1023] * 3, [0] * 3, [1023, 0, 0]],
        "gray": [[940], [64], [250]],
    }.get(layout, [[940, 512, 512], [64, 512, 512], [250, 409, 960]])
    assert values == expected
    assert tuple(plane.shape for plane in white) == fmt.plane_shapes
    assert all(plane.dtype == fmt.dtype for plane in white)


class Kept:
    """A backend whose engines only note when they are closed."""

    def __init__(self):
        self.opened = []
        self.closed = []

    def open(self, fmt):
        self.opened.append(fmt)
        engine = AnsweringWith(0)
        engine.close = lambda: self.closed.append(fmt)
        return engine


@pytest.fixture
def kept(monkeypatch):
    backend = Kept()
    monkeypatch.setattr(registry, "make_backend", lambda *args: backend)
    return backend


def test_the_pool_closes_what_was_used_least_recently(weights, cache_folder, kept):
    pool = open_pool(weights, keep=2)
    formats = [replace(FMT, width=width) for width in (10, 20, 30)]
    for fmt in (formats[0], formats[1], formats[0], formats[2]):
        pool.change(make_clip(fmt))
    assert kept.closed == [formats[1]]
    assert kept.opened == formats
    pool.close()
    assert sorted(kept.closed, key=str) == sorted(formats, key=str)
    with pytest.raises(EngineLoadError, match="closed"):
        pool.open(FMT)


def test_large_images_leave_room_for_fewer(weights, cache_folder, kept):
    pool = open_pool(weights)
    formats = [replace(FMT, width=1920, height=height) for height in (2160, 2100, 16)]
    for fmt in formats:
        pool.open(fmt)
    assert kept.closed == formats[:1]
    pool.close()


@pytest.mark.parametrize("layout", ["yuv420", "rgb"])
def test_scale_computes_the_change_at_a_smaller_size(weights, cache_folder, layout):
    fmt = make_format(layout, 50, 34)
    pool = open_pool(weights, scale=0.5, engine="reference")
    clip = make_clip(fmt)
    turned = tuple(np.rot90(np.rot90(plane, -1).copy()) for plane in clip.planes)
    change = pool.change(replace(clip, planes=turned)).result()
    small = scaled_format(fmt, 0.5)
    assert (small.width, small.height) == (25, 17)
    assert tuple(plane.shape for plane in change) == fmt.plane_shapes
    assert all(plane.dtype == np.float32 for plane in change)
    assert "the change is computed at 25x17" in pool.open(fmt).notes
    # A flat image has nearly the same change at any size.
    flat = tuple(np.full_like(plane, 90) for plane in clip.planes)
    scaled = pool.change(replace(clip, planes=flat)).result()
    pool.close()
    full = expected_change(weights, replace(clip, planes=flat))
    for a, b in zip(scaled, full, strict=True):
        assert abs(a.mean() - b.mean()) < 0.2 * abs(b.mean()) + 0.2


def test_usable_engines(monkeypatch):
    tensorrt, cuda, openvino, reference = usable_engines()
    assert openvino[:2] == ("openvino", True)
    assert "CPU" in openvino[2]
    assert reference[:2] == ("reference", True)
    if not registry.has_nvidia_gpu():
        assert tensorrt == ("tensorrt", False, "no NVIDIA GPU, or no driver for it")
        assert cuda == ("cuda", False, "no NVIDIA GPU, or no driver for it")
    hide_openvino(monkeypatch)
    name, usable, reason = engines.usable_engines()[2]
    assert (name, usable) == ("openvino", False)
    assert "pip install openvino" in reason


@pytest.mark.parametrize(
    ("versions", "told"),
    [
        ({"torch": "2.13.0+cpu"}, "CPU build"),
        ({}, "torch is missing"),
        ({"torch": "2.13.0"}, "torch-tensorrt is missing"),
        ({"torch": "2.13.0", "torch-tensorrt": "2.13.0"}, ""),
    ],
)
def test_what_a_gpu_still_needs_is_named(monkeypatch, versions, told):
    monkeypatch.setattr(registry, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(registry, "package_version", lambda *names: versions.get(names[0]))
    _, usable, detail = usable_engines()[0]
    assert (usable, told in detail) == (not told, True)


@pytest.mark.parametrize(
    ("gpu", "options", "tried"),
    [
        (False, {}, "openvino reference"),
        (True, {}, "tensorrt cuda openvino reference"),
        (True, {"precision": "float16"}, "tensorrt cuda openvino"),
        (True, {"device": "cpu"}, "openvino reference"),
        (False, {"device": "cuda:1"}, "tensorrt cuda"),
        (False, {"device": "GPU.0"}, "openvino"),
        (False, {"engine": "cuda"}, "cuda"),
        (True, {"engine": "openvino", "device": "cpu"}, "openvino"),
    ],
)
def test_which_engines_are_tried(monkeypatch, gpu, options, tried):
    monkeypatch.setattr(registry, "has_nvidia_gpu", lambda: gpu)
    assert candidates(EngineOptions(**options)) == tuple(tried.split())


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "tensorrt", "device": "cpu"},
        {"engine": "cuda", "device": "GPU"},
        {"engine": "openvino", "device": "cuda"},
        {"engine": "reference", "device": "cuda"},
    ],
)
def test_an_engine_on_the_wrong_device_is_refused(weights, options):
    with pytest.raises(OptionError, match=f"engine={options['engine']!r}"):
        open_pool(weights, **options)


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, vderain.engines, vderain.engines.pool;"
        "print([n for n in ('torch', 'openvino') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_images_of_many_sizes_are_built_once(weights, cache_folder, monkeypatch):
    sizes = [(17, 9), (32, 16), (5, 40), (64, 64)]
    rng = np.random.default_rng(0)
    with closing(open_pool(weights, engine="openvino")) as pool:
        for width, height in sizes:
            fmt = PlaneFormat("yuv420", width, height)
            planes = tuple(rng.integers(0, 256, s).astype(np.uint8) for s in fmt.plane_shapes)
            change = pool.change(Clip(planes, fmt)).result()
            assert tuple(plane.shape for plane in change) == fmt.plane_shapes
    assert len(list(cache_folder.glob("*.bin"))) == 1
