"""Tracks other than the video: copied, converted, or kept next to the output; none of them ends a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from vderain.errors import SinkError
from vderain.media.bitstream.avi import SoundClock, clocks_of, set_clocks
from vderain.media.carry.acm import add_acm, name_tracks, named, wave_header
from vderain.media.carry.hidden import Hidden
from vderain.media.carry.languages import quicktime, three_letters
from vderain.media.carry.sidecar import Sidecar
from vderain.media.carry.subtitles import conversion
from vderain.media.carry.template import Template
from vderain.media.carry.timecode import tags_after_cut
from vderain.media.carry.trial import Add, add_copy, add_with_rate, obstacle
from vderain.media.frames.timing import DecodingTimes, TtaEnd, move
from vderain.media.io.formats import Container
from vderain.media.io.open import describe_track, is_container_track, track_name
from vderain.media.io.streams import MP4_FAMILY
from vderain.media.io.urls import redact
from vderain.media.mp4.data_tracks import add_data, described, is_foreign
from vderain.media.muxing import CopiedTrack, Muxer, TrackWriter

_COVERS = {"mjpeg": "jpeg"}  # codecs whose images have another name
_TRACK_ERRORS = (av.InvalidDataError, av.ArgumentError, av.PatchWelcomeError)


@dataclass(slots=True)
class Tracks:
    """All tracks other than the video, by their index in the input, and their reports.

    ``sidecars`` have the loss that is reported when they are published. ``wave_headers`` are those of sound
    that Matroska holds under the tags of WAV. ``shift_s`` is added to all times. ``places`` has the index of a track
    in the output. ``sound_clocks`` are those of sound from AVI in AVI, by the index in the output.
    """

    writers: dict[int, TrackWriter] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    sidecars: list[tuple[Sidecar, str]] = field(default_factory=list)
    copied: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    wave_headers: list[bytes] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)
    hidden: dict[int, Hidden] = field(default_factory=dict)
    sound_clocks: dict[int, SoundClock] = field(default_factory=dict)
    shift_s: Fraction = Fraction(0)
    _with_packets: set[int] = field(default_factory=set)

    @property
    def left_out(self) -> list[int]:
        """Indices in the output of tracks that its file does not have, known once all packets are written."""
        return [
            self.places[index]
            for index, writer in self.writers.items()
            if isinstance(writer, CopiedTrack) and writer.is_left_out
        ]

    def write(self, index: int, packet: Any) -> None:
        """Write a packet; a track that fails ends here, and is reported as a loss.

        Raises av.FFmpegError and OSError where the disk or the pipe failed, and not the track.
        """
        writer, hidden = self.writers.get(index), self.hidden.get(index)
        self._with_packets.add(index)
        if writer is None or (hidden is not None and not hidden.takes(packet)):
            return
        if self.shift_s and packet.time_base:
            move(packet, round(self.shift_s / packet.time_base))
        try:
            writer.write(packet)
        except _TRACK_ERRORS as error:
            self._end(index, f"at {packet.pts}", error)

    def flush(self) -> None:
        """Write packets that were held back, before the container is completed; raises as ``write``."""
        for index, writer in list(self.writers.items()):
            if isinstance(writer, CopiedTrack):
                try:
                    writer.flush()
                except _TRACK_ERRORS as error:
                    self._end(index, "before its last packets", error)

    def _end(self, index: int, where: str, error: av.FFmpegError) -> None:
        del self.writers[index]
        self.copied.pop(index, None)
        reason = redact(error.strerror or "")
        self.losses.append(f"{self.names[index]}: ends {where}, could not be written on ({reason})")

    def mend(self, path: Path) -> None:
        """Change a complete file where FFmpeg could not write it as needed. Raises OSError."""
        if self.wave_headers:
            name_tracks(path, self.wave_headers)
        if self.sound_clocks:
            set_clocks(path, self.sound_clocks)

    def finish(self) -> None:
        """Complete the sidecars, under their hidden names, and the report."""
        for sidecar, _ in self.sidecars:
            sidecar.finish()
        for index, hidden in self.hidden.items():
            name = self.names[index]
            self.notes.extend(f"{name}: {note}" for note in hidden.notes())
            self.losses.extend(f"{name}: {loss}" for loss in hidden.losses())
        for index, writer in self.writers.items():
            is_left_out = isinstance(writer, CopiedTrack) and writer.is_left_out
            if is_left_out and index not in self._with_packets:
                self.copied.pop(index, None)
                name = self.names[index]
                self.notes.append(f"{name}: has no packets, so the output has no such track")
            if isinstance(writer, CopiedTrack) and writer.repaired:
                self.notes.append(
                    f"{self.names[index]}: {writer.repaired} times went backwards and were moved on"
                )

    def publish(self) -> None:
        """Give the sidecars their names; since the output has its name, a failure is a loss."""
        for sidecar, loss in self.sidecars:
            try:
                sidecar.publish()
                if not sidecar.is_empty:
                    self.losses.append(loss)
            except SinkError as error:
                self.losses.append(str(error))
                sidecar.abort()

    def abort(self) -> None:
        """Remove sidecars that have no name yet."""
        for sidecar, _ in self.sidecars:
            sidecar.abort()


def mirror(
    template: Template,
    muxer: Muxer,
    container: Container,
    make_sidecar: Callable[[Any, str], Sidecar] | None,
    add_video: Callable[[], None],
    *,
    is_file: bool = True,
) -> Tracks:
    """Make a stream in the output for each track of the input, in the same order.

    ``add_video`` is called at the position of the video stream. ``make_sidecar`` makes the sidecar of a stream
    and its codec where the output cannot hold the track; None for no sidecars. ``is_file`` is False for a
    pipe, where ``mend`` cannot change the complete output. Raises what ``add_video`` and ``make_sidecar`` raise,
    av.FFmpegError and OSError; sidecars are then removed.
    """
    builder = _Mirror(template, muxer, container, make_sidecar, is_file)
    try:
        for stream in template.container.streams:
            if stream.index == template.video_index:
                add_video()
            elif stream.index not in template.left_out and not is_container_track(stream):
                builder.add(stream)
    except BaseException:
        builder.tracks.abort()
        raise
    return builder.tracks


class _Mirror:
    """Makes the output's tracks one by one."""

    def __init__(
        self,
        template: Template,
        muxer: Muxer,
        container: Container,
        make_sidecar: Callable[[Any, str], Sidecar] | None,
        is_file: bool,
    ) -> None:
        self.tracks = Tracks()
        self._template = template
        self._is_file = is_file
        self._muxer = muxer
        self._container = container
        self._sidecar = make_sidecar
        self._clocks = clocks_of(template.container) if container.muxer == "avi" else {}

    def add(self, stream: Any) -> None:
        """Copy a track, or convert it, or keep it next to the output."""
        name, codec = track_name(stream), describe_track(stream).codec
        self.tracks.names[stream.index] = name
        video = stream.type == "video" and not stream.disposition & Disposition.attached_pic
        self.tracks.hidden[stream.index] = Hidden(
            can_hide=self._container.muxer in MP4_FAMILY,
            needs_key=video,
            is_cut=bool(self._template.cut_s),
        )
        is_cover = stream.type == "video" and not video
        if is_cover and self._container.attachments and self._samples(stream):
            self._attach_cover(stream, name, codec)
            return
        reason = self._obstacle(stream)
        converted = conversion(codec, self._container.muxer)
        if reason is None:
            self._copy(stream, name, self._add_of(stream))
        elif self._fits_by_wave_header(stream):
            self._copy(stream, name, add_acm)
        elif self._fits_as_data(stream):
            self._copy(stream, name, add_data)
        elif converted is not None:
            self._convert(stream, name, *converted)
        else:
            self._keep_in_sidecar(stream, codec, reason)

    def _obstacle(self, stream: Any) -> str | None:
        """Why the output's container cannot hold a track; None where it can."""
        muxer = self._container.muxer
        if stream.type == "attachment":
            return None if self._container.attachments else f"{muxer} cannot hold it"
        if stream.disposition & Disposition.attached_pic and muxer in MP4_FAMILY:
            return obstacle(stream, muxer, None)
        return obstacle(
            *(stream, muxer, self._samples(stream)),
            entry=self._entry(stream),
            add=self._add_of(stream),
            options=self._container.kinds_options,
        )

    def _add_of(self, stream: Any) -> Add:
        """How the output's stream for a track is made."""
        clock = self._clocks.get(stream.index)
        is_of_blocks = describe_track(stream).codec.startswith("adpcm")
        if clock is None or not clock.sample_bytes or not is_of_blocks:
            return add_copy
        return partial(add_with_rate, bit_rate=clock.bit_rate)

    def _entry(self, stream: Any) -> bytes | None:
        """The description of a data track's samples, which readers need."""
        leftovers = self._template.leftovers
        if leftovers is None or stream.type != "data" or self._container.muxer not in MP4_FAMILY:
            return None
        return leftovers.entry(stream.id)

    def _fits_by_wave_header(self, stream: Any) -> bool:
        if self._container.muxer != "matroska" or stream.type != "audio" or not self._is_file:
            return False
        header = wave_header(stream)
        if header is None:
            return False
        mend = partial(named, headers=[header])
        if obstacle(stream, "matroska", self._samples(stream), add=add_acm, mend=mend) is not None:
            return False
        self.tracks.wave_headers.append(header)
        return True

    def _fits_as_data(self, stream: Any) -> bool:
        """Whether MP4 or MOV hold data that FFmpeg does not know, described afterwards as in the source."""
        left, entry = self._template.leftovers, self._entry(stream)
        if left is None or entry is None or not self._is_file or not is_foreign(left.of(stream.id)):
            return False
        mend, held = partial(described, source=left.of(stream.id)), self._samples(stream)
        muxer = self._container.muxer
        return obstacle(stream, muxer, held, entry=entry, add=add_data, mend=mend) is None

    def _samples(self, stream: Any) -> tuple[Any, ...]:
        return self._template.samples.get(stream.index, ())

    def _copy(self, stream: Any, name: str, add: Add = add_copy) -> None:
        added = add(self._muxer.container, stream)
        self.tracks.places[stream.index] = added.index
        if (clock := self._clocks.get(stream.index)) is not None:
            self.tracks.sound_clocks[added.index] = clock
        _copy_description(stream, added, self._template.cut_s)
        video = stream.type == "video" and not stream.disposition & Disposition.attached_pic
        order = DecodingTimes() if video else TtaEnd.of(stream)
        self.tracks.writers[stream.index] = CopiedTrack(self._muxer, added, order=order)
        self.tracks.copied[stream.index] = name
        if video:
            self.tracks.notes.append(f"{name}: a second video is copied as it is, with its rain")

    def _attach_cover(self, stream: Any, name: str, codec: str) -> None:
        """Write a cover as an attached image; as a track it would be a second video."""
        kind = _COVERS.get(codec, codec)
        file = stream.metadata.get("filename", f"cover.{kind.replace('jpeg', 'jpg')}")
        mimetype = stream.metadata.get("mimetype", f"image/{kind}")
        image = bytes(self._samples(stream)[0])
        added = self._muxer.container.add_attachment(file, mimetype, image)
        if title := stream.metadata.get("title"):
            added.metadata["title"] = title
        self.tracks.places[stream.index] = added.index
        self.tracks.copied[stream.index] = name

    def _convert(
        self, stream: Any, name: str, codec: str, convert: Callable[[bytes], bytes]
    ) -> None:
        added = self._muxer.container.add_mux_stream(codec, time_base=stream.time_base)
        self.tracks.places[stream.index] = added.index
        _copy_description(stream, added, self._template.cut_s)
        self.tracks.writers[stream.index] = CopiedTrack(self._muxer, added, convert)
        self.tracks.copied[stream.index] = name
        self.tracks.notes.append(
            f"{name}: written as {codec}, which {self._container.muxer} accepts"
        )

    def _keep_in_sidecar(self, stream: Any, codec: str, reason: str) -> None:
        name = self.tracks.names[stream.index]
        if self._sidecar is None:
            self.tracks.losses.append(f"{name}: dropped, {reason}")
            return
        sidecar = self._sidecar(stream, codec)
        loss = f"{name}: kept next to the output in {sidecar.path.name}, {reason}"
        self.tracks.sidecars.append((sidecar, loss))
        if stream.type == "attachment":
            sidecar.write_bytes(stream.data, {})
        else:
            self.tracks.writers[stream.index] = sidecar


def _copy_description(stream: Any, added: Any, cut_s: Fraction) -> None:
    added.metadata.clear()
    added.metadata.update(
        tags_after_cut(stream.metadata, cut_s, getattr(stream, "average_rate", None))
    )
    if "language" in added.metadata:  # HLS has two letters, which MP4 does not hold
        code = added.metadata["language"]
        is_mov = added.container.format.name == "mov"
        added.metadata["language"] = quicktime(code) if is_mov else three_letters(code)
    added.disposition = stream.disposition
