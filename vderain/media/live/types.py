"""The interfaces of a live session, between cameras, encoders and outlets."""

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
    """A camera's frame on its way from the decoder to the outputs; each stage adds its fields.

    Attributes:
        rainy: the decoded frame.
        arrived_s: arrival of its packet, in seconds of ``time.monotonic``.
        pixel_shape: width of a pixel by its height.
        time_s: its time in the session.
        recent: decoded neighbours before the frame, and the frame last, derained or not; none from before a
        reconnection, a gap or a change of format.
        derained: the result; None where the frame passes through.
        tier: name of the rung that derained it.
        flag: why the frame passes through; "" where it is derained.

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
        """The frame for the outputs."""
        return self.rainy if self.derained is None else self.derained


class Camera(Protocol):
    """One connection to a live source; yields frames and packets of sound as they arrive.

    The iteration ends where the source ends. Raises SourceError where nothing arrives for the timeout,
    LoginError where the password is refused, and UnusableError where a new attempt is useless. ``audio`` is the
    opaque description of the sound, None where there is none.
    """

    @property
    def info(self) -> StreamInfo:
        """Properties known after the first decoded frame; size and rate may change later."""

    @property
    def stats(self) -> SourceStats:
        """Counters of this connection."""

    @property
    def audio(self) -> Any:
        """For ``open_audio``; None without sound."""

    @property
    def is_live(self) -> bool:
        """Whether it may continue after its end, as a network camera does after a reconnection."""

    def __iter__(self) -> Iterator[LiveFrame | PassedPacket]:
        """Frames in presentation order, and packets as they arrive; can be iterated once."""

    def cancel(self) -> None:
        """End the iteration soon; called by another thread."""

    def close(self) -> None:
        """Release the connection; called by the thread that iterates."""


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
    """The opaque templates of the encoded video and of the sound, which an outlet needs to open.

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
        """The packets of a frame at a time of the session; ``key`` forces a keyframe."""

    def close(self) -> None:
        """Release the encoder."""


class Sound(Protocol):
    """The sound of one connection, unchanged and, where an outlet needs it, as AAC."""

    stream: Any
    aac_stream: Any
    signature: tuple[Any, ...]
    failures: int

    def packets(self, packet: Any, offset_s: Fraction) -> Iterator[EncodedPacket]:
        """The outlets' packets for one packet of the camera."""

    def close(self) -> None:
        """Release the encoder; templates stay usable."""


class Outlet(Protocol):
    """A destination of the encoded stream. Raises SinkError.

    Call ``open`` before the first packet and ``close`` after the last; it may be opened again after a failure or a
    change of the streams. The first video packet after ``open`` is a keyframe.
    """

    name: str
    is_network: bool
    confirmed: bool  # whether the data written since ``open`` is known to have arrived

    def open(self, streams: Streams) -> None:
        """Open it; blocks at most for the timeout."""

    def write(self, packet: EncodedPacket) -> None:
        """Send one packet; blocks at most for the timeout."""

    def close(self) -> None:
        """Complete the output; may be called twice, and after a failure."""

    def finish(self) -> None:
        """End the output for good; called after the last ``close``."""

    @property
    def notes(self) -> list[str]:
        """Changes of representation, for the report."""
