"""The two simple rain models of the literature: a layer of streaks, added or screened onto an image.

Additive: Fu et al. (CVPR 2017), rainy = background + streaks. Screen: Luo et al. (ICCV 2015), rainy =
1 - (1 - background)(1 - streaks). The layers are lines, or noise blurred along the fall as paint
programs make it. A curtain is noise in an uneven glow, as rain filmed before a dark ground and screened
onto images shows it. The settings are ours.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vderain.training.rain.streaks import Layer, Streaks, paint, visible_gain


def draw_overlay(
    rng: np.random.Generator, height: int, width: int, *, count: int = 1
) -> list[Layer]:
    """A layer of streaks (H, W) float32 in [0, 1] for each of ``count`` frames: specks to curtains.

    Mostly one layer, at times two or three of other sizes in the same direction, or up to five in others.
    """
    shape = _canvas(height, width, count)
    slant_deg = rng.normal(0.0, 15.0) if rng.random() < 0.5 else rng.uniform(-60.0, 60.0)
    kind = rng.random()
    layers, spread_deg = (1, 0.0) if kind < 0.5 else (int(rng.integers(2, 4)), 1.0)
    if kind > 0.85:
        layers, spread_deg = int(rng.integers(2, 6)), 25.0
    layer = np.zeros(shape, np.float32)
    for _ in range(layers):
        draw = noise_streaks if rng.random() < 0.6 else line_streaks
        layer = np.maximum(layer, draw(rng, shape, slant_deg + rng.normal(0.0, 1.0) * spread_deg))
    layer = np.asarray(np.minimum(layer * visible_gain(layer), 1), np.float32)
    return _windows(rng, layer, height, width, count)


def draw_curtain(
    rng: np.random.Generator, height: int, width: int, *, count: int = 1
) -> list[Layer]:
    """Photographed rain (H, W) float32 in [0, 1] for each of ``count`` frames: soft streaks in a slow glow.

    The glow is the light of drops too many to be seen one by one, and stays; streaks are strong where it is
    strong. A third of them was stored as a coarse JPEG before it was added to the image.
    """
    shape = _canvas(height, width, count)
    slant_deg = rng.normal(0.0, 12.0) if rng.random() < 0.7 else rng.uniform(-45.0, 45.0)
    if rng.random() < 0.6:
        texture = soft_streaks(rng, shape, slant_deg) * np.float32(10 ** rng.uniform(-0.75, 0.1))
    else:
        texture = noise_streaks(rng, shape, slant_deg)
        texture *= np.float32(rng.uniform(0.25, 2.5)) / max(float(texture.max()), 0.05)
        texture -= texture.mean()
    rows, columns = (int(n) for n in rng.integers(2, 6, 2))
    field = rng.random((rows, columns), np.float32) ** np.float32(rng.uniform(0.5, 2.0))
    field += np.float32(rng.uniform(0.0, 1.0)) * (1 - field)  # from patchy to even
    glow = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    glow = np.clip(glow, 0, 1) * np.float32(10 ** rng.uniform(-1.5, -0.2))
    windows = _windows(rng, texture, height, width, count)
    layers = [np.asarray(np.clip(glow * (1 + window), 0, 1), np.float32) for window in windows]
    if rng.random() < 0.35:
        quality = int(rng.integers(20, 80))
        layers = [_stored(layer, quality) for layer in layers]
    return layers


def _stored(layer: Layer, quality: int) -> Layer:
    """A layer as a grey JPEG brings it back."""
    grey = np.rint(layer * np.float32(255)).astype(np.uint8)
    packed = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.float32) / np.float32(255)


def _canvas(height: int, width: int, count: int) -> tuple[int, int]:
    """What the windows of several frames are cut from: streaks cross a frame's own length many times over."""
    return (2 * height, width + width // 2) if count > 1 else (height, width)


def _windows(
    rng: np.random.Generator, canvas: Layer, height: int, width: int, count: int
) -> list[Layer]:
    """A window of the canvas for each frame, anywhere in it: no streak stays where it was."""
    spare = np.subtract(canvas.shape, (height, width)).astype(np.int64)
    corners = rng.integers(0, spare + 1, (count, 2)) if count > 1 else np.zeros((1, 2), np.int64)
    return [canvas[top : top + height, left : left + width] for top, left in corners]


def line_streaks(rng: np.random.Generator, shape: tuple[int, int], slant_deg: float) -> Layer:
    """Lines at one to three depths."""
    height, width = shape
    opacity = np.zeros(shape, np.float32)
    cover = 10 ** rng.uniform(-1.8, -0.4)  # share of the image that a depth's streaks cover
    for _ in range(int(rng.integers(1, 4))):
        nearness = rng.random()
        width_px = 10 ** rng.uniform(-0.15, 0.3 + 0.7 * nearness)
        length_px = width_px + 10 ** rng.uniform(0.8, 1.5 + 0.8 * nearness)
        area = (height + length_px) * (width + length_px)
        drops = min(rng.poisson(cover * area / (length_px * width_px)), 4000)
        angles = np.deg2rad(slant_deg + rng.normal(0.0, 2.5, drops))
        vectors = np.stack([np.sin(angles), np.cos(angles)], 1)
        vectors *= (length_px * rng.uniform(0.6, 1.3, drops))[:, None]
        middles = rng.random((drops, 2)) * (width + length_px, height + length_px) - length_px / 2
        strengths = np.minimum(rng.uniform(0.2, 1.0) * rng.uniform(0.5, 1.3, drops), 1.0)
        widths_px = np.full(drops, width_px)
        layer = paint(shape, Streaks(middles - vectors / 2, vectors, widths_px, strengths))
        opacity = opacity + layer - opacity * layer
    return opacity


def noise_streaks(rng: np.random.Generator, shape: tuple[int, int], slant_deg: float) -> Layer:
    """Noise blurred along the fall and stretched: specks, each a streak, or a dense texture of them.

    A fine grain makes streaks of a pixel or few, a coarse one the broad soft curtains of a downpour.
    """
    grain_px = 10 ** (rng.uniform(0.0, 0.5) if rng.random() < 0.7 else rng.uniform(0.4, 1.4))
    length = int(10 ** rng.uniform(0.6, 2.2) / np.sqrt(grain_px)) + 2
    side = int(np.hypot(*shape) / grain_px) + 3
    canvas_shape = (side + length, side)
    if rng.random() < 0.6:
        specks = np.zeros(canvas_shape, np.float32)
        count = int(side * (side + length) * min(0.12, 10 ** rng.uniform(-1.6, 0.0) / length))
        specks.flat[rng.integers(0, specks.size, count)] = rng.uniform(0.3, 1.0, count)
        streaks = cv2.boxFilter(specks, -1, (1, length), normalize=False)
    else:
        noise = rng.random(canvas_shape, np.float32) - np.float32(0.5)
        streaks = cv2.boxFilter(noise, -1, (1, length)) * np.float32(np.sqrt(12 * length))
        streaks = (streaks - np.float32(rng.uniform(0.2, 1.8))) * np.float32(rng.uniform(0.3, 0.8))
    tilted = _tilted(np.asarray(streaks, np.float32), shape, slant_deg, grain_px)
    if rng.random() < 0.4:
        tilted = np.asarray(cv2.GaussianBlur(tilted, (0, 0), rng.uniform(0.4, 1.0)), np.float32)
    return np.clip(tilted, 0, 1) * np.float32(rng.uniform(0.25, 1.0))


def soft_streaks(rng: np.random.Generator, shape: tuple[int, int], slant_deg: float) -> Layer:
    """Streaks out of focus (H, W) float32: noise blurred along the fall, of mean 0 and variance 1.

    One size, or two in one direction; a little longer than wide. Half of the time few are bright and many
    faint, as where drops hang at all distances.
    """
    texture = np.zeros(shape, np.float32)
    for _ in range(int(rng.integers(1, 3))):
        width_px = 10 ** rng.uniform(-0.25, 0.6)
        length_px = width_px * 10 ** rng.uniform(0.35, 1.1)
        side = int(np.hypot(*shape)) + 3
        noise = rng.standard_normal((side, side), np.float32)
        blurred = cv2.GaussianBlur(noise, (0, 0), width_px, sigmaY=length_px)
        tilted = _tilted(np.asarray(blurred, np.float32), shape, slant_deg, 1.0)
        tilted -= tilted.mean()  # an image of one pixel has no deviation to divide by
        texture += tilted / max(float(tilted.std()), 1e-6) * np.float32(rng.uniform(0.4, 1.0))
        slant_deg += rng.normal(0.0, 3.0)
    if rng.random() < 0.5:
        texture = np.exp(np.float32(rng.uniform(0.5, 1.2)) * texture)
    texture -= texture.mean()
    return np.asarray(texture / max(float(texture.std()), 1e-6), np.float32)


def _tilted(
    streaks: npt.NDArray[np.float32], shape: tuple[int, int], slant_deg: float, grain_px: float
) -> Layer:
    """Turn a canvas of vertical streaks about its centre, enlarge its grain, and cut the image out."""
    height, width = shape
    angle = np.deg2rad(slant_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / grain_px
    middle = np.array([streaks.shape[1], streaks.shape[0]]) / 2 - turn @ (width / 2, height / 2)
    to_canvas = np.hstack([turn, middle[:, None]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    tilted = cv2.warpAffine(
        streaks, to_canvas, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(tilted, np.float32)
