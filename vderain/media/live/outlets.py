"""Outputs of a live stream: a URL to publish to, an HLS folder, a recording in chunks."""

from __future__ import annotations

import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import av

from vderain.errors import OptionError, SinkError
from vderain.media.io.urls import check_slashes, escaped_login, is_url, shown
from vderain.media.live.muxed import SOUNDS, Muxed, reason_of
from vderain.media.live.reach import TcpReceiver, reach, tls_options
from vderain.media.live.recording import RECORDINGS, RecordingOutlet
from vderain.media.live.types import EncodedPacket, Outlet, Streams

_SEGMENT_S = "2"
_LIST_SIZE = "10"
_INTERLEAVE_US = "500000"
_CONFIRMED_S = 2.0  # of media; more than FFmpeg buffers while an RTMP connection is made
_RTP_INTERLEAVE_US = "10000000"
_MUXERS = {
    "rtsp": "rtsp", "rtsps": "rtsp", "rtmp": "flv", "rtmps": "flv",
    "udp": "mpegts", "tcp": "mpegts", "rtp": "rtp_mpegts",
}  # fmt: skip


def open_outlet(path: str, *, timeout_s: float, length_s: float, ca_file: str | None) -> Outlet:
    """The outlet of a path or URL: by its scheme, ``.m3u8``, by one of RECORDINGS, or as a folder of MP4 recordings.

    A URL fails after ``timeout_s`` without a response, and is checked against ``ca_file``; the files of a
    recording last ``length_s``. Nothing is opened yet. Raises OptionError for a path that cannot be an output.
    """
    if is_url(path):
        scheme = path.split("://", 1)[0].lower()
        if scheme not in _MUXERS:
            raise OptionError(
                f"{shown(path)}: a stream can be published to {', '.join(sorted(_MUXERS))}"
            )
        if "listen" in parse_qs(urlsplit(path).query):
            raise OptionError(f"{shown(path)}: vderain connects to receivers, it does not listen")
        return PublishOutlet(path, _MUXERS[scheme], timeout_s, ca_file)
    check_slashes(path)
    suffix = Path(path).suffix.lower()
    if suffix == ".m3u8":
        return HlsOutlet(Path(path))
    if suffix in RECORDINGS:
        prefix = Path(path).stem + "-"
        return RecordingOutlet(Path(path).parent, prefix, length_s, suffix=suffix)
    if suffix and not Path(path).is_dir() and re.fullmatch(r"\.[a-z]\w{1,3}", suffix):
        raise OptionError(
            f"{path}: live video is recorded as {', '.join(RECORDINGS)} files; name one of these, a folder,"
            " an .m3u8 playlist, or a URL"
        )
    return RecordingOutlet(Path(path), "", length_s)


def make_folder(path: str) -> None:
    """Make the folder of a local output, and check that it can be written. Raises SinkError."""
    if is_url(path):
        return
    is_file = Path(path).suffix.lower() in (".m3u8", *RECORDINGS)
    folder = Path(path).parent if is_file else Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SinkError(
            f"{path}: cannot be the output: the folder {folder} cannot be made or written"
            f" ({error.strerror}); choose another"
        ) from None


def takes_sound(path: str, codec: str) -> bool:
    """Whether an output holds sound of this codec unchanged."""
    if is_url(path):
        muxer = _MUXERS.get(path.split("://", 1)[0].lower(), "")
    else:
        suffix = Path(path).suffix.lower()
        muxer = "hls" if suffix == ".m3u8" else RECORDINGS.get(suffix, RECORDINGS[".mp4"])[0]
    return codec in SOUNDS.get(muxer, ())


class _MuxedOutlet:
    """Base of the outlets: an open container or none, and errors with the outlet's name."""

    is_network = False
    confirmed = True

    def __init__(self, name: str) -> None:
        self.name = name
        self._muxed: Muxed | None = None
        self._notes: dict[str, None] = {}

    @property
    def notes(self) -> list[str]:
        """Changes of representation."""
        return list(self._notes)

    def write(self, packet: EncodedPacket) -> None:
        """Send one packet."""
        if self._muxed is None:
            raise SinkError(f"{self.name}: is not open")
        try:
            self._muxed.write(packet)
        except (av.FFmpegError, OSError) as error:
            raise SinkError(f"{self.name}: {reason_of(error)}") from None

    def close(self) -> None:
        """Complete the container; a lost connection is ignored."""
        self._end()

    def _end(self) -> None:
        muxed, self._muxed = self._muxed, None
        if muxed is not None:
            with suppress(av.FFmpegError, OSError):
                muxed.close()

    def finish(self) -> None:
        """Do nothing: there is nothing to complete."""

    def _begin(self, file: Any, muxer: str, streams: Streams, options: dict[str, str]) -> None:
        self._end()
        try:
            self._muxed = Muxed(file, muxer, streams, options)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SinkError(f"{self.name}: {reason_of(error)}") from None
        if self._muxed.note:
            self._notes[f"{self.name}: {self._muxed.note}"] = None


class PublishOutlet(_MuxedOutlet):
    """Publishes to an RTSP, RTMP, UDP, TCP or RTP address; RTP carries MPEG-TS."""

    is_network = True

    def __init__(self, url: str, muxer: str, timeout_s: float, ca_file: str | None = None) -> None:
        super().__init__(shown(url))
        self._url = escaped_login(url)
        self._muxer = muxer
        self._timeout_s = timeout_s
        self._ca_file = ca_file
        self._receiver: TcpReceiver | None = None
        self._first_s: float | None = None

    def open(self, streams: Streams) -> None:
        """Connect; RTMP connects while the first packets are written."""
        self.confirmed, self._first_s = self._muxer != "flv", None
        timeout_us = str(round(self._timeout_s * 1e6))
        # The longest time that sound waits for a frame.
        options = {"max_interleave_delta": _INTERLEAVE_US}
        if self._muxer == "rtsp":
            options |= {"rtsp_transport": "tcp", "timeout": timeout_us}
        elif self._muxer == "flv":
            options |= {"rw_timeout": timeout_us, "flvflags": "no_duration_filesize"}
        elif self._muxer == "mpegts":
            options |= {"muxdelay": "0", "flush_packets": "1"}
        elif self._muxer == "rtp_mpegts":
            # RTP sends both tracks as one, whose times must increase: a late frame would end it.
            options |= {"max_interleave_delta": _RTP_INTERLEAVE_US}
        url = self._url
        if url.startswith("udp://") and "pkt_size" not in url:
            url += (
                "&" if "?" in url else "?"
            ) + "pkt_size=1316"  # seven TS packets in one datagram
        options |= tls_options(url, self._ca_file)
        if url.lower().startswith("tcp://"):
            self.close()
            self._receiver = self._connected(url)
            self._begin(self._receiver, self._muxer, streams, options)
            return
        reach(url, self.name, self._timeout_s, self._ca_file)
        self._begin(url, self._muxer, streams, options)

    def write(self, packet: EncodedPacket) -> None:
        """Send one packet."""
        super().write(packet)
        if not self.confirmed:
            self._first_s = packet.time_s if self._first_s is None else self._first_s
            self.confirmed = packet.time_s - self._first_s > _CONFIRMED_S

    def close(self) -> None:
        """Complete the container and end the connection."""
        super().close()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.close()

    def _connected(self, url: str) -> TcpReceiver:
        try:
            return TcpReceiver(url, self._timeout_s)
        except OSError as error:
            raise SinkError(f"{self.name}: {reason_of(error)}") from None


class HlsOutlet(_MuxedOutlet):
    """An HLS playlist with its last segments of two seconds next to it, for any web server."""

    def __init__(self, playlist: Path) -> None:
        super().__init__(str(playlist))
        self._playlist = playlist
        self._began = False
        self._before: tuple[int, int] | None = None

    def open(self, streams: Streams) -> None:
        """Begin a playlist, or continue it after a discontinuity."""
        self.confirmed, self._before = False, self._stamp()
        flags = "delete_segments+independent_segments+temp_file+program_date_time+omit_endlist"
        if self._began:
            flags += "+append_list+discont_start"
        try:
            self._playlist.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{self.name}: {error.strerror}") from None
        options = {
            "hls_time": _SEGMENT_S,
            "hls_list_size": _LIST_SIZE,
            "hls_flags": flags,
            "hls_segment_filename": str(self._playlist.with_suffix("")) + "-%d.ts",
            # Numbers that no earlier run has used, since browsers cache segments by name.
            "hls_start_number_source": "epoch",
            "max_interleave_delta": _INTERLEAVE_US,
        }
        self._begin(str(self._playlist), "hls", streams, options)
        self._began = True

    def write(self, packet: EncodedPacket) -> None:
        """Write one packet; FFmpeg writes no file before the first segment is complete."""
        super().write(packet)
        self.confirmed = self.confirmed or self._stamp() != self._before

    def close(self) -> None:
        """Write the last segment. Raises SinkError where no file could be written."""
        was_open = self._muxed is not None
        super().close()
        self.confirmed = self.confirmed or self._stamp() != self._before
        if was_open and not self.confirmed:
            raise SinkError(f"{self.name}: no file could be written")

    def _stamp(self) -> tuple[int, int] | None:
        """A value that changes with every version of the playlist; None where there is none."""
        try:
            known = self._playlist.stat()
        except OSError:
            return None
        return known.st_mtime_ns, known.st_ino

    def finish(self) -> None:
        """Write the end of the playlist."""
        with suppress(OSError):
            text = self._playlist.read_text()
            if "#EXT-X-ENDLIST" not in text:
                partial = self._playlist.with_suffix(".m3u8.part")
                partial.write_text(text + "#EXT-X-ENDLIST\n")
                partial.replace(self._playlist)
