"""The CUDA backend on a stand-in for a GPU."""

import inspect
from contextlib import closing
from dataclasses import replace

import torch

from tests.engines.conftest import write_weights
from tests.engines.host_device import HostDevice
from tests.engines.test_contract import agreement_db, expected_change, make_clip, make_format
from vderain.engines.backends.cuda import CudaBackend
from vderain.engines.store.cache import EngineCache
from vderain.network.planes import PackedNetwork
from vderain.options import EngineOptions
from vderain.weights import find_weights

FMT = make_format("gray", 6, 4)


def cuda(path, device, **options):
    found = find_weights("fast", str(path))
    return CudaBackend(*found, EngineOptions(**options), EngineCache(), device=device)


def test_a_frame_that_the_gpu_cannot_hold_is_computed_in_stripes(tmp_path, cache_folder):
    class Small(HostDevice):
        """Whole frames do not fit; what goes in stripes does."""

        def captured(self, step, stream):
            steps = inspect.getclosurevars(step.__wrapped__).nonlocals.get("steps", ())
            wrapped = [one.__wrapped__ for one in steps if hasattr(one, "__wrapped__")]
            held = [inspect.getclosurevars(one).nonlocals.get("module") for one in wrapped]
            if any(module and "TiledNetwork" not in str(module) for module in held):
                raise MemoryError("out of memory")
            return super().captured(step, stream)

    from tests.networks import TINY

    config = replace(TINY, unshuffle=1)
    path = write_weights(tmp_path / "full.safetensors", config)
    clip = make_clip(make_format("yuv420", 64, 96))
    room = 600_000  # bytes: a whole frame takes 700 kB, one in four stripes 496 kB
    with closing(cuda(path, Small(free_bytes=room)).open(clip.format)) as engine:
        change = engine.change(clip).result()
        notes = engine.open(clip.format).notes
    assert "in stripes of" in notes[-1]
    assert agreement_db(change, expected_change(path, clip), clip.format) > 50


def test_cuda_searches_kernels_and_does_not_round_float32(weights, cache_folder, monkeypatch):
    seen = []
    forward = PackedNetwork.forward

    def spy(self, *planes):
        flags = torch.backends.cudnn
        seen.append((flags.benchmark, flags.allow_tf32))
        return forward(self, *planes)

    monkeypatch.setattr(PackedNetwork, "forward", spy)
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    cuda(weights, HostDevice(), precision="float32").open(FMT).close()
    assert set(seen) == {(True, False)}
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == before
