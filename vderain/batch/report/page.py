"""The page of a batch: one HTML file without scripts; every name from outside is escaped."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from vderain.batch.report.record import ClipFacts, Totals

_STYLE = """
:root { color-scheme: light dark; --back: #fbfbfa; --card: #fff; --ink: #1c2126; --faint: #5f6973;
  --line: #dfe3e7; --accent: #0b6bcb; --good: #17803d; --bad: #c0392b; --loss: #a15c00 }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --card: #1c2024; --ink: #e6e9ec;
  --faint: #98a2ac; --line: #333a41; --accent: #5aa9f5; --good: #5cc983; --bad: #f0796b; --loss: #e0a64a } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1280px; padding: 24px clamp(12px, 3vw, 40px) 64px;
  background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 24px; margin: 0; overflow-wrap: anywhere } h2 { font-size: 19px; margin: 36px 0 10px }
a { color: var(--accent) } .faint { color: var(--faint) } .bad { color: var(--bad) } .loss { color: var(--loss) }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 10px; margin: 18px 0 }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 8px 12px }
.tile b { display: block; font-size: 21px; line-height: 1.3; font-variant-numeric: tabular-nums }
.tile span { color: var(--faint); font-size: 13px }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px }
.clip { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px;
  margin: 0 0 12px; content-visibility: auto; contain-intrinsic-size: auto 330px }
.clip.short { contain-intrinsic-size: auto 90px }
.clip h3 { font-size: 15px; margin: 0; overflow-wrap: anywhere; white-space: pre-wrap }
.clip p { margin: 2px 0; overflow-wrap: anywhere }
.facts { display: flex; flex-wrap: wrap; gap: 0 16px; color: var(--faint); font-size: 14px;
  font-variant-numeric: tabular-nums }
.clip ul { margin: 4px 0; padding-left: 20px; overflow-wrap: anywhere }
.shown { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 8px 16px;
  margin-top: 8px; align-items: start } .shown > * { max-width: 740px; min-width: 0 }
.views { display: grid; grid-template-columns: 1fr 1fr; gap: 8px }
.views figure { margin: 0; min-width: 0 } .views img { width: 100%; display: block; border-radius: 5px }
.views figcaption, summary { color: var(--faint); font-size: 13px }
.rain { overflow-x: auto }
.rain img { width: 100%; min-width: 460px; display: block; border-radius: 5px }
details { margin-top: 4px } summary { cursor: pointer }
"""


def render(totals: Totals, clips: Sequence[ClipFacts], *, target: str, written: str) -> str:
    """The whole page: totals, then what failed, what lost something, and the others."""
    sections = [
        ("failed", "Failed", [c for c in clips if c.state == "failed"]),
        ("losses", "Done, with losses", [c for c in clips if c.state == "done" and c.losses]),
        ("done", "Done", [c for c in clips if c.state == "done" and not c.losses]),
        ("skipped", "Skipped", [c for c in clips if c.state == "skipped"]),
        ("waiting", "Not done yet", [c for c in clips if c.state == "planned"]),
    ]
    there = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{key}">{name}: {len(some)}</a>' for key, name, some in there)
    body = "".join(
        f'<h2 id="{key}">{name} ({len(some)})</h2>\n{"".join(map(_clip, some))}'
        for key, name, some in there
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="generator" content="vderain batch">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Rain removal: {escape(shown(target))}</title><style>{_STYLE}</style></head>\n<body>"
        f'<h1>Rain removal: {escape(shown(target))}</h1><p class="faint">{escape(written)}</p>'
        f"{_tiles(totals)}<nav>{links}</nav>\n{body}</body></html>\n"
    )


def shown(name: str) -> str:
    """A name of a file on one line: what cannot be seen, or is no text, is spelled out."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return "".join(
        character if character == " " or unicodedata.category(character)[0] not in "CZ"
        else character.encode("unicode_escape").decode()
        for character in text
    )  # fmt: skip


def _tiles(totals: Totals) -> str:
    tiles: list[tuple[str, str, str]] = [(f"{totals.done} of {totals.clips}", "clips done", "")]
    if totals.failed:
        tiles.append((str(totals.failed), "failed", "bad"))
    if totals.with_losses:
        tiles.append((str(totals.with_losses), "with losses", "loss"))
    tiles += [(_time(totals.duration_s), "of video", ""), (f"{totals.frames:,}", "frames", "")]
    if totals.frames_copied:
        tiles.append((f"{totals.frames_copied:,}", "of them dry, copied", ""))
    tiles.append((_time(totals.work_s), "of work", ""))
    if totals.run_s is not None:
        tiles.append((_time(totals.run_s), "the last run took", ""))
    if totals.frames_per_s is not None:
        tiles.append((f"{totals.frames_per_s:.1f}", "frames derained per second of work", ""))
    if totals.times_real_time is not None:
        tiles.append((f"{totals.times_real_time:.2f}x", "of real time", ""))
    tiles.append((f"{_size(totals.source_bytes)} → {_size(totals.output_bytes)}", "of files", ""))
    drawn = "".join(
        f'<div class="tile"><b class="{style}">{text}</b><span>{label}</span></div>'
        for text, label, style in tiles
    )
    return f'<div class="tiles">{drawn}</div>'


def _clip(clip: ClipFacts) -> str:
    title = escape(shown(clip.output))
    if clip.link:
        title = f'<a href="{escape(quote(os.fsencode(clip.link)))}">{title}</a>'
    parts = [f"<h3>{title}</h3>"]
    if clip.reason:
        tries = f" (after {clip.attempts} attempts)" if clip.attempts > 1 else ""
        style = "bad" if clip.state == "failed" else "faint"
        parts.append(f'<p class="{style}">{escape(shown(clip.reason))}{tries}</p>')
    parts.append(_list(clip.losses, "loss"))
    facts = "".join(f"<span>{escape(fact)}</span>" for fact in _words(clip))
    parts.append(f'<div class="facts">{facts}</div>' if facts else "")
    parts.append(f'<div class="shown">{_views(clip)}</div>' if clip.before or clip.timeline else "")
    parts.append(_details(clip))
    short = "" if clip.before or clip.timeline else " short"
    return f'<article class="clip{short}">{"".join(parts)}</article>\n'


def _views(clip: ClipFacts) -> str:
    """Pictures and timeline."""
    views = ""
    if clip.before:
        figures = (("before", clip.before), ("after", clip.after))
        drawn = "".join(
            f'<figure><img loading="lazy" src="{escape(file)}" alt="{label}"><figcaption>{label}</figcaption>'
            "</figure>" for label, file in figures
        )  # fmt: skip
        views += f'<div class="views">{drawn}</div>'
    if clip.timeline:
        image = f'<img loading="lazy" src="{escape(clip.timeline)}" alt="rain over time">'
        views += f'<div class="rain" tabindex="0">{image}</div>'
    return views


def _words(clip: ClipFacts) -> list[str]:
    words = []
    if clip.duration_s is not None:
        words.append(_time(clip.duration_s))
    if clip.frames is not None:
        copied = f", {clip.frames_copied:,} of them copied" if clip.frames_copied else ""
        words.append(f"{clip.frames:,} frames{copied}")
    if clip.rain is not None:
        words.append(f"rain in {clip.rain.wet_share:.0%}")
    if clip.seconds is not None and clip.state == "done":
        speed = f", {clip.frames_per_s:.1f} frames/s" if clip.frames_per_s else ""
        words.append(f"{_time(clip.seconds)} of work{speed}")
    words += [shown(engine) for engine in clip.engines]
    after = f" → {_size(clip.output_bytes)}" if clip.output_bytes is not None else ""
    words.append(f"{_size(clip.source_bytes)}{after}")
    return words


def _details(clip: ClipFacts) -> str:
    texts = [f"source: {clip.source}", *clip.notes]
    texts += [f"nothing was copied: {clip.not_copied}"] if clip.not_copied else []
    texts += [f"copied track {track}" for track in clip.tracks_copied]
    return f"<details><summary>more</summary>{_list(texts, 'faint')}</details>"


def _list(texts: Iterable[str], style: str) -> str:
    items = "".join(f"<li>{escape(shown(text))}</li>" for text in texts)
    return f'<ul class="{style}">{items}</ul>' if items else ""


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return str(timedelta(seconds=round(seconds)))


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit in ("B", "kB") else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} TB"
