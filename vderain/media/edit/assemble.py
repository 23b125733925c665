"""Assembles a video from encoded segments and from packets copied from the source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.stream import Discard

from vderain.errors import SinkError
from vderain.frames import Frame, PassedPacket, PlaneFormat
from vderain.interfaces import SinkReport
from vderain.media.edit.inspect import Inspected, inspect
from vderain.media.edit.parts import Copied, Encoded, Parts, Piece
from vderain.media.encoding import written_tags
from vderain.media.frames.continuity import Continuity
from vderain.media.frames.planes import carrier_of
from vderain.media.frames.timing import move
from vderain.media.io.encoders import ENCODERS, encoder_for, fit
from vderain.media.io.formats import Container, container_for
from vderain.media.io.index import NAL_CODECS, VideoIndex, packets_of
from vderain.media.io.open import open_container
from vderain.media.io.streams import add_copied_video
from vderain.media.output import Output
from vderain.media.source import VideoSource
from vderain.media.verify.contents import Contents
from vderain.options import EncodeOptions, RunOptions

__all__ = ["Copied", "Encoded", "Piece", "assemble", "copy_obstacle"]


def copy_obstacle(index: VideoIndex, encode: EncodeOptions, output_path: str) -> str | None:
    """Why packets of a source cannot be mixed with encoded ones in this output; None where they can.

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
    return _other_images(index, encode)


def _other_images(index: VideoIndex, encode: EncodeOptions) -> str | None:
    if not index.pix_fmt or not index.width or not index.height:
        return "the header of its video lacks size and pixel format"
    carrier = carrier_of(index.pix_fmt)
    layout = PlaneFormat(carrier.layout, index.width, index.height, carrier.bit_depth)
    encoder = ENCODERS[encode.codec]
    target = fit(encoder, layout, bit_depth=encode.bit_depth, alpha=False, images=False).target
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
    """The report, and the source's contents read on the way, so that verifying needs no further reading."""

    report: SinkReport
    contents: Contents


def assemble(
    source_path: str,
    pieces: Sequence[Piece],
    output_path: str,
    *,
    encode: EncodeOptions,
    known: Inspected | None = None,
) -> Assembled:
    """Write the video of all pieces, in order, with everything else of the source.

    Other tracks, chapters, tags and rotation are kept as in a run; times stay. ``known`` are the source's
    packets, where they were read before. The output gets its name when it is complete. Raises SourceError,
    OptionError, and SinkError also for pieces that do not fit together.
    """
    known = known or inspect(source_path)
    index = known.index
    container = _checked_container(output_path, index, pieces, encode)
    in_band = container.muxer == "mpegts"
    with (
        closing(
            VideoSource(source_path, run=RunOptions(), encode=encode, known=known.survey)
        ) as source,
        closing(Parts(index, pieces, output_path, repeat_sets=in_band)) as parts,
    ):
        template = source.template
        output = Output(
            *(output_path, container),
            info=source.info,
            template=template,
            overwrite=encode.overwrite,
            compares=False,  # the caller compares with the source's contents
        )
        try:
            _begin(output, encode, container, source, parts)
            with output.failing():
                _fill(output, known, parts.packets())
            output.report.losses.extend(known.losses)
            output.report.notes.extend(jump.note(template.zero_s) for jump in index.jumps)
            if not output.report.frames:
                raise SinkError(f"{output_path}: not one frame came, so no output was made")
            report = output.finish()
        except BaseException:
            output.abort()
            raise
    if parts.copied_frames:
        report.notes.append(
            f"{parts.copied_frames} of {report.frames} frames were copied as they were encoded"
        )
    return Assembled(report, known.contents)


def _checked_container(
    output_path: str, index: VideoIndex, pieces: Sequence[Piece], encode: EncodeOptions
) -> Container:
    """The output's container; SinkError where it cannot hold the pieces."""
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
    return container


def _begin(
    output: Output, encode: EncodeOptions, container: Container, source: VideoSource, parts: Parts
) -> None:
    """Open the output with a video stream for the packets of all parts, and write its header."""
    encoder, notes = encoder_for(encode, container.muxer)
    output.report.codec = encoder.name
    output.report.notes.extend(notes)

    def add(made: Any) -> Any:
        stream = add_copied_video(made, parts.template, source.info.frame_rate)
        stream.codec_context.extradata = parts.extradata
        return stream

    output.open(encoder.codec, add, holds_pixel_shape=encoder.pixel_shape)
    first = next(item for item in source if isinstance(item, Frame))
    tags = written_tags(first, parts.template.codec_context.pix_fmt)
    context = output.stream.codec_context
    context.color_range, context.colorspace = tags.range, tags.matrix
    context.color_primaries, context.color_trc = tags.primaries, tags.transfer
    context.sample_aspect_ratio = source.info.sample_aspect_ratio
    output.stream.time_base = source.info.time_base
    with output.failing():
        output.begin()


def _fill(output: Output, known: Inspected, packets: Iterator[Any]) -> None:
    """Write the video, and the packets of all other tracks of a file in between, in the order of time."""
    unit = known.index.time_base
    shift = round(output.shift_s / unit)

    def write(packet: Any) -> None:
        move(packet, shift)
        packet.stream = output.stream
        pts, duration = packet.pts, packet.duration or 0
        output.mux([packet])
        output.note_frame(pts, duration, unit)

    head = next(packets, None)
    for packet in _others(known):
        dts = packet.dts if packet.dts is not None else packet.pts
        time_s = None if dts is None else dts * Fraction(packet.time_base)
        while head is not None and time_s is not None and head.dts * unit <= time_s:
            write(head)
            head = next(packets, None)
        output.carry(PassedPacket(packet.stream.index, packet))
    while head is not None:
        write(head)
        head = next(packets, None)


def _others(known: Inspected) -> Iterator[Any]:
    """The packets of the other tracks; video is skipped where the clock does not need it."""
    path, video_index = known.index.path, known.contents.video_index
    is_steady = not known.index.jumps
    with closing(open_container(path)) as container:
        if is_steady:
            container.streams[video_index].discard = Discard.all
        for packet in packets_of(container, path, clock=Continuity(container, steady=is_steady)):
            if packet.stream.index != video_index and packet.time_base:
                yield packet
