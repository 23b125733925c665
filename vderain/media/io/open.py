"""Opens files, URLs and standard input as containers, and explains why an input is no video."""

from __future__ import annotations

import errno
import os
from fractions import Fraction
from itertools import islice
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition

from vderain.errors import SourceError
from vderain.files import refuse_name
from vderain.interfaces import Track, TrackKind
from vderain.media.io.formats import STANDARD_STREAM
from vderain.media.io.pipes import StandardInput
from vderain.media.io.playlists import NO_LIST, is_list, local_options
from vderain.media.io.urls import check_slashes, escaped_login, input_options, is_url, redact, shown
from vderain.media.io.variants import choose_variant, is_left_out
from vderain.media.mp4.movies import ends_in_index, next_movie

_NETWORK_TIMEOUT_S = 15.0
_TIMECODE_BYTES = 4  # of a sample that holds a timecode
# FFmpeg takes text files with some extensions for ANSI art, and draws them.
_TEXT_FORMATS = {"tty", "ansi", "bin", "xbin", "adf", "idf"}
_KINDS: dict[str, TrackKind] = {
    "video": "video", "audio": "audio", "subtitle": "subtitle", "attachment": "attachment",
}  # fmt: skip


def open_container(
    path: str, pipe: StandardInput | None = None, *, hwaccel: HWAccel | None = None
) -> InputContainer:
    """Open a file or a URL, or standard input where ``pipe`` is given; ``hwaccel`` then decodes its video.

    Raises SourceError with the reason and what to do.
    """
    name = input_name(path)
    file: Any = path
    options: dict[str, str] = {}
    timeout = None
    if pipe is not None:
        file, options = pipe, local_options(path)
    elif is_url(path):
        file = escaped_login(path)
        options, timeout = input_options(path), _NETWORK_TIMEOUT_S
    else:
        check_file(path)
        file = f"file:{path}"  # so that a colon in the name is no protocol
        options = local_options(path)
        follows = next_movie(path)
        if follows is not None and follows.mixes:
            file = f"subfile,,start,0,end,{follows.start},,:{file}"
            options["protocol_whitelist"] += ",subfile"
    try:
        container: InputContainer = av.open(
            file,
            "r",
            options=options,
            timeout=timeout,
            metadata_errors="surrogateescape",
            hwaccel=hwaccel,
        )
    except (av.FFmpegError, OSError) as error:
        if pipe is not None:
            pipe.reraise()
        if not is_url(path) and is_list(path):
            raise SourceError(f"{name}: {NO_LIST}") from None
        # The cause may hold a password.
        raise SourceError(f"{name}: {_advice(error, pipe)}") from None
    if container.format.name in _TEXT_FORMATS:
        container.close()
        raise SourceError(f"{name}: is a text file, not a video")
    choose_variant(container)
    return container


def check_file(path: str) -> None:
    """Raise SourceError for a missing or unreadable file; OptionError for an incomplete URL."""
    refuse_name(path, SourceError)
    try:
        os.stat(path)
    except FileNotFoundError:
        check_slashes(path)
        raise SourceError(f"{path}: there is no such file") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be opened: {error.strerror}") from error
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise SourceError(f"{path}: is empty; copy or record it again")
    if not os.access(path, os.R_OK):
        raise SourceError(f"{path}: no permission to read it")


def can_reopen(path: str) -> bool:
    """Whether an input can be opened again from its beginning; a pipe cannot, whatever its name."""
    if path == STANDARD_STREAM:
        return False
    return is_url(path) or os.path.isfile(path) or os.path.isdir(path)


def input_name(path: str) -> str:
    """The name of an input in messages."""
    return "standard input" if path == STANDARD_STREAM else shown(path)


def _advice(error: Exception, pipe: StandardInput | None) -> str:
    reason = redact(getattr(error, "strerror", None) or str(error))
    if pipe is not None and not pipe.begun:
        return "is empty; give it a video, or name a file"
    if pipe is not None:
        return (
            "is no video that can be read; an MP4 or MOV file with its index at the end must be"
            f" named as a file instead ({reason})"
        )
    if isinstance(error, av.InvalidDataError | av.EOFError):
        return (
            "is no video that can be read; a recording that was cut off before its end may lack"
            f" its index, which a repair tool can rebuild ({reason})"
        )
    if getattr(error, "errno", None) in (errno.ETIMEDOUT, errno.EIO):
        return f"does not respond ({reason}); check the address and the network"
    return f"cannot be opened ({reason})"


def pick_video(container: InputContainer, path: str) -> Any:
    """The video stream to derain: the default one, else the first; cover images do not count.

    A track of one image, such as a camera's thumbnail, is chosen only where there is no other.

    Raises SourceError where there is none, or no decoder for it.
    """
    name = input_name(path)
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic and not is_left_out(stream)
    ]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams} - {"video"})
        covers = ["a cover image"] if container.streams.video else []
        _check_index(path, name)
        held = " and ".join([", ".join(kinds), *covers] if kinds else covers) or "nothing"
        raise SourceError(f"{name}: holds no video, only {held}; there is nothing to derain")
    streams = [stream for stream in streams if stream.frames != 1] or streams
    flagged = [stream for stream in streams if stream.disposition & Disposition.default]
    stream = (flagged or streams)[0]
    if stream.codec_context is None:
        _check_index(path, name)
        raise SourceError(f"{name}: there is no decoder for its video; convert it first")
    return stream


def _check_index(path: str, name: str) -> None:
    if ends_in_index(path):
        raise SourceError(
            f"{name}: its index is cut off, so that no video is found; copy the file again,"
            " or let a repair tool rebuild the index"
        )


def is_container_track(stream: Any) -> bool:
    """Whether a stream is bookkeeping that every muxer writes itself: chapters, timecode."""
    if is_left_out(stream):
        return True
    is_timed = stream.type == "data" and stream.name is None and "timecode" in stream.metadata
    # The telemetry of some cameras (rtmd) has a timecode too, but larger samples.
    sizes = [entry.size for entry in islice(stream.index_entries, 1)] if is_timed else []
    return is_timed and sizes in ([], [_TIMECODE_BYTES])


def describe_track(stream: Any) -> Track:
    """The description of a stream, for people."""
    context = stream.codec_context
    codec = codec_name(stream)
    kind = _KINDS.get(stream.type, "data")
    if kind == "attachment":
        return Track(stream.index, kind, "attachment", stream.metadata.get("filename", ""))
    details = [stream.metadata.get("language", "")]
    if kind == "video":
        details.append(f"{stream.width}x{stream.height}")
    elif kind == "audio" and context is not None:
        details.append(f"{context.layout.name} {context.sample_rate} Hz")
    return Track(stream.index, kind, codec, " ".join(filter(None, details)))


def track_name(stream: Any) -> str:
    """The name of a track in reports."""
    track = describe_track(stream)
    detail = f" ({track.detail})" if track.detail else ""
    return f"#{track.index} {track.kind} {track.codec}{detail}"


def codec_name(stream: Any) -> str:
    """The name of a stream's codec, whichever decoder FFmpeg chose for it."""
    if stream.codec_context is not None:
        return str(stream.codec_context.codec.canonical_name)
    return getattr(stream, "name", None) or "unknown"


def seconds(value: int | None, time_base: Fraction | None) -> float | None:
    """A time in units as seconds; None where it is unknown."""
    return None if value is None or not time_base else float(value * time_base)
