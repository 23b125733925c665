"""Neighbouring frames laid over the current one, so that only the rain differs (ours); torch-free.

Motion is estimated on thumbnails, where streaks are thin and faint: dense inverse search (Kroeger et al.,
ECCV 2016, by OpenCV) for what moves by itself, and an affine motion fitted to it for the camera, which
averages the noise that rain brings. Where neither explains a place, the current frame's own samples stand
in for the neighbour's: what cannot be aligned is derained as a single frame would be, and never ghosts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vderain.frames import RGB_LUMA_WEIGHTS, Plane, PlaneFormat

Field = npt.NDArray[np.float32]
Grey = npt.NDArray[np.uint8]  # (h, w)

_SHORT_SIDE_PX = 180
_SMALLEST_PX = 24  # DIS needs some pixels to search in
_GRID_PX = 6  # between the points that the camera's motion is fitted to
_FIT_PX = 0.7
_FINE_PX = 2.0
_LIKE_PX = 4.0  # blur over which explanations are compared: wider than a thumbnail's streaks
_UNLIKE_LEVELS = 26  # difference of blurred thumbnails from which a place counts as unexplained
_TOLERANCE_LEVELS = 2  # below the second darkest sample: noise, and rain in most frames
_SAME_SCENE = 0.4  # unexplained share from which a neighbour shows another scene


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """How a neighbour's content lies in the current frame, on the thumbnail's grid.

    Attributes:
        flow: (h, w, 2) float32, in thumbnail pixels: the neighbour's place minus the current one's, (x, y).
        unexplained: (h, w) uint8, 255 where the neighbour does not show what the current frame shows.

    """

    flow: Field
    unexplained: Grey

    @property
    def explains(self) -> bool:
        """Whether the neighbour shows the same scene: enough of it to be of use."""
        return float(np.count_nonzero(self.unexplained)) < _SAME_SCENE * self.unexplained.size


def luma(planes: Sequence[Plane], fmt: PlaneFormat) -> Plane:
    """The luma of a frame in its own samples; of RGB that of BT.601, rounded."""
    if fmt.layout != "rgb":
        return planes[0]
    red, green, blue = (np.float32(w) * p for w, p in zip(RGB_LUMA_WEIGHTS, planes, strict=True))
    return np.asarray(np.rint(red + green + blue), fmt.dtype)


class Thumbnail:
    """A small ``picture`` (h, w) uint8 of a frame's luma, and its blurs, made when they are first asked for."""

    def __init__(self, picture: Grey) -> None:
        self.picture = picture

    @cached_property
    def fine(self) -> Grey:
        """Blurred, with the streaks still there."""
        return _softened(self.picture, _FINE_PX)

    @cached_property
    def coarse(self) -> Grey:
        """Blurred beyond the width of a streak."""
        return _softened(self.picture, _LIKE_PX)


def thumbnail(luma: Plane, bit_depth: int, *, scale: float = 0.0) -> Thumbnail:
    """The luma of a frame at about 180 lines, or at ``scale``, 8 bit."""
    scale = scale or min(1.0, _SHORT_SIDE_PX / min(luma.shape))
    height, width = (max(1, round(side * scale)) for side in luma.shape)
    small = np.asarray(cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA), luma.dtype)
    if bit_depth > 8:
        small >>= bit_depth - 8
    return Thumbnail(small.astype(np.uint8).reshape(height, width))


class Aligner:
    """Estimates motion between thumbnails; keeps OpenCV's buffers, so one for each thread."""

    def __init__(self) -> None:
        self._search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._search.setFinestScale(1)  # half the thumbnail: the preset's quarter misses 0.3 dB

    def motion(
        self, current: Thumbnail, neighbour: Thumbnail, *, like: Motion | None = None
    ) -> Motion:
        """How ``neighbour`` lies in ``current``, thumbnails of one size.

        ``like``: how ``current`` lies in ``neighbour``, where that is known; turned about, it saves the search.
        """
        seen, other = current.picture, neighbour.picture
        if min(seen.shape) < _SMALLEST_PX:
            still = np.zeros((*seen.shape, 2), np.float32)
            return Motion(still, _unlike(current, other))
        if like is not None:
            dense = -_warped(like.flow, -like.flow)
        else:
            dense = np.asarray(self._search.calc(seen, other, None), np.float32)
        camera = _affine(dense)
        flow = dense if camera is None else _better(seen, other, dense, camera)
        return Motion(flow, _unlike(current, _warped(other, flow)))


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """A neighbour's luma as the current frame sees it.

    Attributes:
        luma: (H, W), the current frame's own samples where the neighbour does not show them.
        hidden: (H, W) uint8, 1 at those places and 0 elsewhere; None where that is the whole frame.

    """

    luma: Plane
    hidden: Grey | None


def aligned(luma: Plane, neighbour: Plane, motion: Motion) -> Aligned:
    """The neighbour's luma aligned to the current frame's; hidden where it shows another scene."""
    if not motion.explains:
        return Aligned(luma, None)
    height, width = luma.shape
    factors = np.array([width, height], np.float32) / motion.flow.shape[1::-1]
    flow = cv2.resize(motion.flow * factors.astype(np.float32), (width, height))
    warped = np.asarray(_warped(neighbour, np.asarray(flow, np.float32).reshape(height, width, 2)))
    unexplained = cv2.resize(motion.unexplained, (width, height))
    _, hidden = cv2.threshold(unexplained, 100, 1, cv2.THRESH_BINARY)
    hidden, warped = np.asarray(hidden, np.uint8).reshape(luma.shape), warped.reshape(luma.shape)
    cv2.copyTo(luma, hidden, warped)
    return Aligned(warped, hidden)


def shown(neighbours: Sequence[Aligned], offsets: Sequence[int]) -> list[Plane]:
    """The luma of neighbours ``offsets`` frames away; where one is hidden, of the one two frames nearer (ours).

    Far neighbours are hidden more often than near ones. With the frame's own samples in their place most of a
    clip would show the frame, with its rain; within two frames these stand in all the same.
    """
    by_offset = {offset: one for offset, one in zip(offsets, neighbours, strict=True) if offset}
    planes: dict[int, Plane] = {}
    for offset in sorted(by_offset, key=abs):
        one, nearer = by_offset[offset], offset - 2 if offset > 0 else offset + 2
        plane = one.luma
        if nearer * offset > 0 and nearer in planes:
            plane = planes[nearer] if one.hidden is None else plane.copy()
            if one.hidden is not None:
                np.copyto(plane, planes[nearer], where=one.hidden > 0)
        planes[offset] = plane
    return [
        planes[offset] if offset else one.luma
        for offset, one in zip(offsets, neighbours, strict=True)
    ]


def floor_of(
    neighbours: Sequence[Aligned], ordered: Sequence[Plane], bit_depth: int
) -> Plane | None:
    """The luma (H, W) that a frame must not be darkened below: what all frames show is no rain (ours).

    Rain adds light, and hides a place in few frames. So the floor is the second darkest sample of the valid
    neighbours, the darkest where fewer than three are valid, less a tolerance for noise and for rain in
    most frames. Where no neighbour is valid the floor is 0, and where none is anywhere, None.

    ``ordered`` are the neighbours' luma in order of brightness, the current samples where they are hidden.
    """
    hidden = [one.hidden for one in neighbours if one.hidden is not None]
    if not hidden:
        return None
    absent = np.full(hidden[0].shape, len(neighbours) - len(hidden), np.uint8)
    for mask in hidden:
        absent += mask
    floor = ordered[min(1, len(ordered) - 1)].copy()
    np.copyto(floor, ordered[0], where=absent >= max(1, len(neighbours) - 2))
    floor[absent == len(neighbours)] = 0
    tolerance = floor.dtype.type(_TOLERANCE_LEVELS << (bit_depth - 8))
    return np.asarray(np.maximum(floor, tolerance) - tolerance)


def in_order_of_brightness(lumas: Sequence[Plane]) -> list[Plane]:
    """Neighbours' luma with the darkest sample at each place in the first plane, and so on.

    Rain adds light, so the first show what lies behind it.
    """
    ordered = list(lumas)
    for last in range(len(ordered) - 1, 0, -1):
        for index in range(last):
            pair = ordered[index], ordered[index + 1]
            if pair[0] is not pair[1]:
                ordered[index : index + 2] = np.minimum(*pair), np.maximum(*pair)
    return ordered


def _warped(plane: npt.NDArray[Any], flow: Field) -> npt.NDArray[Any]:
    """What lies at each place plus its flow, between samples linearly."""
    flags = cv2.INTER_LINEAR | cv2.WARP_RELATIVE_MAP
    remap: Any = cv2.remap  # whose types do not know that one map may hold both parts
    return np.asarray(remap(plane, flow, None, flags, borderMode=cv2.BORDER_REPLICATE))


def _affine(flow: Field) -> Field | None:
    """The affine motion that most of a flow agrees with, as a flow; None where nothing does."""
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[_GRID_PX // 2 : height : _GRID_PX, _GRID_PX // 2 : width : _GRID_PX]
    points = np.stack([columns.ravel(), rows.ravel()], 1).astype(np.float32)
    moved = points + flow[rows.ravel(), columns.ravel()]
    fitted, _ = cv2.estimateAffine2D(points, moved, ransacReprojThreshold=_FIT_PX)
    if fitted is None:
        return None
    matrix = np.asarray(fitted, np.float32)
    x = np.arange(width, dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None]
    return np.stack(
        [row[0] * x + row[1] * y + row[2] - own for row, own in zip(matrix, (x, y), strict=True)],
        -1,
    )


def _better(current: Grey, neighbour: Grey, dense: Field, camera: Field) -> Field:
    """The camera's motion wherever it explains a place about as well as the dense flow does."""
    errors = [_blurred(cv2.absdiff(current, _warped(neighbour, flow))) for flow in (dense, camera)]
    chosen = (errors[1] < 1.15 * errors[0] + 1).astype(np.float32)
    share = cv2.GaussianBlur(chosen, (0, 0), 3)[..., None]
    return np.asarray(dense + (camera - dense) * share, np.float32)


def _blurred(difference: Any) -> Field:
    return np.asarray(cv2.GaussianBlur(np.asarray(difference, np.float32), (0, 0), _LIKE_PX))


def _softened(picture: npt.NDArray[Any], blur_px: float) -> Grey:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), blur_px), np.uint8)


def _unlike(current: Thumbnail, laid: npt.NDArray[Any]) -> Grey:
    """255 where two thumbnails differ by more than rain would make them.

    Rain adds light. Where the neighbour is the brighter one nothing is lost without it; where the current
    frame is, only what is wider than a streak counts, or the streaks to be repaired would count.
    """
    lost = cv2.subtract(current.coarse, _softened(laid, _LIKE_PX))
    brighter = cv2.max(cv2.subtract(_softened(laid, _FINE_PX), current.fine), lost)
    _, unlike = cv2.threshold(brighter, _UNLIKE_LEVELS, 255, cv2.THRESH_BINARY)
    return np.asarray(unlike, np.uint8).reshape(current.picture.shape)
