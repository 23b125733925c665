"""The motion from the current frame to its neighbours: that of the camera, and that of moving things.

Dense inverse search (Kroeger et al., ECCV 2016, by OpenCV) runs once for each pair of frames, on thumbnails,
where streaks are thin and faint; it is used both ways, and composed for frames further apart. An affine motion for
the camera averages the noise that rain brings, and holds wherever it explains a place about as well.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vderain.alignment.camera import middle
from vderain.alignment.still import Shift, shift_between
from vderain.alignment.thumbnails import Grey, Thumbnail

# (3, 3): homogeneous pixels of one half thumbnail to those of another.
Matrix = npt.NDArray[np.float64]
# (h, w, 2), in pixels of its grid: the neighbour's place minus the current frame's, (x, y).
Field = npt.NDArray[np.float32]

SMALLEST_PX = 24  # the search needs some pixels
_REFINED = 1  # variational steps of the search: a second gains nothing, without one 0.2 dB are lost
_GRID_PX = 4  # between the points that the camera's motion is fitted to
_FIT_PX = 0.35
_FIT_STEPS = 3
_COMPARED_PX = 13  # of thumbnails: where two explanations are compared, wider than a streak
_SEAM_PX = 5  # over which one gives way to the other
_UNLIKE = 26  # code values; where blurred thumbnails differ by more, a place counts as hidden
_SAME_SCENE = 0.4  # hidden share from which a neighbour shows another scene


class Aligner:
    """Searches motion between thumbnails; keeps OpenCV's buffers, so one for each thread."""

    def __init__(self) -> None:
        self._search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._search.setFinestScale(1)  # half the thumbnail: the preset's quarter misses 0.3 dB
        self._search.setVariationalRefinementIterations(_REFINED)

    def search(self, current: Thumbnail, neighbour: Thumbnail) -> Field:
        """The flow from ``current`` to ``neighbour``, thumbnails of one size: on the grid of their halves."""
        height, width = current.half.shape
        if min(current.image.shape) < SMALLEST_PX:
            return np.zeros((height, width, 2), np.float32)
        dense = self._search.calc(current.image, neighbour.image, None)
        dense = cv2.resize(dense, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(dense, np.float32) / np.float32(2)


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """Dense motion, and the camera's, before ``better`` chooses between them at each place."""

    dense: Field
    camera: Matrix

    def then(self, onwards: Path) -> Path:
        """The motion followed by ``onwards``, which begins where this one ends."""
        dense = self.dense + warped(onwards.dense, self.dense)
        return Path(dense, onwards.camera @ self.camera)


class Link:
    """An earlier and a later frame; the motion between them is computed once.

    Threads that ask together wait for the result of the first.
    """

    def __init__(self, earlier: Thumbnail, later: Thumbnail) -> None:
        self._earlier, self._later = earlier, later
        self._lock = threading.RLock()
        self._shift: Shift | None = None
        self._forth: Path | None = None
        self._back: Path | None = None

    @property
    def shift(self) -> Shift:
        """How far the camera may have moved."""
        with self._lock:
            if self._shift is None:
                self._shift = shift_between(self._earlier, self._later)
            return self._shift

    def forth(self, aligner: Aligner) -> Path:
        """The motion from the earlier frame to the later one."""
        with self._lock:
            if self._forth is None:
                dense = aligner.search(self._earlier, self._later)
                self._forth = Path(dense, _affine(dense))
            return self._forth

    def back(self, aligner: Aligner) -> Path:
        """The motion from the later frame to the earlier one: the flow of ``forth`` inverted."""
        with self._lock:
            if self._back is None:
                forth = self.forth(aligner)
                dense = -warped(forth.dense, -forth.dense)
                self._back = Path(dense, np.asarray(np.linalg.inv(forth.camera), np.float64))
            return self._back


def link(earlier: Thumbnail, later: Thumbnail) -> Link:
    """The one link between two frames."""
    found = earlier.links.get(later)
    return found if found is not None else earlier.links.setdefault(later, Link(earlier, later))


def enlarged(flow: Field, shape: tuple[int, ...]) -> Field:
    """The same motion on a larger grid (h, w), in its pixels."""
    height, width = shape
    factors = width / flow.shape[1], height / flow.shape[0], 0.0, 0.0
    multiply: Any = cv2.multiply  # whose types do not know a factor for each channel
    large = cv2.resize(multiply(flow, factors), (width, height))
    return np.asarray(large, np.float32).reshape(height, width, 2)


def shows_another_scene(hidden: Grey) -> bool:
    """Whether too much of a neighbour is hidden, 255 in the mask, for the rest to be of use."""
    return cv2.countNonZero(hidden) >= _SAME_SCENE * hidden.size


def unlike(current: Thumbnail, neighbour: Thumbnail, flow: Field) -> Grey:
    """255 where two half thumbnails differ by more than rain would make them.

    Rain adds light. Where the neighbour is the brighter one the neighbour is not needed; where the
    current frame is brighter, only differences wider than a streak count, or its own streaks would count.
    """
    lost = cv2.subtract(current.coarse, warped(neighbour.coarse, flow))
    brighter = cv2.max(cv2.subtract(warped(neighbour.fine, flow), current.fine), lost)
    _, found = cv2.threshold(brighter, _UNLIKE, 255, cv2.THRESH_BINARY)
    return np.asarray(found, np.uint8).reshape(current.half.shape)


def warped(plane: npt.NDArray[Any], flow: Field) -> npt.NDArray[Any]:
    """The plane (H, W) sampled at each place plus its flow (H, W, 2), between samples linearly."""
    flags = cv2.INTER_LINEAR | cv2.WARP_RELATIVE_MAP
    remap: Any = cv2.remap  # whose types do not know that one map may hold both parts
    return np.asarray(remap(plane, flow, None, flags, borderMode=cv2.BORDER_REPLICATE))


def _affine(flow: Field) -> Matrix:
    """The affine motion that most of a flow agrees with, by least squares that leave out ever more of the rest."""
    height, width = flow.shape[:2]
    grid = slice(_GRID_PX // 2, None, _GRID_PX)
    moved = np.ascontiguousarray(flow[grid, grid].reshape(-1, 2).T)
    if not moved.size:
        return np.eye(3)
    terms = _terms(height, width)
    fitted = np.zeros((2, 3), np.float32)
    fitted[:, 2] = [middle(moved[0]), middle(moved[1])]
    for _ in range(_FIT_STEPS):
        off = np.hypot(*(moved - fitted @ terms))
        weight = 1 / (1 + (off / np.float32(max(middle(off), _FIT_PX))) ** 2) ** 2
        weighted = terms * weight
        normal = (weighted @ terms.T).astype(np.float64) + 1e-6 * np.eye(3)
        fitted = np.linalg.solve(normal, weighted @ moved.T).T.astype(np.float32)
    matrix = np.eye(3)
    matrix[:2, :2] += fitted[:, :2] / (width, height)
    matrix[:2, 2] = fitted[:, 2] - 0.5 * (fitted[:, 0] + fitted[:, 1])
    return matrix


@lru_cache(maxsize=8)
def _terms(height: int, width: int) -> npt.NDArray[np.float32]:
    """Of an affine motion at the points that it is fitted to: (3, points)."""
    grid = slice(_GRID_PX // 2, None, _GRID_PX)
    x, y = (part[grid, grid].ravel() for part in cv2.split(_places(height, width)))
    return np.stack([x / width - 0.5, y / height - 0.5, np.ones_like(x)]).astype(np.float32)


@lru_cache(maxsize=8)
def _places(height: int, width: int) -> Field:
    """Each pixel's place (x, y)."""
    rows, columns = np.indices((height, width), np.float32)
    return np.dstack([columns, rows])


def _flow_of(camera: Matrix, shape: tuple[int, ...]) -> Field:
    height, width = shape
    rows = (camera[:2] - np.eye(3)[:2]).astype(np.float32)
    flow = cv2.transform(_places(height, width), rows)
    return np.asarray(flow, np.float32).reshape(height, width, 2)


def better(current: Thumbnail, neighbour: Thumbnail, path: Path) -> Field:
    """The camera's motion wherever it explains a place about as well as the dense flow does."""
    height, width = current.image.shape
    by_dense = _unlikeness(current, warped(neighbour.image, enlarged(path.dense, (height, width))))
    matrix = path.camera.copy()
    matrix[:2, 2] *= np.array([width, height]) / current.half.shape[::-1]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(
        neighbour.image, matrix[:2], (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    by_camera = _unlikeness(current, seen)
    about_as_well = cv2.addWeighted(by_dense, 1.15, by_dense, 0, _COMPARED_PX**2)
    chosen = cv2.compare(about_as_well, by_camera, cv2.CMP_GT)
    share = cv2.boxFilter(chosen, cv2.CV_32F, (_SEAM_PX, _SEAM_PX)) / np.float32(255)
    return _mixed(path.dense, _flow_of(path.camera, current.half.shape), share)


def _mixed(flow: Field, other: Field, share: Any) -> Field:
    """``flow``, but the ``share`` (h, w) of ``other``."""
    step = cv2.multiply(cv2.subtract(other, flow), cv2.merge((share, share)))
    return np.asarray(cv2.add(flow, step), np.float32).reshape(flow.shape)


def _unlikeness(current: Thumbnail, seen: Any) -> npt.NDArray[np.uint16]:
    """Summed differences of the thumbnails around each place, on the grid of their halves."""
    difference = cv2.absdiff(current.image, np.asarray(seen, np.uint8))
    box = (_COMPARED_PX, _COMPARED_PX)
    summed = cv2.boxFilter(difference, cv2.CV_16U, box, normalize=False)
    return np.asarray(summed, np.uint16)[::2, ::2].copy()
