"""Files next to an output, for tracks and boxes that its container cannot hold."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from vderain.files import Destination, fitted_name

_TIMES = ".jsonl"
_BLOCK = 1 << 20


def track_sidecar_path(output: Path, index: int, codec: str) -> Path:
    """The path of a track's sidecar; the output's name is shortened where both together are too long."""
    ending = f".{index}.{codec}.bin"
    return output.parent / fitted_name(output.name, ending, spare=len(_TIMES))


def box_sidecar_path(output: Path) -> Path:
    """The path of the sidecar for boxes of an MP4 or MOV source."""
    return output.parent / fitted_name(output.name, ".boxes.bin", spare=len(_TIMES))


def track_header(stream: Any, codec: str, entry: bytes | None = None) -> dict[str, Any]:
    """The first line of a track's sidecar; ``entry`` describes the track's samples in MP4 and MOV."""
    about = {
        "codec": codec,
        "kind": stream.type,
        "time_base": str(stream.time_base),
        "tags": dict(stream.metadata),
        "codec_header": _codec_header(stream).hex(),
    }
    return about if entry is None else {**about, "sample_entry": entry.hex()}


class Sidecar:
    """Two files: ``<output>.<index>.<codec>.bin`` and the same name with ``.jsonl``.

    The ``.bin`` has the payloads of all packets in sequence. The first line of the ``.jsonl`` describes the
    track (``track_header``); each further line is one packet: pts, dts and duration in time_base units, and its
    size in bytes. For boxes, a line has the path of the box in the source. Both files get their names after the
    output. The constructor raises SinkError where a file cannot be made; writing raises OSError where the
    disk is full.
    """

    def __init__(
        self, place: Path, header: dict[str, Any], *, source: str, overwrite: bool
    ) -> None:
        base = str(place)
        self._places = (Destination(base), Destination(base + _TIMES))
        for each in self._places:
            each.check(source, overwrite=overwrite)
        self._header = header
        self._files: tuple[IO[bytes], IO[bytes]] | None = None

    @property
    def path(self) -> Path:
        """The path of the payloads."""
        return self._places[0].path

    @property
    def is_empty(self) -> bool:
        """Whether there was no packet, so that no files are made."""
        return self._files is None

    def write(self, packet: Any) -> None:
        """Append one packet."""
        line = {"pts": packet.pts, "dts": packet.dts, "duration": packet.duration}
        self.write_bytes(bytes(packet), line)

    def write_bytes(self, payload: bytes, line: dict[str, Any]) -> None:
        """Append one payload and its line; the first call makes the files."""
        self._begin().write(payload)
        self._line({**line, "size": len(payload)})

    def write_from(self, file: IO[bytes], size: int, line: dict[str, Any]) -> None:
        """Append a part of a file, and its line."""
        out, left = self._begin(), size
        while left and (block := file.read(min(left, _BLOCK))):
            out.write(block)
            left -= len(block)
        self._line({**line, "size": size - left})

    def _begin(self) -> IO[bytes]:
        if self._files is None:
            self._files = (
                open(self._places[0].partial, "wb"),  # noqa: SIM115  # closed by finish and abort
                open(self._places[1].partial, "wb"),  # noqa: SIM115  # closed by finish and abort
            )
            self._line(self._header)
        return self._files[0]

    def finish(self) -> None:
        """Complete both files under their hidden names."""
        for file in self._files or ():
            file.close()

    def publish(self) -> None:
        """Give both files their names, if they exist. Raises SinkError."""
        for place in self._places if self._files else ():
            place.publish()

    def abort(self) -> None:
        """Remove both files, unless they have their names."""
        for file in self._files or ():
            with suppress(OSError):  # the rest of the buffer may not fit on the disk
                file.close()
        for place in self._places:
            place.discard()

    def _line(self, content: dict[str, Any]) -> None:
        assert self._files is not None
        self._files[1].write(json.dumps(content, ensure_ascii=True).encode() + b"\n")


def _codec_header(stream: Any) -> bytes:
    context = stream.codec_context
    return (context.extradata or b"") if context is not None else b""
