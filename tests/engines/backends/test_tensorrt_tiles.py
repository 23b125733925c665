"""Frames that a GPU is too small for, in tiles through the tensorrt engine; the CPU stands in for the GPU."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from tests.engines.backends.test_tiles import CONFIGS, SIZES, uneven_clip
from tests.engines.conftest import write_weights
from tests.engines.host_device import PROGRAMS, HostDevice, install_tensorrt
from tests.engines.test_contract import agreement_db, expected_change, make_clip, make_format
from vderain.engines import registry
from vderain.engines.backends import tensorrt as tensorrt_module
from vderain.engines.backends import tiles
from vderain.engines.backends.cuda import CudaBackend
from vderain.engines.backends.nvidia import SPARE
from vderain.engines.backends.tensorrt import OwnRuntime, TensorRtBackend, TorchRuntime
from vderain.engines.pool import EnginePool
from vderain.engines.store.cache import EngineCache
from vderain.errors import EngineBuildError, EngineLoadError
from vderain.network.inference.memory import working_bytes
from vderain.options import EngineOptions
from vderain.weights import find_weights

TOLD = "too little memory for a whole frame: it is computed in"


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "c.safetensors", CONFIGS["coarse"])


@pytest.fixture(autouse=True)
def _packages(monkeypatch, cache_folder):
    install_tensorrt(monkeypatch)


def small(path, fmt, share=1.9, itemsize=2):
    """A device with ``share`` times the memory that a whole frame takes, for both graphs of a tile together."""
    config = find_weights("fast", str(path))[1].config
    padded = fmt.padded(config.multiple)
    whole = working_bytes(config, padded.height, padded.width, itemsize)
    return HostDevice(total_bytes=int(share / 2 * whole / SPARE))


def backend(path, device, precision="auto", **options):
    found = find_weights("fast", str(path))
    wanted = EngineOptions(precision=precision)
    return TensorRtBackend(*found, wanted, EngineCache(), device=device, **options)


def clip_of(path, size=SIZES[1], bit_depth=8):
    frames = find_weights("fast", str(path))[1].config.frames
    return uneven_clip(make_format("yuv420", *size, bit_depth), frames)


@pytest.mark.parametrize(("name", "bit_depth"), [("coarse", 8), ("full, three frames", 10)])
def test_a_frame_that_the_gpu_is_too_small_for_goes_in_tiles(tmp_path, name, bit_depth):
    path = write_weights(tmp_path / "w.safetensors", CONFIGS[name])
    clip = clip_of(path, bit_depth=bit_depth)
    device = small(path, clip.format)
    with closing(backend(path, device).open(clip.format)) as engine:
        change = engine.change(clip).result()
        spec = engine.open(clip.format)
        streams = len(device.streams)
    assert (spec.name, spec.precision) == ("tensorrt", "float16")
    assert spec.notes[-1].startswith(TOLD) and len(spec.notes) == 1
    assert streams == 2  # one slot for the means, one for the change
    assert [plane.shape for plane in change] == list(clip.format.plane_shapes)
    assert agreement_db(change, expected_change(path, clip), clip.format) > 50


def test_tiles_see_the_means_of_the_whole_frame(coarse, monkeypatch):
    clip = clip_of(coarse)
    expected = expected_change(coarse, clip)
    agreements = []
    for rounds in (tiles.ROUNDS, 0):  # without a round every tile has its own means
        monkeypatch.setattr(tiles, "ROUNDS", rounds)
        device = small(coarse, clip.format, itemsize=4)
        with closing(backend(coarse, device, "float32").open(clip.format)) as engine:
            change = engine.change(clip).result()
        agreements.append(agreement_db(change, expected, clip.format))
    assert agreements[0] > agreements[1] + 3


def test_tiles_are_built_once_and_serve_every_frame_of_their_size(coarse, cache_folder):
    fmt = clip_of(coarse).format
    made = backend(coarse, small(coarse, fmt))
    assert not made.is_built(fmt)
    before = len(PROGRAMS)
    made.open(fmt).close()
    assert made.is_built(fmt) and len(PROGRAMS) == before + 2
    busy = small(coarse, fmt)
    busy.free = 0  # other programs' memory does not change how a frame is cut
    backend(coarse, busy).open(fmt).close()
    assert len(PROGRAMS) == before + 2
    assert (
        len(list(cache_folder.glob("*.json"))) == 3
    )  # both graphs, and the self-check of the frame
    for sidecar in cache_folder.glob("*.json"):
        binary = sidecar.with_suffix(".bin")
        if binary.stat().st_size:
            binary.unlink()
    assert not made.is_built(fmt)


def test_both_runtimes_run_tiles(coarse):
    clip = clip_of(coarse)
    answers = []
    for runtime in (OwnRuntime, TorchRuntime):
        made = backend(coarse, small(coarse, clip.format), runtimes=(runtime,))
        with closing(made.open(clip.format)) as engine:
            answers.append(engine.change(clip).result())
    for own, torchs in zip(*answers, strict=True):
        np.testing.assert_array_equal(own, torchs)


def test_tiles_that_tensorrt_refuses_are_built_again(coarse):
    fmt = clip_of(coarse).format
    backend(coarse, small(coarse, fmt)).open(fmt).close()
    PROGRAMS.clear()
    backend(coarse, small(coarse, fmt)).open(fmt).close()
    assert len(PROGRAMS) == 2


def test_tiles_that_fail_the_self_check_are_not_used(coarse, monkeypatch):
    fmt = clip_of(coarse).format
    scaled = tiles.TiledEngine._answers

    def wrong(self, engine, corners, planes, means):
        spoiled = 3 if engine is self._given else 0
        for answer in scaled(self, engine, corners, planes, means):
            yield tuple(part + np.float32(spoiled) for part in answer)

    monkeypatch.setattr(tiles.TiledEngine, "_answers", wrong)
    device = small(coarse, fmt)
    with pytest.raises(EngineBuildError, match="fails the self-check"):
        backend(coarse, device).open(fmt)
    assert len(device.streams) == 0  # all is given back


def test_a_gpu_that_is_full_at_the_moment_gives_its_frames_to_cuda(coarse, monkeypatch):
    clip = clip_of(coarse)
    device = small(coarse, clip.format)
    device.room = 1  # the means' slot, and then no more
    with pytest.raises(EngineLoadError, match="no room for a frame"):
        backend(coarse, device).open(clip.format)
    assert len(device.streams) == 0

    def make(name, *arguments):
        kind = TensorRtBackend if name == "tensorrt" else CudaBackend
        return kind(*arguments, device=device if name == "tensorrt" else HostDevice())

    monkeypatch.setattr(registry, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(registry, "make_backend", make)
    with closing(EnginePool(EngineOptions(weights=str(coarse), wait_engine=True))) as pool:
        change = pool.change(clip).result()
        spec = pool.open(clip.format)
    assert spec.name == "cuda" and "no room for a frame" in spec.notes[0]
    assert agreement_db(change, expected_change(coarse, clip), clip.format) > 50


def test_a_gpu_with_room_for_a_frame_takes_it_whole(coarse):
    clip = clip_of(coarse)
    with closing(backend(coarse, small(coarse, clip.format, 2.1)).open(clip.format)) as engine:
        assert engine.open(clip.format).notes == () and engine.slots > 1


@pytest.mark.parametrize("config", ["ungated", "packed"])
def test_what_no_tile_helps_is_tried_whole(tmp_path, config):
    """No gates, so no means to give; or so little memory that halos alone would not fit."""
    path = write_weights(tmp_path / "w.safetensors", replace(CONFIGS[config], detail_blocks=2))
    fmt = make_format("yuv420", 40, 32)
    made = backend(path, small(path, fmt, 0.2))
    with closing(made.open(fmt)) as engine:
        assert engine.open(fmt).notes == ()
        engine.change(make_clip(fmt)).result()


def test_a_build_of_a_tile_that_fails_says_of_what(coarse, monkeypatch):
    def fail(*args, **settings):
        raise ValueError("no tactic")

    monkeypatch.setattr(tensorrt_module.TensorRtBackend, "_converted", fail)
    fmt = clip_of(coarse).format
    with pytest.raises(EngineBuildError, match=r"build the means of tiles for .*: no tactic"):
        backend(coarse, small(coarse, fmt)).open(fmt)
