"""What an engine compiles: a folded network between the planes of one format, in one precision."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from vderain.frames import PlaneFormat
from vderain.network.base import ChangeNetwork
from vderain.network.inference.fold import ContextForm, fold
from vderain.network.inference.tiled import TiledNetwork
from vderain.network.planes import PackedNetwork, PlanesNetwork, packable
from vderain.network.semi_drdnet import SemiDRDNet

# Above this many bits, samples and changes are brought to it in float32 before half precision sees them:
# float16 ends at 65504.
HALF_BIT_DEPTH = 12


def planes_graph(
    network: ChangeNetwork, fmt: PlaneFormat, *, context: ContextForm = "sum", rows: int = 0
) -> nn.Module:
    """A folded copy of ``network`` between planes: packed where its outer convolutions can absorb the format.

    Takes the planes (1, 1, H, W) of a ``Clip`` in any real dtype and gives P changes in sample steps, as
    ``PlanesNetwork`` does. With ``rows`` a SemiDRDNet goes block by block over stripes of so many rows.
    """
    config = network.config
    if isinstance(network, SemiDRDNet) and not rows and packable(network.config.unshuffle, fmt):
        return PackedNetwork(network, fmt, context).eval()
    folded: ChangeNetwork = fold(network, context)
    if isinstance(folded, SemiDRDNet) and rows:
        folded = TiledNetwork(folded, rows)
    return PlanesNetwork(folded, fmt, multiple=config.multiple).eval()


def device_graph(
    network: ChangeNetwork,
    fmt: PlaneFormat,
    dtype: torch.dtype,
    *,
    context: ContextForm = "sum",
    rows: int = 0,
) -> nn.Module:
    """``planes_graph`` computing in ``dtype``; its result is float16, or float32 where it computes in another.

    Bit depths that float16 cannot hold are scaled in float32 on both sides.
    """
    inner = replace(fmt, bit_depth=min(fmt.bit_depth, HALF_BIT_DEPTH))
    steps = fmt.peak / inner.peak if fmt.full_range else float(1 << fmt.bit_depth - inner.bit_depth)
    graph = planes_graph(network, inner, context=context, rows=rows)
    return _CastResult(graph.to(dtype), dtype, steps)


class _CastResult(nn.Module):
    """A graph whose samples are counted in ``steps`` of the caller's, and whose result has one dtype."""

    def __init__(self, graph: nn.Module, dtype: torch.dtype, steps: float) -> None:
        super().__init__()
        self.inner = graph  # not "graph": an exported module has one of its own
        self.steps = steps
        scaled = steps != 1.0  # such changes overflow float16
        self.dtype = torch.float16 if dtype == torch.float16 and not scaled else torch.float32

    def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
        """The planes of a clip -> P changes."""
        if self.steps == 1.0:
            return tuple(change.to(self.dtype) for change in self.inner(*planes))
        scaled = [plane.to(torch.float32) / self.steps for plane in planes]
        return tuple(change.to(torch.float32) * self.steps for change in self.inner(*scaled))
