"""The verdict on a machine with an NVIDIA GPU: does it work, and how fast is it. Stops at the first failure.

    pip install -e ".[dev]" && python benchmarks/gpu.py                  # cuda, NVDEC and the pipeline: 10 minutes
    pip install -e ".[dev,nvidia]" && python benchmarks/gpu.py --tensorrt   # and TensorRT, whose builds take longer

Correctness comes first: what the machine has, the decoder and encoder of the GPU in a process of their own, the tests
that need a GPU, the contract of all engines, a whole run. A test that this machine must run and skips is a failure, and
so is a decoder or an encoder of the CPU in place of the GPU's. Then speed: the shipped tiers at 720p and 1080p, alone
and end to end with each decoder and encoder, and where the time goes; the other tiers last, with those of the CPU. A
stage that fails ends it, and says what to send back; with ``--keep-going`` the next one runs. What was measured goes
into benchmarks/RESULTS.md after every stage, between the lines that name this script. Stages that are not done after
``--minutes`` are left out, and the section says which; without those of correctness there is no verdict, and the exit
code is 1. Each command has a process of its own and ends after half of ``--minutes`` at the latest.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
import torch
from gpu_verdict.command import ended
from gpu_verdict.rates import PATHS
from gpu_verdict.report import Findings, gpus, written
from gpu_verdict.tests import (
    CONTRACT,
    DECODER_TESTS,
    GPU_TESTS,
    counted,
    most_workers,
    pytest_arguments,
    worker_threads,
)

from vderain.diagnostics.diagnosis import installed_versions
from vderain.network.card import Card
from vderain.network.config import TIERS
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.options import SHIPPED_TIERS
from vderain.weights import save_network

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
PARTS = ROOT / "benchmarks" / "gpu_verdict"

# Of notes on a run in which the CPU decodes, or encodes, or gets frames that should stay on the GPU.
FALLBACKS = (
    *("software decode", "copied to the host at once"),
    *("encodes instead", "accepts no frames from the GPU"),
)
SIZES = ("1280x720", "1920x1080")
STAGE_LIMIT_S = 240.0  # of what is measured: what takes longer hangs
BUILDING_LIMIT_S = 1800.0  # the same where TensorRT builds
ASK_GPU = """
import torch
ones = torch.ones(8, 8, device="cuda")
assert float((ones @ ones).sum()) == 512
print(torch.cuda.get_device_properties(0).total_memory >> 30)
"""
ASK_NVENC = """
from vderain.media.io.encoders import ENCODERS, why_closed
print(why_closed(ENCODERS["h264_nvenc"]) or "")
"""
ASK_NVDEC = """
import ctypes
try:
    ctypes.CDLL("libnvcuvid.so.1")
except OSError as error:
    print(error)
"""


class StageError(Exception):
    """A stage failed; ``str`` is what to send back."""


class TimeIsOver(Exception):  # noqa: N818  # no error
    """A stage was ended because the verdict's time is over; ``str`` is the end of what it wrote."""


@dataclass
class Verdict:
    """The machine, how long it is judged, and what was found so far."""

    tensorrt: bool
    seconds: float
    until_s: float
    folder: Path
    most_s: float = 300.0  # of one command
    no_nvenc: str = ""  # why the GPU encodes nothing: some have no encoder
    no_nvdec: str = ""  # why it decodes nothing: the driver lacks the library
    gpu_gib: int = 0
    found: Findings = field(default_factory=Findings)

    @property
    def paths(self) -> list[str]:
        """Decoders and encoders of whole runs that this GPU has."""
        missing = [("NVENC", self.no_nvenc), ("NVDEC", self.no_nvdec)]
        return [path for path in PATHS if not any(why and name in path for name, why in missing)]

    @property
    def allowed(self) -> list[str]:
        """Words of the reasons to skip a test that hold on this machine."""
        one_gpu, no_nvenc = torch.cuda.device_count() < 2, bool(self.no_nvenc)
        return ["there is a GPU", *["one GPU"] * one_gpu, *["no NVENC"] * no_nvenc]

    def command(self, *arguments: str, limit_s: float = STAGE_LIMIT_S, threads: int = 0) -> str:
        """Standard output of a Python command.

        Raises StageError with the end of what it wrote, TimeIsOver where the verdict has no more time.
        """
        left_s, limit_s = self.until_s - time.monotonic(), min(limit_s, self.most_s)
        done = ended(arguments, ROOT, min(limit_s, left_s), threads)
        if done.code == 0:
            return done.stdout
        if done.code is None and left_s < limit_s:
            raise TimeIsOver(done.tail)
        how = f"not done after {limit_s:.0f} s" if done.code is None else f"exit code {done.code}"
        raise StageError(f"{' '.join(arguments)}\n{how}\n{done.tail}")


def run_tests(
    verdict: Verdict, tests: list[str], *options: str, builds: bool = False, workers: int = 1
) -> None:
    """Run tests; one that is skipped and should not be is a failure."""
    report, since = verdict.folder / "tests.xml", time.monotonic()
    report.unlink(missing_ok=True)
    verdict.command(
        *(*pytest_arguments(report, builds=builds, workers=workers), *tests, *options),
        limit_s=verdict.most_s,
        threads=worker_threads(workers),
    )
    passed, skipped, refused = counted(report, verdict.allowed)
    if refused or not passed + skipped:
        raise StageError("\n".join(["tests that this machine must run were skipped:", *refused]))
    counts = f"{passed} passed, {skipped} skipped"
    seconds = time.monotonic() - since
    verdict.found.tests.append(f"{' '.join(tests)}: {counts}, in {seconds:.0f} s")


def fallbacks(notes: list[str]) -> list[str]:
    """The notes that say that the CPU did what the GPU should."""
    return [note for note in notes if any(words in note for words in FALLBACKS)]


def probed(verdict: Verdict) -> None:
    """A first product on the GPU, what video it has, and what vderain sees of the machine."""
    verdict.gpu_gib = int(verdict.command("-c", ASK_GPU, limit_s=120).strip() or 0)
    verdict.no_nvenc = verdict.command("-c", ASK_NVENC, limit_s=60).strip()
    verdict.no_nvdec = verdict.command("-c", ASK_NVDEC, limit_s=60).strip()
    if verdict.no_nvenc:
        verdict.found.tests.append(f"no NVENC: {verdict.no_nvenc}")
    if verdict.no_nvdec:
        # A fault of the machine, without which all the rest can be judged.
        verdict.found.failures.append(f"there is no NVDEC ({verdict.no_nvdec})")
    print(verdict.command("-m", "vderain", "doctor"), flush=True)


def video_tested(verdict: Verdict) -> None:
    """The tests of decoder and encoder, in a process of their own."""
    if not verdict.no_nvdec:
        run_tests(verdict, DECODER_TESTS)


def gpu_tested(verdict: Verdict) -> None:
    """The tests that need a GPU."""
    left_out = " and not nvdec" if verdict.no_nvdec else ""
    run_tests(
        verdict, GPU_TESTS, "-k", f"not tensorrt{left_out}", workers=most_workers(verdict.gpu_gib)
    )


def contracted(verdict: Verdict) -> None:
    """What every engine must do."""
    run_tests(verdict, CONTRACT, "-k", "cuda and not 4k", workers=most_workers(verdict.gpu_gib))


def derained(verdict: Verdict) -> None:
    """A whole run of the sample, decoded in software and by NVDEC; no other engine or decoder may have gone on."""
    clip = str(ROOT / "samples" / "rainy_road.mp4")
    for decoder in ("software", *["nvdec"] * (not verdict.no_nvdec)):
        out, report = verdict.folder / f"{decoder}.mkv", verdict.folder / f"{decoder}.json"
        print(verdict.command("-m", "vderain", "run", clip, str(out), "--engine", "cuda",
                      "--set", f"decoder={decoder}", "--report", str(report)), flush=True)  # fmt: skip
        result = json.loads(report.read_text())
        names = [engine["name"] for engine in result["engines"]]
        if names != ["cuda"] or fallbacks(result["notes"]):
            raise StageError(f"engines {names}, decoder {decoder}: {json.dumps(result, indent=1)}")


def made_weights(folder: Path, name: str) -> Path:
    """Weights of a seeded network with a small answer: `paper` has no shipped ones, and speed needs none."""
    path = folder / f"{name}.safetensors"
    if path.exists():
        return path
    torch.manual_seed(0)
    network = SemiDRDNet(TIERS[name]).eval().requires_grad_(False)
    for branch in (network.rain, network.detail):
        branch.tail.weight.mul_(0.1)
        branch.tail.bias.zero_()
    save_network(network.half(), path, Card(name, TIERS[name], sha256=""))
    return path


def measured(verdict: Verdict, tier: str, engine: str, size: str, paths: list[str]) -> dict:
    """What rates.py found: ``single``, and ``paths``."""
    weights = made_weights(verdict.folder, tier)
    text = verdict.command(
        *(str(PARTS / "rates.py"), "--size", size, "--engine", engine),
        *("--weights", str(weights), "--seconds", str(verdict.seconds)),
        *(word for path in paths for word in ("--path", path)),
    )
    found: dict = json.loads(text.strip().splitlines()[-1])  # libraries may write before it
    for path, bench in found["paths"].items():
        if bench["engine"] != engine:
            text = f"{engine} at {size} was replaced by {bench['engine']}: {bench['notes']}"
            raise StageError(text)
        if replaced := fallbacks(bench["run_notes"]):
            raise StageError(f"{path} at {size}, the CPU did its work: {replaced}")
    return found


def built(verdict: Verdict, tier: str, size: str) -> None:
    """How long TensorRT builds, alone on the GPU."""
    weights, since = made_weights(verdict.folder, tier), time.monotonic()
    verdict.command(
        *("-m", "vderain", "engine", "build", "--engine", "tensorrt", "--size", size),
        *("--weights", str(weights)),
        limit_s=BUILDING_LIMIT_S,
    )
    seconds = time.monotonic() - since
    verdict.found.tests.append(f"{tier}, tensorrt, {size}: built and checked in {seconds:.0f} s")


def benched(verdict: Verdict, tier: str, engine: str, size: str) -> None:
    """A tier at a size: the network with one and with several frames in flight, and whole runs."""
    if engine == "tensorrt":
        built(verdict, tier, size)
    paths = verdict.paths if tier in SHIPPED_TIERS else ["CPU"]
    found = measured(verdict, tier, engine, size, paths)
    for path, bench in found["paths"].items():
        rates = bench["rates"]
        if path == "CPU":
            verdict.found.networks.append(
                f"| {tier} | {engine} {bench['precision']} | {size} | {rates['network']:.1f} | "
                f"{rates['network'] / found['single']:.2f} | {bench['tflop_per_s']:.1f} of "
                f"{bench['peak_tflop_per_s']:.0f} TFLOP/s in {bench['peak_precision']} | "
                f"{100 * bench['share_of_peak']:.0f} % |"
            )
        text = "; ".join([bench["limiting_stage"], *bench["run_notes"]])
        whole = f"{rates['end to end']:.1f} ({rates['end to end'] / rates['network']:.2f})"
        alone = f"{rates['decode']:.0f} / {rates['encode']:.0f}"
        verdict.found.runs.append(
            f"| {tier} | {engine} | {size} | {path} | {whole} | {alone} | {text} |"
        )


def profiled(verdict: Verdict, tier: str, engine: str) -> None:
    """Where the GPU's time goes."""
    weights = made_weights(verdict.folder, tier)
    script = str(PARTS / "kernels.py")
    text = verdict.command(
        script, "--size", SIZES[-1], "--weights", str(weights), "--engine", engine
    )
    verdict.found.profile += [*text.strip().splitlines(), ""]


def compared(verdict: Verdict) -> None:
    """What float16 and bfloat16 lose on the development sets, which goes onto the card too."""
    script = str(ROOT / "benchmarks" / "losses.py")
    verdict.found.profile.append(
        verdict.command(script, "float16", "bfloat16", "--engine", "cuda", "--card")
    )


@dataclass(frozen=True)
class Stage:
    """A step of the verdict; without those that decide there is none."""

    name: str
    run: Callable[[], None]
    decides: bool = False


def stages(verdict: Verdict) -> list[Stage]:
    """Correctness first, then speed, then what TensorRT builds."""

    def build(tests: list[str], words: str) -> Callable[[], None]:
        return functools.partial(run_tests, verdict, tests, "-k", words, builds=True)

    found = [
        Stage("the machine", lambda: probed(verdict), decides=True),
        Stage("decoder and encoder of the GPU", lambda: video_tested(verdict), decides=True),
        Stage("tests that need a GPU", lambda: gpu_tested(verdict), decides=True),
        Stage("the contract of cuda", lambda: contracted(verdict), decides=True),
        Stage("a whole run", lambda: derained(verdict), decides=True),
        *rate_stages(verdict, "cuda"),
    ]
    if os.environ.get("VDERAIN_DATA"):
        found.append(Stage("what half precision loses", lambda: compared(verdict)))
    if verdict.tensorrt:
        shipped = " or ".join(SHIPPED_TIERS)
        found += [
            Stage("tests of tensorrt", build(GPU_TESTS, f"tensorrt and ({shipped})")),
            *rate_stages(verdict, "tensorrt"),
            Stage("more tests of tensorrt", build(GPU_TESTS, f"tensorrt and not ({shipped})")),
            Stage("the contract of tensorrt", build(CONTRACT, "tensorrt and not 4k")),
        ]
    return found


def rate_stages(verdict: Verdict, engine: str) -> list[Stage]:
    """The rates of an engine: of the first shipped tier and its profile, of other shipped tiers, of all other tiers."""

    def rates(tier: str, size: str) -> Stage:
        run = functools.partial(benched, verdict, tier, engine, size)
        return Stage(f"{tier}, {engine}, {size}", run)

    first, *shipped = SHIPPED_TIERS
    others = [tier for tier in TIERS if tier not in SHIPPED_TIERS]
    profile = functools.partial(profiled, verdict, first, engine)
    return [
        *(rates(first, size) for size in SIZES),
        Stage(f"profile of {first}, {engine}", profile),
        *(rates(tier, size) for tier in shipped for size in SIZES),
        *(rates(tier, size) for size in SIZES for tier in others),
    ]


def judged(verdict: Verdict, results: Path, *, keep_going: bool) -> None:
    """Run the stages in turn, and write what was found after each of them."""
    found, first = verdict.found, True
    for stage in stages(verdict):
        print(f"== {stage.name}", flush=True)
        since, before = time.monotonic(), found.measured
        found.running = stage.name
        written(found, results)  # where the whole verdict is ended from outside, this much is known
        ends = False
        try:
            if since > verdict.until_s:
                raise TimeIsOver
            stage.run()
        except TimeIsOver as end:
            found.left_out.append(stage.name)
            print(f"left out, the time was over\n{end}".rstrip(), flush=True)
            if ends := stage.decides:
                found.failures.append(f"{stage.name} was not done in time, give it more --minutes")
        except StageError as error:
            found.failures.append(stage.name)
            ends = first or not keep_going  # without the first one nothing can run
            print(f"FAILED: {stage.name}\nSend back all that follows:\n{error}")
            print("\n".join(gpus()))
            for package, version in installed_versions().items():
                print(f"{package} {version}", flush=True)
        else:
            print(f"done in {time.monotonic() - since:.0f} s", flush=True)
        print("\n".join(line for line in found.measured if line not in before), flush=True)
        found.running, first = "", False
        if ends:
            return


@click.command()
@click.option("--tensorrt", is_flag=True, help="Also build and judge TensorRT's engines.")
@click.option("--seconds", default=3.0, help="How long each rate is measured.")
@click.option("--minutes", default=10.0, help="When it ends; 60 are sensible with --tensorrt.")
@click.option("--keep-going", is_flag=True, help="Run the next stage after one that failed.")
@click.option(
    "--results", default=RESULTS, type=click.Path(path_type=Path), help="Where the section goes."
)
def main(tensorrt: bool, seconds: float, minutes: float, keep_going: bool, results: Path) -> None:
    """Judge this machine's GPU, and write RESULTS.md."""
    if not gpus() or not torch.cuda.is_available():
        raise SystemExit("there is no NVIDIA GPU that torch can use here; nothing was written")
    # A command in progress ends with the verdict, as it does at Ctrl-C.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            until_s = time.monotonic() + 60 * minutes
            verdict = Verdict(tensorrt, seconds, until_s, Path(name), most_s=30 * minutes)
            judged(verdict, results, keep_going=keep_going)
    finally:
        signal.signal(signal.SIGTERM, before)
    written(verdict.found, results)
    failures = verdict.found.failures
    print(f"written into {results}" if failures else f"passed; send back {results}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
