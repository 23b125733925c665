"""Rain rendered onto clean pictures: streaks at several depths, and the mist behind them (ours)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]  # (H, W, 3), RGB
Layer = npt.NDArray[np.float32]  # (H, W)

_SUPERSAMPLE = 2  # streaks thinner than a pixel come out thin instead of jagged
_SUBPIXEL_BITS = 4


def streak_layer(rng: np.random.Generator, height: int, width: int) -> Layer:
    """Opacity of falling streaks, (H, W) float32 in [0, 1]: one to four depths that share the wind."""
    angle_deg = rng.normal(0.0, 15.0) if rng.random() < 0.4 else rng.uniform(-60.0, 60.0)
    storm = 10 ** rng.uniform(-2.3, -0.6)  # share of the picture that a depth's streaks cover
    opacity = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(1, 5))):
        nearness = rng.uniform(0.0, 1.0)
        length_px = 10 ** rng.uniform(0.7, 1.3 + 0.9 * nearness)
        width_px = 0.6 + 3.5 * nearness**2 * rng.random()
        drops = rng.poisson(storm * height * width / (length_px * width_px))
        layer = _scattered_streaks(rng, (height, width), drops, angle_deg, length_px, width_px)
        if rng.random() < 0.7:
            sigma = float(rng.uniform(0.3, 0.6 + 1.6 * nearness))
            layer = np.asarray(cv2.GaussianBlur(layer, (0, 0), sigma), np.float32)
        depth_opacity = np.float32(rng.uniform(0.2, 0.95))
        opacity = np.float32(1) - (np.float32(1) - opacity) * (
            np.float32(1) - layer * depth_opacity
        )
    return opacity


def _scattered_streaks(
    rng: np.random.Generator,
    shape: tuple[int, int],
    drops: int,
    angle_deg: float,
    length_px: float,
    width_px: float,
) -> Layer:
    height, width = shape
    starts = rng.uniform(
        (-length_px, -length_px), (width + length_px, height + length_px), (drops, 2)
    )
    angles = np.deg2rad(angle_deg + rng.normal(0.0, 2.5, drops))
    lengths = length_px * rng.uniform(0.6, 1.3, drops)
    ends = starts + np.stack([np.sin(angles), np.cos(angles)], 1) * lengths[:, None]
    groups = rng.integers(0, len(levels := rng.integers(90, 256, 4)), drops)
    return draw_streaks(shape, starts, ends, levels[groups], width_px)


def draw_streaks(
    shape: tuple[int, int],
    starts: npt.NDArray[np.float64],
    ends: npt.NDArray[np.float64],
    levels: npt.NDArray[np.int64],
    width_px: float,
) -> Layer:
    """Draw streaks between points (drops, 2) as (x, y) in pixels; ``levels`` 0 to 255 is their opacity."""
    height, width = shape
    canvas = np.zeros((height * _SUPERSAMPLE, width * _SUPERSAMPLE), np.uint8)
    lines = (np.stack([starts, ends], 1) * (_SUPERSAMPLE << _SUBPIXEL_BITS)).astype(np.int32)
    for level in np.unique(levels):  # one drawing call for each
        cv2.polylines(
            canvas,
            list(lines[levels == level]),
            isClosed=False,
            color=int(level),
            thickness=max(1, round(width_px * _SUPERSAMPLE)),
            lineType=cv2.LINE_AA,
            shift=_SUBPIXEL_BITS,
        )
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / np.float32(255.0)


def add_rain(rng: np.random.Generator, background: Picture) -> Picture:
    """Render rain onto a clean picture (H, W, 3) uint8.

    Half of the pictures mix towards the streaks' colour (opaque drops), half add light (the additive and
    screen models of the literature); a third get mist, which lifts the blacks and takes contrast.
    """
    height, width = background.shape[:2]
    opacity = streak_layer(rng, height, width)[..., None]
    picture = background.astype(np.float32)
    mean = float(picture.mean())
    if rng.random() < 0.35:
        mist = np.float32(rng.uniform(0.05, 0.35))
        air = np.float32(min(255.0, mean + rng.uniform(20.0, 110.0)))
        picture = picture * (1 - mist) + air * mist
    light = np.float32(min(255.0, rng.uniform(max(90.0, mean), 255.0)))
    tint = light * rng.uniform(0.96, 1.04, 3).astype(np.float32)
    streaks = np.asarray(tint * opacity, np.float32)
    kind = rng.random()
    if kind < 0.5:
        picture = picture * (1 - opacity) + streaks
    elif kind < 0.75:
        picture = picture + streaks
    else:
        white = np.float32(255)
        picture = np.asarray(white - (white - picture) * (white - streaks) / white, np.float32)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def recompress(rng: np.random.Generator, picture: Picture, *, lowest_quality: int = 60) -> Picture:
    """Pass a picture through JPEG, since footage was encoded after it rained."""
    quality: list[Any] = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(lowest_quality, 99))]
    packed = cv2.imencode(".jpg", picture[..., ::-1], quality)[1]
    bgr = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(bgr[..., ::-1])
