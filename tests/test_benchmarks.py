"""The runner for GPU machines, up to the GPU: what it runs, and what it writes."""

import json
import subprocess
import sys
import time
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


@pytest.fixture
def judge(gpu, monkeypatch, tmp_path):
    """Runs the verdict over a machine whose commands are answered by ``answer``; (exit code, output, RESULTS.md)."""
    results = tmp_path / "RESULTS.md"
    monkeypatch.setattr(gpu, "RESULTS", results)
    monkeypatch.setattr(gpu, "nvidia_gpus", lambda command: ["Card, 80 GiB"])
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "made_weights", lambda folder, name: folder / name)
    monkeypatch.delenv("VDERAIN_DATA", raising=False)

    def run(answer, *options):
        """Exit code, output and RESULTS.md of a verdict over these answers."""
        results.write_text(f"before\n{gpu.BEGIN}\nold\n{gpu.END}\nafter\n")
        monkeypatch.setattr(gpu.Verdict, "command", answer)
        done = CliRunner().invoke(gpu.main, options)
        text = results.read_text()
        assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
        return done.exit_code, done.output, text

    return run


def bench_of(arguments):
    return json.dumps(figures_of(arguments))


def figures_of(arguments):
    rate = 10.0 if "slots=1" in arguments else 25.0
    return {
        "engine": arguments[arguments.index("--engine") + 1],
        "precision": "float16", "peak_precision": "float16", "notes": [],
        "rates": {"network": rate, "end to end": 20.0, "decode": 300.0, "encode": 90.0},
        "share_of_peak": 0.41, "peak_tflop_per_s": 700.0, "tflop_per_s": 287.0,
        "limiting_stage": "network", "run_notes": ["NVENC takes none"],
    }  # fmt: skip


def answering(cases, asked, *, engine="cuda", notes=()):
    """Tests of these cases pass, all else works; a run reports this engine and these notes."""

    def command(verdict, *arguments, limit_s=0.0):
        asked.append(arguments)
        if "pytest" in arguments:
            report = arguments[arguments.index("--junitxml") + 1]
            Path(report).write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
        if "run" in arguments:
            report = Path(arguments[arguments.index("--report") + 1])
            report.write_text(json.dumps({"engines": [{"name": engine}], "notes": notes}))
        if "-c" in arguments:
            return "\n"
        return bench_of(arguments) if "bench" in arguments else "done\n"

    return command


PASSED = '<testcase classname="tests.a" name="one"/>'
SKIPPED = '<testcase classname="tests.a" name="two"><skipped message="{}"/></testcase>'


def test_the_verdict_is_written_in_place_of_the_last_one(judge):
    asked = []
    one_gpu = SKIPPED.format("this machine has one GPU")
    code, _, text = judge(answering(PASSED + one_gpu, asked))
    assert code == 0 and text.count("1 passed, 1 skipped") == 3
    row = (
        "| paper | cuda float16 | 1280x720 | 25.0 | 2.50 | 287.0 of 700 TFLOP/s in float16 | 41 % |"
    )
    assert row in text
    assert "| NVDEC, NVENC | 20.0 (0.80) | 300 / 90 | network; NVENC takes none |" in text
    tests = [number for number, one in enumerate(asked) if "pytest" in one]
    benches = [number for number, one in enumerate(asked) if "bench" in one]
    assert max(tests) < min(benches)  # correctness first
    assert not any("tensorrt" in one for one in asked)
    _, _, text = judge(answering(PASSED, asked), "--tensorrt")
    assert any("tensorrt" in one for one in asked)
    assert "- fast, tensorrt, 1280x720: built and checked in" in text
    first = next(one for one in asked if "tensorrt" in one)
    assert "build" in first  # before it is measured


def test_a_test_that_is_skipped_without_need_fails_the_verdict(judge):
    asked = []
    cases = PASSED + SKIPPED.format("NVDEC cannot be used here")
    code, output, text = judge(answering(cases, asked))
    assert code == 1 and "Failed: decoder and encoder of the GPU." in text
    assert "tests.a::two: NVDEC cannot be used here" in output
    assert sum("pytest" in one for one in asked) == 1  # the first failure ends it
    assert judge(answering("", asked))[0] == 1  # no tests at all


def test_the_first_failure_ends_the_verdict_with_what_to_send_back(judge, gpu):
    def command(verdict, *arguments, limit_s=0.0):
        if "bench" in arguments:
            raise gpu.StageError("an illegal memory access was encountered")
        return answering(PASSED, [])(verdict, *arguments)

    code, output, text = judge(command)
    assert code == 1 and "Failed: fast, cuda, 1280x720." in text
    told = output[output.index("Send back all that follows") :]
    assert all(words in told for words in ("illegal memory access", "Card, 80 GiB", "vderain"))


def test_what_the_time_does_not_allow_is_left_out_and_told(judge, gpu):
    def command(verdict, *arguments, limit_s=0.0):
        if "1920x1080" in arguments:
            raise gpu.TimeIsOver
        return answering(PASSED, [])(verdict, *arguments)

    code, _, text = judge(command)
    assert code == 0 and "Left out, the time was over: fast, cuda, 1920x1080; " in text
    assert "paper, cuda, 1920x1080" in text


def test_correctness_that_the_time_does_not_allow_fails_the_verdict(judge, gpu):
    def command(verdict, *arguments, limit_s=0.0):
        if "pytest" in arguments:
            raise gpu.TimeIsOver
        return answering(PASSED, [])(verdict, *arguments)

    code, _, text = judge(command)
    assert code == 1 and "Failed: decoder and encoder of the GPU was not done in time" in text
    code, _, text = judge(answering(PASSED, []), "--minutes", "-1")
    assert code == 1 and "Failed: the machine was not done in time" in text


def test_a_card_without_an_encoder_is_measured_without_it(judge, gpu):
    def command(verdict, *arguments, limit_s=0.0):
        if gpu.ASK_NVENC in arguments:
            return "No capable devices found\n"
        return answering(PASSED, asked)(verdict, *arguments)

    asked = []
    code, _, text = judge(command)
    assert code == 0 and "- no NVENC: No capable devices found" in text
    assert "| NVDEC |" in text and "NVDEC, NVENC" not in text
    assert not any("h264_nvenc" in one for one in asked)


@pytest.mark.parametrize(
    "other", [{"engine": "openvino"}, {"notes": ["NVDEC cannot be used here, software decodes"]}]
)
def test_a_run_that_the_cpu_went_on_with_fails_the_verdict(judge, other):
    code, output, text = judge(answering(PASSED, [], **other))
    assert code == 1 and "Failed: a whole run." in text
    told = output[output.index("Send back all that follows") :]
    assert str(other.get("engine", "software decodes")) in told


def test_a_bench_has_all_figures_that_the_verdict_reads(gpu, tmp_path):
    verdict = gpu.Verdict(False, 0.1, time.monotonic() + 600, tmp_path)
    for options in ([], gpu.PATHS["CPU"]):
        found = gpu.measured(verdict, "fast", "reference", "64x48", *options)
        assert {*figures_of(("--engine", "reference"))} <= {*found}
        assert {"network", "end to end", "decode", "encode"} <= {*found["rates"]}


def test_an_engine_that_another_one_replaced_is_not_taken_for_it(judge):
    def command(verdict, *arguments, limit_s=0.0):
        if "bench" in arguments:
            return bench_of(("--engine", "openvino"))
        return answering(PASSED, [])(verdict, *arguments)

    code, output, _ = judge(command)
    assert code == 1 and "cuda at 1280x720 was replaced by openvino" in output


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


def test_a_profile_is_made_of_what_an_engine_runs(tmp_path):
    from tests.engines.conftest import write_weights

    weights = write_weights(tmp_path / "tiny.safetensors")
    script = ROOT / "benchmarks" / "gpu_profile.py"
    done = subprocess.run(
        [sys.executable, script, "--size", "64x48", "--weights", weights, "--engine", "reference"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    assert lines[0] == "reference float32, tier tiny, 64x48:"
    assert any("conv" in line for line in lines[3:]) and "frames per second" in lines[-1]


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
