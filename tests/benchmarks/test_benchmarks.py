"""The runner for GPU machines, up to the GPU: what it runs, and what it writes."""

import json
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from vderain.frames import PlaneFormat
from vderain.options import EngineOptions

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PARTS = ("command", "kernels", "rates", "report", "tests")
SCRIPTS = ("gpu", "gpu_verdict", *(f"gpu_verdict.{part}" for part in PARTS), "losses")


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in SCRIPTS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import gpu

    yield gpu
    for name in SCRIPTS:
        sys.modules.pop(name, None)


def test_every_test_that_needs_a_gpu_is_run(gpu):
    from gpu_verdict import tests as gpu_tests

    own = Path(__file__).name
    marked = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        if path.name != own and "mark.needs_cuda" in path.read_text()
    ]
    assert marked and set(marked) <= set(gpu_tests.TESTS)
    assert all((ROOT / path).exists() for path in gpu_tests.TESTS)


def test_without_a_gpu_nothing_is_written(gpu, monkeypatch):
    before = gpu.RESULTS.read_text()
    monkeypatch.setattr(gpu, "gpus", lambda: ())
    done = CliRunner().invoke(gpu.main, [])
    assert done.exit_code == 1 and "there is no NVIDIA GPU" in str(done.exception)
    assert gpu.RESULTS.read_text() == before


@pytest.fixture
def judge(gpu, monkeypatch, tmp_path):
    """Runs the verdict over a machine whose commands are answered by ``answer``; (exit code, output, RESULTS.md)."""
    from gpu_verdict import report as gpu_report

    results = tmp_path / "RESULTS.md"
    monkeypatch.setattr(gpu_report, "nvidia_gpus", lambda command: ["Card, 80 GiB"])
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "made_weights", lambda folder, name: folder / name)
    monkeypatch.delenv("VDERAIN_DATA", raising=False)

    def run(answer, *options):
        """Exit code, output and RESULTS.md of a verdict over these answers."""
        results.write_text(f"before\n{gpu_report.BEGIN}\nold\n{gpu_report.END}\nafter\n")
        monkeypatch.setattr(gpu.Verdict, "command", answer)
        done = CliRunner().invoke(gpu.main, [*options, "--results", str(results)])
        text = results.read_text()
        assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
        return done.exit_code, done.output, text

    return run


def is_bench(arguments):
    return arguments[0].endswith("gpu_verdict/rates.py")


def values_of(arguments, option):
    return [value for name, value in pairwise(arguments) if name == option]


def bench_of(arguments, **changes):
    (engine,) = values_of(arguments, "--engine")
    found = {path: {**figures_of(engine), **changes} for path in values_of(arguments, "--path")}
    return json.dumps({"single": 10.0, "paths": found})


def figures_of(engine):
    return {
        "engine": engine,
        "precision": "float16", "peak_precision": "float16", "notes": [],
        "rates": {"network": 25.0, "end to end": 20.0, "decode": 300.0, "encode": 90.0},
        "share_of_peak": 0.41, "peak_tflop_per_s": 700.0, "tflop_per_s": 287.0,
        "limiting_stage": "network", "run_notes": ["NVENC takes none"],
    }  # fmt: skip


def answering(cases, asked, *, engine="cuda", notes=()):
    """Tests of these cases pass, all else works; a run reports this engine and these notes."""

    def command(verdict, *arguments, limit_s=0.0, threads=0):
        asked.append(arguments)
        if "pytest" in arguments:
            report = arguments[arguments.index("--junitxml") + 1]
            Path(report).write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
        if "run" in arguments:
            report = Path(arguments[arguments.index("--report") + 1])
            report.write_text(json.dumps({"engines": [{"name": engine}], "notes": notes}))
        if "-c" in arguments:
            return "\n"
        return bench_of(arguments) if is_bench(arguments) else "done\n"

    return command


PASSED = '<testcase classname="tests.a" name="one"/>'
SKIPPED = '<testcase classname="tests.a" name="two"><skipped message="{}"/></testcase>'


def test_the_verdict_is_written_in_place_of_the_last_one(judge, gpu):
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
    benches = [number for number, one in enumerate(asked) if is_bench(one)]
    assert max(tests) < min(benches)  # correctness first
    assert not any("tensorrt" in one for one in asked)
    asked.clear()
    _, _, text = judge(answering(PASSED, asked), "--tensorrt")
    assert f"- {gpu.SHIPPED_TIERS[0]}, tensorrt, 1280x720: built and checked in" in text
    about = [one for one in asked if any("tensorrt" in word for word in one)]
    first, second, third = [one for one in about if "not tensorrt" not in one][:3]
    shipped = " or ".join(gpu.SHIPPED_TIERS)
    assert f"tensorrt and ({shipped})" in first  # correctness first, of the shipped tiers alone
    assert "build" in second and is_bench(third)  # alone on the GPU, before it is measured


def test_the_shipped_tier_is_measured_and_profiled_before_the_others(judge, gpu):
    asked = []
    judge(answering(PASSED, asked))
    scripts = [one for one in asked if one[0].endswith(".py")]
    measured = [
        (Path(values_of(one, "--weights")[0]).name, *values_of(one, "--size")) for one in scripts
    ]
    (first, *shipped), (small, large) = gpu.SHIPPED_TIERS, gpu.SIZES
    others = [tier for tier in gpu.TIERS if tier not in gpu.SHIPPED_TIERS]
    assert measured == [
        *((first, small), (first, large), (first, large)),  # the last is the profile
        *((tier, size) for tier in shipped for size in gpu.SIZES),
        *((tier, size) for size in gpu.SIZES for tier in others),
    ]
    paths = [values_of(one, "--path") for one in scripts]
    whole = [[*gpu.PATHS]]
    assert paths == [*whole * 2, [], *whole * 2 * len(shipped), *[["CPU"]] * 2 * len(others)]


def test_a_test_that_is_skipped_without_need_fails_the_verdict(judge):
    asked = []
    cases = PASSED + SKIPPED.format("NVDEC cannot be used here")
    code, output, text = judge(answering(cases, asked))
    assert code == 1 and "Failed: decoder and encoder of the GPU." in text
    assert "tests.a::two: NVDEC cannot be used here" in output
    assert sum("pytest" in one for one in asked) == 1  # the first failure ends it
    assert judge(answering("", asked))[0] == 1  # no tests at all


@pytest.mark.parametrize(
    ("reason", "no_nvenc", "gpus"),
    [("this GPU has no NVENC", "", 1), ("this machine has one GPU", "No capable devices", 2)],
)
def test_a_reason_to_skip_that_does_not_hold_here_fails_the_verdict(
    judge, gpu, monkeypatch, reason, no_nvenc, gpus
):
    def command(verdict, *arguments, limit_s=0.0, threads=0):
        if gpu.ASK_NVENC in arguments:
            return no_nvenc
        return answering(PASSED + SKIPPED.format(reason), [])(verdict, *arguments)

    monkeypatch.setattr(gpu.torch.cuda, "device_count", lambda: gpus)
    code, output, _ = judge(command)
    assert code == 1 and f"tests.a::two: {reason}" in output


@pytest.mark.parametrize(
    "note",
    [
        "software decoded 40 of 100 images of this h264, which NVDEC did not take",
        "NVDEC's images are copied to the host at once (Primary context already active)",
        "h264_nvenc does not open here (no driver); libx264 encodes instead",
        "h264_nvenc accepts no frames from the GPU here (too many sessions); they are copied",
    ],
)
def test_a_rate_of_the_cpu_in_place_of_the_gpu_fails_the_verdict(judge, gpu, note):
    def command(verdict, *arguments, limit_s=0.0, threads=0):
        if is_bench(arguments):
            return bench_of(arguments, run_notes=[note])
        return answering(PASSED, [])(verdict, *arguments)

    code, output, text = judge(command)
    assert code == 1 and f"Failed: {gpu.SHIPPED_TIERS[0]}, cuda, 1280x720." in text
    assert note in output[output.index("Send back all that follows") :]


def test_the_first_failure_ends_the_verdict_with_what_to_send_back(judge, gpu):
    def command(verdict, *arguments, limit_s=0.0, threads=0):
        if is_bench(arguments):
            raise gpu.StageError("an illegal memory access was encountered")
        return answering(PASSED, [])(verdict, *arguments)

    code, output, text = judge(command)
    assert code == 1 and f"Failed: {gpu.SHIPPED_TIERS[0]}, cuda, 1280x720." in text
    told = output[output.index("Send back all that follows") :]
    assert all(words in told for words in ("illegal memory access", "Card, 80 GiB", "vderain"))


def test_what_the_time_does_not_allow_is_left_out_and_reported(judge, gpu):
    def command(verdict, *arguments, limit_s=0.0, threads=0):
        if "1920x1080" in arguments:
            raise gpu.TimeIsOver
        return answering(PASSED, [])(verdict, *arguments)

    code, _, text = judge(command)
    left_out = f"Left out, the time was over: {gpu.SHIPPED_TIERS[0]}, cuda, 1920x1080; profile"
    assert code == 0 and left_out in text
    assert "paper, cuda, 1920x1080" in text


def test_correctness_that_the_time_does_not_allow_fails_the_verdict(judge, gpu):
    def command(verdict, *arguments, limit_s=0.0, threads=0):
        if "pytest" in arguments:
            raise gpu.TimeIsOver
        return answering(PASSED, [])(verdict, *arguments)

    code, _, text = judge(command)
    assert code == 1 and "Failed: decoder and encoder of the GPU was not done in time" in text
    code, _, text = judge(answering(PASSED, []), "--minutes", "-1")
    assert code == 1 and "Failed: the machine was not done in time" in text


def test_a_card_without_an_encoder_is_measured_without_it(judge, gpu):
    def command(verdict, *arguments, limit_s=0.0, threads=0):
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


def test_rates_have_all_figures_that_the_verdict_reads(gpu):
    from gpu_verdict import rates as gpu_rates

    options = EngineOptions(engine="reference", threads=1)
    found = gpu_rates.rates(options, PlaneFormat("yuv420", 64, 48), 0.1, ["CPU"])
    assert found["single"] > 0
    bench = json.loads(json.dumps(found["paths"]["CPU"]))
    assert {*figures_of("reference")} <= {*bench}
    assert {"network", "end to end", "decode", "encode"} <= {*bench["rates"]}


def test_a_command_that_hangs_ends_with_the_last_words_that_it_wrote(gpu, tmp_path):
    hangs = "print('test_nine', flush=True); import time; time.sleep(60)"
    for limit_s, left_s, kind in ((4, 60, gpu.StageError), (60, 4, gpu.TimeIsOver)):
        verdict = gpu.Verdict(False, 0.1, time.monotonic() + left_s, tmp_path)
        with pytest.raises(kind, match="test_nine"):
            verdict.command("-c", hangs, limit_s=limit_s)


def test_a_command_that_hangs_ends_with_all_that_it_has_started(gpu, tmp_path):
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    verdict = gpu.Verdict(False, 0.1, time.monotonic() + 60, tmp_path)
    with pytest.raises(gpu.StageError, match="not done after 4 s") as failure:
        verdict.command("-c", parent, limit_s=4)
    stat = Path(f"/proc/{str(failure.value).split()[-1]}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_a_command_that_crashes_is_told_by_its_code_and_its_last_words(gpu, tmp_path):
    verdict = gpu.Verdict(False, 0.1, time.monotonic() + 60, tmp_path)
    crash = (
        "import faulthandler, os; faulthandler.enable(); print('test_ten', flush=True); os.abort()"
    )
    with pytest.raises(gpu.StageError, match=r"(?s)exit code -6.*test_ten.*Fatal Python error"):
        verdict.command("-c", crash)


def test_no_command_takes_more_than_half_of_the_time(judge, gpu, monkeypatch):
    from gpu_verdict import command as gpu_command

    limits = []
    monkeypatch.setattr(
        gpu, "ended", lambda *given: limits.append(given[2]) or gpu_command.Ended(None, "", "")
    )
    code, _, text = judge(gpu.Verdict.command, "--minutes", "2")
    assert code == 1 and "Failed: the machine." in text and limits == [60.0]


def test_what_was_found_is_written_before_the_next_stage_begins(judge, gpu, tmp_path):
    """It outlives a verdict that is ended from outside."""
    seen = []

    def command(verdict, *arguments, limit_s=0.0, threads=0):
        if is_bench(arguments):
            seen.append((tmp_path / "RESULTS.md").read_text())
            raise SystemExit(1)
        return answering(PASSED, [])(verdict, *arguments)

    judge(command)
    assert seen[0].count("1 passed, 0 skipped") == 3
    assert f"Ended from outside in: {gpu.SHIPPED_TIERS[0]}, cuda, 1280x720." in seen[0]


def test_after_a_failure_the_next_stage_runs_where_this_is_asked_for(judge, gpu):
    def command(verdict, *arguments, limit_s=0.0, threads=0):
        if "not tensorrt" in arguments:
            raise gpu.StageError("exit code -11")
        return answering(PASSED, [])(verdict, *arguments)

    code, output, text = judge(command, "--keep-going")
    assert code == 1 and "Failed: tests that need a GPU." in text and "exit code -11" in output
    assert "| paper | cuda float16 | 1280x720 |" in text
    assert "| paper |" not in judge(command)[2]


def test_a_machine_without_the_decoders_library_fails_and_is_judged_without_it(judge, gpu):
    def command(verdict, *arguments, limit_s=0.0, threads=0):
        if gpu.ASK_NVDEC in arguments:
            return "libnvcuvid.so.1: cannot open shared object file\n"
        return answering(PASSED, asked)(verdict, *arguments)

    asked = []
    code, _, text = judge(command)
    assert code == 1 and "Failed: there is no NVDEC (libnvcuvid.so.1: cannot open" in text
    assert "| CPU | 20.0 (0.80) |" in text and "| NVDEC" not in text
    assert not any("decoder=nvdec" in one or gpu.DECODER_TESTS[0] in one for one in asked)
    assert any("not tensorrt and not nvdec" in one for one in asked)


def test_without_nvidia_smi_the_driver_names_the_gpus(gpu, monkeypatch):
    from gpu_verdict import report as gpu_report

    asked = []
    monkeypatch.setattr(gpu_report, "nvidia_gpus", lambda command: asked.append(command) or ())
    monkeypatch.setattr(gpu_report, "nvidia_gpu_names", lambda: ("H200, CUDA 13000",))
    for _ in range(2):
        assert gpu_report.gpus() == ("H200, CUDA 13000",)
    assert asked == ["nvidia-smi"]  # which takes seconds, and every stage writes the section


@pytest.mark.parametrize(
    ("cores", "gib", "workers"), [(16, 139, 4), (16, 8, 1), (2, 139, 1), (8, 24, 2)]
)
def test_tests_run_side_by_side_where_there_is_room(judge, gpu, monkeypatch, cores, gib, workers):
    from gpu_verdict import tests as gpu_tests

    def command(verdict, *arguments, limit_s=0.0, threads=0):
        if "pytest" in arguments:
            seen.append((values_of(arguments, "-n"), threads))
        if gpu.ASK_GPU in arguments:
            return f"{gib}\n"
        return answering(PASSED, [])(verdict, *arguments)

    seen = []
    monkeypatch.setattr(gpu_tests, "usable_cores", lambda: cores)
    judge(command)
    apart = ([str(workers)], cores // workers) if workers > 1 else ([], 0)
    assert seen == [([], 0), apart, apart]  # decoder and encoder on their own


def test_an_engine_that_another_one_replaced_is_not_taken_for_it(judge):
    def command(verdict, *arguments, limit_s=0.0, threads=0):
        if is_bench(arguments):
            return bench_of(arguments, engine="openvino")
        return answering(PASSED, [])(verdict, *arguments)

    code, output, _ = judge(command)
    assert code == 1 and "cuda at 1280x720 was replaced by openvino" in output


def test_a_profile_names_what_ran_and_how_long_nothing_did(gpu):
    from gpu_verdict import kernels as gpu_kernels

    spans = [
        ("conv", 0.0, 4000.0),
        ("copy", 2000.0, 5000.0),
        ("conv", 7000.0, 9000.0),
        ("add", 7500.0, 8000.0),
    ]
    found = gpu_kernels.usage(reversed(spans))
    assert found.kernels[0] == gpu_kernels.Kernel("conv", 2, 6.0)
    assert (found.busy_ms, found.span_ms) == (7.0, 9.0)
    lines = gpu_kernels.table(found, 12.5, 1)
    assert lines[2:] == [
        "| `conv` | 2 | 6.00 | 63.2% |",
        "",
        "3 kinds in all, 10 ms of them in 9 ms, idle for 22.2% of it; 12.5 frames per second with the profiler on.",
    ]
    assert "idle for 100.0%" in gpu_kernels.table(gpu_kernels.usage([]), 0.0, 1)[-1]


def test_a_profile_is_made_of_what_an_engine_runs(tmp_path):
    from tests.engines.conftest import write_weights

    weights = write_weights(tmp_path / "tiny.safetensors")
    script = ROOT / "benchmarks" / "gpu_verdict" / "kernels.py"
    done = subprocess.run(
        [sys.executable, script, "--size", "64x48", "--weights", weights, "--engine", "reference"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    assert lines[0] == "reference float32, tier tiny, 64x48:"
    assert any("conv" in line for line in lines[3:]) and "frames per second" in lines[-1]


def test_losses_are_reported_against_their_aims_and_kept_on_the_card(gpu, monkeypatch, tmp_path):
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
