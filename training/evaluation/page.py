"""The page of an evaluation: scores, plots and images as one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vderain.pages import Cell, Row, Table, figure_cell, render
from vderain.training.evaluation.clips.page import ShownCrop, clip_plots, clip_tables
from vderain.training.evaluation.clips.page import score_row as row
from vderain.training.evaluation.plots import curves, scatter
from vderain.training.evaluation.suite import INPUT

if TYPE_CHECKING:
    from vderain.training.evaluation.report import Evaluation
    from vderain.training.evaluation.scores import Scores

GENERATOR = "vderain evaluate"
MARK = f'<meta name="generator" content="{GENERATOR}">'  # by which an earlier report is known
_WORDS = ("set", "method")  # columns of text


@dataclass(frozen=True, slots=True)
class Shown:
    """One image on the page: files relative to it, by what they show, and of errors by method."""

    name: str
    images: Mapping[str, str]
    errors: Mapping[str, str]
    scores: Mapping[str, Scores]

    @property
    def files(self) -> list[str]:
        """Every file that the page shows of it."""
        return [*self.images.values(), *self.errors.values()]


@dataclass(frozen=True, slots=True)
class _Shot:
    """An image as the template draws it: ``file`` over each of ``views``."""

    name: str
    scores: list[str]
    label: str
    file: str
    views: list[Mapping[str, str]]


def page_of(
    evaluation: Evaluation,
    gallery: Mapping[str, Sequence[Shown]],
    formulas: Mapping[str, str],
    *,
    error_gain: int,
    crops: Mapping[str, Sequence[ShownCrop]],
) -> str:
    """The whole page."""
    kinds = {one.name: one.kind for one in evaluation.sets}
    tables = [_rain_table(evaluation), _dry_table(evaluation), *clip_tables(evaluation.clips)]
    return render(
        "evaluation.html",
        title="Rain removal, scored",
        generator=GENERATOR,
        facts=evaluation.facts(),
        tables=tables,
        clip_plots=clip_plots(evaluation.clips),
        crops={name: shots for name, shots in crops.items() if shots},
        plots=list(filter(None, [scatter(evaluation.sets), *map(curves, evaluation.sets)])),
        gallery={
            name: [_shot(shot, dry=kinds[name] == "clean") for shot in shots]
            for name, shots in gallery.items()
        },
        error_gain=error_gain,
        formulas=formulas,
    )


def _rain_table(evaluation: Evaluation) -> Table:
    rows = []
    for label, kind, count, means in evaluation.rows:
        if kind == "clean":
            continue
        before = means[INPUT]
        for method in [name for name in means if name != INPUT] or [INPUT]:
            rows.append(row(label, method, count, _rain_cells(before, means[method])))
    heads = ["set", "method", "n", "PSNR in", "out", "gain dB", "SSIM in", "out"]
    heads += ["PSNR Y in", "out", "SSIM Y in", "out", "flicker in", "out"]
    return Table("Before and after", heads, rows, _WORDS)


def _rain_cells(before: Scores, after: Scores) -> list[Cell]:
    gain = after.psnr_db - before.psnr_db
    cells = [
        figure_cell(before.psnr_db, 2),
        figure_cell(after.psnr_db, 2),
        Cell(f"{gain:+.2f}", gain, "good" if gain >= 0 else "bad"),
    ]
    for name, digits in (("ssim", 4), ("psnr_y_db", 2), ("ssim_y", 4), ("flicker", 2)):
        cells += [figure_cell(getattr(side, name), digits) for side in (before, after)]
    return cells


def _dry_table(evaluation: Evaluation) -> Table:
    digits = {
        "psnr_db": 2, "ssim": 4, "psnr_y_db": 2, "mean_error": 3, "largest_error": 0, "flicker": 2,
    }  # fmt: skip
    rows: list[Row] = [
        row(
            label, method, count, [figure_cell(getattr(one, name), n) for name, n in digits.items()]
        )
        for label, kind, count, means in evaluation.rows
        if kind == "clean"
        for method, one in means.items()
    ]
    heads = ["set", "method", "n", "PSNR", "SSIM", "PSNR Y", "mean change", "largest", "flicker"]
    return Table("Dry input: the output against the input", heads, rows, _WORDS)


def _shot(shot: Shown, *, dry: bool) -> _Shot:
    scores = []
    for method, one in shot.scores.items():
        value = f"{one.psnr_db:.2f} dB" if one.psnr_db < 1000 else "unchanged"
        scores.append(f"{method} {value}, {one.ssim:.4f}")
    results = {name: file for name, file in shot.images.items() if name not in (INPUT, "truth")}
    others = {f"error of {name}": file for name, file in shot.errors.items()}
    if "truth" in shot.images:
        others = {"truth": shot.images["truth"]} | others
    label = "dry" if dry else "rainy"
    views: list[Mapping[str, str]] = [view for view in (results, others) if view]
    return _Shot(shot.name, scores, label, shot.images[INPUT], views)
