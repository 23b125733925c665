"""What an output mirrors of its input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from vderain.frames import PassedPacket
from vderain.media.carry.leftovers import Leftovers, read_leftovers
from vderain.media.carry.trial import SAMPLES, first_packets
from vderain.media.frames.color import Mastering
from vderain.media.io.open import can_reopen
from vderain.media.io.urls import is_url


@dataclass(frozen=True, slots=True)
class Template:
    """What the sink mirrors: the open input container, and what only a decoded picture tells.

    ``chapters`` are cut to the run's span, which begins ``start_s`` after the beginning of the input,
    where frames have the time ``zero_s``; the first frame has ``first_s``, and the video lost
    ``cut_s`` at its beginning. ``display_matrix`` holds FFmpeg's nine integers, or is None where nothing
    turns the picture. ``samples`` are some packets of the tracks beside the video, by their index, as far
    as they are known; they may be copied only. ``timecode`` is that of the first frame where it stands inside
    the video stream. ``leftovers`` are what a local MP4 or MOV file holds besides, ``views`` the
    names of the first frame's side data. ``left_out`` are tracks that do not go with the output, by their index.
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
    left_out: frozenset[int] = frozenset()


def leftovers_of(path: str, container: Any) -> Leftovers | None:
    """What FFmpeg does not hand out of a local MP4 or MOV file."""
    is_movie = container.format.name.startswith("mov,")
    is_local = not is_url(path) and os.path.isfile(path)
    return read_leftovers(path) if is_movie and is_local else None


def samples_of(
    path: str, container: Any, video_index: int, known: Iterable[PassedPacket]
) -> dict[int, tuple[Any, ...]]:
    """Some packets of every track, of what is known already or else of the file's beginning."""
    found: dict[int, list[Any]] = {}
    for item in known:
        found.setdefault(item.stream_index, []).append(item.payload)
    others = {stream.index for stream in container.streams} - {video_index}
    missing = others - set(found)
    if missing and not is_url(path) and can_reopen(path):
        found.update(first_packets(path, missing))
    return {index: tuple(packets[:SAMPLES]) for index, packets in found.items()}
