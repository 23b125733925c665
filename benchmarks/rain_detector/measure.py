"""Precision and recall of the rain detector on rendered and real rain against dry footage.

    python benchmarks/rain_detector/measure.py --data DIR [--work DIR] [--opinion]

The data are those of `training/recipes/dev.toml`. Weights and threshold of the score were fitted on the clips
of every second source ("half 0"). The other half is not untouched: it chose among three sizes of the part of a
frame that is measured, and the floor below which a frame is dry was set from every rainy frame. A clip here is
half a second and is judged by its median, without the margins of the timeline. Milliseconds are of CPU, in one
thread. With ``--opinion`` the network, with the shipped weights, decides on the clips in doubt.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import click
import cv2
import numpy as np
import opinion as opinions
from footage import Sample, given_samples, make_samples

from vderain.batch.rain.detector import WET_FROM
from vderain.batch.rain.meter import RainMeter
from vderain.frames import Frame, PlaneFormat
from vderain.machine import cpu_fields, cpu_model
from vderain.media import open_source
from vderain.options import EncodeOptions, RunOptions

VISIBLE = 2.0  # code values, RMS of what rain adds; less is hardly visible
HIDING = ("fog", "mist")  # here the RMS includes lost contrast, and streaks may be few


def scored(sample: Sample) -> list[float]:
    with closing(open_source(sample.path, run=RunOptions(), encode=EncodeOptions())) as source:
        return list(RainMeter().measure(item for item in source if isinstance(item, Frame)))


def visible(sample: Sample) -> bool:
    return sample.rain is None or float(np.median(sample.rain)) >= VISIBLE


def table(rows: list[tuple[Sample, list[float]]]) -> None:
    """Shares of frames and of clips judged wet, by kind and half."""
    kinds: dict[tuple[str, int], list[list[float]]] = defaultdict(list)
    for sample, scores in rows:
        if not sample.wet or visible(sample):
            kinds[sample.kind, sample.half].append(scores)
    print("| kind | half | clips | frames judged wet | clips judged wet |\n|---|---|---|---|---|")
    for (kind, half), clips in sorted(kinds.items()):
        frames = np.mean([score >= WET_FROM for clip in clips for score in clip])
        judged = np.mean([np.median(clip) >= WET_FROM for clip in clips])
        print(f"| {kind} | {half} | {len(clips)} | {frames:.1%} | {judged:.1%} |")


def by_source(rows: list[tuple[Sample, list[float]]]) -> None:
    print("| source | half | dry clips judged wet | rainy clips judged wet |\n|---|---|---|---|")
    names = sorted({(s.half, s.source) for s, _ in rows if not s.kind.startswith(("rend", "real"))})
    for half, source in names:
        shares = []
        for wet in (False, True):
            own = [c for s, c in rows if (s.source, s.wet) == (source, wet) and visible_or_dry(s)]
            shares.append(f"{sum(np.median(c) >= WET_FROM for c in own)} of {len(own)}")
        print(f"| {source} | {half} | {shares[0]} | {shares[1]} |")


def visible_or_dry(sample: Sample) -> bool:
    return not sample.wet or (visible(sample) and sample.kind not in HIDING)


def summary(rows: list[tuple[Sample, list[float]]], half: int) -> None:
    for name, frames_of in (("frames", list), ("clips", lambda clip: [float(np.median(clip))])):
        wet, dry = (
            np.array([
                score >= WET_FROM for sample, clip in rows for score in frames_of(clip)
                if sample.half == half and sample.wet is want and visible_or_dry(sample)
            ]) for want in (True, False)
        )  # fmt: skip
        precision = wet.sum() / max(1, wet.sum() + dry.sum())
        print(f"half {half}, {name}: recall {wet.mean():.3f}, precision {precision:.3f},"
              f" dry left alone {1 - dry.mean():.3f}")  # fmt: skip


def speed() -> None:
    """CPU time of a 1280x720 frame of noise over a gradient."""
    rng = np.random.default_rng(0)
    fmt = PlaneFormat("gray", 1280, 720)
    planes = [
        np.clip(np.linspace(30, 200, 1280) + rng.normal(0, 4, (720, 1280)), 0, 255).astype(np.uint8)
        for _ in range(4)
    ]
    frames = [Frame((planes[n % 4],), fmt, n, Fraction(1, 25)) for n in range(200)]
    times_ms = []
    since = time.process_time()
    for _ in RainMeter().measure(frames):
        times_ms.append(1e3 * (time.process_time() - since))
        since = time.process_time()
    print(
        f"1280x720: {np.median(times_ms):.2f} ms per frame (median), {np.mean(times_ms):.2f} mean"
    )


@click.command()
@click.option("--data", envvar="VDERAIN_DATA", required=True, type=click.Path(path_type=Path))
@click.option(
    "--work", default="build/rain_detector", type=click.Path(path_type=Path), show_default=True
)
@click.option("--opinion", is_flag=True, help="Only what the network's second opinion is worth.")
def main(data: Path, work: Path, opinion: bool) -> None:
    """Make the clips where they are missing, score them, print the tables."""
    cv2.setNumThreads(1)
    print(f"{cpu_model(cpu_fields())}, {os.cpu_count()} cores")
    if not opinion:
        speed()
    samples = [*make_samples(data, work), *given_samples(data)]
    rows = [(sample, scored(sample)) for sample in samples]
    if opinion:
        counted = [(sample, scores) for sample, scores in rows if visible_or_dry(sample)]
        opinions.show(counted, opinions.doubts(counted))
        return
    for half in (0, 1):
        summary(rows, half)
    table(rows)
    by_source(rows)


if __name__ == "__main__":
    main()
