"""Real rain before a static camera, scored against the clip's temporal median where the scene is calm (ours).

The median of many frames of a static camera shows hardly any rain. Where the frames differ little from it
otherwise, it is what a derained frame should show. A plain median of five frames, which costs nothing, is
scored next to every method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vderain.errors import SourceError
from vderain.training.evaluation.clips.windows import (
    Luma,
    Window,
    luma_of,
    median_of,
    scaled_frames,
    temporal_median,
)
from vderain.training.evaluation.suite import INPUT
from vderain.training.rain.render import Image

MEDIAN = "median of 5"
MOST_FRAMES = 120  # frames of the median
_AROUND = 12  # frames to either side of the middle that methods see
_EDGE = 4  # of these, frames at either end that are not scored: they lack neighbours
_CALM = 4.0  # code values of median absolute deviation below which a place is calm
_RAIN = 8.0  # code values above the median from which a place shows rain; below it, from which it is too dark

FORMULAS = {
    "static rain": "luma of 16 frames in the middle of a clip of a static camera, at most 540 lines, against the"
    " temporal median m of up to 120 frames, where the scene is calm (median absolute deviation below 4 code values)."
    " Rain: where the input is more than 8 code values above m, and one pixel around.",
    "dB in the rain": "PSNR to m where it rains, over all frames.",
    "streaks left": "sum of what is more than 8 code values above m, over the input's.",
    "darkened": "sum of what is more than 8 code values below m, over the input's sum above m.",
    "kept": "PSNR of the result to the input where it does not rain, in calm places.",
    MEDIAN: "the median over each frame and two on either side, sample by sample.",
}


@dataclass(frozen=True, slots=True)
class _Tally:
    """Sums over the pixels of a frame, or of several."""

    rain_px: float
    rest_px: float
    error: float
    bright: float
    dark: float
    moved: float
    input_bright: float

    @classmethod
    def sum(cls, tallies: Sequence[_Tally]) -> _Tally:
        return cls(*(sum(getattr(one, item.name) for one in tallies) for item in fields(cls)))


@dataclass(frozen=True, slots=True)
class RainScores:
    """How much of the real rain a method removes, and what else it changes.

    Attributes:
        in_rain_db: PSNR to the temporal median where it rains.
        streaks_left: brightness above the median, as a share of the input's.
        darkened: brightness missing below the median, as a share of the input's above it.
        kept_db: PSNR to the input where it does not rain; infinite where nothing changed.

    """

    in_rain_db: float
    streaks_left: float
    darkened: float
    kept_db: float

    @classmethod
    def of(cls, tally: _Tally) -> RainScores:
        """The scores of a sum."""
        bright = max(tally.input_bright, 1e-6)
        return cls(
            _db(tally.error, tally.rain_px),
            tally.bright / bright,
            tally.dark / bright,
            _db(tally.moved, tally.rest_px),
        )


def _db(error: float, count: float) -> float:
    return float("inf") if error == 0 else float(10 * np.log10(255**2 * max(count, 1) / error))


@dataclass(frozen=True, slots=True)
class StaticRainClip:
    """A clip's scores by method: ``INPUT`` and ``MEDIAN`` first.

    Attributes:
        name: of the clip.
        rain_share: of the calm pixels, those that show rain.
        calm_share: of all pixels, those that are scored.
        places: of the scored frames in the clip.
        scores: over all scored frames.
        by_frame: of each scored frame.

    """

    name: str
    rain_share: float
    calm_share: float
    places: tuple[int, ...]
    scores: Mapping[str, RainScores]
    by_frame: Mapping[str, tuple[RainScores, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class StaticClip:
    """A clip of a static camera, and what it looks like without rain.

    Attributes:
        window: the frames that methods see.
        lumas: of the window's frames, (T, H, W) uint8.
        median: of the whole clip's luma, (H, W) float32.
        calm: (H, W) bool, where the median can be trusted.

    """

    window: Window
    lumas: Luma
    median: npt.NDArray[np.float32]
    calm: npt.NDArray[np.bool_]

    def scored(self, every: int = 1) -> range:
        """The frames of the window that are scored."""
        return range(_EDGE, len(self.window.frames) - _EDGE, every)

    def score(
        self, results: Mapping[str, Mapping[int, Image]], frames: Sequence[int]
    ) -> StaticRainClip:
        """Score ``frames`` of the window: ``results`` by method, then by frame, (H, W, 3) uint8 RGB.

        Raises SourceError where no calm place of these frames shows rain.
        """
        tallies: dict[str, list[_Tally]] = {}
        for frame in frames:
            lumas = {INPUT: self.lumas[frame], MEDIAN: self.median_of_5(frame)}
            lumas |= {name: luma_of(found[frame]) for name, found in results.items()}
            for name, tally in _tallied(self, lumas).items():
                tallies.setdefault(name, []).append(tally)
        totals = {name: _Tally.sum(each) for name, each in tallies.items()}
        whole = totals[INPUT]
        if not whole.rain_px:
            raise SourceError(
                f"{self.window.path}: shows no rain in calm places, so nothing can be scored; does it"
                " rain there, and is the camera static?"
            )
        return StaticRainClip(
            self.window.name,
            whole.rain_px / (whole.rain_px + whole.rest_px),
            float(self.calm.mean()),
            tuple(self.window.first + frame for frame in frames),
            {name: RainScores.of(total) for name, total in totals.items()},
            {name: tuple(RainScores.of(one) for one in each) for name, each in tallies.items()},
        )

    def median_of_5(self, frame: int) -> Luma:
        """The luma (H, W) of a scored frame, as the median of five frames shows it."""
        around = self.lumas[frame - 2 : frame + 3]
        return np.asarray(np.partition(around, 2, axis=0)[2], np.uint8)


def read_static_clip(path: Path) -> StaticClip:
    """Decode a clip and take its median. Raises SourceError for one that is damaged or too short."""
    lumas: list[Luma] = []
    images: list[Image] = []
    for image in scaled_frames(path, MOST_FRAMES):
        lumas.append(luma_of(image))
        if len(images) < MOST_FRAMES // 2 + _AROUND:
            images.append(image)
    if len(lumas) < 2 * _AROUND:
        raise SourceError(
            f"{path}: has {len(lumas)} frames; a temporal median needs at least {2 * _AROUND}"
        )
    middle = len(lumas) // 2
    first, stop = middle - _AROUND, min(len(lumas), middle + _AROUND)
    stack = np.stack(lumas)
    median = temporal_median(lumas)
    # Medians are whole or half code values: twice their distance is whole.
    away = np.abs(2 * stack.astype(np.int16) - (2 * median).astype(np.int16))
    calm = median_of(away) < 2 * _CALM
    window = Window(path, first, tuple(images[first:stop]))
    return StaticClip(window, stack[first:stop], median, calm)


def _tallied(clip: StaticClip, lumas: Mapping[str, Luma]) -> dict[str, _Tally]:
    """The sums of one frame by method, ``INPUT`` among them."""
    median, calm, own = clip.median, clip.calm, lumas[INPUT]
    above = own.astype(np.float32) - median
    wet = cv2.dilate((above > _RAIN).astype(np.uint8), np.ones((3, 3), np.uint8))
    rain = calm & (np.asarray(wet) > 0)
    rest = calm & ~rain
    input_bright = _beyond(above[calm])
    tallies = {}
    for name, luma in lumas.items():
        difference = luma.astype(np.float32) - median
        moved = luma.astype(np.float32) - own
        tallies[name] = _Tally(
            rain_px=float(rain.sum()),
            rest_px=float(rest.sum()),
            error=_energy(difference[rain]),
            bright=_beyond(difference[calm]),
            dark=_beyond(-difference[calm]),
            moved=_energy(moved[rest]),
            input_bright=input_bright,
        )
    return tallies


def _energy(values: npt.NDArray[np.float32]) -> float:
    return float(np.square(values, dtype=np.float64).sum())


def _beyond(values: npt.NDArray[np.float32]) -> float:
    return float(np.maximum(values - np.float32(_RAIN), 0).sum(dtype=np.float64))
