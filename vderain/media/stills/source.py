"""Images and folders of images as a source; one image in memory at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from itertools import chain
from pathlib import Path

from vderain.errors import OptionError, SourceError
from vderain.files import refuse_name
from vderain.frames import Frame
from vderain.interfaces import SourceStats, StreamInfo, Track
from vderain.media.stills.image_file import read_image
from vderain.media.stills.paths import READABLE, TIME_BASE
from vderain.media.stills.sequence import Likeness, numbered, pattern_of
from vderain.options import RunOptions

_OTHER_IMAGES = {
    *(".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".exr", ".hdr"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"),
}


class ImageSource:
    """FrameSource over one image or a folder of images, in natural order (2 before 10).

    Sizes and formats may differ from frame to frame. Every frame is a scene of its own, unless ``run.sequence`` or
    a pattern such as ``frame_%04d.png`` makes them consecutive. Damaged and unsupported images of a folder are
    skipped, counted and reported; subfolders are not read. Raises SourceError where nothing can be read, and
    OptionError for a sequence of one file.
    """

    def __init__(self, path: str, *, run: RunOptions) -> None:
        refuse_name(path, SourceError)
        self._stats = SourceStats()
        pattern = pattern_of(path)
        self._folder = os.path.isdir(path) or pattern is not None
        self._sequence = run.sequence or pattern is not None
        if self._sequence and not self._folder:
            raise OptionError(
                f"sequence=True: {path} is one image; name the folder of the sequence"
            )
        if pattern is not None:
            images = numbered(Path(path).parent, pattern)
        else:
            images = self._list_folder(Path(path)) if self._folder else [Path(path)]
        self._chosen = _within(images, run)
        self._likeness = Likeness(self._chosen)
        if not self._chosen:
            raise SourceError(
                f"{path}: none of its {len(images)} images is in the chosen time"
                " (an image counts as 1/25 of a second)"
            )
        self._frames = self._read_all()
        first = next(self._frames, None)
        if first is None:
            raise SourceError(f"{path}: no image in it can be read: {self._stats.losses[0]}")
        self._pending: Iterator[Frame] = chain((first,), self._frames)
        folder = str(Path(path).parent) if pattern is not None else path
        self._info = self._describe(folder, first, len(images))

    @property
    def info(self) -> StreamInfo:
        """Size and format of the first image; length and count of the whole input."""
        return self._info

    @property
    def stats(self) -> SourceStats:
        """Counters, complete once the iteration has ended."""
        return self._stats

    @property
    def template(self) -> None:
        """None: images have no tracks."""
        return None

    def __iter__(self) -> Iterator[Frame]:
        """One frame per image; ``pts`` counts from the first chosen one, skipped images included."""
        for frame in self._pending:
            self._stats.frames += 1
            self._likeness.see(frame)
            yield frame
        if not self._sequence and self._likeness.is_sequence:
            self._stats.notes.append(
                "these images look like consecutive frames; with sequence=True each is derained with the"
                " help of its neighbours"
            )

    def cancel(self) -> None:
        """Do nothing: reading an image never waits."""

    def close(self) -> None:
        """Release the image read ahead."""
        self._frames.close()
        self._pending = iter(())

    def _list_folder(self, folder: Path) -> list[Path]:
        try:
            entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        except OSError as error:
            raise SourceError(f"{folder}: cannot be listed: {error.strerror}") from error
        images, others = [], []
        for entry in sorted(entries, key=lambda entry: _natural(entry.name)):
            suffix = entry.suffix.lower()
            if suffix in READABLE and not entry.is_dir():
                images.append(entry)
            elif suffix in _OTHER_IMAGES:
                self._stats.decode_failures += 1
                self._stats.losses.append(f"{entry}: {suffix[1:]} images are not supported")
            else:
                others.append(entry.name)
        if not images:
            raise SourceError(f"{folder}: no image in it (png, jpg, webp, bmp, tiff)")
        if others:
            self._stats.notes.append(f"not images, left alone: {', '.join(others)}")
        return images

    def _read_all(self) -> Generator[Frame, None, None]:
        for index, path in enumerate(self._chosen):
            try:
                image = read_image(path)
            except SourceError as error:
                if not self._folder:
                    raise
                self._stats.decode_failures += 1
                self._stats.losses.append(str(error))
                continue
            self._stats.losses.extend(image.losses)
            yield Frame(
                image.planes,
                image.format,
                pts=index,
                time_base=TIME_BASE,
                duration=1,
                alpha=image.alpha,
                rotation=image.rotation,
                discontinuity=not self._sequence,
                name=path.name,
                metadata=image.chunks,
            )

    def _describe(self, path: str, first: Frame, count: int) -> StreamInfo:
        codec = Path(first.name).suffix[1:].lower()
        layout = first.format.layout + ("a" if first.alpha is not None else "")
        return StreamInfo(
            path=path,
            width=first.format.width,
            height=first.format.height,
            time_base=TIME_BASE,
            frame_rate=1 / TIME_BASE,
            frames=count,
            duration_s=float(count * TIME_BASE),
            codec=codec,
            pix_fmt=f"{layout} {first.format.bit_depth} bit",
            container=_kind(folder=self._folder, sequence=self._sequence),
            rotation=first.rotation,
            tracks=(Track(0, "video", codec),),
        )


def _kind(*, folder: bool, sequence: bool) -> str:
    if sequence:
        return "sequence of images"
    return "folder of images" if folder else "image"


def _natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A sort key by which img2 comes before img10, and numbers before words."""
    parts = re.findall(r"\d+|\D+", name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], name


def _within(images: list[Path], run: RunOptions) -> list[Path]:
    end_s = float("inf") if run.duration_s is None else run.start_s + run.duration_s
    return [
        path for index, path in enumerate(images) if run.start_s <= float(index * TIME_BASE) < end_s
    ]
