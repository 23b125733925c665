"""Before and after in one image, side by side or split by a line; made from the planes.

Images are composed upright, as they are displayed, and turned back as the rainy frame is stored.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vderain.clips import turned
from vderain.errors import OptionError, SinkError, SourceError
from vderain.frames import Frame, PassedPacket, Plane, PlaneFormat
from vderain.interfaces import FrameSource, SinkReport, SourceStats, StreamInfo
from vderain.media import open_sink, open_source
from vderain.media.frames.rgb import Image, planes_to_rgb
from vderain.media.frames.timing import FAR_S
from vderain.options import EncodeOptions, RunOptions

Mode = Literal["side", "split"]

_ROUNDING_S = Fraction(2, 1000)  # containers round time, Matroska to whole milliseconds
_SWEEP_S = 6.0  # the line of a split moves right, left and back in this time
_LATEST_S = 1e7  # the latest start that RunOptions accept
_SEEK_BACK_S = 10.0  # reading begins this long before a still, to find a frame at or before it


class ComparisonSource:
    """FrameSource of the composed frames, with the other tracks of ``rainy``; the caller closes both sources.

    Frames are paired by their time, until the shorter source ends; ``stats.notes`` has the number of frames
    without a partner. Raises SourceError where no times agree, OptionError where frames differ in size or
    format.
    """

    def __init__(self, rainy: FrameSource, dry: FrameSource, mode: Mode) -> None:
        self._rainy, self._dry, self._mode = rainy, dry, mode
        self._stats = SourceStats()
        items = self._compose()
        head: list[Frame | PassedPacket] = []
        for item in items:
            head.append(item)
            if isinstance(item, Frame):
                break
        else:
            raise SourceError(_unpaired(rainy.info.path, dry.info.path))
        self._items = chain(head, items)
        self._info = replace(rainy.info, width=item.format.width, height=item.format.height)

    @property
    def info(self) -> StreamInfo:
        """The rainy source's, at the composed size."""
        return self._info

    @property
    def stats(self) -> SourceStats:
        """Counters, complete once the iteration has ended."""
        return self._stats

    @property
    def template(self) -> Any:
        """The rainy source's."""
        return self._rainy.template

    def __iter__(self) -> Iterator[Frame | PassedPacket]:
        """Composed frames, and the packets of the rainy source between them."""
        return self._items

    def cancel(self) -> None:
        """Cancel both sources."""
        self._rainy.cancel()
        self._dry.cancel()

    def close(self) -> None:
        """Do nothing: the caller closes the sources."""

    def _compose(self) -> Iterator[Frame | PassedPacket]:
        start_s: float | None = None
        for item in pairs(self._rainy, self._dry, self._stats):
            if isinstance(item, PassedPacket):
                yield item
                continue
            rainy, dry = item
            if start_s is None:
                start_s = rainy.time_s
                first = rainy.format, dry.format
                self._stats.notes.extend(_cropping(rainy, dry))
            elif self.template is not None and (rainy.format, dry.format) != first:
                raise OptionError(
                    f"the images change from {first[0]} and {first[1]} to {rainy.format} and"
                    f" {dry.format} at {rainy.time_s:.3f} s, and one comparison cannot; compare the"
                    " parts one by one"
                )
            self._stats.frames += 1
            phase = 2 * math.pi * (rainy.time_s - start_s) / _SWEEP_S
            yield compose(rainy, dry, self._mode, position=0.5 + 0.4 * math.sin(phase))


def pairs(
    rainy: FrameSource, dry: FrameSource, stats: SourceStats
) -> Iterator[tuple[Frame, Frame] | PassedPacket]:
    """Pairs of frames that two sources show at the same time, and the packets of ``rainy``.

    Ends with the shorter source. ``stats.notes`` has the number of frames without a partner, and whether one
    video begins later, as after a change of container that moved all times.
    """
    tolerance = _tolerance(rainy.info, dry.info)
    candidates = (item for item in dry if isinstance(item, Frame))
    candidate = next(candidates, None)
    begun, alone = False, 0
    shift_s = Fraction(0)
    for item in rainy:
        if isinstance(item, PassedPacket):
            yield item
            continue
        if candidate is not None and not begun:
            late_s = _time(candidate) - _time(item)
            if abs(late_s) >= FAR_S or _time(item) < 0:  # moved so that players show it
                shift_s = late_s
            stats.notes.extend(_late_start(late_s - shift_s, tolerance))
            begun = True
        while candidate is not None and _time(candidate) < _time(item) + shift_s - tolerance:
            alone += 1
            candidate = next(candidates, None)
        if candidate is None:
            break
        if _time(candidate) > _time(item) + shift_s + tolerance:
            alone += 1
            continue
        yield item, candidate
        candidate = next(candidates, None)
    if alone:
        stats.notes.append(f"{alone} frames have no partner of the same time and are left out")


def _late_start(dry_after_rainy_s: Fraction, tolerance: Fraction) -> Iterator[str]:
    if abs(dry_after_rainy_s) > tolerance:
        later = "dry" if dry_after_rainy_s > 0 else "rainy"
        yield (
            f"the {later} video begins {float(abs(dry_after_rainy_s)):.3f} s after the other; if its"
            " container moved all times, the pairs are of different moments"
        )


def _unpaired(rainy: str, dry: str) -> str:
    return (
        f"{rainy} and {dry}: no two frames are shown at the same time; where one is only a part, cut the"
        " other alike (a run with strength=0 cuts and changes nothing else)"
    )


def compare_files(
    rainy: str,
    dry: str,
    output: str,
    *,
    mode: Mode = "side",
    encode: EncodeOptions | None = None,
    on_frame: Callable[[int | None], None] | None = None,
) -> SinkReport:
    """Write the comparison of two videos or two images, with the other tracks of ``rainy``.

    ``on_frame`` is called after each frame with the expected number of frames, None where it is unknown.
    Raises what ComparisonSource raises, SourceError and SinkError; no partial output stays.
    """
    encode = encode or EncodeOptions()
    refuse_inputs(output, rainy, dry)
    with (
        closing(open_source(rainy, run=RunOptions(), encode=encode)) as before,
        closing(open_source(dry, run=RunOptions(), encode=encode)) as after,
    ):
        comparison = ComparisonSource(before, after, mode)
        sink = open_sink(output, comparison, encode)
        try:
            for item in comparison:
                sink.write(item)
                if on_frame is not None and isinstance(item, Frame):
                    on_frame(comparison.info.frames)
            report = sink.finish()
        except BaseException:
            sink.abort()
            raise
        report.notes = [*comparison.stats.notes, *report.notes]
        report.losses = [*before.stats.losses, *after.stats.losses, *report.losses]
    return report


def compare_still(
    rainy: str, dry: str, at_s: float, *, mode: Mode = "side", encode: EncodeOptions | None = None
) -> Image:
    """Before and after, upright, (H, W, 3) uint8 RGB, of the last frame at or before ``at_s``.

    The line of a split is in the middle. Raises SourceError where no two frames are paired, and
    OptionError for a time that is negative, infinite or not a number.
    """
    if not 0 <= at_s < math.inf:
        raise OptionError(f"still={at_s}: must be a time in seconds, from 0 on")
    encode = encode or EncodeOptions()
    start_s = min(max(0.0, at_s - _SEEK_BACK_S), _LATEST_S)
    pair = None
    if start_s:
        with suppress(SourceError):  # behind the end there is none; from the beginning there is one
            pair = _last_pair(rainy, dry, start_s, at_s, encode)
    pair = pair or _last_pair(rainy, dry, 0.0, at_s, encode)
    if pair is None:
        raise SourceError(_unpaired(rainy, dry))
    still = compose(*pair, mode)
    turns = still.rotation // 90
    return planes_to_rgb(turned(still.planes, turns), still.format.rotated(turns))


def compose(rainy: Frame, dry: Frame, mode: Mode, *, position: float = 0.5) -> Frame:
    """Rainy on the left and dry on the right of a white line; all but the samples as in ``rainy``.

    ``side`` shows both frames whole; ``split`` shows both in the same place, with the line at ``position``, a
    share of the width in [0, 1]. A last row or column that only one frame has, which encoders add to odd
    sizes, is left out. Raises OptionError where size or format differ.
    """
    if rainy.rotation == dry.rotation:
        rainy, dry = _cropped(rainy, dry), _cropped(dry, rainy)
    turns = rainy.rotation // 90
    fmt = rainy.format.rotated(turns)
    _refuse_difference(fmt, dry.format.rotated(dry.rotation // 90))
    before = turned(_with_alpha(rainy), turns)
    after = turned(_with_alpha(dry), dry.rotation // 90)
    sx, _ = fmt.subsampling
    line = 2 * max(1, round(fmt.width / 1000))  # in samples of luma; wider in wider images
    cut = None if mode == "side" else int(position * fmt.width) // sx * sx
    composed = []
    for left, right, white, step in zip(before, after, *_white(fmt), strict=False):
        padding = -fmt.width % sx if step == 1 else 0  # to whole chroma samples on both sides
        seam = None if cut is None else cut // step
        composed.append(_join(left, right, white, line=line // step, seam=seam, padding=padding))
    planes = turned(tuple(composed), -turns)
    return replace(
        rainy,
        planes=planes[: len(rainy.planes)],
        format=replace(fmt, width=composed[0].shape[1]).rotated(turns),
        alpha=planes[-1] if len(planes) > len(rainy.planes) else None,
    )


def _cropped(frame: Frame, other: Frame) -> Frame:
    """A frame without the row and column by which it is larger than the other."""
    width = min(frame.format.width, other.format.width)
    height = min(frame.format.height, other.format.height)
    larger = frame.format.width - width, frame.format.height - height
    if larger not in ((0, 1), (1, 0), (1, 1)):
        return frame
    fmt = replace(frame.format, width=width, height=height)
    planes = tuple(
        plane[:rows, :columns]
        for plane, (rows, columns) in zip(frame.planes, fmt.plane_shapes, strict=True)
    )
    alpha = None if frame.alpha is None else frame.alpha[:height, :width]
    return replace(frame, planes=planes, format=fmt, alpha=alpha)


def _cropping(rainy: Frame, dry: Frame) -> Iterator[str]:
    for name, frame, other in (("rainy", rainy, dry), ("dry", dry, rainy)):
        fmt = _cropped(frame, other).format
        if fmt != frame.format:
            yield (
                f"the {name} images, {frame.format.width}x{frame.format.height}, were cropped to"
                f" {fmt.width}x{fmt.height}"
            )


def _join(
    left: Plane, right: Plane, white: int, *, line: int, seam: int | None, padding: int
) -> Plane:
    if seam is None:
        left, right = (np.pad(side, ((0, 0), (0, padding)), "edge") for side in (left, right))
    else:
        line = min(line, left.shape[1] - seam)
        left, right = left[:, :seam], right[:, seam + line :]
    bar = np.full((left.shape[0], line), white, left.dtype)
    return np.hstack((left, bar, right))


def _with_alpha(frame: Frame) -> tuple[Plane, ...]:
    return (*frame.planes,) if frame.alpha is None else (*frame.planes, frame.alpha)


def _white(fmt: PlaneFormat) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each plane, and alpha after them: the value of white, and samples of luma for one of its samples."""
    white = fmt.peak if fmt.full_range else 235 << (fmt.bit_depth - 8)
    if fmt.layout == "gray":
        return (white, fmt.peak), (1, 1)
    if fmt.layout == "rgb":
        return (fmt.peak,) * 4, (1,) * 4
    sx, _ = fmt.subsampling
    no_colour = 1 << (fmt.bit_depth - 1)
    return (white, no_colour, no_colour, fmt.peak), (1, sx, sx, 1)


def _refuse_difference(rainy: PlaneFormat, dry: PlaneFormat) -> None:
    if (rainy.width, rainy.height) != (dry.width, dry.height):
        raise OptionError(
            f"the images differ in size, {rainy.width}x{rainy.height} and"
            f" {dry.width}x{dry.height}; compare a video with its own derained version"
        )
    if rainy != dry:
        raise OptionError(f"the images differ in format, {rainy} and {dry}; convert one first")


def refuse_inputs(output: str, *inputs: str) -> None:
    """Raise SinkError where ``output`` is an input, or a folder in which it would replace one.

    Call it before anything is read; an image in a folder is named as the first input.
    """
    for target in (Path(output), Path(output, Path(inputs[0]).stem + ".png")):
        for path in inputs:
            if os.path.exists(target) and os.path.exists(path) and os.path.samefile(target, path):
                raise SinkError(f"{output}: the output would replace an input; choose another name")


def _last_pair(
    rainy: str, dry: str, start_s: float, at_s: float, encode: EncodeOptions
) -> tuple[Frame, Frame] | None:
    """The last pair at or before ``at_s``, in seconds from the beginning of the videos."""
    run = RunOptions(start_s=start_s)
    found = None
    with (
        closing(open_source(rainy, run=run, encode=encode)) as before,
        closing(open_source(dry, run=run, encode=encode)) as after,
    ):
        for item in pairs(before, after, SourceStats()):
            if isinstance(item, PassedPacket):
                continue
            if found is None and not start_s:
                at_s += item[0].time_s  # sources keep a first time other than zero
            if item[0].time_s > at_s - start_s:
                break
            found = item
    return found


def _tolerance(*infos: StreamInfo) -> Fraction:
    """How far two times of one frame may differ, in seconds: by rounding, never by half a frame."""
    rates = [info.frame_rate for info in infos if info.frame_rate]
    return min(_ROUNDING_S, Fraction(1, 3) / max(rates)) if rates else _ROUNDING_S


def _time(frame: Frame) -> Fraction:
    return frame.pts * frame.time_base
