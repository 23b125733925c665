"""The properties of an input that an output keeps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from vderain.frames import PassedPacket
from vderain.media.carry.trial import SAMPLES, first_packets
from vderain.media.frames.color import Mastering
from vderain.media.io.open import can_reopen
from vderain.media.io.urls import is_url
from vderain.media.mp4.leftovers import Leftovers, read_leftovers


@dataclass(frozen=True, slots=True)
class Template:
    """The open input container, and properties of its first decoded image, for the sink.

    ``chapters`` are cut to the run's span, which begins ``start_s`` after the beginning of the input, where
    frames have the time ``zero_s``; the first frame has ``first_s``, and ``cut_s`` were cut off the video's
    beginning. ``display_matrix`` has FFmpeg's nine integers; None for images that are not turned.
    ``samples`` are some packets of each other track, by its index; they may be copied only. ``timecode`` is
    that of the first frame where it is inside the video stream. ``leftovers`` are boxes of a local MP4 or MOV
    file, ``views`` the names of the first frame's side data. ``left_out`` are indices of tracks that the
    output does not get. ``services`` are tags with the name of an MPEG-TS program, which PyAV does not show.
    ``gpu`` is the number of the GPU that the first image lies on; None for images in host memory.
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
    services: Mapping[str, str] = field(default_factory=dict)
    gpu: int | None = None


def leftovers_of(path: str, container: Any) -> Leftovers | None:
    """Boxes of a local MP4 or MOV file that FFmpeg does not read."""
    is_movie = container.format.name.startswith("mov,")
    is_local = not is_url(path) and os.path.isfile(path)
    return read_leftovers(path) if is_movie and is_local else None


def samples_of(
    path: str, container: Any, video_index: int, known: Iterable[PassedPacket]
) -> dict[int, tuple[Any, ...]]:
    """Some packets of every track, of those known already or from the file's beginning."""
    found: dict[int, list[Any]] = {}
    for item in known:
        found.setdefault(item.stream_index, []).append(item.payload)
    others = {stream.index for stream in container.streams} - {video_index}
    missing = others - set(found)
    if missing and not is_url(path) and can_reopen(path):
        found.update(first_packets(path, missing))
    return {index: tuple(packets[:SAMPLES]) for index, packets in found.items()}
