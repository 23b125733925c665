"""About how much memory OpenVINO takes for a SemiDRDNet, by its shape alone; torch-free.

Engines that have torch count it: see ``allocated``.
"""

from __future__ import annotations

from vderain.network.config import NetworkConfig

# Images of features that are alive at once, in units of a branch's widest layer: what a block reads, what
# it writes, the long skip, and the layers in between.
_ALIVE = 6.0


def working_bytes(config: NetworkConfig, height: int, width: int, itemsize: int) -> int:
    """About what a branch keeps alive for one image."""
    channels = max(config.rain_width, config.detail_width)
    return int(_ALIVE * channels * height * width * itemsize / config.unshuffle**2)
