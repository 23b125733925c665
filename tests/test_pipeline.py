import itertools
import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tests.fakes import ListSink, ListSource, OffsetEngine, gray_frame, packet
from vderain import pipeline
from vderain.clips import clips
from vderain.flow import stages
from vderain.frames import Frame, PlaneFormat
from vderain.options import RunOptions
from vderain.pipeline import align_threads, derain


def threads():
    return [t for t in threading.enumerate() if t.name == "vderain-prefetch" and t.is_alive()]


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_frames_and_packets_come_out_in_order_with_the_change_applied(slots):
    items = [
        packet(1),
        gray_frame(100, 0),
        packet(1),
        packet(2),
        gray_frame(50, 7),
        gray_frame(3, 9),
    ]
    sink = ListSink()
    report = derain(ListSource(items), OffsetEngine(slots=slots), sink)
    assert [type(item) for item in sink.items] == [type(item) for item in items]
    frames = [item for item in sink.items if isinstance(item, Frame)]
    assert [(frame.pts, int(frame.planes[0][0, 0])) for frame in frames] == [
        (0, 95),
        (7, 45),
        (9, 0),
    ]
    assert [item for item in sink.items if not isinstance(item, Frame)] == [
        item for item in items if not isinstance(item, Frame)
    ]
    assert (report.frames_in, report.frames_out, sink.state) == (3, 3, "finished")
    assert not threads()


def test_strength_scales_the_change():
    sink = ListSink()
    derain(
        ListSource([gray_frame(100, 0)]), OffsetEngine(-10), sink, options=RunOptions(strength=0.3)
    )
    assert np.all(sink.items[0].planes[0] == 97)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_the_engine_sees_the_image_upright_and_the_sink_as_it_was_stored(rotation):
    image = np.arange(24, dtype=np.uint8).reshape(4, 6)
    frame = gray_frame(0, 0, planes=(image,), rotation=rotation)
    engine, sink = OffsetEngine(0.0), ListSink()
    derain(ListSource([frame]), engine, sink)
    assert np.array_equal(engine.submitted[0].planes[0], np.rot90(image, rotation // 90))
    assert engine.submitted[0].format == frame.format.rotated(rotation // 90)
    assert np.array_equal(sink.items[0].planes[0], image)
    assert sink.items[0].rotation == rotation


def test_a_quarter_turn_swaps_the_chroma_subsampling():
    assert PlaneFormat("yuv422", 8, 6).rotated(1) == PlaneFormat("yuv440", 6, 8)
    assert PlaneFormat("yuv420", 8, 6).rotated(3) == PlaneFormat("yuv420", 6, 8)


@pytest.mark.parametrize(
    ("source", "engine", "sink", "error"),
    [
        ([gray_frame(1, i) for i in range(9)] + [KeyError("source")], {}, {}, KeyError),
        ([gray_frame(1, i) for i in range(50)], {"fail_at": 5}, {}, ValueError),
        ([gray_frame(1, i) for i in range(50)], {}, {"fail_at": 3}, OSError),
    ],
    ids=["source", "engine", "sink"],
)
def test_a_failing_stage_aborts_the_sink_and_leaves_no_thread(source, engine, sink, error):
    rainy, dry = ListSource(source), ListSink(**sink)
    with pytest.raises(error):
        derain(rainy, OffsetEngine(**engine), dry)
    assert dry.state == "aborted"
    assert rainy.ended
    assert not threads()


def test_an_interrupt_in_the_consumer_stops_every_stage():
    rainy, dry = ListSource([gray_frame(1, i) for i in range(1000)]), ListSink()

    def interrupt(progress):
        if progress.frames == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        derain(rainy, OffsetEngine(), dry, on_progress=interrupt)
    assert dry.state == "aborted" and rainy.ended and rainy.stats.frames < 50
    assert rainy.cancelled  # or a read that is blocked would hold the run up
    assert not threads()


def test_progress_counts_frames_and_knows_the_part_that_was_asked_for():
    seen = []
    source = ListSource([gray_frame(1, i) for i in range(10)], frames=1000)
    options = RunOptions(duration_s=0.4)
    derain(source, OffsetEngine(), ListSink(), options=options, on_progress=seen.append)
    assert [progress.frames for progress in seen] == list(range(1, 11))
    assert {progress.frames_total for progress in seen} == {10}
    assert seen[-1].eta_s == 0


def test_losses_and_damage_make_the_exit_code_three():
    source = ListSource([gray_frame(1, 0)])
    assert derain(source, OffsetEngine(), ListSink()).exit_code == 0
    source.stats.decode_failures = 1
    report = derain(source, OffsetEngine(), ListSink())
    assert (report.exit_code, report.losses) == (3, ["1 damaged frames or packets were skipped"])
    source.stats.damaged_frames = 1
    report = derain(source, OffsetEngine(), ListSink())
    assert (report.exit_code, report.decode_failures) == (3, 0)
    assert report.losses == ["1 damaged frames were derained as far as they could be decoded"]
    source.stats.decode_failures = source.stats.damaged_frames = 0
    source.stats.losses.append("track 2")
    report = derain(source, OffsetEngine(), ListSink())
    assert report.exit_code == 3 and report.losses == ["track 2"]


def test_report_names_the_engine_of_every_format_met():
    small = replace(
        gray_frame(1, 1), planes=(np.zeros((2, 3), np.uint8),), format=PlaneFormat("gray", 3, 2)
    )
    report = derain(ListSource([gray_frame(1, 0), small]), OffsetEngine(), ListSink())
    assert [spec.name for spec in report.engines] == ["offset", "offset"]
    assert report.limiting_stage in report.stage_s
    assert set(report.to_dict()) > {"frames_in", "stage_s", "limiting_stage", "engines"}


def test_an_interrupt_frees_a_read_that_is_blocked():
    class Stalled(ListSource):
        def __init__(self):
            super().__init__([])
            self.free = threading.Event()
            self.freed = None

        def __iter__(self):
            yield gray_frame(1, 0)
            yield gray_frame(1, 1)
            self.freed = self.free.wait(20)

        def cancel(self):
            self.free.set()

    def interrupt(progress):
        raise KeyboardInterrupt

    rainy, dry = Stalled(), ListSink()
    with pytest.raises(KeyboardInterrupt):
        derain(rainy, OffsetEngine(slots=1), dry, on_progress=interrupt)
    assert rainy.freed is True and dry.state == "aborted"
    assert not threads()


def test_alignment_goes_on_while_an_engine_is_opened(monkeypatch):
    """Opening waits until later frames are aligned; were it part of alignment, that would never be."""
    ahead = threading.Event()

    def watched(*arguments):
        for number, pair in enumerate(clips(*arguments)):
            if number == 2:
                ahead.set()
            yield pair

    class Opening(OffsetEngine):
        def open(self, fmt):
            self.was_ahead = ahead.wait(20)
            return super().open(fmt)

    monkeypatch.setattr(pipeline, "clips", watched)
    engine, sink = Opening(), ListSink()
    report = derain(ListSource([gray_frame(9, i) for i in range(5)]), engine, sink)
    assert engine.was_ahead and report.frames_out == 5


def test_the_engine_is_opened_while_the_first_clip_is_made(monkeypatch):
    """Making the first clip waits until the engine is being opened."""
    opening, waited = threading.Event(), []

    class Opening(OffsetEngine):
        def open(self, fmt):
            opening.set()
            return super().open(fmt)

    def slow(items, *rest):
        first = next(items)
        waited.append(opening.wait(5))
        yield from clips(itertools.chain([first], items), *rest)

    monkeypatch.setattr(pipeline, "clips", slow)
    derain(ListSource([gray_frame(9, i) for i in range(3)]), Opening(), ListSink())
    assert waited == [True]


@pytest.mark.parametrize("aligns", [True, False])
def test_neighbours_are_left_to_an_engine_that_aligns_them(aligns):
    engine, frames = OffsetEngine(), [gray_frame(9, i) for i in range(5)]
    engine.frames, engine.aligns = 3, aligns
    derain(ListSource(frames), engine, ListSink())
    assert [clip.unaligned is not None for clip in engine.submitted] == [aligns] * 5
    assert [len(clip.neighbours) for clip in engine.submitted] == [0 if aligns else 2] * 5


def test_what_opening_an_engine_takes_counts_for_no_stage(monkeypatch):
    opened = threading.local()

    class Opening(OffsetEngine):
        def open(self, fmt):
            opened.seconds = 1000.0
            return super().open(fmt)

    class Clock:
        def monotonic(self):
            return getattr(opened, "seconds", 0.0)

    monkeypatch.setattr(stages, "time", Clock())
    report = derain(ListSource([gray_frame(9, 0)]), Opening(), ListSink())
    assert report.open_s == 1000 and set(report.stage_s.values()) == {0.0}
    assert list(report.stage_s) == ["decode", "align", "derain", "encode"]


def test_every_format_is_opened_before_its_first_frame_even_where_all_pass():
    small = replace(
        gray_frame(1, 1), planes=(np.zeros((2, 3), np.uint8),), format=PlaneFormat("gray", 3, 2)
    )
    engine = OffsetEngine()
    source = ListSource([gray_frame(1, 0), small])
    report = derain(source, engine, ListSink(), untouched=lambda frame: True)
    assert len(report.engines) == 2 and not engine.submitted


@pytest.mark.parametrize("threads", [1, 3])
def test_frames_come_in_order_however_many_threads_align_them(threads):
    rng = np.random.default_rng(0)
    fmt = PlaneFormat("gray", 48, 32, full_range=True)
    scene = rng.integers(0, 256, (32, 96), np.uint8)
    frames = [
        Frame((np.ascontiguousarray(scene[:, i : 48 + i]),), fmt, pts=i, time_base=Fraction(1, 25))
        for i in range(9)
    ]
    items = [item for frame in frames for item in (frame, packet(frame.pts))]
    engine, sink = OffsetEngine(0.0), ListSink()
    engine.frames = 3
    derain(ListSource(items), engine, sink, options=RunOptions(align_threads=threads))
    assert [type(item) for item in sink.items] == [type(item) for item in items]
    for item, made in zip(frames, sink.items[::2], strict=True):
        assert made.pts == item.pts and np.array_equal(made.planes[0], item.planes[0])
    assert len(engine.submitted) == 9


def test_an_error_in_a_thread_that_aligns_aborts_the_run_and_leaves_no_thread(monkeypatch):
    def broken(clip):
        raise ZeroDivisionError("broken")

    monkeypatch.setattr("vderain.clips.aligned_clip", broken)
    engine, sink, before = OffsetEngine(), ListSink(), set(threading.enumerate())
    engine.frames = 3
    source = ListSource([gray_frame(9, i) for i in range(50)])
    with pytest.raises(ZeroDivisionError, match="broken"):
        derain(source, engine, sink, options=RunOptions(align_threads=3))
    assert sink.state == "aborted" and set(threading.enumerate()) == before


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (8, 4), (64, 8)])
def test_half_of_the_cores_align_unless_the_user_says_otherwise(cores, threads, monkeypatch):
    monkeypatch.setattr(pipeline, "usable_cores", lambda: cores)
    assert align_threads(RunOptions()) == threads
    assert align_threads(RunOptions(align_threads=5)) == 5
