"""An image in stripes has the answer of the whole, its gates' means included."""

from dataclasses import replace

import pytest
import torch

from tests.networks import COARSE, MEDIAN, TEMPORAL, TINY, randomized
from vderain.network.config import FAST, PAPER
from vderain.network.inference.fold import fold
from vderain.network.inference.tiled import TiledNetwork
from vderain.network.semi_drdnet import SemiDRDNet, SqueezeExcitation

SHORT_PAPER = replace(PAPER, rain_blocks=3, detail_blocks=3)
# float16 takes a CPU long; gates and means are there at any width.
NARROW = replace(TINY, unshuffle=1, rain_blocks=3, detail_blocks=3)
CONFIGS = {
    "paper": SHORT_PAPER,
    "fast": FAST,
    "coarse": replace(COARSE, unshuffle=2),
    "ungated": replace(TINY, squeeze_ratio=0),
    "plain": replace(COARSE, normalised=False),
    "temporal": TEMPORAL,
    "median": MEDIAN,
    "temporal, full": replace(TINY, frames=3, unshuffle=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["trained", "sum", "taps"])
@pytest.mark.parametrize("name", CONFIGS)
def test_stripes_answer_as_the_whole_image_does(name, form):
    config = CONFIGS[name]
    network = randomized(SemiDRDNet(config))
    network = network if form == "trained" else fold(network, form)
    torch.manual_seed(1)
    rainy = torch.rand(1, config.channels, 112, 48)
    with torch.inference_mode():
        expected = network.change(rainy)
        for rows in (8, 17, 1000):
            change = TiledNetwork(network, rows).change(rainy)
            assert (change - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_gate_of_its_own_stripe_would_answer_otherwise():
    network = randomized(SemiDRDNet(SHORT_PAPER))
    rainy = torch.rand(1, 3, 64, 48) * torch.linspace(0, 1, 64)[:, None]
    with torch.inference_mode():
        expected = network.change(rainy)
        halves = torch.cat([network.change(half) for half in rainy.chunk(2, 2)], 2)
        tiled = TiledNetwork(network, 32).change(rainy)
    top = (slice(None), slice(None), slice(0, 8))  # too far from the cut to see it
    assert (halves - expected)[top].abs().max() > 100 * (tiled - expected)[top].abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_gate_sees_the_whole_frames_means(dtype, monkeypatch):
    seen = []
    scale = SqueezeExcitation.scale
    monkeypatch.setattr(
        SqueezeExcitation, "scale", lambda gate, means: seen.append(means) or scale(gate, means)
    )
    network = randomized(SemiDRDNet(NARROW)).to(dtype)
    rainy = (torch.rand(1, 3, 64, 32) * torch.linspace(0, 1, 64)[:, None]).to(dtype)
    with torch.inference_mode():
        network.change(rainy)
        whole = seen.copy()
        seen.clear()
        TiledNetwork(network, 24).change(rainy)
    assert len(seen) == len(whole) == NARROW.rain_blocks
    tolerance = 1e-3 if dtype == torch.float32 else 4e-3  # what float16 itself resolves near 2
    for tiled, expected in zip(seen, whole, strict=True):
        assert (tiled - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1)


def test_float16_keeps_the_means():
    network = randomized(SemiDRDNet(NARROW)).half()
    rainy = torch.rand(1, 3, 96, 64).half()
    with torch.inference_mode():
        expected, change = network.change(rainy), TiledNetwork(network, 24).change(rainy)
    assert (change - expected).abs().max() <= 2e-2 * expected.abs().max()
