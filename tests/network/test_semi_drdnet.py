from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.networks import COARSE, MEDIAN, TEMPORAL, TINY, randomized
from vderain.network.config import FAST, PAPER, TIERS, NetworkConfig
from vderain.network.inference.fold import (
    DilatedSum,
    SparseTaps,
    fold,
    with_frames,
    with_median,
    without_norms,
)
from vderain.network.semi_drdnet import DilatedContext, SemiDRDNet

SHAPES = {
    **TIERS,
    "coarse": COARSE,
    "ungated": replace(TINY, squeeze_ratio=0),
    "plain": replace(COARSE, normalised=False),
    "temporal": TEMPORAL,
    "median": MEDIAN,
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
        rainy = torch.empty(1, FAST.channels, 720, 1280)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.to("meta").change(rainy)
    assert 20e9 < counter.get_total_flops() <= 35e9


@pytest.mark.parametrize("folded", [False, True], ids=["trained", "folded"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_cost_that_a_config_states_is_what_its_network_does(shape, folded):
    config = SHAPES[shape]
    network = SemiDRDNet(config).eval()
    network = (fold(network) if folded else network).to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.change(torch.empty(1, config.channels, 96, 64, device="meta"))
    macs = config.folded_macs_per_pixel if folded else config.macs_per_pixel
    assert counter.get_total_flops() == pytest.approx(2 * macs * 96 * 64, rel=0.01)


@pytest.mark.parametrize("context", ["sum", "taps"])
@pytest.mark.parametrize("shape", SHAPES)
def test_folded_network_equals_the_unfolded_one(shape, context):
    network = randomized(SemiDRDNet(SHAPES[shape]))
    rainy = torch.rand(1, network.config.channels, 32, 48)
    folded = fold(network, context)
    with torch.no_grad():
        expected, answered = network.change(rainy), folded.change(rainy)
    assert (answered - expected).abs().max() <= 1e-5 * expected.abs().max()
    unwanted = {"sum": (DilatedContext, SparseTaps), "taps": (DilatedContext, DilatedSum)}[context]
    assert not any(
        isinstance(module, (*unwanted, torch.nn.BatchNorm2d)) for module in folded.modules()
    )


def test_three_dilations_have_25_taps_and_the_paper_tier_saves_an_eighth():
    def flop(network):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.to("meta").change(torch.empty(1, 3, 64, 64, device="meta"))
        return counter.get_total_flops()

    network = SemiDRDNet(PAPER).eval()
    joined, tapped = fold(network), fold(network, "taps")
    assert {len(m.taps) for m in tapped.modules() if isinstance(m, SparseTaps)} == {25}
    unfolded, summed, sparse = flop(network), flop(joined), flop(tapped)
    assert summed / unfolded == pytest.approx(0.924, abs=0.001)
    assert sparse / unfolded == pytest.approx(0.874, abs=0.001)


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
    rainy = torch.rand(2, FAST.channels, 16, 24)
    with torch.no_grad():
        streaks, detail = network(rainy)
        assert streaks.shape == detail.shape == (2, 3, 16, 24)
        assert torch.equal(network.change(rainy), detail - streaks)


def test_a_per_frame_network_made_temporal_answers_still_frames_as_before():
    network = randomized(SemiDRDNet(COARSE))
    wider = with_frames(network, 3)
    assert wider.config == replace(COARSE, frames=3)
    rainy = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        expected = network.change(rainy)
        answered = wider.eval().change(torch.nn.functional.pad(rainy, (0, 0, 0, 0, 0, 2)))
    assert (answered - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("opened", ["before", "after"])
def test_an_open_gate_takes_its_neighbours_luma_over(opened):
    network = randomized(SemiDRDNet(TEMPORAL))
    fusion = network.fusion
    for part in (network.rain.tail, network.detail.tail, fusion.features):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(part.bias)
    for part in (fusion.after, fusion.before):
        torch.nn.init.zeros_(part.weight)
    fusion.before.bias.fill_(-40.0)
    fusion.features.bias.fill_(-40.0)
    gates = fusion.before if opened == "before" else fusion.features
    gates.bias[: TEMPORAL.unshuffle**2] = 40.0  # the first neighbour, wholly
    rainy = torch.rand(1, 5, 16, 16)
    with torch.no_grad():
        change = network.change(rainy)
    assert torch.allclose(change, rainy[:, 3:4].expand_as(change), atol=1e-6)


def test_a_gate_opens_where_its_neighbour_is_darker_and_the_branches_see_it_dry():
    fusion = SemiDRDNet(TEMPORAL).fusion
    area = TEMPORAL.unshuffle**2
    with torch.no_grad():
        fusion.before.bias[area:] = -40.0
        for place in range(area):  # of the first neighbour, whose differences come first
            fusion.before.weight[place, place] = -5.0
    streak = torch.zeros(1, 1, 16, 16)
    streak[..., 5] = 0.4
    differences = torch.nn.functional.pixel_unshuffle(
        -streak.repeat(1, 2, 1, 1), TEMPORAL.unshuffle
    )
    frame = torch.rand(1, 3 * area, *differences.shape[2:])
    seen, fused = fusion.before_branches(frame, differences)
    assert torch.allclose(fused, differences[:, :area], atol=1e-6)
    assert torch.allclose(seen, torch.cat([frame, differences], 1), atol=1e-6)


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
    with pytest.raises(ValueError, match="odd"):
        NetworkConfig(frames=2)
    with pytest.raises(ValueError, match="coarse_blocks"):
        NetworkConfig(coarse_blocks=(2, 0))
    assert (TINY.multiple, COARSE.multiple) == (4, 16)


def median_input(levels):
    """A frame of grey, level 0.5, whose neighbours have ``levels``, as the network takes it."""
    ordered = sorted(level - 0.5 for level in levels)
    differences = [ordered[rank] for rank in MEDIAN.seen_ranks]
    values = torch.tensor([0.5, 0.5, 0.5, *differences])
    return values[None, :, None, None].expand(-1, -1, 16, 16).contiguous()


@pytest.mark.parametrize(
    ("levels", "median"),
    [
        ((0.2, 0.25, 0.3, 0.3), 0.3),  # the frame is the brightest: rain
        ((0.5, 0.5, 0.5, 0.5), 0.5),  # hidden neighbours are the frame itself
        ((0.2, 0.3, 0.5, 0.5), 0.5),
        ((0.6, 0.7, 0.8, 0.9), 0.7),  # rain on all neighbours
    ],
)
def test_an_untrained_network_answers_with_nearly_the_temporal_median(levels, median):
    network = SemiDRDNet(MEDIAN).eval()
    for branch in (network.rain, network.detail):
        nn.init.zeros_(branch.tail.weight)
    answer = 0.5 + network.change(median_input(levels)).detach()
    assert (answer - median).abs().max() <= 0.02


def test_the_median_needs_its_two_ranks():
    with pytest.raises(ValueError, match="middle"):
        replace(MEDIAN, ranks=(0, 1))
    with pytest.raises(ValueError, match="rise"):
        replace(MEDIAN, ranks=(2, 1))
    with pytest.raises(ValueError, match="fusion"):
        replace(MEDIAN, fusion="mean")
    with pytest.raises(ValueError, match="gates"):
        replace(TEMPORAL, ranks=(0, 1))


def test_a_network_of_gates_begins_again_with_the_median_and_answers_stills_as_before():
    gates = randomized(SemiDRDNet(replace(MEDIAN, frames=3, fusion="gates", ranks=())))
    median = with_median(gates, MEDIAN).eval()
    still = torch.rand(1, 3, 16, 16)
    before = gates.change(torch.cat([still, torch.zeros(1, 2, 16, 16)], 1))
    after = median.change(torch.cat([still, torch.zeros(1, 2, 16, 16)], 1))
    assert torch.allclose(before, after, atol=1e-5)
    with pytest.raises(ValueError, match="may differ"):
        with_median(gates, replace(MEDIAN, rain_width=16))
