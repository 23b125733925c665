"""The places where a video can be cut: its GOPs, read from the packets without decoding."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from vderain.errors import SourceError
from vderain.media.bitstream.nal import NalFormat
from vderain.media.frames.continuity import Continuity, Jump
from vderain.media.frames.decoding import MAX_CONSECUTIVE_FAILURES
from vderain.media.io.open import codec_name, input_name, open_container, pick_video
from vderain.media.io.urls import redact

# Codecs whose NAL types tell whether a keyframe is independent; containers flag more as keyframes.
NAL_CODECS = ("h264", "hevc")


@dataclass(frozen=True, slots=True)
class Gop:
    """A keyframe and the packets decoded after it, up to the next; times in the video's ``time_base``.

    The GOPs of a video are contiguous. ``is_closed`` where no frame of it is shown in the time of the GOP before or
    refers to it, so that its packets can be copied without that GOP.
    """

    start_pts: int
    end_pts: int  # exclusive
    frames: int
    size_bytes: int  # of its packets
    is_closed: bool


@dataclass(frozen=True, slots=True)
class VideoIndex:
    """Properties of a video by its packets.

    Attributes:
        codec: FFmpeg's name.
        gops: at least one, in order of time.
        size_bytes: of the whole file.
        width, height, pix_fmt: of the stored images, by the stream's header.
        last_pts: the time of the last frame.
        reorder: the most packets by which an image is decoded early.
        sets_change: whether parameter sets change within the file, so that a header cannot hold them.
        jumps: of the file's clock, with which seeking finds no times.

    """

    path: str
    time_base: Fraction
    codec: str
    frames: int
    gops: tuple[Gop, ...]
    duration_s: float
    size_bytes: int
    width: int = 0
    height: int = 0
    pix_fmt: str = ""
    last_pts: int = 0
    reorder: int = 0
    sets_change: bool = False
    jumps: tuple[Jump, ...] = ()


def index_video(path: str) -> VideoIndex:
    """Read all packets of the video that ``open_source`` would read; decodes nothing.

    Raises SourceError where it cannot be read, or its frames have no times.
    """
    with closing(open_container(path)) as container:
        stream = pick_video(container, path)
        indexer = Indexer(stream, path)
        clock = Continuity(container)
        for packet in packets_of(container, path, stream, clock=clock):
            indexer.add(packet)
        return indexer.index(clock.jumps)


class Indexer:
    """Makes the index of a video while its packets are read."""

    def __init__(self, stream: Any, path: str) -> None:
        self._stream, self._path = stream, path
        self._codec = codec_name(stream)
        self._scan = _Scan(nal_format(stream, self._codec, path))

    def add(self, packet: Any) -> None:
        """Add the next packet. Raises SourceError for one without a time."""
        self._scan.add(packet, self._path)

    def index(self, jumps: Iterable[Jump]) -> VideoIndex:
        """The index, with these jumps of the file's clock. Raises SourceError where there is no keyframe."""
        scan, path = self._scan, self._path
        gops = scan.gops()
        if not gops:
            raise SourceError(f"{input_name(path)}: not one keyframe of its video can be read")
        time_base = Fraction(self._stream.time_base)
        context = self._stream.codec_context
        return VideoIndex(
            path,
            time_base,
            self._codec,
            sum(gop.frames for gop in gops),
            gops,
            float((gops[-1].end_pts - gops[0].start_pts) * time_base),
            os.path.getsize(path),
            context.width,
            context.height,
            context.pix_fmt or "",
            scan.last_pts,
            scan.reorder,
            scan.sets_change,
            tuple(jumps),
        )


def nal_format(stream: Any, codec: str, path: str) -> NalFormat | None:
    """The packing of a stream's NAL units; None for codecs without them. Raises SourceError."""
    if codec not in NAL_CODECS:
        return None
    try:
        return NalFormat.of(codec, stream.codec_context.extradata)
    except ValueError as error:
        raise SourceError(f"{input_name(path)}: {error}; it is damaged") from None


def packets_of(
    container: Any, path: str, stream: Any = None, *, clock: Continuity | None = None
) -> Iterator[Any]:
    """The packets of one stream, or of all, on one clock; reading continues behind damage.

    Afterwards ``clock`` has the jumps of the container's clock.

    Raises SourceError where reading stops, and after MAX_CONSECUTIVE_FAILURES in a row without a packet: FFmpeg
    steps back from a place of an MP4 that it cannot read, and would return to it forever.
    """
    clock = clock or Continuity(container)
    index = None if stream is None else stream.index
    failures = 0
    while True:
        try:
            for packet in container.demux():
                failures = 0
                for ready in clock.push(packet) if packet.size else ():
                    if index is None or ready.stream.index == index:
                        yield ready
            for ready in clock.flush():
                if index is None or ready.stream.index == index:
                    yield ready
            return
        except av.InvalidDataError as error:
            failures += 1
            if failures > MAX_CONSECUTIVE_FAILURES:
                raise SourceError(
                    f"{input_name(path)}: reading does not get past damage in it"
                    f" ({error.strerror}); the rest of the file is damaged"
                ) from None
        except av.FFmpegError as error:
            reason = redact(error.strerror or type(error).__name__)
            raise SourceError(f"{input_name(path)}: reading stopped ({reason})") from None


@dataclass(slots=True)
class _Group:
    """A GOP while its packets are read; ``times`` in the order of decoding."""

    key_pts: int
    is_reset: bool
    times: list[int]
    size_bytes: int = 0
    end_pts: int = 0
    hides: bool = False  # whether an edit list hides packets of it


class _Scan:
    """Collects packets into GOPs; keeps the times of one GOP only."""

    def __init__(self, nals: NalFormat | None) -> None:
        self.reorder = 0
        self.last_pts = 0
        self.sets_change = False
        self._nals = nals
        self._sets: dict[tuple[int, int], bytes] = {}
        self._group: _Group | None = None
        self._done: list[tuple[int, int, Gop]] = []  # with the last time and the end of each
        self._sets_in(nals.sets if nals else ())

    def add(self, packet: Any, path: str) -> None:
        """Add the next packet; those before the first keyframe cannot be decoded."""
        if packet.pts is None:
            raise SourceError(
                f"{input_name(path)}: its frames have no times of their own, so it cannot be cut;"
                " derain it in one go, or put it into an MP4 first"
            )
        if packet.is_keyframe:
            self._close()
            units = self._nals.split(bytes(packet)) if self._nals else []
            self._sets_in(units)
            is_reset = self._nals is None or self._nals.is_reset(units)
            self._group = _Group(packet.pts, is_reset, [])
        group = self._group
        if group is None:
            return
        group.size_bytes += packet.size
        if packet.is_discard:
            group.hides = True
            return
        group.times.append(packet.pts)
        group.end_pts = max(group.end_pts, packet.pts + (packet.duration or 0), packet.pts + 1)

    def gops(self) -> tuple[Gop, ...]:
        """All GOPs, each up to the beginning of the next."""
        self._close()
        found = []
        last = None
        for index, (latest, end, gop) in enumerate(self._done):
            following = self._done[index + 1][2].start_pts if index + 1 < len(self._done) else end
            apart = latest < following and (last is None or last < gop.start_pts)
            last = latest if last is None else max(last, latest)
            self.last_pts = last
            found.append(
                Gop(
                    gop.start_pts,
                    max(following, gop.start_pts),
                    gop.frames,
                    gop.size_bytes,
                    gop.is_closed and apart,
                )
            )
        return tuple(found)

    def _close(self) -> None:
        group, self._group = self._group, None
        if group is None or not group.times:
            return
        first = min(group.times)
        closed = group.is_reset and first == group.key_pts and not group.hides
        gop = Gop(first, group.end_pts, len(group.times), group.size_bytes, closed)
        self._done.append((max(group.times), group.end_pts, gop))
        rank = {pts: place for place, pts in enumerate(sorted(group.times))}
        late = max(place - rank[pts] for place, pts in enumerate(group.times))
        self.reorder = max(self.reorder, late)

    def _sets_in(self, units: Iterable[bytes]) -> None:
        """Whether a parameter set has another content than the last one of the same kind and id."""
        for unit in units:
            if self._nals is not None and self._nals.is_parameter_set(unit):
                key = (self._nals.kind(unit), self._nals.number(unit))
                self.sets_change |= self._sets.setdefault(key, unit) != unit
