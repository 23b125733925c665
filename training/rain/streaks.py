"""Streaks of falling drops: their geometry as a camera sees it, and how they are drawn (ours).

After the physics in K. Garg and S. K. Nayar, "Vision and rain" (IJCV 2007): a drop that falls through
an exposure covers each point of its path for a short time only, so its streak is transparent, and the
longer the exposure, the fainter. Sizes follow Marshall and Palmer (1948), speeds Atlas et al. (1973).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]  # (H, W, 3), RGB
Layer = npt.NDArray[np.float32]  # (H, W)
Array = npt.NDArray[np.float64]

_SUBPIXEL_BITS = 4
_FINE_PX = 1.6  # width from which a streak needs a blur
_COARSE_PX = 5.0  # width from which it has a shape
_SAMPLES_PER_PIXEL = 1.3  # what is farther away belongs to the mist
_MOST_COARSE = 60  # streaks; an image of more is covered
_FAINTEST, _STRONGEST = 0.03, 0.25  # root mean square of opacity: nothing seen, no scene left
_MOST_GAIN = 4.0
_SMALLEST_MM, _LARGEST_MM = 0.8, 4.0
_NEAREST_M = 0.35
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Storm:
    """What a camera and the weather make of drops.

    Args:
        focal_px: focal length of the whole frame, of which the image may be a part.
        exposure_s: how long a drop draws its streak.
        rain_mm_per_h: rain rate; it sets how many drops there are and how large.
        farthest_m: drops beyond it are too faint to be seen one by one.
        glare: how much brighter than diffuse white the light in a drop is.
        slant_deg: direction of fall, 0 straight down, positive to the right.
        spread_deg: deviation of single drops from it.
        approach_m_per_s: speed of the camera along its axis: streaks point away from ``heading``.
        heading: point the camera moves to, (x, y) as shares of the image's width and height.
        focus_m: distance at which the image is sharp.
        aperture_px_m: width in pixels of the blur of a drop at 1 m where the focus lies far away.
        beads: 0 for even streaks, up to 1 for those of drops that wobble.

    """

    focal_px: float
    exposure_s: float
    rain_mm_per_h: float
    farthest_m: float = 12.0
    glare: float = 10.0
    slant_deg: float = 0.0
    spread_deg: float = 2.0
    approach_m_per_s: float = 0.0
    heading: tuple[float, float] = (0.5, 0.5)
    focus_m: float = 10.0
    aperture_px_m: float = 1.0
    beads: float = 0.0


@dataclass(frozen=True, slots=True)
class Streaks:
    """Straight streaks, N of them: ``starts`` and ``vectors`` (N, 2) as (x, y) in pixels, the others (N,).

    ``opacity`` in [0, 1] is that of a streak as wide as ``widths_px``; thinner than a pixel, it covers
    less. ``widths_px`` holds the blur.
    """

    starts: Array
    vectors: Array
    widths_px: Array
    opacity: Array


class Drops:
    """The drops of one storm around an image; they move on with `advance`.

    The count follows the volume the camera sees, so it grows with the square of the distance, until the
    streaks would fill the image. A drop that leaves comes back elsewhere as another one, so that the
    rain never thins out.
    """

    def __init__(self, rng: np.random.Generator, storm: Storm, height: int, width: int) -> None:
        self._storm, self._shape = storm, (height, width)
        distances_m, margins_px = _distances(rng, storm, height, width)
        count = len(distances_m)
        decay_per_mm = 4.1 * storm.rain_mm_per_h**-0.21
        sizes_mm = _SMALLEST_MM + rng.exponential(1 / decay_per_mm, count)
        sizes_mm = np.minimum(sizes_mm, _LARGEST_MM)
        speeds_m_per_s = 9.65 - 10.3 * np.exp(-0.6 * sizes_mm)
        self._scale = storm.focal_px / distances_m
        angles = np.deg2rad(storm.slant_deg + rng.normal(0.0, storm.spread_deg, count))
        direction = np.stack([np.sin(angles), np.cos(angles)], 1)
        self._velocity_px_per_s = direction * (speeds_m_per_s * self._scale)[:, None]
        self._expansion_per_s = storm.approach_m_per_s / distances_m
        self._low = -margins_px[:, None]
        self._span = np.array([width, height]) + 2 * margins_px[:, None]
        self._places = self._low + rng.random((count, 2)) * self._span
        sharp_px = 1e-3 * sizes_mm * self._scale
        blur_px = storm.aperture_px_m * np.abs(1 / distances_m - 1 / storm.focus_m)
        self._widths_px = np.hypot(sharp_px, blur_px)
        covered = 1e-3 * sizes_mm / (speeds_m_per_s * storm.exposure_s)  # share of the exposure
        lit = storm.glare * covered * rng.uniform(0.5, 1.5, count)
        self._opacity = np.minimum(lit, 0.95) * sharp_px / self._widths_px

    def streaks(self) -> Streaks:
        """What the drops draw during an exposure that starts now."""
        vectors = self._motion_px_per_s() * self._storm.exposure_s
        return Streaks(self._places, vectors, self._widths_px, self._opacity)

    def opacity(self) -> Layer:
        """The image's opacity now, (H, W) float32 in [0, 1]."""
        return paint(self._shape, self.streaks(), beads=self._storm.beads)

    def advance(self, elapsed_s: float) -> None:
        """Let the drops move on."""
        moved = self._places + self._motion_px_per_s() * elapsed_s - self._low
        rounds = np.floor(moved / self._span)
        # Another drop follows, in another column: else streaks would recur one above the other.
        moved += rounds[:, ::-1] * _GOLDEN * self._span
        self._places = self._low + moved % self._span

    def _motion_px_per_s(self) -> Array:
        if not self._storm.approach_m_per_s:
            return self._velocity_px_per_s
        height, width = self._shape
        centre = np.array(self._storm.heading) * (width, height)
        return self._velocity_px_per_s + self._expansion_per_s[:, None] * (self._places - centre)


def _distances(
    rng: np.random.Generator, storm: Storm, height: int, width: int
) -> tuple[Array, Array]:
    """Distances of the drops in metres, and how far around the image each may start, both (N,)."""
    shells = max(2, round(3 * np.log2(storm.farthest_m / _NEAREST_M)))
    edges = np.geomspace(_NEAREST_M, storm.farthest_m, shells + 1)
    near, far = edges[:-1], edges[1:]
    decay_per_mm = 4.1 * storm.rain_mm_per_h**-0.21
    drops_per_m3 = 8000.0 / decay_per_mm * np.exp(-decay_per_mm * _SMALLEST_MM)
    lengths_px = 8.0 * storm.exposure_s * storm.focal_px / near
    margins_px = np.minimum(lengths_px, 3.0 * max(height, width)) + 8.0
    seen_m3 = (width + 2 * margins_px) * (height + 2 * margins_px) / storm.focal_px**2
    seen_m3 *= (far**3 - near**3) / 3
    expected = drops_per_m3 * seen_m3
    # Each streak's samples inside the image: what is left of them after its margins.
    inside = height * width / ((width + 2 * margins_px) * (height + 2 * margins_px))
    samples = expected * (lengths_px * 0.8 + 2) * np.minimum(1.0, 1.5 * inside)
    before = np.cumsum(samples) - samples
    room = _SAMPLES_PER_PIXEL * height * width - before
    counts = rng.poisson(expected * np.clip(room / samples, 0.0, 1.0))
    shell = np.repeat(np.arange(shells), counts)
    cubes = near[shell] ** 3 + rng.random(len(shell)) * (far[shell] ** 3 - near[shell] ** 3)
    return np.cbrt(cubes), margins_px[shell]


def paint(shape: tuple[int, int], streaks: Streaks, *, beads: float = 0.0) -> Layer:
    """Draw streaks of any width; opacity (H, W) float32 in [0, 1]."""
    ends = streaks.starts + streaks.vectors
    reach = streaks.widths_px[:, None]
    limit = np.array([shape[1], shape[0]])
    seen = (np.minimum(streaks.starts, ends) - reach < limit).all(1)
    seen &= (np.maximum(streaks.starts, ends) + reach > 0).all(1)
    fine = seen & (streaks.widths_px < _FINE_PX)
    coarse = np.flatnonzero(seen & (streaks.widths_px >= _COARSE_PX))
    medium = seen & ~fine & (streaks.widths_px < _COARSE_PX)
    opacity = np.zeros(shape, np.float32)
    if fine.any():
        opacity += _splat(shape, streaks, fine, beads)
    if medium.any():
        width_px = float(streaks.widths_px[medium].mean())
        layer = _splat(shape, streaks, medium, beads)
        opacity += np.asarray(cv2.GaussianBlur(layer, (0, 0), width_px / 2.5), np.float32)
    if len(coarse):
        opacity += _shapes(shape, streaks, coarse[:_MOST_COARSE])
    return np.minimum(opacity, np.float32(1))


def _splat(
    shape: tuple[int, int], streaks: Streaks, chosen: npt.NDArray[np.bool_], beads: float
) -> Layer:
    """Sum of streaks thin against a pixel, as samples about a pixel apart, shared out bilinearly."""
    height, width = shape
    starts, vectors = streaks.starts[chosen], streaks.vectors[chosen]
    lengths = np.hypot(vectors[:, 0], vectors[:, 1])
    widths = streaks.widths_px[chosen]
    lengths = lengths + widths  # a drop at rest is as long as it is wide
    counts = np.ceil(lengths).astype(np.int64)
    owner = np.repeat(np.arange(len(counts)), counts)
    weights = streaks.opacity[chosen] * widths * lengths / counts
    along = np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner] + 0.5
    step = vectors / counts[:, None]
    x = starts[owner, 0] + step[owner, 0] * along + 0.5  # the canvas has a border of one pixel
    y = starts[owner, 1] + step[owner, 1] * along + 0.5
    inside = (x >= 0) & (x < width + 1) & (y >= 0) & (y < height + 1)
    x, y, value = x[inside], y[inside], weights[owner][inside]
    if beads:
        waves_per_px = 0.2 + 0.8 * (_GOLDEN * owner % 1)  # each drop at its own pace
        value = value * (1 + beads * np.sin(waves_per_px * along + owner)[inside])
    left, top = x.astype(np.int64), y.astype(np.int64)
    right_share, low_share = x - left, y - top
    index = top * (width + 2) + left
    low = value * low_share
    high = value - low
    size = (height + 2) * (width + 2)
    low_right, high_right = low * right_share, high * right_share
    sums = np.bincount(
        np.concatenate([index, index + 1, index + width + 2, index + width + 3]),
        np.concatenate([high - high_right, high_right, low - low_right, low_right]),
        minlength=size,
    )
    return sums.reshape(height + 2, width + 2)[1:-1, 1:-1].astype(np.float32)


def _shapes(shape: tuple[int, int], streaks: Streaks, chosen: npt.NDArray[np.int64]) -> Layer:
    """Streaks near the camera, wide and out of focus: drawn at half the size, then blurred."""
    height, width = shape
    small = (max(1, height // 2), max(1, width // 2))
    canvas = np.zeros(small, np.uint8)
    unit = 1 << _SUBPIXEL_BITS
    starts = ((streaks.starts[chosen] / 2 - 0.5) * unit).astype(np.int32)
    ends = starts + (streaks.vectors[chosen] / 2 * unit).astype(np.int32)
    widths = streaks.widths_px[chosen]
    levels = np.rint(255 * streaks.opacity[chosen])
    for start, end, width_px, level in zip(starts, ends, widths, levels, strict=True):
        cv2.line(
            canvas, start.tolist(), end.tolist(), float(level),
            max(1, min(64, round(0.4 * width_px))), cv2.LINE_AA, _SUBPIXEL_BITS,
        )  # fmt: skip
    blurred = cv2.GaussianBlur(canvas.astype(np.float32), (0, 0), 0.12 * float(widths.mean()))
    large = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.float32) / np.float32(255)


def visible_gain(opacity: Layer) -> np.float32:
    """Factor that brings a layer (H, W) from the extremes, where there is little to learn, to visible rain."""
    strength = float(cv2.norm(opacity)) / np.sqrt(opacity.size) + 1e-6
    return np.float32(min(np.clip(strength, _FAINTEST, _STRONGEST) / strength, _MOST_GAIN))
