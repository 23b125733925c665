"""The part of a clip that is scored: consecutive frames from its middle, scaled to a common size.

Video is decoded to 8 bit RGB by OpenCV, and methods get these frames. Exact planes would give other scores, by
up to 0.3 dB: OpenCV's conversion truncates, so that its frames are one code value darker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vderain.errors import SourceError
from vderain.training.data.images import frames_by_opencv
from vderain.training.rain.render import Image

Luma = npt.NDArray[np.uint8]  # (H, W), or (T, H, W) for T frames

_LINES = 540


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Consecutive frames of a clip, (H, W, 3) uint8 RGB of at most 540 lines.

    Attributes:
        path: of the clip.
        first: the place of the first frame in the clip.
        frames: all that a method sees.

    """

    path: Path
    first: int
    frames: tuple[Image, ...]

    @property
    def name(self) -> str:
        """What tables call the clip."""
        return self.path.stem

    @property
    def stop(self) -> int:
        """The place after the last frame in the clip."""
        return self.first + len(self.frames)


def luma_of(image: Image) -> Luma:
    """Full-range BT.601 luma (H, W) uint8 of RGB (H, W, 3) uint8."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def scaled(image: Image) -> Image:
    """The image at no more than 540 lines, both sides even."""
    height, width = image.shape[:2]
    scale = min(1.0, _LINES / min(height, width))
    size = (int(width * scale) // 2 * 2, int(height * scale) // 2 * 2)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def scaled_frames(path: Path, most: int) -> Iterator[Image]:
    """The first ``most`` frames of a clip, a video file or a folder of images, scaled.

    Raises SourceError where not one can be read.
    """
    found = False
    for frame in islice(frames_by_opencv(path), most):
        found = True
        yield scaled(frame)
    if not found:
        raise SourceError(f"{path}: holds no frame that can be read")


def read_results(path: Path, window: Window) -> list[Image]:
    """What another method made of a window's frames, (H, W, 3) uint8 RGB each.

    From a file or folder that holds the frames of the window alone, or those of the whole clip, which are
    scaled as the clip is. Raises SourceError where frames are missing or have another size.
    """
    found = list(scaled_frames(path, window.stop))
    count = len(window.frames)
    if len(found) not in (count, window.stop):
        raise SourceError(
            f"{path}: holds {len(found)} frames; give results of the whole clip {window.path}, or of its"
            f" frames {window.first} to {window.stop - 1} alone"
        )
    results = found[-count:]
    shape = window.frames[0].shape
    if any(result.shape != shape for result in results):
        sizes = [f"{side[1]}x{side[0]}" for side in (results[0].shape, shape)]
        raise SourceError(
            f"{path} is {sizes[0]} where {window.path} is {sizes[1]}; results must have the clip's shape"
        )
    return results


def temporal_median(frames: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    """The median of T arrays of one shape over time; of an even T the mean of the middle two."""
    return median_of(np.stack(frames))


def median_of(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The median over the first axis."""
    count = len(values)
    upper = count // 2
    lower = upper - 1 + count % 2
    # Rows at a time, with time as the last axis: sorting along the first axis is ten times slower.
    rows = []
    for row in range(values.shape[1]):
        ordered = np.partition(np.moveaxis(values[:, row], 0, -1), sorted({lower, upper}), axis=-1)
        rows.append((ordered[..., lower].astype(np.float32) + ordered[..., upper]) / 2)
    return np.stack(rows)
