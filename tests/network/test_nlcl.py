import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.networks import TINY, TINY_NLCL, randomized
from vderain.errors import WeightsError
from vderain.network.build import build_network
from vderain.network.card import Card, card_path
from vderain.network.config import CONFIGS, NetworkConfig, NlclConfig
from vderain.network.inference.fold import fold
from vderain.network.nlcl import (
    ImageNorm,
    NlclNetwork,
    begin_near_identity,
    begin_near_zero,
    without_statistics_updates,
)
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.weights import find_weights, load_network, save_network

PER_FRAME = replace(TINY_NLCL, frozen_statistics=False)


def norms(network):
    return [module for module in network.modules() if isinstance(module, ImageNorm)]


def gathered(network):
    return [value.clone() for norm in norms(network) for value in norm.state_dict().values()]


def test_the_published_generator_has_its_parameters_cost_and_reach():
    network = NlclNetwork(NlclConfig()).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 316_195
    assert 2 * NlclConfig().macs_per_pixel * 1280 * 720 == pytest.approx(580e9, rel=2e-3)
    touched = torch.zeros(1, 3, 96, 96)
    touched[..., 48, 48] = 1
    with torch.no_grad():  # frozen statistics: nothing but the convolutions connects pixels
        moved = (network(touched) - network(torch.zeros(1, 3, 96, 96))).abs().amax((0, 1))
    rows = moved.amax(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 <= 73 < 96


def test_the_cost_that_a_config_states_is_what_its_network_does():
    network = NlclNetwork(TINY_NLCL).eval().to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.change(torch.empty(1, 3, 32, 48, device="meta"))
    assert counter.get_total_flops() == 2 * TINY_NLCL.macs_per_pixel * 32 * 48


def test_change_is_half_of_that_of_signed_images():
    network = randomized(NlclNetwork(TINY_NLCL))
    rainy = torch.rand(2, 3, 20, 13)
    with torch.no_grad():
        drawn = (network(2 * rainy - 1) + 1) / 2
        assert torch.allclose(rainy + network.change(rainy), drawn, atol=1e-6)
    network.tail.weight.zero_()
    network.tail.bias.fill_(1.0)  # a white background
    assert torch.allclose(network.change(rainy), 1 - rainy)


def test_training_normalises_each_image_by_itself():
    network = NlclNetwork(TINY_NLCL).train()
    images = torch.rand(3, 3, 16, 16) * torch.tensor([0.1, 1.0, 5.0])[:, None, None, None]
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_frozen_statistics_equal_an_images_own_where_they_are_the_frozen_ones():
    own, frozen = NlclNetwork(PER_FRAME).eval(), NlclNetwork(TINY_NLCL).eval()
    frozen.load_state_dict(own.state_dict())
    image, other = torch.rand(2, 1, 3, 24, 18)
    seen = []

    def note(norm, inputs):
        seen.append((norm, *torch.var_mean(inputs[0], (0, 2, 3), correction=0)))

    hooks = [norm.register_forward_pre_hook(note) for norm in norms(own)]
    with torch.no_grad():
        expected = own(image)
        for hook in hooks:
            hook.remove()
        assert not torch.allclose(frozen(image), expected, atol=1e-2)
        for norm, (_, variance, mean) in zip(norms(frozen), seen, strict=True):
            norm.running_var.copy_(variance)
            norm.running_mean.copy_(mean)
        assert torch.allclose(frozen(image), expected, atol=1e-5)
        assert not torch.allclose(frozen(other), own(other), atol=1e-4)


def test_gathering_is_at_first_a_plain_mean_and_can_be_stopped():
    norm = ImageNorm(2, frozen=True).train()
    images = torch.randn(3, 2, 8, 8)
    for image in images:
        norm(image[None])
    variance, mean = torch.var_mean(images, (2, 3))
    assert torch.allclose(norm.running_mean, mean.mean(0), atol=1e-6)
    assert torch.allclose(norm.running_var, variance.mean(0), atol=1e-6)
    network = NlclNetwork(TINY_NLCL).train()
    before = gathered(network)
    with without_statistics_updates(network):
        network(torch.rand(1, 3, 16, 16))
    assert all(map(torch.equal, gathered(network), before))
    network(torch.rand(1, 3, 16, 16))
    assert not any(map(torch.equal, gathered(network), before))


@pytest.mark.parametrize("config", [TINY_NLCL, PER_FRAME], ids=["frozen", "per-frame"])
def test_folded_network_equals_the_unfolded_one(config):
    network = randomized(NlclNetwork(config))
    rainy = torch.rand(1, 3, 23, 37)
    folded = fold(network)
    with torch.no_grad():
        expected, change = network.change(rainy), folded.change(rainy)
    assert (change - expected).abs().max() <= 1e-5
    left = sum(isinstance(module, nn.InstanceNorm2d) for module in folded.modules())
    assert left == (0 if config.frozen_statistics else 5)
    assert len(norms(network)) == 5  # the original keeps its own


@pytest.mark.parametrize("blocks", [1, 2, 3, 16])
def test_levels_run_from_the_head_to_the_deepest_block(blocks):
    network = NlclNetwork(NlclConfig(4, blocks)).eval()
    image = torch.rand(1, 3, 12, 10)
    levels = network.levels(image)
    assert [level.shape[1] for level in levels] == list(network.channels)
    assert len(levels) == 1 + min(4, blocks)
    with torch.no_grad():
        deepest = network.head(image)
        for block in network.blocks:
            deepest = block(deepest)
    assert torch.equal(levels[-1], deepest)


@pytest.mark.parametrize("config", [TINY, TINY_NLCL, PER_FRAME], ids=["semi", "nlcl", "per-frame"])
def test_a_card_says_which_network_it_is_and_brings_it_back(tmp_path, config):
    path = tmp_path / "w.safetensors"
    network = randomized(build_network(config))
    save_network(network, path, Card("mine", config, ""))
    found, card = find_weights("fast", str(path))
    assert json.loads(card_path(path).read_text())["network"] == card.network == config.kind
    loaded = load_network(found, card)
    assert type(loaded) is type(network) and loaded.config == config
    rainy = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded.change(rainy), network.change(rainy))


def test_cards_written_before_there_were_two_networks_still_load(tmp_path):
    path = tmp_path / "w.safetensors"
    save_network(SemiDRDNet(TINY), path, Card("mine", TINY, ""))
    values = json.loads(card_path(path).read_text())
    del values["network"]
    card_path(path).write_text(json.dumps(values))
    assert find_weights("fast", str(path))[1].config == TINY
    card_path(path).write_text(json.dumps({**values, "network": "magic"}))
    with pytest.raises(WeightsError, match=r"w\.json.*magic.*known are semi_drdnet, nlcl"):
        find_weights("fast", str(path))
    card_path(path).write_text(json.dumps({**values, "network": "nlcl"}))
    with pytest.raises(WeightsError, match="rain_width"):
        find_weights("fast", str(path))


def test_the_way_of_normalising_is_the_cards_to_say(tmp_path):
    """The same weights serve both; only the card is edited."""
    path = tmp_path / "w.safetensors"
    network = randomized(NlclNetwork(TINY_NLCL))
    save_network(network, path, Card("mine", TINY_NLCL, ""))
    text = card_path(path).read_text()
    card_path(path).write_text(
        text.replace('"frozen_statistics": true', '"frozen_statistics": false')
    )
    loaded = load_network(*find_weights("fast", str(path)))
    rainy = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert not torch.allclose(loaded.change(rainy), network.change(rainy), atol=1e-3)
        assert loaded.config == PER_FRAME


def test_config_refuses_what_cannot_be():
    assert CONFIGS == {"semi_drdnet": NetworkConfig, "nlcl": NlclConfig}
    for values in ({"width": 0}, {"blocks": 1.5}, {"frozen_statistics": 1}):
        with pytest.raises(ValueError, match=next(iter(values))):
            NlclConfig(**values)
    with pytest.raises(ValueError, match="breadth"):
        NlclConfig.from_dict({"breadth": 3})


@pytest.mark.parametrize("brightness", [0.2, 0.8])
def test_a_network_of_unit_statistics_can_begin_near_the_identity_and_near_zero(brightness):
    torch.manual_seed(0)
    rainy = brightness + 0.2 * torch.rand(1, 3, 24, 24)
    same, nothing = (NlclNetwork(NlclConfig()).eval() for _ in range(2))
    begin_near_identity(same)
    begin_near_zero(nothing)
    with torch.no_grad():
        assert same.change(rainy).square().mean() < 1e-3  # 30 dB
        assert nothing(2 * rainy - 1).square().mean() < 1e-3
