"""Files of the version before go on working: weights, a half-done batch, a training checkpoint."""

import os
import shutil
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.media.synth import decoded_frames, streams, times
from tests.older.make import BATCH, ENGINE, images
from vderain.api import Derainer
from vderain.batch.derain_archive import derain_archive
from vderain.training.checkpoint import load_checkpoint
from vderain.training.config.methods import state_config
from vderain.training.train import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def before(tmp_path, monkeypatch):
    """A folder with the files, which is the working directory."""
    with zipfile.ZipFile(Path(__file__).parent / "before-0.4.0.zip") as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def looks(path):
    return [image.to_ndarray().tobytes() for image in decoded_frames(path)]


def test_weights_derain(before):
    image = np.full((48, 64, 3), 100, np.uint8)
    with Derainer(ENGINE) as derainer:
        assert derainer(image).shape == image.shape


def test_a_batch_that_was_killed_goes_on_where_it_stopped(before):
    source, target = before / "in" / "a.mp4", before / "out"
    with closing(sqlite3.connect(target / ".vderain-batch" / "manifest.sqlite")) as manifest:
        ((mtime_ns,),) = manifest.execute("SELECT mtime_ns FROM clip")
        with manifest:  # as if it had been made in this folder
            manifest.execute("UPDATE clip SET source = ?", (os.fsencode(source),))
    os.utime(source, ns=(mtime_ns, mtime_ns))
    shutil.copy(target / ".vderain-batch" / "segments" / "1-0.nut", before / "first.nut")
    first = looks(before / "first.nut")
    said = []
    report = derain_archive(
        [before / "in"], target, **BATCH, on_event=lambda event: said.append(str(event))
    )
    assert (report.done, report.lossy, report.exit_code) == ((Path("a.mp4"),), (), 0)
    assert any("1 of 3 segments are done" in line for line in said), said
    output = target / "a.mp4"
    assert times(output) == times(source) and streams(output) == streams(source)
    assert looks(output)[: len(first)] == first


def test_training_goes_on_from_a_checkpoint(before):
    images(before / "data" / "clean")
    checkpoint = before / "run" / "checkpoint.pt"
    trainer = Trainer(state_config(load_checkpoint(checkpoint), checkpoint), before / "run")
    trainer.resume()
    assert trainer.step == 3
    trainer.train(before / "data")
    assert trainer.step == 6
