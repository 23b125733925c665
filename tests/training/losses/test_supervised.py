import math

import numpy as np
import pytest
import torch

from vderain.errors import OptionError
from vderain.metrics import ssim as measured_ssim
from vderain.training.losses.supervised import PENALTIES, ssim, supervised_loss


def mean_square(errors):
    return sum(error * error for error in errors) / len(errors)


SLOW = {
    "l1": lambda errors: sum(map(abs, errors)) / len(errors),
    "charbonnier": lambda errors: sum(math.sqrt(e * e + 1e-6) for e in errors) / len(errors),
    "mse": mean_square,
    "psnr": lambda errors: 0.02 * math.log(mean_square(errors) + 1e-5),
}


def images(size, count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, *size, generator=generator, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_loss_is_that_of_a_plain_loop(penalty):
    rainy, background, streaks, detail = images((4, 5))
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)
    expected = 0.0
    for sample in range(2):
        derained, repaired = [], []
        for index in np.ndindex(3, 4, 5):
            o, b, r, d = (t[sample][index].item() for t in (rainy, background, streaks, detail))
            derained.append(o - r - b)
            repaired.append(o - r + d - b)
        total = 0.3 * SLOW[penalty](derained) + SLOW[penalty](repaired)
        expected += weights[sample].item() * total / 2
    loss = supervised_loss(
        rainy,
        background,
        streaks,
        detail,
        derained_weight=0.3,
        sample_weights=weights,
        penalty=penalty,
    )
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_defaults_are_the_papers():
    rainy, background = torch.full((1, 3, 2, 2), 0.8), torch.full((1, 3, 2, 2), 0.5)
    streaks, detail = torch.full_like(rainy, 0.2), torch.full_like(rainy, -0.05)
    loss = supervised_loss(rainy, background, streaks, detail)
    assert loss.item() == pytest.approx(0.1 * 0.1 + 0.05)
    halves = supervised_loss(rainy, background, streaks.bfloat16(), detail.bfloat16())
    assert halves.dtype == torch.float32 and halves.item() == pytest.approx(0.06, abs=1e-3)


def test_ssim_is_the_one_that_is_reported():
    first, second = images((19, 14), count=2)
    second = (first + 0.2 * second).clamp(0, 1)
    for sample, found in enumerate(ssim(first, second).tolist()):
        a, b = (side[sample].permute(1, 2, 0).numpy() for side in (first, second))
        assert found == pytest.approx(measured_ssim(a, b, peak=1.0), rel=1e-9)


def test_the_ssim_term_belongs_to_the_repaired_image_and_is_weighted_per_sample():
    rainy, background, streaks, detail = images((12, 13))
    weights = torch.tensor([0.5, 2.0], dtype=torch.float64)
    plain, added = (
        supervised_loss(
            rainy, background, streaks, detail, sample_weights=weights, ssim_weight=weight
        )
        for weight in (0.0, 0.7)
    )
    missing = 1 - ssim(rainy - streaks + detail, background)
    assert (added - plain).item() == pytest.approx((0.7 * missing * weights).mean().item())


@pytest.mark.parametrize("penalty", PENALTIES)
def test_gradients(penalty):
    rainy, background, streaks, detail = images((11, 12))

    def loss(streaks, detail):
        options = {"penalty": penalty, "ssim_weight": 0.4}
        return supervised_loss(rainy[:1], background[:1], streaks, detail, **options)

    inputs = (streaks[:1].requires_grad_(), detail[:1].requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


def test_what_cannot_be_is_refused():
    four = images((10, 20))
    with pytest.raises(OptionError, match="penalty huber: choose one of l1"):
        supervised_loss(*four, penalty="huber")
    with pytest.raises(OptionError, match="got 20x10"):
        supervised_loss(*four, ssim_weight=0.1)


def test_ssim_keeps_its_precision_next_to_half_precision_convolutions():
    rainy = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    shown = (rainy + 0.05).clamp(0, 1)
    expected = ssim(shown, rainy)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ssim(shown, rainy), expected)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_what_has_no_ground_truth_costs_nothing(penalty):
    rainy, background, streaks, detail = images((16, 12))
    weight = torch.zeros(2, 1, 16, 12, dtype=torch.float64)
    weight[..., :12, :] = 1
    options = {"penalty": penalty, "ssim_weight": 0.0}
    part = [one[..., :12, :] for one in (rainy, background, streaks, detail)]
    seen = supervised_loss(*part, **options)
    assert supervised_loss(
        rainy, background, streaks, detail, pixel_weights=weight, **options
    ) == pytest.approx(seen.item())
    spoilt = background.clone()
    spoilt[..., 12:, :] = 0
    losses = [
        supervised_loss(
            rainy, truth, streaks, detail, pixel_weights=weight, penalty=penalty, ssim_weight=0.5
        )
        for truth in (background, torch.where(weight > 0, spoilt, background))
    ]
    assert losses[0] == pytest.approx(losses[1].item())
    nothing = supervised_loss(
        rainy, background, streaks, detail, pixel_weights=0 * weight, penalty="l1"
    )
    assert nothing == 0
