"""What every engine must do; the same tests over all of them, against the network written out plainly."""

import gc
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.engines.conftest import openvino_backend, write_weights
from tests.engines.host_device import HostDevice, install_tensorrt
from tests.networks import COARSE, MEDIAN, TEMPORAL, TINY, TINY_NLCL
from vderain.alignment import luma
from vderain.engines import registry
from vderain.engines.backends.cuda import CudaBackend
from vderain.engines.backends.device import CudaDevice
from vderain.engines.backends.reference import ReferenceBackend
from vderain.engines.backends.tensorrt import TensorRtBackend
from vderain.engines.engine import spec_from_card
from vderain.engines.pool import EnginePool
from vderain.engines.store import selfcheck
from vderain.engines.store.cache import EngineCache
from vderain.errors import EngineLoadError, WeightsError
from vderain.frames import Clip, PlaneFormat
from vderain.metrics import psnr
from vderain.network.card import Card
from vderain.network.change.apply import apply_change
from vderain.network.config import FAST, NlclConfig
from vderain.network.planes import PlanesNetwork
from vderain.options import EngineOptions
from vderain.weights import find_weights, load_network

LAYOUTS = ["yuv420", "yuv422", "yuv440", "yuv444", "gray", "rgb"]
ENGINES = [
    *("reference", "openvino-float32", "openvino-bfloat16", "pool"),
    *("cuda-float16", "tensorrt-float16"),
]


def make_format(layout="yuv420", width=40, height=32, bit_depth=8):
    return PlaneFormat(layout, width, height, bit_depth, full_range=layout == "rgb")


def make_clip(fmt, seed=0, frames=1):
    """Planes well inside the range, so that no clamp stands between packed and plain networks."""
    rng = np.random.default_rng(seed)
    low, high = int(0.4 * fmt.peak), int(0.6 * fmt.peak)
    planes = [rng.integers(low, high, shape).astype(fmt.dtype) for shape in fmt.clip_shapes(frames)]
    count = len(fmt.plane_shapes)
    return Clip(planes[:count], fmt, planes[count:])


def expected_change(weights, clip):
    path, card = find_weights("fast", str(weights))
    network = PlanesNetwork(load_network(path, card), clip.format, multiple=card.config.multiple)
    planes = [torch.from_numpy(plane.astype(np.float32))[None, None] for plane in clip.inputs]
    with torch.inference_mode():
        return [change[0, 0].numpy() for change in network.eval()(*planes)]


def agreement_db(change, expected, fmt):
    return psnr(
        np.concatenate([plane.ravel() for plane in change]),
        np.concatenate([plane.ravel() for plane in expected]),
        peak=fmt.peak,
    )


@pytest.fixture(params=ENGINES)
def open_one(request, weights, shared_cache, monkeypatch):
    """Opens the engine under test for a format; closes all that were opened."""
    name, _, precision = request.param.partition("-")
    backends = {"openvino": openvino_backend, "cuda": cuda_backend, "tensorrt": tensorrt_backend}
    if not torch.cuda.is_available():
        install_tensorrt(monkeypatch)
    monkeypatch.setenv("VDERAIN_CACHE", str(shared_cache))
    opened = []

    def open_one(fmt, path=weights):
        if name == "pool":
            # The CPU's engine, also on a machine that has a GPU.
            monkeypatch.setattr(registry, "has_nvidia_gpu", lambda: True)
            options = EngineOptions(weights=str(path), precision="float32", device="cpu")
            engine = EnginePool(options)
        elif name == "reference":
            engine = ReferenceBackend(*find_weights("fast", str(path))).open(fmt)
        else:
            options = EngineOptions(precision=precision)
            found = find_weights("fast", str(path))
            engine = backends[name](*found, options, EngineCache()).open(fmt)
        opened.append(engine)
        return engine

    open_one.exact = precision not in ("bfloat16", "float16")
    open_one.runs = ("openvino" if name == "pool" else name, precision or "float32", ())
    yield open_one
    for engine in opened:
        engine.close()


def device():
    """The GPU where there is one that torch can use, else the CPU in its place."""
    return CudaDevice() if torch.cuda.is_available() else HostDevice()


def cuda_backend(*arguments):
    return CudaBackend(*arguments, device=device())


def tensorrt_backend(*arguments):
    if torch.cuda.is_available():
        pytest.importorskip("torch_tensorrt")
    return TensorRtBackend(*arguments, device=device())


def check(open_one, weights, clip):
    fmt = clip.format
    engine = open_one(fmt, weights)
    change = engine.change(clip).result()
    expected = expected_change(weights, clip)
    spec = engine.open(fmt)
    assert (spec.name, spec.precision, spec.notes) == open_one.runs
    assert [plane.shape for plane in change] == list(fmt.plane_shapes)
    assert all(plane.dtype == np.float32 and plane.flags.writeable for plane in change)
    assert (
        max(np.abs(plane).max() for plane in expected) > 0.004 * fmt.peak
    )  # a change worth the name
    if open_one.exact:
        worst = max(np.abs(a - b).max() for a, b in zip(change, expected, strict=True))
        assert worst < 1e-3 * (fmt.peak / 255)
    else:
        assert agreement_db(change, expected, fmt) > 50


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_change_is_the_networks(open_one, weights, layout, bit_depth):
    check(open_one, weights, make_clip(make_format(layout, bit_depth=bit_depth)))


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (37, 23)])
def test_any_size_works(open_one, weights, size):
    check(open_one, weights, make_clip(make_format("yuv420", *size)))


def test_4k_goes_untiled(open_one, weights, monkeypatch):
    if open_one.runs[0] in ("cuda", "tensorrt") and not torch.cuda.is_available():
        pytest.skip("float16 at 4K takes a CPU too long")
    images = {"rainy": selfcheck.check_images()["rainy"]}
    monkeypatch.setattr(selfcheck, "check_images", lambda: images)  # three at 4K take long
    check(open_one, weights, make_clip(make_format("gray", 3840, 2160)))


@pytest.fixture(scope="session")
def coarse_weights(tmp_path_factory):
    """A network on several scales, whose planes are padded to a multiple of the coarsest."""
    path = tmp_path_factory.mktemp("weights") / "coarse.safetensors"
    return write_weights(path, replace(COARSE, unshuffle=2))


@pytest.mark.parametrize("layout", ["yuv420", "rgb"])
@pytest.mark.parametrize("size", [(40, 24), (37, 23)])
def test_several_scales_at_any_size(open_one, coarse_weights, layout, size):
    check(open_one, coarse_weights, make_clip(make_format(layout, *size)))


@pytest.fixture(scope="session")
def plain_weights(tmp_path_factory):
    """A network without unshuffling, over three frames: nothing to pack."""
    config = replace(TINY, unshuffle=1, frames=3)
    return write_weights(tmp_path_factory.mktemp("weights") / "plain.safetensors", config)


def test_several_frames_without_packing(open_one, plain_weights):
    fmt = make_format("yuv420", 22, 17)
    check(open_one, plain_weights, make_clip(fmt, frames=3))
    spec = open_one(fmt, plain_weights).open(fmt)
    assert (spec.frames, spec.lookahead) == (3, 1)


@pytest.fixture(scope="session", params=[TEMPORAL, MEDIAN], ids=["gates", "median"])
def temporal_weights(request, tmp_path_factory):
    """A network that takes over what its neighbours show, between packed planes."""
    return write_weights(tmp_path_factory.mktemp("weights") / "temporal.safetensors", request.param)


@pytest.mark.parametrize(
    ("layout", "bit_depth"), [("yuv420", 8), ("yuv422", 10), ("gray", 8), ("rgb", 10)]
)
def test_several_frames_between_packed_planes(open_one, temporal_weights, layout, bit_depth):
    check(open_one, temporal_weights, make_clip(make_format(layout, 37, 23, bit_depth), frames=3))


@pytest.fixture(scope="session", params=[True, False], ids=["frozen", "per-frame"])
def nlcl_weights(request, tmp_path_factory):
    """A network of the other kind: it draws the whole image, by gathered statistics or each frame's."""
    config = replace(TINY_NLCL, frozen_statistics=request.param)
    return write_weights(tmp_path_factory.mktemp("weights") / "nlcl.safetensors", config)


@pytest.mark.parametrize(
    ("layout", "size"),
    [("yuv420", (1, 1)), ("rgb", (40, 24)), ("yuv420", (37, 23)), ("rgb", (37, 23))],
)
def test_a_network_that_draws_the_image_at_any_size(open_one, nlcl_weights, layout, size):
    check(open_one, nlcl_weights, make_clip(make_format(layout, *size)))


@pytest.mark.parametrize(("config", "told"), [(NlclConfig(), "581 GFLOP"), (FAST, None)])
def test_what_a_costly_network_costs_is_noted(config, told):
    notes = spec_from_card(Card("mine", config, ""), "reference", "float32", "CPU").notes
    assert (told in notes[0]) if told else not notes


def test_answers_come_in_order_and_stay(open_one, weights):
    fmt = make_format()
    engine = open_one(fmt)
    clips = [make_clip(fmt, seed) for seed in range(5)]
    alone = [engine.change(clip).result() for clip in clips]
    pending = [engine.change(clip) for clip in clips[: engine.slots]]
    together = []
    for clip in clips[engine.slots :]:
        together.append(pending.pop(0).result())
        pending.append(engine.change(clip))
    together += [answer.result() for answer in pending]
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)
    assert np.abs(alone[0][0] - alone[1][0]).max() > 0.1  # the order could be told


def test_too_many_clips_lose_nothing(open_one, weights):
    fmt = make_format()
    engine = open_one(fmt)
    clips = [make_clip(fmt, seed) for seed in range(5)]
    pending = [engine.change(clip) for clip in clips]
    for clip, answer in zip(clips, pending, strict=True):
        expected = expected_change(weights, clip)
        assert agreement_db(answer.result(), expected, fmt) > 50


def test_input_may_be_a_turned_view_and_stays_as_it_was(open_one, weights):
    fmt = make_format()
    upright = make_clip(fmt)
    planes = tuple(np.rot90(np.rot90(plane, -1).copy()) for plane in upright.planes)
    for plane in planes:
        plane.flags.writeable = False
    assert not planes[0].flags.c_contiguous
    engine = open_one(fmt)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        turned = engine.change(Clip(planes, fmt)).result()
    straight = engine.change(upright).result()
    for a, b in zip(turned, straight, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)
    for plane, original in zip(planes, make_clip(fmt).planes, strict=True):
        np.testing.assert_array_equal(plane, original)


@pytest.mark.parametrize("strength", [1.0, 0.3])
@pytest.mark.parametrize("bit_depth", [8, 10])
def test_the_whole_image_is_the_clips_with_its_change(open_one, weights, bit_depth, strength):
    clip = make_clip(make_format("yuv420", 37, 23, bit_depth))
    engine = open_one(clip.format)
    change = engine.change(clip).result()
    expected = apply_change(clip.planes, change, clip.format, strength=strength)
    dry = engine.submit(clip, strength=strength).result()
    for got, want, rainy in zip(dry, expected, clip.planes, strict=True):
        assert got.dtype == want.dtype and got.flags.writeable
        np.testing.assert_array_equal(got, want)
        assert (got != rainy).any()


@pytest.mark.parametrize(("layout", "bit_depth"), [("yuv420", 8), ("rgb", 10)])
def test_no_engine_darkens_a_frame_below_its_floor(open_one, temporal_weights, layout, bit_depth):
    fmt = make_format(layout, 37, 23, bit_depth)
    clip = make_clip(fmt, frames=3)
    rng = np.random.default_rng(1)
    floor = rng.integers(0, fmt.peak, fmt.plane_shapes[0]).astype(fmt.dtype)
    engine = open_one(fmt, temporal_weights)
    for one, strength in (
        (replace(clip, floor=floor), 1.0),
        (clip, 1.0),
        (replace(clip, floor=floor), 50.0),
    ):
        change = engine.change(one).result()
        expected = apply_change(one.planes, change, fmt, strength=strength, floor=one.floor)
        dry = engine.submit(one, strength=strength).result()
        for got, want in zip(dry, expected, strict=True):
            np.testing.assert_array_equal(got, want)
    assert (luma(dry, fmt) >= np.minimum(luma(clip.planes, fmt), floor)).all()


def test_input_may_be_overwritten_after_submission(open_one, weights):
    fmt = make_format()
    clip = make_clip(fmt)
    expected = expected_change(weights, clip)
    answer = open_one(fmt).change(clip)
    for plane in clip.planes:
        plane[:] = 0
    assert agreement_db(answer.result(), expected, fmt) > 50


def test_works_from_another_thread(open_one, weights):
    clip = make_clip(make_format())
    engine = open_one(clip.format)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(engine.change(clip).result()))
    thread.start()
    thread.join()
    expected = expected_change(weights, clip)
    assert agreement_db(answers[0], expected, clip.format) > 50


def test_two_engines_at_once(open_one, weights):
    clips = [make_clip(make_format("yuv420", 40, 32)), make_clip(make_format("gray", 18, 20))]
    engines = [open_one(clip.format) for clip in clips]
    pending = [engine.change(clip) for engine, clip in zip(engines, clips, strict=True)]
    for clip, answer in zip(clips, pending, strict=True):
        expected = expected_change(weights, clip)
        assert agreement_db(answer.result(), expected, clip.format) > 50


def test_closed_engine_refuses(open_one, weights):
    clip = make_clip(make_format())
    engine = open_one(clip.format)
    answer = engine.change(clip)
    engine.close()
    engine.close()
    assert agreement_db(answer.result(), expected_change(weights, clip), clip.format) > 50
    with pytest.raises(EngineLoadError, match="closed"):
        engine.change(clip)


def test_closing_ends_the_threads(weights):
    before = set(threading.enumerate())
    engine = ReferenceBackend(*find_weights("fast", str(weights))).open(make_format())
    engine.change(make_clip(make_format())).result()
    engine.close()
    gc.collect()
    assert set(threading.enumerate()) == before


def test_wrong_number_of_frames_is_refused(open_one, weights):
    fmt = make_format()
    with pytest.raises(EngineLoadError, match="sees 1 frames, the clip holds 2"):
        open_one(fmt).change(make_clip(fmt, frames=2))


def test_a_clip_of_another_format_is_refused(open_one):
    engine, other = open_one(make_format()), make_clip(make_format("gray", 8, 8))
    if isinstance(engine, EnginePool):  # opens an engine for each format
        assert engine.change(other).result()[0].shape == (8, 8)
        return
    with pytest.raises(EngineLoadError, match="was opened for"):
        engine.change(other)


def test_weights_that_are_no_numbers_are_refused(open_one, tmp_path):
    def spoil(network):
        network.rain.tail.weight[0, 0, 0, 0] = float("nan")

    path = write_weights(tmp_path / "nan.safetensors", spoil=spoil)
    with pytest.raises(WeightsError, match=r"rain\.tail\.weight holds NaN"):
        open_one(make_format(), path).open(make_format())


@pytest.mark.parametrize("name", ["reference", "openvino"])
def test_threads_are_honoured_and_put_back(name, weights, cache_folder, monkeypatch):
    fmt = make_format()
    before = torch.get_num_threads()
    seen = []
    forward = PlanesNetwork.forward

    def spy(self, *planes):
        if not planes[0].is_meta:  # else only the memory is counted
            seen.append(torch.get_num_threads())
        return forward(self, *planes)

    monkeypatch.setattr(PlanesNetwork, "forward", spy)
    wanted = 1 if before > 1 else 2
    engine = EnginePool(EngineOptions(engine=name, weights=str(weights), threads=wanted))
    engine.change(make_clip(fmt)).result()
    engine.close()
    assert set(seen) == {wanted}
    assert torch.get_num_threads() == before
