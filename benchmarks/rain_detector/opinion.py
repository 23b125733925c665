"""What the network's second opinion is worth to the rain detector, for `measure.py --opinion`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from footage import Sample

from vderain.batch.rain.detector import DRY_CHANGE, WET_FROM, is_doubtful, mean_change
from vderain.clips import clips, upright_clip
from vderain.engines import open_engine
from vderain.frames import Frame
from vderain.interfaces import Engine
from vderain.media import open_source
from vderain.options import EncodeOptions, EngineOptions, RunOptions

LIMITS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8)  # code values


@dataclass(frozen=True)
class Doubt:
    """A clip with a frame whose score is doubtful, and how much the network changes the first such frame.

    In code values: ``alone`` as the detector runs it, ``among`` with its neighbours, as in a run.
    """

    sample: Sample
    alone: float
    among: float


def doubts(rows: Sequence[tuple[Sample, list[float]]]) -> list[Doubt]:
    """Run the shipped weights on every clip with a doubtful frame, on the CPU."""
    with closing(open_engine(EngineOptions(device="cpu"))) as engine:
        return [
            _asked(sample, next(filter(is_doubtful, scores)), scores, engine)
            for sample, scores in rows
            if any(map(is_doubtful, scores))
        ]


def _asked(sample: Sample, score: float, scores: list[float], engine: Engine) -> Doubt:
    place = scores.index(score)
    with closing(open_source(sample.path, run=RunOptions(), encode=EncodeOptions())) as source:
        frames = [item for item in source if isinstance(item, Frame)]
        frame = frames[place]
        window = engine.window
        made = [clip for _, clip in clips(frames, window)]
        among = made[place]
        assert among is not None
        return Doubt(
            sample,
            mean_change(frame, upright_clip(frame, window.seen_frames), engine),
            mean_change(frame, among, engine),
        )


def show(rows: Sequence[tuple[Sample, list[float]]], asked: Sequence[Doubt]) -> None:
    """Tables of the clips in ``rows`` with and without the opinion, and of other limits."""
    said_dry = {doubt.sample.path for doubt in asked if doubt.alone < DRY_CHANGE}
    for half in (0, 1):
        own = [(sample, np.median(scores)) for sample, scores in rows if sample.half == half]
        for name, dry in (("without", set()), ("with", said_dry)):
            kept = [
                (s.wet, score >= WET_FROM and not (is_doubtful(score) and s.path in dry))
                for s, score in own
            ]
            wet, taken = (sum(w is want and judged for w, judged in kept) for want in (True, False))
            recall = wet / sum(w for w, _ in kept)
            left_alone = 1 - taken / sum(not w for w, _ in kept)
            print(f"half {half}, clips, {name} the opinion: recall {recall:.3f},"
                  f" precision {wet / (wet + taken):.3f}, dry left alone {left_alone:.3f}")  # fmt: skip
    print("| limit, code values | run | half | dry clips called dry | rainy clips called dry |")
    print("|---|---|---|---|---|")
    for limit in LIMITS:
        for mode in ("alone", "among"):
            for half in (0, 1):
                counts = []
                for wet in (False, True):
                    changes = [
                        getattr(d, mode) for d in asked
                        if (d.sample.half, d.sample.wet) == (half, wet)
                    ]  # fmt: skip
                    counts.append(f"{sum(change < limit for change in changes)} of {len(changes)}")
                print(f"| {limit} | {mode} | {half} | {counts[0]} | {counts[1]} |")
    for mode in ("alone", "among"):
        wet, dry = (
            np.array([getattr(d, mode) for d in asked if d.sample.wet is want])
            for want in (True, False)
        )
        order = np.mean(wet[:, None] > dry)
        print(f"{mode}: least change of rain {wet.min():.2f} code values; rain changes more than dry footage in"
              f" {order:.1%} of all pairs")  # fmt: skip
