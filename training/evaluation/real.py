"""Scoring derained footage that has no ground truth: ``noreference`` over pieces of a clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vderain.errors import SourceError
from vderain.training.data.footage import read_footage, read_lessons
from vderain.training.evaluation.noreference import RealScores, score_result
from vderain.training.evaluation.suite import INPUT, OURS
from vderain.training.rain.streaks import Image

_PIECES = 10


def score_footage(
    clip: Path, derain: Callable[[Sequence[Image]], Sequence[Image]]
) -> Mapping[str, RealScores]:
    """Mean scores of a rainy clip as it is, and as ``derain`` predicts consecutive frames, by method.

    Raises SourceError where the clip is too short or too still, or too much of it moves.
    """
    footage = read_footage([clip], _PIECES)
    pieces = footage.learnt + footage.validation
    found: dict[str, list[RealScores]] = {INPUT: [], OURS: []}
    for piece, (seen, derained) in zip(pieces, read_lessons(pieces, derain), strict=True):
        results: dict[str, Sequence[Image]] = {INPUT: piece.frames, OURS: derained}
        for method, frames in results.items():
            if (scores := score_result(seen, frames)) is not None:
                found[method].append(scores)
    if not found[OURS]:
        raise SourceError(
            f"{clip}: too much moves to separate rain from the scene; nothing can be scored"
        )
    return {method: RealScores.mean(scores) for method, scores in found.items()}
