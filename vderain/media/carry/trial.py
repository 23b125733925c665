"""Tries whether a container holds a track: writes a small file to memory and reads it back."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

import av

from vderain.media.io.open import codec_name, open_container
from vderain.media.mp4.boxes import ENTRY_HEADER, first_sample_entry

SAMPLES = 16  # packets; enough for FFmpeg's parsers to tell MP2 from MP3
_LOOK_BYTES = 4 << 20  # of a file that are read for them
_PLACEHOLDER = bytes(64)

Add = Callable[[Any, Any], Any]
"""Makes the stream of an output for a stream of the input."""


def add_copy(output: Any, stream: Any) -> Any:
    """Make an output's stream as FFmpeg's muxer does it. Raises ValueError, av.FFmpegError."""
    return output.add_stream_from_template(stream, opaque=True)


def add_with_rate(output: Any, stream: Any, *, bit_rate: int) -> Any:
    """``add_copy`` with the bit rate of the sound, where the input has a wrong one. Raises as it does."""
    added = add_copy(output, stream)
    added.codec_context.bit_rate = bit_rate
    return added


def obstacle(
    stream: Any,
    muxer: str,
    samples: Sequence[Any] | None,
    *,
    entry: bytes | None = None,
    add: Add = add_copy,
    mend: Callable[[bytes], bytes] = bytes,
    options: Mapping[str, str] | None = None,
) -> str | None:
    """Why a container does not return a track as it was written; None where it does.

    Tables of containers do not show this: MPEG-TS, for example, takes every codec and writes most of them as data
    that nothing plays.

    Args:
        stream: the track of the input.
        muxer: FFmpeg's name of the output's container.
        samples: some of the track's packets; they are copied. None asks only the muxer, for tracks that it
        writes in another place, such as covers.
        entry: the description of a data track's samples in MP4 or MOV, which players need.
        add: makes the output's stream.
        mend: changes the file after it is written.
        options: of the muxer.

    """
    refusal = f"{muxer} cannot hold it"
    if not samples and codec_name(stream).startswith("aac"):
        samples = None  # muxers need packets of AAC, and all of them hold it
    try:
        written = mend(_written(stream, muxer, samples, add, options or {}))
    except (av.FFmpegError, ValueError):
        return refusal
    if samples is None:
        return None
    try:
        with av.open(io.BytesIO(written), format=_demuxer(muxer)) as trial:
            found = next(iter(trial.streams), None)
            kind, codec = (found.type, codec_name(found)) if found is not None else ("nothing", "")
    except (av.FFmpegError, ValueError):
        kind, codec = "nothing", ""
    if (kind, family(codec)) != (stream.type, family(codec_name(stream))):
        came = "nothing" if kind == "nothing" else f"{kind} {codec}"
        return f"{refusal} (it would come out as {came})"
    if entry is not None and _meaning(first_sample_entry(written)) != _meaning(entry):
        return f"{muxer} would hold it without its description"
    return None


def _meaning(entry: bytes) -> tuple[bytes, bytes]:
    """The kind of a description of samples, and what follows its header."""
    return entry[4:8], entry[ENTRY_HEADER:]


def family(codec: str) -> str:
    """The codec's name, one for the layers of MPEG audio, which FFmpeg tells apart only by some packets."""
    return "mpeg audio" if codec in ("mp1", "mp2", "mp3") else codec


def _written(
    stream: Any, muxer: str, samples: Sequence[Any] | None, add: Add, options: Mapping[str, str]
) -> bytes:
    """A file with this track alone. Raises ValueError and av.FFmpegError."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=muxer, container_options=dict(options)) as output:
        added = add(output, stream)
        output.start_encoding()
        for packet in _copies(stream, samples) if samples is not None else ():
            packet.stream = added
            output.mux_one(packet)
    return buffer.getvalue()


def first_packets(path: str, wanted: Collection[int]) -> dict[int, list[Any]]:
    """The first packets of some tracks, read from the beginning of a file."""
    found: dict[int, list[Any]] = {index: [] for index in wanted}
    with closing(open_container(path)) as container, suppress(av.FFmpegError):
        read = 0
        for packet in container.demux():
            read += packet.size
            if packet.size and packet.time_base and packet.stream.index in found:
                found[packet.stream.index].append(packet)
            if read > _LOOK_BYTES or all(len(packets) >= SAMPLES for packets in found.values()):
                break
    return found


def _copies(stream: Any, samples: Sequence[Any]) -> list[Any]:
    """Packets with times that rise from zero; an empty one where no packet is known."""
    if not samples:
        packet: Any = av.Packet(_PLACEHOLDER)
        packet.pts, packet.dts, packet.time_base = 0, 0, stream.time_base
        return [packet]
    copies = []
    first, last = None, -1
    for sample in samples:
        copy: Any = av.Packet(bytes(sample))
        copy.time_base, copy.duration = sample.time_base, sample.duration
        copy.is_keyframe = sample.is_keyframe
        at = sample.dts if sample.dts is not None else sample.pts
        first = at if first is None else first
        last = max(last + 1, at - first) if at is not None and first is not None else last + 1
        copy.pts = copy.dts = last
        copies.append(copy)
    return copies


def _demuxer(muxer: str) -> str:
    return {"webm": "matroska", "m4v": "mp4"}.get(muxer, muxer)
