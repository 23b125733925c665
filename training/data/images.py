"""What a sample is read from: image files, halves of them, frames of clips, drawn charts; all as 8 bit RGB."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from vderain.errors import SourceError
from vderain.frames import Frame, PlaneFormat
from vderain.interfaces import FrameSource
from vderain.media import open_source
from vderain.media.frames.rgb import planes_to_rgb
from vderain.media.stills.image_file import read_image as decode_image
from vderain.options import EncodeOptions, RunOptions
from vderain.training.data.augment import draw_chart
from vderain.training.rain.render import Image

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
CLIPS = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".ts", ".mts", ".y4m"})
SEGMENTS = 2  # parts of a clip that are kept whole: its first and its last seconds
_SEEK_BEYOND = 40  # frames between two wanted ones; fewer are decoded faster than sought

Half = Literal["", "left", "right"]


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image, or the left or right half of one that shows a pair side by side."""

    path: Path
    half: Half = ""


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """Frame ``index`` of the ``of`` that are spread evenly over a clip, or one ``offset`` frames after it.

    A clip is a video file, or a folder with one image for each frame. ``reach`` is the largest offset
    that will be needed, in either case, so that a clip is decoded once.
    """

    path: Path
    index: int
    of: int
    offset: int = 0
    reach: int = 0


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart of flat and saturated colours."""

    seed: int

    @property
    def path(self) -> Path:
        """What messages call it."""
        return Path(f"chart {self.seed}")


Reference = ImageFile | ClipFrame | Chart


@dataclass(frozen=True, slots=True)
class ClipFile:
    """``count`` consecutive frames of a clip, from frame ``start`` (0-based)."""

    path: Path
    start: int
    count: int


def read_reference(reference: ImageFile | Chart) -> Image:
    """The image that a reference names, (H, W, 3) uint8 RGB; SourceError where it cannot be read."""
    if isinstance(reference, Chart):
        return draw_chart(np.random.default_rng(reference.seed))
    return part_of(read_image(reference.path), reference)


def part_of(image: Image, reference: ImageFile) -> Image:
    """What a reference takes of its decoded file; SourceError where that is nothing."""
    if reference.half and image.shape[1] < 2:
        raise SourceError(f"{reference.path}: too narrow to show a pair")
    return half_of(image, reference.half)


def half_of(image: Image, half: Half) -> Image:
    """A view of one half; the middle column of an odd width belongs to neither."""
    width = image.shape[1] // 2
    if half == "left":
        return image[:, :width]
    return image[:, image.shape[1] - width :] if half == "right" else image


def read_image(path: Path) -> Image:
    """Read an image as (H, W, 3) uint8 RGB, upright; grey becomes RGB, alpha is left out, 16 bit rounded.

    Raises SourceError for a file that is not an image, is damaged, or holds other samples.
    """
    decoded = decode_image(path)
    planes = decoded.planes * 3 if len(decoded.planes) == 1 else decoded.planes
    image = cv2.merge(planes)
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return _turned(np.asarray(image, np.uint8), decoded.rotation)


def image_frame(rgb: Image, number: int = 0) -> Frame:
    """A frame of an image, (H, W, 3) uint8 RGB: ``number`` of a clip of 25 frames a second."""
    fmt = PlaneFormat("rgb", rgb.shape[1], rgb.shape[0], full_range=True)
    red, green, blue = (np.ascontiguousarray(rgb[..., channel]) for channel in range(3))
    return Frame((red, green, blue), fmt, pts=number, time_base=Fraction(1, 25))


def read_spread(path: Path, count: int, reach: int = 0) -> list[list[Image]]:
    """``count`` places spread evenly over a clip: each its frame and ``reach`` on either side.

    (H, W, 3) uint8 RGB each. A short clip's places come repeatedly, and at its ends a frame stands for
    those that there are not. In a long video each place is sought by its time, so where the frame rate
    varies it may be a neighbour. Raises SourceError.
    """
    if path.is_dir():
        files = sequence_files(path)
        places = _places(len(files), count, reach)
        unique = {i: read_image(files[i]) for i in sorted({i for each in places for i in each})}
        if len(sizes := {image.shape[:2] for image in unique.values()}) > 1:
            raise SourceError(f"{path}: its images have several sizes {sorted(sizes)}, no clip")
        return [[unique[i] for i in each] for each in places]
    with closing(_open(path)) as source:
        length = source.info.frames or _counted(path)
        places = _places(length, count, reach)
        wanted = {i for each in places for i in each}
        if length <= count * _SEEK_BEYOND:
            found = dict(_picked(source, wanted))
        else:
            found = {
                each[0] + i: frame
                for each in places
                for i, frame in enumerate(_window(path, source, each[0], 2 * reach + 1))
            }
    if not found:
        raise SourceError(f"{path}: not one frame can be read")
    last = max(found)  # containers may announce more frames than there are
    return [[found.get(i, found[last]) for i in each] for each in places]


def read_window(clip: ClipFile, *, at_most: bool = False) -> list[Image]:
    """The frames of a reference, (H, W, 3) uint8 RGB each, all of one size.

    With ``at_most`` a clip that ends earlier gives fewer. Raises SourceError where frames are missing.
    """
    if clip.path.is_dir():
        files = sequence_files(clip.path)[clip.start : clip.start + clip.count]
        images = [read_image(file) for file in files]
    else:
        with closing(_open(clip.path)) as source:
            if clip.start > _SEEK_BEYOND and source.info.frame_rate:
                images = _window(clip.path, source, clip.start, clip.count)
            else:
                frames = (item for item in source if isinstance(item, Frame))
                window = islice(frames, clip.start, clip.start + clip.count)
                images = [_to_rgb(frame) for frame in window]
    if len(images) < (1 if at_most else clip.count):
        end = clip.start + len(images)
        raise SourceError(f"{clip.path}: has no frames {end} to {clip.start + clip.count - 1}")
    if len({image.shape for image in images}) > 1:
        raise SourceError(f"{clip.path}: its frames differ in size")
    return images


def frames_by_opencv(path: Path) -> Generator[Image, None, None]:
    """The frames of a video file or a folder of images, (H, W, 3) uint8 RGB.

    OpenCV decodes and converts video several times faster than planes are converted exactly. Its conversion
    truncates: frames are about one code value darker. Ends silently where a file cannot be read any further.
    """
    if path.is_dir():
        yield from map(read_image, sequence_files(path))
        return
    if not path.exists():
        raise SourceError(f"{path}: there is no such file or folder")
    capture = cv2.VideoCapture(str(path))
    try:
        while True:
            found, frame = capture.read()
            if not found:
                return
            yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        capture.release()


def sequence_files(folder: Path) -> list[Path]:
    """The images of an image sequence, in the order of the numbers in their names."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in IMAGES]
    return sorted((path for path in files if not path.name.startswith(".")), key=natural)


def natural(path: Path) -> list[str | int]:
    """Sort key that puts 2 before 10."""
    parts = re.split(r"(\d+)", os.fspath(path))
    return [int(part) if part.isdecimal() else part for part in parts]


def _open(path: Path, start_s: float = 0.0) -> FrameSource:
    run, encode = RunOptions(start_s=start_s), EncodeOptions(interlaced="deinterlace")
    return open_source(str(path), run=run, encode=encode)


def _places(length: int, count: int, reach: int) -> list[list[int]]:
    """The frames of each place, in order, all within the clip."""
    margin = min(reach, (length - 1) // 2)
    middles = [int(i) for i in np.linspace(margin, length - 1 - margin, count)]
    offsets = range(-reach, reach + 1)
    return [[min(max(0, middle + k), length - 1) for k in offsets] for middle in middles]


def _counted(path: Path) -> int:
    with closing(_open(path)) as source:
        return sum(isinstance(item, Frame) for item in source)


def _picked(source: FrameSource, wanted: set[int]) -> Iterator[tuple[int, Image]]:
    frames = (item for item in source if isinstance(item, Frame))
    for index, frame in enumerate(islice(frames, max(wanted) + 1)):
        if index in wanted:
            yield index, _to_rgb(frame)


def _window(path: Path, source: FrameSource, start: int, count: int) -> list[Image]:
    """Frames found by their time; a little earlier, so that rounding to the container's unit skips none."""
    rate = source.info.frame_rate or 25
    with closing(_open(path, max(0.0, float((start - 0.25) / rate)))) as sought:
        frames = (item for item in sought if isinstance(item, Frame))
        return [_to_rgb(frame) for frame in islice(frames, count)]


def _to_rgb(frame: Frame) -> Image:
    return _turned(planes_to_rgb(frame.planes, frame.format), frame.rotation)


def _turned(image: Image, rotation_deg: int) -> Image:
    return np.ascontiguousarray(np.rot90(image, rotation_deg // 90)) if rotation_deg else image
