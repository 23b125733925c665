"""The seams of the flow: sources, engines and sinks meet only here."""

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
    """One stream of a container, as a user would name it."""

    index: int
    kind: TrackKind
    codec: str
    detail: str = ""  # language, channels, size: free text for people


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What is known of a source before its first frame.

    Sizes are of the stored image, before rotation. ``frames`` and ``duration_s`` are estimates from
    the container (None where it does not say) and serve the progress display only.
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
        """Frames by what the container says, or by its length and rate; None where it says neither."""
        if self.frames is not None:
            return self.frames
        if self.duration_s is not None and self.frame_rate:
            return round(self.duration_s * self.frame_rate)
        return None


@dataclass(slots=True)
class SourceStats:
    """Counters that a source keeps while it is read.

    ``decode_failures`` are packets and images with damage; ``damaged_frames`` of them came as frames
    all the same, as far as they could be decoded.
    """

    frames: int = 0
    decode_failures: int = 0
    damaged_frames: int = 0
    notes: list[str] = field(
        default_factory=list
    )  # changes of representation worth a line in the report
    losses: list[str] = field(
        default_factory=list
    )  # what of the input does not come through, and why

    @property
    def skipped(self) -> int:
        """Damaged packets and images of which no frame came."""
        return self.decode_failures - self.damaged_frames

    def lose(self, losses: Iterable[str]) -> None:
        """Add losses, each once."""
        self.losses.extend(loss for loss in losses if loss not in self.losses)


class FrameSource(Protocol):
    """Yields frames in presentation order, and the packets of every other track in between.

    Ends by ending the iteration. Raises SourceError where nothing (more) can be read; what is damaged is
    counted in ``stats``, and skipped where it gives no image. ``template`` is for the sink that mirrors
    the source's tracks.
    """

    @property
    def info(self) -> StreamInfo:
        """What is known before the first frame."""

    @property
    def stats(self) -> SourceStats:
        """Counters, complete once the iteration has ended."""

    @property
    def template(self) -> Any:
        """Opaque to all but the sink: streams, tags, chapters to mirror; None where there are none."""

    def __iter__(self) -> Iterator[Frame | PassedPacket]:
        """Frames and passed packets, in the order of the container."""

    def cancel(self) -> None:
        """Make a read that is blocked end soon; for another thread, when the run is stopped."""

    def close(self) -> None:
        """Release the container; may be called twice."""


@dataclass(slots=True)
class SinkReport:
    """What a sink wrote, filled when it is finished."""

    path: str = ""
    frames: int = 0
    codec: str = ""
    preset: str = ""  # of the encoder; nothing where it has none
    tracks_copied: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    losses: list[str] = field(
        default_factory=list
    )  # each names the track or property and the reason


class FrameSink(Protocol):
    """Takes frames in presentation order and the packets that pass.

    Output has its final name only after ``finish``; ``abort`` leaves nothing behind. Raises SinkError.
    """

    @property
    def takes_device_planes(self) -> bool:
        """Whether frames may come as ``DevicePlanes``, to be encoded where they lie."""

    def write(self, item: Frame | PassedPacket) -> None:
        """Encode a frame, or pass a packet on."""

    def finish(self) -> SinkReport:
        """Flush, complete the container, give it its final name."""

    def abort(self) -> None:
        """Drop what was written; may be called after a failure and twice."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which engine runs, for reports."""

    name: str
    precision: str
    device: str
    tier: str
    frames: int = 1  # T, how many frames the network looks at
    lookahead: int = 0  # how many of them may lie in the future
    notes: tuple[str, ...] = ()  # fallbacks, each with its reason
    # Of the neighbours in order of brightness, those that a clip holds; () for all.
    ranks: tuple[int, ...] = ()
    tier_reason: str = ""  # why the tier was chosen; nothing where the user named it

    @property
    def window(self) -> Window:
        """What the network sees of a file."""
        return Window(self.frames, self.lookahead, self.ranks)


class Engine(Protocol):
    """Takes the rain out of a clip's frame.

    A clip's planes have the shapes and dtype of its ``format``, any size from 1x1 up (padding to the
    network's multiple happens inside); they must stay as they are until the clip is answered. At most ``slots``
    clips may be unanswered, and answers are asked for in the order of submission. Knows nothing of containers.
    Raises EngineLoadError (also on a closed engine) and EngineBuildError; EngineFailedError, from the future too,
    where the device fails.
    """

    @property
    def slots(self) -> int:
        """How many clips may be unanswered at once; may change when another engine takes over."""

    @property
    def window(self) -> Window:
        """What the network sees of a video, in every format: which neighbours a clip must hold."""

    def open(self, fmt: PlaneFormat) -> EngineSpec:
        """Get ready for clips of a format; quick where that has happened. Returns which engine serves it now."""

    def submit(self, clip: Clip, *, strength: float = 1.0, on_device: bool = False) -> Future:
        """Start computing the frame without its rain: planes of the clip's format. Never waits for them.

        ``strength`` scales the change. With ``on_device`` they may stay on the GPU, as ``DevicePlanes``. The
        samples are those of ``apply_change`` with ``change``.
        """

    def change(self, clip: Clip) -> Future:
        """Start computing the change itself: the planes' shapes, float32, in sample steps, unclamped."""

    def close(self) -> None:
        """Release everything; may be called twice."""


@runtime_checkable
class AlignsNeighbours(Protocol):
    """An engine that may take clips whose neighbours are not aligned yet."""

    @property
    def aligns(self) -> bool:
        """Whether it does now; one that does not aligns them on the host."""


def aligns(engine: Engine) -> bool:
    """Whether clips for an engine had better leave the alignment to it."""
    return isinstance(engine, AlignsNeighbours) and engine.aligns
