"""The command in this process, on images made here; the engine is the reference, which needs no building."""

import json

import pytest
from click.testing import CliRunner

from tests.training.evaluation.test_evaluate import (
    flickering_clip,
    noise,
    save,
    save_frames,
    save_pairs,
)
from tests.training.rainy_clips import save_unchanging, scene, with_rain, write_frames
from vderain.cli.training.evaluate import evaluate
from vderain.errors import VderainError


def call(*arguments):
    """Run the command; what it raised is raised again."""
    result = CliRunner().invoke(evaluate, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.slow
def test_every_kind_of_set_with_the_shipped_weights(tmp_path):
    rainy, truth = flickering_clip(tmp_path, 3)
    pairs = save_pairs(tmp_path / "pairs", 2)
    save(tmp_path / "dry.png", noise(0))
    save_frames(tmp_path / "other", [noise(number) for number in range(2)])
    done = call(
        "--pairs", pairs, "--video", rainy, truth, "--clean", tmp_path / "dry.png",
        "--results", f"other={tmp_path / 'other'}", "--engine", "reference", "--set", "threads=1",
        "--report", tmp_path / "report", "--json", tmp_path / "scores.json",
    )  # fmt: skip
    assert done.exit_code == 0
    for text in (
        "pairs",
        "rainy",
        "dry",
        "other",
        "reference float32",
        "GFLOP",
        "ms per megapixel",
    ):
        assert text in done.stdout
    assert "read as pairs" in done.stderr and "index.html" in done.stderr
    values = json.loads((tmp_path / "scores.json").read_text())
    assert [one["name"] for one in values["sets"]] == ["pairs", "rainy", "dry"]
    assert values["weights"]["tier"] == "fast" and values["weights"]["parameters"] > 1e5
    assert values["engines"][0]["name"] == "reference"
    assert (tmp_path / "report" / "index.html").exists()


@pytest.mark.slow
def test_clips_of_real_rain_and_dry_ones_are_in_table_json_and_page(tmp_path):
    frames = with_rain([scene()] * 30)
    write_frames(tmp_path / "data" / "rain", frames)
    write_frames(tmp_path / "data" / "dry", [scene(1)] * 8)
    write_frames(tmp_path / "other" / "rain", frames)
    (tmp_path / "data" / "suite.toml").write_text(
        '[[set]]\nname = "real"\nstatic_rain = "rain"\n[[set]]\nname = "still"\ndry_motion = "dry"'
    )
    done = call(
        "--suite", tmp_path / "data" / "suite.toml", "--every", 8, "--lookahead", 0,
        "--engine", "reference", "--set", "threads=1",
        "--weights", save_unchanging(tmp_path / "tiny.safetensors"), "--results", f"other={tmp_path / 'other'}",
        "--report", tmp_path / "report", "--json", tmp_path / "scores.json",
    )  # fmt: skip
    for text in ("static rain", "median of 5", "other", "dry motion"):
        assert text in done.stdout
    values = json.loads((tmp_path / "scores.json").read_text())
    rain, dry = values["clips"]
    assert [spec["lookahead"] for spec in values["engines"]] == [0]
    assert (rain["name"], rain["kind"], dry["kind"]) == ("real", "static_rain", "dry_motion")
    (clip,) = rain["clips"]
    assert clip["methods"]["vderain"]["streaks_left"] == 1  # these weights change nothing
    assert clip["methods"]["vderain"]["kept_db"] is None
    assert clip["methods"]["vderain"] == clip["methods"]["other"]
    assert len(clip["frames"]) == len(clip["by_frame"]["median of 5"]) == 2
    assert values["summary"]["still/dry"]["psnr_db"] == 100
    page = (tmp_path / "report" / "index.html").read_text()
    files = {f"images/{path.name}" for path in (tmp_path / "report" / "images").iterdir()}
    assert files and all(f'src="{file}"' in page for file in files)
    assert "most rain" in page and page.count("<svg") == 1


def test_a_suite_and_results_alone(tmp_path, monkeypatch):
    save_pairs(tmp_path / "data" / "p", 2)
    save_frames(tmp_path / "other", [noise(number) for number in range(2)])
    (tmp_path / "suite.toml").write_text('[[set]]\nname = "mine"\npairs = "p"')
    monkeypatch.setenv("VDERAIN_DATA", str(tmp_path / "data"))
    done = call(
        "--suite", tmp_path / "suite.toml", "--only-results", "--results", f"other={tmp_path / 'other'}"
    )  # fmt: skip
    assert "mine" in done.stdout and "100.00" in done.stdout and "engine" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--static-rain, --dry-motion or --suite"),
        (["--pairs", "{set}", "--only-results"], "needs --results"),
        (["--pairs", "{set}", "--results", "other"], "NAME=DIR"),
        (["--pairs", "{set}", "--results", "a={set}", "--results", "a={set}"], "taken"),
        (["--pairs", "{set}", "--every", "0"], "--every"),
    ],
)
def test_wrong_use_is_explained(tmp_path, arguments, says):
    save_pairs(tmp_path / "set", 1)
    places = {"set": tmp_path / "set", "none": tmp_path / "none"}
    done = call(*[text.format(**places) for text in arguments])
    assert done.exit_code == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--pairs", "{none}"], 1, "none"),
        (["--suite", "{none}"], 2, "not a suite that can be read"),
        (["--static-rain", "{none}"], 1, "no such file or folder"),
        (["--dry-motion", "{set}"], 1, "holds no clips"),
        (["--video", "{none}", "{set}"], 1, "none"),
        (["--pairs", "{set}", "--results", "a={none}"], 1, "no such folder"),
        (["--pairs", "{set}", "--weights", "{none}"], 1, "no such weights"),
        (["--pairs", "{set}", "--layout", "odd"], 2, "layout odd: choose auto"),
        (["--pairs", "{set}", "--report", "{set}"], 1, "no earlier report"),
        (["--pairs", "{set}", "--json", "{set}"], 1, "no earlier evaluation"),
        (["--pairs", "{set}", "--device", "GPU", "--engine", "reference"], 2, "reference"),
    ],
)
def test_what_cannot_be_scored_is_explained_and_leaves_nothing(tmp_path, arguments, code, says):
    save_pairs(tmp_path / "set", 1)
    before = sorted(tmp_path.rglob("*"))
    places = {"set": tmp_path / "set", "none": tmp_path / "none"}
    with pytest.raises(VderainError, match=says) as caught:
        call(*[text.format(**places) for text in arguments])
    assert caught.value.exit_code == code
    assert sorted(tmp_path.rglob("*")) == before


def test_a_report_of_an_evaluation_that_fails_does_not_appear(tmp_path):
    pairs = save_pairs(tmp_path / "set", 2)
    (pairs / "input" / "1.png").write_bytes(b"no image")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(VderainError, match=r"1\.png"):
        call(
            "--pairs",
            pairs,
            "--layout",
            "pairs",
            "--engine",
            "reference",
            "--report",
            tmp_path / "r",
        )
    assert sorted(tmp_path.rglob("*")) == before


def test_footage_without_ground_truth_is_scored_by_the_frames_around(tmp_path):
    clip = write_frames(tmp_path / "clip", with_rain([scene()] * 30))
    weights = save_unchanging(tmp_path / "tiny.safetensors")
    options = ("--weights", weights, "--engine", "reference", "--json", tmp_path / "scores.json")
    done = call("--rainy", clip, *options)
    assert done.exit_code == 0
    assert "without ground truth" in done.output and "agreement" in done.output
    found = json.loads((tmp_path / "scores.json").read_text())["real"][str(clip)]
    assert found["input"]["agreement_db"] == pytest.approx(
        found["vderain"]["agreement_db"], abs=0.2
    )
    assert found["input"]["structure"] > 0.95
