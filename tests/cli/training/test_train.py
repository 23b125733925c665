"""``vderain train`` and ``vderain export`` in this process, on clips and images made here."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from click.testing import CliRunner

from tests.networks import TINY
from tests.training.folders import noise, save, write_clip
from vderain.api import Derainer
from vderain.cli.training.export import export
from vderain.cli.training.train import train
from vderain.errors import OptionError, SourceError, WeightsError
from vderain.options import EngineOptions
from vderain.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

NETWORK = ", ".join(
    f"{k} = {json.dumps(v)}" for k, v in TINY.to_dict().items() if k != "normalised"
)
SMALL = ["--set", f"network={{{NETWORK}}}",
         "--set", "batch=2", "--steps", "2", "--set", "patch=32", "--device", "cpu", "--quiet"]  # fmt: skip


def call(command, *arguments):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.slow
def test_from_a_folder_of_clean_clips_to_weights_that_run(tmp_path):
    (tmp_path / "mine").mkdir()
    write_clip(tmp_path / "mine" / "a.mp4", range(0, 200, 20))
    run, weights = tmp_path / "run", tmp_path / "mine.safetensors"
    done = call(train, "paper", "--clean", tmp_path / "mine", "--run", run, *SMALL)
    assert done.exit_code == 0
    assert call(export, run, "-o", weights).exit_code == 0
    graphs = weights.with_suffix(".openvino")
    graphs.unlink()
    assert call(export, "--graphs", weights).exit_code == 0
    assert graphs.is_file()
    with Derainer(EngineOptions(weights=str(weights), engine="reference")) as derainer:
        assert derainer(noise(0)).shape == (48, 64, 3)


def test_export_takes_an_output_or_makes_graphs_and_not_both(tmp_path):
    for arguments in ([], ["--graphs", "-o", tmp_path / "mine.safetensors"]):
        assert "use either -o or --graphs" in call(export, tmp_path / "run", *arguments).output


@pytest.mark.slow
def test_nlcl_from_two_unpaired_folders_to_weights_that_run(tmp_path):
    write_clip(tmp_path / "rain" / "a.mp4", range(0, 200, 20))
    save(tmp_path / "rain" / "b.png", noise(0))
    save(tmp_path / "dry" / "c.png", noise(1))
    run, weights = tmp_path / "run", tmp_path / "mine.safetensors"
    small = ["--set", "network={width=4, blocks=1}", "--set", "encoder_width=4", *SMALL[2:]]
    footage = ("--rainy", tmp_path / "rain", "--clean", tmp_path / "dry")
    done = call(train, "--method", "nlcl", *footage, "--run", run, *small)
    assert done.exit_code == 0
    kept = load_checkpoint(run / "checkpoint.pt")
    assert kept["method"] == "nlcl"
    assert set(kept["config"]["real"]) == {"rainy_clips1", "real2"}
    assert call(export, run, "-o", weights).exit_code == 0
    with Derainer(EngineOptions(weights=str(weights), engine="reference")) as derainer:
        assert derainer(noise(0)).shape == (48, 64, 3)


def test_a_method_that_does_not_fit_the_rest_of_the_command_is_refused(tmp_path):
    for arguments, told in (
        ((), "CONFIG, or a --method"),
        (("paper", "--method", "nlcl"), "paper is of method semi_drdnet, not nlcl"),
        (("paper", "--rainy", tmp_path), "--rainy is for --method nlcl"),
    ):
        result = call(train, *arguments)
        assert result.exit_code == 2 and told in result.output


def test_the_same_command_goes_on_and_a_longer_one_adds_steps(tmp_path):
    save(tmp_path / "clean" / "a.png", noise(0))
    arguments = ("paper", "--clean", tmp_path / "clean", "--run", tmp_path / "run", *SMALL)
    for steps in (2, 2, 3):
        call(train, *arguments, "--steps", steps)
    state = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert (state["step"], state["history"]) == (3, ["from step 2: steps 2 -> 3"])


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_ends_as_if_it_had_not_been(tmp_path):
    save(tmp_path / "clean" / "a.png", noise(0))
    arguments = ["paper", "--clean", str(tmp_path / "clean"), *SMALL, "--steps", "150"]
    arguments += ["--set", "checkpoint_every=1"]  # most of the time is spent writing
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    call(train, *arguments, "--run", whole)
    for more in (3, 20):
        assert killed_after(more, [*arguments, "--run", str(killed)], killed) == -signal.SIGKILL
    call(train, *arguments, "--run", killed)
    kept, wanted = (load_checkpoint(run / "checkpoint.pt") for run in (killed, whole))
    assert kept["step"] == 150
    for name, value in wanted["averaged"].items():
        assert torch.equal(kept["averaged"][name], value), name


def killed_after(count, arguments, run):
    """Train in a process of its own and kill it when so many more checkpoints are written; its exit code."""
    checkpoint = run / "checkpoint.pt"
    written = set()
    command = [sys.executable, "-m", "vderain", "train", *arguments]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    give_up = time.monotonic() + 120
    while len(written) <= count and process.poll() is None and time.monotonic() < give_up:
        if checkpoint.exists():
            written.add(checkpoint.stat().st_mtime_ns)
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    return process.wait()


def test_pairs_are_not_taken_for_clean_images(tmp_path):
    for side in ("input", "target"):
        save(tmp_path / "pairs" / side / "a.png", noise(0))
    with pytest.raises(OptionError, match=r"pairs.*instead"):
        call(train, "paper", "--clean", tmp_path / "pairs", "--run", tmp_path / "run", *SMALL)


def test_a_folder_without_images_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="empty"):
        call(train, "paper", "--clean", tmp_path / "empty", "--run", tmp_path / "run", *SMALL)


def test_a_damaged_checkpoint_is_named(tmp_path):
    save(tmp_path / "clean" / "a.png", noise(0))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"rain")
    with pytest.raises(WeightsError, match=r"checkpoint\.pt.*start again"):
        call(train, "paper", "--clean", tmp_path / "clean", "--run", tmp_path / "run", *SMALL)


def test_settings_that_do_not_exist_are_named(tmp_path):
    with pytest.raises(OptionError, match="stepps"):
        call(train, "paper", "--set", "stepps=3", "--run", tmp_path / "run")
    with pytest.raises(OptionError, match="device"):
        call(train, "paper", "--device", "toaster", "--run", tmp_path / "run")


def test_it_is_said_how_a_folder_is_read_and_where_a_run_goes_on(tmp_path):
    for side in ("input", "target"):
        save(tmp_path / "pairs" / side / "a.png", noise(0))
    config = tmp_path / "mine.toml"
    config.write_text('[sources.mine]\npath = "pairs"\n')
    loud = [argument for argument in SMALL if argument != "--quiet"]
    told = []
    for steps in (1, 2):
        given = ("--data", tmp_path, "--run", tmp_path / "run", *loud, "--steps", steps)
        told.append(call(train, config, *given).output)
    assert "is read as pairs, 1 samples" in told[0]
    assert "resumes from step 1" in told[1]


def test_a_setting_wins_over_what_clean_footage_implies(tmp_path):
    save(tmp_path / "clean" / "a.png", noise(0))
    given = ("--clean", tmp_path / "clean", "--run", tmp_path / "run", "--set", "terms=mine")
    call(train, "paper", *given, *SMALL)
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["config"]["terms"] == "mine"


@pytest.mark.parametrize(("every", "kept"), [(1, "holds step 2"), (5, "nothing is kept yet")])
def test_a_stopped_run_says_what_is_kept(tmp_path, monkeypatch, every, kept):
    save(tmp_path / "clean" / "a.png", noise(0))

    def stop(bar, progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("vderain.cli.training.train._StepBar.update", stop)
    given = ("--clean", tmp_path / "clean", "--run", tmp_path / "run", *SMALL, "--steps", "4")
    result = CliRunner().invoke(
        train, ["paper", *map(str, given), "--set", f"checkpoint_every={every}"]
    )
    assert result.exit_code != 0
    assert kept in result.output
