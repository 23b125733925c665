"""Distinguishes rainy from dry footage, and reads the dry footage of a user."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vderain.errors import SourceError
from vderain.training.data.folders import find_clips
from vderain.training.data.footage import read_footage, read_frames, read_lessons
from vderain.training.rain.streaks import Image
from vderain.training.rain.temporal import View

_log = logging.getLogger(__name__)

_LEAST_LIGHT = 0.15  # code values that rain adds on average, below which footage counts as dry
_BEYOND_NOISE = 3.0  # standard deviations of noise, below which a difference is ignored
_MORE_LIGHT = 2.0  # brightness gained against lost: motion does both, rain the first
_MOST_FRAMES = 60  # of dry footage, that are read

Derain = Callable[[Sequence[Image]], Sequence[Image]]  # consecutive frames -> these without rain


def read_dry(
    paths: Sequence[Path], derain: Derain, seed: int, on_note: Callable[[str], None]
) -> list[Image]:
    """Frames of dry footage; raises SourceError for clips that show rain, as far as vderain can see."""
    for path in paths:
        if not path.exists():
            raise SourceError(f"{path}: there is no such dry file or folder")
        for clip in [path] if path.is_file() else find_clips(path, tests=True):
            try:
                some = read_footage([clip], 6, seed)
            except SourceError:  # an image, or a clip too short or too still
                on_note(f"{clip}: whether it rains there cannot be seen; it counts as dry")
                continue
            if shows_rain([seen for seen, _ in read_lessons(some.learnt, derain)]):
                raise SourceError(f"{clip}: shows rain; dry footage must show none")
    return read_frames(paths, _MOST_FRAMES) if paths else []


def shows_rain(views: Sequence[View]) -> bool:
    """Whether frames are brighter, not darker, than their target: rain brightens, motion does both.

    Measured against the plain median: the targets are a little darker than dry frames where detail moves.
    """
    light, loss, excess = 0.0, 0.0, 0.0
    for seen in views:
        if not seen.valid.any():
            continue
        frame = seen.frame.astype(np.float32)
        difference = (frame - seen.target())[seen.valid]
        light += float(np.maximum(difference, 0).mean()) / len(views)
        loss += float(np.maximum(-difference, 0).mean()) / len(views)
        beyond = (frame - seen.plain)[seen.valid].mean(1)
        beyond[np.abs(beyond) < _BEYOND_NOISE * seen.noise] = 0
        excess += float(beyond.mean()) / len(views)
    _log.info(
        "rain adds %.3f code values, other changes remove %.3f; beyond noise it adds %.3f more than they remove",
        light,
        loss,
        excess,
    )
    return excess > _LEAST_LIGHT and light > _MORE_LIGHT * loss
