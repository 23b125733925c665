"""The states of a connection and its delays; clock and random numbers are arguments."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

logger = logging.getLogger(__name__)


class State(StrEnum):
    """The state of a camera or an output."""

    CONNECTING = "connecting"
    RUNNING = "running"
    STALLED = "stalled"  # connected, but silent
    BACKOFF = "backoff"  # waits for the next attempt
    ENDED = "ended"  # stopped, or at the end of a file
    FAILED = "failed"  # given up


FINAL = (State.ENDED, State.FAILED)
_HELD_S = 1.0  # between two calls of ``tick``, which are usually a quarter of a second apart


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """Delays between attempts: 0 ``tries`` means forever; delays vary by ``jitter``, so that cameras spread."""

    first_s: float = 1.0
    max_s: float = 5.0
    jitter: float = 0.2
    healthy_s: float = 60.0
    tries: int = 0
    login_tries: int = 3


class Backoff:
    """Delays that double from ``first_s`` to ``max_s``, each with jitter."""

    def __init__(self, options: RetryOptions, rng: random.Random | None = None) -> None:
        self._options = options
        self._rng = rng or random.Random()
        self.failures = 0

    def next_delay_s(self) -> float:
        """The time to wait before the next attempt."""
        options = self._options
        # The exponent is bounded: after days of failures 2**n would exceed a float.
        delay_s = min(options.max_s, options.first_s * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return delay_s * (1 + options.jitter * self._rng.uniform(-1, 1))

    def reset(self) -> None:
        """Start again with the shortest delay."""
        self.failures = 0


class Connection:
    """The state of one connection; safe to use from several threads.

    Args:
        name: for the log.
        retry: delays, and the number of attempts.
        stall_s: RUNNING becomes STALLED after this many seconds of silence.
        clock: monotonic seconds.
        rng: random numbers for the delays.
        what: the log's field for the name, ``camera`` or ``output``.

    """

    def __init__(
        self,
        name: str,
        retry: RetryOptions,
        *,
        stall_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        what: str = "camera",
    ) -> None:
        self._name = name
        self._what = what
        self._retry = retry
        self._stall_s = stall_s
        self._clock = clock
        self._backoff = Backoff(retry, rng)
        self._lock = threading.RLock()
        self._login_failures = 0
        self._logged = ""
        self._running_since_s: float | None = None
        self._last_s = self._checked_s = clock()
        self.state = State.CONNECTING
        self.reason = ""
        self.since_s = clock()
        self.connects = 0  # connections that delivered something
        self.failures = 0
        self.failure = ""  # the reason of the last failure
        self.entered: Counter[State] = Counter({State.CONNECTING: 1})  # how often each began

    @property
    def reconnects(self) -> int:
        """Number of reconnections."""
        return max(0, self.connects - 1)

    @property
    def silent_s(self) -> float:
        """Seconds since the last frame or packet, or since the attempt began."""
        return self._clock() - self._last_s

    def connecting(self) -> None:
        """Note that an attempt begins."""
        with self._lock:
            self._last_s = self._clock()
            self._change(State.CONNECTING)

    def alive(self) -> None:
        """Note a frame in, or a packet out."""
        with self._lock:
            self._last_s = now_s = self._clock()
            if self.state in (State.RUNNING, *FINAL):
                return
            if self._running_since_s is None:
                self._running_since_s = now_s
                self._login_failures = 0
                self.connects += 1
            self._change(State.RUNNING)

    def check(self) -> None:
        """Notice silence; call it several times a second.

        After a long time without a call, this process itself stood still, because a library held Python's lock or the
        machine slept: that time does not count as silence.
        """
        with self._lock:
            now_s = self._clock()
            held_s, self._checked_s = now_s - self._checked_s, now_s
            if held_s > _HELD_S:
                self._last_s = min(now_s, self._last_s + held_s)
            if self.state is State.RUNNING and self.silent_s > self._stall_s:
                self._change(State.STALLED, "no data")

    def failed(self, reason: str, *, login: bool = False, final: bool = False) -> float | None:
        """Note that the attempt or the connection failed; returns the seconds to wait, or None where it is given up.

        Args:
            reason: for people, without secrets.
            login: whether the password was refused.
            final: whether another attempt is useless.

        """
        with self._lock:
            if self.state in FINAL:
                return None
            self.failures += 1
            self.failure = reason
            since_s, self._running_since_s = self._running_since_s, None
            if since_s is not None and self._clock() - since_s >= self._retry.healthy_s:
                self._backoff.reset()
            self._login_failures += login
            tries = self._retry.login_tries if login else self._retry.tries
            done = self._login_failures if login else self._backoff.failures + 1
            if since_s is not None and not login:
                done = 1  # the connection worked, so this is the first failure in a row
            if final or (tries and done >= tries):
                again = "" if final else f" ({done} {'try' if done == 1 else 'tries'})"
                self._change(State.FAILED, reason + again)
                return None
            self._change(State.BACKOFF, reason)
            return self._backoff.next_delay_s()

    def ended(self, reason: str = "") -> None:
        """Note that it was stopped, or has ended."""
        with self._lock:
            if self.state not in FINAL:
                self._change(State.ENDED, reason)

    def _change(self, state: State, reason: str = "") -> None:
        if state is self.state and reason == self.reason:
            return
        before, self.state, self.reason = self.state, state, reason
        self.entered[state] += state is not before
        self.since_s = self._clock()
        level = self._level(state, reason)
        text = f": {reason}" if reason else ""
        text += "; it is tried again" if state is State.BACKOFF else ""
        logger.log(
            level,
            "%s is %s%s",
            self._name,
            state,
            text,
            extra={self._what: self._name, "state": str(state), "was": str(before)},
        )

    def _level(self, state: State, reason: str) -> int:
        """The log level: a camera that is off for a week is logged once."""
        if state is State.RUNNING:
            self._logged = ""
        if state is State.CONNECTING or (state is State.BACKOFF and reason == self._logged):
            return logging.DEBUG
        if state is State.BACKOFF:
            self._logged = reason
        return logging.WARNING if state in (State.BACKOFF, State.FAILED) else logging.INFO
