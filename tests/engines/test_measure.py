"""How rates are measured, and the matrix product that engines are held against."""

from fractions import Fraction

import pytest
import torch

from tests.fakes import OffsetEngine
from vderain.clips import Window
from vderain.engines import measure
from vderain.frames import PlaneFormat
from vderain.interfaces import StreamInfo


@pytest.mark.parametrize(("slots", "frames"), [(1, 2), (3, 7)])
def test_a_rate_is_measured_with_all_slots_in_flight(slots, frames):
    class Counting(OffsetEngine):
        most = 0

        def change(self, clip):
            answer = super().change(clip)
            self.most = max(self.most, len(self.submitted) - self.answered)
            return answer

    engine = Counting(slots=slots)
    assert measure.frames_per_s(engine, PlaneFormat("gray", 6, 4), frames=frames) > 0
    assert (len(engine.submitted), engine.answered) == (frames + 1, frames + 1)
    assert engine.most == slots


def test_an_engine_that_aligns_is_measured_with_clips_that_are_not_aligned():
    class Aligning(OffsetEngine):
        window, aligns = Window.of(5), True

    engine = Aligning(slots=3)
    measure.frames_per_s(engine, PlaneFormat("gray", 24, 20), frames=30)
    assert all(clip.unaligned is not None for clip in engine.submitted)
    # Frames are new to the engine, whose rows hold seven.
    shown = [clip.unaligned.frame.number for clip in engine.submitted]
    assert all(len({*shown[first : first + 8]}) == 8 for first in range(20))
    Aligning.aligns = False
    engine = Aligning()
    measure.frames_per_s(engine, PlaneFormat("gray", 24, 20))
    assert all(clip.unaligned is None for clip in engine.submitted)


@pytest.mark.parametrize(
    ("told", "frames"),
    [({"frames": 3, "duration_s": 9.0}, 3), ({"duration_s": 2.0}, 50), ({}, None)],
)
def test_the_length_in_frames_is_what_the_container_says(told, frames):
    info = StreamInfo("a.mp4", 6, 4, Fraction(1, 25), Fraction(25), **told)
    assert info.frames_expected == frames


@pytest.mark.parametrize("number", [0, 1])
def test_the_product_is_computed_and_waited_for_on_the_device_asked_for(monkeypatch, number):
    used, waited = [], []
    draw = torch.rand

    def rand(*shape, device):
        used.append(device)
        return draw(2, 2)

    monkeypatch.setattr(torch, "rand", rand)
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(measure, "_SECONDS", 0.001)
    device = torch.device("cuda", number)
    rate, precision = measure.matrix_peak_flop_per_s(device, "float32")
    assert rate > 0 and precision == "float32"
    assert set(used) == set(waited) == {device}


def test_a_cpu_has_no_product_in_float16(monkeypatch):
    monkeypatch.setattr(measure, "_SIDE", {"cpu": 64})
    monkeypatch.setattr(measure, "_SECONDS", 0.001)
    rate, precision = measure.matrix_peak_flop_per_s(torch.device("cpu"), "float16")
    assert rate > 0 and precision == "float32"
