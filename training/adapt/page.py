"""The page of an adaptation: previews and curves while it runs, and the verdict when it has ended."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from vderain.errors import SinkError
from vderain.files import write_whole
from vderain.pages import Cell, Row, Table, figure_cell, render
from vderain.pages.plots import along
from vderain.training.adapt.run import Adaptation, Verdict
from vderain.training.evaluation.noreference import RealScores
from vderain.training.evaluation.predict import derain_middle
from vderain.training.rain.streaks import Image

_SHOWN = 4
_GAIN = 2  # how much brighter a rain layer is shown than it is
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 90]
_ON_SCORES = (
    "The verdict follows the agreement alone: on rendered rain it ranks results as PSNR against the ground truth"
    " does. The others depend on the scene, and reward blur or harm to some degree."
)
_SCORE_LABELS = {
    "residual": "residual rain, code values (lower is better)",
    "streaks": "gradient across the rain (lower is better)",
    "structure": "structure kept (higher is better)",
    "flicker": "flicker, code values (lower is better)",
    "agreement_db": "agreement with the target, dB (higher is better)",
}
_COST_LABELS = {
    "other_db": "rendered rain of all kinds, against its ground truth, dB",
    "dry_db": "dry images, output against input, dB",
}
_ON_COSTS = (
    "Adapted weights must not forget other rain by more than 0.2 dB, nor change dry images visibly. The rain is"
    " rendered on images that training did not see. Other kinds of rain are not checked."
)


def write_page(adaptation: Adaptation, verdict: Verdict | None = None) -> Path:
    """Write or replace ``index.html`` and its images in the run's folder; without a verdict it reloads itself.

    Raises SinkError where it cannot be written.
    """
    page = adaptation.run_dir / "index.html"
    try:
        (adaptation.run_dir / "images").mkdir(parents=True, exist_ok=True)
        shots = _shots(adaptation)
        write_whole(page, _page(adaptation, verdict, shots).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise SinkError(f"{page}: the report cannot be written ({error.strerror})") from error
    return page


@dataclass(frozen=True, slots=True)
class _Shot:
    """A validation frame: its name, and images over others, as (label, file, others)."""

    name: str
    views: list[tuple[str, str, dict[str, str]]]


def _shots(adaptation: Adaptation) -> list[_Shot]:
    validation = adaptation.validation
    adapted = adaptation.shown_network.eval()
    places = np.unique(np.linspace(0, len(validation) - 1, _SHOWN).astype(int))
    shots = []
    for place in places:
        one = validation[int(place)]
        after = derain_middle(adapted, one.piece.frames)
        middle = len(one.derained) // 2
        images = {
            "rainy": one.view.frame,
            "adapted weights": after,
            "original weights": one.derained[middle],
            "removed rain": _layer(one.view.frame, after),
            "target": one.view.target(),
        }
        files = {
            name: _write(adaptation.run_dir, f"{place}-{number}", image)
            for number, (name, image) in enumerate(images.items())
        }
        rainy = files.pop("rainy")
        both = {"adapted weights": files["adapted weights"]}
        views = [("rainy", rainy, files), ("original weights", files["original weights"], both)]
        shots.append(_Shot(one.piece.name, views))
    return shots


def _layer(rainy: Image, dry: Image) -> Image:
    """The removed rain, brighter than it is; mid-grey is nothing."""
    taken = 128 + _GAIN * (rainy.astype(np.int16) - dry)
    return np.asarray(taken.clip(0, 255), np.uint8)


def _write(folder: Path, stem: str, image: Image) -> str:
    name = f"images/{stem}.jpg"
    data = cv2.imencode(".jpg", image[..., ::-1], _JPEG)[1]
    write_whole(folder / name, data.tobytes())
    return name


def _page(adaptation: Adaptation, verdict: Verdict | None, shots: list[_Shot]) -> str:
    is_adapted = verdict is None or verdict.adapted
    sentence = (
        f"Training: {len(adaptation.evaluations) - 1} evaluations so far."
        if verdict is None
        else verdict.reason[0].upper() + verdict.reason[1:] + "."
    )
    facts = {
        "footage": ", ".join(Path(one).name for one in adaptation.config.footage),
        "weights": f"{Path(adaptation.config.initial or '').name}, tier {adaptation.card.tier}",
        "time": f"{adaptation.trainer.seconds / 60:.1f} minutes of training, {adaptation.trainer.step} steps",
    }
    return render(
        "adapt.html",
        title="Weights adapted to your footage" if is_adapted else "The original weights are kept",
        generator="vderain adapt",
        is_running=verdict is None,
        verdict=sentence,
        facts=facts,
        plots=_curves(adaptation),
        tables=[] if verdict is None else _tables(verdict),
        shots=shots,
        gain=_GAIN,
    )


def _curves(adaptation: Adaptation) -> list[str]:
    evaluations = adaptation.evaluations
    if len(evaluations) < 2:
        return []
    steps = [float(evaluation.step) for evaluation in evaluations]
    lines = {
        "Validation frames: agreement with the target": [one.agreement_db for one in evaluations],
        "Dry images: output against input": [one.dry_db for one in evaluations],
        "Other rain, rendered: output against ground truth": [one.other_db for one in evaluations],
    }
    return [
        along(title, steps, {"averaged weights": line}, ("step", "PSNR, dB"))
        for title, line in lines.items()
    ]


def _tables(verdict: Verdict) -> list[tuple[Table, str]]:
    """Each with a note."""
    scores = {
        _SCORE_LABELS[item.name]: (
            getattr(verdict.original, item.name),
            getattr(verdict.changed, item.name),
        )
        for item in fields(RealScores)
    }
    first, best = verdict.evaluations[0], verdict.best
    costs = {
        label: (getattr(first, name), getattr(best, name)) for name, label in _COST_LABELS.items()
    }
    return [
        (_table("Scores without ground truth", "validation frames", scores), _ON_SCORES),
        (_table("What it costs elsewhere", "not of the footage", costs), _ON_COSTS),
    ]


def _table(title: str, head: str, figures: dict[str, tuple[float, float]]) -> Table:
    rows = [
        Row([Cell(label, style="text wrapped"), figure_cell(before, 3), figure_cell(after, 3)])
        for label, (before, after) in figures.items()
    ]
    return Table(title, [head, "original", "adapted"], rows, (head,))
