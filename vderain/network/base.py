"""What engines, weights files and training know of a network, whichever it is."""

from __future__ import annotations

from torch import Tensor, nn

from vderain.network.config import AnyConfig


class ChangeNetwork(nn.Module):
    """A network that is made from its ``config`` alone and predicts what rain removal changes."""

    config: AnyConfig

    def change(self, rainy: Tensor) -> Tensor:
        """The change of a frame, unclamped.

        ``rainy`` is (N, 3 + T - 1, H, W) float: RGB in [0, 1], and how much brighter the luma of each
        neighbour is, as a ``Clip`` orders them; H and W multiples of ``config.multiple``. The result is
        (N, 3, H, W) in the same units.
        """
        raise NotImplementedError
