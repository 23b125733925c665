"""``vderain adapt`` in this process, on clips made here."""

import json

import pytest
from click.testing import CliRunner

from tests.training.folders import save
from tests.training.rainy_clips import save_unchanging, scene, with_rain, write_frames
from vderain.cli import main
from vderain.cli.training.adapt import adapt
from vderain.errors import OptionError, SinkError, SourceError, VderainError, WeightsError

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ["--set", "patch=32", "--set", "batch=2", "--set", "windows=3", "--set", "checkpoint_every=2",
         "--steps", "2"]  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp("rain") / "clip", with_rain([scene()] * 30))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_unchanging(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def call(*arguments):
    result = CliRunner().invoke(adapt, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.slow
def test_from_a_clip_to_weights_a_card_and_a_report(tmp_path, clip, weights):
    out = tmp_path / "mine.safetensors"
    done = call(clip, "-o", out, "--weights", weights, *SMALL)
    assert done.exit_code == 0
    assert "validation frames" in done.output and f"{out}:" in done.output
    assert out.is_file()
    assert json.loads(out.with_suffix(".json").read_text())["training"]["verdict"]
    assert (tmp_path / "mine.adapt" / "index.html").is_file()
    with pytest.raises(SinkError, match="exists already; use overwrite=True"):
        call(clip, "-o", out, "--weights", weights, *SMALL)
    assert call(clip, "-o", out, "--weights", weights, *SMALL, "--overwrite", "-q").exit_code == 0


def test_bad_input_is_an_error_and_writes_nothing(tmp_path, clip, weights):
    still = write_frames(tmp_path / "still", [scene()] * 30)
    short = write_frames(tmp_path / "short", with_rain([scene()] * 9))
    one = save(tmp_path / "one.png", scene())
    mixed = write_frames(
        tmp_path / "mixed", [*with_rain([scene()] * 15), *with_rain([scene(0, (80, 90))] * 15)]
    )
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    out = tmp_path / "mine.safetensors"
    for footage, told in (
        ([still], "is a still image"),
        ([short], "has 9 frames, too few"),
        ([one], "is one image"),
        ([mixed, "--set", "windows=30"], "differ in size"),
        ([broken], "broken.mp4"),
        ([tmp_path / "none.mp4"], "no such file"),
        ([clip, "--dry", clip], "shows rain"),
        ([clip, "--dry", tmp_path / "none"], "no such dry file or folder"),
        ([clip, "--replay", tmp_path / "none"], "no such file"),
    ):
        with pytest.raises(SourceError, match=told):
            call(*footage, "-o", out, "--weights", weights, *SMALL)
        assert not out.exists() and not out.with_suffix(".adapt").exists()


def test_impossible_weights_and_settings_are_refused(tmp_path, clip, weights):
    out = tmp_path / "mine.safetensors"
    cases = [
        (WeightsError, "no such weights", ["-o", out, "--weights", tmp_path / "none.safetensors"]),
        (WeightsError, "no such weights", ["-o", out, "--tier", "none"]),
        (OptionError, "ending in .safetensors", ["-o", tmp_path / "a.bin", "--weights", weights]),
        (SinkError, "does not exist", ["-o", tmp_path / "no" / "a.safetensors"]),
        (OptionError, "unknown settings rain", ["-o", out, "--weights", weights, "--set", "rain=1"]),
        (OptionError, "more than 1 together", ["-o", out, "--weights", weights, "--set", "mined_share=0.9"]),
    ]  # fmt: skip
    for error, told, options in cases:
        with pytest.raises(error, match=told):
            call(clip, *options)


def test_an_error_is_one_line_and_a_non_zero_exit(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["vderain", "adapt", str(tmp_path), "-o", str(tmp_path / "a.safetensors")]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "holds no clips" in told and "Traceback" not in told
    assert issubclass(SourceError, VderainError)
