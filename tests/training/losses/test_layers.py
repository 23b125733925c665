import pytest
import torch

from vderain.training.losses import layers as module
from vderain.training.losses.layers import (
    augmented_images,
    augmented_layers,
    draw_rows,
    high_pass,
    layer_image,
    pattern_image,
    rainy_rows,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_layer_becomes_a_image_around_mid_grey():
    layer = torch.tensor([-1.0, 0.0, 0.2, 1.0])
    assert torch.allclose(layer_image(layer), torch.tensor([0.0, 0.5, 0.6, 1.0]))


def test_a_pattern_is_the_same_however_strong_the_layer_is():
    layer = torch.rand(1, 3, 32, 32, generator=seeded())
    strong, faint = pattern_image(layer), pattern_image(0.3 * layer + 0.2)
    assert torch.allclose(strong, faint, atol=0.02)
    assert float(high_pass(strong, 15).std()) == pytest.approx(0.05, rel=0.1)
    assert torch.equal(pattern_image(torch.zeros_like(layer)), torch.full_like(layer, 0.5))


def test_dry_layers_are_distinguished_from_faint_rain():
    layers = torch.zeros(3, 3, 8, 8)
    layers[1] = 1 / 512  # rounding
    layers[2, :, :, ::4] = 0.05
    assert rainy_rows(layers).tolist() == [False, False, True]


def test_all_are_drawn_before_one_is_drawn_again():
    drawn = draw_rows(torch.arange(5), 12, seeded()).tolist()
    assert sorted(drawn[:5]) == sorted(drawn[5:10]) == [0, 1, 2, 3, 4]
    assert len(drawn) == 12


def test_turning_keeps_distances_in_crops_that_are_not_square(monkeypatch):
    monkeypatch.setattr(module, "_SCALES", (1.0, 1.0))
    layer = torch.zeros(1, 3, 64, 96)
    layer[:, :, 31:34, 39:42] = layer[:, :, 31:34, 55:58] = 1.0  # 16 px apart
    ends = []
    for seed in range(6):
        turned = module._turned(layer, seeded(seed))[0, 0]
        place = torch.nonzero(turned > 0.5).float()
        left = place[place[:, 1] < 48].mean(0)
        right = place[place[:, 1] >= 48].mean(0)
        assert (left - right).norm().item() == pytest.approx(16, abs=0.7)
        ends.append(round((left - right)[0].item()))
    assert len(set(ends)) > 2 and max(map(abs, ends)) <= 8.5  # 16 sin 30 degrees


def test_layers_are_varied_repeatably_and_sometimes_mixed():
    layers = torch.zeros(4, 3, 32, 40)
    for index in range(4):
        layers[index, :, :, 6 + 7 * index] = 0.2
    first, again = (augmented_layers(layers, 40, seeded(1)) for _ in range(2))
    assert first.shape == (40, 3, 32, 40) and torch.equal(first, again)
    assert not torch.equal(first, augmented_layers(layers, 40, seeded(2)))
    assert first.min() >= 0 and 0.2 < first.max() <= 0.2 * 1.5 * 2
    assert rainy_rows(first).all()


def test_half_of_the_layers_are_mixed_and_the_rest_are_one_layer(monkeypatch):
    monkeypatch.setattr(module, "_turned", lambda layers, generator: layers)
    monkeypatch.setattr(module, "_GAINS", (1.0, 1.0))
    layers = torch.eye(3)[:, :, None, None].expand(3, 3, 8, 8).contiguous()
    drawn = augmented_layers(layers, 300, seeded())[:, :, 0, 0]
    unmixed = (drawn.sum(1) == 1).float().mean().item()
    assert unmixed == pytest.approx(0.5, abs=0.1)
    assert drawn.sum(1).max() <= 2


def test_clean_images_are_mirrored_and_exposed_within_range():
    image = torch.full((40, 3, 8, 8), 0.5)
    image[:, :, :, :4] = 0.95
    varied = augmented_images(image, seeded())
    mirrored = varied[:, 0, 0, 0] < varied[:, 0, 0, -1]
    assert 8 < mirrored.sum() < 32
    dark = varied[:, 0].amin((1, 2))
    assert 0.4 <= dark.min() < 0.45 and 0.55 < dark.max() <= 0.6 and varied.max() == 1


def test_high_pass_leaves_texture_and_takes_what_is_flat():
    flat = torch.full((1, 3, 20, 24), 0.7)
    assert high_pass(flat).abs().max() < 1e-6
    textured = flat.clone()
    textured[:, :, 10, 12] += 0.2
    assert high_pass(textured)[0, 0, 10, 12].item() == pytest.approx(0.2 * 80 / 81)


def test_layers_turn_by_the_same_angle_next_to_half_precision_convolutions():
    layers = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    expected = augmented_layers(layers, 2, torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        found = augmented_layers(layers, 2, torch.Generator().manual_seed(1))
    assert torch.equal(found, expected)
