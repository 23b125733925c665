"""Joins files of one recording to one file: copies packets and moves their times, without encoding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import PurePath
from typing import Any

import av
from av.stream import Disposition

from vderain.errors import OptionError, SinkError, SourceError
from vderain.files import Destination
from vderain.frames import PassedPacket
from vderain.interfaces import SinkReport, StreamInfo
from vderain.media.carry.template import Template
from vderain.media.carry.trial import first_packets
from vderain.media.frames.color import Mastering
from vderain.media.frames.timing import DecodingTimes, move
from vderain.media.io.formats import container_for
from vderain.media.io.index import nal_format
from vderain.media.io.open import codec_name, is_container_track, open_container, pick_video
from vderain.media.io.streams import add_copied_video
from vderain.media.io.urls import redact
from vderain.media.muxing import CopiedTrack
from vderain.media.output import Output
from vderain.options import EncodeOptions

_CODECS = ("h264", "hevc", "av1", "ffv1")  # those that vderain writes
_OVERLAP_S = 0.1  # of sound between parts; a longer one is reported as a loss


def join(parts: Sequence[str], output: str, *, overwrite: bool = False) -> SinkReport:
    """Write the videos ``parts``, in this order, to ``output`` as one video without gaps.

    Tracks that every part has are copied packet by packet. The times of each part are moved so that its video
    begins where that of the part before ends; chapters move along. Tags are those of the first part. The parts
    are kept. Where sound of two parts overlaps, the second part's is left out.

    Raises OptionError for fewer than two parts, SourceError for one that cannot be read, and SinkError where
    parts differ in codec, size, pixel format, parameter sets, time base or the kind of a track, or where the
    output cannot be written; no file is left under its name then.
    """
    if len(parts) < 2:
        raise OptionError(f"{output}: is to be joined of {len(parts)} files; name two or more")
    for part in parts:
        Destination(output).check(part, overwrite=overwrite)
    looked_at = _placed([_look_at(part) for part in parts])
    for other in looked_at[1:]:
        _refuse_difference(looked_at[0], other)
    with closing(open_container(looked_at[0].path)) as first:
        joining = _Joining(looked_at, first, output, overwrite=overwrite)
        return joining.run()


def _codec_of(part: _Part) -> str:
    codec = part.video.codec
    if codec not in _CODECS:
        raise SinkError(
            f"{part.path}: its video is {codec}; files with {', '.join(_CODECS)} can be joined"
        )
    return codec


@dataclass(frozen=True, slots=True)
class _Video:
    """Properties that must be the same in all parts, in words for messages."""

    codec: str
    size: str
    pixel_format: str
    time_base: Fraction
    parameter_sets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """A part by its packets; times in units of its video.

    ``tracks`` are the other tracks, keyed by (kind, index within the kind): their indices and the parameters
    that decoders need. ``shift`` is added to its times.
    """

    path: str
    video: _Video
    video_index: int
    tracks: dict[tuple[str, int], tuple[int, tuple[Any, ...]]]
    chapters: tuple[dict[str, Any], ...]
    frames: int
    start_pts: int
    end_pts: int
    shift: int = 0

    def shift_in(self, time_base: Fraction) -> int:
        """The shift in units of another track."""
        return round(self.shift * self.video.time_base / time_base)


def _look_at(path: str) -> _Part:
    with closing(open_container(path)) as container:
        stream = pick_video(container, path)
        codec = codec_name(stream)
        context = stream.codec_context
        nals = nal_format(stream, codec, path)
        header = nals.sets if nals is not None else (context.extradata or b"",)
        video = _Video(
            codec,
            f"{context.width}x{context.height}",
            context.pix_fmt or "",
            Fraction(stream.time_base),
            header,
        )
        tracks = _tracks(container, stream.index)
        chapters = tuple(dict(chapter) for chapter in container.chapters())
        frames, start, end = _extent(container, stream, path)
        return _Part(path, video, stream.index, tracks, chapters, frames, start, end)


def _tracks(container: Any, video_index: int) -> dict[tuple[str, int], tuple[int, tuple[Any, ...]]]:
    tracks = {}
    count: Counter[str] = Counter()
    for stream in container.streams:
        if stream.index == video_index or is_container_track(stream):
            continue
        context = stream.codec_context
        about: tuple[Any, ...] = (codec_name(stream),)
        if stream.type == "audio" and context is not None:
            about += (f"{context.sample_rate} Hz", context.layout.name, context.extradata or b"")
        tracks[stream.type, count[stream.type]] = stream.index, about
        count[stream.type] += 1
    return tracks


def _extent(container: Any, stream: Any, path: str) -> tuple[int, int, int]:
    """Number of frames, time of the first, and of the end of the last. Raises SourceError and SinkError."""
    times: list[int] = []
    last_end = 0
    for packet in _packets(container.demux(stream), path):
        if packet.pts is None:
            raise SourceError(
                f"{path}: its frames have no times of their own, so it cannot be joined"
            )
        if packet.is_discard:
            raise SinkError(
                f"{path}: an edit list hides frames of it, which would be seen when joined; leave it out"
            )
        times.append(packet.pts)
        last_end = max(last_end, packet.pts + (packet.duration or 0))
    if not times:
        raise SourceError(f"{path}: holds not one frame of video; leave it out")
    times.sort()
    if last_end <= times[-1]:  # the container has no duration of its last frame
        last_end = times[-1] + (times[-1] - times[-2] if len(times) > 1 else 1)
    return len(times), times[0], last_end


def _placed(parts: list[_Part]) -> list[_Part]:
    """The parts with their shifts; the first is not moved."""
    placed: list[_Part] = []
    end = parts[0].start_pts
    for part in parts:
        shift = end - part.start_pts
        placed.append(replace(part, shift=shift))
        end = part.end_pts + shift
    return placed


def _refuse_difference(first: _Part, part: _Part) -> None:
    for name in ("codec", "size", "pixel_format", "time_base"):
        mine, others = getattr(part.video, name), getattr(first.video, name)
        if mine != others:
            _refuse(part, first, f"its video has {name.replace('_', ' ')} {mine}, not {others}")
    if part.video.parameter_sets != first.video.parameter_sets:
        _refuse(part, first, "its video was encoded with other settings (parameter sets differ)")
    for key, (index, about) in first.tracks.items():
        if key in part.tracks and part.tracks[key][1] != about and key[0] == "audio":
            mine = " ".join(str(fact) for fact in part.tracks[key][1] if isinstance(fact, str))
            others = " ".join(str(fact) for fact in about if isinstance(fact, str))
            differs = f"track {index} is {mine}, not {others}"
            if mine == others:
                differs = f"track {index} was encoded with other settings"
            _refuse(part, first, differs)


def _refuse(part: _Part, first: _Part, differs: str) -> None:
    raise SinkError(
        f"{part.path}: cannot be joined to {PurePath(first.path).name}: {differs}; derain both with the"
        " same settings, or keep them apart"
    )


@dataclass(slots=True)
class _Sound:
    """An audio track of the output; decides which packets of the next part continue it."""

    left_out_s: Fraction = Fraction(0)  # of the current part
    _end: int | None = None  # in the track's time base
    _at_cut: bool = False

    def begin(self) -> None:
        """Begin with the packets of another part."""
        self.left_out_s = Fraction(0)
        self._at_cut = self._end is not None

    def takes(self, packet: Any) -> bool:
        """Whether to copy a packet, whose times are moved already."""
        duration = packet.duration or 0
        if self._at_cut and self._end is not None:
            if packet.is_discard:
                return False  # the run-up of an encoder, which is not played
            if packet.pts + duration / 2 < self._end:  # most of it overlaps with copied sound
                self.left_out_s += duration * packet.time_base
                return False
            self._at_cut = False
        self._end = max(self._end or packet.pts, packet.pts + duration)
        return True


class _Joining:
    """The output while parts are copied into it; ``first`` is the first part, open."""

    def __init__(self, parts: list[_Part], first: Any, output: str, *, overwrite: bool) -> None:
        self._parts = parts
        codec = _codec_of(parts[0])
        losses: list[str] = []
        self._output = Output(
            output,
            container_for(output, EncodeOptions(codec=codec)),
            info=_info(parts[0], first),
            template=_template(parts, first, losses),
            overwrite=overwrite,
        )
        self._output.report.codec = f"copied {codec}"
        self._output.report.losses.extend(losses)
        original = first.streams[parts[0].video_index]
        self._output.open(
            codec, lambda made: add_copied_video(made, original, original.average_rate)
        )
        self._video = CopiedTrack(self._output.muxer, self._output.stream, order=DecodingTimes())
        self._sounds: dict[int, _Sound] = {}

    def run(self) -> SinkReport:
        """Copy everything and complete the file. Raises SinkError and SourceError."""
        output = self._output
        try:
            with output.failing():
                output.begin()
                for part in self._parts:
                    self._copy(part)
                self._video.flush()
            output.report.losses.extend(_without_place(self._parts))
            return output.finish()
        except BaseException:
            output.abort()
            raise

    def _copy(self, part: _Part) -> None:
        """Copy one part, moved to its place."""
        first = self._parts[0]
        places = {
            index: first.tracks[key][0]
            for key, (index, _) in part.tracks.items()
            if key in first.tracks
        }
        for sound in self._sounds.values():
            sound.begin()
        frames = 0
        with closing(open_container(part.path)) as container:
            covers = {
                s.index for s in container.streams if s.disposition & Disposition.attached_pic
            }
            for packet in _packets(container.demux(), part.path):
                index = packet.stream.index
                if index in covers:
                    if part is first:
                        self._output.carry(PassedPacket(places[index], packet))
                    continue
                move(packet, part.shift_in(Fraction(packet.time_base)))
                if index == part.video_index:
                    frames += 1
                    self._copy_frame(packet, part.video.time_base)
                elif index in places and self._takes(packet, places[index]):
                    self._output.carry(PassedPacket(places[index], packet))
        if frames != part.frames:
            raise SourceError(f"{part.path}: changed while it was read; try again")
        self._report_sound(part)

    def _copy_frame(self, packet: Any, unit: Fraction) -> None:
        packet.dts = None  # computed again, so that it rises across the cut too
        packet.stream = self._output.stream  # its own is closed before it is written
        pts, duration = packet.pts, packet.duration or 0
        self._video.write(packet)
        self._output.note_frame(pts, duration, unit)

    def _takes(self, packet: Any, place: int) -> bool:
        """Whether a packet of another track is copied: all packets but those of overlapping sound."""
        if packet.stream.type != "audio" or packet.pts is None:
            return True
        return self._sounds.setdefault(place, _Sound()).takes(packet)

    def _report_sound(self, part: _Part) -> None:
        for place, sound in self._sounds.items():
            if sound.left_out_s > _OVERLAP_S:
                self._output.report.losses.append(
                    f"{self._output.tracks.names[place]}: {float(sound.left_out_s):.2f} s at the beginning of"
                    f" {part.path} are left out, the sound before lasts so much longer than its video"
                )


def _info(part: _Part, container: Any) -> StreamInfo:
    """The properties that an output takes from its first part."""
    stream = container.streams[part.video_index]
    context = stream.codec_context
    return StreamInfo(
        *(part.path, context.width, context.height, part.video.time_base),
        frame_rate=stream.average_rate,
        container=container.format.name,
    )


def _template(parts: list[_Part], container: Any, losses: list[str]) -> Template:
    """Contents of the output besides the video: tags of the first part, chapters of all, tracks that all parts have."""
    first = parts[0]
    left_out = frozenset(
        stream.index for stream in container.streams if not _is_common(parts, stream, losses)
    )
    others = {stream.index for stream in container.streams} - left_out
    samples = first_packets(first.path, others)
    return Template(
        *(container, first.video_index, tuple(_chapters(parts)), None, Mastering()),
        samples={index: tuple(packets) for index, packets in samples.items()},
        left_out=left_out,
    )


def _is_common(parts: list[_Part], stream: Any, losses: list[str]) -> bool:
    """Whether all parts have a track of the first part; ``losses`` gets the others."""
    if stream.index == parts[0].video_index or stream.type == "attachment":
        return True
    if stream.disposition & Disposition.attached_pic:
        return True  # a cover of the first part
    keys = {index: key for key, (index, _) in parts[0].tracks.items()}
    key = keys.get(stream.index)
    if key is None:
        return True  # bookkeeping, which mirror leaves out
    about = parts[0].tracks[key][1]
    for part in parts[1:]:
        if key not in part.tracks or part.tracks[key][1] != about:
            name = f"#{stream.index} {stream.type} {about[0]}"
            losses.append(f"{name}: left out, {part.path} has no such track")
            return False
    return True


def _chapters(parts: list[_Part]) -> Iterator[dict[str, Any]]:
    number = 0
    for part in parts:
        for chapter in part.chapters:
            number += 1
            unit = Fraction(chapter["time_base"] or Fraction(1, 1000))
            shift = part.shift_in(unit)
            start, end = chapter["start"] + shift, chapter["end"] + shift
            yield {**chapter, "id": number, "start": start, "end": end, "time_base": unit}


def _without_place(parts: list[_Part]) -> Iterator[str]:
    """A loss for every track that the first part lacks, with the part in which it begins."""
    known = set(parts[0].tracks)
    for part in parts[1:]:
        for key, (index, about) in part.tracks.items():
            if key not in known:
                known.add(key)
                name = f"#{index} {key[0]} {about[0]} of {part.path}"
                yield f"{name}: left out, {parts[0].path} has no such track"


def _packets(packets: Iterator[Any], path: str) -> Iterator[Any]:
    """The packets that hold something. Raises SourceError where reading fails: parts are joined whole."""
    try:
        for packet in packets:
            if packet.size and packet.time_base:
                yield packet
    except av.FFmpegError as error:
        reason = redact(error.strerror or type(error).__name__)
        raise SourceError(f"{path}: reading stopped ({reason}); derain it again") from None
