"""A cluster of two small workers on this machine."""

import errno
import os
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.media.synth import STEP, write
from vderain.batch.jobs import InProcess, SegmentJob
from vderain.batch.ray_executor import RayExecutor, _Failure, check_address
from vderain.engines import open_engine
from vderain.errors import OptionError, SinkError, SourceError, VderainError
from vderain.options import EngineOptions

ONE = EngineOptions(threads=1)
needs_ray = pytest.mark.skipif(
    __import__("importlib").util.find_spec("ray") is None, reason="ray is not installed"
)


def executor(factory=None, options=ONE, **changes):
    return RayExecutor(
        options, **{"threads_per_worker": 1, "workers": 2, "open_engine": factory, **changes}
    )


def jobs_for(folder, name, count=4, frames=5, source=None):
    (folder / name).mkdir()
    source = source or write(folder / "clip.mkv", pts=tuple(n * STEP for n in range(count * frames)))
    return [
        SegmentJob(1, n, Path(source), folder / name / f"{n}.nut",
                   n * frames * 40, (n + 1) * frames * 40, frames, dry=((-2, -1),))
        for n in range(count)
    ]  # fmt: skip


def carry_out(executor, jobs):
    waiting = list(jobs)
    with closing(executor.run(lambda: waiting.pop(0) if waiting else None)) as outcomes:
        return {outcome.job.number: outcome for outcome in outcomes}


def halving(flag=None, deaths=0):
    """A factory of engines; their processes are killed in the middle until so many marks lie in a folder."""

    def factory(options):
        import os
        import signal

        import numpy as np

        from vderain.interfaces import EngineSpec

        class Answer:
            def __init__(self, clip):
                self.clip = clip

            def result(self):
                return tuple(np.full(p.shape, -9, np.float32) for p in self.clip.center_planes)

        class Halving:
            slots, seen = 1, 0

            def spec_for(self, fmt):
                return EngineSpec("offset", "float32", "cpu", "fast")

            def submit(self, clip):
                self.seen += 1
                if self.seen == 3 and flag is not None and len(os.listdir(flag)) < deaths:
                    open(os.path.join(flag, str(os.getpid())), "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
                return Answer(clip)

            def close(self):
                pass

        return Halving()

    return factory


def contents(jobs):
    return [job.output.read_bytes() for job in jobs]


@needs_ray
def test_the_result_is_the_same_when_a_worker_is_killed_in_the_middle(tmp_path):
    flag = tmp_path / "deaths"
    flag.mkdir()
    alone = jobs_for(tmp_path, "alone")
    carry_out(InProcess(halving()(ONE)), alone)
    spread = jobs_for(tmp_path, "spread", source=alone[0].source)
    found = carry_out(executor(halving(flag, 1), shared=tmp_path), spread)
    assert len(os.listdir(flag)) == 1, "nobody was killed"
    assert [found[n].error for n in range(4)] == [None] * 4
    assert [found[n].record["frames"] for n in range(4)] == [5] * 4
    assert contents(spread) == contents(alone)
    assert not list(tmp_path.glob(".ray-*"))


@needs_ray
def test_the_fast_network_answers_the_same_on_a_worker(tmp_path):
    alone, spread = jobs_for(tmp_path, "alone", 2), None
    with closing(open_engine(ONE)) as engine:
        carry_out(InProcess(engine), alone)
    spread = jobs_for(tmp_path, "spread", 2, source=alone[0].source)
    carry_out(executor(), spread)
    assert contents(spread) == contents(alone)


@needs_ray
def test_a_segment_that_kills_every_worker_fails_and_errors_come_back(tmp_path):
    flag = tmp_path / "deaths"
    flag.mkdir()
    (job,) = jobs_for(tmp_path, "out", 1)
    outcome = carry_out(executor(halving(flag, 99), workers=1), [job])[0]
    assert isinstance(outcome.error, VderainError) and "3 workers died" in str(outcome.error)
    assert len(os.listdir(flag)) == 3


@needs_ray
def test_errors_come_back_and_the_others_go_on(tmp_path):
    good, bad = jobs_for(tmp_path, "out", 2)
    bad = SegmentJob(2, 1, tmp_path / "missing.mp4", bad.output, 0, 9, 9, dry=((-2, -1),))
    found = carry_out(executor(halving()), [bad, good])
    assert found[0].record["frames"] == 5
    assert isinstance(found[1].error, SourceError) and "missing.mp4" in str(found[1].error)


@needs_ray
def test_a_worker_that_does_not_see_a_folder_says_so(tmp_path):
    jobs = jobs_for(tmp_path, "out", 1)
    with pytest.raises(SinkError, match="nowhere: is not seen on"):
        carry_out(executor(halving(), workers=1, visible=[tmp_path / "nowhere"]), jobs)


@needs_ray
def test_no_cluster_is_one_clear_error(tmp_path):
    jobs = jobs_for(tmp_path, "out", 1)
    with pytest.raises(OptionError, match="no cluster answers"):
        carry_out(executor(address="127.0.0.1:1"), jobs)


def test_a_full_disk_behind_an_error_is_still_known():
    error = SinkError("a.nut: cannot be written")
    error.__cause__ = OSError(errno.ENOSPC, "full")
    back = _Failure.of(error).error()
    assert type(back) is SinkError and str(back) == str(error)
    assert back.__cause__.errno == errno.ENOSPC


@pytest.mark.parametrize("text", ["dash/", "", "ray://head:10001", "head", "a:b"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(OptionError, match="is no address"):
        check_address(text)


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match=r"vderain\[ray\]"):
        RayExecutor(ONE)
