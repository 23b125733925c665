"""Rain rendered onto clean pictures and clips (ours): drops, mist and lamps, and simpler models of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from vderain.errors import OptionError
from vderain.training.light import (
    Colours,
    Mist,
    draw_mist,
    drop_light,
    is_dark,
    lamp_light,
    uneven,
)
from vderain.training.mining import MinedLayer, draw_mined
from vderain.training.overlays import draw_overlay
from vderain.training.streaks import Drops, Layer, Picture, Storm, draw_streaks, visible_gain

__all__ = [
    "RAIN_KINDS",
    "RAIN_MODELS",
    "Layer",
    "Picture",
    "add_rain",
    "draw_storm",
    "draw_streaks",
    "recompress",
    "render_clip",
    "render_kind",
]

RAIN_MODELS = ("full", "simple")
# What a model mixes: kinds of `render_kind`, and how often each is drawn.
_FULL = {"drops": 0.5, "additive": 0.15, "screen": 0.15, "fog": 0.08, "mist": 0.04, "mined": 0.15}
_SIMPLE = {"additive": 0.5, "screen": 0.5}
RAIN_KINDS = tuple(_FULL)

_WHITE = np.float32(255)


def add_rain(
    rng: np.random.Generator,
    background: Picture,
    *,
    model: str = "full",
    mined: Sequence[MinedLayer] = (),
) -> Picture:
    """Render rain onto a clean picture.

    Args:
        rng: the same state renders the same rain.
        background: (H, W, 3) uint8 RGB, any size.
        model: "simple" for the additive and the screen model of the literature, "full" for a mixture of
            drops by their physics, the simple models, streaks with depth fog, mist, and ``mined``.
        mined: layers of real streaks from `mine_streaks`.

    Returns:
        The rainy picture, (H, W, 3) uint8 RGB.

    Raises:
        OptionError: the model is not one of ``RAIN_MODELS``.

    """
    if model not in RAIN_MODELS:
        raise OptionError(f"rain model {model!r}: choose one of {', '.join(RAIN_MODELS)}")
    shares = dict(_FULL if model == "full" else _SIMPLE)
    if not mined:
        shares.pop("mined", None)
    bounds = np.cumsum(list(shares.values()))
    drawn = int(np.searchsorted(bounds, rng.random() * bounds[-1]))
    return render_kind(rng, background, list(shares)[drawn], mined=mined)


def render_kind(
    rng: np.random.Generator,
    background: Picture,
    kind: str,
    *,
    mined: Sequence[MinedLayer] = (),
) -> Picture:
    """Render one kind of rain, one of ``RAIN_KINDS``, onto a picture (H, W, 3) uint8 RGB.

    "drops" are those of `render_clip`; "additive" and "screen" the simple models; "fog" is streaks that
    fade into fog with depth; "mist" has few streaks; "mined" adds real ones, and needs ``mined``.

    Raises:
        OptionError: there is no such kind, or nothing was mined.

    """
    if kind == "drops":
        return render_clip(rng, [background])[0]
    if kind in _SIMPLE:
        return _overlaid(rng, background, screen=kind == "screen")
    if kind == "fog":
        return _foggy(rng, background)
    if kind == "mist":
        return _misty(rng, background)
    if kind == "mined" and mined:
        return _with_mined(rng, background, mined)
    raise OptionError(f"rain {kind!r}: choose one of {', '.join(RAIN_KINDS)}; mined needs layers")


def render_clip(
    rng: np.random.Generator, frames: Sequence[Picture], *, fps: float = 25.0
) -> list[Picture]:
    """Render one storm onto the frames of a clip, or onto a single picture.

    Drops move from frame to frame by their own speed and leave the picture; mist, lamps and the light
    in the drops stay, and the background keeps its own motion.

    Args:
        rng: the same state renders the same storm.
        frames: (H, W, 3) uint8 RGB each, all of one size.
        fps: frames per second.

    Returns:
        As many rainy frames, (H, W, 3) uint8 RGB.

    Raises:
        OptionError: the frames differ in size, or ``fps`` is not positive.

    """
    if fps <= 0:
        raise OptionError(f"fps {fps}: must be positive")
    if not frames:
        return []
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        raise OptionError(f"frames of several sizes {sorted(sizes)}: a clip has one")
    first = frames[0]
    night = is_dark(first) and rng.random() < 0.7
    storm = draw_storm(rng, night=night)
    drops = Drops(rng, storm, *first.shape[:2])
    light = lamp_light(rng, first) if night else drop_light(rng, first)
    mist = None
    if rng.random() < 0.45:
        heaviness = np.log10(storm.rain_mm_per_h) / 2.4  # what falls unseen far away is the mist
        mist = draw_mist(rng, first, 10 ** rng.uniform(-1.6, -0.6 + 0.5 * heaviness))
    gusts = uneven(rng, np.ones(first.shape[:2], np.float32)) if rng.random() < 0.3 else None
    linear = rng.random() < 0.6
    opacity = drops.opacity()
    gain = visible_gain(opacity)
    rainy = []
    for index, frame in enumerate(frames):
        if index:
            drops.advance(1 / fps)
            opacity = drops.opacity()
        seen = np.minimum(opacity * gain, np.float32(1))
        if gusts is not None:
            seen *= gusts
        rainy.append(_composed(frame, seen, light, mist, linear=linear))
    return rainy


def draw_storm(rng: np.random.Generator, *, night: bool = False) -> Storm:
    """Draw the settings of a storm: dense or sparse, thin or thick, faint or bright, and anything between."""
    lines = 10 ** rng.uniform(np.log10(240), np.log10(1080))  # height of the whole frame
    exposure_s = 10 ** rng.uniform(-2.6, -1.4)
    storm = Storm(
        focal_px=lines * 10 ** rng.uniform(-0.2, 0.5),
        exposure_s=exposure_s,
        rain_mm_per_h=10 ** rng.uniform(0.9, 2.4),
        farthest_m=10 ** rng.uniform(0.7, 1.6),
        glare=10 ** rng.uniform(0.7, 1.7) * (exposure_s / 0.01) ** 0.6,
        slant_deg=rng.normal(0.0, 14.0) if rng.random() < 0.6 else rng.uniform(-60.0, 60.0),
        spread_deg=rng.uniform(0.5, 4.0),
        focus_m=10 ** rng.uniform(0.3, 1.5),
        aperture_px_m=10 ** rng.uniform(-1.0, 0.7),
        beads=rng.uniform(0.0, 0.6) if rng.random() < 0.25 else 0.0,
    )
    if rng.random() < 0.15:
        heading = (rng.uniform(-1.0, 2.0), rng.uniform(-1.0, 1.0))
        storm = replace(storm, approach_m_per_s=rng.uniform(3.0, 15.0), heading=heading)
    return replace(storm, glare=storm.glare * 1.5) if night else storm


def recompress(rng: np.random.Generator, picture: Picture, *, lowest_quality: int = 60) -> Picture:
    """Pass a picture through JPEG, since footage was encoded after it rained."""
    quality: list[Any] = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(lowest_quality, 99))]
    packed = cv2.imencode(".jpg", picture[..., ::-1], quality)[1]
    bgr = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(bgr[..., ::-1])


def _composed(
    frame: Picture, opacity: Layer, light: Colours, mist: Mist | None, *, linear: bool
) -> Picture:
    """Mist, then streaks: mixed by opacity, in levels or in light (a gamma of 2 for the display's)."""
    picture = frame.astype(np.float32)
    if mist is not None:
        picture = mist.over(picture)
    if linear:
        mixed = picture * picture
        mixed += (light * light - mixed) * opacity[..., None]
        return _rounded(np.sqrt(mixed))
    return _rounded(picture + (light - picture) * opacity[..., None])


def _overlaid(rng: np.random.Generator, background: Picture, *, screen: bool) -> Picture:
    """The additive or the screen model."""
    layer = draw_overlay(rng, *background.shape[:2])
    streaks = layer[..., None] * _tint(rng)
    picture = background.astype(np.float32)
    if screen:
        streaks -= picture * streaks / _WHITE
    return _rounded(picture + streaks)


def _foggy(rng: np.random.Generator, background: Picture) -> Picture:
    """Streaks that fade into fog with depth, as sets rendered from depth maps show."""
    mist = draw_mist(rng, background, float(rng.uniform(0.3, 1.5)))
    layer = draw_overlay(rng, *background.shape[:2])[..., None] * mist.transmission
    picture = mist.over(background.astype(np.float32))
    layer = layer * np.float32(0.7)
    return _rounded(np.asarray(picture + (_tint(rng) - picture) * layer, np.float32))


def _misty(rng: np.random.Generator, background: Picture) -> Picture:
    """Mist alone, with few streaks."""
    storm = replace(draw_storm(rng), rain_mm_per_h=1.0, farthest_m=2.0)
    mist = draw_mist(rng, background, float(rng.uniform(0.15, 1.0)))
    opacity = Drops(rng, storm, *background.shape[:2]).opacity()
    return _composed(background, opacity, drop_light(rng, background), mist, linear=True)


def _with_mined(
    rng: np.random.Generator, background: Picture, mined: Sequence[MinedLayer]
) -> Picture:
    """Streaks of real footage, added."""
    picture = background.astype(np.float32)
    if rng.random() < 0.3:
        picture = draw_mist(rng, background, float(rng.uniform(0.05, 0.4))).over(picture)
    layer = draw_mined(rng, mined, *background.shape[:2])
    light = _WHITE * (layer if layer.ndim == 3 else layer[..., None])
    return _rounded(np.asarray(picture + light, np.float32))


def _tint(rng: np.random.Generator) -> Layer:
    """Nearly grey light (3,) in 8-bit levels."""
    level = rng.uniform(150.0, 255.0)
    return np.minimum(level * rng.uniform(0.95, 1.05, 3), 255).astype(np.float32)


def _rounded(picture: Colours) -> Picture:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
