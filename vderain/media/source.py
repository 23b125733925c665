"""Video in: reads frames and other packets from a container."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from typing import Any

import av

from vderain.errors import SourceError
from vderain.frames import Frame, PassedPacket
from vderain.interfaces import SourceStats, StreamInfo
from vderain.media.bitstream.editions import edition_losses
from vderain.media.bitstream.programs import program_losses, service_tags
from vderain.media.building import FrameBuilder, stream_info
from vderain.media.carry.template import Template, leftovers_of, samples_of
from vderain.media.carry.unread import UnreadMessages
from vderain.media.frames.continuity import Continuity, Jump
from vderain.media.frames.decoding import Decoder, Deinterlacer, Images
from vderain.media.frames.frame_rate import believable_rate, rate_of
from vderain.media.frames.memory import check_memory
from vderain.media.frames.timing import FrameClock
from vderain.media.frames.untrained import interlaced_refusal, report_interlaced
from vderain.media.gpu.nvdec import open_for, stays_in_software
from vderain.media.io.formats import STANDARD_STREAM
from vderain.media.io.length import Length
from vderain.media.io.open import codec_name, input_name, pick_video
from vderain.media.io.pipes import StandardInput
from vderain.media.io.survey import Survey, announced_length_s, survey
from vderain.media.io.urls import redact
from vderain.media.io.variants import left_out
from vderain.media.mp4.movies import movie_losses
from vderain.media.span import Entry, FrameSpan, Span, exact_entry, leave_out_others, tried_entry
from vderain.options import EncodeOptions, RunOptions

_TRACKS_APART_S = 1  # about how far apart a container stores packets of one time
_CLOSE_WAIT_S = 1.0  # for a read in another thread that ``cancel`` could not end
_LOOK_AHEAD = 4  # frames decoded at opening, enough to see that a video is interlaced
_LOOK_AHEAD_FOR_RATE = 9  # where the rate follows from the distances of frames alone
_FILTER_FRAMES = 2  # that a deinterlacer needs before its first exact frame


class VideoSource:
    """FrameSource over a file, a URL or standard input (``-``).

    The first frames are decoded at opening, so that unreadable, interlaced and HDR input is refused before
    an output exists. With ``run.start_s`` all tracks are cut there and moved by one common offset, so that
    the output begins near zero; otherwise times stay as they are.

    With ``span`` the source yields the frames of that span, whatever ``run`` says, and no packets of other
    tracks; times stay as they are, and only damage within the span is counted. ``known`` is a survey of the
    packets, where one was made before; ``on_packet`` is called with each packet before it is decoded.
    Raises SourceError.
    """

    _rate: Fraction | None

    def __init__(
        self,
        path: str,
        *,
        run: RunOptions,
        encode: EncodeOptions,
        span: FrameSpan | None = None,
        known: Survey | None = None,
        on_packet: Callable[[Any], None] | None = None,
    ) -> None:
        self._on_packet = on_packet
        self._is_segment = span is not None
        self._name, self._path = input_name(path), path
        self._stats = SourceStats()
        self._pipe = StandardInput() if path == STANDARD_STREAM else None
        self._reading = threading.Lock()
        self._closed = False
        stay = encode.interlaced != "deinterlace"  # the deinterlacer works on the host
        self._container, fallback = open_for(
            run.decoder, path, self._pipe, stay=stay, gpu=run.decoder_gpu or 0
        )
        try:
            self._open(path, run, encode, span, known)
            if run.decoder != "software":
                fallback = fallback or stays_in_software(self._stream)
            self._nvdec = run.decoder == "nvdec" and stay and not fallback
            self._stats.notes += [fallback] if fallback else []
            self._items = self._read()
            self._ahead = self._look_ahead()
            frames = [item for item in self._ahead if isinstance(item, Frame)]
            if not frames:
                asked = self._frame_span if self._is_segment else self._span
                raise SourceError(f"{self._name}: {asked.emptiness(self._container)}")
            first = frames[0]
            self._rate = self._rate or rate_of([frame.pts for frame in frames], self._time_base)
            self._first_s = first.pts * first.time_base
            self._info = self._described(first)
        except BaseException:
            self._container.close()
            raise

    def _open(
        self,
        path: str,
        run: RunOptions,
        encode: EncodeOptions,
        span: FrameSpan | None,
        known: Survey | None,
    ) -> None:
        self._stream = pick_video(self._container, path)
        most_pixels = check_memory(self._stream, self._name, run.max_memory)
        self._stats.losses += [*movie_losses(path), *program_losses(path), *edition_losses(path)]
        if others := left_out(self._container):
            self._stats.notes.append(
                f"other variants of the stream are left out: {', '.join(others)}"
            )
        self._time_base = Fraction(self._stream.time_base or Fraction(1, 90_000))
        self._survey = known
        if known is None and not self._is_segment:
            self._survey = survey(path, self._stream)
        surveyed = self._survey.rate if self._survey else None
        self._rate = believable_rate(self._stream) or surveyed
        self._clock = FrameClock(
            self._time_base, self._rate, sort_dts=self._container.format.name == "avi"
        )
        is_alone = span is not None and span.seeks
        if is_alone:
            leave_out_others(self._container, self._stream)
        self._continuity = Continuity(self._container, steady=is_alone)
        self._decoder = Decoder(
            self._stream, self._name, self._stats, self._clock, most_pixels=most_pixels
        )
        self._length = Length(self._container, self._stream, self._rate)
        self._builder = FrameBuilder(self._stream, self._name, self._stats, hdr=encode.hdr)
        self._unread = UnreadMessages(self._stream, self._stats)
        self._encode = encode
        mends = encode.interlaced == "deinterlace"
        self._images = Images(self._decoder, Deinterlacer(self._time_base) if mends else None)
        self._ended = False  # whether all images of the span were read
        self._late = 0  # images behind the span
        self._origin_s = Fraction(self._container.start_time or 0, av.time_base)
        self._span = Span() if self._is_segment else Span.of(run, self._origin_s)
        self._frame_span = span or self._span.frames(self._time_base)
        self._early: deque[Frame] = deque(maxlen=self._frame_span.before)
        if self._is_segment:
            self._decoder.count_within(self._frame_span.start_pts, self._frame_span.end_pts)
        self._entry = self._find_entry(path)
        self._entry.go(self._container, self._stream)

    def _find_entry(self, path: str) -> Entry:
        """The packet at which decoding begins for the span."""
        span = self._frame_span
        if span.start_pts is None:
            return Entry()
        if self._is_segment:
            needed = span.before + (
                _FILTER_FRAMES if self._encode.interlaced == "deinterlace" else 0
            )
            return exact_entry(
                *(path, self._stream.index, span.start_pts, needed, self._rate), seeks=span.seeks
            )
        is_steady = self._survey is None or not self._survey.jumps
        if self._span.start_s is None or not is_steady:  # seeking finds no times in this file
            return Entry()
        return tried_entry(path, self._stream, self._span.start_s)

    @property
    def info(self) -> StreamInfo:
        """Properties of the input before its first frame; length and frame count are those of the whole input."""
        return self._info

    @property
    def stats(self) -> SourceStats:
        """Counters, complete once the iteration has ended."""
        return self._stats

    @property
    def jumps(self) -> tuple[Jump, ...]:
        """Jumps of the container's clock so far."""
        return tuple(self._continuity.jumps)

    @property
    def template(self) -> Template:
        """Streams, tags and other properties for the sink, which uses them before this source is closed."""
        samples, leftovers = {}, None
        if not self._is_segment:  # the file of a segment has nothing but frames
            known = [item for item in self._ahead if isinstance(item, PassedPacket)]
            samples = samples_of(self._path, self._container, self._stream.index, known)
            leftovers = leftovers_of(self._path, self._container)
        return Template(
            self._container,
            self._stream.index,
            tuple(self._span.chapters(self._container)),
            self._builder.display_matrix,
            self._builder.mastering,
            (self._span.start_s or self._origin_s) - self._origin_s,
            self._origin_s if self._span.start_s is None else Fraction(0),
            self._first_s,
            self._cut_s(),
            samples,
            self._builder.timecode,
            leftovers,
            self._builder.views,
            services={} if self._is_segment else service_tags(self._path),
            gpu=self._builder.gpu,
        )

    def __iter__(self) -> Iterator[Frame | PassedPacket]:
        """Frames and passed packets, in the order of the container; can be iterated once."""
        while (item := self._next()) is not None:
            self._stats.frames += isinstance(item, Frame)
            yield item
        if not self._closed:
            self._conclude()

    def cancel(self) -> None:
        """End a waiting read of standard input, as the end of the stream does.

        May be called from another thread. A read from the network ends by its own timeout.
        """
        if self._pipe is not None:
            self._pipe.stop()

    def close(self) -> None:
        """Release the container; may be called twice, and while another thread iterates.

        While that thread waits for the network, it keeps the container.
        """
        self.cancel()
        self._closed = True
        # A read in progress would use memory that is freed here.
        if self._reading.acquire(timeout=_CLOSE_WAIT_S):
            try:
                self._ahead.clear()
                self._items.close()  # holds this source, and with it all images of the decoder
                self._container.close()
            finally:
                self._reading.release()

    def _next(self) -> Frame | PassedPacket | None:
        with self._reading:
            if self._closed:
                return None
            return self._ahead.popleft() if self._ahead else next(self._items, None)

    def _look_ahead(self) -> deque[Frame | PassedPacket]:
        ahead: deque[Frame | PassedPacket] = deque()
        frames = 0
        wanted = _LOOK_AHEAD if self._rate else _LOOK_AHEAD_FOR_RATE
        while frames < wanted and (item := next(self._items, None)) is not None:
            ahead.append(item)
            frames += isinstance(item, Frame)
        if self._images.interlaced and self._encode.interlaced == "refuse":
            raise SourceError(interlaced_refusal(self._name))
        return ahead

    def _read(self) -> Generator[Frame | PassedPacket, None, None]:
        begun = False
        for packet in self._packets():
            if self._on_packet is not None:
                self._on_packet(packet)
            if packet.stream.index != self._stream.index:
                if not self._is_segment:
                    yield from self._passed(packet)
                continue
            begun = begun or not self._entry.is_before(packet)
            if begun:
                self._unread.see(packet)
                if packet.is_discard:
                    self._length.hidden()
            for image in self._images.push(packet) if begun else ():
                yield from self._frames(image)
            if self._ended:
                return
        # Decoders hold images back, in their threads and to sort them.
        for image in self._images.push(None):
            yield from self._frames(image)

    def _packets(self) -> Iterator[av.Packet[Any]]:
        """All packets, on one clock; demuxing continues behind damage where it can."""
        while True:
            try:
                for packet in self._container.demux():
                    self._raise_interrupt()
                    if packet.size:  # empty packets mark the end
                        yield from self._continuity.push(packet)
                self._raise_interrupt()
                yield from self._continuity.flush()
                return
            except av.InvalidDataError as error:
                self._raise_interrupt()
                self._decoder.failed(error)
            except av.FFmpegError as error:
                self._raise_interrupt()
                reason = redact(error.strerror or type(error).__name__)
                raise SourceError(
                    f"{self._name}: reading stopped after {self._stats.frames} frames ({reason})"
                ) from None

    def _raise_interrupt(self) -> None:
        if self._pipe is not None:
            self._pipe.reraise()

    def _frames(self, image: av.VideoFrame) -> Iterator[Frame]:
        """The frame of an image; nothing where it lies outside the span.

        Frames before the span are held back until it begins, since only the last of them are needed.
        """
        if self._entry.leads(image.pts):
            return
        span = self._frame_span
        pts = self._clock.stamp(image.pts)
        self._length.image(pts * self._time_base, (image.duration or 0) * self._time_base)
        if span.is_late(pts):
            self._late += 1
            self._ended = self._is_over(pts)
        is_early = span.is_early(pts)
        if self._late > span.after or (is_early and not span.before):
            return
        begins = self._decoder.take_gap() or self._continuity.begins(pts * self._time_base)
        shifted = pts - self._span.shift(self._time_base)
        frame = self._builder.build(
            *(image, shifted, self._time_base),
            discontinuity=begins,
            messages=self._unread.take(image.pts),
        )
        if is_early:
            self._early.append(frame)
            return
        while self._early:
            yield self._early.popleft()
        yield frame

    def _is_over(self, pts: int) -> bool:
        """Whether reading ends with this image, which is behind the span.

        Images arrive in the order of their times, but other tracks may still have packets of the span.
        """
        if self._is_segment:
            return self._late >= max(1, self._frame_span.after)
        return self._span.after(pts - round(_TRACKS_APART_S / self._time_base), self._time_base)

    def _passed(self, packet: av.Packet[Any]) -> Iterator[PassedPacket]:
        """A packet of another track, moved with the span; nothing where it is empty or outside the span."""
        if not packet.size or not packet.time_base:
            return
        unit = Fraction(packet.time_base)
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None:
            self._length.passed((time + (packet.duration or 0)) * unit)
            if packet.stream.type == "subtitle":
                time = self._span.shortened(packet, unit)
            if self._span.before(time, unit) or self._span.after(time, unit):
                return
        self._span.move(packet, unit)
        yield PassedPacket(packet.stream.index, packet)

    def _cut_s(self) -> Fraction:
        """Seconds of video before the first frame of the span."""
        if self._span.start_s is None:
            return Fraction(0)
        begun_s = (self._stream.start_time or 0) * self._time_base
        return self._first_s + self._span.shift_s - begun_s

    def _shortfall(self) -> Iterator[str]:
        """Losses at the end of a truncated input; none for segments, and none where the clock jumped."""
        if self._is_segment:
            return
        if self._span.end_s is None and not self._continuity.jumps:
            whole = self._span.start_s is None
            yield from self._length.losses(failures=self._stats.skipped, whole=whole)

    def _conclude(self) -> None:
        notes = self._stats.notes
        notes.extend(self._clock.notes)
        notes.extend(jump.note(self._origin_s) for jump in self._continuity.jumps)
        shortfall = list(self._shortfall())
        self._stats.lose(shortfall)
        if not shortfall:  # otherwise it has them
            self._stats.decode_failures += self._decoder.kept
        notes.extend(filter(None, (self._images.note, self._builder.note, self._span.note)))
        if self._nvdec and (left := self._images.decoded - self._images.on_gpu):
            name, count = codec_name(self._stream), f"{left} of {self._images.decoded}"
            notes.append(
                f"software decoded {count} images of this {name}, which NVDEC did not take"
            )
        report_interlaced(self._stats, self._images.interlaced, self._encode.interlaced)

    def _described(self, first: Frame) -> StreamInfo:
        counts = self._stream.frames if self._survey is None else self._survey.frames
        length_s = announced_length_s(self._container, self._stream)
        if self._survey is not None and self._survey.length_s is not None:
            length_s = self._survey.length_s
        return stream_info(
            self._container, self._stream, self._path, first, rate=self._rate,
            frames=counts or None, length_s=length_s, pix_fmt=self._images.pix_fmt,
        )  # fmt: skip
