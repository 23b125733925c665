"""Carries jobs out on the machines of a Ray cluster: one engine in each worker, which may die."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import socket
import uuid
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import vderain
from vderain.batch.jobs import Outcome, SegmentJob, attempt
from vderain.errors import OptionError, SinkError, VderainError
from vderain.interfaces import Engine
from vderain.options import EngineOptions

logger = logging.getLogger(__name__)

LOCAL, FOUND = (
    "local",
    "auto",
)  # addresses: a cluster of our own, and the one this machine is part of
DEFAULT_THREADS = 4
_QUEUED = 2  # jobs that a worker has: one in work, one so that it need not wait for us
_MAX_DEATHS = 3  # of workers on one segment, or in a row before they begin
_CONNECT_S = 5.0
_LOOK_S = 10.0  # how often to look for machines that have joined
_STORE_BYTES = 80_000_000  # jobs and records are small; Ray takes no less than 75 MB
_CPU_ENGINES = ("openvino", "reference")

EngineFactory = Callable[[EngineOptions], Engine]


@dataclass(slots=True)
class _Worker:
    """An actor, and what it was given; its ``opened`` is answered when it can begin."""

    actor: Any
    opened: Any
    is_open: bool = False
    jobs: dict[Any, SegmentJob] = field(
        default_factory=dict
    )  # by their reference, the first in work


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error as plain values: what is chained to an exception does not come through a pickle."""

    kind: type[Exception]
    args: tuple[Any, ...]
    errno: int | None = None  # of what lies behind it

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        if isinstance(error, OSError):
            return cls(OSError, (error.errno, error.strerror or str(error), error.filename))
        behind: BaseException | None = error
        while behind is not None and getattr(behind, "errno", None) is None:
            behind = behind.__cause__ or behind.__context__
        return cls(type(error), (str(error),), getattr(behind, "errno", None))

    def error(self) -> Exception:
        error = self.kind(*self.args)
        if self.errno is not None and not isinstance(error, OSError):
            error.__cause__ = OSError(self.errno, os.strerror(self.errno))
        return error


class RayExecutor:
    """Executor of workers on a Ray cluster: one on each GPU, or where there is none, on so many cores.

    The workers read sources and write segments themselves, by the same paths, so that all machines
    must share these folders. A worker that dies is replaced, and what it had goes to another.

    Args:
        options: for each worker's engine.
        address: ``local`` starts a cluster on this machine and ends it, ``auto`` finds the one that this
            machine is part of, HOST:PORT is that of a cluster's head.
        threads_per_worker: CPU cores of a worker.
        workers: at most so many; 0 takes what the cluster has.
        shared: a folder that all workers write to; a hidden file lies in it during a run.
        visible: other paths that every worker must see.
        open_engine: makes a worker's engine; comes through a pickle.

    Raises OptionError for what cannot be used, at once.

    """

    def __init__(
        self,
        options: EngineOptions,
        *,
        address: str = LOCAL,
        threads_per_worker: int = DEFAULT_THREADS,
        workers: int = 0,
        shared: Path | None = None,
        visible: Sequence[Path] = (),
        open_engine: EngineFactory | None = None,
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise OptionError("--ray needs the package ray: pip install 'vderain[ray]'")
        if threads_per_worker < 1 or workers < 0:
            raise OptionError(
                "--ray: a worker has at least one thread, and their number is not negative"
            )
        if options.device.lower().startswith("cuda:"):
            raise OptionError(
                f"--device {options.device}: the cluster hands out its GPUs itself; give --device cuda"
            )
        check_address(address)
        self._options, self._address = options, address
        self._threads, self._limit = threads_per_worker, workers
        self._shared, self._visible = shared, [path.absolute() for path in visible]
        self._open_engine = open_engine or _default_engine

    def run(self, next_job: Callable[[], SegmentJob | None]) -> Generator[Outcome, None, None]:
        """As Executor says.

        Raises OptionError where the cluster cannot be used, and what opening an engine raises.
        """
        with _cluster(self._address, self._threads, self._limit), self._marker() as marker:
            crew = _Crew(self._hire(marker), self._slots)
            try:
                yield from crew.run(next_job)
            finally:
                crew.dismiss()

    @contextmanager
    def _marker(self) -> Iterator[list[Path]]:
        """The paths to be seen by workers, with a new file, which no folder of the same name holds elsewhere."""
        if self._shared is None:
            yield self._visible
            return
        marker = self._shared.absolute() / f".ray-{uuid.uuid4().hex}"
        try:
            marker.touch()
            yield [marker, *self._visible]
        finally:
            with suppress(OSError):
                marker.unlink(missing_ok=True)

    def _slots(self) -> tuple[int, dict[str, float]]:
        """How many workers there should be now, and what each takes of its machine."""
        nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
        asked = self._options.device.lower()
        fits_gpu = asked in ("auto", "cuda") and self._options.engine not in _CPU_ENGINES
        gpus = [node for node in nodes if node.get("GPU", 0) >= 1] if fits_gpu else []
        if gpus:
            cores = min(node.get("CPU", 0) // node["GPU"] for node in gpus)
            needs = {"num_gpus": 1, "num_cpus": min(self._threads, cores)}
            found = sum(int(node["GPU"]) for node in gpus)
        elif asked == "cuda":
            raise OptionError("--device cuda: no machine of the cluster has a GPU")
        else:
            cores = min(self._threads, max((node.get("CPU", 0) for node in nodes), default=0))
            needs = {"num_gpus": 0, "num_cpus": max(1, int(cores))}
            found = sum(int(node.get("CPU", 0) // needs["num_cpus"]) for node in nodes)
        return (min(found, self._limit) if self._limit else found), needs

    def _hire(self, marker: list[Path]) -> Callable[[dict[str, float]], _Worker]:
        def hire(needs: dict[str, float]) -> _Worker:
            options = self._options
            if not needs["num_gpus"] and not options.threads:
                options = replace(options, threads=int(needs["num_cpus"]))
            remote = (
                _ray()
                .remote(_Remote)
                .options(**needs, scheduling_strategy="SPREAD", max_restarts=0, max_task_retries=0)
            )
            actor = remote.remote()
            opened = actor.open.remote(
                self._open_engine, options, [str(p) for p in marker], vderain.__version__
            )
            return _Worker(actor, opened)

        return hire


def check_address(address: str) -> None:
    """Raise OptionError for what is no address of a cluster."""
    host, colon, port = address.rpartition(":")
    if address in (LOCAL, FOUND) or (colon and host and "/" not in host and port.isdigit()):
        return
    raise OptionError(
        f"--ray {address}: is no address; give {LOCAL}, {FOUND} or HOST:PORT of the cluster's head"
    )


class _Crew:
    """The workers, and the jobs they have."""

    def __init__(
        self,
        hire: Callable[[dict[str, float]], _Worker],
        slots: Callable[[], tuple[int, dict[str, float]]],
    ) -> None:
        self._hire, self._slots = hire, slots
        self._workers: list[_Worker] = []
        self._returned: deque[SegmentJob] = deque()  # of workers that died
        self._deaths: Counter[tuple[int, int]] = Counter()
        self._early_deaths = 0

    def run(self, next_job: Callable[[], SegmentJob | None]) -> Iterator[Outcome]:
        first = next_job()  # where there is none, no worker need be started
        if first is None:
            return
        self._returned.append(first)
        self._staff()
        if not self._workers:
            raise OptionError("--ray: the cluster has no CPU cores to work on")
        while True:
            self._hand_out(next_job)
            if not self._returned and not any(worker.jobs for worker in self._workers):
                return
            waited = [w.opened for w in self._workers if not w.is_open]
            waited += [ref for worker in self._workers for ref in worker.jobs]
            ready, _ = _ray().wait(waited, num_returns=1, timeout=_LOOK_S)
            if not ready:
                self._staff()
            for ref in ready:
                yield from self._settle(ref)

    def dismiss(self) -> None:
        """End all workers, and with them what is in work."""
        for worker in self._workers:
            with suppress(Exception):  # the cluster may be gone
                _ray().kill(worker.actor)
        self._workers.clear()

    def _staff(self) -> None:
        """Hire as many workers as there is room for; those that find none yet wait for it."""
        wanted, needs = self._slots()
        while len(self._workers) < wanted:
            self._workers.append(self._hire(needs))

    def _hand_out(self, next_job: Callable[[], SegmentJob | None]) -> None:
        """Give every worker a job, and then every one a second."""
        for depth in range(_QUEUED):
            for worker in self._workers:
                if worker.is_open and len(worker.jobs) == depth:
                    job = self._returned.popleft() if self._returned else next_job()
                    if job is None:
                        self._level()
                        return
                    worker.jobs[worker.actor.derain.remote(job)] = job

    def _level(self) -> None:
        """Take a job that waits behind another back, for each worker that has none."""
        idle = sum(worker.is_open and not worker.jobs for worker in self._workers)
        for worker in self._workers:
            if idle and len(worker.jobs) > 1:
                _ray().cancel(list(worker.jobs)[-1])
                idle -= 1

    def _settle(self, ref: Any) -> Iterator[Outcome]:
        from ray.exceptions import RayError, RayTaskError, TaskCancelledError

        worker = next((w for w in self._workers if ref in w.jobs or ref == w.opened), None)
        if worker is None:
            return
        try:
            answer = _ray().get(ref)
        except TaskCancelledError:
            self._returned.append(worker.jobs.pop(ref))
            return
        except RayTaskError:
            raise  # an error in the program; InProcess would not hide it either
        except RayError as error:
            yield from self._bury(worker, str(error))
            return
        if ref == worker.opened:
            if answer is not None:
                raise answer.error()
            worker.is_open, self._early_deaths = True, 0
            return
        job = worker.jobs.pop(ref)
        record, failure = answer
        yield Outcome(job, record, None if failure is None else failure.error())

    def _bury(self, worker: _Worker, reason: str) -> Iterator[Outcome]:
        """Replace a worker that died; a segment on which several did is not tried again."""
        logger.warning("a worker died%s", f" on {_name(worker)}" if worker.jobs else "")
        self._workers.remove(worker)
        with suppress(Exception):
            _ray().kill(worker.actor)
        jobs = list(worker.jobs.values())
        if not worker.is_open:
            self._early_deaths += 1
            if self._early_deaths >= _MAX_DEATHS:
                raise VderainError(f"--ray: the workers die before they begin: {_short(reason)}")
        if jobs:
            job = jobs.pop(0)
            key = (job.clip, job.number)
            self._deaths[key] += 1
            if self._deaths[key] < _MAX_DEATHS:
                self._returned.append(job)
            else:
                del self._deaths[key]
                yield Outcome(
                    job,
                    error=VderainError(
                        f"{job.source}: {_MAX_DEATHS} workers died on segment {job.number};"
                        " often there is too little memory for so many workers"
                        f" ({_short(reason)})"
                    ),
                )
        self._returned.extend(jobs)
        self._staff()


class _Remote:
    """What runs in a worker."""

    def open(
        self, factory: EngineFactory, options: EngineOptions, paths: list[str], version: str
    ) -> _Failure | None:
        """Look whether work is possible here, and make the engine."""
        machine = socket.gethostname()
        if vderain.__version__ != version:
            return _Failure(
                OptionError, (f"{machine}: has vderain {vderain.__version__}, not {version}",)
            )
        for path in paths:
            if not os.path.exists(path):
                shown = os.path.dirname(path) if "/.ray-" in path else path
                why = f"{shown}: is not seen on {machine}; all machines must share it by this path"
                return _Failure(SinkError, (why,))
        try:
            self._engine = factory(options)
        except (VderainError, OSError) as error:
            return _Failure.of(error)
        return None

    def derain(self, job: SegmentJob) -> tuple[dict[str, Any] | None, _Failure | None]:
        """A record, or why there is none."""
        outcome = attempt(job, self._engine)
        return outcome.record, None if outcome.error is None else _Failure.of(outcome.error)


@contextmanager
def _cluster(address: str, threads: int, workers: int) -> Iterator[None]:
    """Be connected to a cluster; one of our own ends with it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is sent anywhere
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        # Its ports are open to the network; without this anybody there could run programs.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        quiet |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
        if workers:
            quiet["num_cpus"] = min(workers * threads, max(workers, os.cpu_count() or 1))
    elif address != FOUND:
        host, _, port = address.rpartition(":")
        try:  # Ray itself would try for minutes
            with closing(socket.create_connection((host, int(port)), timeout=_CONNECT_S)):
                pass
        except (OSError, OverflowError) as error:
            raise OptionError(
                f"--ray {address}: no cluster answers there ({error}); start one with: ray start --head"
            ) from None
    ray = _ray()
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise OptionError(
            f"--ray {address}: no cluster can be used ({_short(str(error))})"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _ray() -> Any:
    import ray  # takes seconds, and is not installed everywhere

    return ray


def _default_engine(options: EngineOptions) -> Engine:
    from vderain.engines import open_engine

    return open_engine(options)


def _name(worker: _Worker) -> str:
    job = next(iter(worker.jobs.values()))
    return f"segment {job.number} of {job.source}; another takes it"


def _short(reason: str) -> str:
    """The first line that says something; Ray tells much."""
    return next((line.strip() for line in reason.splitlines() if line.strip()), "no reason given")
