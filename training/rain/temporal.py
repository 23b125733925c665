"""What neighbouring frames show behind rain: a nearly dry image, and where that can be trusted (ours).

A streak is in one frame only, so the median over a few frames that show the same is nearly dry. In a downpour
most frames show rain at any place; the frames as weights derain them then take part in it too, and a rank
below the median, since rain brightens. A static camera needs no alignment; else each frame is
aligned by dense optical flow (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vderain.errors import SourceError
from vderain.training.rain.mining import camera_motion, robust_distance
from vderain.training.rain.streaks import Image, Layer

Mask = npt.NDArray[np.bool_]  # (H, W)
Stack = npt.NDArray[np.uint8]  # (T, H, W, 3), each as the centre frame sees it
Grey = npt.NDArray[np.uint8]  # (H, W)

_LEAST_NOISE = 1.0  # code values
_MOST_NOISE = 25.0  # beyond which nothing is known
_AGREES = 3.0  # standard deviations of the noise within which two frames agree
_RANK = 0.4  # among frames and derained frames; the median is 0.5
_QUIET_SHARE = 0.2  # of the image, where little but noise differs
_CLOSER = 0.97  # what a camera's motion must leave of the distance: rain is most of that
_EDGE = 0.25  # of the gradient that an alignment may miss by
_AGREE_SHARE = 0.85  # pixels of a region that must agree
_REGION_PX = 15
_PERSISTS = 0.7  # share of what changed that changed in a neighbour too: things, not rain
_CHANGED = 0.1  # share of a region that must have changed before this is checked
_FLOW_SCALE = 0.5
_GUIDE_PX = 5


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """How to see the frames of a window as its centre frame does.

    Attributes:
        centre: index of the centre frame.
        maps: where each pixel is in each frame, (H, W, 2) float32; None for what needs no motion.
        inside: the pixels that every frame shows.
        motion_px: median motion between the centre and its neighbours; 0 for a static camera.

    """

    centre: int
    maps: tuple[npt.NDArray[np.float32] | None, ...]
    inside: Mask
    motion_px: float

    def stack(self, frames: Sequence[Image]) -> Stack:
        """The frames of the window, or results of them, each as the centre sees it."""
        return np.stack([
            frame if place is None else
            np.asarray(cv2.remap(frame, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)  # type: ignore[call-overload]  # None is allowed
            for frame, place in zip(frames, self.maps, strict=True)
        ])  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A rainy frame and its target from neighbouring frames.

    Attributes:
        frame: (H, W, 3) uint8 RGB.
        median: over the aligned frames, nearly dry, (H, W, 3) uint8; of a lower rank where derained frames take part.
        plain: the median over the frames alone, as often above the frame as below it where it is dry.
        valid: where the median can be trusted.
        noise: standard deviation of what differs from frame to frame without rain, in code values.
        alignment: of the window.

    """

    frame: Image
    median: Image
    plain: Image
    valid: Mask
    noise: float
    alignment: Alignment

    def target(self) -> Image:
        """The frame with the median in place of what differs by more than noise: its grain stays."""
        difference = self.frame.astype(np.float32) - self.median
        size = cv2.blur(np.abs(difference.mean(2)), (3, 3))  # rain is nearly grey
        share = np.clip((size - 1.2 * self.noise) / (1.3 * self.noise), 0, 1)[..., None]
        return np.asarray(np.rint(self.frame - share * difference).clip(0, 255), np.uint8)

    def light(self) -> Layer:
        """What rain adds to the frame beyond noise where that is known, (H, W, 3) float32, 1 is white."""
        light = self.frame.astype(np.float32) - self.target()
        known = np.where(self.valid[..., None], np.maximum(light, 0), 0)
        return np.asarray(known / 255, np.float32)


def view(frames: Sequence[Image], derained: Sequence[Image] | None = None) -> View:
    """The middle one of an odd number of consecutive frames (H, W, 3) uint8 RGB, seen through the others.

    ``derained`` are the same frames with less rain. Raises SourceError where frames differ in size.
    """
    if len({frame.shape for frame in frames}) > 1:
        sizes = sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames})
        raise SourceError(f"frames of several sizes ({', '.join(sizes)}): cut them to one")
    centre = len(frames) // 2
    alignment = align(derained or frames, centre)
    stack = alignment.stack(frames)
    median = plain = _ranked(stack, 0.5)
    if derained is None:
        valid, noise = _trusted(stack, median, centre)
    else:
        drier = alignment.stack(derained)
        median = _ranked(np.concatenate((stack, drier)), _RANK)
        valid, noise = _trusted(drier, _ranked(drier, 0.5), centre)
    return View(frames[centre], median, plain, valid & alignment.inside, noise, alignment)


def align(guides: Sequence[Image], centre: int) -> Alignment:
    """Follow the scene from the centre frame to each other one, at half the resolution."""
    greys = [_guide(guide) for guide in guides]
    if _stands_still(greys, centre):
        inside = np.ones(guides[centre].shape[:2], bool)
        return Alignment(centre, (None,) * len(guides), inside, 0.0)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = guides[centre].shape[:2]
    flows = {
        index: np.asarray(flow.calc(greys[centre], grey, None), np.float32) / _FLOW_SCALE  # type: ignore[call-overload]  # None is allowed
        for index, grey in enumerate(greys)
        if index != centre
    }
    near = [flows[index] for index in (centre - 1, centre + 1) if index in flows]
    motion_px = float(np.median([np.hypot(one[..., 0], one[..., 1]) for one in near]))
    columns, rows = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    maps: list[npt.NDArray[np.float32] | None] = []
    inside = np.ones((height, width), bool)
    for index in range(len(guides)):
        if index == centre:
            maps.append(None)
            continue
        full = np.asarray(
            cv2.resize(flows[index], (width, height), interpolation=cv2.INTER_LINEAR), np.float32
        )
        place = np.stack((columns + full[..., 0], rows + full[..., 1]), -1)
        inside &= (place[..., 0] >= 0) & (place[..., 0] <= width - 1)
        inside &= (place[..., 1] >= 0) & (place[..., 1] <= height - 1)
        maps.append(place)
    return Alignment(centre, tuple(maps), inside, motion_px)


def _stands_still(greys: Sequence[Grey], centre: int) -> bool:
    """Whether no motion of the camera brings another frame nearer to the centre; flow would follow the rain."""
    own = greys[centre]
    found = cv2.goodFeaturesToTrack(own, 400, 0.01, 8)
    corners = None if found is None else np.asarray(found, np.float32)
    size = (own.shape[1], own.shape[0])
    near = (greys[centre - 1], greys[centre + 1]) if 0 < centre < len(greys) - 1 else ()
    for frame in (greys[0], greys[-1], *near):
        motion = camera_motion(own, frame, corners)
        if motion is None:
            continue
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = np.asarray(cv2.warpPerspective(frame, motion, size, flags=flags), np.uint8)
        white = np.full(own.shape, 255, np.uint8)
        seen = np.asarray(cv2.warpPerspective(white, motion, size, flags=flags)) == 255
        if robust_distance(warped, own, seen) < _CLOSER * robust_distance(frame, own, seen):
            return False
    return True


def _ranked(stack: Stack, share: float) -> Image:
    """Of each sample over the frames, the one that ``share`` of them lie below, (H, W, 3) uint8."""
    place = round((len(stack) - 1) * share)
    return np.asarray(np.partition(stack, place, axis=0)[place], np.uint8)


def _trusted(stack: Stack, median: Image, centre: int) -> tuple[Mask, float]:
    """Where the median of aligned frames shows the scene, and the noise in code values.

    It does where all but the rain agrees: most frames of a region are near the median, and what the centre
    frame differs by is absent in the frames next to it.
    """
    greys = [np.asarray(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY), np.int16) for one in stack]
    middle = np.asarray(cv2.cvtColor(median, cv2.COLOR_RGB2GRAY), np.int16)
    away = np.abs(np.stack(greys) - middle)
    noise = _noise(np.maximum(middle - np.stack(greys), 0))
    edge_x, edge_y = (
        cv2.Sobel(middle.astype(np.float32), cv2.CV_32F, *d, scale=1 / 8) for d in ((1, 0), (0, 1))
    )
    tolerance = _AGREES * noise + _EDGE * np.hypot(edge_x, edge_y)
    apart = away > tolerance
    agreeing = len(stack) - apart.sum(0)
    agrees = _region_share(agreeing >= len(stack) // 2 + 1) >= _AGREE_SHARE
    changed = apart[centre]
    adjacent = [apart[index] for index in (centre - 1, centre + 1) if 0 <= index < len(stack)]
    persists = changed & np.any(adjacent, axis=0)
    many = _region_share(changed)
    moved = (many > _CHANGED) & (_region_share(persists) > _PERSISTS * many)
    wide = cv2.dilate(moved.astype(np.uint8), np.ones((_REGION_PX, _REGION_PX), np.uint8))
    return agrees & (np.asarray(wide) == 0) & (noise <= _MOST_NOISE), noise


def _noise(below: npt.NDArray[np.int16]) -> float:
    """Of frames (T, H, W) below their median, where the scene is quiet: rain is mostly above."""
    spread = np.sqrt(2 * np.mean(np.square(below, dtype=np.float32), 0))
    quiet = cv2.blur(spread, (_REGION_PX, _REGION_PX))
    return max(_LEAST_NOISE, float(np.quantile(quiet, _QUIET_SHARE)))


def _region_share(mask: Mask) -> npt.NDArray[np.float32]:
    return np.asarray(cv2.blur(mask.astype(np.float32), (_REGION_PX, _REGION_PX)), np.float32)


def _guide(image: Image) -> Grey:
    """Half as large and smoothed: streaks are thin, and have no counterpart in another frame."""
    grey = cv2.medianBlur(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8), _GUIDE_PX)
    half = cv2.resize(grey, None, fx=_FLOW_SCALE, fy=_FLOW_SCALE, interpolation=cv2.INTER_AREA)
    return np.asarray(half, np.uint8)
