"""What only a GPU can show; the contract suite beside this runs on the GPU by itself where there is one."""

import time
from collections import deque
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.engines.backends.test_tiles import CONFIGS, uneven_clip
from tests.engines.conftest import write_weights
from tests.engines.test_contract import agreement_db, expected_change, make_clip, make_format
from tests.media.synth import STEP, write
from vderain.api import derain_file
from vderain.engines.backends.cuda import CudaBackend
from vderain.engines.backends.device import CudaDevice
from vderain.engines.backends.nvidia import SPARE
from vderain.engines.backends.tensorrt import OwnRuntime, TensorRtBackend, TorchRuntime
from vderain.engines.measure import frames_per_s
from vderain.engines.store.cache import EngineCache
from vderain.frames import Clip, DevicePlanes, Frame
from vderain.media import open_source
from vderain.media.gpu.surfaces import why_not_from_device
from vderain.media.io.encoders import ENCODERS
from vderain.metrics import psnr
from vderain.network.change import apply_change
from vderain.network.config import FAST, PAPER
from vderain.network.inference.memory import working_bytes
from vderain.options import EncodeOptions, EngineOptions, RunOptions
from vderain.weights import find_weights

pytestmark = [
    pytest.mark.needs_cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="not yet run: needs an NVIDIA GPU"),
]
FMT = make_format("yuv420", 640, 360)
COSTLY = replace(PAPER, rain_blocks=4, detail_blocks=4)


def backend(kind, path, **options):
    found = find_weights("fast", str(path))
    return kind(*found, EngineOptions(**options), EngineCache())


def tensorrt(path, **options):
    pytest.importorskip("torch_tensorrt")
    runtimes = options.pop("runtimes", (OwnRuntime,))
    found = find_weights("fast", str(path))
    return TensorRtBackend(
        *found, EngineOptions(**options), EngineCache(), device=CudaDevice(), runtimes=runtimes
    )


@pytest.fixture(scope="module", params=[FAST, COSTLY], ids=["fast", "paper"])
def path(request, tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", request.param)


@pytest.mark.parametrize("bit_depth", [8, 10, 16])
@pytest.mark.parametrize("kind", ["cuda", "tensorrt"])
def test_half_precision_agrees_to_50_db(path, cache_folder, kind, bit_depth):
    clip = make_clip(make_format("yuv420", 640, 360, bit_depth))
    made = backend(CudaBackend, path) if kind == "cuda" else tensorrt(path)
    with closing(made.open(clip.format)) as engine:
        assert engine.open(clip.format).precision == "float16"
        change = engine.change(clip).result()
    assert agreement_db(change, expected_change(path, clip), clip.format) > 50


def test_both_runtimes_agree_and_their_rates_are_told(path, cache_folder):
    clip, answers, rates = make_clip(FMT), [], []
    for runtime in (OwnRuntime, TorchRuntime):
        with closing(tensorrt(path, runtimes=(runtime,)).open(FMT)) as engine:
            answers.append(engine.change(clip).result())
            rates.append(frames_per_s(engine, FMT, 1.0))
    assert agreement_db(*answers, FMT) > 60
    print(f"own runtime {rates[0]:.1f} fps, Torch-TensorRT's {rates[1]:.1f} fps")  # noqa: T201  # a figure to report


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_a_gpu_that_is_too_small_for_a_frame_agrees_in_tiles(
    cache_folder, tmp_path, monkeypatch, bit_depth
):
    path = write_weights(tmp_path / "near.safetensors", CONFIGS["coarse"])
    clip = uneven_clip(make_format("yuv420", 151, 127, bit_depth), 1)
    small = int(0.95 / SPARE * working_bytes(CONFIGS["coarse"], 128, 152, 2))
    monkeypatch.setattr(CudaDevice, "total_bytes", lambda device: small)
    with closing(tensorrt(path).open(clip.format)) as engine:
        assert "tiles" in engine.open(clip.format).notes[-1]
        change = engine.change(clip).result()
    assert agreement_db(change, expected_change(path, clip), clip.format) > 50


def test_submitting_does_not_wait_for_the_network(cache_folder, tmp_path):
    """To fill all slots takes less than one answer; who waited for each would take as many times one."""
    path = write_weights(tmp_path / "wide.safetensors", COSTLY)
    clip = make_clip(make_format("yuv420", 1920, 1080))
    alone_s, submitted_s = [], []
    with closing(backend(CudaBackend, path).open(clip.format)) as engine:
        assert engine.slots > 1
        engine.change(clip).result()
        for _ in range(5):
            since = time.monotonic()
            engine.change(clip).result()
            alone_s.append(time.monotonic() - since)
            since = time.monotonic()
            pending = [engine.change(clip) for _ in range(engine.slots)]
            submitted_s.append(time.monotonic() - since)
            for answer in pending:
                answer.result()
    told = f"{engine.slots} frames submitted in {min(submitted_s):.4f} s, one done in {min(alone_s):.4f} s"
    print(told)  # noqa: T201  # likewise
    assert min(submitted_s) < min(alone_s), told


@pytest.mark.parametrize("bit_depth", [8, 10, 16])
@pytest.mark.parametrize("kind", ["cuda", "tensorrt"])
def test_the_change_is_added_on_the_gpu_as_on_the_host(path, cache_folder, kind, bit_depth):
    clip = make_clip(make_format("yuv420", 640, 360, bit_depth))
    made = backend(CudaBackend, path) if kind == "cuda" else tensorrt(path)
    with closing(made.open(clip.format)) as engine:
        change = engine.change(clip).result()
        dry = [engine.submit(clip, strength=0.7).result() for _ in range(4)]
    expected = apply_change(clip.planes, change, clip.format, strength=0.7)
    for planes in dry:
        for got, want in zip(planes, expected, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.fixture(scope="module")
def rainy(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "rainy.mkv"
    return write(path, size=(640, 360), pts=tuple(range(0, 40 * STEP, STEP)))


def test_nvdecs_pictures_reach_the_network_on_the_gpu(rainy, path, cache_folder):
    """And are the software decoder's; without the wait for NVDEC, some would not be."""
    found = {}
    for decoder in ("software", "nvdec"):
        run = RunOptions(decoder=decoder)
        with closing(open_source(rainy, run=run, encode=EncodeOptions())) as source:
            frames = [frame for frame in source if isinstance(frame, Frame)]
            if decoder == "nvdec" and not isinstance(frames[0].planes, DevicePlanes):
                pytest.skip("; ".join(source.stats.notes))
            with closing(backend(CudaBackend, path).open(frames[0].format)) as engine:
                pending = deque()
                dry = []
                for frame in frames:
                    clip = Clip(frame.planes, frame.format)
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


def test_a_run_from_nvdec_to_nvenc_keeps_every_frame_on_the_gpu(
    rainy, path, cache_folder, tmp_path
):
    if why_not_from_device(ENCODERS["h264_nvenc"]) is not None:
        pytest.skip("this GPU has no NVENC")
    dry = tmp_path / "dry.mkv"
    report = derain_file(
        rainy, dry,
        run=RunOptions(decoder="nvdec"),
        engine=EngineOptions(engine="cuda", weights=str(path)),
        encode=EncodeOptions(codec="h264_nvenc", crf=10),
    )  # fmt: skip
    assert "40 of 40 frames went to h264_nvenc on the GPU" in report.notes
    plain = tmp_path / "plain.mkv"
    derain_file(rainy, plain, engine=EngineOptions(engine="cuda", weights=str(path)))
    found, expected = (luma_of(one) for one in (dry, plain))
    assert len(found) == len(expected) == 40
    assert all(psnr(a, b, peak=255) > 40 for a, b in zip(found, expected, strict=True))


def luma_of(path):
    with closing(open_source(str(path), run=RunOptions(), encode=EncodeOptions())) as source:
        return [frame.planes[0].copy() for frame in source if isinstance(frame, Frame)]


def test_closing_gives_the_memory_back(path, cache_folder):
    made = backend(CudaBackend, path)
    made.open(FMT).close()
    before = torch.cuda.memory_reserved()
    for _ in range(3):
        made.open(FMT).close()
    assert torch.cuda.memory_reserved() <= before + (1 << 24)
