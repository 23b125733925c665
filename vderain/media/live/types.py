"""The seams of a live session: cameras, encoders and outlets meet only here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, Protocol

from vderain.clips import Seen
from vderain.frames import Frame, PassedPacket
from vderain.interfaces import SourceStats, StreamInfo

PacketKind = Literal["video", "audio", "aac"]


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """A camera's frame on its way from the decoder to the outputs; each stage fills in what it knows.

    Attributes:
        rainy: the decoded frame.
        arrived_s: when its packet came, in seconds of ``time.monotonic``.
        pixel_shape: width of a pixel by its height.
        time_s: its place on the session's time line.
        recent: the frame, last, and decoded neighbours before it, also such as were never derained; none
            from before a reconnection, a gap or a change of format.
        derained: the result; None where the frame passes through.
        tier: name of the rung that derained it.
        flag: why the frame passes through, "" where it is derained.

    """

    rainy: Frame
    arrived_s: float
    pixel_shape: Fraction = Fraction(1)
    time_s: Fraction = Fraction(0)
    recent: tuple[Seen, ...] = ()
    derained: Frame | None = None
    tier: str = "passthrough"
    flag: str = ""

    @property
    def dry(self) -> Frame:
        """What the outputs get."""
        return self.rainy if self.derained is None else self.derained


class Camera(Protocol):
    """One connection to a live source; yields frames and packets of its sound as they come.

    Ends by ending the iteration where the source says so. Raises SourceError where nothing more comes
    for the timeout, LoginError where the password is refused, UnusableError where trying again is
    useless. ``audio`` is the opaque description of the sound, None where there is none.
    """

    @property
    def info(self) -> StreamInfo:
        """What is known once the first frame was decoded; size and rate may change later."""

    @property
    def stats(self) -> SourceStats:
        """Counters of this connection."""

    @property
    def audio(self) -> Any:
        """For ``open_audio``; None where there is no sound."""

    @property
    def is_live(self) -> bool:
        """Whether its end means that it will come back, as with a network camera."""

    def __iter__(self) -> Iterator[LiveFrame | PassedPacket]:
        """Frames in presentation order, packets as they come; may be iterated once."""

    def cancel(self) -> None:
        """Make the iteration end soon; for another thread."""

    def close(self) -> None:
        """Release the connection; for the thread that iterates."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPacket:
    """A packet for the outlets.

    Attributes:
        kind: ``audio`` as the camera sent it, ``aac`` transcoded.
        payload: opaque to all but the outlet.
        time_s: decoding time in seconds of the session.
        is_key: whether a decoder can begin here.

    """

    kind: PacketKind
    payload: Any
    time_s: float
    is_key: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Streams:
    """What an outlet needs to begin: opaque templates of the encoded video and of the sound.

    ``audio`` is the sound as the camera sends it, ``aac`` transcoded; each None where there is none.
    """

    video: Any
    audio: Any = None
    aac: Any = None


class VideoEncoder(Protocol):
    """Encodes frames of one format; made for the first of them. Raises SinkError."""

    @property
    def stream(self) -> Any:
        """The template for muxers."""

    @property
    def notes(self) -> list[str]:
        """Changes of representation."""

    def encode(self, frame: Frame, time_s: Fraction, *, key: bool = False) -> list[EncodedPacket]:
        """The packets of a frame at a time of the session; ``key`` asks for a keyframe."""

    def close(self) -> None:
        """Release the encoder."""


class Sound(Protocol):
    """The sound of one connection, as it came and, where an outlet needs it, as AAC."""

    stream: Any
    aac_stream: Any
    signature: tuple[Any, ...]
    failures: int

    def packets(self, packet: Any, offset_s: Fraction) -> Iterator[EncodedPacket]:
        """What the outlets get for one packet of the camera."""

    def close(self) -> None:
        """Release the encoder; templates stay usable."""


class Outlet(Protocol):
    """One place that the encoded stream goes to. Raises SinkError.

    ``open`` before the first packet, ``close`` after the last; may be opened again after a failure or
    when the streams change. The first video packet after ``open`` is a keyframe.
    """

    name: str
    is_network: bool
    confirmed: bool  # whether what was written since ``open`` is known to have been taken

    def open(self, streams: Streams) -> None:
        """Begin; blocks at most for the timeout."""

    def write(self, packet: EncodedPacket) -> None:
        """Send one packet; blocks at most for the timeout."""

    def close(self) -> None:
        """Complete what was begun; may be called twice, and after a failure."""

    def finish(self) -> None:
        """Nothing more will come, ever; called after the last ``close``."""

    @property
    def notes(self) -> list[str]:
        """Changes of representation worth a line in the report."""
