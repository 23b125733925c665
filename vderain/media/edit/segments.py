"""Parts of a video by the exact times of their frames: decoded one by one, kept in files of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import av

from vderain.frames import ColorTags, Frame, PassedPacket
from vderain.interfaces import FrameSource
from vderain.media.io.formats import Container
from vderain.media.io.index import nal_format, packets_of
from vderain.media.io.open import codec_name, open_container
from vderain.media.sink import VideoSink
from vderain.media.source import VideoSource
from vderain.options import EncodeOptions, RunOptions

# Holds every time base and time exactly, and all that is encoded here.
_INTERMEDIATE = Container(
    *("nut", ("h264", "hevc", "av1", "ffv1")), rotates=True, negative_times=True, early_start=True
)
OFFSET_TAG = "pts_offset"  # what is to be added to the times in an intermediate file
_MARGINS_S = (0, 2, 10, 60, 600)  # how far before its first frame a segment's entry is looked for
_REORDER = 16  # packets; no codec lets a picture come later than that behind its turn
# By itself x264 takes as many as the machine has, and with them other decisions.
_ENCODER_THREADS = 4
_FILTER_FRAMES = 2  # whose neighbours a deinterlacer still mixes in


class SegmentSource(VideoSource):
    """FrameSource of the frames with ``start_pts <= pts < end_pts``, and some around them.

    Up to ``before`` frames come earlier and ``after`` later, so that clips at the cut are those of an
    uninterrupted run; SegmentSink drops them. Times are those of the file, in its ``time_base``; no
    other tracks come. None for a time is the first frame or the end. The span of ``run`` is ignored, and
    damage counts where it lies in the segment itself. ``seeks`` is False for a file whose clock jumps:
    what lies before the segment is then read, since no time is to be found by seeking.
    Raises SourceError.
    """

    _surveys: ClassVar[bool] = False

    def __init__(
        self,
        path: str,
        start_pts: int | None,
        end_pts: int | None,
        *,
        before: int,
        after: int,
        run: RunOptions,
        encode: EncodeOptions,
        seeks: bool = True,
    ) -> None:
        self._start_pts, self._end_pts, self._seeks = start_pts, end_pts, seeks
        self._run_up, self._after = before, after
        self._entry_pts: int | None = None  # the keyframe that decoding begins with
        super().__init__(path, run=replace(run, start_s=0.0, duration_s=None), encode=encode)

    def _open(self, path: str, run: RunOptions, encode: EncodeOptions) -> None:
        super()._open(path, run, encode)
        self._decoder.count_within(self._start_pts, self._end_pts)
        if self._start_pts is None:
            return
        needed = self._run_up + (_FILTER_FRAMES if self._filter is not None else 0)
        entry = find_entry(
            path, self._stream.index, self._start_pts, needed, self._rate, seeks=self._seeks
        )
        if entry is not None:
            self._entry_pts = entry.key_pts
            entry.go(self._container, self._stream)

    def _packets(self) -> Iterator[Any]:
        """Those of the video, from the entry on."""
        begun = self._entry_pts is None
        for packet in super()._packets():
            if packet.stream.index != self._stream.index:
                continue
            begun = begun or (packet.is_keyframe and packet.pts == self._entry_pts)
            if begun:
                yield packet

    def _frames(self, picture: av.VideoFrame) -> Iterator[Frame]:
        """The frame of a picture, unless it was decoded without what it refers to."""
        if self._entry_pts is None or picture.pts is None or picture.pts >= self._entry_pts:
            yield from super()._frames(picture)

    def _read(self) -> Generator[Frame | PassedPacket, None, None]:
        """The frames of the segment, those before it held back until their number is known."""
        early: deque[Frame] = deque(maxlen=self._run_up)
        late = 0
        for frame in super()._read():
            assert isinstance(frame, Frame)
            if self._start_pts is not None and frame.pts < self._start_pts:
                early.append(frame)
                continue
            if self._end_pts is not None and frame.pts >= self._end_pts:
                late += 1
                if late > self._after:
                    break
            while early:
                yield early.popleft()
            yield frame
            if late and late == self._after:
                break

    def _shortfall(self) -> Iterator[str]:
        """Nothing: how long the whole input is, is not for a part of it to say."""
        return iter(())

    def _emptiness(self) -> str:
        return f"no picture lies in the segment from {self._start_pts} to {self._end_pts}"


class SegmentSink(VideoSink):
    """FrameSink of one segment: its frames go into an intermediate file, others are dropped.

    The file keeps times exactly, those before zero moved by its tag OFFSET_TAG, whatever its own
    ``time_base``, and replaces one of the same name when it is
    complete. It begins with a picture that refers to nothing before, and all its groups are closed.
    Raises SinkError and OptionError.
    """

    _extra_options: ClassVar[dict[str, str]] = {"flags": "+cgop"}
    _carries = False

    def __init__(
        self,
        path: str,
        source: FrameSource,
        encode: EncodeOptions,
        *,
        start_pts: int | None,
        end_pts: int | None,
    ) -> None:
        self._start_pts, self._end_pts = start_pts, end_pts
        super().__init__(path, source, replace(encode, overwrite=True))

    def write(self, item: Frame | PassedPacket) -> None:
        """Encode a frame of the segment."""
        if isinstance(item, PassedPacket):
            return
        early = self._start_pts is not None and item.pts < self._start_pts
        late = self._end_pts is not None and item.pts >= self._end_pts
        if not early and not late:
            super().write(item)

    def _start(self, frame: Frame) -> None:
        """Begin the file; NUT holds no times before zero, so these are moved, and it says how far."""
        self._offset = min(0, frame.pts)
        if self._offset:
            self._output.metadata[OFFSET_TAG] = str(self._offset)
        super()._start(frame)

    def _tell_encoder(self, context: Any, tags: ColorTags) -> None:
        """Also how many threads: segments of a clip may be made on several machines."""
        super()._tell_encoder(context, tags)
        context.thread_type, context.thread_count = "FRAME", _ENCODER_THREADS

    def _time_of(self, frame: Frame) -> int:
        return frame.pts - self._offset

    def _container_for(self, path: str, options: EncodeOptions) -> Container:
        return _INTERMEDIATE

    def _add_streams(self) -> None:
        self._add_video()


@dataclass(frozen=True, slots=True)
class Entry:
    """The keyframe that decoding begins with, and the time to seek to before it; None reads from the beginning."""

    key_pts: int
    seek_pts: int | None = None

    def go(self, container: Any, stream: Any) -> None:
        """Seek there, unless reading begins with the file."""
        if self.seek_pts is not None:
            container.seek(self.seek_pts, stream=stream)


def find_entry(
    path: str,
    stream_index: int,
    start_pts: int,
    needed: int = 0,
    rate: Fraction | None = None,
    *,
    seeks: bool = True,
) -> Entry | None:
    """The entry for pictures from ``start_pts`` on, with at least ``needed`` frames between both.

    None where that is the beginning of the file. ``seeks`` is False for a file whose clock jumps.
    """
    with closing(open_container(path)) as container:
        stream: Any = container.streams[stream_index]
        if not seeks:
            key_pts = _latest_entry(container, stream, path, start_pts, needed)
            return None if key_pts is None else Entry(key_pts)
        unit = Fraction(stream.time_base)
        for margin_s in _MARGINS_S:
            back_s = margin_s + Fraction(3, 2) * needed / (rate or 25)
            target = start_pts - round(back_s / unit)
            if stream.start_time is None or target <= stream.start_time:
                return None
            try:
                container.seek(target, stream=stream)
                key_pts = _latest_entry(container, stream, path, start_pts, needed)
            except av.FFmpegError:
                return None
            if key_pts is not None:
                return Entry(key_pts, target)
    return None


def _latest_entry(
    container: Any, stream: Any, path: str, start_pts: int, needed: int
) -> int | None:
    nals = nal_format(stream, codec_name(stream), path)
    keys: list[int] = []
    times: list[int] = []
    behind = 0
    for packet in packets_of(container, path, stream):
        if packet.pts is None:
            return None
        is_key = packet.is_keyframe and packet.pts <= start_pts
        if is_key and (nals is None or nals.is_entry(nals.split(bytes(packet)))):
            keys.append(packet.pts)
        if keys and not packet.is_discard:
            times.append(packet.pts)
        behind += packet.pts >= start_pts
        if behind > _REORDER:
            break
    early = [pts for pts in times if pts < start_pts]
    fitting = (key for key in reversed(keys) if sum(pts >= key for pts in early) >= needed)
    return next(fitting, None)
