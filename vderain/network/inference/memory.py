"""About how much memory a SemiDRDNet takes while it computes, by its shape alone; torch-free."""

from __future__ import annotations

from vderain.network.config import NetworkConfig

# Images of features that are alive at once, in units of a branch's widest layer: what a block reads, what
# it writes and the long skip; and without stripes the layers in between as well.
_ALIVE_TILED, _ALIVE_WHOLE = 3.25, 6.0


def working_bytes(config: NetworkConfig, height: int, width: int, itemsize: int) -> int:
    """About what a branch keeps alive for one image without stripes."""
    return int(_ALIVE_WHOLE * _features_bytes(config, height, width, itemsize))


def stripe_rows(
    config: NetworkConfig, height: int, width: int, itemsize: int, free_bytes: int
) -> int:
    """Rows of features of a stripe for which ``free_bytes`` suffice; 0 where none do."""
    whole = _features_bytes(config, height, width, itemsize)
    left = free_bytes - _ALIVE_TILED * whole
    rows = height // config.unshuffle
    fitting = int(left / (_ALIVE_WHOLE * whole) * rows)
    return 0 if fitting < 1 else min(rows, fitting)


def _features_bytes(config: NetworkConfig, height: int, width: int, itemsize: int) -> float:
    channels = max(config.rain_width, config.detail_width)
    return float(channels * height * width * itemsize / config.unshuffle**2)
