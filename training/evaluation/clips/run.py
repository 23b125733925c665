"""Score clips of real rain and dry clips: for ``vderain evaluate``, and during a training run.

A training run reads a folder's clips once, which takes seconds, and scores them often:

    clips = read_clips("static_rain", folder)
    scores = score_clips(clips, by_engine(engine), every=4)  # by clip, then by method
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vderain.errors import SourceError
from vderain.interfaces import Engine
from vderain.network.base import ChangeNetwork
from vderain.training.data.folders import find_clips
from vderain.training.evaluation.clips.dry_motion import DryClip, DryMotionClip, read_dry_clip
from vderain.training.evaluation.clips.static_rain import (
    StaticClip,
    StaticRainClip,
    read_static_clip,
)
from vderain.training.evaluation.clips.windows import Window, read_results
from vderain.training.evaluation.shots import Timing, derain_rgb
from vderain.training.evaluation.suite import OURS, ClipKind, ClipSet, Results
from vderain.training.rain.render import Image

Clip = StaticClip | DryClip
ScoredClip = StaticRainClip | DryMotionClip
Derain = Callable[[Sequence[Image], Sequence[int]], Iterable[Image]]
"""Consecutive frames (H, W, 3) uint8 RGB, and which of them are wanted -> those without their rain."""

_READERS: Mapping[ClipKind, Callable[[Path], Clip]] = {
    "static_rain": read_static_clip,
    "dry_motion": read_dry_clip,
}


@dataclass(frozen=True, slots=True)
class ClipSetScores:
    """The scores of a set's clips."""

    name: str
    kind: ClipKind
    clips: tuple[ScoredClip, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Who was scored in every clip."""
        first, *others = self.clips
        return tuple(name for name in first.scores if all(name in one.scores for one in others))


OnClip = Callable[[ClipSet, Clip, ScoredClip, Mapping[str, Mapping[int, Image]]], None]


def by_engine(engine: Engine, timing: Timing | None = None) -> Derain:
    """Derain as ``vderain run`` does with an engine."""
    timing = timing or Timing()
    return lambda frames, wanted: derain_rgb(frames, engine, timing, wanted)


def by_network(network: ChangeNetwork) -> Derain:
    """Derain with a torch network in float32, without an engine; call its ``eval`` before."""
    from vderain.training.evaluation.predict import derain_some

    return lambda frames, wanted: derain_some(network, frames, wanted)


def read_clips(kind: ClipKind, path: Path) -> list[Clip]:
    """The clips of a folder, or one clip. Raises SourceError for what cannot be scored."""
    return [_READERS[kind](clip) for clip in find_scored(path)]


def find_scored(path: Path) -> list[Path]:
    """The clips of a folder, or the one clip that ``path`` names. Raises SourceError for none."""
    if not path.exists():
        raise SourceError(f"{path}: there is no such file or folder")
    if found := [path] if path.is_file() else find_clips(path, tests=True):
        return found
    raise SourceError(f"{path}: holds no clips")


def score_clips(
    clips: Iterable[Clip],
    predictions: Derain | Mapping[str, Sequence[Image]],
    *,
    every: int = 1,
) -> dict[str, ScoredClip]:
    """The scores of each clip by its name.

    Args:
        clips: as ``read_clips`` gives them.
        predictions: takes the rain out; or results for all frames of each clip's window, by the clip's name.
        every: score every so many frames; neighbours are seen nevertheless.

    """
    scored = {}
    for clip in clips:
        frames, window = clip.scored(every), clip.window
        if isinstance(predictions, Mapping):
            results = predictions[window.name]
            found = {frame: results[frame] for frame in frames}
        else:
            found = dict(zip(frames, predictions(window.frames, frames), strict=True))
        scored[window.name] = clip.score({OURS: found}, frames)
    return scored


class PreparedClips:
    """Sets whose files are known: what can be seen to be missing is refused before anything is computed.

    Raises SourceError.
    """

    def __init__(self, sets: Sequence[ClipSet], results: Sequence[Results]) -> None:
        self._sets = [(test, find_scored(test.path)) for test in sets]
        self._results: dict[tuple[str, Path], dict[str, Path]] = {}
        for test, paths in self._sets:
            for path in paths:
                name = f"{test.name}/{path.stem}"
                found = {one.name: one.clip(name, path) for one in results}
                known = {name: place for name, place in found.items() if place is not None}
                self._results[test.name, path] = known

    @property
    def predicting(self) -> set[str]:
        """The methods that have results for a clip."""
        return {name for found in self._results.values() for name in found}

    def evaluate(
        self, derain: Derain | None, *, every: int = 1, on_clip: OnClip | None = None
    ) -> list[ClipSetScores]:
        """Score every clip, one in memory at a time; ``derain`` None scores results only.

        ``on_clip`` gets each clip with its scores and all results, by method and frame.
        """
        scored = []
        for test, paths in self._sets:
            clips = []
            for path in paths:
                clip = _READERS[test.kind](path)
                frames = clip.scored(every)
                results = _predictions(clip.window, derain, self._results[test.name, path], frames)
                clips.append(clip.score(results, frames))
                if on_clip is not None:
                    on_clip(test, clip, clips[-1], results)
            scored.append(ClipSetScores(test.name, test.kind, tuple(clips)))
        return scored


def _predictions(
    window: Window, derain: Derain | None, others: Mapping[str, Path], frames: Sequence[int]
) -> dict[str, dict[int, Image]]:
    """Everybody's results by method and frame."""
    found: dict[str, dict[int, Image]] = {}
    if derain is not None:
        found[OURS] = dict(zip(frames, derain(window.frames, frames), strict=True))
    for name, path in others.items():
        results = read_results(path, window)
        found[name] = {frame: results[frame] for frame in frames}
    return found
