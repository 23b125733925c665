"""The engines for NVIDIA GPUs at every tier: on the GPUs that are here, else on a device that stands in for two."""

import contextlib
import gc
from collections import deque
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.engines.conftest import write_weights
from tests.engines.host_device import HostDevice, install_tensorrt
from tests.engines.panned_clips import answers, assert_alike, panned, unaligned
from tests.engines.test_contract import agreement_db, expected_change, make_clip, make_format
from tests.media.gpu_frame import stay_on_gpu
from tests.media.synth import STEP, write
from tests.networks import EVERY_TIER
from vderain.api import derain_file
from vderain.clips import aligned_clip, still_clip
from vderain.engines.backends import cuda as cuda_module
from vderain.engines.backends.cuda import CudaBackend
from vderain.engines.backends.device import CudaDevice
from vderain.engines.backends.tensorrt import TensorRtBackend
from vderain.engines.store.cache import EngineCache
from vderain.frames import DevicePlanes, Frame
from vderain.media import open_source
from vderain.media.io.encoders import ENCODERS, why_closed
from vderain.metrics import psnr
from vderain.network.change.apply import apply_change
from vderain.options import EncodeOptions, EngineOptions, RunOptions
from vderain.weights import find_weights

GPU = torch.cuda.is_available()
pytestmark = pytest.mark.needs_cuda

SIZE = (320, 180) if GPU else (70, 54)  # what they are compared with computes on the CPU
VIDEO_SIZE, VIDEO_FRAMES = ((640, 360), 40) if GPU else ((64, 48), 6)
KINDS = {"cuda": CudaBackend, "tensorrt": TensorRtBackend}
CHEAP_MACS_PER_PIXEL = 3e4  # what a CPU computes in float16 within the time of a test


def affordable(config):
    """The tier's network; where there is no GPU and it is a large one, of the same parts but fewer and narrower."""
    if GPU or config.macs_per_pixel <= CHEAP_MACS_PER_PIXEL:
        return config
    return replace(
        config,
        rain_width=min(config.rain_width, 16),
        rain_blocks=min(config.rain_blocks, 2),
        coarse_blocks=tuple(min(blocks, 2) for blocks in config.coarse_blocks),
        detail_width=min(config.detail_width, 16),
        detail_blocks=min(config.detail_blocks, 2),
    )


NETWORKS = {name: affordable(config) for name, config in EVERY_TIER.items()}
WITH_NEIGHBOURS = [name for name, config in NETWORKS.items() if config.frames > 1]
# For a whole video: with neighbours and without.
TWO_TIERS = ("fast", "paper")
# Every device, and on one of them every bit depth.
BIT_DEPTHS = [(0, 8), (0, 10), (0, 16), (1, 8)]


@pytest.fixture
def device_of(monkeypatch):
    """A GPU by its number, or the stand-in."""

    def made(number):
        if not GPU:
            install_tensorrt(monkeypatch)
            return HostDevice(index=number)
        if number >= torch.cuda.device_count():
            pytest.skip("this machine has one GPU")
        return CudaDevice(f"cuda:{number}")

    return made


@pytest.fixture(scope="module", params=NETWORKS)
def network(request, tmp_path_factory):
    """Weights of a tier, and its config."""
    config = NETWORKS[request.param]
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    return write_weights(path, config), config


@pytest.fixture(autouse=True)
def _one_cache(shared_cache, monkeypatch):
    """What one test has built, the next one opens."""
    monkeypatch.setenv("VDERAIN_CACHE", str(shared_cache / "gpu"))


def opened(kind, path, fmt, device, **options):
    if kind == "tensorrt" and GPU:
        pytest.importorskip("torch_tensorrt")
    found = find_weights("fast", str(path))
    return closing(
        KINDS[kind](*found, EngineOptions(**options), EngineCache(), device=device).open(fmt)
    )


@pytest.mark.parametrize(("gpu", "bit_depth"), BIT_DEPTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_agrees_and_the_change_is_added_as_on_the_host(
    network, device_of, kind, gpu, bit_depth
):
    path, config = network
    clip = make_clip(make_format("yuv420", *SIZE, bit_depth), frames=config.seen_frames)
    floor = np.full(clip.planes[0].shape, int(0.5 * clip.format.peak), clip.format.dtype)
    clip = replace(clip, floor=floor if config.frames > 1 else None)
    with opened(kind, path, clip.format, device_of(gpu), slots=2) as engine:
        assert engine.open(clip.format).precision == "float16"
        change = engine.change(clip).result()
        dry = [engine.submit(clip, strength=0.7).result() for _ in range(3)]
    assert agreement_db(change, expected_change(path, clip), clip.format) > 50
    expected = apply_change(clip.planes, change, clip.format, strength=0.7, floor=clip.floor)
    for planes in dry:
        for got, want in zip(planes, expected, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("network", WITH_NEIGHBOURS, indirect=True)
@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_aligned_on_the_gpu_as_on_the_host(network, device_of, kind):
    path, config = network
    fmt = make_format("yuv420", 70, 54)
    frames = panned(fmt, config.frames + 1)
    with opened(kind, path, fmt, device_of(0), slots=2) as engine:
        given = unaligned(frames, engine.window)[1:-1:2]
        assert engine.aligns and all(clip.unaligned is not None for clip in given)
        expected = answers(engine, [aligned_clip(clip) for clip in given])
        assert_alike(answers(engine, given), expected, fmt)
        alone = [still_clip(clip.planes, fmt, config.seen_frames) for clip in given]
        found = answers(engine, alone)
    # Neighbours matter, or nothing would be shown by this.
    assert any((a[0] != b[0]).mean() > 0.05 for a, b in zip(found, expected, strict=True))


@contextlib.contextmanager
def no_waiting():
    """Where there is a GPU, torch refuses in this block all work that waits for it."""
    if not GPU:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("kind", KINDS)
def test_submitting_waits_for_nothing(network, device_of, monkeypatch, kind):
    path, config = network
    device, waits = device_of(0), []
    make_event = device.event

    def event():
        made = make_event()
        synchronize = made.synchronize
        made.synchronize = lambda: (waits.append("an event"), synchronize())
        return made

    monkeypatch.setattr(device, "event", event, raising=False)
    clip = make_clip(make_format("yuv420", 70, 54), frames=config.seen_frames)
    with opened(kind, path, clip.format, device) as engine:
        engine.submit(clip).result()
        waits.clear()
        with no_waiting():
            pending = [engine.submit(clip) for _ in range(engine.slots)]
        assert engine.slots > 1 and waits == []
        for count, future in enumerate(pending, start=1):
            future.result()
            assert waits == ["an event"] * count


@pytest.fixture(scope="module")
def rainy(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "rainy.mkv"
    return write(path, size=VIDEO_SIZE, pts=tuple(range(0, VIDEO_FRAMES * STEP, STEP)))


@pytest.mark.parametrize("network", TWO_TIERS, indirect=True)
def test_nvdecs_frames_reach_the_network_on_the_gpu(rainy, network, device_of, monkeypatch):
    """And are the software decoder's; without the wait for NVDEC, some would not be."""
    path, config = network
    found, device = {}, device_of(0)
    for decoder in ("software", "nvdec"):
        if decoder == "nvdec" and not GPU:
            stay_on_gpu(monkeypatch)
        run = RunOptions(decoder=decoder)
        with closing(open_source(rainy, run=run, encode=EncodeOptions())) as source:
            frames = [frame for frame in source if isinstance(frame, Frame)]
            assert len(frames) == VIDEO_FRAMES
            on_gpu = all(isinstance(frame.planes, DevicePlanes) for frame in frames)
            assert on_gpu == (decoder == "nvdec"), source.stats.notes
            with opened("cuda", path, frames[0].format, device) as engine:
                pending = deque()
                dry = []
                for frame in frames:
                    clip = still_clip(frame.planes, frame.format, config.seen_frames)
                    pending.append(engine.submit(clip, on_device=decoder == "nvdec"))
                    if len(pending) == engine.slots:
                        dry.append(pending.popleft().result())
                dry += [answer.result() for answer in pending]
        found[decoder] = [[plane.copy() for plane in planes] for planes in dry]
        if decoder == "nvdec":
            assert all(isinstance(planes, DevicePlanes) for planes in dry)
    for one, other in zip(found["software"], found["nvdec"], strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("network", TWO_TIERS, indirect=True)
def test_a_run_from_nvdec_to_nvenc_keeps_every_frame_on_the_gpu(
    rainy, network, device_of, tmp_path, monkeypatch
):
    path, _ = network
    codec = "h264_nvenc" if GPU else "h264"
    if why_closed(ENCODERS[codec]) is not None:
        pytest.skip("this GPU has no NVENC")
    device = device_of(0)
    monkeypatch.setattr(cuda_module, "CudaDevice", lambda wanted: device)
    engine = EngineOptions(engine="cuda", weights=str(path))
    plain, dry = tmp_path / "plain.mkv", tmp_path / "dry.mkv"
    derain_file(rainy, plain, engine=engine, encode=EncodeOptions(crf=10))
    if not GPU:
        stay_on_gpu(monkeypatch)
    encode = EncodeOptions(codec=codec, crf=10)
    report = derain_file(rainy, dry, run=RunOptions(decoder="nvdec"), engine=engine, encode=encode)
    count, name = f"{VIDEO_FRAMES} of {VIDEO_FRAMES}", ENCODERS[codec].name
    assert f"{count} frames went to {name} on the GPU" in report.notes
    monkeypatch.undo()
    found, expected = (planes_of(one) for one in (dry, plain))
    assert len(found) == len(expected) == VIDEO_FRAMES
    for one, other in zip(found, expected, strict=True):
        assert all(psnr(a, b, peak=255) > 40 for a, b in zip(one, other, strict=True))


def planes_of(path):
    with closing(open_source(str(path), run=RunOptions(), encode=EncodeOptions())) as source:
        return [[p.copy() for p in frame.planes] for frame in source if isinstance(frame, Frame)]


def held_bytes():
    """On the GPU, with what torch keeps for itself; of all tensors where there is none."""
    gc.collect()
    if GPU:
        return torch.cuda.memory_reserved()
    return sum(one.nbytes for one in gc.get_objects() if type(one) is torch.Tensor)


def test_closing_gives_the_memory_back(network, device_of):
    path, _ = network
    fmt, device, held = make_format("yuv420", *SIZE), device_of(0), []
    for _ in range(3):
        with opened("cuda", path, fmt, device):
            pass
        held.append(held_bytes())
    assert held[-1] <= held[0] + (1 << 24 if GPU else 0)
