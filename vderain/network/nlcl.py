"""NLCL's generator: predicts the background, or the rain layer, of a rainy image.

After "Unsupervised Deraining: Where Contrastive Learning Meets Self-similarity" (arXiv 2203.11509) and its
public code; frozen statistics are ours. A signed image has RGB in [-1, 1]: twice [0, 1], less one.

Shape legend: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vderain.network.base import ChangeNetwork
from vderain.network.config import NlclConfig

_MOMENTUM = 0.01  # of the averaged statistics, once a hundred images were seen
_QUIET = 0.1  # scale of a convolution's initial weights where its output should be small
_LEVELS = 4  # feature levels behind the head, each after a group of blocks


class ImageNorm(nn.InstanceNorm2d):
    """InstanceNorm without parameters, whose statistics can be frozen.

    In training every image is normalised by its own mean and variance, which are averaged
    where ``updates_statistics`` says so. In evaluation mode the averages are used where ``frozen`` says so.
    """

    num_batches_tracked: Tensor

    def __init__(self, width: int, *, frozen: bool) -> None:
        super().__init__(width, track_running_stats=True)
        self.frozen = frozen
        self.updates_statistics = True

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> same."""
        if not self.training and self.frozen:
            return F.batch_norm(x, self.running_mean, self.running_var, eps=self.eps)
        if not (self.training and self.updates_statistics):
            return self._by_own(x, None, None, 0.0)
        self.num_batches_tracked.add_(1)
        # At first a plain mean over all that was seen.
        momentum = max(_MOMENTUM, 1 / int(self.num_batches_tracked))
        return self._by_own(x, self.running_mean, self.running_var, momentum)

    def _by_own(
        self, x: Tensor, mean: Tensor | None, variance: Tensor | None, momentum: float
    ) -> Tensor:
        """Normalised by each image's own statistics, which ``mean`` and ``variance`` are moved towards."""
        # Without torch.nn.functional's wrappers, which refuse an image of one pixel.
        if self.training and len(x) == 1:  # engines know the other form
            # The same for one image, and it takes channels last: a step takes a quarter less time.
            return torch.batch_norm(x, None, None, mean, variance, True, momentum, self.eps, False)
        return torch.instance_norm(x, None, None, mean, variance, True, momentum, self.eps, False)


class ResidualBlock(nn.Module):
    """Two normalised convolutions, added to what came in; no activation after the addition."""

    def __init__(self, config: NlclConfig) -> None:
        super().__init__()
        self.body = nn.Sequential(*_convolved(config), nn.ReLU(), *_convolved(config))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> same."""
        added: Tensor = self.body(x)
        return x + added


class NlclNetwork(ChangeNetwork):
    """Signed images in, signed images out; also the encoder of NLCL's location contrast."""

    config: NlclConfig

    def __init__(self, config: NlclConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(config) for _ in range(config.blocks))
        self.body = nn.Sequential(
            *_convolved(config), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )
        self.tail = nn.Conv2d(width, 3, 3, padding=1)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each level."""
        return (self.config.width,) * (1 + len(self._level_ends))

    @property
    def _level_ends(self) -> list[int]:
        """After how many blocks a level comes: after each quarter, the deepest included."""
        blocks = self.config.blocks
        return sorted({-(-blocks * part // _LEVELS) for part in range(1, _LEVELS + 1)})

    def levels(self, signed: Tensor) -> list[Tensor]:
        """(N, 3, H, W) signed -> features behind the head and each quarter of the blocks, (N, C, H, W).

        The paper does not name the layers; these are ours.
        """
        x: Tensor = self.head(signed)
        levels, ends = [x], self._level_ends
        for count, block in enumerate(self.blocks, 1):
            x = block(x)
            if count in ends:
                levels.append(x)
        return levels

    def drawn(self, levels: list[Tensor]) -> Tensor:
        """The signed image (N, 3, H, W) that follows from ``levels``; not clamped."""
        image: Tensor = self.tail(self.body(levels[-1]))
        return image

    def forward(self, signed: Tensor) -> Tensor:
        """(N, 3, H, W) signed -> same."""
        return self.drawn(self.levels(signed))

    def change(self, rainy: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> background - rainy in these units: half of that of signed images."""
        signed = 2 * rainy - 1
        return (self.forward(signed) - signed) / 2


@contextmanager
def without_statistics_updates(network: nn.Module) -> Iterator[None]:
    """Keep the averages of normalisation as they are in training: for images that are unlike frames."""
    norms = [m for m in network.modules() if isinstance(m, ImageNorm) and m.updates_statistics]
    for norm in norms:
        norm.updates_statistics = False
    try:
        yield
    finally:
        for norm in norms:
            norm.updates_statistics = True


@torch.no_grad()
def begin_near_identity(network: NlclNetwork) -> None:
    """Let a new network of unit statistics begin by returning almost its input (ours).

    The published network ends in a normalisation, which takes an image's brightness and contrast away,
    and has no path around it; only the zero padding around an image could restore them. With unit statistics
    the colours can pass in three channels, and the others add little at first.
    """
    _quieten(network)
    first, _, _, last = network.body
    for convolution, offset in ((network.head, 0), (first, 1), (last, -1), (network.tail, 0)):
        assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
        for colour in range(3):  # a signed image plus one passes a ReLU
            convolution.weight[colour] = 0
            convolution.weight[colour, colour, 1, 1] = 1
            convolution.bias[colour] = offset


@torch.no_grad()
def begin_near_zero(network: NlclNetwork) -> None:
    """Let a new network of unit statistics begin by returning almost zero (ours)."""
    _quieten(network)
    network.tail.weight.mul_(_QUIET)


def _quieten(network: NlclNetwork) -> None:
    """Let each block add little, and the last convolution begin without an offset."""
    for block in network.blocks:
        assert isinstance(block, ResidualBlock)
        last = block.body[3]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        last.weight.mul_(_QUIET)
        last.bias.zero_()
    assert network.tail.bias is not None
    network.tail.bias.zero_()


def _convolved(config: NlclConfig) -> list[nn.Module]:
    width = config.width
    convolution = nn.Conv2d(width, width, 3, padding=1)
    return [convolution, ImageNorm(width, frozen=config.frozen_statistics)]
