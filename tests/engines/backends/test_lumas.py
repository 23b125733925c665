"""Neighbours that are aligned on the device, over one that computes on the CPU."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.engines.conftest import write_weights
from tests.engines.host_device import BufferKnowing, HostDevice, install_tensorrt
from tests.engines.panned_clips import answers, assert_alike, panned, unaligned
from tests.engines.test_contract import agreement_db, make_format
from tests.networks import TINY
from vderain.clips import Window, aligned_clip
from vderain.engines.backends.cuda import CudaBackend
from vderain.engines.backends.surfaces import surface_of
from vderain.engines.backends.tensorrt import TensorRtBackend
from vderain.engines.store.cache import EngineCache
from vderain.errors import EngineLoadError
from vderain.options import EngineOptions
from vderain.weights import find_weights

KINDS = {"cuda": CudaBackend, "tensorrt": TensorRtBackend}
CONFIG = replace(TINY, frames=5, fusion="median", ranks=(0, 1, 2))
WINDOW = Window(5, 2, CONFIG.ranks)


class Queued(TorchDispatchMode):
    """What is queued on the device by itself, outside of graphs."""

    def __init__(self, device):
        super().__init__()
        self.device = device
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = any(not self.device.is_host(tensor) for tensor in tensors)
        if there and not self.device.replaying and not function.is_view:
            self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", CONFIG)


@pytest.fixture
def opened(weights, shared_cache, monkeypatch):
    def make(kind, fmt, device=None):
        install_tensorrt(monkeypatch)
        found, cache = find_weights("fast", str(weights)), EngineCache(shared_cache / "lumas")
        backend = KINDS[kind](*found, EngineOptions(), cache, device=device or HostDevice())
        return closing(backend.open(fmt))

    return make


@pytest.mark.parametrize(("layout", "bit_depth"), [("yuv420", 8), ("yuv420", 10), ("rgb", 8)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_aligns_as_the_host_does(opened, kind, layout, bit_depth):
    fmt = make_format(layout, 70, 54, bit_depth)
    given = unaligned(panned(fmt, 9), WINDOW)
    assert all(clip.unaligned is not None and not clip.neighbours for clip in given)
    with opened(kind, fmt) as engine:
        assert engine.aligns
        expected = answers(engine, [aligned_clip(clip) for clip in given])
        assert_alike(answers(engine, given), expected, fmt)
        one = engine.change(given[4]).result()
        assert agreement_db(one, engine.change(aligned_clip(given[4])).result(), fmt) > 45
    # Neighbours matter, or nothing would be shown by this.
    with opened(kind, fmt) as engine:
        alone = [replace(aligned_clip(c), neighbours=(c.planes[0],) * 3) for c in given]
        found = answers(engine, alone)
        assert any((a[0] != b[0]).mean() > 0.1 for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_from_the_host_is_one_graph_and_its_luma_goes_up_once(opened, kind):
    fmt = make_format("yuv420", 70, 54)
    given, device = unaligned(panned(fmt, 9), WINDOW), BufferKnowing()
    with opened(kind, fmt, device) as engine:
        engine.submit(given[0]).result()
        for clip in given[1:7]:
            device.replays = 0
            with Queued(device) as queued:
                pending = engine.submit(clip)
            assert device.replays == 1
            assert queued.seen == ["aten.copy_.default"]  # of the newest frame's luma
            pending.result()
        with Queued(device) as queued:
            engine.submit(given[7]).result()
        assert queued.seen == []  # no frame is new


@pytest.mark.parametrize("kind", KINDS)
def test_clips_of_two_videos_in_turn_find_their_own_frames(opened, kind):
    fmt = make_format("yuv420", 70, 54)
    one, other = (unaligned(panned(fmt, 8, seed=seed), WINDOW) for seed in (1, 2))
    mixed = [clip for pair in zip(one, other, strict=True) for clip in pair]
    with opened(kind, fmt) as engine:
        expected = answers(engine, [aligned_clip(clip) for clip in mixed])
        assert_alike(answers(engine, mixed), expected, fmt)


def test_frames_of_another_scene_are_left_out_on_the_device_too(opened):
    fmt = make_format("yuv420", 70, 54)
    night = [
        replace(frame, planes=tuple(plane // 3 for plane in frame.planes))
        for frame in panned(fmt, 4, seed=2)
    ]
    shots = [*panned(fmt, 4, seed=1), *night]
    given = unaligned([replace(frame, pts=pts) for pts, frame in enumerate(shots)], WINDOW)
    assert any(one.hidden is None and one.offset for c in given for one in c.unaligned.neighbours)
    with opened("cuda", fmt) as engine:
        expected = answers(engine, [aligned_clip(clip) for clip in given])
        assert_alike(answers(engine, given), expected, fmt)


def test_a_row_is_written_when_the_clips_that_read_it_are_done(opened):
    fmt = make_format("yuv420", 70, 54)
    with opened("cuda", fmt) as engine:
        done = [slot._done for slot in engine._slots]
        answers(engine, unaligned(panned(fmt, 20), WINDOW))
        assert all(event.followers for event in done)


def test_images_on_the_device_are_aligned_there(opened):
    fmt = make_format("yuv420", 70, 54)
    frames, host = panned(fmt, 8), torch.device("cpu")

    def placed(frame):
        tensors = [torch.from_numpy(plane.astype(np.int32)) for plane in frame.planes]
        return replace(frame, planes=surface_of(tensors, fmt, host))

    given = unaligned([placed(frame) for frame in frames], WINDOW)
    with opened("cuda", fmt) as engine:
        expected = answers(engine, unaligned(frames, WINDOW))
        for planes, others in zip(answers(engine, given, on_device=True), expected, strict=True):
            for got, want in zip(planes, others, strict=True):
                np.testing.assert_array_equal(got, want)


def test_an_engine_that_does_not_align_refuses_such_clips(tmp_path, cache_folder):
    fmt = make_format("yuv420", 70, 54)
    path = write_weights(tmp_path / "one.safetensors")
    backend = CudaBackend(
        *find_weights("fast", str(path)), EngineOptions(), EngineCache(), device=HostDevice()
    )
    with closing(backend.open(fmt)) as engine:
        assert not engine.aligns
        with pytest.raises(EngineLoadError, match="not aligned"):
            engine.submit(unaligned(panned(fmt, 3), WINDOW)[0])
