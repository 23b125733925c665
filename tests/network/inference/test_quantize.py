"""Eight-bit convolutions against the float network."""

from dataclasses import replace

import pytest
import torch

from tests.networks import COARSE, TINY, randomized
from vderain.errors import WeightsError
from vderain.metrics import psnr
from vderain.network.config import FAST, PAPER
from vderain.network.inference.fold import fold
from vderain.network.inference.quantize import QuantizedConv, calibrate, quantizable, quantize
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.weights import find_weights, load_network

WIDE = replace(COARSE, rain_width=16, coarse_blocks=(1, 1), unshuffle=2)


def images(count, config=WIDE):
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(1, config.channels, 32, 48, generator=generator) for _ in range(count)]


def test_only_wide_convolutions_of_residual_blocks_are_quantised():
    names = quantizable(fold(SemiDRDNet(FAST)))
    assert names and all(name.startswith("rain.blocks.1.") for name in names)  # the coarser scales
    assert not [name for name in names if "gate" in name or "head" in name or "tail" in name]
    assert len(quantizable(fold(SemiDRDNet(PAPER)))) == 2 * 16 + 3 * 2 * 16
    assert not quantizable(fold(SemiDRDNet(TINY)))


def test_eight_bits_stay_close_and_leave_the_network_as_it_was():
    network = randomized(SemiDRDNet(WIDE))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scales = calibrate(network, images(4))
    assert all(low <= 0 <= high for low, high in scales.values())
    quantized = quantize(network, scales)
    assert sum(isinstance(m, QuantizedConv) for m in quantized.modules()) == len(scales)
    for image in images(6):
        expected, change = network.change(image), quantized.change(image)
        scale = float(expected.abs().max())
        assert 25 < psnr((change / scale).numpy(), (expected / scale).numpy(), peak=1) < 90
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_an_image_with_extreme_values_does_not_coarsen_the_steps_of_all_others():
    network = randomized(SemiDRDNet(WIDE))
    usual = images(4)
    narrow = calibrate(network, usual[:3])
    wide = calibrate(network, [*usual[:3], 100 * usual[3]])
    spans = [
        (high - low) / (narrow[name][1] - narrow[name][0]) for name, (low, high) in wide.items()
    ]
    assert 1 < max(spans) < 50  # to hold all of the image it would be nearly a hundred


def test_values_are_rounded_to_256_steps_of_which_one_is_zero():
    conv = torch.nn.Conv2d(32, 1, 1, bias=False)
    conv.weight.data.fill_(1 / 32)
    quantized = QuantizedConv(conv, -1.0, 3.0)
    levels = torch.linspace(-2, 4, 3001)[None, None, None].expand(1, 32, 1, 3001)
    answers = quantized(levels).detach().unique()
    assert answers.numel() == 256
    assert float(answers.min()) == pytest.approx(-1, abs=0.02)
    assert float(answers.max()) == pytest.approx(3, abs=0.02)
    assert float(quantized(torch.zeros(1, 32, 2, 2)).detach().abs().max()) == 0


@pytest.mark.parametrize("scales", [{}, {"rain.blocks.7.body.0": (-1.0, 1.0)}])
def test_scales_of_another_network_are_refused(scales):
    with pytest.raises(WeightsError, match="int8 scales"):
        quantize(randomized(SemiDRDNet(WIDE)), scales)


def test_the_shipped_weights_have_the_scales_that_their_network_needs():
    path, card = find_weights("fast")
    network = load_network(path, card)
    assert set(card.int8) == set(quantizable(fold(network)))
