"""What only a GPU can show; the contract suite beside this runs on the GPU by itself where there is one."""

import time
from contextlib import closing
from dataclasses import replace

import pytest
import torch

from tests.engines.conftest import write_weights
from tests.engines.test_contract import agreement_db, expected_change, make_clip, make_format
from tests.networks import TINY
from vderain.engines.cache import EngineCache
from vderain.engines.cuda import CudaBackend
from vderain.engines.device import CudaDevice
from vderain.engines.tensorrt import OwnRuntime, TensorRtBackend, TorchRuntime
from vderain.engines.tune import frames_per_s
from vderain.network.config import FAST, PAPER
from vderain.options import EngineOptions
from vderain.weights import find_weights

pytestmark = [
    pytest.mark.needs_cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="not yet run: needs an NVIDIA GPU"),
]
FMT = make_format("yuv420", 640, 360)


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


@pytest.fixture(scope="module", params=[FAST, replace(PAPER, rain_blocks=4, detail_blocks=4)],
                ids=["fast", "paper"])  # fmt: skip
def path(request, tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", request.param)


@pytest.mark.parametrize("bit_depth", [8, 10, 16])
@pytest.mark.parametrize("kind", ["cuda", "tensorrt"])
def test_half_precision_agrees_to_50_db(path, cache_folder, kind, bit_depth):
    clip = make_clip(make_format("yuv420", 640, 360, bit_depth))
    made = backend(CudaBackend, path) if kind == "cuda" else tensorrt(path)
    with closing(made.open(clip.format)) as engine:
        assert engine.spec_for(clip.format).precision == "float16"
        change = engine.submit(clip).result()
    assert agreement_db(change, expected_change(path, clip), clip.format) > 50


def test_both_runtimes_agree_and_ours_is_not_slower(path, cache_folder):
    clip, answers, rates = make_clip(FMT), [], []
    for runtime in (OwnRuntime, TorchRuntime):
        with closing(tensorrt(path, runtimes=(runtime,)).open(FMT)) as engine:
            answers.append(engine.submit(clip).result())
            rates.append(frames_per_s(engine, FMT, 1.0))
    assert agreement_db(*answers, FMT) > 60
    print(f"own runtime {rates[0]:.1f} fps, Torch-TensorRT's {rates[1]:.1f} fps")  # noqa: T201


def test_submitting_does_not_wait_for_the_network(cache_folder, tmp_path):
    path = write_weights(tmp_path / "wide.safetensors", replace(TINY, unshuffle=1, rain_blocks=8))
    clip = make_clip(make_format("yuv420", 1920, 1080))
    with closing(backend(CudaBackend, path).open(clip.format)) as engine:
        engine.submit(clip).result()
        since = time.monotonic()
        pending = [engine.submit(clip) for _ in range(engine.slots)]
        submitted_s = time.monotonic() - since
        for answer in pending:
            answer.result()
        done_s = time.monotonic() - since
    print(f"submitted in {submitted_s:.4f} s, done in {done_s:.4f} s")  # noqa: T201
    assert submitted_s < done_s


def test_closing_gives_the_memory_back(path, cache_folder):
    made = backend(CudaBackend, path)
    made.open(FMT).close()
    before = torch.cuda.memory_reserved()
    for _ in range(3):
        made.open(FMT).close()
    assert torch.cuda.memory_reserved() <= before + (1 << 24)
