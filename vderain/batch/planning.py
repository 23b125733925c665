"""Plans the work of a batch: its manifest, the clips that wait, the engine they began with, clips that arrive."""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from vderain.batch.clips.clip_files import check_inside, is_as_written, room_for
from vderain.batch.clips.find import WORK_FOLDER, Archive, Found
from vderain.batch.clips.series import ordered
from vderain.batch.derain_clips import Batch, Tally
from vderain.batch.manifest import ClipRow, Manifest
from vderain.batch.options import BatchOptions, Settings
from vderain.errors import SinkError, VderainError
from vderain.options import EngineOptions

_POLL_S = 2.0
_MANIFEST = "manifest.sqlite"


@dataclass(frozen=True, slots=True)
class Plan:
    """The work for the clips that are there now."""

    waiting: list[ClipRow] = field(default_factory=list)
    done: list[ClipRow] = field(default_factory=list)
    failed: list[ClipRow] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """Size of the clips that wait, in bytes."""
        return sum(clip.size_bytes for clip in self.waiting)

    def room_bytes(self, output_bytes: int | None = None) -> int:
        """Disk space for all outputs, with the segments of the largest clip while it is derained.

        Outputs count as large as their clips where ``output_bytes`` is unknown.
        """
        outputs = self.size_bytes if output_bytes is None else output_bytes
        in_work = max((room_for(clip) - clip.size_bytes for clip in self.waiting), default=0)
        return round(outputs + in_work) if self.waiting else 0


def open_manifest(target: Path) -> Manifest:
    """The manifest of a target, which is made if missing. Raises SinkError, also while another batch runs."""
    folder = target / WORK_FOLDER
    try:
        for name in ("segments", "clips", _MANIFEST):
            check_inside(folder / name, target)
        for name in ("segments", "clips"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(
            f"{target}: cannot be written ({error.strerror}); make it writable, or choose another target"
            " folder"
        ) from None
    return Manifest(folder / _MANIFEST)


@contextmanager
def copied_manifest(target: Path) -> Iterator[tuple[Manifest, Path]]:
    """A copy of a target's manifest to plan on, and a folder for trials.

    Both are removed afterwards. Raises SinkError, also while another batch runs.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        with Manifest(target / WORK_FOLDER / _MANIFEST, copy=folder / _MANIFEST) as manifest:
            yield manifest, folder


@contextmanager
def unmade_on_failure(target: Path) -> Iterator[None]:
    """Remove a new target where the block fails; at that time no clip is planned yet."""
    made = [folder for folder in (target, *target.parents) if not os.path.exists(folder)]
    try:
        yield
    except VderainError:
        if target in made:
            shutil.rmtree(target / WORK_FOLDER, ignore_errors=True)
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()
        raise


def plan(manifest: Manifest, target: Path, found: list[Found], settings: Settings) -> Plan:
    """Add clips to the manifest, and return the work that is left, in order.

    A clip whose output was removed or modified is derained again. With ``overwrite`` all clips are, except those
    that an unfinished batch of these settings has already derained again.
    """
    result = Plan()
    identity = settings.text()
    clips = [manifest.add(each) for each in ordered(found, settings.batch.order)]
    goes_on = any(clip.state == "planned" and clip.record.get("anew") == identity for clip in clips)
    for clip in clips:
        is_kept = not settings.encode.overwrite or (goes_on and clip.record.get("anew") == identity)
        if clip.state == "failed":
            result.failed.append(clip)
        elif clip.state == "done" and is_kept and is_as_written(target, clip):
            result.done.append(clip)
        else:
            result.waiting.append(clip)
    return result


def begin(manifest: Manifest, ahead: Plan, settings: Settings) -> None:
    """Mark all clips that are to be derained in one transaction; after a kill, ``overwrite`` resumes there."""
    identity = settings.text() if settings.encode.overwrite else None
    for clip in ahead.waiting:
        if clip.state == "done" and identity is not None:
            manifest.plan_again(clip.id, anew=identity)
        elif clip.state != "planned" or clip.record.get("anew") != identity:
            manifest.set_state(clip.id, "planned", anew=identity)


def pinned(manifest: Manifest, options: EngineOptions) -> EngineOptions:
    """``options`` with the engine and precision of clips in work, where they leave the choice open.

    The fastest engine may change between two runs, but all segments of a clip should use the same one.
    """
    if (options.engine, options.precision) != ("auto", "auto"):
        return options
    for clip in manifest.clips():
        for name in _engines_of(manifest, clip):
            return _named(options, name)
    return options


def unpin(
    manifest: Manifest,
    options: EngineOptions,
    on_event: Callable[[ClipRow, str], None] = lambda clip, text: None,
    obstacle: Callable[[EngineOptions], str] | None = None,
) -> None:
    """Start clips again whose engine does not run here, where ``options`` leave the choice open.

    Clips begun on another machine or before an update would otherwise fail one by one. ``obstacle`` returns why
    an engine and precision cannot run, or ""; by default it checks this machine. Each such clip is reported
    with a note.
    """
    if (options.engine, options.precision) != ("auto", "auto"):
        return
    from vderain.engines import registry

    why = functools.cache(obstacle or registry.obstacle)
    for clip in manifest.clips():
        for name in _engines_of(manifest, clip):
            reason = why(_named(options, name))
            if reason:
                note = f"begun again, since {name}, which it began with, does not run: {reason}"
                manifest.discard_cuts(clip.id)
                manifest.set_state(clip.id, clip.state, clip.reason, begun_anew=note)
                on_event(clip, note)
                break


def _engines_of(manifest: Manifest, clip: ClipRow) -> list[str]:
    """Engines and precisions of a clip's finished segments, each once."""
    records = [segment.record for segment in manifest.segments(clip.id)]
    return list(dict.fromkeys(r["engine"] for r in records if r is not None and r["engine"]))


def _named(options: EngineOptions, name: str) -> EngineOptions:
    engine, precision = name.split()
    return replace(options, engine=engine, precision=precision)


def work_through(
    archive: Archive,
    batch: Batch,
    *,
    found: list[Found] | None = None,
    watch: bool = False,
    on_plan: Callable[[Plan], None] | None = None,
) -> Tally:
    """Derain every clip of an archive that is not done yet; with ``watch`` continue until interrupted.

    ``found`` are the clips of the archive, where it was searched before; ``on_plan`` is called with the work
    ahead each time it changes. Raises what Archive and Batch raise.
    """
    settings = batch.settings
    settled = Settled(settings.batch) if watch else None
    looks = _looks(archive, settled) if watch or found is None else iter([found])
    for there in looks:
        ahead = plan(batch.manifest, batch.target, there, settings)
        batch.tally.failed += [c.id for c in ahead.failed if c.id not in batch.tally.failed]
        begin(batch.manifest, ahead, settings)
        if on_plan is not None:
            on_plan(ahead)
        batch.run(ahead.waiting)
    return batch.tally


def _looks(archive: Archive, settled: Settled | None) -> Iterator[list[Found]]:
    """Yields the clips that are there: once, or whenever new ones are complete."""
    if settled is None:
        yield list(archive.clips())
        return
    while True:
        # Lenient, since watching continues after names that collide.
        found = settled.new(archive.clips(lenient=True))
        if found:
            yield found
        else:
            time.sleep(_POLL_S)


class Settled:
    """Holds back clips that are still being written.

    A clip changes if two looks differ: clocks of cameras and file servers are often wrong.
    """

    def __init__(self, options: BatchOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._settle_s = options.settle_s
        self._clock = clock
        self._since: dict[Path, tuple[tuple[int, int], float]] = {}
        self._given: dict[Path, tuple[int, int]] = {}

    def new(self, found: Iterator[Found]) -> list[Found]:
        """Clips unchanged for ``settle_s`` that were not yielded in this state before."""
        now_s = self._clock()
        ready = []
        there = set()
        for clip in found:
            there.add(clip.source)
            looks = clip.size_bytes, clip.mtime_ns
            if self._given.get(clip.source) == looks:
                continue
            seen, since_s = self._since.get(clip.source, (None, now_s))
            if seen != looks:
                self._since[clip.source] = looks, now_s
                since_s = now_s
            if now_s - since_s >= self._settle_s and clip.size_bytes:
                self._given[clip.source] = looks
                ready.append(clip)
        for gone in set(self._since) - there:
            with suppress(KeyError):
                del self._since[gone]
        return ready
