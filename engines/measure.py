"""Measures frames per second of an engine and the peak arithmetic rate of a device."""

from __future__ import annotations

import functools
import itertools
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from vderain.clips import clips, still_clip
from vderain.flow.future import Future
from vderain.frames import Clip, Frame, PlaneFormat
from vderain.interfaces import Engine, aligns

if TYPE_CHECKING:
    import torch

_SIDE = {"cpu": 2048, "cuda": 8192}
_SECONDS = 1.0
_LINES = 64  # of an image that stands for a matrix


def frames_per_s(
    engine: Engine, fmt: PlaneFormat, seconds: float = 0.0, *, frames: int = 2
) -> float:
    """Frames per second of an engine with all its slots in use; opens it first.

    Measures for ``seconds``, and for at least ``frames`` frames.
    """
    engine.open(fmt)
    given = itertools.cycle(_clips(engine, fmt))
    engine.submit(next(given)).result()  # the first one also allocates
    waiting: deque[Future] = deque()
    done, since = 0, time.monotonic()
    while time.monotonic() - since < seconds or done + len(waiting) < frames:
        waiting.append(engine.submit(next(given)))
        if len(waiting) >= engine.slots:
            waiting.popleft().result()
            done += 1
    while waiting:
        waiting.popleft().result()
        done += 1
    return done / (time.monotonic() - since)


def _clips(engine: Engine, fmt: PlaneFormat) -> list[Clip]:
    """One of a still image; for an engine that aligns those of a camera that turns, as it gets them in a run."""
    rng = np.random.default_rng(0)
    planes = tuple(
        rng.integers(fmt.peak // 8, fmt.peak, shape).astype(fmt.dtype) for shape in fmt.plane_shapes
    )
    if not aligns(engine):
        return [still_clip(planes, fmt, engine.window.seen_frames)]
    # More frames than an engine holds, so that each crosses the bus again.
    frames = [
        Frame(tuple(np.roll(plane, 2 * pts, 1) for plane in planes), fmt, pts, Fraction(1, 25))
        for pts in range(2 * engine.window.frames + engine.slots)
    ]
    return [clip for _, clip in clips(frames, engine.window, lambda: True) if clip is not None]


def matrix_peak_flop_per_s(device: torch.device | None, precision: str) -> tuple[float, str]:
    """Floating point operations per second of a matrix product on ``device`` (None: the CPU), and its precision.

    The precision is the one asked for where torch multiplies matrices in it. int8 on a CPU, and any precision
    without torch, is measured in float32, so that an engine's share of the peak may exceed 100 %.
    """
    try:
        import torch
    except ImportError:
        return _numpy_peak_flop_per_s(), "float32"
    device = device or torch.device("cpu")

    dtypes = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    on_gpu = device.type == "cuda"
    if not on_gpu and precision == "float16":
        precision = "float32"
    dtype = dtypes.get(precision, torch.float32)
    side = _SIDE[device.type]
    left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    products = [lambda: torch.mm(left, right)]
    if not on_gpu:
        # Convolutions run in another library than products, faster on some processors and slower on others.
        shapes = (right, (1, side, _LINES, side // _LINES)), (left, (side, side, 1, 1))
        pixels, kernel = (
            matrix.view(shape).contiguous(memory_format=torch.channels_last)
            for matrix, shape in shapes
        )
        products.append(lambda: torch.nn.functional.conv2d(pixels, kernel))
    with torch.inference_mode():
        wait = functools.partial(torch.cuda.synchronize, device) if on_gpu else None
        best = max(_per_s(product, wait) for product in products)
    return best * 2.0 * side**3, str(dtype).removeprefix("torch.")


def _numpy_peak_flop_per_s() -> float:
    side = _SIDE["cpu"]
    left, right = (np.random.default_rng(seed).random((side, side), np.float32) for seed in (0, 1))
    return _per_s(lambda: left @ right, None) * 2.0 * side**3


def _per_s(multiply: Callable[[], object], wait: Callable[[], None] | None) -> float:
    def finished() -> float:
        if wait is not None:
            wait()
        return time.perf_counter()

    multiply()  # the first one also allocates
    done, since = 0, finished()
    while finished() - since < _SECONDS:
        multiply()
        done += 1
    return done / (finished() - since)
