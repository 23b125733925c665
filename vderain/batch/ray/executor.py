"""Derains jobs on the machines of a Ray cluster: one engine in each worker; workers may die."""

from __future__ import annotations

import logging
import os
import uuid
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import vderain
from vderain.batch.jobs import Outcome, SegmentJob
from vderain.batch.ray.cluster import LOCAL, check_address, connected, first_sentence, ray_module
from vderain.batch.ray.worker import MARKER, EngineFactory, Key, Worker, open_default
from vderain.errors import OptionError, VderainError
from vderain.options import EngineOptions
from vderain.pipeline import Progress

logger = logging.getLogger(__name__)

DEFAULT_THREADS = 4
_QUEUED = 2  # jobs of a worker: one in work, and the next one, so that the worker does not wait
_MAX_DEATHS = 3  # of workers on one segment, or in a row before they start
_ASK_S = 2.0  # between requests of progress, and between searches for new machines
_PATIENCE_S = 30.0  # before a notice that the cluster has no room
_ASKING = "ask"  # concurrency group of calls that a worker serves while it derains
_CPU_ENGINES = ("openvino", "reference")

OnProgress = Callable[[SegmentJob, Progress], None]


@dataclass(slots=True)
class _WorkerHandle:
    """A worker and its jobs; ``opened`` completes when its engine is open."""

    actor: Any
    opened: Any
    is_open: bool = False
    jobs: dict[Any, SegmentJob] = field(default_factory=dict)  # by their reference, in order
    at: tuple[Key, Progress] | None = None  # the segment in work

    @property
    def frames_per_s(self) -> float:
        return self.at[1].frames_per_s if self.at is not None and self.jobs else 0.0


class RayExecutor:
    """Executor with workers on a Ray cluster: one for each GPU, or without GPUs one for several cores.

    Workers read sources and write segments themselves, under the same paths, so all machines must share these
    folders. A worker that dies is replaced, and another worker gets its jobs.

    Args:
        options: for each worker's engine; ``threads`` is the number of cores of a worker, 0 for DEFAULT_THREADS.
        address: ``local`` starts a cluster on this machine and ends it; ``auto`` finds the cluster that this
        machine is part of; HOST:PORT is the address of a cluster's head.
        workers: the largest number of workers; 0 uses the whole cluster.
        shared: a folder that all workers write to; it holds a hidden file during a run.
        visible: other paths that every worker must be able to read.
        open_engine: makes a worker's engine; is pickled.
        on_progress: is called with the progress of a segment and the frame rate of all workers together.
        on_notice: is called with a text when workers die, and while the cluster has no room.

    Raises OptionError at once for options that cannot be used.

    Attributes:
        deaths: workers that died so far.

    """

    def __init__(
        self,
        options: EngineOptions,
        *,
        address: str = LOCAL,
        workers: int = 0,
        shared: Path | None = None,
        visible: Sequence[Path] = (),
        open_engine: EngineFactory = open_default,
        on_progress: OnProgress | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        ray_module(address)
        if options.device.lower().startswith("cuda:"):
            raise OptionError(
                f"device={options.device!r}: the cluster assigns its GPUs itself; give device='cuda'"
            )
        check_address(address)
        self._visible = [path.absolute() for path in visible]
        if options.weights is not None:
            options = replace(options, weights=str(Path(options.weights).absolute()))
            self._visible.append(Path(str(options.weights)))
        self._options, self._address, self._limit = options, address, workers
        self._threads = options.threads or DEFAULT_THREADS
        self._shared, self._open_engine = shared, open_engine
        self._on_progress = on_progress or (lambda job, progress: None)
        self._on_notice = on_notice or logger.warning
        self.deaths = 0

    def run(self, next_job: Callable[[], SegmentJob | None]) -> Generator[Outcome, None, None]:
        """As Executor says.

        Raises OptionError where the cluster cannot be used, and what opening an engine raises.
        """
        first = next_job()  # without a job, no cluster is needed
        if first is None:
            return
        with connected(self._address, self._cores()), self._marker() as paths:
            group = _WorkerGroup(
                self._starter(paths), self._slots, self._on_progress, self._on_notice
            )
            try:
                yield from group.run(first, next_job)
            finally:
                self.deaths += group.deaths
                group.end()

    def _cores(self) -> int | None:
        """Cores of a new local cluster; None for all."""
        if not self._limit:
            return None
        return min(self._limit * self._threads, max(self._limit, os.cpu_count() or 1))

    @contextmanager
    def _marker(self) -> Iterator[list[Path]]:
        """Paths that workers must see, with a new file: another machine's folder of the same name lacks it."""
        if self._shared is None:
            yield self._visible
            return
        marker = self._shared.absolute() / f"{MARKER}{uuid.uuid4().hex}"
        try:
            marker.touch()
            yield [marker, *self._visible]
        finally:
            with suppress(OSError):
                marker.unlink(missing_ok=True)

    def _slots(self) -> tuple[int, dict[str, float]]:
        """How many workers there should be now, and the resources of each."""
        nodes = [node["Resources"] for node in ray_module().nodes() if node["Alive"]]
        asked = self._options.device.lower()
        fits_gpu = asked in ("auto", "cuda") and self._options.engine not in _CPU_ENGINES
        gpus = [node for node in nodes if node.get("GPU", 0) >= 1] if fits_gpu else []
        if gpus:
            cores = min(node.get("CPU", 0) // node["GPU"] for node in gpus)
            needs = {"num_gpus": 1, "num_cpus": min(self._threads, cores)}
            found = sum(int(node["GPU"]) for node in gpus)
        elif asked == "cuda":
            raise OptionError("device='cuda': no machine of the cluster has a GPU")
        else:
            cores = min(self._threads, max((node.get("CPU", 0) for node in nodes), default=0))
            needs = {"num_gpus": 0, "num_cpus": max(1, int(cores))}
            found = sum(int(node.get("CPU", 0) // needs["num_cpus"]) for node in nodes)
        return (min(found, self._limit) if self._limit else found), needs

    def _starter(self, paths: list[Path]) -> Callable[[dict[str, float]], _WorkerHandle]:
        def start_worker(needs: dict[str, float]) -> _WorkerHandle:
            options = self._options
            if not needs["num_gpus"]:
                options = replace(options, threads=int(needs["num_cpus"]))
            remote = ray_module().remote(
                **needs,
                scheduling_strategy="SPREAD",
                max_restarts=0,
                max_task_retries=0,
                concurrency_groups={_ASKING: 1},
            )
            actor = remote(Worker).remote()
            opened = actor.open.remote(self._open_engine, options, paths, vderain.__version__)
            return _WorkerHandle(actor, opened)

        return start_worker


class _WorkerGroup:
    """All workers, and who has which job."""

    def __init__(
        self,
        start_worker: Callable[[dict[str, float]], _WorkerHandle],
        slots: Callable[[], tuple[int, dict[str, float]]],
        on_progress: OnProgress,
        on_notice: Callable[[str], None],
    ) -> None:
        self._starter, self._slots = start_worker, slots
        self._on_progress, self._on_notice = on_progress, on_notice
        self.deaths = 0
        self._handles: list[_WorkerHandle] = []
        self._returned: deque[SegmentJob] = deque()  # of workers that died
        self._deaths: Counter[Key] = Counter()
        self._early_deaths = 0

    def run(
        self, first: SegmentJob, next_job: Callable[[], SegmentJob | None]
    ) -> Iterator[Outcome]:
        """Yield the outcomes of the jobs as they arrive."""
        self._returned.append(first)
        self._start_workers()
        if not self._handles:
            raise OptionError("the Ray cluster has no CPU cores to work on")
        waits = 0
        while True:
            self._distribute(next_job)
            if not self._returned and not any(handle.jobs for handle in self._handles):
                return
            waited = [handle.opened for handle in self._handles if not handle.is_open]
            waited += [ref for handle in self._handles for ref in handle.jobs]
            ready, _ = ray_module().wait(waited, num_returns=1, timeout=_ASK_S)
            for ref in ready:
                yield from self._settle(ref)
            if not ready:
                self._start_workers()
                self._ask_progress()
                waits += not any(handle.is_open for handle in self._handles)
                if waits * _ASK_S == _PATIENCE_S:
                    self._on_notice(
                        "the cluster has no room for a worker yet, or they begin slowly"
                    )

    def end(self) -> None:
        """End all workers and their jobs."""
        for handle in self._handles:
            with suppress(Exception):  # the cluster may be gone
                ray_module().kill(handle.actor)
        self._handles.clear()

    def _start_workers(self) -> None:
        """Start as many workers as there is room for; those without room wait for it."""
        wanted, needs = self._slots()
        while len(self._handles) < wanted:
            self._handles.append(self._starter(needs))

    def _distribute(self, next_job: Callable[[], SegmentJob | None]) -> None:
        """Give every worker a job, then every worker a second one."""
        for depth in range(_QUEUED):
            for handle in self._handles:
                if handle.is_open and len(handle.jobs) == depth:
                    job = self._returned.popleft() if self._returned else next_job()
                    if job is None and depth == 0:
                        job = self._taken_back()
                    if job is None:
                        return
                    handle.jobs[handle.actor.derain.remote(_with_absolute_paths(job))] = job

    def _taken_back(self) -> SegmentJob | None:
        """A job that waits behind another one, for a worker without a job."""
        ray = ray_module()
        for handle in [handle for handle in self._handles if len(handle.jobs) > 1]:
            ref, job = list(handle.jobs.items())[-1]
            ask = handle.actor.release.options(concurrency_group=_ASKING)
            with suppress(ray.exceptions.RayError):  # the result of the job shows a death too
                if ray.get(ask.remote((job.clip, job.number)), timeout=_ASK_S):
                    del handle.jobs[ref]
                    return job
        return None

    def _ask_progress(self) -> None:
        """Ask all workers for their progress, and report it."""
        ray = ray_module()
        busy = [handle for handle in self._handles if handle.jobs]
        replies = {
            handle.actor.progress.options(concurrency_group=_ASKING).remote(): handle
            for handle in busy
        }
        if not replies:
            return
        for ref in ray.wait([*replies], num_returns=len(replies), timeout=_ASK_S)[0]:
            with suppress(ray.exceptions.RayError):  # the result of the job shows a death too
                replies[ref].at = ray.get(ref)
        rate = sum(handle.frames_per_s for handle in self._handles)
        for handle in busy:
            for job in handle.jobs.values():
                if handle.at is not None and handle.at[0] == (job.clip, job.number):
                    self._on_progress(job, replace(handle.at[1], frames_per_s=rate))

    def _settle(self, ref: Any) -> Iterator[Outcome]:
        """Handle the reply to a job."""
        from ray.exceptions import RayError, RayTaskError

        handle = next((h for h in self._handles if ref in h.jobs or ref == h.opened), None)
        if handle is None:
            return
        try:
            reply = ray_module().get(ref)
        except RayTaskError:
            raise  # an error of the program; InProcess raises it too
        except RayError as error:
            yield from self._replace_dead(handle, first_sentence(str(error)))
            return
        if ref == handle.opened:
            if reply is not None:
                raise reply.error()
            handle.is_open, self._early_deaths = True, 0
            return
        job = handle.jobs.pop(ref)
        if reply == (None, None):  # it was released, and the reply to that was lost
            self._returned.append(job)
        else:
            yield self._outcome(handle, job, *reply)

    def _outcome(
        self, handle: _WorkerHandle, job: SegmentJob, record: Any, failure: Any
    ) -> Outcome:
        if failure is not None:
            return Outcome(job, error=failure.error())
        died = self._deaths.pop((job.clip, job.number), 0)
        if died:
            record["notes"].append(
                f"{_workers(died)} died on segment {job.number}; another derained it"
            )
        if handle.at is not None:
            rate = sum(each.frames_per_s for each in self._handles) or handle.at[1].frames_per_s
            done = replace(handle.at[1], frames=record["frames"], frames_per_s=rate)
            self._on_progress(job, done)
        return Outcome(job, record)

    def _replace_dead(self, handle: _WorkerHandle, reason: str) -> Iterator[Outcome]:
        """Replace a worker that died; a segment on which several died is not tried again."""
        self.deaths += 1
        self._handles.remove(handle)
        with suppress(Exception):
            ray_module().kill(handle.actor)
        jobs = list(handle.jobs.values())
        if not handle.is_open:
            self._early_deaths += 1
            if self._early_deaths >= _MAX_DEATHS:
                raise VderainError(
                    f"the workers of the Ray cluster die before they begin: {reason}"
                )
        if jobs:
            yield from self._job_lost(jobs.pop(0), reason)
        else:
            self._on_notice("a worker died before it began; another replaces it")
        self._returned.extend(jobs)
        self._start_workers()

    def _job_lost(self, job: SegmentJob, reason: str) -> Iterator[Outcome]:
        """Handle a worker's death on a segment."""
        where = f"segment {job.number} of {job.source}"
        key = (job.clip, job.number)
        self._deaths[key] += 1
        if self._deaths[key] < _MAX_DEATHS:
            self._on_notice(f"a worker died on {where}; another gets it")
            self._returned.append(job)
            return
        died = _workers(self._deaths.pop(key))
        self._on_notice(f"a worker died on {where}, as {_workers(_MAX_DEATHS - 1)} did before")
        why = "often there is too little memory for so many workers"
        text = f"{job.source}: {died} died on segment {job.number}; {why} ({reason})"
        yield Outcome(job, error=VderainError(text))


def _with_absolute_paths(job: SegmentJob) -> SegmentJob:
    """The job with absolute paths."""
    return replace(job, source=job.source.absolute(), output=job.output.absolute())


def _workers(count: int) -> str:
    return "a worker" if count == 1 else f"{count} workers"
