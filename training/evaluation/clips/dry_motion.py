"""Dry clips in which things move: what a method changes there is harm (ours)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vderain.metrics import CEILING_DB
from vderain.training.evaluation.clips.windows import Window, luma_of, scaled_frames
from vderain.training.rain.render import Image

_MOST = 90  # frames whose middle is scored
_AROUND = 12
_CHANGED = 8  # code values above which a pixel counts as changed

FORMULAS = {
    "dry motion": "luma of 24 frames in the middle of a dry clip's first 90, at most 540 lines: output against input."
    " PSNR is the mean over frames; changed is the share of pixels that differ by more than 8 code values.",
}


@dataclass(frozen=True, slots=True)
class DryScores:
    """How near a method's output stays to dry input.

    Attributes:
        psnr_db: of luma, mean over frames; a frame that is equal counts as 100 dB.
        worst_frame_db: of luma, of the frame that changed most.
        changed_share: of the pixels, those that differ by more than 8 code values.

    """

    psnr_db: float
    worst_frame_db: float
    changed_share: float

    @classmethod
    def over(cls, scores: Sequence[DryScores]) -> DryScores:
        """Of several frames."""
        return cls(
            float(np.mean([one.psnr_db for one in scores])),
            min(one.worst_frame_db for one in scores),
            float(np.mean([one.changed_share for one in scores])),
        )

    @classmethod
    def worst(cls, scores: Sequence[DryScores]) -> DryScores:
        """The worst figure of several clips, each for itself."""
        return cls(
            min(one.psnr_db for one in scores),
            min(one.worst_frame_db for one in scores),
            max(one.changed_share for one in scores),
        )


@dataclass(frozen=True, slots=True)
class DryMotionClip:
    """A clip's scores by method, over all scored frames and of each; ``places`` of these in the clip."""

    name: str
    places: tuple[int, ...]
    scores: Mapping[str, DryScores]
    by_frame: Mapping[str, tuple[DryScores, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class DryClip:
    """A dry clip, of which ``window`` is scored."""

    window: Window

    def scored(self, every: int = 1) -> range:
        """The frames of the window that are scored."""
        return range(0, len(self.window.frames), every)

    def score(
        self, results: Mapping[str, Mapping[int, Image]], frames: Sequence[int]
    ) -> DryMotionClip:
        """Score ``frames`` of the window: ``results`` by method, then by frame, (H, W, 3) uint8 RGB."""
        by_frame = {
            name: tuple(_score(self.window.frames[frame], found[frame]) for frame in frames)
            for name, found in results.items()
        }
        return DryMotionClip(
            self.window.name,
            tuple(self.window.first + frame for frame in frames),
            {name: DryScores.over(each) for name, each in by_frame.items()},
            by_frame,
        )


def read_dry_clip(path: Path) -> DryClip:
    """Decode the part of a clip that is scored. Raises SourceError where nothing can be read."""
    frames = list(scaled_frames(path, _MOST))
    first = max(0, len(frames) // 2 - _AROUND)
    return DryClip(Window(path, first, tuple(frames[first : first + 2 * _AROUND])))


def _score(image: Image, result: Image) -> DryScores:
    error = np.abs(luma_of(result).astype(np.int16) - luma_of(image))
    mean_square = float(np.mean(np.square(error, dtype=np.float64)))
    psnr_db = CEILING_DB
    if mean_square:
        psnr_db = min(CEILING_DB, float(10 * np.log10(255**2 / mean_square)))
    return DryScores(psnr_db, psnr_db, float((error > _CHANGED).mean()))
