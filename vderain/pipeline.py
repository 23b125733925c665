"""The main job: decode, align, derain, encode, overlapped; a function over a source, an engine and a sink."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future as Opening
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace

from vderain.clips import Item, clips, turned
from vderain.flow.future import Future
from vderain.flow.stages import StageClock, Stages
from vderain.flow.workers import Workers
from vderain.frames import Clip, Frame, PlaneFormat
from vderain.interfaces import (
    Engine,
    EngineSpec,
    FrameSink,
    FrameSource,
    SinkReport,
    StreamInfo,
    aligns,
)
from vderain.machine import usable_cores
from vderain.options import NEIGHBOURS_ONLY, RunOptions
from vderain.report import RunReport, damage_losses

_MOST_ALIGN_THREADS = 8


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
    stages = Stages(("decode", "align", "derain", "encode"), options.queue_frames, source.cancel)
    work = _Deraining(
        engine, stages.clocks["derain"], options.strength, sink.takes_device_planes, untouched
    )
    run = _Run(stages, work.opening, _frames_expected(source.info, options))
    window = engine.window.looking_ahead(options.lookahead)
    aligners = Workers(align_threads(options), stages.clocks["align"])
    encoding = stages.clocks["encode"]
    try:
        with closing(work), stages:
            decoded = stages.first("decode", source)
            aligned = stages.then(
                "align",
                decoded,
                lambda items: clips(work.expected(items), window, lambda: aligns(engine), aligners),
            )
            derained = stages.then("derain", aligned, work.derained)
            for item in derained:
                with encoding.working():
                    sink.write(item)
                if isinstance(item, Frame):
                    run.frames += 1
                    if on_progress is not None:
                        on_progress(run.progress)
        with encoding.working():
            written = sink.finish()
    except BaseException:
        sink.abort()
        raise
    return run.report(source, written, work.specs)


def align_threads(options: RunOptions) -> int:
    """How many threads align neighbours.

    Unless the user says it, half of the cores: decoding and encoding a frame take at least as much CPU time as
    aligning it does, and the network takes more where it runs on the CPU.
    """
    return options.align_threads or min(max(1, usable_cores() // 2), _MOST_ALIGN_THREADS)


class _Deraining:
    """The work of the stage between alignment and encoder."""

    def __init__(
        self,
        engine: Engine,
        clock: StageClock,
        strength: float,
        on_device: bool,
        untouched: Callable[[Frame], bool] | None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._strength = strength
        self._on_device = on_device
        self._untouched = untouched
        self._openings: dict[PlaneFormat, Opening[EngineSpec]] = {}
        self._opener = ThreadPoolExecutor(1, thread_name_prefix="vderain-open")
        self.opening = StageClock()

    @property
    def specs(self) -> list[EngineSpec]:
        """Which engine served each format, or did last: a fallback may have followed."""
        return [self._engine.open(fmt) for fmt in self._openings]

    def expected(self, items: Iterator[Item]) -> Generator[Item, None, None]:
        """``items``; the engine of the first frame is opened while its clip is made.

        Those of other formats wait for their clips: opening one may close another that is still in use.
        """
        for item in items:
            if isinstance(item, Frame) and not self._openings:
                self._opening(item.format.rotated(item.rotation // 90))
            yield item

    def close(self) -> None:
        """Wait for an engine that is being opened."""
        self._opener.shutdown(cancel_futures=True)

    def derained(self, aligned: Iterator[tuple[Item, Clip | None]]) -> Generator[Item, None, None]:
        """Replace the planes of every frame; keeps the order, with up to ``engine.slots`` frames in flight."""
        waiting: deque[tuple[Item, Future | None]] = deque()
        in_flight = 0
        for item, clip in aligned:
            computed = self._submitted(item, clip)
            waiting.append((item, computed))
            in_flight += computed is not None
            while waiting and (waiting[0][1] is None or in_flight >= self._engine.slots):
                first, computed = waiting.popleft()
                in_flight -= computed is not None
                yield _dry(first, computed)
        for item, computed in waiting:
            yield _dry(item, computed)

    def _submitted(self, item: Item, clip: Clip | None) -> Future | None:
        """The frame without its rain, under computation; None for what passes as it is."""
        if clip is None or not isinstance(item, Frame):
            return None
        with self._clock.waiting():
            self._opening(clip.format).result()
        if self._untouched is not None and self._untouched(item):
            return None
        return self._engine.submit(clip, strength=self._strength, on_device=self._on_device)

    def _opening(self, fmt: PlaneFormat) -> Opening[EngineSpec]:
        if fmt not in self._openings:
            self._openings[fmt] = self._opener.submit(self._opened, fmt)
        return self._openings[fmt]

    def _opened(self, fmt: PlaneFormat) -> EngineSpec:
        with self.opening.working():
            return self._engine.open(fmt)


def _dry(item: Item, computed: Future | None) -> Item:
    if computed is None or not isinstance(item, Frame):
        return item
    return replace(item, planes=turned(computed.result(), -item.rotation // 90))


@dataclass(slots=True)
class _Run:
    """How far a run is."""

    stages: Stages
    opening: StageClock
    frames_total: int | None
    frames: int = 0
    started_s: float = field(default_factory=time.monotonic)
    started_cpu_s: float = field(default_factory=time.process_time)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return max(time.monotonic() - self.started_s, 1e-9)

    @property
    def progress(self) -> Progress:
        """For the caller."""
        rate = self.frames / max(self.seconds - self.opening.work_s, 1e-9)
        left = None if self.frames_total is None else max(0, self.frames_total - self.frames)
        eta_s = None if left is None else left / rate
        return Progress(self.frames, self.frames_total, rate, eta_s, self.stages.limiting)

    def report(
        self, source: FrameSource, written: SinkReport, engines: list[EngineSpec]
    ) -> RunReport:
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
            preset=written.preset,
            tracks_copied=written.tracks_copied,
            losses=damage_losses(skipped, damaged) + source.stats.losses + written.losses,
            notes=source.stats.notes + written.notes + _unchanged(source.info, engines),
            engines=engines,
            stage_s={name: round(work_s, 3) for name, work_s in self.stages.work_s.items()},
            open_s=round(self.opening.work_s, 3),
            cpu_s=round(time.process_time() - self.started_cpu_s, 3),
            seconds=round(self.seconds, 3),
        )


def _unchanged(info: StreamInfo, engines: Sequence[EngineSpec]) -> list[str]:
    """A note for single images, each a stretch of its own, that a tier leaves as they are."""
    tiers = {spec.tier for spec in engines} & set(NEIGHBOURS_ONLY)
    if info.container not in ("image", "folder of images") or not tiers:
        return []
    return [f"{tiers.pop()} leaves single images as they are; tier='fast' derains them"]


def _frames_expected(info: StreamInfo, options: RunOptions) -> int | None:
    """Frames in the part that was asked for, by what the container says of its length."""
    total = info.frames_expected
    if info.frame_rate and (options.start_s or options.duration_s is not None):
        left = total - round(options.start_s * info.frame_rate) if total is not None else None
        asked = round(options.duration_s * info.frame_rate) if options.duration_s else None
        total = min((n for n in (left, asked) if n is not None), default=None)
    return total
