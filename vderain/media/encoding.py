"""Encodes frames into the packets of a video stream."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cached_property
from typing import Any

from vderain.errors import SinkError
from vderain.frames import DEFAULT_RATE, ColorTags, Frame, PlaneFormat
from vderain.interfaces import SinkReport, StreamInfo
from vderain.media.bitstream.ticks import Ticks
from vderain.media.carry.messages import Messages
from vderain.media.carry.template import Template
from vderain.media.frames.color import FULL_RANGE, Mastering, mastering_losses
from vderain.media.frames.planes import PlaneWriter, carrier_of, tags_after
from vderain.media.gpu.surfaces import SurfaceWriter, fits_surface, why_not_from_device
from vderain.media.io.encoders import codec_options, encoder_for, fit, preset_of
from vderain.media.io.formats import Container
from vderain.options import EncodeOptions


class Encoding:
    """Encodes frames for one video stream of an output.

    The first frame sets the encoder's size and pixel format (``begin``); a later frame of another size or
    format ends the run. Raises SinkError and OptionError, and FFmpeg's errors.

    Args:
        options: codec, quality and bit depth.
        container: of the output.
        info: the source.
        template: properties of the first decoded image; None for images.
        report: gets notes and losses.
        shift_s: is added to all times.
        closed_gops: whether no GOP refers to the one before.
        threads: of the encoder; None leaves the number to it. Some encoders' output depends on the number.

    Attributes:
        encoder: the encoder in use.
        time_base: of the times of frames.

    """

    def __init__(
        self,
        options: EncodeOptions,
        container: Container,
        *,
        info: StreamInfo,
        template: Template | None,
        report: SinkReport,
        shift_s: Fraction = Fraction(0),
        closed_gops: bool = False,
        threads: int | None = None,
    ) -> None:
        self.encoder, notes = encoder_for(options, container.muxer)
        self.time_base = Fraction(1)
        self.shift_s = shift_s
        self._options, self._format = options, container
        self._info, self._template, self._report = info, template, report
        self._closed_gops, self._threads = closed_gops, threads
        self._report.codec = self.encoder.name
        self._report.preset = preset_of(self.encoder, options)
        self._report.notes.extend(notes)
        self._messages = Messages(self.encoder.codec)
        self._stream: Any = None
        self._first: Frame | None = None
        self._surfaces: SurfaceWriter | None = None
        self._ticks: Ticks | None = None
        self._keeps_alpha = self._alpha_lost = False
        self._frames = 0
        self._last_pts: int | None = None
        self._squeezed = 0

    @cached_property
    def takes_device_planes(self) -> bool:
        """Whether frames may be on the GPU and are encoded there; tried at the first access."""
        if not self.encoder.name.endswith("_nvenc"):
            return False
        gpu = self._template.gpu if self._template else None
        reason = why_not_from_device(self.encoder, gpu or 0)
        if reason is not None:
            self._report.notes.append(
                f"{self.encoder.name} accepts no frames from the GPU here ({reason}); they are copied"
            )
        return reason is None

    @property
    def needs_image(self) -> bool:
        """Whether the encoder must see the first image before the container's header is written."""
        return self._surfaces is not None

    @property
    def begun(self) -> bool:
        """Whether the encoder is set up."""
        return self._first is not None

    def add_to(self, container: Any) -> Any:
        """Add the stream to an output's container."""
        rate = self._info.frame_rate or DEFAULT_RATE
        self._stream = container.add_stream(self.encoder.name, rate=rate)
        return self._stream

    def begin(self, frame: Frame) -> bool:
        """Set up the encoder for frames like this one. Returns whether they keep their size."""
        fitted = fit(
            self.encoder,
            frame.format,
            bit_depth=self._options.bit_depth,
            alpha=frame.alpha is not None,
            images=self._template is None,
        )
        self._report.notes.extend(fitted.notes)
        self._report.losses.extend(fitted.losses)
        self._keeps_alpha = carrier_of(fitted.target.pix_fmt).alpha is not None
        self._writer = PlaneWriter(fitted.target)
        context = self._stream.codec_context
        context.width, context.height = fitted.target.width, fitted.target.height
        context.pix_fmt = fitted.target.pix_fmt
        if self.takes_device_planes and fits_surface(frame.planes, fitted.target):
            self._surfaces = SurfaceWriter(frame.planes)
            context.pix_fmt = self._surfaces.pix_fmt
        context.sample_aspect_ratio = self._info.sample_aspect_ratio
        self.time_base = frame.time_base
        if not self._format.timestamps:
            self.time_base = 1 / (self._info.frame_rate or DEFAULT_RATE)
            context.max_b_frames = 0  # without times, frames must be stored in the order of display
        context.time_base = self.time_base
        self._configure(context, written_tags(frame, fitted.target.pix_fmt))
        self._drop_alpha_tag(frame)
        self._first = frame
        return (context.width, context.height) == (frame.format.width, frame.format.height)

    def complete_header(self) -> None:
        """Write the frame rate into the stream too, before the container's header is written."""
        rate = self._info.frame_rate
        if rate is None or self.encoder.name != "libx264":
            return
        context = self._stream.codec_context
        if not context.is_open:
            context.open()
        self._ticks = Ticks(rate)
        if context.extradata:  # otherwise each keyframe has the parameter sets
            context.extradata = self._ticks.header(context.extradata)

    def image(self, frame: Frame) -> Any:
        """The frame as an image with its time; one that cannot stay on the GPU is copied to the host."""
        assert self._first is not None
        _check_same(self._report.path, self._first, frame, self._template)
        if self._surfaces is not None and self._surfaces.takes(frame.planes):
            image = self._surfaces.write(frame.planes)
        else:
            image = self._writer.write(frame.planes, frame.alpha, frame.format)
        image.time_base = self.time_base
        image.pts = self._time_of(frame)
        image.duration = round(frame.duration * frame.time_base / self.time_base)
        self._messages.keep(image.pts * self.time_base, frame.messages)
        if frame.alpha is not None and not self._keeps_alpha and not self._alpha_lost:
            self._alpha_lost = bool(frame.alpha.min() < frame.format.peak)
        return image

    def encode(self, image: Any) -> list[Any]:
        """The packets that an image completes, unfinished; None completes the images held back."""
        packets: list[Any] = self._stream.encode(image)
        self._frames += image is not None
        return packets

    def finished(self, packets: list[Any]) -> list[Any]:
        """Finish packets with the messages of their frames, after the output's header is written."""
        made = []
        for packet in packets:
            # x265 4.2 leaves the decoding time unset in videos too short for reordering.
            if self.encoder.name == "libx265" and self._frames <= 2:
                packet.dts = packet.pts
            if self._ticks is not None:
                packet = self._ticks.packet(packet)
            made.append(self._messages.put_into(packet))
        return made

    def conclude(self) -> None:
        """Report losses and notes, after all frames are encoded."""
        report = self._report
        report.losses.extend(self._messages.losses)
        if self._alpha_lost:
            report.losses.append(f"transparency: {self.encoder.name} cannot hold it, ffv1 can")
        elif self._first is not None and self._first.alpha is not None and not self._keeps_alpha:
            report.notes.append("the opaque alpha channel was not kept; ffv1 keeps it")
        if self._surfaces is not None:
            count = f"{self._surfaces.written} of {self._frames}"
            report.notes.append(f"{count} frames went to {self.encoder.name} on the GPU")
        if self._squeezed:
            report.losses.append(
                f"times of {self._squeezed} frames: {self._format.muxer} stores a frame rate only"
            )

    def _configure(self, context: Any, tags: ColorTags) -> None:
        """Set colour tags, HDR metadata, quality and threads."""
        context.color_range, context.colorspace = tags.range, tags.matrix
        context.color_primaries, context.color_trc = tags.primaries, tags.transfer
        hdr = self._template.mastering if self._template else Mastering()
        context.options = {
            **codec_options(self.encoder, self._options, hdr, context.width, context.height),
            **({"flags": "+cgop"} if self._closed_gops else {}),
            "chroma_sample_location": str(tags.chroma_location),
        }
        if self._options.bitrate is not None:
            context.bit_rate = self._options.bitrate * 1000
        if self.encoder.name == "libx264":
            context.thread_type = "FRAME"  # PyAV's default, slices, gives larger files
        if self._threads is not None:
            context.thread_type, context.thread_count = "FRAME", self._threads
        self._report.losses.extend(mastering_losses(hdr, self.encoder.name))

    def _drop_alpha_tag(self, frame: Frame) -> None:
        """Remove Matroska's tag of transparency where the output has none."""
        for key in [key for key in self._stream.metadata if key.lower() == "alpha_mode"]:
            if not self._keeps_alpha or frame.alpha is None:
                del self._stream.metadata[key]

    def _time_of(self, frame: Frame) -> int:
        """The frame's time in the output's units: its own, unless the container stores a frame rate alone."""
        if self._format.timestamps:
            return frame.pts + round(self.shift_s / frame.time_base)
        assert self._first is not None
        exact = frame.pts * frame.time_base / self.time_base
        if self._format.muxer == "yuv4mpegpipe":
            exact -= self._first.pts * self._first.time_base / self.time_base
            pts = self._frames
        else:
            pts = round(exact)
            if self._last_pts is not None:
                pts = max(pts, self._last_pts + 1)
        self._last_pts = pts
        self._squeezed += abs(exact - pts) > Fraction(1, 2)
        return pts


def written_tags(frame: Frame, pix_fmt: str) -> ColorTags:
    """The frame's tags; full range is always tagged, since players take untagged video for limited."""
    tags = tags_after(frame.tags, frame.format, pix_fmt)
    if tags.range == 0 and frame.format.full_range and frame.format.layout != "rgb":
        return ColorTags(
            FULL_RANGE, tags.matrix, tags.primaries, tags.transfer, tags.chroma_location
        )
    return tags


def _check_same(path: str, first: Frame, frame: Frame, template: Template | None) -> None:
    """Raise SinkError where size or format of the image change, which one video stream cannot hold."""
    if _shape(frame.format) == _shape(first.format):
        return
    if template is None:
        raise SinkError(
            f"{path}: {frame.name or 'an image'} is {frame.format} and {first.name or 'the first'}"
            f" {first.format}, and one video cannot hold both; put images of one size and format"
            " into a folder of their own, or write a folder of images"
        )
    # Rounded down, so that the second part begins with the frame of the change.
    since_ms = math.floor((frame.pts * frame.time_base - template.zero_s) * 1000)
    start_s = float(template.start_s + Fraction(since_ms, 1000))
    raise SinkError(
        f"{path}: the input changes from {first.format} to {frame.format} {start_s:.3f} s after its"
        f" start, and one video cannot; derain the parts one by one, with"
        f" duration_s={since_ms / 1000:.3f} and start_s={start_s:.3f}"
    )


def _shape(fmt: PlaneFormat) -> tuple[str, int, int, int]:
    return fmt.layout, fmt.bit_depth, fmt.width, fmt.height
