"""A SemiDRDNet block by block and, within a block, in stripes: less memory, the same result (ours).

A squeeze-and-excitation gate sees the mean of the whole image, so tiles of the image would each see
another. Here every block is finished for the whole image before the next begins: its convolutions go
over stripes with as many rows more as they reach, and its gate takes the mean over all stripes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vderain.network.base import ChangeNetwork
from vderain.network.config import NetworkConfig
from vderain.network.inference.fold import DilatedSum, SparseTaps
from vderain.network.semi_drdnet import (
    Branch,
    CoarseStage,
    DetailBlock,
    DilatedContext,
    RainBlock,
    SemiDRDNet,
    SqueezeExcitation,
)


class TiledNetwork(ChangeNetwork):
    """Predicts as ``network`` does, with the working memory of ``rows`` rows instead of the image's.

    ``network`` may be folded. ``rows`` counts rows of features, after the pixel-unshuffle.
    """

    config: NetworkConfig

    def __init__(self, network: SemiDRDNet, rows: int) -> None:
        super().__init__()
        self.config = network.config
        self.network = network
        # Coarser scales halve the rows of a stripe, which must stay whole.
        finest = 2 ** len(network.config.coarse_blocks)
        self.rows = max(finest, rows // finest * finest)

    def change(self, rainy: Tensor) -> Tensor:
        """As the network's: (N, 3 + T - 1, H, W) -> (N, 3, H, W)."""
        network, rows, fusion = self.network, self.rows, self.network.fusion
        s = self.config.unshuffle
        x, differences = network.unshuffled(rainy)
        if fusion is not None:
            x, fused = fusion.before_branches(x, differences)
        change = _mapped(network.detail.tail, _features(network.detail, x, rows), rows)
        features = _features(network.rain, x, rows)
        change -= _mapped(network.rain.tail, features, rows)
        change = F.pixel_shuffle(change, s) if s > 1 else change
        if fusion is not None:
            logits = _mapped(fusion.features, features, rows)
            fused = fusion.after_branches(differences, fused, logits)
            change += F.pixel_shuffle(fused, s) if s > 1 else fused
        return change


def _features(branch: Branch, x: Tensor, rows: int) -> Tensor:
    """What a branch's tail sees."""
    head = _mapped(branch.head, x, rows)
    features = head
    for block in branch.blocks:
        features = _block(block, features, rows)
    for top, bottom, part in _stripes(branch.body, features, rows):
        head[:, :, top:bottom] += part
    return head


def _block(block: nn.Module, x: Tensor, rows: int) -> Tensor:
    """A block's result; ``x`` stays as it is."""
    if isinstance(block, RainBlock):
        return _rain_block(block, x, rows)
    if isinstance(block, DetailBlock):
        return _mapped(block.body, x, rows).add_(x)
    if isinstance(block, CoarseStage):
        return _coarse_stage(block, x, rows)
    raise TypeError(f"no stripes for {type(block).__name__}")


def _rain_block(block: RainBlock, x: Tensor, rows: int) -> Tensor:
    output = torch.empty_like(x)
    # Sums over an image would overflow float16.
    sums = torch.zeros(x.shape[:2], dtype=torch.float32, device=x.device)
    for top, bottom, part in _stripes(block.body, x, rows):
        output[:, :, top:bottom] = part
        sums += part.sum((2, 3), dtype=torch.float32)
    if isinstance(block.gate, SqueezeExcitation):
        means = (sums / (x.shape[2] * x.shape[3])).to(x.dtype)[:, :, None, None]
        output *= block.gate.scale(means)
    return output.add_(x)


def _coarse_stage(stage: CoarseStage, x: Tensor, rows: int) -> Tensor:
    coarse = _mapped(stage.down, x, rows, step=2)
    for block in stage.blocks:
        coarse = _block(block, coarse, max(1, rows // 2))
    output = torch.empty_like(x)
    for top in range(0, x.shape[2], rows):
        bottom = min(top + rows, x.shape[2])
        part = F.pixel_shuffle(stage.up(coarse[:, :, top // 2 : bottom // 2]), 2)
        torch.add(x[:, :, top:bottom], part, out=output[:, :, top:bottom])
    return output


def _mapped(module: nn.Module, x: Tensor, rows: int, step: int = 1) -> Tensor:
    """What ``module`` makes of ``x``, in stripes; ``step`` is its stride."""
    output: Tensor | None = None
    for top, bottom, part in _stripes(module, x, rows, step):
        if output is None:
            height = x.shape[2] // step
            output = part.new_empty((part.shape[0], part.shape[1], height, part.shape[3]))
        output[:, :, top:bottom] = part
    assert output is not None
    return output


def _stripes(
    module: nn.Module, x: Tensor, rows: int, step: int = 1
) -> Iterator[tuple[int, int, Tensor]]:
    """(first row, row behind the last, the module's result there), from the top down."""
    height = x.shape[2]
    halo = _reach(module) if step == 1 else 0
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(0, top - halo), min(height, bottom + halo)
        part = module(x[:, :, first:last])
        begin = (top - first) // step
        yield top // step, bottom // step, part[:, :, begin : begin + (bottom - top) // step]


def _reach(module: nn.Module) -> int:
    """How many rows away a module looks."""
    if isinstance(module, nn.Conv2d):
        return module.dilation[0] * (module.kernel_size[0] // 2)
    if isinstance(module, SparseTaps):
        return module.reach
    if isinstance(module, DilatedContext | DilatedSum):
        return max(_reach(convolution) for convolution in module.dilated)
    if isinstance(module, nn.Sequential):
        return sum(_reach(layer) for layer in module)
    return 0
