"""Rain rendered onto clean images and clips (ours): drops, mist and lamps, and simpler models of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from vderain.errors import OptionError
from vderain.training.rain.mining import MinedLayer, draw_mined
from vderain.training.rain.overlays import draw_curtain, draw_overlay
from vderain.training.rain.scattering import (
    Colours,
    Mist,
    draw_mist,
    drop_light,
    is_dark,
    lamp_light,
    partial,
    uneven,
)
from vderain.training.rain.streaks import Drops, Image, Layer, Storm, visible_gain

__all__ = [
    "RAIN_KINDS",
    "RAIN_MODELS",
    "Image",
    "Layer",
    "add_rain",
    "draw_storm",
    "recompress",
    "render_clip",
    "render_kind",
]

RAIN_MODELS = ("full", "simple")
# What a model mixes: kinds of `render_kind`, and how often each is drawn.
_FULL = {
    "drops": 0.5,
    "additive": 0.15,
    "screen": 0.15,
    "fog": 0.08,
    "mist": 0.04,
    "curtain": 0.5,
    "mined": 0.15,
}
_SIMPLE = {"additive": 0.5, "screen": 0.5}
# More often on single images: in a clip the neighbours give a curtain away, alone it is learnt slowly.
_CURTAINS_ALONE = 2.0
# Rain as faint as a bright day shows it: a few code values, which `visible_gain` brings out for all kinds.
_FAINT_SHARE = 0.3
# Rain in some places only, since a bright ground hides it elsewhere. A network that never meets it decides
# for the whole image at once, and leaves the rain of a mostly dry scene.
_PARTIAL_SHARE = 0.4
RAIN_KINDS = tuple(_FULL)

FPS = 25.0  # of rendered clips, where nothing else is said
_WHITE = np.float32(255)


def add_rain(
    rng: np.random.Generator,
    frames: Sequence[Image],
    *,
    model: str = "full",
    mined: Sequence[MinedLayer] = (),
) -> list[Image]:
    """Render one kind of rain onto a clean image, or onto consecutive frames.

    Args:
        rng: the same state renders the same rain.
        frames: (H, W, 3) uint8 RGB each, any size, all of one.
        model: "simple" for the additive and the screen model of the literature, "full" for a mixture of
            drops by their physics, the simple models, streaks with depth fog, mist, and ``mined``.
        mined: layers of real streaks from `mine_streaks`.

    Returns:
        As many rainy frames, (H, W, 3) uint8 RGB.

    Raises:
        OptionError: the model is not one of ``RAIN_MODELS``, or the frames differ in size.

    """
    if model not in RAIN_MODELS:
        raise OptionError(f"rain model {model!r}: choose one of {', '.join(RAIN_MODELS)}")
    shares = dict(_FULL if model == "full" else _SIMPLE)
    if len(frames) == 1 and "curtain" in shares:
        shares["curtain"] *= _CURTAINS_ALONE
    if not mined:
        shares.pop("mined", None)
    bounds = np.cumsum(list(shares.values()))
    drawn = int(np.searchsorted(bounds, rng.random() * bounds[-1]))
    rainy = render_kind(rng, frames, list(shares)[drawn], mined=mined)
    if rng.random() < _FAINT_SHARE:
        rainy = _weighted(rainy, frames, np.float32(rng.uniform(0.15, 0.7)))
    if rng.random() < _PARTIAL_SHARE:
        rainy = _weighted(rainy, frames, partial(rng, frames[0])[..., None])
    return rainy


def render_kind(
    rng: np.random.Generator,
    frames: Sequence[Image],
    kind: str,
    *,
    mined: Sequence[MinedLayer] = (),
) -> list[Image]:
    """Render one kind of rain, one of ``RAIN_KINDS``, onto an image or frames, (H, W, 3) uint8 RGB each.

    "drops" are those of `render_clip`; "additive" and "screen" the simple models; "fog" is streaks that
    fade into fog with depth; "mist" has few streaks; "curtain" is soft streaks in a bright veil; "mined"
    adds real ones, and needs ``mined``. In frames the streaks move, and the mist and the veil stay.

    Raises:
        OptionError: there is no such kind, nothing was mined, or the frames differ in size.

    """
    if not _same_size(frames):
        return []
    if kind == "drops":
        return render_clip(rng, frames)
    if kind in _SIMPLE:
        return _overlaid(rng, frames, screen=kind == "screen")
    if kind == "fog":
        return _foggy(rng, frames)
    if kind == "mist":
        return _misty(rng, frames)
    if kind == "curtain":
        return _curtained(rng, frames)
    if kind == "mined" and mined:
        return _with_mined(rng, frames, mined)
    raise OptionError(f"rain {kind!r}: choose one of {', '.join(RAIN_KINDS)}; mined needs layers")


def render_clip(
    rng: np.random.Generator, frames: Sequence[Image], *, fps: float = FPS
) -> list[Image]:
    """Render one storm of drops onto the frames of a clip, or onto a single image.

    Drops move from frame to frame by their own speed and leave the image; mist, lamps and the light
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
    if not _same_size(frames):
        return []
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
    gain: np.float32 | None = None
    rainy = []
    for frame, opacity in _falling(drops, frames, fps):
        gain = visible_gain(opacity) if gain is None else gain
        seen = np.minimum(opacity * gain, np.float32(1))
        if gusts is not None:
            seen *= gusts
        rainy.append(_composed(frame, seen, light, mist, linear=linear))
    return rainy


def _falling(drops: Drops, frames: Sequence[Image], fps: float) -> Iterator[tuple[Image, Layer]]:
    """Each frame with the opacity of the drops before it."""
    for index, frame in enumerate(frames):
        if index:
            drops.advance(1 / fps)
        yield frame, drops.opacity()


def _same_size(frames: Sequence[Image]) -> bool:
    """Whether there are frames; OptionError where they differ in size."""
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        raise OptionError(f"frames of several sizes {sorted(sizes)}: a clip has one")
    return bool(sizes)


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


def recompress(rng: np.random.Generator, image: Image, *, lowest_quality: int = 60) -> Image:
    """Pass an image through JPEG, since footage was encoded after it rained."""
    quality: list[Any] = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(lowest_quality, 99))]
    packed = cv2.imencode(".jpg", image[..., ::-1], quality)[1]
    bgr = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(bgr[..., ::-1])


def _composed(
    frame: Image, opacity: Layer, light: Colours, mist: Mist | None, *, linear: bool
) -> Image:
    """Mist, then streaks: mixed by opacity, in code values or in light (a gamma of 2 for the display's)."""
    image = frame.astype(np.float32)
    if mist is not None:
        image = mist.over(image)
    if linear:
        mixed = image * image
        mixed += (light * light - mixed) * opacity[..., None]
        return _rounded(np.sqrt(mixed))
    return _rounded(image + (light - image) * opacity[..., None])


def _overlaid(rng: np.random.Generator, frames: Sequence[Image], *, screen: bool) -> list[Image]:
    """The additive or the screen model."""
    layers = draw_overlay(rng, *frames[0].shape[:2], count=len(frames))
    return _lit(frames, layers, _tint(rng), screen=screen)


def _curtained(rng: np.random.Generator, frames: Sequence[Image]) -> list[Image]:
    """Soft streaks in a veil, mostly screened, else added."""
    layers = draw_curtain(rng, *frames[0].shape[:2], count=len(frames))
    tint = _tint(rng)
    if rng.random() < 0.3:
        tint[2] *= np.float32(rng.uniform(1.0, 1.3))  # as daylight colours it
    return _lit(frames, layers, tint, screen=rng.random() < 0.75)


def _lit(
    frames: Sequence[Image], layers: Sequence[Layer], tint: Layer, *, screen: bool
) -> list[Image]:
    """Light added to each frame, or screened onto it."""
    rainy = []
    for frame, layer in zip(frames, layers, strict=True):
        image = frame.astype(np.float32)
        light = layer[..., None] * tint
        if screen:
            light -= image * light / _WHITE
        rainy.append(_rounded(image + light))
    return rainy


def _foggy(rng: np.random.Generator, frames: Sequence[Image]) -> list[Image]:
    """Streaks that fade into fog with depth, as sets rendered from depth maps show."""
    mist = draw_mist(rng, frames[0], float(rng.uniform(0.3, 1.5)))
    layers = draw_overlay(rng, *frames[0].shape[:2], count=len(frames))
    tint = _tint(rng)
    rainy = []
    for frame, layer in zip(frames, layers, strict=True):
        image = mist.over(frame.astype(np.float32))
        opacity = layer[..., None] * mist.transmission * np.float32(0.7)
        rainy.append(_rounded(np.asarray(image + (tint - image) * opacity, np.float32)))
    return rainy


def _misty(rng: np.random.Generator, frames: Sequence[Image]) -> list[Image]:
    """Mist alone, with few streaks."""
    storm = replace(draw_storm(rng), rain_mm_per_h=1.0, farthest_m=2.0)
    mist = draw_mist(rng, frames[0], float(rng.uniform(0.15, 1.0)))
    drops = Drops(rng, storm, *frames[0].shape[:2])
    light = drop_light(rng, frames[0])
    return [
        _composed(frame, opacity, light, mist, linear=True)
        for frame, opacity in _falling(drops, frames, FPS)
    ]


def _with_mined(
    rng: np.random.Generator, frames: Sequence[Image], mined: Sequence[MinedLayer]
) -> list[Image]:
    """Streaks of real footage, added."""
    mist = None
    if rng.random() < 0.3:
        mist = draw_mist(rng, frames[0], float(rng.uniform(0.05, 0.4)))
    rainy = []
    for frame in frames:
        image = frame.astype(np.float32)
        if mist is not None:
            image = mist.over(image)
        layer = draw_mined(rng, mined, *frame.shape[:2])
        light = _WHITE * (layer if layer.ndim == 3 else layer[..., None])
        rainy.append(_rounded(np.asarray(image + light, np.float32)))
    return rainy


def _weighted(
    rainy: Sequence[Image], frames: Sequence[Image], weight: np.float32 | Layer
) -> list[Image]:
    """Less of the rain: of its change to each frame, ``weight``, which (H, W, 1) is another in each place."""
    return [
        _rounded(frame + (wet.astype(np.float32) - frame) * weight)
        for wet, frame in zip(rainy, frames, strict=True)
    ]


def _tint(rng: np.random.Generator) -> Layer:
    """Nearly grey light (3,) in 8-bit code values."""
    brightness = rng.uniform(150.0, 255.0)
    return np.minimum(brightness * rng.uniform(0.95, 1.05, 3), 255).astype(np.float32)


def _rounded(image: Colours) -> Image:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
