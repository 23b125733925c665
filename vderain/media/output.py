"""A video file while it is written: its name, container, tags, tracks and report; frames are encoded elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from vderain.errors import SinkError
from vderain.files import Destination
from vderain.frames import PassedPacket
from vderain.interfaces import SinkReport, StreamInfo
from vderain.media.carry.belongings import Belongings
from vderain.media.carry.sidecar import Sidecar, box_sidecar_path, track_header, track_sidecar_path
from vderain.media.carry.template import Template
from vderain.media.carry.timecode import lost_timecode, tags_after_cut, write_timecode
from vderain.media.carry.tracks import Tracks, mirror
from vderain.media.frames.timing import clock_note, shift_to_show
from vderain.media.io.formats import MP4_KEYS, STANDARD_STREAM, Container, muxer_options
from vderain.media.io.pipes import StandardOutput
from vderain.media.io.streams import MP4_FAMILY, tag_video
from vderain.media.io.urls import redact
from vderain.media.muxing import Muxer
from vderain.media.verify.expected import Expected


class Output:
    """An output, except for the encoding of its video.

    Call ``open`` to make the streams, ``begin`` to write the header, ``mux`` and ``carry`` for packets, and
    ``finish`` to complete, verify and name the file. After a failure ``abort`` removes everything.
    Raises SinkError and OptionError.

    Args:
        path: of the file, or ``-`` for standard output.
        container: its format.
        info: the source; the output gets its frame rate.
        template: properties and tracks of the source that the output keeps; None for none.
        overwrite: whether a file of that name is replaced.
        compares: whether ``finish`` compares the packets of the file with those that went in.

    Attributes:
        report: filled while the file is written.
        shift_s: is added to all times.
        stream: the video, once it is open.
        muxer: takes the packets of ``stream``.
        frames_stay: whether frames keep their size.

    """

    stream: Any
    muxer: Muxer

    def __init__(
        self,
        path: str,
        container: Container,
        *,
        info: StreamInfo,
        template: Template | None,
        overwrite: bool,
        compares: bool = True,
    ) -> None:
        self.report = SinkReport(path="standard output" if path == STANDARD_STREAM else path)
        self.frames_stay = True
        self._format, self._info, self._template = container, info, template
        self._overwrite = overwrite
        self.shift_s = self._to_show()
        self._destination: Destination | None = None
        self._pipe: StandardOutput | None = None
        if path == STANDARD_STREAM:
            self._pipe = StandardOutput()
        else:
            self._destination = Destination(path)
            self._destination.check(info.path, overwrite=overwrite)
        self._container: Any = None
        self._tracks = Tracks()
        self._belongings = Belongings(None, {}, container.muxer)
        self._grafts = self._begun = self._closed = False
        self._waiting: list[PassedPacket] = []
        self._holds_pixel_shape = True
        self._expected: Expected | None = None
        self._end_s = Fraction(0)
        if template is not None and self._pipe is None:
            self._expected = Expected(template, info.path, counts_packets=compares)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Turn errors of FFmpeg and the system into SinkError; an interrupt that caused one is raised itself."""
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error

    def open(
        self, codec: str, add_video: Callable[[Any], Any], *, holds_pixel_shape: bool = True
    ) -> None:
        """Make the streams; FFmpeg creates the file itself with the header.

        Args:
            codec: of the video, as ``EncodeOptions.codec`` names it.
            add_video: makes its stream in the container that it is given.
            holds_pixel_shape: whether the video stream itself stores the pixel shape.

        """
        self._holds_pixel_shape = holds_pixel_shape
        try:
            with self.failing():
                self._open(lambda: self._add_video(codec, add_video))
        except BaseException:
            self.abort()
            raise

    def begin(self) -> None:
        """Write the header, then the packets that wait for it."""
        if self._template is not None:
            self._turn(self._template)
            self._lose_pixel_shape()
        self._container.start_encoding()
        self._begun = True
        for packet in self._waiting:
            self._pass(packet)
        self._waiting.clear()

    @property
    def begun(self) -> bool:
        """Whether the header is written."""
        return self._begun

    @property
    def tracks(self) -> Tracks:
        """The tracks other than the video."""
        return self._tracks

    def tag(self, key: str, value: str) -> None:
        """Set a tag of the container, before the header is written."""
        self._container.metadata[key] = value

    def carry(self, item: PassedPacket) -> None:
        """Write a packet of another track, moved by ``shift_s``; until the header is written it waits."""
        if not self._begun:
            self._waiting.append(item)
        else:
            self._pass(item)

    def note_frame(self, pts: int, duration: int, unit: Fraction) -> None:
        """Count a frame that is encoded, with its time in the output, in units of ``unit`` seconds."""
        self.report.frames += 1
        self._end_s = max(self._end_s, (pts + duration) * unit)
        if self._expected is not None:
            self._expected.frame(pts, duration, unit)

    def mux(self, packets: Iterable[Any]) -> None:
        """Write packets of the video."""
        for packet in packets:
            self.muxer.mux(packet)

    def finish(self) -> SinkReport:
        """Complete the container, verify it, give it its name."""
        with self.failing():
            self._tracks.flush()
            numbers = self._track_numbers() if self._grafts else {}
            self._container.close()
            self._look_for_timecode()
            if self._destination is not None:
                self._tracks.mend(self._destination.partial)
                if self._grafts:
                    self._belongings.complete(
                        self._destination.partial, numbers, frames_stay=self.frames_stay
                    )
            self._tracks.finish()
            self._belongings.finish()
            if self._pipe is not None:
                self._pipe.flush()
        if self._destination is not None:
            unnamed = self._unnamed_losses(self._destination.partial)
            self._destination.publish()
            self.report.losses.extend(unnamed)
        self._closed = True
        self._tracks.publish()
        self._belongings.publish()
        return self._complete_report()

    def abort(self) -> None:
        """Remove what was written; does nothing after ``finish``."""
        if self._closed:
            return
        self._closed = True
        # A container that failed cannot be completed, and is removed anyway.
        with suppress(av.FFmpegError, OSError, ValueError):
            if self._container is not None:
                self._container.close()
        self._tracks.abort()
        self._belongings.abort()
        if self._destination is not None:
            self._destination.discard()

    def _open(self, add_video: Callable[[], None]) -> None:
        file: Any = self._pipe
        if self._destination is not None:
            file = f"file:{self._destination.partial}"
        metadata: dict[str, str] = {}
        if self._template is not None:
            metadata = self._tags(self._template.container.metadata) | dict(self._template.services)
            self._belongings = Belongings(
                *(self._template.leftovers, metadata, self._format.muxer),
                is_file=self._pipe is None,
            )
        self._grafts = self._belongings.grafts(MP4_KEYS)
        self._container = av.open(
            file,
            "w",
            format=self._format.muxer,
            container_options=muxer_options(
                *(self._format, metadata, self._info.time_base), is_changed=self._grafts
            ),
            metadata_errors="surrogateescape",
        )
        self._container.metadata.update(metadata)
        self.muxer = Muxer(self._container)
        if self._template is None:
            add_video()
        else:
            self._add_streams(self._template, add_video)

    def _add_streams(self, template: Template, add_video: Callable[[], None]) -> None:
        self._container.set_chapters([self._moved(chapter) for chapter in template.chapters])
        is_file = self._destination is not None
        self._tracks = mirror(
            *(template, self.muxer, self._format, self._sidecar if is_file else None, add_video),
            is_file=is_file,
        )
        self._tracks.shift_s = self.shift_s
        self._belongings.keep_in_sidecar(self._box_sidecar if is_file else None)

    def _add_video(self, codec: str, add: Callable[[Any], Any]) -> None:
        self.stream = add(self._container)
        self.stream.metadata.clear()
        if self._template is not None:
            original = self._template.container.streams[self._template.video_index]
            self.stream.metadata.update(self._tags(original.metadata))
            self.stream.disposition = original.disposition
            self._write_timecode(self._template)
        tag_video(self.stream, codec, self._format.muxer)

    def _tags(self, metadata: dict[str, str]) -> dict[str, str]:
        assert self._template is not None
        return tags_after_cut(metadata, self._template.cut_s, self._info.frame_rate)

    def _to_show(self) -> Fraction:
        """What is added to all times: otherwise players would skip frames, or begin hours later."""
        if self._template is None or not self._format.timestamps:
            return Fraction(0)
        shift_s, note = shift_to_show(
            *(self._template.first_s, self._template.zero_s, self._info.duration_s),
            muxer=self._format.muxer,
            late_start=self._format.late_start,
            early_start=self._format.early_start,
            clock_s=self._format.clock_s,
        )
        self.report.notes += [note] if note else []
        return shift_s

    def _moved(self, chapter: dict[str, Any]) -> dict[str, Any]:
        shift = round(self.shift_s / (chapter["time_base"] or Fraction(1, 1000)))
        return {**chapter, "start": max(0, chapter["start"] + shift), "end": chapter["end"] + shift}

    def _sidecar(self, stream: Any, codec: str) -> Sidecar:
        assert self._destination is not None
        leftovers = self._template.leftovers if self._template else None
        entry = leftovers.entry(stream.id) if leftovers and stream.type == "data" else None
        place = track_sidecar_path(self._destination.path, stream.index, codec)
        return self._open_sidecar(place, track_header(stream, codec, entry))

    def _box_sidecar(self) -> Sidecar:
        assert self._destination is not None
        about = {"kind": "boxes", "codec": self._info.container}
        return self._open_sidecar(box_sidecar_path(self._destination.path), about)

    def _open_sidecar(self, place: Path, header: dict[str, Any]) -> Sidecar:
        return Sidecar(place, header, source=self._info.path, overwrite=self._overwrite)

    def _track_numbers(self) -> dict[int, int]:
        """Numbers of the source's tracks -> their indices in the output, both MP4 or MOV."""
        assert self._template is not None
        streams = self._container.streams
        missing = [s.index for s in streams if s.disposition & Disposition.attached_pic]
        missing += self._tracks.left_out
        places = {**self._tracks.places, self._template.video_index: self.stream.index}
        return {
            self._template.container.streams[index].id: place - sum(m < place for m in missing)
            for index, place in places.items()
            if place not in missing
        }

    def _write_timecode(self, template: Template) -> None:
        """Write the timecode inside the video stream as the container's, where that is possible."""
        known = {template.container.metadata.get("timecode"), self.stream.metadata.get("timecode")}
        if template.timecode is None or known != {None}:
            return
        muxer, rate = self._format.muxer, self._info.frame_rate
        note, loss = write_timecode(self.stream, template.timecode, muxer, rate)
        self.report.notes += [note] if note else []
        self.report.losses += [loss] if loss else []

    def _look_for_timecode(self) -> None:
        """Report a timecode of the source that the complete container does not have."""
        if self._template is None:
            return
        source = self._template.container
        loss = lost_timecode(
            *(source, source.streams[self._template.video_index], self._format.muxer),
            made=self._destination.partial if self._destination is not None else None,
            index=self.stream.index,
        )
        self.report.losses += [loss] if loss else []

    def _turn(self, template: Template) -> None:
        if template.display_matrix is None:
            return
        if self._format.rotates:
            self.stream.set_display_matrix(template.display_matrix)
        else:
            self.report.losses.append(
                f"rotation by {self._info.rotation} degrees: {self._format.muxer} cannot hold it"
            )

    def _lose_pixel_shape(self) -> None:
        """Report the loss: PyAV passes the pixel shape to encoders and to MP4, but to no other muxer."""
        shape = self._info.sample_aspect_ratio
        if shape != 1 and not self._holds_pixel_shape and self._format.muxer not in MP4_FAMILY:
            self.report.losses.append(
                f"shape of pixels {shape.numerator}:{shape.denominator}: lost with"
                f" {self.report.codec} in {self._format.muxer}, kept in mp4 and with h264 and hevc"
            )

    def _pass(self, item: PassedPacket) -> None:
        if self._expected is not None:
            self._expected.packet(item.payload, item.stream_index)
        self._tracks.write(item.stream_index, item.payload)

    def _unnamed_losses(self, path: Path) -> list[str]:
        """What the complete output lacks of its source and no loss names."""
        if self._expected is None:
            return []
        named = [*self.report.losses, *self._tracks.losses, *self._belongings.losses]
        named += [loss for _, loss in self._tracks.sidecars]
        return self._expected.missing(
            str(path),
            frames=self.report.frames,
            timed=self._format.timestamps,
            copied=self._tracks.copied,
            shift_s=self.shift_s,
            losses=[self._without_names(loss) for loss in named],
        )

    def _without_names(self, loss: str) -> str:
        """A loss without names of files, whose words name no loss."""
        assert self._destination is not None
        boxes = box_sidecar_path(self._destination.path)
        for name in (boxes.name, *(sidecar.path.name for sidecar, _ in self._tracks.sidecars)):
            loss = loss.replace(name, "")
        return loss

    def _complete_report(self) -> SinkReport:
        report = self.report
        report.tracks_copied.extend(self._tracks.copied.values())
        report.notes.extend([*self._tracks.notes, *self._belongings.notes])
        report.losses.extend([*self._tracks.losses, *self._belongings.losses])
        if note := clock_note(self._end_s, self._format.muxer, self._format.clock_s):
            report.notes.append(note)
        if self.muxer.negative_s and not self._format.negative_times:
            report.notes.append(
                f"all tracks begin {self.muxer.negative_s:.3f} s later:"
                f" {self._format.muxer} holds no negative times"
            )
        return report

    def _failure(self, error: Exception) -> SinkError:
        """The SinkError for ``error``; an interrupt that caused it is raised itself."""
        if self._pipe is not None:
            self._pipe.reraise()
        reason = redact(getattr(error, "strerror", None) or str(error))
        left = "nothing was left under that name"
        if self._pipe is not None:
            left = "its reader has an incomplete video"
        elif self._destination is not None and os.path.exists(self._destination.path):
            left = "the file that was there before is still intact"
        return SinkError(
            f"{self.report.path}: cannot be written after {self.report.frames} frames ({reason});"
            f" {left}"
        )
