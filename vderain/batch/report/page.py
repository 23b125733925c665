"""The page of a batch: one HTML file without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vderain.pages import duration, render, shown, size

if TYPE_CHECKING:
    from vderain.batch.report.record import ClipFacts, Totals


@dataclass(frozen=True, slots=True)
class _Clip:
    """A clip as the page shows it."""

    facts: ClipFacts
    words: list[str]
    details: list[str]


def page_of(totals: Totals, clips: Sequence[ClipFacts], *, target: str, written: str) -> str:
    """The whole page: totals, then clips that failed, clips with losses, and the others."""
    sections = [
        ("failed", "Failed", [c for c in clips if c.state == "failed"]),
        ("losses", "Done, with losses", [c for c in clips if c.state == "done" and c.losses]),
        ("done", "Done", [c for c in clips if c.state == "done" and not c.losses]),
        ("skipped", "Skipped", [c for c in clips if c.state == "skipped"]),
        ("waiting", "Not done yet", [c for c in clips if c.state == "planned"]),
    ]
    return render(
        "batch.html",
        title=f"Rain removal: {shown(target)}",
        generator="vderain batch",
        written=written,
        tiles=_tiles(totals),
        sections=[
            (key, name, [_Clip(one, _words(one), _details(one)) for one in some])
            for key, name, some in sections
            if some
        ],
    )


def _tiles(totals: Totals) -> list[tuple[str, str, str]]:
    """Text, label and style of each tile."""
    tiles = [(f"{totals.done} of {totals.clips}", "clips done", "")]
    if totals.failed:
        tiles.append((str(totals.failed), "failed", "bad"))
    if totals.with_losses:
        tiles.append((str(totals.with_losses), "with losses", "loss"))
    tiles += [(duration(totals.duration_s), "of video", ""), (f"{totals.frames:,}", "frames", "")]
    if totals.frames_copied:
        tiles.append((f"{totals.frames_copied:,}", "of them dry, copied", ""))
    tiles.append((duration(totals.work_s), "of work", ""))
    if totals.run_s is not None:
        tiles.append((duration(totals.run_s), "the last run took", ""))
    if totals.frames_per_s is not None:
        tiles.append((f"{totals.frames_per_s:.1f}", "frames derained per second of work", ""))
    if totals.times_real_time is not None:
        tiles.append((f"{totals.times_real_time:.2f}x", "of real time", ""))
    tiles.append((f"{size(totals.source_bytes)} → {size(totals.output_bytes)}", "of files", ""))
    return tiles


def _words(clip: ClipFacts) -> list[str]:
    words = []
    if clip.duration_s is not None:
        words.append(duration(clip.duration_s))
    if clip.frames is not None:
        copied = f", {clip.frames_copied:,} of them copied" if clip.frames_copied else ""
        words.append(f"{clip.frames:,} frames{copied}")
    if clip.rain is not None:
        words.append(f"rain in {clip.rain.wet_share:.0%}")
    if clip.seconds is not None and clip.state == "done":
        speed = f", {clip.frames_per_s:.1f} frames/s" if clip.frames_per_s else ""
        words.append(f"{duration(clip.seconds)} of work{speed}")
    words += clip.engines
    after = f" → {size(clip.output_bytes)}" if clip.output_bytes is not None else ""
    words.append(f"{size(clip.source_bytes)}{after}")
    return words


def _details(clip: ClipFacts) -> list[str]:
    texts = [f"source: {clip.source}", *clip.notes]
    texts += [f"nothing was copied: {clip.not_copied}"] if clip.not_copied else []
    return [*texts, *(f"copied track {track}" for track in clip.tracks_copied)]
