"""The page of an adaptation: previews and curves while it runs, and the verdict when it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from html import escape
from pathlib import Path

import cv2
import numpy as np

from vderain.errors import SinkError
from vderain.files import write_whole
from vderain.training.adapt.run import Adaptation, Verdict
from vderain.training.evaluation.noreference import RealScores
from vderain.training.evaluation.page import SCRIPT, STYLE, compared
from vderain.training.evaluation.plots import along
from vderain.training.evaluation.predict import derain_middle
from vderain.training.rain.streaks import Picture

_SHOWN = 4
_GAIN = 2  # how much brighter a rain layer is shown than it is
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 90]
_NOTE = (
    "None of these was learnt from. Drag to compare. Frames around: what the median over neighbouring frames"
    " tells; where things move it tells nothing, and nothing is judged there. Of the rain taken out, mid-grey is"
    f" nothing, and the rest is {_GAIN} times as bright as it is."
)
_ON_SCORES = (
    "The verdict follows the agreement alone: on rendered rain it ranks results as PSNR against the ground truth"
    " does. The others depend on the scene, and reward blur or harm to some degree."
)
_TOLD = {
    "residual": "residual rain, levels (lower is better)",
    "streaks": "gradient across the rain (lower is better)",
    "structure": "structure kept (higher is better)",
    "flicker": "flicker, levels (lower is better)",
    "agreement_db": "agreement with the frames around, dB (higher is better)",
}
_TOLD_COSTS = {
    "other_db": "rendered rain of all kinds, against its ground truth, dB",
    "dry_db": "dry pictures, output against input, dB",
}
_ON_COSTS = (
    "Adapted weights must not forget other rain by more than 0.2 dB, nor change dry pictures visibly. The rain is"
    " rendered on pictures that nothing was learnt from; rain of yet other kinds nobody asked."
)


def write_page(adaptation: Adaptation, verdict: Verdict | None = None) -> Path:
    """Write or replace ``index.html`` and its pictures in the run's folder; without a verdict it reloads itself.

    Raises SinkError where it cannot be written.
    """
    page = adaptation.run_dir / "index.html"
    try:
        (adaptation.run_dir / "pictures").mkdir(parents=True, exist_ok=True)
        shots = _shots(adaptation)
        write_whole(page, _page(adaptation, verdict, shots).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise SinkError(f"{page}: the report cannot be written ({error.strerror})") from error
    return page


def _shots(adaptation: Adaptation) -> str:
    held_back = adaptation.held_back
    adapted = adaptation.shown_network.eval()
    places = np.unique(np.linspace(0, len(held_back) - 1, _SHOWN).astype(int))
    parts = []
    for place in places:
        one = held_back[int(place)]
        after = derain_middle(adapted, one.piece.frames)
        middle = len(one.derained) // 2
        pictures = {
            "rainy": one.view.frame,
            "adapted weights": after,
            "original weights": one.derained[middle],
            "rain taken out": _layer(one.view.frame, after),
            "frames around": one.view.target(),
        }
        files = {
            name: _write(adaptation.run_dir, f"{place}-{number}", picture)
            for number, (name, picture) in enumerate(pictures.items())
        }
        rainy = ("rainy", files.pop("rainy"))
        before = ("original weights", files["original weights"])
        views = compared(rainy, files) + compared(
            before, {"adapted weights": files["adapted weights"]}
        )
        parts.append(
            f'<div class="shot"><header><b>{escape(one.piece.name)}</b></header><div class="views">{views}</div></div>'
        )
    return "".join(parts)


def _layer(rainy: Picture, dry: Picture) -> Picture:
    """What was taken out, brighter than it is; mid-grey is nothing."""
    taken = 128 + _GAIN * (rainy.astype(np.int16) - dry)
    return np.asarray(taken.clip(0, 255), np.uint8)


def _write(folder: Path, stem: str, picture: Picture) -> str:
    name = f"pictures/{stem}.jpg"
    data = cv2.imencode(".jpg", picture[..., ::-1], _JPEG)[1]
    write_whole(folder / name, data.tobytes())
    return name


def _page(adaptation: Adaptation, verdict: Verdict | None, shots: str) -> str:
    refresh = "" if verdict else '<meta http-equiv="refresh" content="20">'
    title = (
        "Weights adapted to your footage"
        if verdict is None or verdict.adapted
        else "The original weights are kept"
    )
    told = (
        f"Training: {len(adaptation.looks) - 1} looks so far."
        if verdict is None
        else verdict.reason[0].upper() + verdict.reason[1:] + "."
    )
    facts = {
        "footage": ", ".join(Path(one).name for one in adaptation.config.footage),
        "weights": f"{Path(adaptation.config.initial or '').name}, tier {adaptation.card.tier}",
        "time": f"{adaptation.trainer.seconds / 60:.1f} minutes of training, {adaptation.trainer.step} steps",
    }
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items()
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{refresh}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
        f'<p>{escape(told)}</p><dl class="facts">{rows}</dl>{_curves(adaptation)}'
        + ("" if verdict is None else _table(verdict))
        + f'<h2>Held-back frames</h2><p class="note">{_NOTE}</p>{shots}'
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _curves(adaptation: Adaptation) -> str:
    looks = adaptation.looks
    if len(looks) < 2:
        return ""
    steps = [float(look.step) for look in looks]
    lines = {
        "Held-back frames: agreement with the frames around": [one.agreement_db for one in looks],
        "Dry pictures: output against input": [one.dry_db for one in looks],
        "Other rain, rendered: output against ground truth": [one.other_db for one in looks],
    }
    plots = [
        along(title, steps, {"averaged weights": line}, ("step", "PSNR, dB"))
        for title, line in lines.items()
    ]
    drawn = "".join(f'<div class="plot">{plot}</div>' for plot in plots)
    return f'<h2>Curves</h2><div class="plots">{drawn}</div>'


def _table(verdict: Verdict) -> str:
    scores = [
        (
            _TOLD[item.name],
            getattr(verdict.original, item.name),
            getattr(verdict.changed, item.name),
        )
        for item in fields(RealScores)
    ]
    first, best = verdict.looks[0], verdict.best
    costs = [
        (told, getattr(first, name), getattr(best, name)) for name, told in _TOLD_COSTS.items()
    ]
    return (
        f'<h2>Scores without ground truth</h2><p class="note">{_ON_SCORES}</p>{_rows("held-back frames", scores)}'
        f'<h2>What it costs elsewhere</h2><p class="note">{_ON_COSTS}</p>{_rows("not of the footage", costs)}'
    )


def _rows(head: str, rows: Sequence[tuple[str, float, float]]) -> str:
    drawn = "".join(
        f'<tr><td class="text told">{escape(told)}</td><td>{before:.3f}</td><td>{after:.3f}</td></tr>'
        for told, before, after in rows
    )
    heads = f'<th class="text">{head}</th><th>original</th><th>adapted</th>'
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{drawn}</tbody></table></div>'
