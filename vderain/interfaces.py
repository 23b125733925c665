"""The interfaces of a run: sources, engines and sinks know each other only by these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, Protocol, runtime_checkable

from vderain.clips import Window
from vderain.flow.future import Future
from vderain.frames import Clip, ColorTags, Frame, PassedPacket, PlaneFormat

TrackKind = Literal["video", "audio", "subtitle", "data", "attachment"]


@dataclass(frozen=True, slots=True)
class Track:
    """A stream of a container, described for people."""

    index: int
    kind: TrackKind
    codec: str
    detail: str = ""  # language, channels, size: free text for people


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """Properties of a source before its first frame.

    Sizes are those of the stored image, before rotation. ``frames`` and ``duration_s`` come from the container
    (None where it has none) and serve the progress display only.
    """

    path: str
    width: int
    height: int
    time_base: Fraction
    frame_rate: Fraction | None = None
    frames: int | None = None
    duration_s: float | None = None
    codec: str = ""
    pix_fmt: str = ""
    container: str = ""
    rotation: int = 0
    sample_aspect_ratio: Fraction = Fraction(1)
    tags: ColorTags = field(default_factory=ColorTags)
    tracks: tuple[Track, ...] = ()

    @property
    def frames_expected(self) -> int | None:
        """The number of frames by the container, or by its length and rate; None where it has neither."""
        if self.frames is not None:
            return self.frames
        if self.duration_s is not None and self.frame_rate:
            return round(self.duration_s * self.frame_rate)
        return None


@dataclass(slots=True)
class SourceStats:
    """Counters that a source keeps while it is read.

    ``decode_failures`` are damaged packets and images; ``damaged_frames`` are those of them that were decoded in
    part and became frames.
    """

    frames: int = 0
    decode_failures: int = 0
    damaged_frames: int = 0
    notes: list[str] = field(default_factory=list)  # changes of representation, without loss
    losses: list[str] = field(default_factory=list)  # parts of the input that are lost, and why

    @property
    def skipped(self) -> int:
        """Number of damaged packets and images without a frame."""
        return self.decode_failures - self.damaged_frames

    def lose(self, losses: Iterable[str]) -> None:
        """Add losses, each once."""
        self.losses.extend(loss for loss in losses if loss not in self.losses)


class FrameSource(Protocol):
    """Yields frames in presentation order, and the packets of every other track in between.

    The iteration ends with the input. Raises SourceError where reading fails; damage is counted in ``stats``, and
    skipped where it gives no image. ``template`` is for the sink that copies the source's tracks.
    """

    @property
    def info(self) -> StreamInfo:
        """Properties known before the first frame."""

    @property
    def stats(self) -> SourceStats:
        """Counters, complete once the iteration has ended."""

    @property
    def template(self) -> Any:
        """Streams, tags and chapters to copy, opaque to all but the sink; None where there are none."""

    def __iter__(self) -> Iterator[Frame | PassedPacket]:
        """Frames and passed packets, in the order of the container."""

    def cancel(self) -> None:
        """End a blocked read soon; called by another thread when the run is stopped."""

    def close(self) -> None:
        """Release the container; may be called twice."""


@dataclass(slots=True)
class SinkReport:
    """The result of a sink, filled when it is finished."""

    path: str = ""
    frames: int = 0
    codec: str = ""
    preset: str = ""  # of the encoder; "" for an encoder without presets
    tracks_copied: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)  # track or property, and the reason


class FrameSink(Protocol):
    """Takes frames in presentation order, and packets of other tracks.

    The output gets its name in ``finish``; ``abort`` removes it. Raises SinkError.
    """

    @property
    def takes_device_planes(self) -> bool:
        """Whether frames may be ``DevicePlanes``, which are encoded on the device."""

    def write(self, item: Frame | PassedPacket) -> None:
        """Encode a frame, or pass a packet on."""

    def finish(self) -> SinkReport:
        """Flush, complete the container, give it its final name."""

    def abort(self) -> None:
        """Remove what was written; may be called after a failure, and twice."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """The engine that runs, for reports."""

    name: str
    precision: str
    device: str
    tier: str
    frames: int = 1  # T, the number of frames that the network sees
    lookahead: int = 0  # how many of them may be future frames
    notes: tuple[str, ...] = ()  # fallbacks, each with its reason
    # Of the neighbours in order of brightness, those that a clip holds; () for all.
    ranks: tuple[int, ...] = ()
    tier_reason: str = ""  # why the tier was chosen; "" where the user named it

    @property
    def window(self) -> Window:
        """The frames that the network sees of a file."""
        return Window(self.frames, self.lookahead, self.ranks)


class Engine(Protocol):
    """Derains the frame of a clip.

    A clip's planes have the shapes and dtype of its ``format``, any size from 1x1 up (the engine pads them to the
    network's multiple); they must not change until the clip has its result. At most ``slots`` clips may be without
    a result, and results are asked for in the order of submission. An engine does not depend on containers.
    Raises EngineLoadError (also on a closed engine) and EngineBuildError; EngineFailedError, from the future too,
    where the device fails.
    """

    @property
    def slots(self) -> int:
        """How many clips may be without a result at once; may change after a fallback."""

    @property
    def window(self) -> Window:
        """The neighbours that a clip must hold, in every format."""

    def open(self, fmt: PlaneFormat) -> EngineSpec:
        """Open the engine for a format; quick where it is open. Returns the engine that computes it now."""

    def submit(self, clip: Clip, *, strength: float = 1.0, on_device: bool = False) -> Future:
        """Start deraining the frame: planes of the clip's format. Does not wait for the result.

        ``strength`` scales the change. With ``on_device`` the planes may stay on the GPU, as ``DevicePlanes``. The
        samples are those of ``apply_change`` with ``change``.
        """

    def change(self, clip: Clip) -> Future:
        """Start computing the change itself: float32 planes of the same shapes, in sample steps, unclamped."""

    def close(self) -> None:
        """Release everything; may be called twice."""


@runtime_checkable
class AlignsNeighbours(Protocol):
    """An engine that may accept clips with unaligned neighbours."""

    @property
    def aligns(self) -> bool:
        """Whether it accepts them now; otherwise they are aligned on the host."""


def aligns(engine: Engine) -> bool:
    """Whether the alignment of clips is left to this engine."""
    return isinstance(engine, AlignsNeighbours) and engine.aligns
