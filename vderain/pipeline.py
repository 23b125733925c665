"""The main job: decode | engine | encode, overlapped; a plain function over a source, an engine and a sink."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from vderain.clips import Item, Window, clips, turned
from vderain.estimate import frames_of
from vderain.frames import Clip, Frame, PlaneFormat
from vderain.interfaces import (
    Adding,
    Engine,
    EngineSpec,
    FrameSink,
    FrameSource,
    PendingPlanes,
    SinkReport,
    StreamInfo,
)
from vderain.network.change import derained
from vderain.options import RunOptions
from vderain.prefetch import prefetch
from vderain.report import RunReport, damage_losses

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; ``frames_total`` and ``eta_s`` are None where the container does not say its length.

    The rate and the time left leave out the opening of engines (loading, or building on the first run).
    """

    frames: int
    frames_total: int | None
    frames_per_s: float
    eta_s: float | None
    limiting_stage: str

    @property
    def is_steady(self) -> bool:
        """Whether the rate can be trusted: some frames, or frames so slow that a few say enough."""
        return self.frames >= 8 or self.frames_per_s < 0.5


def derain(
    source: FrameSource,
    engine: Engine,
    sink: FrameSink,
    *,
    options: RunOptions | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    untouched: Callable[[Frame], bool] | None = None,
) -> RunReport:
    """Take the rain out of everything that ``source`` yields and give it to ``sink``.

    Frames of which ``untouched`` is true pass as they are. The sink is finished at the end and aborted when
    anything fails, an interrupt included; source and engine stay open for the caller to close. Raises what
    the stages raise.
    """
    options = options or RunOptions()
    run = _Run(engine, options, untouched, on_device=sink.takes_device_planes)
    total = _frames_expected(source.info, options)
    try:
        with closing(_written(run, source, sink)) as written_frames:
            for frames in written_frames:
                if on_progress is not None:
                    on_progress(_progress(frames, total, run.clock))
        with run.clock.busy("encode"):
            written = sink.finish()
    except BaseException:
        sink.abort()
        raise
    return run.report(source, written)


def _written(run: _Run, source: FrameSource, sink: FrameSink) -> Generator[int, None, None]:
    """Carry everything from the source to the sink; yields how many frames were written so far."""
    clock, depth, stop = run.clock, run.options.queue_frames, _Stop(source)
    decoded = prefetch(clock.timed("decode", source), depth, stop)
    seen = clips(clock.waiting("align", decoded), run.window_of)
    clipped = prefetch(clock.timed("align", seen), depth, stop)
    changed = _derained(clock.waiting("engine", clipped), run)
    ready = prefetch(clock.timed("engine", changed), depth, stop)
    frames = 0
    # The last first: nobody reads a stage that is closed.
    with closing(decoded), closing(clipped), closing(ready):
        for item in ready:
            with clock.busy("encode"):
                sink.write(item)
            if isinstance(item, Frame):
                frames += 1
                yield frames


class _Stop(threading.Event):
    """Stops a run; frees a read that is blocked at once, since workers are joined after this is set."""

    def __init__(self, source: FrameSource) -> None:
        super().__init__()
        self._source = source

    def set(self) -> None:
        """Stop every stage."""
        super().set()
        self._source.cancel()


def _derained(
    clipped: Iterator[tuple[Item, Clip | None]], run: _Run
) -> Generator[Item, None, None]:
    """Replace the planes of every frame; keeps the order, with up to ``engine.slots`` frames in flight."""
    waiting: deque[tuple[Item, PendingPlanes | None]] = deque()
    in_flight = 0
    for item, clip in clipped:
        if clip is None or run.passes(item):
            waiting.append((item, None))
        else:
            waiting.append((item, derained(run.engine, clip, run.adding)))
            in_flight += 1
        while waiting and (waiting[0][1] is None or in_flight >= run.engine.slots):
            first, computed = waiting.popleft()
            in_flight -= computed is not None
            yield _dry(first, computed)
    for item, computed in waiting:
        yield _dry(item, computed)


def _dry(item: Item, computed: PendingPlanes | None) -> Item:
    if computed is None or not isinstance(item, Frame):
        return item
    return replace(item, planes=turned(computed.result(), -item.rotation // 90))


def _frames_expected(info: StreamInfo, options: RunOptions) -> int | None:
    """Frames in the part that was asked for, by what the container says of its length."""
    total = frames_of(info)
    if info.frame_rate and (options.start_s or options.duration_s is not None):
        left = total - round(options.start_s * info.frame_rate) if total is not None else None
        asked = round(options.duration_s * info.frame_rate) if options.duration_s else None
        total = min((n for n in (left, asked) if n is not None), default=None)
    return total


def _progress(frames: int, total: int | None, clock: _StageClock) -> Progress:
    rate = frames / max(clock.elapsed_s - clock.open_s, 1e-9)
    eta_s = max(0, total - frames) / rate if total is not None else None
    return Progress(frames, total, rate, eta_s, clock.limiting_stage)


@dataclass(slots=True)
class _StageClock:
    """Seconds that each stage was busy; every stage is written by one thread only."""

    stage_s: dict[str, float] = field(
        default_factory=lambda: {"decode": 0.0, "align": 0.0, "engine": 0.0, "encode": 0.0}
    )
    open_s: float = 0.0
    started_s: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        return max(time.monotonic() - self.started_s, 1e-9)

    @property
    def limiting_stage(self) -> str:
        return max(self.stage_s, key=lambda stage: self.stage_s[stage])

    @contextmanager
    def busy(self, stage: str) -> Iterator[None]:
        since = time.monotonic()
        try:
            yield
        finally:
            self.stage_s[stage] += time.monotonic() - since

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Keep the opening of an engine, which happens once, apart from its work."""
        since = time.monotonic()
        try:
            yield
        finally:
            self.open_s += time.monotonic() - since
            self.stage_s["align"] -= time.monotonic() - since  # the stage that asks for it

    def timed(self, stage: str, items: Iterable[T]) -> Generator[T, None, None]:
        """Count the time that each next item takes as the stage's."""
        return self._counted(stage, items, +1)

    def waiting(self, stage: str, items: Iterable[T]) -> Generator[T, None, None]:
        """Take the time that a stage waits for its own input off its account."""
        return self._counted(stage, items, -1)

    def _counted(self, stage: str, items: Iterable[T], sign: int) -> Generator[T, None, None]:
        iterator = iter(items)
        try:
            while True:
                since = time.monotonic()
                item = next(iterator, None)
                self.stage_s[stage] += sign * (time.monotonic() - since)
                if item is None:
                    return
                yield item
        finally:
            if isinstance(iterator, Generator):
                iterator.close()


@dataclass(slots=True)
class _Run:
    """What the stages of one run share."""

    engine: Engine
    options: RunOptions
    untouched: Callable[[Frame], bool] | None = None
    on_device: bool = False
    specs: dict[PlaneFormat, EngineSpec] = field(default_factory=dict)
    clock: _StageClock = field(default_factory=_StageClock)

    @property
    def adding(self) -> Adding:
        """How changes are added."""
        return Adding(self.options.strength, self.on_device)

    def passes(self, item: Item) -> bool:
        """Whether an item needs no computing."""
        if not isinstance(item, Frame):
            return True
        return self.untouched is not None and self.untouched(item)

    def window_of(self, fmt: PlaneFormat) -> Window:
        """What the network sees of a stretch of this format; opens its engine where that has not happened."""
        if fmt not in self.specs:
            with self.clock.opening():
                self.specs[fmt] = self.engine.spec_for(fmt)
        spec, asked = self.specs[fmt], self.options.lookahead
        return Window(spec.frames, spec.lookahead if asked is None else min(asked, spec.frames - 1))

    def report(self, source: FrameSource, written: SinkReport) -> RunReport:
        """Everything that is known at the end."""
        skipped, damaged = source.stats.skipped, source.stats.damaged_frames
        return RunReport(
            source=source.info.path,
            output=written.path,
            frames_in=source.stats.frames,
            frames_out=written.frames,
            decode_failures=skipped,
            damaged_frames=damaged,
            codec=written.codec,
            tracks_copied=written.tracks_copied,
            losses=damage_losses(skipped, damaged) + source.stats.losses + written.losses,
            notes=source.stats.notes + written.notes,
            engines=[self.engine.spec_for(fmt) for fmt in self.specs],
            stage_s={stage: round(busy, 3) for stage, busy in self.clock.stage_s.items()},
            open_s=round(self.clock.open_s, 3),
            seconds=round(self.clock.elapsed_s, 3),
        )
