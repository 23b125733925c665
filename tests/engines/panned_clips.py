"""Clips of a camera that turns, whose neighbours an engine aligns or the host."""

from dataclasses import replace
from fractions import Fraction

import numpy as np

from tests.engines.test_contract import agreement_db, make_clip
from vderain.clips import clips
from vderain.frames import Frame


def panned(fmt, count, step=2, seed=0):
    """Frames of a camera that turns, with noise of their own."""
    wide = make_clip(replace(fmt, width=fmt.width + 2 * step * count), seed).planes
    rng, frames = np.random.default_rng(seed), []
    for index in range(count):
        planes = []
        for plane, (height, width) in zip(wide, fmt.plane_shapes, strict=True):
            shift = step * index * 2 * width // fmt.width
            part = plane[:, shift : shift + width].astype(int) + rng.integers(0, 4, (height, width))
            planes.append(np.minimum(part, fmt.peak).astype(fmt.dtype))
        frames.append(Frame(tuple(planes), fmt, pts=index, time_base=Fraction(1, 25)))
    return frames


def unaligned(frames, window):
    """A clip of each frame, for an engine that aligns."""
    return [clip for _, clip in clips(frames, window, lambda: True)]


def answers(engine, given, **wanted):
    """Of all clips, with every slot taken."""
    waiting, found = [], []
    for clip in given:
        waiting.append(engine.submit(clip, strength=0.8, **wanted))
        if len(waiting) == engine.slots:
            found.append(waiting.pop(0).result())
    return found + [future.result() for future in waiting]


def assert_alike(found, expected, fmt):
    assert len(found) == len(expected)
    for planes, others in zip(found, expected, strict=True):
        assert agreement_db(
            [plane.astype(np.float32) for plane in planes],
            [plane.astype(np.float32) for plane in others],
            fmt,
        ) > 50  # fmt: skip
