"""Finds the dry parts of a clip, at places where it can be cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from vderain.batch.jobs import Spans
from vderain.batch.rain.detector import dry_gops, rain_timeline
from vderain.frames import Frame
from vderain.interfaces import Engine
from vderain.media.edit.inspect import Inspected, Inspector
from vderain.media.source import VideoSource
from vderain.media.span import FrameSpan
from vderain.options import EncodeOptions, RunOptions


@dataclass(frozen=True, slots=True)
class Gated:
    """The dry parts of a clip.

    Attributes:
        dry: spans [start, end) of times without rain.
        dry_gops: for each GOP whether all of it is dry; None without a rain detector.
        timeline: rain over time as plain values, for the report.

    """

    dry: Spans = ()
    dry_gops: list[bool] | None = None
    timeline: dict[str, Any] | None = None


class Gating(Protocol):
    """Inspects a whole clip before it is cut."""

    def inspect(self, path: str) -> tuple[Inspected, Gated]:
        """Read and decode a clip once; returns its packets' index and its dry parts. Raises SourceError."""


class RainGating:
    """Gating by the rain detector, with the network's opinion on doubtful frames.

    Args:
        engine: gives that opinion; None for no opinion.
        on_frame: is called for each frame that was scored.

    """

    def __init__(
        self,
        run: RunOptions,
        encode: EncodeOptions,
        *,
        engine: Engine | None = None,
        on_frame: Callable[[], None] | None = None,
    ) -> None:
        self._run, self._encode = run, encode
        self._engine, self._on_frame = engine, on_frame

    def inspect(self, path: str) -> tuple[Inspected, Gated]:
        """As Gating says."""
        with closing(Inspector(path)) as inspector:
            # Reads all tracks, since jumps of the clock show only in all of them together.
            source = VideoSource(
                path, run=self._run, encode=self._encode, span=FrameSpan(seeks=False),
                on_packet=inspector.add,
            )  # fmt: skip
            with closing(source):
                timeline = rain_timeline(self._noticed(source), engine=self._engine)
                known = inspector.result(source.jumps)
        if not timeline.pts:
            return known, Gated()
        gops, wet = known.index.gops, timeline.wet_spans()
        return known, Gated(
            dry=_between(wet, timeline.pts[0], gops[-1].end_pts),
            dry_gops=dry_gops(timeline, gops),
            timeline=timeline.to_dict(),
        )

    def _noticed(self, source: VideoSource) -> Iterator[Frame]:
        for item in source:
            if isinstance(item, Frame):
                if self._on_frame is not None:
                    self._on_frame()
                yield item


def _between(spans: list[tuple[int, int]], start: int, end: int) -> Spans:
    """The parts of [start, end) outside of the spans, which are sorted."""
    left = []
    for from_pts, to_pts in spans:
        if from_pts > start:
            left.append((start, from_pts))
        start = max(start, to_pts)
    if start < end:
        left.append((start, end))
    return tuple(left)
