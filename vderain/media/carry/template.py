"""What an output mirrors of its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from vderain.media.carry.leftovers import Leftovers
from vderain.media.frames.color import Mastering


@dataclass(frozen=True, slots=True)
class Template:
    """What the sink mirrors: the open input container, and what only a decoded picture tells.

    ``chapters`` are cut to the run's span, which begins ``start_s`` after the beginning of the input,
    where frames have the time ``zero_s``; the first frame has ``first_s``, and the video lost
    ``cut_s`` at its beginning. ``display_matrix`` holds FFmpeg's nine integers, or is None where nothing
    turns the picture. ``samples`` are some packets of the tracks beside the video, by their index, as far
    as they are known; they may be copied only. ``timecode`` is that of the first frame where it stands inside
    the video stream. ``leftovers`` are what a local MP4 or MOV file holds besides, ``views`` the
    names of the first frame's side data.
    """

    container: Any
    video_index: int
    chapters: tuple[Any, ...]
    display_matrix: tuple[int, ...] | None
    mastering: Mastering
    start_s: Fraction = Fraction(0)
    zero_s: Fraction = Fraction(0)
    first_s: Fraction = Fraction(0)
    cut_s: Fraction = Fraction(0)
    samples: Mapping[int, tuple[Any, ...]] = field(default_factory=dict)
    timecode: str | None = None
    leftovers: Leftovers | None = None
    views: frozenset[str] = frozenset()
