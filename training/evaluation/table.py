"""The scores of an evaluation as a table of text, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vderain.training.evaluation.clips.report import clip_lines
from vderain.training.evaluation.noreference import RealScores
from vderain.training.evaluation.report import Evaluation
from vderain.training.evaluation.suite import INPUT


def table(evaluation: Evaluation) -> str:
    """The scores as aligned text: what is to be derained, what should stay, and what ran."""
    rows = list(evaluation.rows)
    width = max([20, *(len(label) for label, *_ in rows)])
    methods = {name for _, _, _, means in rows for name in means}
    column = max([7, *map(len, methods)])
    lines = _rain_lines(rows, width, column) + _dry_lines(rows, width, column)
    lines += clip_lines(evaluation.clips)
    lines += _real_lines(evaluation.real)
    facts = evaluation.facts()
    label = max(map(len, facts))
    return "\n".join([*lines, *(f"{name:{label}}  {text}" for name, text in facts.items())])


def _rain_lines(rows: Sequence[Any], width: int, column: int) -> list[str]:
    lines = []
    for label, kind, count, means in rows:
        if kind == "clean":
            continue
        before = means[INPUT]
        for method in [name for name in means if name != INPUT] or [INPUT]:
            after = means[method]
            cells = [
                f"{before.psnr_db:8.2f}{after.psnr_db:7.2f}",
                f"{before.ssim:9.4f}{after.ssim:8.4f}",
                f"{before.psnr_y_db:8.2f}{after.psnr_y_db:7.2f}",
                f"{before.ssim_y:9.4f}{after.ssim_y:8.4f}",
            ]
            if before.flicker is not None and after.flicker is not None:
                cells.append(f"{before.flicker:7.2f}{after.flicker:6.2f}")
            lines.append(f"{label:{width}} {method:{column}} {count or '':>5}" + "".join(cells))
    if not lines:
        return []
    head = (
        f"{'before and after':{width}} {'method':{column}} {'n':>5}{'PSNR':>15}{'SSIM':>17}"
        f"{'PSNR Y':>15}{'SSIM Y':>17}{'flicker':>13}"
    )
    return [head, *lines, ""]


def _dry_lines(rows: Sequence[Any], width: int, column: int) -> list[str]:
    lines = [
        f"{label:{width}} {method:{column}} {count or '':>5}{one.psnr_db:8.2f}{one.ssim:9.4f}"
        f"{one.psnr_y_db:9.2f}{one.mean_error:13.3f}{one.largest_error:9.0f}"
        + ("" if one.flicker is None else f"{one.flicker:9.2f}")
        for label, kind, count, means in rows
        if kind == "clean"
        for method, one in means.items()
    ]
    if not lines:
        return []
    head = (
        f"{'dry: output to input':{width}} {'method':{column}} {'n':>5}{'PSNR':>8}{'SSIM':>9}"
        f"{'PSNR Y':>9}{'mean change':>13}{'largest':>9}{'flicker':>9}"
    )
    return [head, *lines, ""]


def _real_lines(real: Mapping[str, Mapping[str, RealScores]]) -> list[str]:
    if not real:
        return []
    width = max([24, *map(len, real)])
    lines = [
        f"{name:{width}} {method:10}{one.agreement_db:10.2f}{one.residual:10.3f}{one.streaks:10.3f}"
        f"{one.structure:10.3f}{one.flicker:9.2f}"
        for name, found in real.items()
        for method, one in found.items()
    ]
    head = (
        f"{'without ground truth':{width}} {'method':10}{'agreement':>10}{'residual':>10}{'streaks':>10}"
        f"{'structure':>10}{'flicker':>9}"
    )
    return [head, *lines, ""]
