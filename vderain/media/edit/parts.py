"""Encoded segments and copied GOPs as one sequence of video packets with one header."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from vderain.errors import SinkError
from vderain.frames import DEFAULT_RATE
from vderain.media.bitstream.nal import NalFormat, Renumbering, annex_b
from vderain.media.edit.segments import OFFSET_TAG
from vderain.media.io.index import VideoIndex, index_video, nal_format, packets_of
from vderain.media.io.open import open_container, pick_video
from vderain.media.span import exact_entry


@dataclass(frozen=True, slots=True)
class Encoded:
    """A segment that SegmentSink wrote."""

    path: str


@dataclass(frozen=True, slots=True)
class Copied:
    """Whole closed GOPs of the source; times in its video's ``time_base``, end exclusive."""

    start_pts: int
    end_pts: int


Piece = Encoded | Copied


@dataclass(frozen=True, slots=True)
class _Form:
    """The packing of packets, and the changes to make in them; ``nals`` is None for other codecs."""

    nals: NalFormat | None
    renumbering: Renumbering | None = None

    @property
    def sets(self) -> tuple[bytes, ...]:
        """The parameter sets that the packets refer to."""
        if self.renumbering is not None:
            return self.renumbering.sets
        return () if self.nals is None else self.nals.sets

    def payload(self, packet: Any, *, sets: tuple[bytes, ...], begins: bool) -> bytes:
        """The packet for the output; keyframes get ``sets``. Raises ValueError.

        ``begins`` where the packets before this one come from another encoder.
        """
        if self.nals is None:
            return bytes(packet)
        units = self.nals.split(bytes(packet))
        if self.renumbering is not None:
            units = self.renumbering.applied(units)
        if begins:
            units = self.nals.cut_off(units)
        if sets and packet.is_keyframe:
            have = set(units)
            missing = [unit for unit in sets if unit not in have]
            delimiters = [unit for unit in units[:1] if self.nals.is_delimiter(unit)]
            units = [*delimiters, *missing, *units[len(delimiters) :]]
        return annex_b(units)


class Parts:
    """The checked pieces of an output; ``close`` closes the first of them, the ``template``.

    Raises SinkError for pieces that do not fit together, SourceError for one that cannot be read.

    Attributes:
        template: a stream with the size and format of the output's.
        extradata: the header of the output's video, with the parameter sets of all pieces.
        copied_frames: number of packets copied from the source so far.

    """

    def __init__(
        self, index: VideoIndex, pieces: Sequence[Piece], output: str, *, repeat_sets: bool
    ) -> None:
        if not pieces:
            raise SinkError(f"{output}: there are no pieces to assemble it from")
        self._index, self._pieces, self._output = index, pieces, output
        self._repeat_sets = repeat_sets
        self.copied_frames = 0
        self._copied = [piece for piece in pieces if isinstance(piece, Copied)]
        segments = [piece.path for piece in pieces if isinstance(piece, Encoded)]
        for piece in self._copied:
            self._check(piece)
        self._reorder = index.reorder if self._copied else 0
        self._last_pts = index.last_pts
        self._container = open_container(segments[0] if segments else index.path)
        try:
            self.template: Any = pick_video(
                self._container, segments[0] if segments else index.path
            )
            self.extradata: bytes = self.template.codec_context.extradata or b""
            self._learn(segments)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the template."""
        self._container.close()

    def packets(self) -> Iterator[Any]:
        """All packets in decoding order, with valid decoding times in the source's ``time_base``."""
        rate = self.template.average_rate or DEFAULT_RATE
        step = max(1, round(1 / Fraction(rate) / self._index.time_base))
        waiting: list[int] = []
        first, latest, count = 0, None, 0
        for piece in self._pieces:
            before, begins = latest, True
            for packet in self._packets_of(piece):
                if begins and before is not None and packet.pts <= before:
                    raise self._misfit(f"{piece} begins before the piece ahead of it has ended")
                begins = False
                first = packet.pts if latest is None else first
                latest = packet.pts if latest is None else max(latest, packet.pts)
                heapq.heappush(waiting, packet.pts)
                # Presentation times in order, as late as the deepest reordering requires.
                early = self._reorder - count
                packet.dts = first - step * early if early > 0 else heapq.heappop(waiting)
                if packet.pts == self._index.last_pts:
                    packet.duration = self._index.gops[-1].end_pts - packet.pts
                elif not packet.duration:
                    packet.duration = step
                count += 1
                yield packet

    def _packets_of(self, piece: Piece) -> Iterator[Any]:
        if isinstance(piece, Encoded):
            return self._encoded(piece.path)
        return self._copied_from_source(piece)

    def _encoded(self, path: str) -> Iterator[Any]:
        with closing(open_container(path)) as container:
            stream = container.streams.video[0]
            offset = int(container.metadata.get(OFFSET_TAG, "0"))
            ratio = Fraction(stream.time_base or 1) / self._index.time_base
            for packet in packets_of(container, path, stream):
                yield self._remade(packet, self._form, round(packet.pts * ratio) + offset)

    def _copied_from_source(self, piece: Copied) -> Iterator[Any]:
        path = self._index.path
        with closing(open_container(path)) as container:
            stream = pick_video(container, path)
            seeks = not self._index.jumps
            entry = exact_entry(path, stream.index, piece.start_pts, seeks=seeks)
            entry.go(container, stream)
            inside = begins = False
            for packet in packets_of(container, path, stream):
                if packet.is_keyframe:
                    if packet.pts >= piece.end_pts:
                        break
                    begins = packet.pts == piece.start_pts
                    inside = inside or begins
                if inside:
                    self.copied_frames += 1
                    yield self._remade(packet, self._source_form, packet.pts, begins=begins)
                    begins = False
            if not inside:
                raise self._misfit(f"no keyframe is found at {piece.start_pts} in {path}")

    def _remade(self, packet: Any, form: _Form, pts: int, *, begins: bool = False) -> Any:
        try:
            payload = form.payload(packet, sets=self._repeated, begins=begins)
        except (ValueError, IndexError) as error:
            raise self._misfit(f"a packet at {pts} is damaged ({error})") from None
        made: Any = av.Packet(payload)
        made.pts, made.time_base = pts, self._index.time_base
        made.duration = packet.duration if form is self._source_form else 0
        made.is_keyframe = packet.is_keyframe
        return made

    def _misfit(self, reason: str) -> SinkError:
        return SinkError(f"{self._output}: cannot be assembled: {reason}")

    def _check(self, piece: Copied) -> None:
        """Raise SinkError unless a piece consists of whole closed GOPs."""
        gops = [g for g in self._index.gops if piece.start_pts <= g.start_pts < piece.end_pts]
        whole = gops and (gops[0].start_pts, gops[-1].end_pts) == (piece.start_pts, piece.end_pts)
        if not whole or not all(gop.is_closed for gop in gops):
            raise self._misfit(f"{piece} is not made of whole closed GOPs")

    def _learn(self, segments: Sequence[str]) -> None:
        """Decide how packets are changed, and what the header holds."""
        self._form = self._source_form = _Form(None)
        for path in segments:
            found = index_video(path)
            self._reorder = max(self._reorder, found.reorder)
            with closing(open_container(path)) as container:
                if (container.streams.video[0].codec_context.extradata or b"") != self.extradata:
                    raise self._misfit(
                        f"{segments[0]} and {path} were encoded with different settings; encode all"
                        " segments again"
                    )
            self._form = _Form(nal_format(self.template, found.codec, path))
        if self._copied:
            with closing(open_container(self._index.path)) as container:
                stream = pick_video(container, self._index.path)
                nals = nal_format(stream, self._index.codec, self._index.path)
            self._source_form = _Form(nals)
        self._reconcile()
        sets = dict.fromkeys((*self._source_form.sets, *self._form.sets))
        if sets:
            self.extradata = annex_b(sets)
        # All of them: a player may seek between two keyframes, and needs the sets from the header then.
        self._repeated = tuple(sets) if self._repeat_sets else ()

    def _reconcile(self) -> None:
        """Give the encoder's parameter sets ids of their own where they would clash."""
        theirs, nals = self._source_form.sets, self._form.nals
        if nals is None or not theirs:
            return
        known = {(nals.kind(unit), nals.number(unit)): unit for unit in theirs}
        if all(known.get((nals.kind(unit), nals.number(unit)), unit) == unit for unit in nals.sets):
            return
        try:
            self._form = _Form(nals, Renumbering.away_from(theirs, nals))
        except (ValueError, IndexError) as error:
            raise self._misfit(f"{error}; encode without copied frames") from None
