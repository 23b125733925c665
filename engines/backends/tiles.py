"""A frame in tiles, for compiled graphs whose frame does not fit into the memory.

Tiles overlap by as much as the network reaches, so that they meet without a seam; the means of the whole
frame, which its gates see, are averaged over the tiles (``vderain.network.inference.means``).
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any

import numpy as np

from vderain.engines.backends.slots import SlotEngine, fill_padded
from vderain.engines.engine import added, clip_inputs
from vderain.errors import EngineLoadError
from vderain.flow.future import Future
from vderain.frames import Clip, Plane, PlaneFormat
from vderain.interfaces import EngineSpec
from vderain.network.config import NetworkConfig
from vderain.network.inference.memory import reach_px, working_bytes

ROUNDS = 2  # of asking all tiles for their means, see benchmarks/RESULTS.md

GATHERING, GIVEN = (
    "means of tiles",
    "tiles",
)  # the graphs of a tile, see vderain.network.inference.means

_MOST = 16  # tiles along a side

Corner = tuple[int, int]  # row and column in the padded frame


@dataclass(frozen=True, slots=True)
class Tiling:
    """Where the tiles of a frame lie; all are of one size, which divides by ``step`` like the frame's.

    Attributes:
        frame: the format of the padded frame.
        tile: of each tile.
        halo: how many pixels inside an edge between tiles the answer is right.
        step: what corners are multiples of.

    """

    frame: PlaneFormat
    tile: PlaneFormat
    halo: int
    step: int

    def seen(self) -> list[Corner]:
        """Corners of as few tiles as show every pixel."""
        rows = _starts(self.frame.height, self.tile.height, self.tile.height, self.step)
        columns = _starts(self.frame.width, self.tile.width, self.tile.width, self.step)
        return list(product(rows, columns))

    def computed(self) -> list[tuple[Corner, Corner, Corner]]:
        """(corner, first and end of the part whose answer counts) of tiles whose parts make up the frame."""
        sides = (self.frame.height, self.tile.height), (self.frame.width, self.tile.width)
        rows, columns = (self._parts(*side) for side in sides)
        return [
            ((top, left), (first, begin), (last, end))
            for (top, first, last), (left, begin, end) in product(rows, columns)
        ]

    def _parts(self, length: int, tile: int) -> list[tuple[int, int, int]]:
        starts = _starts(length, tile, tile - 2 * self.halo, self.step)
        cuts = [0, *(start + self.halo for start in starts[1:]), length]
        return [
            (start, first, last)
            for start, (first, last) in zip(starts, pairwise(cuts), strict=True)
        ]

    def __str__(self) -> str:
        return f"{len(self.computed())} tiles of {self.tile.width}x{self.tile.height}"


def plan_tiles(
    config: NetworkConfig, padded: PlaneFormat, itemsize: int, free_bytes: int
) -> Tiling | None:
    """The cheapest tiling whose tiles take at most ``free_bytes`` each; None where none does."""
    unit = replace(padded, width=1, height=1).padded(config.multiple)
    step = max(unit.width, unit.height)
    halo = -(-reach_px(config) // step) * step
    plans: list[tuple[int, Tiling]] = []
    for rows, columns in product(range(1, _MOST + 1), repeat=2):
        height = _tile_side(padded.height, rows, halo, step)
        width = _tile_side(padded.width, columns, halo, step)
        sides = (height, padded.height), (width, padded.width)
        if any(side < whole and side <= 2 * halo for side, whole in sides):
            continue
        if working_bytes(config, height, width, itemsize) <= free_bytes:
            tile = replace(padded, width=width, height=height)
            tiling = Tiling(padded, tile, halo, step)
            plans.append((len(tiling.computed()) * height * width, tiling))
    return min(plans, key=lambda plan: plan[0])[1] if plans else None


def _tile_side(length: int, count: int, halo: int, step: int) -> int:
    """Of tiles of which ``count`` cover ``length``, with halos between them."""
    side = -(-(length + 2 * halo * (count - 1)) // count)
    return min(length, -(-side // step) * step)


def _starts(length: int, tile: int, stride: int, step: int) -> list[int]:
    """Where tiles begin, at most ``stride`` apart and evenly spread."""
    if tile >= length:
        return [0]
    count = -(-(length - tile) // max(step, stride // step * step)) + 1
    return [(length - tile) * i // (count - 1) // step * step for i in range(count - 1)] + [
        length - tile
    ]


class TiledEngine:
    """``Engine`` for one plane format over engines for its tiles, which it owns.

    ``gathering`` and ``given`` take a tile's planes and means, ``length`` numbers of them, and answer as
    ``GatheringNetwork`` and ``GivenNetwork`` do. Computes when it is asked for the answer.
    """

    slots = 1

    def __init__(
        self,
        gathering: SlotEngine[Any],
        given: SlotEngine[Any],
        tiling: Tiling,
        length: int,
        fmt: PlaneFormat,
        spec: EngineSpec,
    ) -> None:
        self._gathering = gathering
        self._given = given
        self._tiling = tiling
        self._length = length
        self._fmt = fmt
        told = f"too little memory for a whole frame: it is computed in {tiling}"
        self._spec = replace(spec, notes=(*spec.notes, told))
        self.window = spec.window
        self._closed = False

    def open(self, fmt: PlaneFormat) -> EngineSpec:
        """As the protocol says; it is open already."""
        return self._spec

    def submit(self, clip: Clip, *, strength: float = 1.0, on_device: bool = False) -> Future:
        """As the protocol says; the change is added on the host."""
        return added(self.change(clip), clip, strength)

    def change(self, clip: Clip) -> Future:
        """Take a clip; its samples are copied before this returns."""
        if self._closed:
            raise EngineLoadError("the engine is closed")
        planes = clip_inputs(clip, self._fmt, self.window.seen_frames)
        shapes = self._tiling.frame.clip_shapes(self.window.seen_frames)
        padded = [np.empty(shape, plane.dtype) for shape, plane in zip(shapes, planes, strict=True)]
        for target, plane in zip(padded, planes, strict=True):
            fill_padded(target, plane)
        return Future(functools.partial(self._compute, padded))

    def close(self) -> None:
        """Close the engines of the tiles."""
        self._closed = True
        self._gathering.close()
        self._given.close()

    def _compute(self, planes: list[Plane]) -> tuple[Plane, ...]:
        means = np.zeros((1, self._length), np.float32)
        for _ in range(ROUNDS if self._length > 1 else 0):
            seen = self._answers(self._gathering, self._tiling.seen(), planes, means)
            means = np.mean([answer for (answer,) in seen], 0, dtype=np.float32)
        shapes = self._fmt.plane_shapes
        change = tuple(np.empty(shape, np.float32) for shape in self._tiling.frame.plane_shapes)
        places = self._tiling.computed()
        corners = [corner for corner, _, _ in places]
        answers = self._answers(self._given, corners, planes, means)
        for (corner, first, end), answer in zip(places, answers, strict=True):
            for target, part in zip(change, answer, strict=True):
                scale = self._scale(target)
                (top, left), (y, x), (below, right) = map(scale, (corner, first, end))
                target[y:below, x:right] = part[y - top : below - top, x - left : right - left]
        return tuple(
            plane[:height, :width] for plane, (height, width) in zip(change, shapes, strict=True)
        )

    def _answers(
        self, engine: SlotEngine[Any], corners: Iterable[Corner], planes: list[Plane], means: Plane
    ) -> Iterator[Sequence[Plane]]:
        """What ``engine`` makes of each tile, with all its slots in flight."""
        waiting: deque[Future] = deque()
        for corner in corners:
            waiting.append(engine.start([*self._cut(corner, planes), means]))
            if len(waiting) >= engine.slots:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _cut(self, corner: Corner, planes: list[Plane]) -> Iterator[Plane]:
        shapes = self._tiling.tile.clip_shapes(self.window.seen_frames)
        for plane, (height, width) in zip(planes, shapes, strict=True):
            top, left = self._scale(plane)(corner)
            yield plane[top : top + height, left : left + width]

    def _scale(self, plane: Plane) -> Callable[[Corner], Corner]:
        """From pixels of the frame to samples of one of its planes."""
        frame = self._tiling.frame
        across, down = frame.width // plane.shape[1], frame.height // plane.shape[0]
        return lambda place: (place[0] // down, place[1] // across)
