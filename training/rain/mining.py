"""Streak layers mined from real rainy footage: a frame less the temporal median of its neighbours (ours).

A streak is in one frame only, so the median of a few static frames is nearly dry.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from vderain.errors import SourceError
from vderain.training.rain.streaks import Image, Layer

Grey = npt.NDArray[np.uint8]  # (H, W), or (T, H, W) for T frames
MinedLayer = npt.NDArray[np.float32]  # (H, W, 3) or (H, W), light to add; 1 is white

_NEIGHBOURS = 2  # to either side
_NOISE = 5.0  # code values that sensor noise and compression reach
_SHIFT = 3.0  # code values by which the mean of a small static region may change
_REGION_PX = 15
_STILL_SHARE = 0.3  # of the image, below which nothing is mined
_SMALLEST_PX = 4
_ELONGATION = 2.0
_COHERENCE = 0.6  # 1 where all streaks are parallel, 0 where they point anywhere
_FEWEST_STREAKS = 8
_FEWEST_CORNERS = 12  # to follow the camera by
_CLOSER = 0.8  # an alignment must gain this much: warping softens noise, and may go astray
_MORE_LIGHT = 3.0  # brightness gained against lost: motion does both, rain the first


def mine_streaks(frames: Sequence[Image]) -> list[MinedLayer]:
    """Mine the streaks of consecutive frames (H, W, 3) uint8 RGB of one size.

    The camera may move: frames are aligned first. Light is kept where the scene is static, in thin
    connected pieces; a frame whose pieces do not point the same way, or that moves, gives no layer: what
    moves there is no rain.

    Returns:
        Layers (H, W) float32 in [0, 1], light to add; none for fewer than five frames.

    Raises:
        SourceError: the frames differ in size.

    """
    sizes = {frame.shape for frame in frames}
    if len(sizes) > 1:
        raise SourceError(f"frames of several sizes {sorted(sizes)}: cut them to one")
    grey = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in frames]
    window = 2 * _NEIGHBOURS + 1
    layers = []
    for index in range(len(grey) if len(grey) >= window else 0):
        first = min(max(0, index - _NEIGHBOURS), len(grey) - window)
        layer = _mine(grey[first : first + window], index - first)
        if layer is not None:
            layers.append(layer)
    return layers


def draw_mined(
    rng: np.random.Generator, mined: Sequence[MinedLayer], height: int, width: int
) -> MinedLayer:
    """Mix one to three windows of mined layers: scaled, mirrored, with other gains; (H, W) or (H, W, 3)."""
    mixed = _window(rng, mined[int(rng.integers(len(mined)))], height, width)
    for _ in range(int(rng.integers(0, 3))):
        other = _window(rng, mined[int(rng.integers(len(mined)))], height, width)
        if other.ndim != mixed.ndim:
            other, mixed = (m if m.ndim == 3 else m[..., None] for m in (other, mixed))
        mixed = np.maximum(mixed, other)
    return mixed


def _window(rng: np.random.Generator, layer: MinedLayer, height: int, width: int) -> MinedLayer:
    scale = rng.uniform(0.6, 1.5)
    rows = min(layer.shape[0], round(height / scale) + 1)
    columns = min(layer.shape[1], round(width / scale) + 1)
    top = int(rng.integers(layer.shape[0] - rows + 1))
    left = int(rng.integers(layer.shape[1] - columns + 1))
    cut = layer[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    resized = cv2.resize(np.ascontiguousarray(cut), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32) * np.float32(10 ** rng.uniform(-0.2, 0.5))


def _mine(window: Sequence[Grey], index: int) -> Layer | None:
    stack, inside = _aligned(window, index)
    ordered = np.sort(stack, 0).astype(np.float32)
    median = ordered[len(window) // 2]
    still = inside & _still(ordered[1], median)
    if still.mean() < _STILL_SHARE:
        return None
    difference = np.where(still, window[index].astype(np.float32) - median, 0)
    light, loss = (np.maximum(side * difference - _NOISE, 0) for side in (1, -1))
    if light.sum() < _MORE_LIGHT * loss.sum():
        return None
    kept = _streaks_only(light.astype(np.float32))
    return None if kept is None else kept / np.float32(255)


def _aligned(window: Sequence[Grey], index: int) -> tuple[Grey, npt.NDArray[np.bool_]]:
    """The frames (T, H, W) as the one at ``index`` sees them, and the pixels (H, W) that all of them show."""
    centre = window[index]
    inside = np.ones(centre.shape, bool)
    found = cv2.goodFeaturesToTrack(centre, 400, 0.01, 8)
    corners = None if found is None else np.asarray(found, np.float32)
    size = (centre.shape[1], centre.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    white = np.full(centre.shape, 255, np.uint8)
    aligned = list(window)
    for neighbour, frame in enumerate(window):
        motion = None if neighbour == index else camera_motion(centre, frame, corners)
        if motion is None:
            continue
        warped = np.asarray(cv2.warpPerspective(frame, motion, size, flags=flags), np.uint8)
        seen = np.asarray(cv2.warpPerspective(white, motion, size, flags=flags)) == 255
        if robust_distance(warped, centre, seen) < _CLOSER * robust_distance(frame, centre, seen):
            aligned[neighbour] = warped
            inside &= seen
    return np.stack(aligned), inside


def camera_motion(
    centre: Grey, frame: Grey, corners: npt.NDArray[np.float32] | None
) -> npt.NDArray[np.float64] | None:
    """Homography from ``centre`` to ``frame``, or None where too little can be followed."""
    if corners is None or len(corners) < _FEWEST_CORNERS:
        return None
    tracked = cv2.calcOpticalFlowPyrLK(centre, frame, corners, np.empty_like(corners))
    found, seen, error = (np.asarray(part) for part in tracked)
    # Corners of streaks have no counterpart; those of the scene match well.
    good = (seen.ravel() == 1) & (error.ravel() <= np.median(error))
    if good.sum() < _FEWEST_CORNERS:
        return None
    motion, _ = cv2.findHomography(corners[good], found[good], cv2.RANSAC, 1.0)
    return None if motion is None else np.asarray(motion, np.float64)


def robust_distance(one: Grey, other: Grey, seen: npt.NDArray[np.bool_]) -> float:
    """Mean difference in code values, in which a streak counts little."""
    return float(np.minimum(cv2.absdiff(one, other), 20)[seen].mean()) if seen.any() else np.inf


def _still(dark: Layer, median: Layer) -> npt.NDArray[np.bool_]:
    """Where two frames are not darker than the median over a region: rain brightens, what moves does both."""
    darker = np.maximum(median - dark - _NOISE, 0)
    size = (_REGION_PX, _REGION_PX)
    moved = np.asarray(cv2.blur(darker, size)) > _SHIFT
    wide = cv2.dilate(moved.astype(np.uint8), np.ones(size, np.uint8))
    return np.asarray(np.asarray(wide) == 0, bool)


def _streaks_only(light: Layer) -> Layer | None:
    """Keep the thin pieces; None where they are few or point anywhere."""
    count, labels = cv2.connectedComponents((light > 0).astype(np.uint8), connectivity=8)
    flat = np.asarray(labels).ravel()
    lit = np.flatnonzero(flat)
    owner = flat[lit]
    y, x = np.divmod(lit, light.shape[1])
    area = np.bincount(owner, minlength=count)
    safe = np.maximum(area, 1)
    mean_x, mean_y = (np.bincount(owner, at, count) / safe for at in (x, y))
    dx, dy = x - mean_x[owner], y - mean_y[owner]
    xx, yy, xy = (np.bincount(owner, m, count) / safe for m in (dx * dx, dy * dy, dx * dy))
    spread = np.hypot((xx - yy) / 2, xy)
    long, short = (xx + yy) / 2 + spread, (xx + yy) / 2 - spread
    streak = (area >= _SMALLEST_PX) & (np.sqrt(long + 0.1) > _ELONGATION * np.sqrt(short + 0.1))
    if streak.sum() < _FEWEST_STREAKS:
        return None
    turn = np.arctan2(2 * xy, xx - yy)[streak]  # twice the angle: a streak has no front
    weight = area[streak] / area[streak].sum()
    if np.hypot((weight * np.cos(turn)).sum(), (weight * np.sin(turn)).sum()) < _COHERENCE:
        return None
    streak[0] = False
    return np.where(streak[labels], light, 0).astype(np.float32)
