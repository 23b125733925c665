"""A long clip, shortened: forty segments. ``benchmarks/archive.py hour`` runs a real hour."""

import gc
import os
from pathlib import Path

import pytest

from tests.batch.conftest import GOP, Killed
from tests.fakes import OffsetEngine
from vderain.batch.jobs import InProcess
from vderain.batch.workload import Workload

pytestmark = pytest.mark.slow

SIZE = (256, 144)
IN_SEGMENT = 2 * GOP  # frames: a third group would make it longer than a second
FRAMES = 40 * IN_SEGMENT
KILLED_AT = 6  # segments done
FRAME_S = 0.01


class Forgetting(OffsetEngine):
    """Holds no clip that it has answered."""

    def change(self, clip):
        self.submitted[: self.answered] = [None] * self.answered
        return super().change(clip)


class Watched(InProcess):
    """Every frame takes as long; notes time, share, time left and what the process holds; may die."""

    def __init__(self, engine, die_after=None):
        super().__init__(engine, self._progressed)
        self.now = 0.0
        self.workload = Workload(lambda: self.now)
        self.batch = None  # set by the rig
        self.told, self.held = [], []
        self.die_after = die_after

    def run(self, next_job):
        for number, outcome in enumerate(super().run(next_job)):
            self.held.append(holdings())
            if number == self.die_after:
                raise Killed
            yield outcome

    def _progressed(self, job, progress):
        self.now += FRAME_S
        self.batch.progressed(job, progress.frames)
        self.told.append((self.now, self.workload.share, self.workload.eta_s))


def holdings():
    gc.collect()
    statm, files = Path("/proc/self/statm"), Path("/proc/self/fd")
    if not statm.exists():
        pytest.skip("reads Linux's /proc")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, len(
        list(files.iterdir())
    )


def test_progress_time_left_and_memory_of_a_long_clip_are_right_also_after_a_kill(rig):
    rig.clip(frames=FRAMES, size=SIZE)
    killed, resumed = Watched(Forgetting(), die_after=KILLED_AT), Watched(Forgetting())
    with pytest.raises(Killed):
        rig.run(killed)
    assert len(rig.run(resumed).done) == 1
    # What the killed one had finished stays; the segment that it died in is made again.
    assert len(resumed.told) == FRAMES - KILLED_AT * IN_SEGMENT
    for worker, whole_s in ((killed, FRAMES * FRAME_S), (resumed, len(resumed.told) * FRAME_S)):
        settled = [told for told in worker.told if 0.05 <= told[0] / whole_s <= 0.95]
        for now_s, share, left_s in settled:
            assert share == pytest.approx(now_s / whole_s, rel=0.2)
            assert left_s == pytest.approx(whole_s - now_s, rel=0.2)
    (settled_mb, settled_files), (last_mb, last_files) = resumed.held[5], resumed.held[-1]
    between_mb = 1.5 * SIZE[0] * SIZE[1] * len(resumed.held[5:-1]) * IN_SEGMENT / 1e6
    assert last_mb - settled_mb < between_mb / 2, "frames, or what is made of them, are kept"
    assert last_files <= settled_files
