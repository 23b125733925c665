"""One time line for a session: the times of every connection are moved onto it."""

from __future__ import annotations

from fractions import Fraction

_APART_S = 5.0  # a source whose clock is off by more has jumped, as after a wrap or a correction
_MICRO = 1_000_000


class Timeline:
    """Turns a source's times into seconds since the session began, by one offset for all its tracks.

    The offset is set by the first packet of a connection, so that the gap between two connections is
    as long in the output as it was; and again when a time lies far from when it arrived.
    """

    def __init__(self, now_s: float) -> None:
        self._began_s = now_s
        self.offset_s: Fraction | None = None

    def connected(self) -> None:
        """A new connection, whose times begin anywhere."""
        self.offset_s = None

    def place(self, time_s: Fraction, arrived_s: float) -> Fraction:
        """The session's time of something that the source dates ``time_s``."""
        elapsed_s = Fraction(round((arrived_s - self._began_s) * _MICRO), _MICRO)
        if self.offset_s is None or abs(time_s + self.offset_s - elapsed_s) > _APART_S:
            self.offset_s = elapsed_s - time_s
        return time_s + self.offset_s
