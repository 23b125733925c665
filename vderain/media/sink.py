"""Video out: frames are encoded, other packets pass, and the file appears when it is complete."""

from __future__ import annotations

import math
import os
from contextlib import closing, suppress
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import av
from av.stream import Disposition

from vderain.errors import SinkError
from vderain.files import Destination, refuse_name
from vderain.frames import ColorTags, Frame, PassedPacket, PlaneFormat
from vderain.interfaces import FrameSource, SinkReport
from vderain.media.bitstream.ticks import Ticks
from vderain.media.carry.belongings import Belongings
from vderain.media.carry.messages import Messages
from vderain.media.carry.sidecar import Sidecar, boxes_beside, place_beside, track_header
from vderain.media.carry.template import Template
from vderain.media.carry.timecode import tags_behind, told_timecode
from vderain.media.carry.tracks import Muxer, Tracks, mirror
from vderain.media.frames.color import FULL_RANGE, Mastering
from vderain.media.frames.planes import PlaneWriter, carrier_of, tags_after
from vderain.media.frames.timing import shift_to_show
from vderain.media.gpu.surfaces import SurfaceWriter, fits_surface, why_not_from_device
from vderain.media.io.encoders import codec_options, encoder_for, fit
from vderain.media.io.formats import (
    MP4_KEYS,
    STANDARD_STREAM,
    Container,
    container_for,
    muxer_options,
)  # fmt: skip
from vderain.media.io.open import open_container
from vderain.media.io.pipes import StandardOutput
from vderain.media.io.streams import DEFAULT_RATE, MP4_FAMILY, tag_video
from vderain.media.io.urls import redact
from vderain.media.verify.contents import Contents
from vderain.media.verify.facts import Facts
from vderain.media.verify.problems import verified
from vderain.options import EncodeOptions

TIMECODES = ("mp4", "mov", "matroska", "webm")  # the muxers that write a timecode


class VideoSink:
    """FrameSink that writes a video file, or a stream to standard output (``-``).

    All that can be known is checked at opening: the place, the container and its codec, whether the
    encoder opens, which tracks the container holds. The encoder gets its size and pixel format from
    the first frame; a later frame of another size or format ends the run. Raises SinkError and
    OptionError.
    """

    _extra_options: ClassVar[dict[str, str]] = {}  # of the encoder, in FFmpeg's words
    _carries: ClassVar[bool] = True  # whether boxes of the source go with the output

    def __init__(self, path: str, source: FrameSource, options: EncodeOptions) -> None:
        refuse_name(path, SinkError)
        self._path = path
        self._options = options
        self._info = source.info
        self._template: Template | None = source.template
        self._report = SinkReport(path="standard output" if path == STANDARD_STREAM else path)
        self._format = self._container_for(path, options)
        self._shift_s = self._to_show()
        self._encoder, notes = encoder_for(options, self._format.muxer)
        self._report.notes.extend(notes)
        self._destination: Destination | None = None
        self._pipe: StandardOutput | None = None
        if path == STANDARD_STREAM:
            self._pipe = StandardOutput()
        else:
            self._destination = Destination(path)
            self._destination.check(source.info.path, overwrite=options.overwrite)
        self._output: Any = None
        self._tracks = Tracks()
        self._first: Frame | None = None
        self._begun = False
        self._surfaces: SurfaceWriter | None = None
        self._ticks: Ticks | None = None
        self._waiting: list[PassedPacket] = []
        self._stream: Any = None
        self._last_pts: int | None = None
        self._messages = Messages(self._encoder.codec)
        self._belongings = Belongings(None, {}, self._format.muxer)
        self._grafts = False
        self._given: Contents | None = None
        if self._template is not None and self._carries and self._pipe is None:
            self._given = Contents.of(self._template.container, source.info.path)
        self._frames_stay = True
        self._squeezed = 0
        self._alpha_lost = False
        self._closed = False
        try:
            self._open()
        except (av.FFmpegError, OSError) as error:
            self.abort()
            raise self._failure(error) from error
        except BaseException:
            self.abort()
            raise

    @cached_property
    def takes_device_planes(self) -> bool:
        """Whether frames may come on the GPU, to be encoded there; tried when it is first asked."""
        if not self._encoder.name.endswith("_nvenc"):
            return False
        reason = why_not_from_device(self._encoder)
        if reason is not None:
            self._report.notes.append(
                f"{self._encoder.name} takes no frames from the GPU here ({reason}); they are copied"
            )
        return reason is None

    def write(self, item: Frame | PassedPacket) -> None:
        """Encode a frame, or pass a packet on; packets before the first frame wait for it."""
        try:
            if isinstance(item, PassedPacket):
                if not self._begun:
                    self._waiting.append(item)
                else:
                    self._pass(item)
                return
            if self._first is None:
                self._start(item)
            self._encode(item)
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error

    def _pass(self, item: PassedPacket) -> None:
        if self._given is not None:
            self._given.add(item.payload)
        self._tracks.write(item.stream_index, item.payload)

    def finish(self) -> SinkReport:
        """Flush, complete the container, give it its name."""
        if not self._report.frames:
            raise SinkError(f"{self._report.path}: not one frame came, so no output was made")
        try:
            self._drain()
            self._tracks.flush()
            numbers = self._track_numbers() if self._grafts else {}
            self._output.close()
            self._look_for_timecode()
            if self._destination is not None:
                self._tracks.mend(self._destination.partial)
                if self._grafts:
                    self._belongings.complete(
                        self._destination.partial, numbers, frames_stay=self._frames_stay
                    )
            self._tracks.finish()
            self._belongings.finish()
            if self._pipe is not None:
                self._pipe.flush()
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error
        if self._destination is not None:
            unnamed = self._unnamed_losses(self._destination.partial)
            self._destination.publish()
            self._report.losses.extend(unnamed)
        self._closed = True
        self._tracks.publish()
        self._belongings.publish()
        return self._complete_report()

    def _unnamed_losses(self, path: Path) -> list[str]:
        """What the complete output lacks of its source, and nothing has named."""
        template = self._template
        if template is None or not self._carries:
            return []
        facts = Facts.of(
            template.container,
            template.container.streams[template.video_index],
            views=template.views,
            turned=template.display_matrix is not None,
            chapters=len(template.chapters),
            leftovers=template.leftovers,
            tracks=self._tracks.copied,
        )
        if self._given is not None:
            copied = self._tracks.copied
            self._given.others = {i: o for i, o in self._given.others.items() if i in copied}
            for other in self._given.others.values():
                other.move(self._shift_s)
        named = [*self._report.losses, *self._tracks.losses, *self._belongings.losses]
        return verified(
            *(facts, self._given, str(path)),
            frames=self._report.frames,
            timed=self._format.timestamps,
            losses=[*named, *(loss for _, loss in self._tracks.sidecars)],
        )

    def abort(self) -> None:
        """Drop what was written; does nothing after ``finish``."""
        if self._closed:
            return
        self._closed = True
        # A container that failed cannot be completed, and need not be.
        with suppress(av.FFmpegError, OSError):
            if self._output is not None:
                self._output.close()
        self._tracks.abort()
        self._belongings.abort()
        if self._destination is not None:
            self._destination.discard()

    def _container_for(self, path: str, options: EncodeOptions) -> Container:
        return container_for(path, options)

    def _open(self) -> None:
        """Make the output's streams; FFmpeg creates the file itself with the first frame."""
        file: Any = self._pipe
        if self._destination is not None:
            file = f"file:{self._destination.partial}"
        metadata = self._tags(self._template.container.metadata) if self._template else {}
        if self._template is not None and self._carries:
            self._belongings = Belongings(
                *(self._template.leftovers, metadata, self._format.muxer),
                is_file=self._pipe is None,
            )
        self._grafts = self._belongings.grafts(MP4_KEYS)
        self._output = av.open(
            file,
            "w",
            format=self._format.muxer,
            container_options=muxer_options(
                *(self._format, metadata, self._info.time_base), is_changed=self._grafts
            ),
            metadata_errors="surrogateescape",
        )
        self._output.metadata.update(metadata)
        self._muxer = Muxer(self._output)
        self._add_streams()

    def _add_streams(self) -> None:
        if self._template is None:
            self._add_video()
            return
        self._output.set_chapters([self._moved(chapter) for chapter in self._template.chapters])
        beside = None if self._destination is None else self._sidecar
        self._tracks = mirror(
            *(self._template, self._muxer, self._format, beside, self._add_video),
            is_file=self._destination is not None,
        )
        self._tracks.shift_s = self._shift_s
        self._belongings.keep_beside(None if self._destination is None else self._box_sidecar)

    def _to_show(self) -> Fraction:
        """What is added to all times, because players would not show all frames, or only after hours."""
        if self._template is None or not self._format.timestamps:
            return Fraction(0)
        shift_s = shift_to_show(
            self._template.first_s,
            self._template.zero_s,
            late_start=self._format.late_start,
            early_start=self._format.early_start,
        )
        if shift_s:
            why = "so that no frame lies before zero"
            if shift_s < 0:
                why = f"because players of {self._format.muxer} would wait that long"
            way = "later" if shift_s > 0 else "earlier"
            self._report.notes.append(f"all tracks begin {float(abs(shift_s)):.3f} s {way}, {why}")
        return shift_s

    def _moved(self, chapter: dict[str, Any]) -> dict[str, Any]:
        shift = round(self._shift_s / (chapter["time_base"] or Fraction(1, 1000)))
        return {**chapter, "start": max(0, chapter["start"] + shift), "end": chapter["end"] + shift}

    def _sidecar(self, stream: Any, codec: str) -> Sidecar:
        assert self._destination is not None
        leftovers = self._template.leftovers if self._template else None
        entry = leftovers.entry(stream.id) if leftovers and stream.type == "data" else None
        place = place_beside(self._destination.path, stream.index, codec)
        return self._open_sidecar(place, track_header(stream, codec, entry))

    def _box_sidecar(self) -> Sidecar:
        assert self._destination is not None
        about = {"kind": "boxes", "codec": self._info.container}
        return self._open_sidecar(boxes_beside(self._destination.path), about)

    def _open_sidecar(self, place: Path, header: dict[str, Any]) -> Sidecar:
        overwrite = self._options.overwrite
        return Sidecar(place, header, source=self._info.path, overwrite=overwrite)

    def _track_numbers(self) -> dict[int, int]:
        """Where tracks of an MP4 or MOV source are in an output of that kind, by their numbers."""
        assert self._template is not None
        streams = self._output.streams
        covers = [s.index for s in streams if s.disposition & Disposition.attached_pic]
        places = {**self._tracks.places, self._template.video_index: self._stream.index}
        return {
            self._template.container.streams[index].id: place - sum(c < place for c in covers)
            for index, place in places.items()
            if place not in covers
        }

    def _new_stream(self) -> Any:
        rate = self._info.frame_rate or DEFAULT_RATE
        return self._output.add_stream(self._encoder.name, rate=rate)

    def _add_video(self) -> None:
        self._stream = self._new_stream()
        if self._template is not None:
            original = self._template.container.streams[self._template.video_index]
            self._stream.metadata.update(self._tags(original.metadata))
            self._stream.disposition = original.disposition
            self._write_timecode()
        tag_video(self._stream, self._encoder.codec, self._format.muxer)

    def _tags(self, metadata: dict[str, str]) -> dict[str, str]:
        assert self._template is not None
        return tags_behind(metadata, self._template.cut_s, self._info.frame_rate)

    def _write_timecode(self) -> None:
        """Let the container tell the timecode that stands inside the video stream, where it can."""
        assert self._template is not None
        timecode = self._template.timecode
        known = {
            self._template.container.metadata.get("timecode"),
            self._stream.metadata.get("timecode"),
        }
        if timecode is None or known != {None}:
            return
        rate = self._info.frame_rate or DEFAULT_RATE
        if self._format.muxer in TIMECODES and int(timecode[-2:]) < rate:
            self._stream.metadata["timecode"] = timecode
            self._report.notes.append(
                f"timecode {timecode} inside the video stream was written as that of the container"
            )
        else:
            self._report.losses.append(
                f"timecode inside the video stream (first {timecode}): {self._format.muxer} cannot hold it"
            )

    def _look_for_timecode(self) -> None:
        """Tell of a timecode of the source that the complete container does not tell."""
        if self._template is None or not self._carries:
            return
        source = self._template.container
        timecode = told_timecode(source, source.streams[self._template.video_index])
        if timecode is None:
            return
        holds = self._format.muxer in TIMECODES
        if holds and self._destination is not None:
            with closing(open_container(str(self._destination.partial))) as made:
                holds = told_timecode(made, made.streams[self._stream.index]) is not None
        if not holds:
            self._report.losses.append(f"timecode {timecode}: lost, {self._format.muxer} has none")

    def _start(self, frame: Frame) -> None:
        """Set the encoder up for frames like this one and let waiting packets go."""
        fitted = fit(
            self._encoder,
            frame.format,
            bit_depth=self._options.bit_depth,
            alpha=frame.alpha is not None,
            pictures=self._template is None,
        )
        self._report.notes.extend(fitted.notes)
        self._report.losses.extend(fitted.losses)
        self._keeps_alpha = carrier_of(fitted.target.pix_fmt).alpha is not None
        self._writer = PlaneWriter(fitted.target)
        context = self._stream.codec_context
        context.width, context.height = fitted.target.width, fitted.target.height
        self._frames_stay = (context.width, context.height) == (
            *(frame.format.width, frame.format.height),
        )
        context.pix_fmt = fitted.target.pix_fmt
        if self.takes_device_planes and fits_surface(frame.planes, fitted.target):
            self._surfaces = SurfaceWriter(frame.planes)
            context.pix_fmt = self._surfaces.pix_fmt
        context.sample_aspect_ratio = self._info.sample_aspect_ratio
        self._time_base = frame.time_base
        if not self._format.timestamps:
            self._time_base = 1 / (self._info.frame_rate or DEFAULT_RATE)
            context.max_b_frames = 0  # without times, frames must be stored as they are shown
        context.time_base = self._time_base
        self._tell_encoder(context, written_tags(frame, fitted.target.pix_fmt))
        self._turn()
        self._lose_pixel_shape()
        self._drop_alpha_tag(frame)
        self._first = frame
        if self._surfaces is None:
            self._write_header()

    def _write_header(self) -> None:
        """Write the header and let waiting packets go."""
        self._set_ticks()
        self._output.start_encoding()
        self._begun = True
        for packet in self._waiting:
            self._pass(packet)
        self._waiting.clear()

    def _set_ticks(self) -> None:
        """Let the stream itself tell its frame rate too."""
        rate = self._info.frame_rate
        if rate is None or self._encoder.name != "libx264":
            return
        context = self._stream.codec_context
        if not context.is_open:
            context.open()
        self._ticks = Ticks(rate)
        if context.extradata:  # else each keyframe brings the parameter sets
            context.extradata = self._ticks.header(context.extradata)

    def _tell_encoder(self, context: Any, tags: ColorTags) -> None:
        """Colour tags, HDR metadata, quality."""
        context.color_range, context.colorspace = tags.range, tags.matrix
        context.color_primaries, context.color_trc = tags.primaries, tags.transfer
        hdr = self._template.mastering if self._template else Mastering()
        context.options = {
            **codec_options(self._encoder, self._options, hdr, context.width, context.height),
            **self._extra_options,
            "chroma_sample_location": str(tags.chroma_location),
        }
        if self._options.bitrate is not None:
            context.bit_rate = self._options.bitrate * 1000
        if self._encoder.name == "libx264":
            context.thread_type = "FRAME"  # PyAV's slices take more space
        if hdr != Mastering() and self._encoder.name not in ("libx265", "libsvtav1"):
            self._report.losses.append(
                f"mastering display and light level: {self._encoder.name} cannot write them,"
                " hevc and av1 can"
            )

    def _turn(self) -> None:
        matrix = self._template.display_matrix if self._template else None
        if matrix is None:
            return
        if self._format.rotates:
            self._stream.set_display_matrix(matrix)
        else:
            self._report.losses.append(
                f"rotation by {self._info.rotation} degrees: {self._format.muxer} cannot hold it"
            )

    def _lose_pixel_shape(self) -> None:
        """PyAV hands the shape of pixels to encoders and to MP4, but to no other muxer."""
        shape = self._info.sample_aspect_ratio
        if shape != 1 and not self._encoder.pixel_shape and self._format.muxer not in MP4_FAMILY:
            self._report.losses.append(
                f"shape of pixels {shape.numerator}:{shape.denominator}: lost with"
                f" {self._encoder.name} in {self._format.muxer}, kept in mp4 and with h264 and hevc"
            )

    def _drop_alpha_tag(self, frame: Frame) -> None:
        """Matroska's word for transparency that the output does not hold."""
        for key in [key for key in self._stream.metadata if key.lower() == "alpha_mode"]:
            if not self._keeps_alpha or frame.alpha is None:
                del self._stream.metadata[key]

    def _encode(self, frame: Frame) -> None:
        assert self._first is not None
        _check_same(self._report.path, self._first, frame, self._template)
        picture = self._picture(frame)
        picture.time_base = self._time_base
        picture.pts = self._time_of(frame)
        picture.duration = round(frame.duration * frame.time_base / self._time_base)
        if self._given is not None:
            self._given.unit = self._time_base
            self._given.times.append(picture.pts)
            self._given.end = max(self._given.end, picture.pts + picture.duration)
        self._messages.keep(picture.pts * self._time_base, frame.messages)
        if frame.alpha is not None and not self._keeps_alpha and not self._alpha_lost:
            self._alpha_lost = bool(frame.alpha.min() < frame.format.peak)
        packets = self._stream.encode(picture)
        if not self._begun:  # the encoder had to see where the first picture lies
            self._write_header()
        self._mux(packets)
        self._report.frames += 1

    def _picture(self, frame: Frame) -> Any:
        """The frame as a picture; one that cannot stay on the GPU goes by the host."""
        if self._surfaces is not None and self._surfaces.takes(frame.planes):
            return self._surfaces.write(frame.planes)
        return self._writer.write(frame.planes, frame.alpha, frame.format)

    def _time_of(self, frame: Frame) -> int:
        """The frame's time in the output's units, its own unless only a frame rate is stored."""
        if self._format.timestamps:
            return frame.pts + round(self._shift_s / frame.time_base)
        assert self._first is not None
        exact = frame.pts * frame.time_base / self._time_base
        if self._format.muxer == "yuv4mpegpipe":
            exact -= self._first.pts * self._first.time_base / self._time_base
            pts = self._report.frames
        else:
            pts = round(exact)
            if self._last_pts is not None:
                pts = max(pts, self._last_pts + 1)
        self._last_pts = pts
        self._squeezed += abs(exact - pts) > Fraction(1, 2)
        return pts

    def _drain(self) -> None:
        """Mux what the encoder still holds back."""
        self._mux(self._stream.encode(None))

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            # x265 4.2 leaves the decoding time unset in videos too short for reordering to begin.
            if self._encoder.name == "libx265" and self._report.frames <= 2:
                packet.dts = packet.pts
            if self._ticks is not None:
                packet = self._ticks.packet(packet)
            self._muxer.mux(self._messages.put_into(packet))

    def _failure(self, error: Exception) -> SinkError:
        """What to raise for ``error``; an interrupt behind it is raised itself."""
        if self._pipe is not None:
            self._pipe.reraise()
        reason = redact(getattr(error, "strerror", None) or str(error))
        left = "nothing was left under that name"
        if self._pipe is not None:
            left = "its reader has an incomplete video"
        elif self._destination is not None and os.path.exists(self._destination.path):
            left = "the file that was there before is still intact"
        return SinkError(
            f"{self._report.path}: cannot be written after {self._report.frames} frames ({reason});"
            f" {left}"
        )

    def _complete_report(self) -> SinkReport:
        report = self._report
        report.codec = self._encoder.name
        report.tracks_copied.extend(self._tracks.copied.values())
        report.notes.extend(self._tracks.notes)
        report.losses.extend(self._tracks.losses)
        report.losses.extend([*self._messages.losses, *self._belongings.losses])
        report.notes.extend(self._belongings.notes)
        if self._alpha_lost:
            report.losses.append(f"transparency: {self._encoder.name} cannot hold it, ffv1 can")
        elif self._first is not None and self._first.alpha is not None and not self._keeps_alpha:
            report.notes.append("the opaque alpha channel was not kept; ffv1 keeps it")
        if self._surfaces is not None:
            count = f"{self._surfaces.written} of {report.frames}"
            report.notes.append(f"{count} frames went to {self._encoder.name} on the GPU")
        if self._squeezed:
            report.losses.append(
                f"times of {self._squeezed} frames: {self._format.muxer} stores a frame rate only"
            )
        if self._muxer.negative_s and not self._format.negative_times:
            report.notes.append(
                f"all tracks begin {self._muxer.negative_s:.3f} s later:"
                f" {self._format.muxer} holds no negative times"
            )
        return report


def written_tags(frame: Frame, pix_fmt: str) -> ColorTags:
    """The frame's tags; full range is always tagged, since players take untagged for limited."""
    tags = tags_after(frame.tags, frame.format, pix_fmt)
    if tags.range == 0 and frame.format.full_range and frame.format.layout != "rgb":
        return ColorTags(
            FULL_RANGE, tags.matrix, tags.primaries, tags.transfer, tags.chroma_location
        )
    return tags


def _check_same(path: str, first: Frame, frame: Frame, template: Template | None) -> None:
    """Raise SinkError where the picture changes, which one video stream cannot follow."""
    if _shape(frame.format) == _shape(first.format):
        return
    if template is None:
        raise SinkError(
            f"{path}: {frame.name or 'a picture'} is {frame.format} and {first.name or 'the first'}"
            f" {first.format}, and one video cannot hold both; put pictures of one size and format"
            " into a folder of their own, or write a folder of pictures"
        )
    # Rounded down, so that the frame of the change is the first of the second part.
    since_ms = math.floor((frame.pts * frame.time_base - template.zero_s) * 1000)
    start_s = float(template.start_s + Fraction(since_ms, 1000))
    raise SinkError(
        f"{path}: the input changes from {first.format} to {frame.format} {start_s:.3f} s after its"
        f" start, and one video cannot; derain the parts one by one, with"
        f" duration_s={since_ms / 1000:.3f} and start_s={start_s:.3f}"
    )


def _shape(fmt: PlaneFormat) -> tuple[str, int, int, int]:
    return fmt.layout, fmt.bit_depth, fmt.width, fmt.height
