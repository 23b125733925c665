"""Clusters of two small workers on this machine."""

import errno
import os
import re
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import vderain
from tests.batch.conftest import Rig
from tests.media.synth import STEP, payloads, times, write
from vderain.batch.jobs import InProcess, SegmentJob
from vderain.batch.ray.cluster import LOCAL, check_address, check_connection, connected, ray_module
from vderain.batch.ray.executor import RayExecutor
from vderain.batch.ray.worker import Failure, Worker, open_default
from vderain.engines import open_engine
from vderain.errors import EngineLoadError, OptionError, SinkError, SourceError, VderainError
from vderain.options import EngineOptions
from vderain.weights import find_weights

pytestmark = pytest.mark.slow

ONE = EngineOptions(threads=1)
FRAMES = 5  # of a segment


def jobs_for(folder, name, count):
    (folder / name).mkdir()
    source = write(folder / "clip.mkv", pts=tuple(n * STEP for n in range(count * FRAMES)))
    return [
        SegmentJob(1, n, Path(source), folder / name / f"{n}.nut",
                   n * FRAMES * 40, (n + 1) * FRAMES * 40, FRAMES)
        for n in range(count)
    ]  # fmt: skip


def carry_out(executor, jobs):
    waiting = list(jobs)
    with closing(executor.run(lambda: waiting.pop(0) if waiting else None)) as outcomes:
        return {outcome.job.number: outcome for outcome in outcomes}


@pytest.fixture(scope="module")
def cluster():
    """Takes long to start, so that tests share it; its address."""
    ray = ray_module(LOCAL)
    with connected(LOCAL, cores=2):
        yield ray.get_runtime_context().gcs_address


def executor(factory=None, workers=2, **changes):
    given = {} if factory is None else {"open_engine": factory}
    return RayExecutor(ONE, workers=workers, **given, **changes)


def darkening(marks=None, deaths=0, slow_s=0.0, first_waits_in=None):
    """A factory of engines; their processes are killed at the third frame until so many marks lie in a folder."""

    def factory(options):
        import signal
        import time

        import numpy as np

        from vderain.clips import Window
        from vderain.flow.future import Future
        from vderain.interfaces import EngineSpec
        from vderain.network.change.apply import apply_change

        class Darkening:
            slots, window, seen = 1, Window(), 0

            def open(self, fmt):
                return EngineSpec("offset", "float32", "cpu", "fast")

            def submit(self, clip, *, strength=1.0, on_device=False):
                time.sleep(slow_s)
                if self.seen == 0 and first_waits_in is not None:
                    self.wait()
                self.seen += 1
                if self.seen == 3 and marks is not None and len(os.listdir(marks)) < deaths:
                    open(os.path.join(marks, str(os.getpid())), "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
                change = tuple(np.full(p.shape, -9, np.float32) for p in clip.planes)
                return Future(lambda: apply_change(clip.planes, change, clip.format))

            def wait(self):
                try:
                    (first_waits_in / "first").touch(exist_ok=False)
                except FileExistsError:
                    return
                until = time.monotonic() + 20
                while len([*first_waits_in.glob("[0-9].nut")]) < 3 and time.monotonic() < until:
                    time.sleep(0.05)

            def close(self):
                pass

        return Darkening()

    return factory


@pytest.fixture
def marks(tmp_path):
    folder = tmp_path / "deaths"
    folder.mkdir()
    return folder


def assert_same(got, expected):
    """Frames, their times and the sound, packet by packet."""
    assert times(got) == times(expected)
    for track in (0, 1):
        assert payloads(got, track) == payloads(expected, track)


# In widths that are no multiple of 128, x264 reads beyond its memory, and its bytes are left to chance.
def test_a_batch_is_the_same_when_a_worker_is_killed_in_the_middle(
    cluster, tmp_path, marks, capfd, monkeypatch
):
    # A segment is done before it is asked how far it is, on a machine that has nothing else to do.
    monkeypatch.setattr("vderain.batch.ray.executor._ASK_S", 0.2)
    rigs = [Rig(tmp_path / name) for name in ("alone", "spread")]
    for rig in rigs:
        for name in ("a.mp4", "b.mkv"):
            rig.clip(name, frames=60, size=(128, 96), languages=("eng",))
    said, told = [], []
    rigs[0].run(InProcess(darkening()(ONE)))
    crew = executor(
        darkening(marks, 1, 0.05),
        shared=rigs[1].target,
        on_notice=said.append,
        on_progress=lambda job, progress: told.append((job.clip, progress.frames)),
    )
    tally = rigs[1].run(crew)
    assert len(list(marks.iterdir())) == 1, "nobody was killed"
    assert (len(tally.done), tally.failed, tally.lossy) == (2, [], [])
    assert crew.deaths == 1 and len(said) == 1 and "another gets it" in said[0]
    for name in ("a.mp4", "b.mkv"):
        assert_same(rigs[1].target / name, rigs[0].target / name)
    notes = [note for row in rigs[1].rows().values() for note in row.record["notes"]]
    assert len([note for note in notes if "a worker died on segment" in note]) == 1
    assert {clip for clip, _ in told} == {1, 2}
    assert rigs[1].left_over() == []
    assert capfd.readouterr() == ("", ""), "Ray is to say nothing"


def test_a_segment_that_kills_every_worker_fails_alone(cluster, tmp_path, marks, monkeypatch):
    monkeypatch.chdir(tmp_path)  # relative paths are those of whoever gives the command
    (job,) = jobs_for(Path(), "out", 1)
    missing = SegmentJob(2, 1, Path("missing.mp4"), job.output, 0, 9, 9)
    found = carry_out(executor(darkening(marks, 99), workers=1), [job, missing])
    assert isinstance(found[0].error, VderainError) and "3 workers died" in str(found[0].error)
    assert len(list(marks.iterdir())) == 3
    assert isinstance(found[1].error, SourceError) and "missing.mp4" in str(found[1].error)


def test_at_the_end_no_job_waits_behind_another(cluster, tmp_path):
    jobs = jobs_for(tmp_path, "out", 4)
    found = carry_out(executor(darkening(first_waits_in=tmp_path / "out")), jobs)
    assert [found[n].record["frames"] for n in range(4)] == [FRAMES] * 4
    longest = max(found, key=lambda number: found[number].record["seconds"])
    assert list(found)[-1] == longest, "one waited behind it"


def test_a_worker_that_does_not_see_a_folder_says_so(cluster, tmp_path):
    jobs = jobs_for(tmp_path, "out", 1)
    with pytest.raises(SinkError, match="nowhere: is not seen on"):
        carry_out(executor(darkening(), workers=1, visible=[tmp_path / "nowhere"]), jobs)


def test_a_worker_that_cannot_run_the_engine_of_the_batch_says_so_before_the_work():
    pinned = EngineOptions(engine="reference", precision="float16")
    failure = Worker().open(open_default, pinned, [], vderain.__version__)
    assert failure.kind is EngineLoadError
    told = (
        f"{socket.gethostname()}: cannot run reference in float16: .*float32 only; .*another engine"
    )
    assert re.match(told, failure.args[0])
    able = EngineOptions(engine="reference")
    assert Worker().open(open_default, able, [], vderain.__version__) is None


def test_the_command_does_the_same_on_a_cluster_and_says_nothing_of_ray(cluster, tmp_path):
    rig = Rig(tmp_path)
    rig.clip("day/a.mp4", frames=30, size=(128, 96), languages=("eng",))
    (rig.source / "broken.mp4").write_bytes(b"no video" * 100)
    command = [sys.executable, "-m", "vderain", "batch", "in", "dry", f"--ray={cluster}"]
    command += ["--set", "threads=2", "--segment", "1", "--retries", "0", "--preset", "ultrafast"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3 and done.stdout == "", done.stderr
    assert "1 clip derained" in done.stderr and "1 set aside" in done.stderr
    assert "ray" not in done.stderr.lower().replace("vderain", "")
    assert "day/a.mp4" in (tmp_path / "dry" / "report.json").read_text()
    with closing(open_engine(EngineOptions(threads=2))) as engine:
        rig.run(InProcess(engine), margin=find_weights("fast")[1].config.frames - 1)
    assert_same(tmp_path / "dry" / "day/a.mp4", rig.target / "day/a.mp4")


def test_where_nobody_listens_is_one_clear_error():
    with pytest.raises(OptionError, match="no cluster responds"):
        executor(address="127.0.0.1:1")


def test_what_listens_but_is_no_cluster_is_given_up(monkeypatch, capfd):
    monkeypatch.setattr("vderain.batch.ray.cluster._REPLY_S", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(OptionError, match="nothing of Ray responds within 4 s"):
            check_connection(address)
    assert capfd.readouterr() == ("", "")


def test_nothing_to_do_needs_no_cluster():
    assert carry_out(executor(address="auto"), []) == {}


def test_a_full_disk_behind_an_error_is_still_known():
    error = SinkError("a.nut: cannot be written")
    error.__cause__ = OSError(errno.ENOSPC, "full")
    back = Failure.of(error).error()
    assert type(back) is SinkError and str(back) == str(error)
    assert back.__cause__.errno == errno.ENOSPC


def test_a_folder_given_as_the_address_is_an_error(tmp_path):
    command = [sys.executable, "-m", "vderain", "batch", "--ray", "dashcam", "dry"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "--ray=local" in done.stderr
    assert not (tmp_path / "dry").exists()


@pytest.mark.parametrize("text", ["dash/", "", "ray://head:10001", "head", "a:b"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(OptionError, match="is no address"):
        check_address(text)


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match=r"vderain\[ray\]"):
        RayExecutor(ONE)
