import threading
from fractions import Fraction

import cv2
import numpy as np
import pytest

from tests.fakes import packet
from vderain.alignment import Aligner
from vderain.clips import Recent, Window, clips, newest_clip
from vderain.flow.workers import Workers
from vderain.frames import Frame, PlaneFormat
from vderain.network.change.apply import apply_change

GRAY = PlaneFormat("gray", 96, 64, full_range=True)
TEXTURE = cv2.GaussianBlur(np.random.default_rng(0).random((160, 240), np.float32), (0, 0), 2)
TEXTURE = np.uint8(255 * (TEXTURE - TEXTURE.min()) / np.ptp(TEXTURE))
TEXTURE.flags.writeable = False


def view(left, top=20):
    """What a camera sees that pans over one scene."""
    return np.ascontiguousarray(TEXTURE[top : top + 64, left : left + 96])


def frame(plane, pts, fmt=GRAY, **changes):
    return Frame((plane,), fmt, pts=pts, time_base=Fraction(1, 25), **changes)


def pan(count, **changes):
    return [frame(view(20 + 3 * i), i, **changes) for i in range(count)]


def collected(items, frames=3, lookahead=1):
    window = Window(frames, lookahead)
    return [clip for _, clip in clips(items, window) if clip is not None]


def inner(plane):
    return plane[8:-8, 8:-8].astype(float)


def same(one, two):
    return all(np.array_equal(a, b) for a, b in zip(one.inputs, two.inputs, strict=True))


@pytest.mark.parametrize("lookahead", [0, 1, 2])
def test_neighbours_are_laid_over_the_frame_of_a_panning_camera(lookahead):
    items = pan(6)
    made = collected(items, lookahead=lookahead)
    assert len(made) == 6
    for item, clip in list(zip(items, made, strict=True))[2:-2]:
        assert np.array_equal(clip.planes[0], item.planes[0])
        for neighbour in clip.neighbours:
            assert np.abs(inner(neighbour) - inner(item.planes[0])).mean() < 4
            assert not np.array_equal(
                neighbour, item.planes[0]
            )  # it is the neighbour's own samples


def test_a_streak_of_one_frame_is_in_that_frame_only():
    items = pan(3)
    struck = items[1].planes[0].copy()
    struck[20:40, 50] = 255
    first, middle, last = collected([items[0], frame(struck, 1), items[2]])
    for neighbour in middle.neighbours:
        assert np.abs(neighbour[20:40, 50].astype(int) - items[1].planes[0][20:40, 50]).mean() < 12
    assert middle.planes[0][20:40, 50].min() == 255
    del first, last


def test_look_ahead_delays_no_longer_than_it_says():
    came, left = [], []

    def source():
        for item in pan(6):
            came.append(item.pts)
            yield item

    for item, _ in clips(source(), Window(3, 1)):
        left.append((item.pts, came[-1]))
    assert left == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 5)]
    came.clear()
    live = [(item.pts, came[-1]) for item, _ in clips(source(), Window(3, 0))]
    assert live == [(i, i) for i in range(6)]


def test_packets_keep_their_place_between_frames():
    items = [packet(1), *pan(2), packet(1), packet(2), frame(view(26), 2), packet(1)]
    out = [item for item, _ in clips(items, Window(3, 1))]
    assert all(one is other for one, other in zip(out, items, strict=True))


@pytest.mark.parametrize(
    "break_with",
    [
        {"discontinuity": True},
        {"pts": 100},  # seconds later
        {"plane": view(20), "fmt": PlaneFormat("gray", 96, 64, full_range=False)},
    ],
)
@pytest.mark.parametrize("lookahead", [0, 1])
def test_clips_do_not_span_a_break(break_with, lookahead):
    items = pan(4)
    settings = {"plane": view(29), "pts": 3, **break_with}
    after = [frame(**settings)]
    after += [
        frame(view(32 + i), settings["pts"] + 1 + i, settings.get("fmt", GRAY)) for i in range(2)
    ]
    whole = collected(items[:3] + after, lookahead=lookahead)
    apart = collected(items[:3], lookahead=lookahead) + collected(after, lookahead=lookahead)
    assert all(same(one, two) for one, two in zip(whole, apart, strict=True))


def test_a_cut_to_another_scene_leaves_the_frame_alone():
    other = np.random.default_rng(1).integers(0, 90, (64, 96), np.uint8)
    items = [frame(view(20), 0), frame(view(23), 1), frame(255 - other, 2), frame(255 - other, 3)]
    before, after = collected(items)[1:3]
    for clip, own in ((before, items[1].planes[0]), (after, items[2].planes[0])):
        darker, brighter = clip.neighbours
        assert np.all((darker == own) | (brighter == own))


def test_images_of_a_folder_stand_alone():
    items = [frame(view(20 + i % 2), i, name=f"{i}.png", discontinuity=True) for i in range(3)]
    made = collected(items)
    for item, clip in zip(items, made, strict=True):
        assert all(np.array_equal(neighbour, item.planes[0]) for neighbour in clip.neighbours)


def test_images_of_a_sequence_have_neighbours():
    items = [frame(view(20 + i), i, name=f"{i}.png") for i in range(3)]
    clip = collected(items)[1]
    assert not any(np.array_equal(neighbour, items[1].planes[0]) for neighbour in clip.neighbours)


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_a_clip_of_one_frame_repeats_it(frames):
    (clip,) = collected(pan(1), frames=frames)
    assert len(clip.neighbours) == frames - 1
    assert all(neighbour is clip.planes[0] for neighbour in clip.neighbours)


@pytest.mark.parametrize("lookahead", [0, 1, 2])
@pytest.mark.parametrize("frames", [1, 3, 5])
def test_a_run_that_begins_early_enough_makes_the_clips_of_a_whole_one(frames, lookahead):
    items = pan(9)
    begin = 5
    whole = collected(items, frames, lookahead)[begin:]
    warm_up = Window(frames, lookahead).warm_up
    resumed = collected(items[begin - warm_up :], frames, lookahead)[warm_up:]
    assert all(same(one, two) for one, two in zip(whole, resumed, strict=True))


@pytest.mark.filterwarnings("error")
def test_tiny_frames_and_odd_sizes_make_clips():
    for size in ((1, 1), (3, 5), (25, 31), (64, 200)):
        fmt = PlaneFormat("yuv420", size[1], size[0])
        rng = np.random.default_rng(0)
        items = [
            Frame(
                tuple(rng.integers(0, 255, shape, np.uint8) for shape in fmt.plane_shapes),
                fmt, pts=i, time_base=Fraction(1, 25),
            )
            for i in range(3)
        ]  # fmt: skip
        for clip in collected(items):
            assert tuple(plane.shape for plane in clip.inputs) == fmt.clip_shapes(3)


@pytest.mark.parametrize("bit_depth", [10, 12])
def test_more_bits_are_aligned_as_well(bit_depth):
    fmt = PlaneFormat("gray", 96, 64, bit_depth, full_range=True)
    shift = bit_depth - 8
    items = [frame(view(20 + 3 * i).astype(np.uint16) << shift, i, fmt) for i in range(3)]
    deep, flat = collected(items)[1], collected(pan(3))[1]
    for one, two in zip(deep.planes, flat.planes, strict=True):
        assert np.abs((one[0] >> shift).astype(int) - two[0]).max() <= 1


@pytest.mark.parametrize("lookahead", [0, 1])
def test_a_bright_edge_that_jumps_leaves_no_ghost(lookahead):
    """What moves too far to be followed stands at its own place in every image of the clip."""
    items = []
    for i in range(5):
        plane = np.full((120, 160), 60, np.uint8)
        plane[30:90, 10 + 32 * i : 26 + 32 * i] = 230
        items.append(frame(plane, i, PlaneFormat("gray", 160, 120, full_range=True)))
    for item, clip in zip(items, collected(items, lookahead=lookahead), strict=True):
        for plane in clip.inputs:
            wrong = np.abs(plane.astype(int) - item.planes[0]) > 40
            assert wrong.mean() < 0.02


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_a_live_clip_is_that_of_a_run_without_lookahead(frames):
    recent = Recent(5)
    aligner = Aligner()
    live = [newest_clip(recent.add(seen), Window(frames), aligner) for seen in pan(8)]
    for one, other in zip(live, collected(pan(8), frames, 0), strict=True):
        assert one.format == other.format
        assert all(np.array_equal(a, b) for a, b in zip(one.inputs, other.inputs, strict=True))


def test_recent_frames_end_at_a_gap_another_format_and_a_discontinuity():
    recent = Recent(3)
    assert [len(recent.add(seen)) for seen in pan(5)] == [1, 2, 3, 3, 3]
    assert len(recent.add(frame(view(40), 6))) == 3
    assert len(recent.add(frame(view(40), 60))) == 1
    assert len(recent.add(frame(view(40), 61))) == 2
    assert len(recent.add(frame(view(40), 62, discontinuity=True))) == 1
    other = PlaneFormat("gray", 96, 64)
    assert len(recent.add(frame(view(40), 63, other))) == 1
    recent.clear()
    assert len(recent.add(frame(view(40), 64, other))) == 1


@pytest.mark.parametrize(("frames", "lookahead"), [(3, 1), (5, 2)])
def test_the_motion_between_two_frames_is_searched_once(frames, lookahead, monkeypatch):
    searched = []
    search = Aligner.search

    def counted(self, current, neighbour):
        searched.append((current, neighbour))
        return search(self, current, neighbour)

    monkeypatch.setattr(Aligner, "search", counted)
    items = pan(12)
    collected(items, frames, lookahead)
    pairs = len(items) * lookahead
    assert len(searched) <= pairs + frames, "only at the ends no answer can be turned about"


def test_a_line_that_all_frames_show_is_kept_whatever_is_taken_away():
    items = pan(6)
    for item in items:
        item.planes[0][::9, 10:] = 250
    for item, clip in list(zip(items, collected(items, 5, 2), strict=True))[2:-2]:
        everything = (np.full((64, 96), -255, np.float32),)
        left = apply_change(clip.planes, everything, clip.format, floor=clip.floor)[0]
        lines = inner(item.planes[0]) == 250
        assert np.mean(inner(left)[lines] > 200) > 0.95


def test_a_streak_of_one_frame_lies_above_the_floor():
    items = pan(5)
    scene = items[2].planes[0].copy()
    items[2].planes[0][20:40, 50] = 255
    clip = collected(items, 5, 2)[2]
    assert (clip.floor[20:40, 50] < scene[20:40, 50] + 8.0).all()


@pytest.mark.parametrize("make", [lambda: collected(pan(1), 5)[0], lambda: collected(pan(3), 1)[0]])
def test_a_frame_without_neighbours_has_no_floor(make):
    assert make().floor is None


def still(count):
    """What a camera sees that stands still, while something passes by."""
    planes = [view(30).copy() for _ in range(count)]
    for index, plane in enumerate(planes):
        plane[20:34, 6 + 9 * index : 20 + 9 * index] = 240
    return [frame(plane, index) for index, plane in enumerate(planes)]


def cut(count):
    """Two scenes, the second of another size."""
    half = count // 2
    other = PlaneFormat("gray", 80, 50, full_range=True)
    later = [
        frame(np.ascontiguousarray(255 - view(60 - 3 * i)[:50, :80]), half + i, other)
        for i in range(count - half)
    ]
    return [*pan(half), packet(1), *later]


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("frames", [1, 3, 5])
@pytest.mark.parametrize("footage", [pan, still, cut])
def test_several_threads_make_the_clips_of_one(footage, frames, threads):
    items, window = footage(10), Window.of(frames)
    alone = list(clips(items, window))
    shared = list(clips(items, window, lambda: False, Workers(threads)))
    assert [item for item, _ in shared] == items
    for (_, one), (_, other) in zip(alone, shared, strict=True):
        if one is None:
            assert other is None
            continue
        assert one.format == other.format and same(one, other)
        assert (one.floor is None) == (other.floor is None)
        assert one.floor is None or np.array_equal(one.floor, other.floor)


@pytest.mark.parametrize("threads", [2, 4])
def test_several_threads_place_neighbours_as_one_does(threads):
    items, window = pan(10), Window.of(5)
    alone = [clip for _, clip in clips(items, window, lambda: True)]
    shared = [clip for _, clip in clips(items, window, lambda: True, Workers(threads))]
    for one, other in zip(alone, shared, strict=True):
        pairs = zip(one.unaligned.neighbours, other.unaligned.neighbours, strict=True)
        for mine, yours in pairs:
            assert mine.offset == yours.offset
            assert np.array_equal(mine.flow, yours.flow)
            assert np.array_equal(mine.hidden, yours.hidden)


@pytest.mark.parametrize("threads", [1, 4])
def test_motion_is_searched_once_by_however_many_threads(threads, monkeypatch):
    searched = []
    search = Aligner.search

    def counted(self, *pair):
        searched.append(pair)
        return search(self, *pair)

    monkeypatch.setattr(Aligner, "search", counted)
    for _ in clips(pan(12), Window.of(5), lambda: False, Workers(threads)):
        pass
    assert searched and len(searched) == len(set(searched))


def test_an_aligner_is_used_by_one_thread_only(monkeypatch):
    users = {}
    search = Aligner.search

    def watched(self, *pair):
        users.setdefault(self, set()).add(threading.get_ident())
        return search(self, *pair)

    monkeypatch.setattr(Aligner, "search", watched)
    for _ in clips(pan(12), Window.of(5), lambda: False, Workers(4)):
        pass
    assert users and all(len(threads) == 1 for threads in users.values())


def test_clips_that_are_no_longer_wanted_leave_no_thread():
    before = set(threading.enumerate())
    made = clips(pan(12), Window.of(5), lambda: False, Workers(3))
    next(made)
    assert set(threading.enumerate()) > before
    made.close()
    assert set(threading.enumerate()) == before
