"""Clips through a batch whose dry parts stay as they are."""

from dataclasses import replace

import numpy as np
import pytest

from tests.batch.conftest import GOP, Killed
from tests.batch.test_derain_clips import KillAfter, frames_of
from tests.media.synth import times
from vderain.batch.options import Settings
from vderain.batch.rain.spans import Gated
from vderain.media.edit.inspect import inspect


class DryAt:
    """Gating that finds some GOPs dry."""

    def __init__(self, *numbers):
        self.numbers = numbers

    def inspect(self, path):
        known = inspect(path)
        index = known.index
        dry = [number in self.numbers for number in range(len(index.gops))]
        spans = tuple((g.start_pts, g.end_pts) for g, d in zip(index.gops, dry, strict=True) if d)
        return known, Gated(spans, dry)


def gated(rig, gate):
    batch = replace(rig.settings.batch, gate=gate)
    return Settings(batch, rig.settings.run, rig.settings.engine, rig.settings.encode)


def test_dry_groups_are_copied_bit_by_bit(rig):
    source = rig.clip(frames=60)
    rig.settings, rig.gating = gated(rig, "smart-copy"), DryAt(0, 1, 4, 5)
    tally = rig.run()
    row = rig.rows()["a.mp4"]
    assert tally.done == [row.id] and row.record["frames_copied"] == 40
    before, after = frames_of(source), frames_of(rig.target / "a.mp4")
    assert len(after) == 60 and times(rig.target / "a.mp4") == times(source)
    for index in (0, 19, 40, 59):
        assert np.array_equal(before[index], after[index])
    assert np.mean(before[30].astype(int) - after[30]) == pytest.approx(5, abs=0.5)


def test_a_resumed_clip_is_reported_only_where_some_of_it_was_derained_before(rig):
    rig.clip(frames=60)
    rig.settings, rig.gating = gated(rig, "smart-copy"), DryAt(0, 4)
    with pytest.raises(Killed):
        rig.run(KillAfter(rig.engine, 1))
    assert rig.events == []
    rig.run()
    assert rig.events[0] == ("a.mp4", "resumes: 1 of 3 segments are done")


def test_dry_frames_are_encoded_as_they_are(rig):
    source = rig.clip(frames=30)
    encode = replace(rig.settings.encode, codec="ffv1", preset=None)
    rig.settings, rig.gating = replace(gated(rig, "frames"), encode=encode), DryAt(1)
    rig.run()
    before, after = frames_of(source), frames_of(rig.target / "a.mp4.mkv")
    changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert changed == [True] * GOP + [False] * GOP + [True] * GOP


def test_why_nothing_is_copied_is_recorded(rig):
    rig.clip(frames=20, codec="libx265", options={"preset": "ultrafast"})
    rig.settings, rig.gating = gated(rig, "smart-copy"), DryAt(0, 1)
    rig.run()
    record = rig.rows()["a.mp4"].record
    assert record["frames_copied"] == 0 and "codec='hevc'" in record["not_copied"]


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"g": "10", "bf": "2", "x264-params": "open-gop=1:scenecut=0"}),
        ("libx265", {"x265-params": "keyint=9:bframes=2:b-adapt=0:log-level=none"}),
    ],
)
def test_that_nothing_is_copied_of_open_groups_is_recorded_where_some_are_dry(rig, codec, options):
    rig.clip("a.mp4", frames=60, codec=codec, options=options)
    encode = replace(rig.settings.encode, codec="h264" if codec == "libx264" else "hevc")
    rig.settings = replace(gated(rig, "smart-copy"), encode=encode)
    for numbers, is_told in (((1, 2, 3), True), ((), False)):
        rig.gating = DryAt(*numbers)
        rig.run()
        record = rig.rows()["a.mp4"].record
        assert record["frames_copied"] == 0
        assert ("GOPs are open" in record["not_copied"]) == is_told
        (rig.target / "a.mp4").unlink()
