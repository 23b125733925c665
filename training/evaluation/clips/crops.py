"""Crops for the page: places of a clip where most rain is, or where a method errs most, at full size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vderain.training.evaluation.clips.dry_motion import DryClip
from vderain.training.evaluation.clips.run import Clip
from vderain.training.evaluation.clips.static_rain import MEDIAN, MOST_FRAMES, StaticClip
from vderain.training.evaluation.clips.windows import luma_of, scaled_frames
from vderain.training.evaluation.suite import INPUT
from vderain.training.rain.render import Image

TARGET = "temporal median"
CHANGE_GAIN = 4
_SIZE = (240, 320)

_Weight = npt.NDArray[np.float32]  # (H, W)
_Box = tuple[slice, slice]
_Results = Mapping[str, Mapping[int, Image]]


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of one frame, (h, w, 3) uint8 RGB by what it shows; ``label`` says which part and why."""

    label: str
    images: Mapping[str, Image]


def crops(clip: Clip, results: _Results, frames: Sequence[int], count: int) -> list[Crop]:
    """Up to ``count`` crops of the scored frames, spread over them; no place comes twice."""
    if not results or not count:
        return []
    chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, count).astype(int))]
    found: list[tuple[int, _Box, str]] = []
    for number, frame in enumerate(chosen):
        weight, why = _weight(clip, results, frame, number)
        for _, (rows, columns), _ in found:
            weight[rows, columns] = 0
        if weight.any():
            found.append((frame, _heaviest(weight), why))
    if isinstance(clip, DryClip):
        return [_dry_crop(clip, results, *each) for each in found]
    targets = _medians(clip.window.path, [box for _, box, _ in found])
    return [
        _rain_crop(clip, results, *each, target)
        for each, target in zip(found, targets, strict=True)
    ]


def _weight(clip: Clip, results: _Results, frame: int, number: int) -> tuple[_Weight, str]:
    """How much each pixel is worth looking at: in turn the rain of the input, and the error of the first method."""
    method = next(iter(results))
    result = luma_of(results[method][frame]).astype(np.float32)
    if isinstance(clip, DryClip):
        own = luma_of(clip.window.frames[frame]).astype(np.float32)
        return np.abs(result - own), f"most changed by {method}"
    if number % 2 == 0:
        above = clip.lumas[frame] - clip.median
        return np.where(clip.calm, np.maximum(above, 0), 0), "most rain"
    error = np.square(result - clip.median)
    return np.where(clip.calm, error, 0).astype(np.float32), f"largest error of {method}"


def _heaviest(weight: _Weight) -> _Box:
    """The window of the page's size, or all of a smaller image, that weighs most."""
    height, width = (min(*pair) for pair in zip(_SIZE, weight.shape, strict=True))
    summed = np.pad(weight.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    windows = (
        summed[height:, width:]
        - summed[:-height, width:]
        - summed[height:, :-width]
        + summed[:-height, :-width]
    )
    top, left = (int(i) for i in np.unravel_index(int(windows.argmax()), windows.shape))
    return slice(top, top + height), slice(left, left + width)


def _label(clip: Clip, frame: int, box: _Box, why: str) -> str:
    rows, columns = box
    return f"{clip.window.name}, frame {clip.window.first + frame}, from ({columns.start}, {rows.start}): {why}"


def _rain_crop(
    clip: StaticClip, results: _Results, frame: int, box: _Box, why: str, target: Image
) -> Crop:
    around = np.stack([one[box] for one in clip.window.frames[frame - 2 : frame + 3]])
    images = {
        INPUT: clip.window.frames[frame][box],
        MEDIAN: np.asarray(np.partition(around, 2, axis=0)[2], np.uint8),
        **{method: found[frame][box] for method, found in results.items()},
        TARGET: target,
    }
    return Crop(_label(clip, frame, box, why), images)


def _dry_crop(clip: DryClip, results: _Results, frame: int, box: _Box, why: str) -> Crop:
    own = clip.window.frames[frame][box]
    images = {INPUT: own}
    for method, found in results.items():
        result = found[frame][box]
        change = (result.astype(np.int16) - own) * CHANGE_GAIN + 128
        images[method] = result
        images[f"change by {method}"] = np.clip(change, 0, 255).astype(np.uint8)
    return Crop(_label(clip, frame, box, why), images)


def _medians(path: Path, boxes: Sequence[_Box]) -> list[Image]:
    """The temporal median of parts of a clip in colour, which its scores did not need."""
    parts: list[list[Image]] = [[] for _ in boxes]
    for image in scaled_frames(path, MOST_FRAMES):
        for part, box in zip(parts, boxes, strict=True):
            part.append(image[box].copy())
    return [np.rint(np.median(np.stack(part), axis=0)).astype(np.uint8) for part in parts]
