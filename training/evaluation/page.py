"""The page of an evaluation: scores, plots and pictures as one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from vderain.training.evaluation.clips.page import STYLE as CLIP_STYLE
from vderain.training.evaluation.clips.page import ShownCrop, clip_sections
from vderain.training.evaluation.markup import cell, row, table
from vderain.training.evaluation.plots import curves, scatter
from vderain.training.evaluation.suite import INPUT

if TYPE_CHECKING:
    from vderain.training.evaluation.report import Evaluation
    from vderain.training.evaluation.scores import Scores, SetScores

MARK = '<meta name="generator" content="vderain evaluate">'

STYLE = """
:root { color-scheme: light dark; --back: #fbfbfa; --card: #fff; --ink: #1c2126; --faint: #68727d;
  --line: #dfe3e7; --accent: #0b6bcb; --good: #17803d; --bad: #c0392b;
  --c0: #0b6bcb; --c1: #d9622b; --c2: #17803d; --c3: #9146c2; --c4: #b8860b; --c5: #0f8b8d;
  --c6: #c2357a; --c7: #5b6770; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --card: #1c2024; --ink: #e6e9ec;
  --faint: #98a2ac; --line: #333a41; --accent: #5aa9f5; --good: #5cc983; --bad: #f0796b;
  --c0: #5aa9f5; --c1: #f0935f; --c2: #5cc983; --c3: #c08ae8; --c4: #e0b64a; --c5: #4cc3c5;
  --c6: #ef7db1; --c7: #a3aeb8; } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1440px; padding: 24px clamp(12px, 3vw, 40px) 64px;
  background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px } h2 { font-size: 19px; margin: 40px 0 10px }
h3 { font-size: 16px; margin: 26px 0 8px }
.facts { color: var(--faint); display: grid; grid-template-columns: max-content 1fr; gap: 0 14px; margin: 0 }
.facts dd { margin: 0; color: var(--ink); overflow-wrap: anywhere }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: 5px 12px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
tbody tr:last-child td { border-bottom: 0 }
th { font-weight: 600; font-size: 13px; color: var(--faint); cursor: pointer; user-select: none }
th:first-child, td:first-child, th.text, td.text { text-align: left }
td.told { white-space: normal }
th:hover { color: var(--ink) }
th[data-up="1"]::after { content: " \\25B4" } th[data-up="0"]::after { content: " \\25BE" }
tr.group td { font-weight: 600; background: color-mix(in srgb, var(--accent) 8%, transparent) }
.good { color: var(--good) } .bad { color: var(--bad) }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); gap: 14px }
.plot:has(circle) { grid-row: span 2 }
.plot { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px }
.plot b { font-size: 14px } .plot svg { width: 100%; height: auto; display: block }
svg text { fill: var(--faint); font: 12px system-ui, sans-serif } svg .grid { stroke: var(--line) }
svg .even { stroke: var(--faint); stroke-dasharray: 4 4 } svg circle { fill-opacity: .75 }
svg polyline { fill: none; stroke-width: 2; stroke-linejoin: round }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 13px; color: var(--faint) }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 5px; margin-right: 5px }
.shot { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px; margin: 0 0 14px }
.shot header { display: flex; flex-wrap: wrap; gap: 0 16px; margin: 0 2px 8px; font-size: 14px }
.shot header b { overflow-wrap: anywhere } .shot header span { color: var(--faint); font-variant-numeric: tabular-nums }
.views { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 10px }
.stack { position: relative; line-height: 0; border-radius: 5px; overflow: hidden; background: #0004 }
.stack img { width: 100%; display: block }
.stack .over { position: absolute; inset: 0; clip-path: inset(0 calc(100% - var(--at, 50%)) 0 0) }
.stack .bar { position: absolute; top: 0; bottom: 0; left: var(--at, 50%); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 3px #000; pointer-events: none }
.stack input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize }
.stack input:focus-visible ~ .bar { background: var(--accent); width: 4px }
.stack em { position: absolute; top: 6px; padding: 0 7px; border-radius: 4px; background: #000a; color: #fff;
  font: 12px/20px system-ui, sans-serif; pointer-events: none }
.stack.closed em.l { display: none } .stack em.l { left: 6px } .stack em.r { right: 6px }
.tabs { display: flex; flex-wrap: wrap; gap: 4px; margin-top: 6px; min-height: 26px }
.tabs button { border: 1px solid var(--line); background: none; color: var(--faint); border-radius: 5px;
  padding: 1px 9px; font: 13px/22px system-ui, sans-serif; cursor: pointer }
.tabs button[aria-pressed="true"] { border-color: var(--accent); color: var(--accent) }
.note { color: var(--faint); font-size: 13px } .formulas dt { font-weight: 600 } .formulas dd { margin: 0 0 8px }
"""

SCRIPT = """
for (const range of document.querySelectorAll('.stack input')) {
  const drag = () => {
    range.parentNode.style.setProperty('--at', range.value + '%');
    range.parentNode.classList.toggle('closed', range.value < 2);
  };
  range.oninput = drag;
  drag();
}
for (const button of document.querySelectorAll('.tabs button'))
  button.onclick = () => {
    const view = button.closest('.view');
    for (const other of view.querySelectorAll('button')) other.setAttribute('aria-pressed', other === button);
    view.querySelector('img.under').src = button.dataset.file;
    view.querySelector('em.r').textContent = button.textContent;
  };
for (const head of document.querySelectorAll('th'))
  head.onclick = () => {
    const body = head.closest('table').tBodies[0], place = head.cellIndex, up = head.dataset.up === '0';
    for (const other of head.parentNode.cells) delete other.dataset.up;
    head.dataset.up = up ? '1' : '0';
    const key = row => { const cell = row.cells[place]; return cell.dataset.value ?? cell.textContent; };
    const number = row => { const value = parseFloat(key(row)); return Number.isNaN(value) ? -Infinity : value; };
    const order = head.classList.contains('text')
      ? (a, b) => key(b).localeCompare(key(a)) : (a, b) => number(b) - number(a);
    const rows = [...body.rows].sort(order);
    for (const row of up ? rows.reverse() : rows) body.append(row);
  };
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture on the page: files relative to it, by what they show, and of errors by method."""

    name: str
    pictures: Mapping[str, str]
    errors: Mapping[str, str]
    scores: Mapping[str, Scores]

    @property
    def files(self) -> list[str]:
        """Every file that the page shows of it."""
        return [*self.pictures.values(), *self.errors.values()]


def render(
    evaluation: Evaluation,
    gallery: Mapping[str, Sequence[Shown]],
    formulas: Mapping[str, str],
    *,
    error_gain: int,
    crops: Mapping[str, Sequence[ShownCrop]],
) -> str:
    """The whole page; every name from outside is escaped."""
    sections = [
        _facts(evaluation.facts()),
        _rain_table(evaluation),
        _dry_table(evaluation),
        *clip_sections(evaluation.clips, crops),
        _plots(evaluation.sets),
        _pictures(gallery, {one.name: one.kind for one in evaluation.sets}, error_gain),
        _formulas(formulas),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{MARK}\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Rain removal, scored</title><style>{STYLE}{CLIP_STYLE}</style></head>\n<body>"
        + "\n".join(filter(None, sections))
        + f"<script>{SCRIPT}</script></body></html>\n"
    )


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items()
    )
    return f'<h1>Rain removal, scored</h1><dl class="facts">{rows}</dl>'


def _rain_table(evaluation: Evaluation) -> str:
    rows = []
    for label, kind, count, means in evaluation.rows:
        if kind == "clean":
            continue
        before = means[INPUT]
        for method in [name for name in means if name != INPUT] or [INPUT]:
            rows.append(row(label, method, count, _rain_cells(before, means[method])))
    heads = ["set", "method", "n", "PSNR in", "out", "gain dB", "SSIM in", "out"]
    heads += ["PSNR Y in", "out", "SSIM Y in", "out", "flicker in", "out"]
    return table("Before and after", heads, rows)


def _rain_cells(before: Scores, after: Scores) -> list[str]:
    gain = after.psnr_db - before.psnr_db
    style = "good" if gain >= 0 else "bad"
    cells = [
        cell(before.psnr_db, 2),
        cell(after.psnr_db, 2),
        f'<td class="{style}" data-value="{gain:.4f}">{gain:+.2f}</td>',
    ]
    for name, digits in (("ssim", 4), ("psnr_y_db", 2), ("ssim_y", 4), ("flicker", 2)):
        cells += [cell(getattr(side, name), digits) for side in (before, after)]
    return cells


def _dry_table(evaluation: Evaluation) -> str:
    rows = [
        row(label, method, count, [
            cell(one.psnr_db, 2), cell(one.ssim, 4), cell(one.psnr_y_db, 2),
            cell(one.mean_error, 3), cell(one.largest_error, 0), cell(one.flicker, 2),
        ])
        for label, kind, count, means in evaluation.rows
        if kind == "clean"
        for method, one in means.items()
    ]  # fmt: skip
    heads = ["set", "method", "n", "PSNR", "SSIM", "PSNR Y", "mean change", "largest", "flicker"]
    return table("Dry input: the output against the input", heads, rows)


def _plots(sets: Sequence[SetScores]) -> str:
    plots = [scatter(sets), *(curves(one) for one in sets)]
    drawn = "".join(f'<div class="plot">{plot}</div>' for plot in plots if plot)
    return f'<h2>Picture by picture</h2><div class="plots">{drawn}</div>' if drawn else ""


def _pictures(
    gallery: Mapping[str, Sequence[Shown]], kinds: Mapping[str, str], error_gain: int
) -> str:
    parts = []
    for name, shots in gallery.items():
        parts.append(f"<h3>{escape(name)}</h3>")
        parts += [_shot(shot, dry=kinds[name] == "clean", error_gain=error_gain) for shot in shots]
    if not parts:
        return ""
    note = (
        "Drag to compare. Of a larger set, half of the pictures shown are those with the least gain,"
        f" the others are spread evenly. Errors are shown {error_gain} times as bright as they are."
    )
    return f'<h2>Pictures</h2><p class="note">{note}</p>' + "".join(parts)


def _shot(shot: Shown, *, dry: bool, error_gain: int) -> str:
    figures = []
    for method, scores in shot.scores.items():
        value = f"{scores.psnr_db:.2f} dB" if scores.psnr_db < 1000 else "unchanged"
        figures.append(f"<span>{escape(method)} {value}, {scores.ssim:.4f}</span>")
    left = ("dry" if dry else "rainy", shot.pictures[INPUT])
    answers = {name: file for name, file in shot.pictures.items() if name not in (INPUT, "truth")}
    others = {f"error of {name}": file for name, file in shot.errors.items()}
    if "truth" in shot.pictures:
        others = {"truth": shot.pictures["truth"]} | others
    views = [compared(left, answers)] if answers else []
    if others:
        views.append(compared(left, others))
    return (
        f'<div class="shot"><header><b>{escape(shot.name)}</b>{"".join(figures)}</header>'
        f'<div class="views">{"".join(views)}</div></div>'
    )


def compared(left: tuple[str, str], right: Mapping[str, str]) -> str:
    """A picture over another one, with a line to drag, and a button for each that may lie below."""
    label, file = left
    shown, below = next(iter(right.items()))
    buttons = "".join(
        f'<button type="button" aria-pressed="{str(name == shown).lower()}"'
        f' data-file="{escape(path)}">{escape(name)}</button>'
        for name, path in right.items()
    )
    start = 50 if not shown.startswith(("truth", "error")) else 0
    return (
        f'<div class="view"><div class="stack" style="--at:{start}%">'
        f'<img class="under" loading="lazy" src="{escape(below)}" alt="">'
        f'<img class="over" loading="lazy" src="{escape(file)}" alt="">'
        f'<input type="range" min="0" max="100" step="0.1" value="{start}" aria-label="compare">'
        f'<div class="bar"></div><em class="l">{escape(label)}</em><em class="r">{escape(shown)}</em></div>'
        f'<div class="tabs">{buttons if len(right) > 1 else ""}</div></div>'
    )


def _formulas(formulas: Mapping[str, str]) -> str:
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in formulas.items()
    )
    return f'<h2>How it is measured</h2><dl class="formulas note">{rows}</dl>'
