"""The frame rate in the header of an H.264 stream."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
from av.bitstream import BitStreamFilterContext


class Ticks:
    """Sets the rate of ticks, two for each frame, in parameter sets of H.264.

    x264 writes the time base there where frames have times of their own. Players and editors that use it would take
    video of 25 frames per second for one of 12800.
    """

    def __init__(self, rate: Fraction) -> None:
        ticks = 2 * rate
        description = f"h264_metadata=tick_rate={ticks.numerator}/{ticks.denominator}"
        self._filter = BitStreamFilterContext(description, "h264")

    def header(self, extradata: bytes) -> bytes:
        """The parameter sets of a stream, in the form of Annex B."""
        made = self._filter.filter(av.Packet(extradata))
        return b"".join(map(bytes, made))

    def packet(self, packet: Any) -> Any:
        """A packet that may have parameter sets."""
        if not packet.is_keyframe:
            return packet
        (made,) = self._filter.filter(packet)
        made.stream = packet.stream
        return made
