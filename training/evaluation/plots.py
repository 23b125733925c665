"""Plots of an evaluation: PSNR after against before, and PSNR along a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vderain.metrics import CEILING_DB
from vderain.pages.plots import along, colour, scatter_plot, titled
from vderain.training.evaluation.suite import INPUT

if TYPE_CHECKING:
    from vderain.training.evaluation.scores import SetScores


def scatter(sets: Sequence[SetScores]) -> str:
    """PSNR after against before, a point for each image, a colour for each group of sets; "" without pairs."""
    points: dict[str, list[tuple[float, float, str]]] = {}
    for one in sets:
        method = next((name for name in one.methods if name != INPUT), None)
        if one.kind == "clean" or method is None:
            continue
        points.setdefault(one.group or one.name, []).extend(
            _point(
                f"{one.name}: {item.name}", item.scores[INPUT].psnr_db, item.scores[method].psnr_db
            )
            for item in one.items
        )
    if not points:
        return ""
    plot = scatter_plot(points, ("PSNR before, dB", "PSNR after, dB"))
    colours = {name: colour(number) for number, name in enumerate(points)}
    return titled("PSNR of every image; those above the dashed line won", plot, colours)


def curves(one: SetScores) -> str:
    """PSNR along a clip, a line for each method; "" for other sets."""
    if one.kind != "video" or len(one.items) < 2:
        return ""
    lines = {name: [_db(item.scores[name].psnr_db) for item in one.items] for name in one.methods}
    places = [int(item.name.rpartition(" ")[2]) for item in one.items]
    colours = {
        name: "var(--c7)" if name == INPUT else colour(number - 1)
        for number, name in enumerate(lines)
    }
    return along(one.name, places, lines, ("frame", "PSNR, dB"), colours)


def _point(name: str, before_db: float, after_db: float) -> tuple[float, float, str]:
    x, y = _db(before_db), _db(after_db)
    return x, y, f"{name}, {x:.2f} to {y:.2f} dB"


def _db(value: float) -> float:
    return min(value, CEILING_DB)
