"""Semi-DRDNet: a rain residual branch and a detail repair branch over the same rainy image.

After "Detail-recovery Image Deraining via Dual Sample-augmented Contrastive Learning" (arXiv 2204.02772)
and its base network DRD-Net (arXiv 1908.10267). The ``paper`` configuration is the published network;
the pixel-unshuffle, the separate branch widths, several frames and every other tier are ours.

Shape legend: N images, T frames, C channels, H x W pixels, s the unshuffle factor.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vderain.network.base import ChangeNetwork
from vderain.network.config import NetworkConfig

# Before the sigmoid: fusion weights of a twentieth and an eighth of a neighbour, to learn from.
_CLOSED_BEFORE, _CLOSED_AFTER = -3.0, -2.0
_OPEN = 3.0  # nineteen twentieths of the median
_QUIET = 0.05  # of a random tail's size: a residual that leaves the median nearly alone, and learns
_STEEPNESS = 16.0  # a difference of a sixteenth of the range weighs as much as a feature of 1


def conv3x3(inputs: int, outputs: int, dilation: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)


def norm(width: int, config: NetworkConfig) -> list[nn.Module]:
    """The batch normalisation after a convolution, or nothing."""
    return [nn.BatchNorm2d(width)] if config.normalised else []


class Fusion(nn.Module):
    """Fuses the frame with its neighbours' luma, pixel by pixel, before the branches and after them (ours).

    A streak hides a place in one frame only. A fusion weight for each neighbour and pixel says how much of the
    neighbour is used. Before the branches, the weight depends on the differences at the pixel alone, sorted by
    brightness: a soft median, by which the branches see a nearly dry image. After them, it also depends on features.

    ``differences`` are the neighbours' luma minus the frame's, unshuffled, (N, (T - 1) s s, H / s, W / s), those
    of the darkest neighbour first. The fused change is (N, s s, H / s, W / s). Sums over neighbours are
    written as convolutions, since compilers keep those in the layout of the others.
    """

    total: Tensor
    median: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.neighbours = config.frames - 1
        self.steepness = _STEEPNESS
        area = config.unshuffle**2
        gates = self.neighbours * area
        each = torch.eye(area)[:, None].expand(-1, self.neighbours, -1)
        median = torch.zeros(self.neighbours, 1)
        median[self.neighbours // 2 - 1 : self.neighbours // 2 + 1] = 0.5
        for name, weights in (("total", each), ("median", each * median)):
            kernel = weights.reshape(area, gates, 1, 1).contiguous()
            self.register_buffer(name, kernel, persistent=False)
        self.before = nn.Conv2d(gates, gates, 1)
        self.after = nn.Conv2d(gates, gates, 1, bias=False)
        self.features = conv3x3(config.rain_width, gates)
        for conv in (self.before, self.after, self.features):
            nn.init.zeros_(conv.weight)
        nn.init.constant_(self.before.bias, _CLOSED_BEFORE)  # type: ignore[arg-type]  # has a bias
        nn.init.constant_(self.features.bias, _CLOSED_AFTER)  # type: ignore[arg-type]  # likewise

    def before_branches(self, x: Tensor, differences: Tensor) -> tuple[Tensor, Tensor]:
        """What the branches see of the frame (N, C, H / s, W / s), and the change fused so far.

        Next to the frame the branches see that change, and the median neighbour's difference.
        """
        fused = self._through(differences, self.before(self.steepness * differences))
        return torch.cat([x, fused, F.conv2d(differences, self.median)], 1), fused

    def after_branches(self, differences: Tensor, fused: Tensor, logits: Tensor) -> Tensor:
        """The whole fused change, ``fused`` included; ``logits`` are ``self.features`` of the rain branch's."""
        logits = logits + self.after(self.steepness * differences)
        left = differences - F.conv_transpose2d(fused, self.total)
        return fused + self._through(left, logits)

    def _through(self, differences: Tensor, logits: Tensor) -> Tensor:
        return F.conv2d(torch.sigmoid(logits) * differences, self.total)


class MedianFusion(nn.Module):
    """Begins with the temporal median, and decides pixel by pixel where to trust it (ours).

    Where neighbours can be aligned, their robust statistics are nearly the dry scene. So the frame is moved
    to the median of the clip, times a weight, and from there to the darkest sample that the network sees,
    times another. Both weights come from the features of the rain branch. With zero weights the result is
    nearly the median; where no neighbour is valid, all samples are the frame's own and nothing is moved.

    ``differences`` are the neighbours' luma minus the frame's, unshuffled, (N, K s s, H / s, W / s), those of
    the darkest samples first. The fused change is (N, s s, H / s, W / s).
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.steepness = _STEEPNESS
        self.area = config.unshuffle**2
        self.middle = config.seen_ranks.index(config.middle_ranks[0])
        self.after = nn.Conv2d(2 * self.area, 2 * self.area, 1, bias=False)
        self.features = conv3x3(config.rain_width, 2 * self.area)
        nn.init.zeros_(self.after.weight)
        nn.init.zeros_(self.features.weight)
        bias = torch.tensor([_OPEN, _CLOSED_BEFORE]).repeat_interleave(self.area)
        self.features.bias = nn.Parameter(bias)

    def trust_more(self, logit: float) -> None:
        """Use more of the median everywhere: ``logit`` is added to its weight before the sigmoid."""
        assert self.features.bias is not None
        with torch.no_grad():
            self.features.bias[: self.area] += logit

    def before_branches(self, x: Tensor, differences: Tensor) -> tuple[Tensor, Tensor]:
        """What the branches see of the frame (N, C, H / s, W / s), and the moves: to the median, the darkest."""
        first = self.middle * self.area
        darker = differences[:, first : first + self.area]
        brighter = differences[:, first + self.area : first + 2 * self.area]
        median = darker.maximum(
            brighter.clamp(max=0.0)
        )  # the frame, 0, is one of the clip's samples
        moves = torch.cat([median, differences[:, : self.area].clamp(max=0.0)], 1)
        return torch.cat([x, median, differences], 1), moves

    def after_branches(self, differences: Tensor, moves: Tensor, logits: Tensor) -> Tensor:
        """The whole fused change; ``logits`` are ``self.features`` of the rain branch's features."""
        weights = torch.sigmoid(logits + self.after(self.steepness * moves))
        median, darkest = moves[:, : self.area], moves[:, self.area :]
        fused = weights[:, : self.area] * median
        return fused + weights[:, self.area :] * (darkest - fused)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from the whole image's channel means."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        squeezed = max(1, width // ratio)
        self.squeeze = nn.Conv2d(width, squeezed, 1, bias=False)
        self.excite = nn.Conv2d(squeezed, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> same."""
        # In float32: half precision does not hold sums over an image.
        return x * self.scale(x.float().mean((2, 3), keepdim=True).to(x.dtype))

    def scale(self, means: Tensor) -> Tensor:
        """Channel means of an image -> what its channels are multiplied by, (N, C, 1, 1)."""
        return torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))


class DilatedContext(nn.Module):
    """Parallel dilated convolutions over one input, joined by a 1x1 convolution; linear throughout."""

    def __init__(self, width: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(conv3x3(width, width, dilation) for dilation in dilations)
        self.join = nn.Conv2d(width * len(dilations), width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> same."""
        joined: Tensor = self.join(torch.cat([conv(x) for conv in self.dilated], 1))
        return joined


class RainBlock(nn.Module):
    """Residual block of the rain branch, gated by squeeze-and-excitation."""

    def __init__(self, width: int, config: NetworkConfig) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv3x3(width, width),
            *norm(width, config),
            nn.PReLU(width),
            conv3x3(width, width),
            *norm(width, config),
        )
        ratio = config.squeeze_ratio
        self.gate = SqueezeExcitation(width, ratio) if ratio else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> same."""
        gated: Tensor = self.gate(self.body(x))
        return x + gated


class CoarseStage(nn.Module):
    """Blocks at half the resolution and twice the width, added to what came in (ours)."""

    def __init__(self, width: int, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.down = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.blocks = nn.Sequential(*blocks)
        self.up = nn.Conv2d(2 * width, 4 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), H and W even -> same."""
        coarse: Tensor = self.up(self.blocks(self.down(x)))
        return x + F.pixel_shuffle(coarse, 2)


def rain_blocks(width: int, config: NetworkConfig, counts: tuple[int, ...]) -> list[nn.Module]:
    """``counts[0]`` rain blocks, and the coarser scales of ``counts[1:]`` in their middle."""
    blocks: list[nn.Module] = [RainBlock(width, config) for _ in range(counts[0])]
    if len(counts) > 1:
        coarser = CoarseStage(width, rain_blocks(2 * width, config, counts[1:]))
        blocks.insert((counts[0] + 1) // 2, coarser)
    return blocks


class DetailBlock(nn.Module):
    """Residual block of the detail branch: structure detail context aggregation (SDCAB)."""

    def __init__(self, width: int, config: NetworkConfig) -> None:
        super().__init__()
        self.body = nn.Sequential(
            DilatedContext(width, config.dilations),
            *norm(width, config),
            nn.PReLU(width),
            DilatedContext(width, config.dilations),
            *norm(width, config),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> same."""
        added: Tensor = self.body(x)
        return x + added


class Branch(nn.Module):
    """Head, residual blocks with a long skip, tail."""

    def __init__(
        self, inputs: int, width: int, outputs: int, blocks: list[nn.Module], config: NetworkConfig
    ) -> None:
        super().__init__()
        self.head = nn.Sequential(conv3x3(inputs, width), nn.PReLU(width))
        self.blocks = nn.Sequential(*blocks)
        self.body = nn.Sequential(conv3x3(width, width), *norm(width, config))
        self.tail = conv3x3(width, outputs)

    def features(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> what the tail sees, (N, width, H, W)."""
        head: Tensor = self.head(x)
        body: Tensor = self.body(self.blocks(head))
        return head + body

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        tail: Tensor = self.tail(self.features(x))
        return tail


class SemiDRDNet(ChangeNetwork):
    """Estimates rain streaks R and detail D of a rainy image; the repaired image is rainy - R + D.

    Input: (N, 3 + K, H, W) float: RGB in [0, 1], and how much brighter the luma of the aligned neighbours is, in
    order of brightness, K = ``len(config.seen_ranks)`` of them; H and W multiples of ``config.multiple``.
    Nothing is clamped: training sees the raw prediction.

    The fused change (``fusion``) is part of R, and 0 where all frames are equal.
    """

    config: NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        inputs = config.seen_channels * config.unshuffle**2
        outputs = 3 * config.unshuffle**2
        counts = (config.rain_blocks, *config.coarse_blocks)
        rain = rain_blocks(config.rain_width, config, counts)
        detail: list[nn.Module] = [
            DetailBlock(config.detail_width, config) for _ in range(config.detail_blocks)
        ]
        self.rain = Branch(inputs, config.rain_width, outputs, rain, config)
        self.detail = Branch(inputs, config.detail_width, outputs, detail, config)
        self.fusion: Fusion | MedianFusion | None = None
        if config.frames > 1 and config.fusion == "median":
            self.fusion = MedianFusion(config)
            for branch in (self.rain, self.detail):
                branch.tail.weight.data.mul_(_QUIET)
                nn.init.zeros_(branch.tail.bias)  # type: ignore[arg-type]  # has a bias
        elif config.frames > 1:
            self.fusion = Fusion(config)

    def forward(self, rainy: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3 + T - 1, H, W) -> streaks R and detail D, each (N, 3, H, W)."""
        s, fusion = self.config.unshuffle, self.fusion
        x, differences = self.unshuffled(rainy)
        if fusion is not None:
            x, fused = fusion.before_branches(x, differences)
        features = self.rain.features(x)
        streaks, detail = self.rain.tail(features), self.detail(x)
        if s > 1:
            streaks, detail = F.pixel_shuffle(streaks, s), F.pixel_shuffle(detail, s)
        if fusion is not None:
            fused = fusion.after_branches(differences, fused, fusion.features(features))
            streaks = streaks - (F.pixel_shuffle(fused, s) if s > 1 else fused)
        return streaks, detail

    def unshuffled(self, rainy: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3 + T - 1, H, W) -> the frame's channels (N, 3 s s, H / s, W / s), and its neighbours'."""
        s = self.config.unshuffle
        x = F.pixel_unshuffle(rainy, s) if s > 1 else rainy
        return x[:, : 3 * s * s], x[:, 3 * s * s :]

    def change(self, rainy: Tensor) -> Tensor:
        """(N, 3 + T - 1, H, W) -> repaired - rainy = D - R, (N, 3, H, W)."""
        streaks, detail = self.forward(rainy)
        return detail - streaks
