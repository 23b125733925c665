"""The whole video from its parts: segments that were encoded, and packets copied from the source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from vderain.errors import SinkError
from vderain.frames import Frame, PassedPacket, PlaneFormat
from vderain.interfaces import SinkReport
from vderain.media.edit.parts import Copied, Encoded, Parts, Piece
from vderain.media.frames.continuity import Continuity
from vderain.media.frames.planes import carrier_of
from vderain.media.frames.timing import move
from vderain.media.io.encoders import ENCODERS, fit
from vderain.media.io.formats import container_for
from vderain.media.io.index import NAL_CODECS, VideoIndex, index_video, packets_of
from vderain.media.io.length import Length
from vderain.media.io.open import open_container
from vderain.media.io.streams import add_copied_video
from vderain.media.sink import VideoSink, written_tags
from vderain.media.source import VideoSource
from vderain.media.verify.contents import Contents
from vderain.options import EncodeOptions, RunOptions

__all__ = ["Copied", "Encoded", "Piece", "assemble", "copy_obstacle"]


def copy_obstacle(index: VideoIndex, encode: EncodeOptions, output_path: str) -> str | None:
    """Why packets of a source cannot stand beside encoded ones in this output; None where they can.

    GOPs that are not closed cannot be copied either; ``assemble`` refuses them one by one.
    """
    try:
        container = container_for(output_path, encode)
    except SinkError as error:
        return str(error)
    codec = encode.codec.removesuffix("_nvenc")
    if not container.timestamps:
        return f"{container.muxer} stores a frame rate and no times"
    if index.codec not in NAL_CODECS:
        return f"packets of {index.codec} are not copied, only those of {' and '.join(NAL_CODECS)}"
    if index.codec != codec:
        return f"the source is {index.codec} and the output {codec}; use codec={index.codec!r}"
    if encode.interlaced == "deinterlace":
        return "copied frames would not be deinterlaced"
    if index.sets_change:
        return "the parameter sets of its video change in mid-file"
    return _other_pictures(index, encode)


def _other_pictures(index: VideoIndex, encode: EncodeOptions) -> str | None:
    if not index.pix_fmt or not index.width or not index.height:
        return "the header of its video does not tell size and pixel format"
    carrier = carrier_of(index.pix_fmt)
    layout = PlaneFormat(carrier.layout, index.width, index.height, carrier.bit_depth)
    encoder = ENCODERS[encode.codec]
    target = fit(encoder, layout, bit_depth=encode.bit_depth, alpha=False, pictures=False).target
    written = carrier_of(target.pix_fmt)
    if (written.layout, written.bit_depth) != (carrier.layout, carrier.bit_depth):
        return f"the source is {index.pix_fmt} and would be encoded as {target.pix_fmt}"
    if (target.width, target.height) != (index.width, index.height):
        return (
            f"the source is {index.width}x{index.height} and would be encoded as"
            f" {target.width}x{target.height}"
        )
    return None


@dataclass(frozen=True, slots=True)
class Assembled:
    """What was written, and what the source held on the way, so that nobody needs to read it again to verify."""

    report: SinkReport
    contents: Contents


def assemble(
    source_path: str,
    pieces: Sequence[Piece],
    output_path: str,
    *,
    encode: EncodeOptions,
    index: VideoIndex | None = None,
) -> Assembled:
    """Write the video of all pieces, in order, with all else that the source holds.

    Other tracks, chapters, tags, rotation come through as with VideoSink; times stay. ``index`` is
    that of the source, where it is known already. The output has its name only when it is complete.
    Raises SourceError, OptionError, and SinkError also for pieces that do not fit together.
    """
    index = index or index_video(source_path)
    container = container_for(output_path, encode)
    if not container.timestamps:
        raise SinkError(
            f"{output_path}: {container.muxer} stores a frame rate and no times, so segments cannot be"
            " put together in it; use .mkv or .mp4"
        )
    if any(isinstance(piece, Copied) for piece in pieces):
        obstacle = copy_obstacle(index, encode, output_path)
        if obstacle is not None:
            raise SinkError(f"{output_path}: no frames can be copied into it: {obstacle}")
    in_band = container.muxer == "mpegts"
    with (
        closing(VideoSource(source_path, run=RunOptions(), encode=encode)) as source,
        closing(Parts(index, pieces, output_path, repeat_sets=in_band)) as parts,
    ):
        first = next(item for item in source if isinstance(item, Frame))
        sink = _AssemblySink(output_path, source, encode, parts, first)
        try:
            contents = sink.take(parts.packets(), source_path, index.time_base)
            report = sink.finish()
        except BaseException:
            sink.abort()
            raise
    if parts.copied_frames:
        report.notes.append(
            f"{parts.copied_frames} of {report.frames} frames were copied as they were encoded"
        )
    return Assembled(report, contents)


class _AssemblySink(VideoSink):
    """Writes packets in the place of frames; all else is as with VideoSink."""

    def __init__(
        self, path: str, source: VideoSource, encode: EncodeOptions, parts: Parts, first: Frame
    ) -> None:
        self._parts = parts
        self._look = first
        super().__init__(path, source, encode)
        self._given = None  # what the source's packets hold is compared by the caller

    def take(self, packets: Iterator[Any], source_path: str, unit: Fraction) -> Contents:
        """Mux the video, and between it the packets of all other tracks, in the order of time.

        Returns what the source holds.
        """
        try:
            self._begin()
            head = next(packets, None)
            with closing(open_container(source_path)) as container:
                contents = Contents.of(container, source_path)
                for item, time_s in self._others(container, contents):
                    while head is not None and time_s is not None and head.dts * unit <= time_s:
                        self._mux_video(head)
                        head = next(packets, None)
                    self._tracks.write(item.stream_index, item.payload)
            while head is not None:
                self._mux_video(head)
                head = next(packets, None)
            return contents
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error

    def _begin(self) -> None:
        context = self._stream.codec_context
        tags = written_tags(self._look, self._parts.template.codec_context.pix_fmt)
        context.color_range, context.colorspace = tags.range, tags.matrix
        context.color_primaries, context.color_trc = tags.primaries, tags.transfer
        context.sample_aspect_ratio = self._info.sample_aspect_ratio
        self._stream.time_base = self._info.time_base
        self._turn()
        self._lose_pixel_shape()
        self._output.start_encoding()

    def _new_stream(self) -> Any:
        stream = add_copied_video(self._output, self._parts.template, self._info.frame_rate)
        stream.codec_context.extradata = self._parts.extradata
        return stream

    def _mux_video(self, packet: Any) -> None:
        move(packet, round(self._shift_s / self._info.time_base))
        packet.stream = self._stream
        self._muxer.mux(packet)
        self._report.frames += 1

    def _drain(self) -> None:
        """Nothing is held back here."""

    def _others(
        self, container: Any, contents: Contents
    ) -> Iterator[tuple[PassedPacket, Fraction | None]]:
        """The packets of the other tracks with their times in seconds; ``contents`` is told of all packets."""
        assert self._template is not None
        video = container.streams[self._template.video_index]
        length = Length(container, video, self._info.frame_rate)
        clock = Continuity(container)
        for packet in packets_of(container, contents.path, clock=clock):
            contents.add(packet)
            unit = Fraction(packet.time_base or 1)
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None and packet.stream.index == video.index:
                length.picture(time * unit, (packet.duration or 0) * unit)
            elif packet.stream.index != video.index and packet.time_base:
                if time is not None:
                    length.passed((time + (packet.duration or 0)) * unit)
                dts = packet.dts if packet.dts is not None else packet.pts
                yield (
                    PassedPacket(packet.stream.index, packet),
                    None if dts is None else dts * unit,
                )
        if not clock.jumps:
            self._report.losses.extend(length.losses(failures=0, whole=True))
        begun_s = self._template.zero_s
        self._report.notes.extend(jump.note(begun_s) for jump in clock.jumps)
