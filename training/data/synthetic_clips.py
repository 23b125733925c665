"""What a network of several frames is trained on: consecutive frames with rain, aligned (ours).

The same ``alignment`` serves training and use, so that the network meets the errors it makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from vderain.alignment import Aligner, Thumbnail, aligned_neighbours, shown, thumbnail
from vderain.clips import Window
from vderain.frames import Plane
from vderain.training.data.stacks import grey, stacked
from vderain.training.rain.render import Image

_MARGIN_PX = 40  # what moves into a patch comes from around it
_LOST_SHARE = 0.06  # of neighbours that the current frame replaces, as at the ends of a clip
_DASHES_SHARE = 0.5  # of things that move on their own: the dashes of a lane
_LARGEST_SHRINK = 4.0  # of a frame to its thumbnail: 720 lines to 180


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A rained-on frame."""

    luma: Plane
    thumbnail: Thumbnail


@dataclass(slots=True)
class SequenceMaker:
    """Draws neighbours for a patch, and aligns them once they have rain.

    Attributes:
        window: of a network that sees more than one frame.
        past_share: share of clips whose neighbours lie in the past alone, as a camera's do.

    """

    window: Window
    past_share: float
    _aligner: Aligner = field(default_factory=Aligner)

    @property
    def margin_px(self) -> int:
        """How far beyond a patch its frames must reach, on each side."""
        return _MARGIN_PX

    def offsets(self, rng: np.random.Generator) -> list[int]:
        """The frames of a clip, relative to the current one, which is in the middle of the list."""
        count = self.window.frames - 1
        past = count if rng.random() < self.past_share else count // 2
        chosen = [*range(-past, 0), *range(1, count - past + 1)]
        chosen = [0 if rng.random() < _LOST_SHARE else offset for offset in chosen]
        return [*chosen[: count // 2], 0, *chosen[count // 2 :]]

    def aligned_stack(
        self, rng: np.random.Generator, frames: Sequence[Image], offsets: Sequence[int]
    ) -> Image:
        """The stack of the middle one of frames (H, W, 3), without the margin: (H - 2m, W - 2m, 3 + K)."""
        middle, m = len(frames) // 2, self.margin_px
        scale = 1 / rng.uniform(1.0, _LARGEST_SHRINK)
        made = sorted({index for index, offset in enumerate(offsets) if offset or index == middle},
                      key=lambda index: offsets[index])  # fmt: skip
        lumas = {index: grey(frames[index]) for index in made}
        views = [_View(lumas[index], thumbnail(lumas[index], 8, scale=scale)) for index in made]
        place = {index: number for number, index in enumerate(made)}
        neighbours = [place.get(index) for index in range(len(frames)) if index != middle]
        moved = aligned_neighbours(views, place[middle], neighbours, self._aligner)
        others = [offset for index, offset in enumerate(offsets) if index != middle]
        inner = [luma[m:-m, m:-m] for luma in shown(moved, others)]
        return stacked(frames[middle][m:-m, m:-m], inner, self.window)


def with_objects(
    rng: np.random.Generator, frames: Sequence[Image], offsets: Sequence[int]
) -> list[Image]:
    """The frames (H, W, 3), behind one to three things that move on their own, up to 40 pixels a frame.

    Upright bars, boxes and discs, in one colour or with the image's texture, or the dashes of a lane: what moves
    too fast to be aligned, is bright, and is not rain.
    """
    height, width = frames[0].shape[:2]
    moved = [frame.copy() for frame in frames]
    if rng.random() < _DASHES_SHARE:
        _draw_dashes(rng, moved, offsets)
        return moved
    for _ in range(int(rng.integers(1, 4))):
        size = 10 ** rng.uniform(1.0, 1.9, 2)
        if rng.random() < 0.4:
            size[1] *= 3.0  # a post, a lamp, a wiper
        angle_deg = rng.normal(0.0, 10.0) if rng.random() < 0.7 else rng.uniform(0.0, 180.0)
        step = rng.normal(0.0, 1.0, 2) * (1.0, 0.3) * 10 ** rng.uniform(0.0, 1.4)
        place = rng.random(2) * (width, height)
        is_round = rng.random() < 0.3
        surface = _surface(rng, frames[len(frames) // 2])
        for frame, offset in zip(moved, offsets, strict=True):
            x, y = place + np.clip(step, -40, 40) * offset
            mask = np.zeros((height, width), np.uint8)
            box = ((float(x), float(y)), (float(size[0]), float(size[1])), float(angle_deg))
            if is_round:
                cv2.ellipse(mask, box, 255, -1, cv2.LINE_AA)
            else:
                cv2.fillPoly(mask, [np.rint(cv2.boxPoints(box)).astype(np.int32)], 255, cv2.LINE_AA)
            share = mask[..., None].astype(np.float32) / np.float32(255)
            frame[:] = np.rint(frame * (1 - share) + surface * share).astype(np.uint8)
    return moved


def _draw_dashes(rng: np.random.Generator, frames: Sequence[Image], offsets: Sequence[int]) -> None:
    """Draws one to three dashed lines onto the frames (H, W, 3), whose dashes move along them."""
    height, width = frames[0].shape[:2]
    for _ in range(int(rng.integers(1, 4))):
        angle = rng.uniform(0.0, np.pi)
        along = np.array([np.cos(angle), np.sin(angle)])
        half_width = np.array([-along[1], along[0]]) * 10 ** rng.uniform(0.1, 0.9) / 2
        length_px = 10 ** rng.uniform(0.6, 1.9)
        period_px = length_px * rng.uniform(1.5, 5.0)
        step_px = rng.choice((-1, 1)) * 10 ** rng.uniform(0.3, 1.6)
        start = rng.random(2) * (width, height) + along * rng.uniform(0.0, period_px)
        colour = np.full(3, rng.uniform(140, 255)) - (0, 0, rng.choice((0, 0, 60)))
        count = int(np.hypot(height, width) / period_px) + 2
        for frame, offset in zip(frames, offsets, strict=True):
            mask = np.zeros((height, width), np.uint8)
            for number in range(-count, count):
                tail = start + along * (number * period_px + step_px * offset)
                head = tail + along * length_px
                corners = (
                    tail - half_width,
                    tail + half_width,
                    head + half_width,
                    head - half_width,
                )
                points = np.rint(np.array(corners) * 16).astype(np.int32)
                cv2.fillConvexPoly(mask, points, 255, cv2.LINE_AA, shift=4)
            share = mask[..., None].astype(np.float32) / np.float32(255)
            frame[:] = np.rint(frame * (1 - share) + colour * share).astype(np.uint8)


def _surface(rng: np.random.Generator, image: Image) -> Image:
    """The look of a thing (H, W, 3): one colour, mostly bright, or another part of the image."""
    if rng.random() < 0.6:
        colour = rng.integers(0, 256, 3) if rng.random() < 0.4 else np.full(3, rng.integers(0, 256))
        return np.full_like(image, colour)
    rows, columns = (int(rng.integers(side)) for side in image.shape[:2])
    return np.roll(image, (rows, columns), (0, 1))


def reach(frames: int) -> int:
    """How far from the current frame the neighbours of a network of ``frames`` are drawn: all may be before it."""
    return frames - 1


def moving_view(
    rng: np.random.Generator, image: Image, side: int, offsets: Sequence[int]
) -> list[Image]:
    """Views (side, side, 3) of a still image by a camera that pans, turns, zooms and shakes.

    ``offsets`` in frames; a tripod half of the time.
    """
    height, width = image.shape[:2]
    moves = rng.random() < 0.5
    pan_px = rng.normal(0.0, 1.0, 2) * 10 ** rng.uniform(-0.5, 1.1) * moves
    zoom, turn = rng.normal(0.0, 0.01) * moves, rng.normal(0.0, 0.004) * moves
    shake_px = rng.uniform(0.0, 1.5) * moves
    half = side / 2
    middle = np.array(
        [rng.uniform(min(half, n / 2), max(n - half, n / 2)) for n in (width, height)]
    )
    views = []
    for offset in offsets:
        size, angle = 1 + zoom * offset, turn * offset
        turned = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        at = middle + pan_px * offset + (rng.normal(0.0, shake_px, 2) if offset else 0)
        matrix = np.hstack([turned, (at - turned @ (half - 0.5, half - 0.5))[:, None]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        view = cv2.warpAffine(
            image, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT_101
        )
        views.append(np.asarray(view, np.uint8))
    return views
