"""Data tracks of cameras in MP4 and MOV that FFmpeg reads and does not write: phones, drones, dashcams.

FFmpeg writes the telemetry of one maker (``gpmd``). So such a track is written as one of these, and its description is
then replaced by the source's: samples and times are FFmpeg's, what they mean is the source's.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av

from vderain.media.mp4.boxes import Box, places, read_movie, sample_entries
from vderain.media.mp4.leftovers import TrackBoxes

_WRITTEN = b"gpmd"


def add_data(output: Any, stream: Any) -> Any:
    """Make an output's stream for any data of ``stream``. Raises ValueError, av.FFmpegError."""
    with av.open(io.BytesIO(_file(stream.time_base))) as container:
        added = output.add_stream_from_template(container.streams[0], opaque=True)
    added.time_base = stream.time_base
    return added


def _file(time_base: Fraction) -> bytes:
    """An MP4 with one sample of such telemetry, which MOV takes as a template; MOV cannot begin a track of its own."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        added = output.add_data_stream("bin_data")
        added.time_base = time_base
        output.start_encoding()
        packet: Any = av.Packet(bytes(8))
        packet.pts = packet.dts = 0
        packet.duration, packet.time_base, packet.stream = 1, time_base, added
        output.mux_one(packet)
    return buffer.getvalue()


def is_foreign(source: TrackBoxes) -> bool:
    """Whether a track of the source holds data that FFmpeg writes only under another description.

    Not where samples have several descriptions: those written have one.
    """
    return source.is_data and len(source.entries) == 1 and source.entries[0].kind != _WRITTEN


def describe(track: Box, source: TrackBoxes) -> None:
    """Give a track that ``add_data`` made the description that it has in the source."""
    written = sample_entries(track)
    if not is_foreign(source) or [entry.kind for entry in written] != [_WRITTEN]:
        return
    index = int.from_bytes(written[0].data[6:8], "big")  # of the data reference, which is FFmpeg's
    table = track.find(b"mdia", b"minf", b"stbl", b"stsd")
    media, information = track.find(b"mdia"), track.find(b"mdia", b"minf")
    assert table is not None and media is not None and information is not None
    entry = source.entries[0]
    table.children = [
        Box(entry.kind, entry.data[:6] + index.to_bytes(2, "big") + entry.data[8:], entry.children)
    ]
    if source.handler is not None:
        media.children = [box for box in media.children if box.kind != b"hdlr"]
        media.children.insert(1, source.handler)  # after the header
    if source.media_header is not None:
        others = [box for box in information.children if box.kind not in (b"gmhd", b"nmhd")]
        information.children = [source.media_header, *others]


def described(content: bytes, source: TrackBoxes) -> bytes:
    """A file of one track in memory, whose index is behind its samples, with the track described."""
    file = io.BytesIO(content)
    place = next(place for place in places(file) if place.kind == b"moov")
    movie = read_movie(file, place)
    for track in movie.all(b"trak"):
        describe(track, source)
    return content[: place.start] + bytes(movie) + content[place.end :]
