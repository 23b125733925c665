"""A whole batch as one call: find clips, derain, verify and report them; or estimate that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from vderain.batch.clips.clip_files import free_bytes
from vderain.batch.clips.find import WORK_FOLDER, Archive, Found
from vderain.batch.clips.joining import join_series
from vderain.batch.derain_clips import Batch
from vderain.batch.estimate import Estimate, estimate
from vderain.batch.events import BatchEvent, BatchProgress, Follower, OnEvent, OnProgress, shortage
from vderain.batch.jobs import Executor, InProcess
from vderain.batch.manifest import Manifest
from vderain.batch.options import BatchOptions, Settings
from vderain.batch.planning import (
    Plan,
    copied_manifest,
    open_manifest,
    pinned,
    plan,
    unmade_on_failure,
    unpin,
    work_through,
)
from vderain.batch.rain.spans import RainGating
from vderain.batch.ray.cluster import check_address, ray_module
from vderain.batch.ray.executor import RayExecutor
from vderain.batch.report.record import write_report
from vderain.batch.workload import Workload
from vderain.engines import open_engine
from vderain.engines.tiers import with_tier
from vderain.errors import OptionError, SinkError, SourceError
from vderain.options import EncodeOptions, EngineOptions, RunOptions
from vderain.weights import find_weights

__all__ = [
    "BatchEvent",
    "BatchPlan",
    "BatchProgress",
    "BatchReport",
    "derain_archive",
    "plan_archive",
]


@dataclass(frozen=True, slots=True)
class BatchReport:
    """The result of a batch.

    Attributes:
        target: the folder with the outputs, ``report.html`` and ``report.json``.
        done: outputs, relative to the target, that were written and verified.
        lossy: those of them with a loss.
        skipped: outputs that were left alone, because another file had their name.
        failed: outputs of clips that failed for good, also in an earlier call.
        left_out: sources that cannot be read, with the reason.
        is_joined: False where a series of clips could not be joined.
        seconds: that the batch worked.
        workers_died: of a Ray cluster.

    """

    target: Path
    done: tuple[Path, ...] = ()
    lossy: tuple[Path, ...] = ()
    skipped: tuple[Path, ...] = ()
    failed: tuple[Path, ...] = ()
    left_out: dict[Path, str] = field(default_factory=dict)
    is_joined: bool = True
    seconds: float = 0.0
    workers_died: int = 0

    @property
    def exit_code(self) -> int:
        """0, or 3 where a clip is missing or has a loss."""
        is_missing = self.failed or self.lossy or self.left_out or not self.is_joined
        return 3 if is_missing else 0


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What a batch would do: its clips, the measured estimate, and a warning, or "", on disk space."""

    clips: Plan
    estimate: Estimate
    shortage: str
    free_bytes: int
    left_out: dict[Path, str] = field(default_factory=dict)


def derain_archive(
    sources: Sequence[str | Path],
    target: str | Path,
    *,
    listed: Sequence[Path] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    batch: BatchOptions | None = None,
    run: RunOptions | None = None,
    engine: EngineOptions | None = None,
    encode: EncodeOptions | None = None,
    watch: bool = False,
    retry_failed: bool = False,
    ray: str | None = None,
    on_event: OnEvent | None = None,
    on_progress: OnProgress | None = None,
    spell: Callable[[str], str] = str,
) -> BatchReport:
    """Derain every clip below ``sources`` into the folder ``target``, in the same tree.

    Clips that are done are skipped. A batch that was stopped or killed resumes with the next call.

    Args:
        sources: folders, searched recursively, and files.
        target: the folder; made if missing.
        listed: more clips, which keep their folders below the target.
        include: patterns of which one must match a clip's name, or its path below the source.
        exclude: patterns of which none may match.
        batch: order, checkpoints, rain detector, retries.
        run: how each clip is derained; ``start_s`` and ``duration_s`` are ignored.
        engine: the network, and the device it runs on.
        encode: how outputs are encoded.
        watch: continue with clips that arrive later, until KeyboardInterrupt.
        retry_failed: try failed clips again.
        ray: address of a Ray cluster, "local" for one on this machine.
        on_event: is called with each event of a clip or of the batch.
        on_progress: is called with the progress of the batch.
        spell: spells option names in the report's messages; by default as fields of this library.

    Raises SourceError where there is no clip, OptionError, SinkError, WeightsError, EngineBuildError,
    EngineLoadError, and BatchStoppedError where the target is full. Errors of single clips are in the
    report. KeyboardInterrupt ends the batch with an event; finished work is kept.

    """
    if ray is not None:
        check_address(ray)
        ray_module(ray)
    request = _Request.of(sources, target, listed, include, exclude, batch, run, engine, encode)
    follower = Follower(request.target, on_event, on_progress)
    archive, found = request.find_clips(follower, watch=watch)
    target, settings = request.target, request.settings
    with ExitStack() as stack:
        with unmade_on_failure(target):
            manifest = stack.enter_context(open_manifest(target))
            if retry_failed:
                manifest.forgive()
            work, executor = _batch(manifest, request, follower, stack, ray=ray)
        try:
            work_through(archive, work, found=found, watch=watch, on_plan=follower.plan)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                follower.interrupted()
            _report_anyway(manifest, target, work, follower, spell)
            # The only end of watching.
            if isinstance(error, KeyboardInterrupt) and watch and settings.batch.join:
                _join(manifest, request, work, follower)
            raise
        write_report(target, target, manifest.clips(), seconds=work.tally.seconds, spell=spell)
        is_joined = not settings.batch.join or _join(manifest, request, work, follower)
        return _report(
            manifest, work, archive, is_joined, 0 if executor is None else executor.deaths
        )


def plan_archive(
    sources: Sequence[str | Path],
    target: str | Path,
    *,
    listed: Sequence[Path] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    batch: BatchOptions | None = None,
    run: RunOptions | None = None,
    engine: EngineOptions | None = None,
    encode: EncodeOptions | None = None,
    retry_failed: bool = False,
    on_event: OnEvent | None = None,
) -> BatchPlan:
    """What ``derain_archive`` would do, with time and disk space measured on a second of a few clips.

    The target and its manifest are not changed. Raises what ``derain_archive`` raises.
    """
    request = _Request.of(sources, target, listed, include, exclude, batch, run, engine, encode)
    archive, found = request.find_clips(Follower(request.target, on_event, None))
    target, settings = request.target, request.settings
    with ExitStack() as stack:
        manifest, folder = stack.enter_context(copied_manifest(target))
        if retry_failed:
            manifest.forgive()
        unpin(manifest, settings.engine)
        opened = stack.enter_context(closing(open_engine(pinned(manifest, settings.engine))))
        ahead = plan(manifest, target, found, settings)
        needed = estimate(ahead.waiting, settings, opened, folder, margin=request.margin)
    short = shortage(ahead, target, needed.output_bytes if needed.sampled else None)
    return BatchPlan(ahead, needed, short, free_bytes(target), archive.left_out)


@dataclass(frozen=True, slots=True)
class _Request:
    """The arguments of a call, with the defaults filled in."""

    sources: tuple[Path, ...]
    target: Path
    listed: tuple[Path, ...]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    settings: Settings
    margin: int  # frames before and after a cut that the network uses

    @classmethod
    def of(
        cls,
        sources: Sequence[str | Path],
        target: str | Path,
        listed: Sequence[Path],
        include: Sequence[str],
        exclude: Sequence[str],
        batch: BatchOptions | None,
        run: RunOptions | None,
        engine: EngineOptions | None,
        encode: EncodeOptions | None,
    ) -> _Request:
        """Raises OptionError for a single path in place of a list, and errors of the weights."""
        if isinstance(sources, str | Path):
            raise OptionError(f"{sources}: give a list of sources")
        engine = with_tier(engine or EngineOptions())
        _, card = find_weights(engine.tier, engine.weights)
        settings = Settings(
            batch or BatchOptions(),
            run or RunOptions(),
            engine,
            encode or EncodeOptions(),
            card.sha256,
        )
        return cls(
            tuple(map(Path, sources)),
            Path(target),
            tuple(listed),
            tuple(include),
            tuple(exclude),
            settings,
            card.config.frames - 1,
        )

    def find_clips(self, follower: Follower, *, watch: bool = False) -> tuple[Archive, list[Found]]:
        """The archive and its clips. Raises SourceError where there is none, OptionError."""
        if not self.sources and not self.listed:
            raise SourceError(f"{self.target}: no clip is named; nothing is done")
        archive = Archive(
            self.sources, self.target, listed=self.listed, include=self.include,
            exclude=self.exclude, encode=self.settings.encode, on_left_out=follower.left_out,
        )  # fmt: skip
        return archive, list(archive.clips()) if watch else archive.found()


def _batch(
    manifest: Manifest,
    request: _Request,
    follower: Follower,
    stack: ExitStack,
    *,
    ray: str | None,
) -> tuple[Batch, RayExecutor | None]:
    """The batch with its engine, which ``stack`` closes, or with the workers of a cluster."""
    settings, target = request.settings, request.target
    if ray is None:  # this machine does not know which engines workers can run
        unpin(manifest, settings.engine, follower.clip)
    options = pinned(manifest, settings.engine)
    executor: Executor
    gating = workers = None
    is_gated = settings.batch.gate != "off"
    if ray is None or is_gated:
        # Workers may have the engine that a batch resumes with; this machine only detects rain and may lack it.
        asked = options if ray is None else settings.engine
        engine = stack.enter_context(closing(open_engine(asked)))
        if is_gated:
            gating = RainGating(settings.run, settings.encode, engine=engine)
        executor = InProcess(engine, follower.update)
    if ray is not None:  # workers have engines of their own
        executor = workers = _cluster(ray, options, request, follower)
    workload = Workload()
    batch = Batch(
        manifest, target, settings, executor,
        gating=gating, margin=request.margin, workload=workload, on_event=follower.clip,
    )  # fmt: skip
    follower.follow(batch, workload)
    return batch, workers


def _cluster(
    address: str, options: EngineOptions, request: _Request, follower: Follower
) -> RayExecutor:
    """Workers that can read the sources and write to the work folder."""
    paths = (*request.sources, *request.listed)
    return RayExecutor(
        options,
        address=address,
        shared=request.target / WORK_FOLDER / "segments",
        visible=sorted({path if path.is_dir() else path.parent for path in paths}),
        on_progress=follower.update,
        on_notice=follower.notice,
    )


def _report_anyway(
    manifest: Manifest,
    target: Path,
    work: Batch,
    follower: Follower,
    spell: Callable[[str], str],
) -> None:
    """Write the report of a batch that is ending with another error, which has precedence."""
    try:
        write_report(target, target, manifest.clips(), seconds=work.tally.seconds, spell=spell)
    except SinkError as error:
        follower.error(error)


def _join(manifest: Manifest, request: _Request, work: Batch, follower: Follower) -> bool:
    replaced = work.tally.done if request.settings.encode.overwrite else ()
    return join_series(manifest, request.target, follower.clip, replaced)


def _report(
    manifest: Manifest, work: Batch, archive: Archive, is_joined: bool, died: int
) -> BatchReport:
    outputs = {clip.id: clip.output for clip in manifest.clips()}

    def named(clips: Sequence[int]) -> tuple[Path, ...]:
        return tuple(outputs[clip] for clip in clips)

    tally = work.tally
    return BatchReport(
        work.target,
        named(tally.done),
        named(tally.lossy),
        named(tally.skipped),
        named(tally.failed),
        dict(archive.left_out),
        is_joined,
        tally.seconds,
        died,
    )
