"""The runner for GPU machines, up to the GPU: what it runs, and what it writes."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("gpu", "losses"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import gpu

    yield gpu
    for name in ("gpu", "losses"):
        sys.modules.pop(name, None)


def test_every_test_that_needs_a_gpu_is_run(gpu):
    own = Path(__file__).name
    marked = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        if path.name != own and "mark.needs_cuda" in path.read_text()
    ]
    assert marked and set(marked) <= set(gpu.TESTS)
    assert all((ROOT / path).exists() for path in gpu.TESTS)


def test_without_a_gpu_nothing_is_written(gpu, monkeypatch):
    before = gpu.RESULTS.read_text()
    monkeypatch.setattr(gpu, "nvidia_gpus", lambda command: [])
    done = CliRunner().invoke(gpu.main, [])
    assert done.exit_code == 1 and "there is no NVIDIA GPU" in str(done.exception)
    assert gpu.RESULTS.read_text() == before


def test_what_was_measured_is_written_in_place_of_what_stood_there(gpu, monkeypatch, tmp_path):
    results = tmp_path / "RESULTS.md"
    results.write_text(f"before\n{gpu.BEGIN}\nold\n{gpu.END}\nafter\n")
    asked = []

    def measured(weights, engine, size, seconds, *options):
        asked.append(options)
        if engine == "tensorrt" and size == "1920x1080":
            return "no room for a frame"
        rate = 10.0 if "slots=1" in options else 25.0
        return {
            "engine": engine, "precision": "float16", "peak_precision": "float16",
            "rates": {"network": rate, "end to end": 20.0, "decode": 300.0, "encode": 90.0},
            "share_of_peak": 0.41, "peak_tflop_per_s": 700.0, "tflop_per_s": 287.0,
            "limiting_stage": "network", "run_notes": ["NVENC takes none"],
        }  # fmt: skip

    monkeypatch.setattr(gpu, "RESULTS", results)
    monkeypatch.setattr(gpu, "nvidia_gpus", lambda command: ["Card, 80 GiB"])
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "made_weights", lambda folder, name, config: folder / name)
    monkeypatch.setattr(gpu, "run_tests", lambda: ("3 failed, 80 passed", False))
    monkeypatch.setattr(gpu, "measured", measured)
    monkeypatch.setattr(
        gpu, "profile", lambda weights, engine, size: [f"profile of {engine} {size}"]
    )
    monkeypatch.delenv("VDERAIN_DATA", raising=False)
    assert CliRunner().invoke(gpu.main, []).exit_code == 1  # tests failed, but all is told
    text = results.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "Tests on the GPU: 3 failed, 80 passed." in text
    assert (
        "| paper | cuda float16 | 1280x720 | 25.0 | 2.50 | 287.0 of 700 TFLOP/s in float16 | 41 % |"
        in text
    )
    assert "| fast | tensorrt | 1920x1080 | no room for a frame | | | |" in text
    assert "| NVDEC, NVENC | 20.0 (0.80) | 300 / 90 | network; NVENC takes none |" in text
    assert "VDERAIN_DATA was not set" in text
    assert "below 45% of the peak:\n\nprofile of tensorrt 1280x720\n" in text
    assert "profile of tensorrt 1920x1080" not in text
    assert ("--set", "decoder=nvdec", "--codec", "h264_nvenc") in asked


def test_a_profile_names_what_ran_and_how_long_nothing_did(gpu):
    import gpu_profile

    spans = [
        ("conv", 0.0, 4000.0),
        ("copy", 2000.0, 5000.0),
        ("conv", 7000.0, 9000.0),
        ("add", 7500.0, 8000.0),
    ]
    found = gpu_profile.usage(reversed(spans))
    assert found.kernels[0] == gpu_profile.Kernel("conv", 2, 6.0)
    assert (found.busy_ms, found.span_ms) == (7.0, 9.0)
    lines = gpu_profile.table(found, 12.5, 1)
    assert lines[2:] == [
        "| `conv` | 2 | 6.00 | 63.2% |",
        "",
        "3 kinds in all, 10 ms of them in 9 ms, idle for 22.2% of it; 12.5 frames per second with the profiler on.",
    ]
    assert "idle for 100.0%" in gpu_profile.table(gpu_profile.usage([]), 0.0, 1)[-1]


def test_a_profile_is_made_of_what_an_engine_runs(gpu, tmp_path):
    from tests.engines.conftest import write_weights

    weights = write_weights(tmp_path / "tiny.safetensors")
    lines = gpu.profile(weights, "reference", "64x48")
    assert lines[0] == "reference float32, tier tiny, 64x48:"
    assert any("conv" in line for line in lines[3:]) and "frames per second" in lines[-2]
    assert gpu.profile(tmp_path / "none.safetensors", "reference", "64x48")[0].startswith(
        "reference, 64x48: "
    )


def test_losses_are_told_against_their_aims_and_kept_on_the_card(gpu, monkeypatch, tmp_path):
    import losses

    from tests.engines.conftest import write_weights
    from vderain.network.card import Card

    scores = {
        "float32": {"a": 30.0, "b": 25.0},
        "float16": {"a": 29.95, "b": 25.01},
        "int8": "no VNNI",
    }
    monkeypatch.setattr(losses, "scored", lambda engine, precision, *_: scores[precision])
    found = losses.losses("cuda", ("float16", "int8"), None, 4)
    assert losses.table("cuda", found)[2:] == [
        "| cuda float16 | a 0.050, b -0.010 | 0.050 | 0.1 |",
        "| cuda int8 | not known: no VNNI | | |",
    ]
    path = write_weights(tmp_path / "tiny.safetensors")
    losses.onto_card(str(path), "cuda", found)
    assert Card.load(path).scores[losses.KEY] == {"cuda float16": {"a": 0.05, "b": -0.01}}
