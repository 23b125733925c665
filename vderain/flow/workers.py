"""Threads that share the work of one stage."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from vderain.flow.stages import StageClock

Item = TypeVar("Item")
Job = TypeVar("Job")
Made = TypeVar("Made")


class Workers:
    """Runs jobs in ``threads`` threads; with 1, in the calling thread.

    Args:
        threads: how many jobs are done at once.
        clock: the stage's. It gets the time of all jobs together, divided by ``threads``, not the time for
            which the stage waits.

    """

    def __init__(self, threads: int = 1, clock: StageClock | None = None) -> None:
        self._threads = threads
        self._clock = clock or StageClock()

    def in_order(
        self, pairs: Iterable[tuple[Item, Job | None]], work: Callable[[Job], Made]
    ) -> Generator[tuple[Item, Made | None], None, None]:
        """Each item with what ``work`` makes of its job, in the order of ``pairs``; None for an item without a job.

        At most ``threads`` jobs are under way or done ahead of the consumer. An exception of ``work`` is raised
        where its item would come. Jobs that are under way end before the generator does.
        """
        if self._threads == 1:
            for item, job in pairs:
                yield item, None if job is None else work(job)
            return
        with ThreadPoolExecutor(self._threads, thread_name_prefix="vderain-worker") as pool:
            waiting: deque[tuple[Item, Future[tuple[Made, float]] | None]] = deque()
            under_way = 0
            try:
                for item, job in pairs:
                    waiting.append((item, None if job is None else pool.submit(_timed, work, job)))
                    under_way += job is not None
                    while waiting and (waiting[0][1] is None or under_way >= self._threads):
                        first, future = waiting.popleft()
                        under_way -= future is not None
                        yield first, self._made(future)
                while waiting:
                    first, future = waiting.popleft()
                    yield first, self._made(future)
            finally:
                for _, future in waiting:
                    if future is not None:
                        future.cancel()

    def _made(self, future: Future[tuple[Made, float]] | None) -> Made | None:
        if future is None:
            return None
        with self._clock.waiting():
            made, taken_s = future.result()
        self._clock.add(taken_s / self._threads)
        return made


def _timed(work: Callable[[Job], Made], job: Job) -> tuple[Made, float]:
    since_s = time.monotonic()
    made = work(job)
    return made, time.monotonic() - since_s
