"""The timecode of a container: read, written, checked, and advanced where the beginning is cut off."""

from __future__ import annotations

import re
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

from vderain.frames import DEFAULT_RATE
from vderain.media.io.formats import portable_metadata
from vderain.media.io.open import open_container

_TIMECODE = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.,])(\d+)")
TIMECODES = ("mp4", "mov", "matroska", "webm")  # muxers that write a timecode
_DAY_S = 24 * 3600


def container_timecode(container: Any, video: Any) -> str | None:
    """The timecode of an open file's video; None where there is none that can be used.

    MP4 and MOV store it in a track, which FFmpeg shows as a tag of the video; elsewhere it is a tag.
    """
    tags = [video.metadata]
    if "mp4" not in container.format.name.split(","):
        tags.append(container.metadata)
    found = {key.lower(): value for some in tags for key, value in some.items()}
    match = _TIMECODE.fullmatch(found.get("timecode", "").strip())
    if match is None or (_drops(match) and video.average_rate and round(video.average_rate) % 30):
        return None
    return match[0]


def write_timecode(
    stream: Any, timecode: str, muxer: str, rate: Fraction | None
) -> tuple[str, str]:
    """Write a timecode from inside the video as that of the output's stream, at ``rate`` frames per second.

    Returns the note and the loss, of which one is "".
    """
    if muxer in TIMECODES and int(timecode[-2:]) < (rate or DEFAULT_RATE):
        stream.metadata["timecode"] = timecode
        return (
            f"timecode {timecode} inside the video stream was written as that of the container",
            "",
        )
    return "", f"timecode inside the video stream (first {timecode}): {muxer} cannot hold it"


def lost_timecode(source: Any, video: Any, muxer: str, *, made: Path | None, index: int) -> str:
    """The loss, or "", where a complete output does not have the timecode of its open source.

    ``made`` is the output, None for a pipe, which cannot be read; ``index`` is that of its video. Raises OSError
    and av.FFmpegError.
    """
    timecode = container_timecode(source, video)
    if timecode is None:
        return ""
    holds = muxer in TIMECODES
    if holds and made is not None:
        with closing(open_container(str(made))) as output:
            holds = container_timecode(output, output.streams[index]) is not None
    return "" if holds else f"timecode {timecode}: lost, {muxer} has none"


def _drops(match: re.Match[str]) -> bool:
    return match[4] != ":"


def tags_after_cut(
    metadata: dict[str, str], cut_s: Fraction, rate: Fraction | None
) -> dict[str, str]:
    """The tags of an output whose first ``cut_s`` seconds are cut off, at ``rate`` frames per second."""
    tags = portable_metadata(metadata)
    if cut_s and rate:
        for key in [key for key in tags if key.lower() == "timecode"]:
            tags[key] = later(tags[key], round(cut_s * rate), rate)
    return tags


def later(timecode: str, frames: int, rate: Fraction) -> str:
    """The timecode advanced by this many frames; other text is returned unchanged.

    After ``;`` and ``.`` numbers are dropped by SMPTE ST 12: two of 30, four of 60, at each minute except every
    tenth.
    """
    match = _TIMECODE.fullmatch(timecode.strip())
    if match is None:
        return timecode
    hours, minutes, seconds, number = (int(match[group]) for group in (1, 2, 3, 5))
    fps = round(rate)
    dropped = fps // 15 if _drops(match) and fps % 30 == 0 else 0
    all_minutes = 60 * hours + minutes
    count = (60 * all_minutes + seconds) * fps + number
    count -= dropped * (all_minutes - all_minutes // 10)
    day = _DAY_S * fps - dropped * (1440 - 144)
    count = (count + frames) % day
    if dropped:
        tens, rest = divmod(count, 600 * fps - 9 * dropped)
        count += 9 * dropped * tens
        count += dropped * max(0, (rest - dropped) // (60 * fps - dropped))
    total_s, number = divmod(count, fps)
    hours, minutes, seconds = total_s // 3600, total_s // 60 % 60, total_s % 60
    width = len(match[5])
    return f"{hours:02}:{minutes:02}:{seconds:02}{match[4]}{number:0{width}}"
