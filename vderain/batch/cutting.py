"""Cuts a clip into segments at keyframes, so that each segment can be derained independently."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from vderain.batch.manifest import Kind, Segment
from vderain.media.io.index import Gop


def cut(
    gops: Sequence[Gop],
    time_base: Fraction,
    segment_s: float,
    dry: Sequence[bool] | None = None,
) -> list[Segment]:
    """Segments over all GOPs, in order.

    Consecutive GOPs form a segment of at most ``segment_s`` seconds; a GOP is never divided. ``dry`` marks GOPs
    to copy; those that frames of neighbouring GOPs refer to are derained, since they cannot be separated.
    """
    copied = [False] * len(gops) if dry is None else _separable(gops, dry)
    segments: list[Segment] = []
    longest = Fraction(segment_s) / time_base
    for gop, is_copied in zip(gops, copied, strict=True):
        kind: Kind = "copy" if is_copied else "derain"
        last = segments[-1] if segments else None
        joins = last is not None and last.kind == kind
        if last is not None and joins and (is_copied or gop.end_pts - last.start_pts <= longest):
            frames = last.frames + gop.frames
            segments[-1] = Segment(last.number, last.start_pts, gop.end_pts, frames, kind)
        else:
            segments.append(Segment(len(segments), gop.start_pts, gop.end_pts, gop.frames, kind))
    return segments


def _separable(gops: Sequence[Gop], dry: Sequence[bool]) -> list[bool]:
    """Dry GOPs that are closed and followed by a closed one: leading images of an open GOP are
    shown in the time of the GOP before it.
    """
    closed_after = [gop.is_closed for gop in gops[1:]] + [True]
    return [
        wanted and gop.is_closed and after
        for gop, wanted, after in zip(gops, dry, closed_after, strict=True)
    ]
