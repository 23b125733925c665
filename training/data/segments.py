"""Seconds of video kept as they are decoded: real rain before a static camera, and rain filmed on black."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from vderain.errors import SourceError
from vderain.training.data.cache import folder_of
from vderain.training.data.images import frames_by_opencv
from vderain.training.rain.plates import black_of
from vderain.training.rain.static_scene import StaticScene, luma_of, static_scene
from vderain.training.rain.streaks import Image

Kind = Literal["scene", "plate"]

_FRAMES = 120  # of a segment: four seconds show hardly any rain in their median
_FEWEST = 24
_LINES = 540
_FOR_MEDIAN = 2  # one of so many frames takes part in it: that is as dry, and takes half the time


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Consecutive frames (T, H, W, 3) uint8 RGB, of a plate (T, H, W); what the camera sees without the rain."""

    frames: Image
    scene: StaticScene | None = None
    black: Image | None = None


class SegmentStore:
    """The segments of clips, decoded once into a temporary folder, which goes with the store."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, Kind], list[Segment]] = {}
        self._folder: Path | None = None
        self._count = 0
        self._lock = threading.Lock()

    def segments(self, clip: Path, kind: Kind) -> list[Segment]:
        """Those of a clip. Raises SourceError where it cannot be decoded, or is too short."""
        with self._lock:
            if (clip, kind) not in self._known:
                self._known[clip, kind] = [
                    self._kept(frames, kind) for frames in _read(clip, grey=kind == "plate")
                ]
            return self._known[clip, kind]

    def _kept(self, frames: list[Image], kind: Kind) -> Segment:
        path = self._make_folder() / f"{self._count}.npy"
        self._count += 1
        try:
            np.save(path, np.stack(frames))
        except OSError as error:
            raise SourceError(
                f"{path}: cannot be written: {error.strerror}; free some room, or set TMPDIR"
            ) from error
        kept = np.load(path, mmap_mode="r")
        if kind == "plate":
            return Segment(kept, black=black_of(kept))
        return Segment(kept, scene=static_scene(kept[::_FOR_MEDIAN]))

    def _make_folder(self) -> Path:
        if self._folder is None:
            self._folder = folder_of(self, "vderain-segments-")
        return self._folder


def _read(clip: Path, *, grey: bool) -> Iterator[list[Image]]:
    """The first seconds of a clip and, where they do not overlap, the last ones."""
    with closing(frames_by_opencv(clip)) as stream:
        prepared = (_prepared(frame, grey=grey) for frame in stream)
        first = list(islice(prepared, _FRAMES))
        last = deque(prepared, _FRAMES)
    if len(first) < _FEWEST:
        raise SourceError(f"{clip}: has {len(first)} frames; at least {_FEWEST} are needed")
    yield first
    if len(last) == _FRAMES:
        yield list(last)


def _prepared(frame: Image, *, grey: bool) -> Image:
    height, width = frame.shape[:2]
    scale = _LINES / min(height, width)
    if scale < 1:
        size = (round(width * scale), round(height * scale))
        frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
    return luma_of(frame) if grey else frame
