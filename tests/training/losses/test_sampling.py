import numpy as np
import pytest
import torch

from vderain.errors import OptionError
from vderain.training.losses.sampling import (
    box_mean,
    draw_centres,
    features_at,
    non_local_neighbours,
)


def slow_neighbours(image, centre, count, patch_px, window_px, farthest):
    """One image (C, H, W), one centre: every candidate in turn."""
    _, height, width = image.shape
    before = patch_px // 2

    def patch(row, column):
        top, left = row - before, column - before
        if top < 0 or left < 0 or top + patch_px > height or left + patch_px > width:
            return None
        return image[:, top : top + patch_px, left : left + patch_px]

    own, found = patch(*centre), []
    for down in range(window_px):
        for across in range(window_px):
            row = centre[0] + down - window_px // 2
            column = centre[1] + across - window_px // 2
            other = patch(row, column)
            if other is not None:
                found.append((float(((own - other) ** 2).sum()), [row, column]))
    found.sort(key=lambda entry: entry[0], reverse=farthest)
    return [location for _, location in found[:count]]


@pytest.mark.parametrize("farthest", [False, True])
@pytest.mark.parametrize(
    ("shape", "patch_px", "window_px", "count"),
    [
        ((1, 3, 64, 64), 16, 40, 8),
        ((3, 3, 48, 80), 16, 40, 30),
        ((3, 2, 24, 31), 16, 40, 20),  # smaller than the window
        ((1, 1, 17, 40), 5, 7, 9),  # odd sizes
        ((2, 3, 16, 16), 16, 40, 1),  # one patch fills the image
    ],
)
def test_neighbours_are_those_of_a_plain_search(shape, patch_px, window_px, count, farthest):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(shape, generator=generator, dtype=torch.float64)
    centres = draw_centres(image, 3, patch_px=patch_px, generator=generator)
    corner = torch.tensor([shape[2], shape[3]]) - (patch_px - patch_px // 2)
    centres[0, 0] = patch_px // 2  # the first place where a patch fits
    centres[-1, 1] = corner  # and the last
    options = {"patch_px": patch_px, "window_px": window_px, "farthest": farthest}
    found = non_local_neighbours(image, centres, count=count, **options)
    assert found.shape == (shape[0], 3, count, 2)
    for sample in range(shape[0]):
        for index, centre in enumerate(centres[sample].tolist()):
            expected = slow_neighbours(
                image[sample].numpy(), centre, count, patch_px, window_px, farthest
            )
            assert found[sample, index].tolist() == expected


def test_a_centre_is_its_own_closest_patch_in_single_and_half_precision():
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    centres = torch.tensor([[[20, 30]], [[8, 56]]])
    for dtype in (torch.float32, torch.bfloat16):
        found = non_local_neighbours(image.to(dtype), centres, count=4)
        assert torch.equal(found[:, :, 0], centres)


def test_a_repeated_pattern_is_found_again():
    tile = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(2))
    image = tile.repeat(1, 4, 4)[None]
    found = non_local_neighbours(image, torch.tensor([[[40, 40]]]), count=4)[0, 0]
    assert set(map(tuple, found.tolist())) == {(20, 20), (20, 40), (40, 20), (40, 40)}


def test_what_does_not_fit_is_refused():
    image = torch.zeros(1, 3, 24, 24)
    with pytest.raises(OptionError, match="patch_px 32: does not fit crops of 24x24"):
        draw_centres(image, 1, patch_px=32)
    centre = torch.tensor([[[12, 12]]])
    with pytest.raises(OptionError, match="holds 81 patches"):
        non_local_neighbours(image, centre, count=82)
    for outside in ([7, 12], [12, 17]):
        with pytest.raises(OptionError, match="leaves the image"):
            non_local_neighbours(image, torch.tensor([[outside]]), count=1)


def test_centres_reach_every_place_that_fits_and_no_other():
    drawn = draw_centres(torch.zeros(2, 3, 18, 17), 200, generator=torch.Generator().manual_seed(3))
    assert drawn.shape == (2, 200, 2)
    assert {*map(tuple, drawn.flatten(0, 1).tolist())} == {
        (row, column) for row in (8, 9, 10) for column in (8, 9)
    }


def test_busy_centres_follow_what_is_there_and_an_empty_layer_is_no_error():
    layer = torch.zeros(2, 3, 64, 64)
    layer[0, :, 40:44, 10:14] = 0.5
    drawn = draw_centres(layer, 50, busy=True, generator=torch.Generator().manual_seed(4))
    patches = [layer[0, :, y - 8 : y + 8, x - 8 : x + 8] for y, x in drawn[0].tolist()]
    assert all(patch.any() for patch in patches)
    assert len({*map(tuple, drawn[1].tolist())}) > 20


def test_a_seed_repeats_the_centres():
    image = torch.rand(2, 3, 40, 40)
    for busy in (False, True):
        first, again = (
            draw_centres(image, 5, busy=busy, generator=torch.Generator().manual_seed(5))
            for _ in range(2)
        )
        assert torch.equal(first, again)


def test_features_come_from_the_scaled_place_of_every_level():
    size, generator = (40, 64), torch.Generator().manual_seed(6)
    shapes = [(2, 3, 40, 64), (2, 5, 39, 63), (2, 4, 10, 32), (2, 7, 1, 1)]
    levels = [torch.rand(shape, generator=generator) for shape in shapes]
    locations = torch.tensor([[[0, 0], [39, 63], [17, 5]], [[39, 0], [0, 63], [20, 40]]])
    found = features_at(levels, locations, size)
    assert len(found) == len(levels)
    for level, vectors in zip(levels, found, strict=True):
        height, width = level.shape[2:]
        for sample in range(2):
            for index, (row, column) in enumerate(locations[sample].tolist()):
                y, x = int((row + 0.5) * height / 40), int((column + 0.5) * width / 64)
                assert torch.equal(vectors[sample, index], level[sample, :, y, x])


def test_features_pass_gradients_to_their_place_only():
    level = torch.zeros(1, 2, 4, 4, requires_grad=True)
    features_at([level], torch.tensor([[[5, 2]]]), (8, 8))[0].sum().backward()
    expected = torch.zeros(1, 2, 4, 4)
    expected[0, :, 2, 1] = 1
    assert torch.equal(level.grad, expected)


def test_box_mean_is_the_mean_of_each_square():
    values = np.random.default_rng(7).random((1, 1, 7, 9))
    found = box_mean(torch.from_numpy(values), 4)
    assert found.shape == (1, 1, 4, 6)
    assert found[0, 0, 2, 3].item() == pytest.approx(values[0, 0, 2:6, 3:7].mean())
