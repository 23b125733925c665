"""Ranges for eight-bit inference, measured on rendered rain: what ``vderain export`` puts on the card."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vderain.clips import Window
from vderain.errors import SourceError
from vderain.network.base import ChangeNetwork
from vderain.network.inference.quantize import calibrate
from vderain.training.data.cache import ImageCache
from vderain.training.data.sources import (
    SEGMENT_KINDS,
    Sample,
    Samples,
    clean_tables,
    load_sources,
)
from vderain.training.data.stacks import network_input, stacked_still, window_of
from vderain.training.rain.render import RAIN_KINDS, Image, render_kind

IMAGES, LARGEST_PX = 64, 320  # how many are looked at, and the side of the middle that is
_SEED = 6
_KINDS = tuple(kind for kind in RAIN_KINDS if kind != "mined")

_log = logging.getLogger(__name__)


def int8_scales(
    network: ChangeNetwork, tables: Mapping[str, Mapping[str, Any]], data: Path
) -> dict[str, tuple[float, float]]:
    """The range of each quantised convolution's input over images of a configuration's sources.

    Every kind of rain is rendered onto clean images in turn, and every seventh stays dry; pairs bring their
    own rain. A network of several frames sees a still image, over which the rain moves. Raises SourceError
    where a source cannot be read, or holds real rain alone.
    """
    still = {name: one for name, one in tables.items() if one.get("reader") not in SEGMENT_KINDS}
    if not still:
        raise SourceError(
            "int8 needs images to be measured on: name a folder of clean ones to calibrate with"
        )
    sources = load_sources(still, data, ImageCache(0))
    frames = network.config.frames
    window = window_of(network.config)
    clips = _clips(list(sources.values()), frames)
    return calibrate(network, (_stacked(clip, window) for clip in clips))


def clean_scales(network: ChangeNetwork, clean: Path) -> dict[str, tuple[float, float]]:
    """The same over the clean images and clips of one folder."""
    return int8_scales(network, clean_tables([clean]), Path())


def _clips(sources: Sequence[Samples], frames: int) -> Iterator[list[Image]]:
    rng = np.random.default_rng(_SEED)
    each = -(-IMAGES // len(sources))
    for samples in sources:
        for number, sample in enumerate(samples[:: max(1, len(samples) // each)][:each]):
            yield _rainy(sample, number, frames, rng)


def _rainy(sample: Sample, number: int, frames: int, rng: np.random.Generator) -> list[Image]:
    image = sample.rainy if sample.rainy is not None else sample.background
    assert image is not None
    still = [_middle(image)] * frames
    kind = number % (len(_KINDS) + 1)
    if sample.rainy is not None or kind == len(_KINDS):
        return still
    return render_kind(rng, still, _KINDS[kind])


def _middle(image: Image) -> Image:
    """At most ``LARGEST_PX`` a side, a multiple of 32, which every network takes."""
    height, width = (max(32, min(side, LARGEST_PX) // 32 * 32) for side in image.shape[:2])
    rows, columns = max(0, image.shape[0] - height) // 2, max(0, image.shape[1] - width) // 2
    part = image[rows : rows + height, columns : columns + width]
    missing = [(0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0)]
    return np.ascontiguousarray(np.pad(part, missing, mode="edge"))


def _stacked(frames: Sequence[Image], window: Window) -> Tensor:
    """Images as input of ``change``, (1, 3 + K, H, W)."""
    return torch.from_numpy(network_input(stacked_still(frames, window)))[None]
