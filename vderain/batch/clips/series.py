"""Recordings that a camera wrote as several clips, recognised by common patterns of names and sorted."""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from vderain.batch.clips.find import Found

# Dashcams name clips by date and time, with a number and the camera's letter or word around them:
# 20240115_123000_NF.mp4, 2024_0115_123000_001F.MP4, 2024-01-15_12-30-00-front.mp4, MOVI0012.avi.
_TIME = re.compile(
    r"(?P<date>(?:19|20)?\d{2}[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01]))"
    r"[-_.T ]*(?P<time>(?:[01]\d|2[0-3])[-_.]?[0-5]\d[-_.]?[0-5]\d)"
)
_NUMBER = re.compile(r"\d+")
_CAMERA = re.compile(
    r"(?:^|[^a-z])(?P<word>front|rear|back|inside|interior|cabin|left|right|left_repeater|right_repeater"
    r"|[npemi]?[frib])(?![a-z])",
    re.IGNORECASE,
)
_WORDS = {
    "f": "front", "front": "front", "r": "rear", "rear": "rear", "b": "rear", "back": "rear",
    "i": "inside", "inside": "inside", "interior": "inside", "cabin": "inside",
}  # fmt: skip
_CHAPTER = re.compile(r"(?P<kind>G[HXL])(?P<chapter>\d{2})(?P<number>\d{4})$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ClipName:
    """The parts of a clip's name.

    Attributes:
        camera: "front", "rear", "inside", another word of the name, or "".
        recording: the part that the names of one recording share.
        moment: sorts the clips of a recording, compared as text; year to second where it ``is_dated``.

    """

    camera: str
    recording: str
    moment: str
    is_dated: bool = False


def read_name(path: PurePath) -> ClipName | None:
    """The parts of a clip's name; None where the name matches no pattern."""
    stem = path.stem
    chapter = _CHAPTER.fullmatch(stem)
    if chapter is not None:  # GoPro: the chapter comes before the recording's number
        recording = f"{chapter['kind'].upper()}{chapter['number']}"
        return ClipName("", recording, chapter["chapter"])
    moment = _TIME.search(stem)
    if moment is not None:
        rest = stem[: moment.start()] + "|" + stem[moment.end() :]
        digits = re.sub(r"\D", "", moment["date"] + moment["time"])
        camera = _camera(rest)
        if len(digits) == 12:
            digits = "20" + digits
        return ClipName(camera, _NUMBER.sub("#", rest), digits, is_dated=True)
    numbers = list(_NUMBER.finditer(stem))
    if len(numbers) == 1 and len(numbers[0][0]) >= 3:
        rest = _NUMBER.sub("#", stem)
        return ClipName(_camera(rest), rest, numbers[0][0].rjust(14, "0"))
    return None


def _camera(rest: str) -> str:
    found = list(_CAMERA.finditer(re.sub(r"\d", " ", rest)))
    if not found:
        return ""
    word = found[-1]["word"].lower()
    # BlackVue writes the mode before the camera: NF is normal front, ER an event at the rear.
    return _WORDS.get(word) or (_WORDS.get(word[1:], word) if len(word) == 2 else word)


def series_of(clips: Iterable[Found]) -> list[list[Found]]:
    """Clips grouped by recording, camera and folder; each group is sorted.

    A clip whose name matches no pattern is a group of its own. Groups are in the order of their first clip in
    ``clips``. Clips of a group may be hours apart: only their lengths show whether they touch.
    """
    groups: dict[object, list[tuple[str, Found]]] = defaultdict(list)
    for clip in clips:
        name = read_name(clip.output)
        if name is None:
            groups[clip.output].append(("", clip))
        else:
            key = (clip.output.parent, name.camera, name.recording, clip.output.suffix.lower())
            groups[key].append((name.moment, clip))
    return [
        [clip for _, clip in sorted(group, key=lambda pair: (pair[0], str(pair[1].output)))]
        for group in groups.values()
    ]


def ordered(clips: Iterable[Found], order: str) -> list[Found]:
    """Clips by "name", or by the time of recording, "oldest" or "newest" first.

    Clips of one recording stay together in their order, whatever their numbers are, and so do clips of several
    cameras from the same moment. The time is that of the name, else that of the file's last change, which
    copying may have overwritten; chapters have the time of the first one.
    """
    if order == "name":
        return sorted(clips, key=_by_name)
    moments: dict[str, list[Found]] = defaultdict(list)
    for begun, clip in _timed(clips):
        moments[begun].append(clip)
    return [
        clip
        for begun in sorted(moments, reverse=order == "newest")
        for clip in sorted(moments[begun], key=_by_name)
    ]


def _by_name(clip: Found) -> tuple[bytes, bytes, bytes]:
    name = read_name(clip.output)
    shown = clip.output.stem
    if name is not None:
        shown = f"{name.moment}{name.camera}" if name.is_dated else f"{name.recording}{name.moment}"
    return os.fsencode(clip.output.parent), os.fsencode(shown), os.fsencode(clip.output.name)


def _timed(clips: Iterable[Found]) -> Iterator[tuple[str, Found]]:
    """Clips, each with the moment that it is sorted by."""
    for series in series_of(clips):
        name = read_name(series[0].output)
        has_chapters = name is not None and not name.is_dated and len(name.moment) <= 2
        for clip in series:
            yield _begun(series[0] if has_chapters else clip), clip


def _begun(clip: Found) -> str:
    name = read_name(clip.output)
    if name is not None and name.is_dated:
        return name.moment
    return time.strftime("%Y%m%d%H%M%S", time.localtime(clip.mtime_ns / 1e9))
