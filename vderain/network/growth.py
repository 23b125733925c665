"""Larger networks that begin where a smaller one ended (ours): their first predictions are the smaller one's.

After Net2Net (Chen et al., arXiv 1511.05641): what is new gets random weights, and no influence yet: its
outgoing weights begin at zero.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from vderain.network.config import NetworkConfig
from vderain.network.semi_drdnet import (
    Branch,
    CoarseStage,
    DetailBlock,
    DilatedContext,
    RainBlock,
    SemiDRDNet,
)


def grown(network: SemiDRDNet, wanted: NetworkConfig) -> SemiDRDNet:
    """A network with the shape ``wanted``, with more channels or blocks, that predicts as ``network`` does.

    Widths may grow, and the blocks of every scale. Raises ValueError where something else differs, where
    something shrinks, and for networks with batch normalisation.
    """
    have = network.config
    same = replace(
        have,
        rain_width=wanted.rain_width,
        rain_blocks=wanted.rain_blocks,
        coarse_blocks=wanted.coarse_blocks,
        detail_width=wanted.detail_width,
        detail_blocks=wanted.detail_blocks,
    )
    if same != wanted or len(have.coarse_blocks) != len(wanted.coarse_blocks):
        raise ValueError("only widths and the number of blocks can grow")
    if have.normalised:
        raise ValueError("a network with batch normalisation cannot grow; absorb it first")
    sizes = zip(
        (have.rain_width, have.rain_blocks, *have.coarse_blocks, have.detail_width, have.detail_blocks),
        (wanted.rain_width, wanted.rain_blocks, *wanted.coarse_blocks, wanted.detail_width, wanted.detail_blocks),
        strict=True,
    )  # fmt: skip
    if any(small > large for small, large in sizes):
        raise ValueError("widths and the number of blocks cannot shrink")
    larger = SemiDRDNet(wanted)
    with torch.no_grad():
        _grow_branch(network.rain, larger.rain)
        _grow_branch(network.detail, larger.detail)
        if network.fusion is not None and larger.fusion is not None:
            for small, large in _pairs(network.fusion, larger.fusion):
                _copy(small, large)
    return larger


def _grow_branch(small: Branch, large: Branch) -> None:
    for before, after in _pairs(small.head, large.head):
        _copy(before, after)
    _grow_blocks(list(small.blocks), list(large.blocks))
    for before, after in _pairs(small.body, large.body):
        _copy(before, after)
    _copy(small.tail, large.tail)


def _grow_blocks(small: list[nn.Module], large: list[nn.Module]) -> None:
    """Blocks in front of a coarser stage keep their places, those behind it count from the end."""
    stages = [index for index, block in enumerate(small) if isinstance(block, CoarseStage)]
    places = [index for index, block in enumerate(large) if isinstance(block, CoarseStage)]
    front = stages[0] if stages else len(small)
    chosen: dict[int, nn.Module] = dict(enumerate(small[:front]))
    if stages:
        chosen[places[0]] = small[front]
        behind = small[front + 1 :]
        chosen |= {len(large) - len(behind) + index: block for index, block in enumerate(behind)}
    for index, block in enumerate(large):
        if index not in chosen:
            _silence(block)
        elif isinstance(block, CoarseStage):
            stage = chosen[index]
            assert isinstance(stage, CoarseStage)
            _copy(stage.down, block.down)
            _grow_blocks(list(stage.blocks), list(block.blocks))
            _copy(stage.up, block.up)
        else:
            for before, after in _pairs(chosen[index], block):
                _copy(before, after)
            for before, after in _joins(chosen[index], block):
                _copy(before.join, after.join, len(before.dilated))


def _silence(block: nn.Module) -> None:
    """Let a residual block add nothing."""
    assert isinstance(block, RainBlock | DetailBlock)
    last = block.body[-1]
    conv = last.join if isinstance(last, DilatedContext) else last
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)


def _pairs(small: nn.Module, large: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """The layers with parameters of two modules of one kind, in order."""

    def layers(module: nn.Module) -> list[nn.Module]:
        return [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.PReLU)]

    return list(zip(layers(small), layers(large), strict=True))


def _joins(small: nn.Module, large: nn.Module) -> list[tuple[DilatedContext, DilatedContext]]:
    """The dilated contexts of two modules of one kind, in order."""

    def contexts(module: nn.Module) -> list[DilatedContext]:
        return [m for m in module.modules() if isinstance(m, DilatedContext)]

    return list(zip(contexts(small), contexts(large), strict=True))


def _copy(small: nn.Module, large: nn.Module, parts: int = 1) -> None:
    """Put a layer's weights into the first channels of a larger one, whose new inputs count nothing for them.

    ``parts`` is how many equal parts the input has, each of which grows: one for each dilation of a join.
    """
    if isinstance(small, nn.PReLU):
        assert isinstance(large, nn.PReLU)
        large.weight[: small.weight.shape[0]] = small.weight
        return
    assert isinstance(small, nn.Conv2d) and isinstance(large, nn.Conv2d)
    outputs = small.weight.shape[0]
    own, new = (_by_parts(layer.weight, parts) for layer in (small, large))
    new[:outputs] = 0
    new[:outputs, :, : own.shape[2]] = own
    large.weight.copy_(new.flatten(1, 2))
    if small.bias is not None and large.bias is not None:
        large.bias[:outputs] = small.bias


def _by_parts(weight: Tensor, parts: int) -> Tensor:
    """A copy of a kernel (outputs, inputs, h, w) as (outputs, parts, inputs / parts, h, w)."""
    outputs, inputs, *kernel = weight.shape
    return weight.detach().reshape(outputs, parts, inputs // parts, *kernel).clone()
