"""Local files that name other files: playlists need their own extension, and may name files of their folder only."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import av
from av.format import ContainerFormat

from vderain.errors import SourceError

# Demuxers that open the files that a file names; FFmpeg chooses them by a file's first bytes.
_LISTS = {"concat", "dash", "hls", "imf", "sdp"}
_HEADS = (b"#EXTM3U", b"ffconcat", b"v=0\r", b"v=0\n", b"<?xml", b"<MPD")
NO_LIST = "is a list of other files, which are opened for a playlist named .m3u8 only; name the video itself"
_LINE_ENDS = re.compile(rb"[\r\n\0]+")  # as FFmpeg splits a playlist
_URI = re.compile(r'URI=(?:"([^"\\]*)"|([^",\\]+))')
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_LONGEST_URI = 2048  # FFmpeg cuts lines of 4096 bytes
_MOST_BYTES = 16 << 20


def local_options(path: str) -> dict[str, str]:
    """FFmpeg's options for a local file or a pipe (``-``): it may read that alone, and for an ``.m3u8`` its folder.

    Raises SourceError for a playlist that names other files.
    """
    is_playlist = path.lower().endswith(".m3u8") and os.path.isfile(path)
    if is_playlist:
        _check_playlist(path)
    # FFmpeg opens an encrypted segment by the protocol crypto.
    return {
        "format_whitelist": _formats(with_hls=is_playlist),
        "protocol_whitelist": "file,crypto",
    }


def is_list(path: str) -> bool:
    """Whether a file that cannot be read as video is a list of others, by its first bytes."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(16).removeprefix(b"\xef\xbb\xbf").startswith(_HEADS)
    except OSError:
        return False


@functools.cache
def _formats(*, with_hls: bool) -> str:
    """All demuxers except those of lists."""
    left_out = _LISTS - {"hls"} if with_hls else _LISTS
    inputs = {name for name in av.formats_available if _is_input(name)}
    return ",".join(sorted(inputs - left_out))


def _is_input(name: str) -> bool:
    try:
        return ContainerFormat(name, "r").is_input
    except ValueError:
        return False


def _check_playlist(path: str) -> None:
    """Check a playlist and the playlists that it names."""
    folder = Path(os.path.realpath(path)).parent
    waiting, seen = [Path(path)], set()
    while waiting:
        playlist = waiting.pop()
        if playlist in seen:
            continue
        seen.add(playlist)
        for uri in _uris(playlist):
            named = playlist.parent / uri
            inside = folder in Path(os.path.realpath(named)).parents
            if _SCHEME.match(uri) or uri.startswith(("/", "\\")) or not inside:
                raise SourceError(
                    f"{path}: names {uri[:200]!r}, and a playlist of this machine may name files of its own"
                    " folder only; give the playlist's own address, or put the files next to it"
                )
            waiting.append(named)


def _uris(playlist: Path) -> Iterator[str]:
    """The files that a playlist names; none for other files. Raises SourceError for lines it cannot read."""
    try:
        with playlist.open("rb") as file:
            if file.read(7) != b"#EXTM3U":
                return
            data = file.read(_MOST_BYTES + 1)
    except OSError:
        return  # FFmpeg reports the file, or skips it
    if len(data) > _MOST_BYTES:
        raise SourceError(f"{playlist}: is too long for a playlist")
    for line in _LINE_ENDS.split(data)[1:]:
        text = os.fsdecode(line).rstrip()
        found = [text] if text and not text.startswith("#") else []
        if text.startswith("#EXT"):
            found = [quoted or plain for quoted, plain in _URI.findall(text)]
            if len(found) != text.count("URI="):
                raise SourceError(f"{playlist}: its line {text[:200]!r} is not understood")
        for uri in filter(None, found):
            if len(uri) > _LONGEST_URI:
                raise SourceError(f"{playlist}: names a file with {len(uri)} characters")
            yield uri
