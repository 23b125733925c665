"""The time line of a session, onto which the times of all connections are moved."""

from __future__ import annotations

from fractions import Fraction

_APART_S = 5.0  # a clock that differs by more has jumped, by a wrap or a correction
_MICRO = 1_000_000


class Timeline:
    """Converts a source's times to seconds since the session began, by one offset for all its tracks.

    The first packet of a connection sets the offset, so that the gap between two connections lasts as long in the
    output as it was. It is set again when a time is far from the time of arrival.
    """

    def __init__(self, now_s: float) -> None:
        self._began_s = now_s
        self.offset_s: Fraction | None = None

    def connected(self) -> None:
        """Begin a new connection, whose times may begin anywhere."""
        self.offset_s = None

    def place(self, time_s: Fraction, arrived_s: float) -> Fraction:
        """The session's time for a time of the source."""
        elapsed_s = Fraction(round((arrived_s - self._began_s) * _MICRO), _MICRO)
        if self.offset_s is None or abs(time_s + self.offset_s - elapsed_s) > _APART_S:
            self.offset_s = elapsed_s - time_s
        return time_s + self.offset_s
