"""About how much memory a SemiDRDNet takes while it computes, by its shape alone; torch-free."""

from __future__ import annotations

from vderain.network.config import NetworkConfig

# Pictures of features that are alive at once, in units of a branch's widest layer: what a block reads, what
# it writes and the long skip; and without stripes the layers in between as well.
_ALIVE_TILED, _ALIVE_WHOLE = 3.25, 6.0


def working_bytes(config: NetworkConfig, height: int, width: int, itemsize: int) -> int:
    """About what a branch keeps alive for one picture without stripes."""
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


def reach_px(config: NetworkConfig) -> int:
    """How many pixels away a SemiDRDNet looks, its gates left out; a multiple of ``config.multiple``."""
    rain = 3  # head, body, tail
    for scale, blocks in enumerate((config.rain_blocks, *config.coarse_blocks)):
        rain += 2**scale * 2 * blocks
    detail = 3 + 2 * max(config.dilations) * config.detail_blocks
    reach = max(rain, detail) * config.unshuffle
    # Where a place lies in its unshuffled, or coarser, cell adds up to one cell.
    return (-(-reach // config.multiple) + 1) * config.multiple


def means_length(config: NetworkConfig) -> int:
    """How many numbers the means of all gates are, with their flag (``vderain.network.inference.means``)."""
    if not config.squeeze_ratio:
        return 1
    counts = (config.rain_blocks, *config.coarse_blocks)
    total = sum(blocks * config.rain_width * int(2**scale) for scale, blocks in enumerate(counts))
    return 1 + total


def _features_bytes(config: NetworkConfig, height: int, width: int, itemsize: int) -> float:
    channels = max(config.rain_width, config.detail_width)
    return float(channels * height * width * itemsize / config.unshuffle**2)
