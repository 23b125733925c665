"""Rain layers and clean images, varied: the samples that the dual contrast adds to those it is given (ours).

Layers are what rain adds to an image, (L, 3, H, W) float around [-1, 1]. Generators are on the CPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vderain.training.losses.sampling import box_mean

_DRY_RMS = 0.005  # below about one code value, a layer shows no rain
_ROTATION_DEG = 30.0
_SCALES = (0.7, 1.4)
_GAINS = (0.5, 1.5)
_MIXED_SHARE = 0.5
_EXPOSURES = (0.8, 1.2)
_HIGH_PASS_PX = 9
_TEXTURE_PX = 15
_PATTERN_RMS = 0.05


def layer_image(layers: Tensor) -> Tensor:
    """A layer in an image's range, 0.5 + layer / 2: no rain is mid-grey, and [-1, 1] becomes [0, 1]."""
    return 0.5 + 0.5 * layers


def pattern_image(layers: Tensor) -> Tensor:
    """What layers (L, 3, H, W) show and not how strongly: around mid-grey, at one RMS of fine texture."""
    rms = high_pass(layers, _TEXTURE_PX).square().mean((1, 2, 3), keepdim=True).sqrt()
    even = layers - layers.mean((2, 3), keepdim=True)
    return 0.5 + _PATTERN_RMS * even / (rms + _DRY_RMS)


def rainy_rows(layers: Tensor) -> Tensor:
    """Which layers hold rain that can be seen, (L,) bool."""
    return layers.square().mean((1, 2, 3)).sqrt() > _DRY_RMS


def draw_rows(values: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """``count`` samples at random; none twice before all were taken once."""
    rounds = math.ceil(count / len(values))
    order = [torch.randperm(len(values), generator=generator) for _ in range(rounds)]
    return values[torch.cat(order)[:count].to(values.device)]


def augmented_layers(
    layers: Tensor, count: int, generator: torch.Generator | None = None
) -> Tensor:
    """``count`` layers drawn, mirrored, rotated by up to 30 degrees, scaled, gained, and half of them mixed.

    (L, 3, H, W), L at least 1 -> (count, 3, H, W).
    """
    first, second = (
        _turned(draw_rows(layers, count, generator), generator)
        * _uniform(count, _GAINS, generator, layers)
        for _ in range(2)
    )
    mixed = _uniform(count, (0.0, 1.0), generator, layers)
    return first + second * (mixed - (1 - _MIXED_SHARE)).clamp(min=0) / _MIXED_SHARE


def augmented_images(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Clean images (K, 3, H, W) in [0, 1], half of them mirrored, each a little darker or brighter."""
    mirrored = _uniform(len(images), (0.0, 1.0), generator, images) < 0.5
    exposed = images * _uniform(len(images), _EXPOSURES, generator, images)
    return torch.where(mirrored, exposed.flip(3), exposed).clamp(0, 1)


def high_pass(images: Tensor, side_px: int = _HIGH_PASS_PX) -> Tensor:
    """Fine texture, (N, 3, H, W) -> same: the images less their mean over squares of an odd side."""
    padded = F.pad(images, (side_px // 2,) * 4, mode="replicate")
    return images - box_mean(padded, side_px)


def _turned(layers: Tensor, generator: torch.Generator | None) -> Tensor:
    count, _, height, width = layers.shape
    turn = _ROTATION_DEG * math.pi / 180
    angle = _uniform(count, (-turn, turn), generator, layers).flatten()
    zoom = 1 / _uniform(count, _SCALES, generator, layers).flatten()
    side = torch.where(_uniform(count, (0.0, 1.0), generator, layers).flatten() < 0.5, -zoom, zoom)
    # Grid units are half sides; the aspect keeps a turn from shearing crops that are not square.
    aspect = height / width
    zero = torch.zeros_like(angle)
    across = torch.stack((side * angle.cos(), -side * angle.sin() * aspect, zero), -1)
    down = torch.stack((zoom * angle.sin() / aspect, zoom * angle.cos(), zero), -1)
    with torch.autocast(layers.device.type, enabled=False):  # in bfloat16 places jump by pixels
        turns = torch.stack((across, down), 1)
        grid = F.affine_grid(turns, list(layers.shape), align_corners=False)
    return F.grid_sample(layers, grid, padding_mode="reflection", align_corners=False)


def _uniform(
    count: int, bounds: tuple[float, float], generator: torch.Generator | None, like: Tensor
) -> Tensor:
    """(count, 1, 1, 1) of the dtype and on the device of ``like``."""
    drawn = torch.rand(count, 1, 1, 1, generator=generator, dtype=torch.float64)
    return (bounds[0] + (bounds[1] - bounds[0]) * drawn).to(like)
