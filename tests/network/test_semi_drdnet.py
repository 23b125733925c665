from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.networks import COARSE, TINY, randomized
from vderain.network.config import FAST, PAPER, TIERS, NetworkConfig
from vderain.network.fold import fold, without_norms
from vderain.network.semi_drdnet import DilatedContext, SemiDRDNet

SHAPES = {
    **TIERS,
    "coarse": COARSE,
    "ungated": replace(TINY, squeeze_ratio=0),
    "plain": replace(COARSE, normalised=False),
}


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_paper_config_has_the_published_parameter_counts():
    network = SemiDRDNet(PAPER)
    assert parameters(network.rain) == 1_235_651
    assert parameters(network.detail) == 3_986_115
    assert parameters(network) == 5_221_766


@pytest.mark.parametrize("form", [lambda network: network, fold], ids=["unfolded", "folded"])
def test_fast_config_costs_at_most_35_gflop_for_a_720p_frame(form):
    network = form(SemiDRDNet(FAST).eval())
    with torch.device("meta"):
        rainy = torch.empty(1, 3, 720, 1280)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.to("meta").change(rainy)
    assert 20e9 < counter.get_total_flops() <= 35e9


@pytest.mark.parametrize("shape", SHAPES)
def test_the_cost_that_a_config_states_is_what_its_network_does(shape):
    config = SHAPES[shape]
    network = SemiDRDNet(config).eval().to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.change(torch.empty(1, 3, 96, 64, device="meta"))
    assert counter.get_total_flops() == pytest.approx(2 * config.macs_per_pixel * 96 * 64, rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_folded_network_equals_the_unfolded_one(shape):
    network = randomized(SemiDRDNet(SHAPES[shape]))
    rainy = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        expected, folded = network.change(rainy), fold(network).change(rainy)
    assert (folded - expected).abs().max() <= 1e-5 * expected.abs().max()
    unwanted = (torch.nn.BatchNorm2d, DilatedContext)
    assert not any(isinstance(module, unwanted) for module in fold(network).modules())


@pytest.mark.parametrize("config", [TINY, COARSE], ids=["tiny", "coarse"])
def test_a_network_without_its_norms_answers_the_same_and_can_be_trained(config):
    network = randomized(SemiDRDNet(config))
    plain = without_norms(network)
    assert plain.config == replace(config, normalised=False)
    rainy = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        expected, answered = network.change(rainy), plain.change(rainy)
    assert (answered - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert all(parameter.requires_grad for parameter in plain.parameters())
    again = without_norms(plain)
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), plain.parameters(), strict=True)
    )


def test_folding_leaves_the_original_as_it_was():
    network = randomized(SemiDRDNet(FAST))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fold(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_change_is_detail_minus_streaks():
    network = randomized(SemiDRDNet(FAST))
    rainy = torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        streaks, detail = network(rainy)
        assert streaks.shape == detail.shape == rainy.shape
        assert torch.equal(network.change(rainy), detail - streaks)


def test_a_coarser_scale_sees_further():
    def reach(config):
        network = randomized(SemiDRDNet(config))
        rainy = torch.zeros(1, 3, 96, 96)
        touched = rainy.clone()
        touched[..., 0:4, 0:4] = 1
        change = (network.rain(unshuffled(touched)) - network.rain(unshuffled(rainy))).abs()
        return int(change.amax((0, 1, 2)).nonzero().max())

    def unshuffled(rainy):
        return torch.nn.functional.pixel_unshuffle(rainy, 4)

    # Without gates, which see everything.
    near, far = replace(TINY, squeeze_ratio=0), replace(COARSE, squeeze_ratio=0)
    assert reach(far) > reach(near)


@pytest.mark.parametrize("shape", SHAPES)
def test_config_survives_its_card_and_refuses_unknown_names(shape):
    assert NetworkConfig.from_dict(SHAPES[shape].to_dict()) == SHAPES[shape]
    with pytest.raises(ValueError, match="breadth"):
        NetworkConfig.from_dict({"breadth": 3})
    with pytest.raises(ValueError, match="rain_width"):
        NetworkConfig(rain_width=0)
    with pytest.raises(ValueError, match="coarse_blocks"):
        NetworkConfig(coarse_blocks=(2, 0))
    assert (TINY.multiple, COARSE.multiple) == (4, 16)
