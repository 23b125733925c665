from dataclasses import replace

import pytest
import torch

from tests.networks import MEDIAN, TEMPORAL, randomized
from vderain.network.growth import grown
from vderain.network.semi_drdnet import SemiDRDNet

PLAIN = {"normalised": False, "dilations": (1, 3)}
LARGER = {
    "rain_width": 16,
    "rain_blocks": 5,
    "coarse_blocks": (2, 3),
    "detail_width": 12,
    "detail_blocks": 3,
}


@pytest.mark.parametrize("config", [MEDIAN, TEMPORAL], ids=["median", "gates"])
def test_a_larger_network_begins_with_the_answers_of_the_smaller_one(config):
    small = randomized(SemiDRDNet(replace(config, **PLAIN)))
    large = grown(small, replace(small.config, **LARGER)).eval()
    seen = torch.rand(1, small.config.channels, 32, 32)
    assert torch.allclose(small.change(seen), large.change(seen), atol=1e-5)


def test_all_of_a_larger_network_learns():
    torch.manual_seed(0)  # a gate whose ReLU is closed for all of the input hears of nothing
    small = SemiDRDNet(replace(MEDIAN, **PLAIN))
    large = grown(small, replace(small.config, **LARGER))
    optimizer = torch.optim.SGD(large.parameters(), 0.1)
    seen = torch.rand(1, small.config.channels, 32, 32)
    for _ in range(6):  # what was silent hears of the error a step later, layer by layer
        optimizer.zero_grad()
        large.change(seen).square().mean().backward()
        optimizer.step()
    silent = [name for name, p in large.named_parameters() if not p.grad.abs().sum() > 0]
    assert not silent


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rain_width": 4}, "shrink"),
        ({"frames": 7, "ranks": (2, 3)}, "only widths"),
        ({"coarse_blocks": (2,)}, "only widths"),
    ],
)
def test_what_cannot_grow_is_refused(changes, told):
    small = SemiDRDNet(replace(MEDIAN, **PLAIN))
    with pytest.raises(ValueError, match=told):
        grown(small, replace(small.config, **changes))
    with pytest.raises(ValueError, match="batch normalisation"):
        grown(SemiDRDNet(MEDIAN), replace(MEDIAN, rain_width=16))
