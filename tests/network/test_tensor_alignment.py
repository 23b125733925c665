"""Alignment on tensors gives OpenCV's samples."""

import numpy as np
import pytest
import torch

from vderain.alignment import Placement, aligned, floor_of, shown, stand_in
from vderain.alignment import in_order_of_brightness as ordered_by_numpy
from vderain.network.tensor_alignment import align_neighbours, in_order_of_brightness


def scene(size, bit_depth, seed):
    """Blurred noise, as sharp as video."""
    rng = np.random.default_rng(seed)
    height, width = size
    coarse = rng.random((height // 3 + 2, width // 3 + 2))
    rows, columns = np.arange(height) // 3, np.arange(width) // 3
    plane = (coarse[rows][:, columns] + coarse[rows + 1][:, columns + 1]) / 2
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    return np.rint(plane * ((1 << bit_depth) - 1)).astype(dtype)


def placement(size, kind, seed):
    rng = np.random.default_rng(seed)
    scale = min(1.0, 180 / min(size))
    height, width = (round(side * scale) for side in size)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    flow = np.stack([3.3 * np.sin(y / 20) - 0.02 * x, 2.1 * np.cos(x / 30) + 0.7], -1)
    half = (height + 1) // 2, (width + 1) // 2
    hidden = np.zeros(half, np.uint8)
    if kind != "clear":
        top, left = rng.integers(0, half[0] // 2), rng.integers(0, half[1] // 2)
        hidden[top : top + half[0] // 3, left : left + half[1] // 3] = 255
    return {
        "absent": Placement(),
        "still": Placement(None, hidden),
    }.get(kind, Placement(flow.astype(np.float32), hidden))


CLIPS = {  # offset -> how the neighbour is placed
    "moving": {-2: "moved", -1: "moved", 1: "moved", 2: "clear"},
    "still": {-2: "still", -1: "still", 1: "still", 2: "still"},
    "the first frame": {1: "moved", 2: "clear", 3: "moved", 4: "absent"},
    "few": {-1: "moved", 0: "absent", 1: "moved", 2: "absent"},
    "cut": {-1: "absent", 0: "absent", 1: "absent", 2: "absent"},
    "nine": {o: "moved" for o in (-4, -3, -2, -1, 1, 2, 3, 4)},
    "two": {-1: "moved", 1: "clear"},
}


def by_opencv(lumas, placements, offsets, bit_depth):
    laid = [aligned(lumas[0], luma, one) for luma, one in zip(lumas[1:], placements, strict=True)]
    ordered = ordered_by_numpy(shown(laid, offsets))
    return laid, ordered, floor_of(laid, ordered, bit_depth)


def by_torch(lumas, placements, offsets, bit_depth):
    """As an engine calls it: nearer neighbours first."""
    order = sorted(range(len(offsets)), key=lambda index: abs(offsets[index]))
    size = lumas[0].shape
    height, width = (round(side * min(1.0, 180 / min(size))) for side in size)
    flows = np.zeros((len(order), height, width, 2), np.float32)
    hidden = np.full((len(order), (height + 1) // 2, (width + 1) // 2), 255, np.uint8)
    stand_ins = []
    for place, index in enumerate(order):
        if placements[index].flow is not None:
            flows[place] = placements[index].flow
        if placements[index].hidden is not None:
            hidden[place] = placements[index].hidden
        nearer = stand_in(offsets[index])
        found = [n for n, i in enumerate(order) if nearer and offsets[i] == nearer]
        stand_ins.append(found[0] + 1 if found else 0)
    dtype = torch.uint8 if bit_depth == 8 else torch.int32
    stacked = np.stack(lumas)[::-1].astype(np.uint8 if bit_depth == 8 else np.int32)
    rows = [len(lumas) - 1 - index for index in (0, *(i + 1 for i in order))]
    return align_neighbours(
        torch.from_numpy(np.ascontiguousarray(stacked)), torch.tensor(rows),
        torch.from_numpy(flows), torch.from_numpy(hidden), torch.tensor(stand_ins),
        dtype=dtype, bit_depth=bit_depth,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("clip", "bit_depth", "shape"),
    [
        *((clip, bit_depth, (95, 131)) for clip in CLIPS for bit_depth in (8, 10, 16)),
        *(("moving", bit_depth, (420, 500)) for bit_depth in (8, 16)),  # larger than its thumbnail
    ],
)
def test_neighbours_and_floor_are_those_of_opencv(clip, bit_depth, shape):
    kinds = CLIPS[clip]
    offsets = [*kinds]
    lumas = [scene(shape, bit_depth, seed) for seed in range(len(kinds) + 1)]
    placements = [placement(shape, kind, seed) for seed, kind in enumerate(kinds.values())]
    _, expected, floor = by_opencv(lumas, placements, offsets, bit_depth)
    found, found_floor = by_torch(lumas, placements, offsets, bit_depth)
    floor = np.zeros_like(lumas[0]) if floor is None else floor
    level = 1 << (bit_depth - 8)
    for got, want in zip([*found, found_floor], [*expected, floor], strict=True):
        far = np.abs(got.numpy().astype(int) - want.astype(int)) > level
        assert far.mean() < 2e-4, f"{far.sum()} samples are further than {level} away"


@pytest.mark.parametrize("count", [1, 2, 4, 5, 8])
def test_order_of_brightness_is_that_of_a_sort(count):
    planes = torch.randint(0, 256, (count, 9, 7), generator=torch.Generator().manual_seed(count))
    ordered = torch.stack(in_order_of_brightness(list(planes)))
    assert torch.equal(ordered, planes.sort(0).values)
