"""A batch over tiny clips, with an engine that darkens every frame by a fixed step."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fakes import OffsetEngine
from tests.media.synth import STEP, write
from vderain.batch.clips.find import Archive
from vderain.batch.derain_clips import Batch
from vderain.batch.jobs import InProcess
from vderain.batch.options import BatchOptions, Settings
from vderain.batch.planning import open_manifest, plan, work_through
from vderain.options import EncodeOptions

GOP = 10  # frames between keyframes of clips
CLOSED = {"g": str(GOP), "bf": "2", "x264-params": "open-gop=0:scenecut=0"}


class Killed(BaseException):
    """Stands for what no code can catch."""


@dataclass
class Rig:
    """Folders, settings, and what happened; ``run`` is one call of the command."""

    folder: Path
    engine: object = field(default_factory=OffsetEngine)
    gating: object = None
    events: list = field(default_factory=list)
    settings: Settings = field(
        default_factory=lambda: Settings(
            BatchOptions(segment_s=1.0, retries=1), encode=EncodeOptions(preset="ultrafast")
        )
    )

    @property
    def source(self):
        return self.folder / "in"

    @property
    def target(self):
        return self.folder / "out"

    def clip(self, name="a.mp4", frames=60, **changes):
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        changes.setdefault("options", CLOSED)
        write(path, pts=tuple(range(0, frames * STEP, STEP)), **changes)
        return path

    def run(self, executor=None, *, margin=0):
        archive = Archive([self.source], self.target, encode=self.settings.encode)
        with open_manifest(self.target) as manifest:
            batch = Batch(
                manifest, self.target, self.settings, executor or InProcess(self.engine),
                gating=self.gating, margin=margin, workload=getattr(executor, "workload", None),
                on_event=lambda clip, text: self.events.append((clip.output.name, text)),
            )  # fmt: skip
            if hasattr(executor, "batch"):
                executor.batch = batch
            return work_through(archive, batch)

    def rows(self):
        with open_manifest(self.target) as manifest:
            return {row.output.name: row for row in manifest.clips()}

    def plan(self):
        archive = Archive([self.source], self.target, encode=self.settings.encode)
        with open_manifest(self.target) as manifest:
            return plan(manifest, self.target, list(archive.clips()), self.settings)

    def left_over(self):
        """Files in the target that are neither outputs nor the manifest."""
        hidden = self.target / ".vderain-batch"
        return sorted(
            str(path.relative_to(self.target))
            for path in self.target.rglob("*")
            if path.is_file()
            and (hidden in path.parents or path.name.startswith("."))
            and not path.name.startswith("manifest.sqlite")
        )


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)
