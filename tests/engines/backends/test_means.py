"""Gates see the mean of the whole frame and of nothing else, however a frame is padded or cut."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.engines.conftest import write_weights
from tests.engines.host_device import HostDevice
from tests.engines.test_contract import expected_change, make_clip, make_format
from tests.networks import COARSE, TINY, randomized
from vderain.engines.backends import reference
from vderain.engines.backends.cuda import CudaBackend
from vderain.engines.backends.reference import ReferenceBackend
from vderain.engines.store.cache import EngineCache
from vderain.frames import PlaneFormat
from vderain.network.build import build_network
from vderain.network.config import PAPER
from vderain.network.inference.allocated import peak_bytes
from vderain.network.inference.graph import planes_graph
from vderain.network.planes import PlanesNetwork
from vderain.network.semi_drdnet import SqueezeExcitation
from vderain.options import EngineOptions
from vderain.weights import find_weights

SHORT_PAPER = replace(PAPER, rain_blocks=2, detail_blocks=1)


def uneven_clip(fmt):
    """An image whose halves have other means."""
    clip = make_clip(fmt)
    clip.planes[0][:] = clip.planes[0] * np.linspace(0.8, 1.2, fmt.width)
    return clip


@pytest.fixture
def seen(monkeypatch):
    """What the gates squeeze: (height, width) of their images, and the means."""
    sizes, means = [], []
    forward, scale = SqueezeExcitation.forward, SqueezeExcitation.scale
    monkeypatch.setattr(
        SqueezeExcitation,
        "forward",
        lambda gate, x: sizes.append(tuple(x.shape[2:])) or forward(gate, x),
    )
    monkeypatch.setattr(
        SqueezeExcitation,
        "scale",
        lambda gate, mean: means.append(mean.clone()) or scale(gate, mean),
    )
    return sizes, means


# What a frame of 37x23 is padded to: whole unshuffled cells, whole cells of the coarsest scale, whole chroma samples.
PADDED = [
    (TINY, "yuv420", (40, 24)),
    (TINY, "rgb", (40, 24)),
    (replace(COARSE, unshuffle=2), "yuv420", (40, 24)),
    (replace(TINY, unshuffle=2), "rgb", (38, 24)),
    (replace(TINY, unshuffle=1), "rgb", (37, 23)),
    (replace(TINY, unshuffle=1), "yuv422", (38, 23)),
    (replace(TINY, unshuffle=1), "yuv420", (38, 24)),
]


@pytest.mark.parametrize(("config", "layout", "padded"), PADDED)
def test_no_padding_beyond_the_multiple_enters_a_mean(seen, config, layout, padded):
    fmt = make_format(layout, 37, 23)
    assert fmt.padded(config.multiple) == replace(fmt, width=padded[0], height=padded[1])
    network = randomized(build_network(config))
    for graph, of in (
        (PlanesNetwork(network, fmt, multiple=config.multiple), fmt),  # the reference
        (planes_graph(network, fmt.padded(config.multiple)), fmt.padded(config.multiple)),
    ):
        seen[0].clear()
        clip = make_clip(of, frames=config.frames)
        with torch.inference_mode():
            graph(*(torch.from_numpy(plane)[None, None] for plane in clip.inputs))
        cells = {(padded[1] // config.unshuffle, padded[0] // config.unshuffle)}
        coarse = {tuple(side // 2**i for side in cell) for cell in cells for i in range(3)}
        assert seen[0] and set(seen[0]) <= coarse and cells <= set(seen[0])


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "paper.safetensors", SHORT_PAPER)


def whole_frame_bytes(fmt):
    """What a frame takes where it is computed as a whole."""
    padded = fmt.padded(SHORT_PAPER.multiple)
    graph = planes_graph(build_network(SHORT_PAPER), padded)
    return peak_bytes(graph, padded.clip_shapes(SHORT_PAPER.seen_frames), torch.float32)


@pytest.mark.parametrize("engine", ["reference", "cuda"])
def test_in_stripes_every_gate_sees_the_whole_frames_mean(
    paper, seen, cache_folder, monkeypatch, engine
):
    clip = uneven_clip(make_format("yuv420", 47, 90))
    expected = expected_change(paper, clip)
    whole = list(seen[1])
    assert len(whole) == SHORT_PAPER.rain_blocks
    free = int(0.8 * whole_frame_bytes(clip.format))
    with closing(_striped(engine, paper, clip.format, free, monkeypatch)) as opened:
        seen[1].clear()
        change = opened.change(clip).result()
        assert [n for n in opened.open(clip.format).notes if "in stripes of" in n]
    assert len(seen[1]) == len(whole)
    for mean, wanted in zip(seen[1], whole, strict=True):
        assert (mean - wanted).abs().max() <= 1e-3 * wanted.abs().max().clamp(min=1)
    worst = max(np.abs(a - b).max() for a, b in zip(change, expected, strict=True))
    assert worst < 1e-3


def _striped(engine, weights, fmt: PlaneFormat, free, monkeypatch):
    """An engine in float32 where so many bytes are free."""
    found = find_weights("fast", str(weights))
    if engine == "reference":
        monkeypatch.setattr(reference, "available_bytes", lambda: free)
        return ReferenceBackend(*found).open(fmt)
    from vderain.engines.backends import cuda

    make, calls = cuda.make_slots, []

    def full_at_first(*arguments, **options):
        calls.append(options)
        if len(calls) == 1:
            raise MemoryError("out of memory")
        return make(*arguments, **options)

    monkeypatch.setattr(cuda, "make_slots", full_at_first)
    device = HostDevice(free_bytes=int(free / cuda.SPARE) + 1)
    options = EngineOptions(precision="float32")
    return CudaBackend(*found, options, EngineCache(), device=device).open(fmt)
