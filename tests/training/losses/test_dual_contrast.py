from dataclasses import replace

import pytest
import torch
from torch import nn

from vderain.errors import OptionError
from vderain.training.losses import dual_contrast
from vderain.training.losses.contrastive import contrast
from vderain.training.losses.dual_contrast import ContrastBatch, ContrastOptions, DualContrast
from vderain.training.losses.encoders import Discriminator

SMALL = ContrastOptions(
    background_patches=4, rain_patches=5, patch_px=8, window_px=12, crop_px=None, head_width=16
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth(count, seed, size=(36, 44)):
    coarse = torch.rand(count, 3, 5, 6, generator=seeded(seed))
    return nn.functional.interpolate(coarse, size, mode="bilinear")


def layers(count, seed, size=(36, 44)):
    drops = (torch.rand(count, 1, *size, generator=seeded(seed)) > 0.97).float()
    return 0.4 * nn.functional.max_pool2d(drops, (7, 1), 1, (3, 0)).expand(-1, 3, -1, -1)


def batch(synthetic=2, real=3, clean_crops=2, **changes):
    background, real_background = smooth(synthetic, 1), smooth(real, 2)
    rainy = background + layers(synthetic, 3)
    real_rainy = real_background + layers(real, 4)
    parts = {
        "rainy": rainy,
        "background": background,
        "repaired": (0.5 * (rainy + background)).requires_grad_(),
        "real_rainy": real_rainy,
        "real_streaks": (0.3 * layers(real, 4) + 0.01).requires_grad_(),
        "real_repaired": (real_rainy - 0.3 * layers(real, 4)).requires_grad_(),
        "clean": smooth(clean_crops, 5),
    }
    return ContrastBatch(**{**parts, **changes})


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Discriminator(width=4)


def learns(parameters):
    return [value.grad is not None and bool(value.grad.abs().sum() > 0) for value in parameters]


def test_each_side_teaches_its_own_heads_and_the_network_and_never_the_encoder(encoder):
    for side in ("background", "rain"):
        loss, compared = DualContrast(encoder, SMALL), batch()
        getattr(loss(compared, seeded()), side).backward()
        heads = {"background": loss.background_heads, "rain": loss.rain_heads}
        for name, group in heads.items():
            learned = learns(group.parameters())
            assert all(learned) if name == side else not any(learned)
        assert len(heads[side].heads) == len(encoder.channels)  # a head for the deepest level too
        predictions = compared.real_repaired, compared.repaired, compared.real_streaks
        assert learns(predictions) == [side == "background", side == "background", side == "rain"]
        assert not any(learns(encoder.parameters()))
        assert all(value.requires_grad for value in encoder.parameters())


def test_the_two_optimisers_hold_everything_once(encoder):
    loss = DualContrast(encoder, SMALL)
    held = [*loss.head_parameters(), *loss.encoder_parameters()]
    assert len(held) == len(set(held)) and set(held) == set(loss.parameters())


def test_the_encoder_learns_in_its_own_step_alone(encoder):
    loss, some = DualContrast(encoder, SMALL), batch()
    some = replace(some, rainy=torch.cat((some.background[:1], some.rainy[1:])))  # the first is dry
    judged = loss.discriminator_loss(some)
    real = encoder.score(torch.cat((some.clean, some.background)))
    fake = encoder.score(torch.cat((some.real_repaired, some.real_rainy, some.rainy[1:])))
    expected = 0.5 * ((real - 1).square().mean() + fake.square().mean())
    assert judged.item() == pytest.approx(expected.item(), rel=1e-5)
    judged.backward()
    learned = dict(zip(dict(encoder.named_parameters()), learns(encoder.parameters()), strict=True))
    # InstanceNorm takes a constant away, so the biases before it have nothing to learn.
    assert all(value for name, value in learned.items() if "weight" in name)
    assert not any(learns(loss.head_parameters()))
    assert some.real_repaired.grad is None


def test_a_side_that_is_off_is_not_computed(encoder, monkeypatch):
    calls = []
    real = dual_contrast.frozen_levels
    monkeypatch.setattr(
        dual_contrast, "frozen_levels", lambda e, x: calls.append(len(x)) or real(e, x)
    )
    both = DualContrast(encoder, SMALL)(batch(), seeded())
    cost = sum(calls)
    calls.clear()
    only_rain = DualContrast(encoder, replace(SMALL, background=False))
    terms = only_rain(batch(), seeded())
    assert terms.background == 0 and terms.rain > 0 and both.background > 0
    assert (
        sum(calls) == 9 < cost and only_rain.background_heads is None
    )  # 3 anchors, layers, textures
    calls.clear()
    neither = DualContrast(encoder, replace(SMALL, background=False, rain=False))
    assert neither(batch(), seeded()) == (0, 0) and not calls


def test_a_generator_repeats_the_terms(encoder):
    loss, options = DualContrast(encoder, replace(SMALL, crop_px=32)), batch()
    first, again, other = (loss(options, seeded(seed)) for seed in (1, 1, 2))
    assert first == again and first != other


def compared_sets(monkeypatch, loss, *args):
    """The vectors that the contrast of the deepest level was given: anchors, positives, negatives."""
    seen = []

    def spy(anchors, positives, negatives, **options):
        seen.append((anchors, positives, negatives, options))
        return contrast(anchors, positives, negatives, **options)

    monkeypatch.setattr(dual_contrast, "contrast", spy)
    terms = loss(*args)
    return terms, seen


def test_what_is_compared_with_what(encoder, monkeypatch):
    loss = DualContrast(encoder, replace(SMALL, centres=2))
    terms, seen = compared_sets(monkeypatch, loss, batch(), seeded())
    assert len(seen) == 2 * 4  # sides, levels
    for anchors, positives, negatives, options in seen[:4]:
        # 5 repaired images of 2 sets of 4; 4 clean ones; 5 rainy ones and 5 with a layer added.
        assert tuple(anchors.shape) == (10, 4, 16) and options["mutual"]
        assert len(positives) == 4 * 8 and len(negatives) == 10 * 8
    for anchors, positives, negatives, options in seen[4:]:
        assert tuple(anchors.shape) == (6, 5, 16) and options["mutual"]
        assert len(positives) == len(negatives) == 3 * 10
    for term, part in ((terms.background, seen[:4]), (terms.rain, seen[4:])):
        levels = [contrast(*sets[:3], **sets[3]).item() for sets in part]
        assert term.item() == pytest.approx(sum(levels) / 4, rel=1e-5)


def test_dry_samples_are_neither_negatives_nor_rain(encoder, monkeypatch):
    background = smooth(2, 1)
    dry = {"rainy": background, "background": background, "repaired": background.clone()}
    terms, seen = compared_sets(monkeypatch, DualContrast(encoder, SMALL), batch(**dry), seeded())
    assert terms.rain == 0 and terms.background > 0  # no layer is known
    assert len(seen) == 4 and len(seen[0][2]) == 3 * 4  # the real rainy crops alone
    mined = DualContrast(encoder, SMALL)(batch(**dry, mined=layers(2, 9)), seeded())
    assert mined.rain > 0


def test_synthetic_anchors_can_be_left_out(encoder):
    compared = batch()
    loss = DualContrast(encoder, replace(SMALL, synthetic_anchors=False))
    loss(compared, seeded()).background.backward()
    assert compared.repaired.grad is None and learns([compared.real_repaired]) == [True]


@pytest.mark.slow
def test_trained_heads_prefer_clean_backgrounds_and_streaks_to_rain_and_texture(encoder):
    loss, some = DualContrast(encoder, SMALL), batch()
    truth = replace(
        some, repaired=some.background, real_repaired=smooth(3, 2), real_streaks=layers(3, 4)
    )
    optimizer = torch.optim.Adam(loss.head_parameters(), 1e-2)
    for step in range(60):
        optimizer.zero_grad()
        sum(loss(truth, seeded(step))).backward()
        optimizer.step()
    texture = dual_contrast.high_pass(smooth(3, 8)) + 0.05 * torch.rand(
        3, 3, 36, 44, generator=seeded()
    )
    wrong = replace(some, repaired=some.rainy, real_repaired=some.real_rainy, real_streaks=texture)
    with torch.no_grad():
        scores = [
            torch.tensor([loss(given, seeded(seed)) for seed in range(5)]).mean(0)
            for given in (truth, wrong)
        ]
    assert scores[0][0] < scores[1][0] - 0.02
    assert scores[0][1] < scores[1][1] - 0.1


@pytest.mark.parametrize(("side", "prediction"), [
    ("rain", "real_streaks"), ("background", "real_repaired"), ("background", "repaired"),
])  # fmt: skip
def test_gradients_of_either_side(encoder, side, prediction):
    others = {name: name == side for name in ("rain", "background")}
    options = replace(SMALL, **others, temperature=0.5, patch_px=6, window_px=6)
    loss = DualContrast(encoder, options).double()
    parts = batch(synthetic=1, real=1, clean_crops=1)
    doubled = {name: getattr(parts, name).detach().double() for name in parts.__slots__[:-1]}

    def term(predicted):
        return getattr(loss(ContrastBatch(**{**doubled, prediction: predicted}), seeded()), side)

    predicted = doubled[prediction].clone().requires_grad_()
    assert torch.autograd.grad(term(predicted), predicted)[0].abs().sum() > 0
    assert torch.autograd.gradcheck(term, predicted, fast_mode=True)


def test_crops_share_their_window_and_small_ones_stay():
    whole = batch(mined=layers(1, 9))
    part = whole.cropped(24, seeded(3))
    assert part.rainy.shape == (2, 3, 24, 24) and part.mined.shape == (1, 3, 24, 24)
    window = find(part, whole)
    for name in ("rainy", "repaired", "real_streaks", "mined"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[:, :, *window])
    assert whole.cropped(40, seeded()).rainy.shape == (2, 3, 36, 40)


def find(part, whole):
    for top in range(13):
        for left in range(21):
            window = slice(top, top + 24), slice(left, left + 24)
            if torch.equal(whole.clean[:, :, *window], part.clean):
                return window
    raise AssertionError("not a window")


def test_batches_and_options_that_do_not_fit_are_refused(encoder):
    with pytest.raises(OptionError, match="clean: crops of"):
        batch(clean=torch.rand(1, 3, 20, 20))
    with pytest.raises(OptionError, match="real_streaks: needs as many crops as real_rainy"):
        batch(real_streaks=layers(2, 1))
    with pytest.raises(OptionError, match="clean: the contrast needs"):
        batch(clean_crops=0)
    for change in ({"centres": 0}, {"temperature": 0.0}, {"crop_px": 20}):
        with pytest.raises(OptionError, match=next(iter(change))):
            ContrastOptions(**change)
    with pytest.raises(OptionError, match="not a discriminator"):
        DualContrast(Fixed(), SMALL).discriminator_loss(batch())


class Fixed(nn.Module):
    """An encoder of the user's own."""

    channels = (3,)

    def forward(self, images):
        return [images]


def test_any_module_with_levels_is_an_encoder():
    loss = DualContrast(Fixed(), SMALL)
    assert not list(loss.encoder_parameters())
    assert all(term > 0 for term in loss(batch(), seeded()))
