"""Counters of a camera: frames, drops by reason, latency, and how busy each stage is."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# Upper bounds in seconds: fine around the time of a frame, coarse above a second.
BUCKETS_S = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
_RECENT = 500  # latencies kept for the percentiles
_RATE_SPAN_S = 3.0


@dataclass(slots=True)
class Histogram:
    """Cumulative counts for Prometheus, and recent values for percentiles."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def add(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds
        self.recent.append(seconds)

    def percentile(self, share: float) -> float | None:
        """A quantile of the recent values; None before the first."""
        values = sorted(self.recent)
        return values[min(len(values) - 1, int(share * len(values)))] if values else None

    def quantile(self, share: float) -> float | None:
        """A quantile of all values: exact while all are recent, then interpolated within its bucket."""
        total = sum(self.counts)
        if total <= len(self.recent):
            return self.percentile(share)
        rank, low = share * total, 0.0
        for bound, count in zip(BUCKETS_S, self.counts, strict=False):
            if rank <= count:
                return low + (bound - low) * rank / count if count else low
            rank, low = rank - count, bound
        return low  # beyond the last bound


class CameraStats:
    """Counters of one camera, written by its threads and read by telemetry."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._times: dict[str, deque[float]] = {}
        self._frames: Counter[str] = Counter()
        self._drops: Counter[str] = Counter()
        self._busy_s: defaultdict[str, float] = defaultdict(float)
        self._latency: dict[str, Histogram] = {}
        self.started_s = clock()
        self.decode_errors = 0
        self.engine_failures = 0

    def frame(self, stage: str) -> None:
        """Count a frame that left a stage."""
        with self._lock:
            self._frames[stage] += 1
            self._times.setdefault(stage, deque(maxlen=1000)).append(self._clock())

    def dropped(self, reason: str, count: int = 1) -> None:
        """Count dropped frames, with the reason."""
        if count:
            with self._lock:
                self._drops[reason] += count

    def latency(self, stage: str, seconds: float) -> None:
        """Count the time of a frame: from capture to ``emit``, or in a stage."""
        with self._lock:
            self._latency.setdefault(stage, Histogram()).add(seconds)

    @contextmanager
    def busy(self, stage: str) -> Iterator[None]:
        """Count the time of the block as the stage's work."""
        since = self._clock()
        try:
            yield
        finally:
            with self._lock:
                self._busy_s[stage] += self._clock() - since

    def add_busy(self, stage: str, seconds: float) -> None:
        """Count work that was timed elsewhere."""
        with self._lock:
            self._busy_s[stage] += seconds

    def rate(self, stage: str) -> float:
        """Frames per second that left a stage during the last seconds."""
        with self._lock:
            now_s = self._clock()
            span_s = min(_RATE_SPAN_S, max(now_s - self.started_s, 1e-3))
            times = self._times.get(stage, ())
            return sum(now_s - time_s <= span_s for time_s in times) / span_s

    def snapshot(self) -> Snapshot:
        """A consistent copy of all counters."""
        with self._lock:
            elapsed_s = max(self._clock() - self.started_s, 1e-9)
            return Snapshot(
                dict(self._frames),
                dict(self._drops),
                {stage: busy / elapsed_s for stage, busy in self._busy_s.items()},
                {
                    stage: Histogram(list(h.counts), h.sum_s, deque(h.recent, maxlen=_RECENT))
                    for stage, h in self._latency.items()
                },
                self.decode_errors,
                self.engine_failures,
            )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters at one moment; ``busy`` is the share of the time since the start."""

    frames: dict[str, int]
    drops: dict[str, int]
    busy: dict[str, float]
    latency: dict[str, Histogram]
    decode_errors: int
    engine_failures: int
