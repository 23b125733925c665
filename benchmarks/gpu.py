"""The verdict on a machine with an NVIDIA GPU: does it work, and how fast is it. Stops at the first failure.

    pip install -e ".[dev]" && python benchmarks/gpu.py                  # cuda, NVDEC and the pipeline: 10 minutes
    pip install -e ".[dev,nvidia]" && python benchmarks/gpu.py --tensorrt   # and TensorRT, whose builds take longer

Correctness comes first: what the machine has, the decoder and encoder of the GPU in a process of their own, the tests
that need a GPU, the contract of all engines, a whole run. A test that this machine must run and skips is a failure, and
so is a decoder or an encoder of the CPU in place of the GPU's. Then speed: the shipped tiers at 720p and 1080p, alone
and end to end with each decoder and encoder, and where the time goes; the other tiers last, with those of the CPU. A
stage that fails ends it, and says what to send back. What was measured goes into benchmarks/RESULTS.md, between the
lines that name this script. Stages that are not done after ``--minutes`` are left out, and the section says which;
without those of correctness there is no verdict, and the exit code is 1.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import click
import torch
from gpu_rates import PATHS

from vderain.diagnostics.diagnosis import installed_versions, nvidia_gpus
from vderain.machine import package_version
from vderain.network.card import Card
from vderain.network.config import TIERS
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.options import SHIPPED_TIERS
from vderain.weights import save_network

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
BEGIN, END = "<!-- benchmarks/gpu.py begin -->", "<!-- benchmarks/gpu.py end -->"

# In processes of their own, since each makes the GPU's context first in its own way.
DECODER_TESTS = ["tests/media/gpu/test_nvdec.py", "tests/media/gpu/test_surfaces.py"]
GPU_TESTS = ["tests/engines/backends/test_gpu.py", "tests/engines/backends/test_device_planes.py"]
CONTRACT = ["tests/engines/test_contract.py"]
TESTS = [*DECODER_TESTS, *GPU_TESTS, *CONTRACT]
# Of notes on a run in which the CPU decodes, or encodes, or gets frames that should stay on the GPU.
FALLBACKS = ("software decode", "encodes instead", "accepts no frames from the GPU")
SIZES = ("1280x720", "1920x1080")
STAGE_LIMIT_S = 240.0  # of what is measured: what takes longer hangs
BUILDING_LIMIT_S = 1800.0  # the same where TensorRT builds
ASK_NVENC = """
from vderain.media.io.encoders import ENCODERS, why_closed
print(why_closed(ENCODERS["h264_nvenc"]) or "")
"""


class StageError(Exception):
    """A stage failed; ``str`` is what to send back."""


class TimeIsOver(Exception):  # noqa: N818  # no error
    """A stage was ended because the verdict's time is over; ``str`` is the end of what it wrote."""


@dataclass
class Verdict:
    """What was found so far."""

    tensorrt: bool
    seconds: float
    until_s: float
    folder: Path
    no_nvenc: str = ""  # why the GPU encodes nothing: some have no encoder
    tests: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    profile: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """Decoders and encoders of whole runs that this GPU has."""
        return [path for path in PATHS if not ("NVENC" in path and self.no_nvenc)]

    @property
    def allowed(self) -> list[str]:
        """Words of the reasons to skip a test that hold on this machine."""
        one_gpu, no_nvenc = torch.cuda.device_count() < 2, bool(self.no_nvenc)
        return ["there is a GPU", *["one GPU"] * one_gpu, *["no NVENC"] * no_nvenc]

    def command(self, *arguments: str, limit_s: float = STAGE_LIMIT_S) -> str:
        """Standard output of a Python command.

        Raises StageError with the end of what it wrote, TimeIsOver where the verdict has no more time.
        """
        left_s = self.until_s - time.monotonic()
        try:
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=ROOT, capture_output=True, text=True, check=False,
                timeout=max(0.0, min(limit_s, left_s)),
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            wrote = (error.stdout or b"") + (
                error.stderr or b""
            )  # bytes, also where text is asked for
            tail = _tail(wrote.decode(errors="replace"))
            if left_s < limit_s:
                raise TimeIsOver(tail) from error
            told = f"{' '.join(arguments)}\nnot done after {limit_s:.0f} s\n{tail}"
            raise StageError(told) from error
        if done.returncode:
            tail = _tail(done.stdout + done.stderr)
            raise StageError(f"{' '.join(arguments)}\nexit code {done.returncode}\n{tail}")
        return done.stdout


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-60:])


def tested(verdict: Verdict, tests: list[str], *options: str) -> None:
    """Run tests; one that is skipped and should not be is a failure."""
    report = verdict.folder / "tests.xml"
    arguments = ("-m", "pytest", "-v", "-x", "--junitxml", str(report), *tests, *options)
    verdict.command(*arguments, limit_s=math.inf)
    cases = list(ElementTree.parse(report).iter("testcase"))  # our own file
    refused = refused_skips(cases, verdict.allowed)
    if refused or not cases:
        raise StageError("\n".join(["tests that this machine must run were skipped:", *refused]))
    skipped = sum(case.find("skipped") is not None for case in cases)
    verdict.tests.append(f"{' '.join(tests)}: {len(cases) - skipped} passed, {skipped} skipped")


def refused_skips(cases: list[ElementTree.Element], allowed: list[str]) -> list[str]:
    """Names and reasons of the tests that were skipped without need."""
    refused = []
    for case in cases:
        skip = case.find("skipped")
        if skip is None:
            continue
        reason = skip.get("message", "")
        if not any(words in reason for words in allowed):
            refused.append(f"{case.get('classname')}::{case.get('name')}: {reason}")
    return refused


def fallbacks(notes: list[str]) -> list[str]:
    """The notes that say that the CPU did what the GPU should."""
    return [note for note in notes if any(words in note for words in FALLBACKS)]


def probed(verdict: Verdict) -> None:
    """What vderain sees of the machine, and a first product on the GPU."""
    print(verdict.command("-m", "vderain", "doctor"), flush=True)
    verdict.command("-c", "import torch; assert float((torch.ones(8, 8, device='cuda') @ "
            "torch.ones(8, 8, device='cuda')).sum()) == 512", limit_s=60)  # fmt: skip
    verdict.no_nvenc = verdict.command("-c", ASK_NVENC, limit_s=60).strip()
    if verdict.no_nvenc:
        verdict.tests.append(f"no NVENC: {verdict.no_nvenc}")


def derained(verdict: Verdict) -> None:
    """A whole run of the sample, decoded in software and by NVDEC; no other engine or decoder may have gone on."""
    clip = str(ROOT / "samples" / "rainy_road.mp4")
    for decoder in ("software", "nvdec"):
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
    """What gpu_rates.py found: ``single``, and ``paths``."""
    weights = made_weights(verdict.folder, tier)
    found: dict = json.loads(
        verdict.command(
            *(str(ROOT / "benchmarks" / "gpu_rates.py"), "--size", size, "--engine", engine),
            *("--weights", str(weights), "--seconds", str(verdict.seconds)),
            *(word for path in paths for word in ("--path", path)),
        )
    )
    for path, bench in found["paths"].items():
        if bench["engine"] != engine:
            told = f"{engine} at {size} was replaced by {bench['engine']}: {bench['notes']}"
            raise StageError(told)
        if told_notes := fallbacks(bench["run_notes"]):
            raise StageError(f"{path} at {size}, the CPU did its work: {told_notes}")
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
    verdict.tests.append(f"{tier}, tensorrt, {size}: built and checked in {seconds:.0f} s")


def benched(verdict: Verdict, tier: str, engine: str, size: str) -> None:
    """A tier at a size: the network with one and with several frames in flight, and whole runs."""
    if engine == "tensorrt":
        built(verdict, tier, size)
    paths = verdict.paths if tier in SHIPPED_TIERS else ["CPU"]
    found = measured(verdict, tier, engine, size, paths)
    for path, bench in found["paths"].items():
        rates = bench["rates"]
        if path == "CPU":
            verdict.networks.append(
                f"| {tier} | {engine} {bench['precision']} | {size} | {rates['network']:.1f} | "
                f"{rates['network'] / found['single']:.2f} | {bench['tflop_per_s']:.1f} of "
                f"{bench['peak_tflop_per_s']:.0f} TFLOP/s in {bench['peak_precision']} | "
                f"{100 * bench['share_of_peak']:.0f} % |"
            )
        told = "; ".join([bench["limiting_stage"], *bench["run_notes"]])
        whole = f"{rates['end to end']:.1f} ({rates['end to end'] / rates['network']:.2f})"
        alone = f"{rates['decode']:.0f} / {rates['encode']:.0f}"
        verdict.runs.append(f"| {tier} | {engine} | {size} | {path} | {whole} | {alone} | {told} |")


def profiled(verdict: Verdict, tier: str, engine: str) -> None:
    """Where the GPU's time goes."""
    weights = made_weights(verdict.folder, tier)
    script = str(ROOT / "benchmarks" / "gpu_profile.py")
    told = verdict.command(
        script, "--size", SIZES[-1], "--weights", str(weights), "--engine", engine
    )
    verdict.profile += [*told.strip().splitlines(), ""]


def compared(verdict: Verdict) -> None:
    """What float16 and bfloat16 lose on the development sets, which goes onto the card too."""
    script = str(ROOT / "benchmarks" / "losses.py")
    verdict.profile.append(
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

    def test(tests: list[str], *options: str) -> Callable[[], None]:
        return functools.partial(tested, verdict, tests, *options)

    found = [
        Stage("the machine", lambda: probed(verdict), decides=True),
        Stage("decoder and encoder of the GPU", test(DECODER_TESTS), decides=True),
        Stage("tests that need a GPU", test(GPU_TESTS, "-k", "not tensorrt"), decides=True),
        Stage("the contract of cuda", test(CONTRACT, "-k", "cuda and not 4k"), decides=True),
        Stage("a whole run", lambda: derained(verdict), decides=True),
        *rate_stages(verdict, "cuda"),
    ]
    if os.environ.get("VDERAIN_DATA"):
        found.append(Stage("what half precision loses", lambda: compared(verdict)))
    if verdict.tensorrt:
        shipped = " or ".join(SHIPPED_TIERS)
        found += [
            Stage("tests of tensorrt", test(GPU_TESTS, "-k", f"tensorrt and ({shipped})")),
            *rate_stages(verdict, "tensorrt"),
            Stage("more tests of tensorrt", test(GPU_TESTS, "-k", f"tensorrt and not ({shipped})")),
            Stage("the contract of tensorrt", test(CONTRACT, "-k", "tensorrt and not 4k")),
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


def section(verdict: Verdict, failure: str) -> str:
    """What RESULTS.md says."""
    versions = {**installed_versions(), "torch-tensorrt": package_version("torch-tensorrt")}
    told = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    lines = [
        f"Measured on {date.today()}: {'; '.join(nvidia_gpus('nvidia-smi'))}. {told}.",
        *([f"Failed: {failure}."] if failure else []),
        *(
            [f"Left out, the time was over: {'; '.join(verdict.left_out)}."]
            if verdict.left_out
            else []
        ),
        "",
        *(f"- {line}" for line in verdict.tests),
        "",
        "| tier | engine | size | network fps | times one frame in flight | reached | share of the peak |",
        "|---|---|---|---|---|---|---|",
        *verdict.networks,
        "",
        "| tier | engine | size | decoder, encoder | end to end fps (of network) | decode / encode fps "
        "| limited by |",
        "|---|---|---|---|---|---|---|",
        *verdict.runs,
        "",
        *verdict.profile,
    ]
    return "\n".join(lines)


def written(text: str) -> None:
    """Put the section into RESULTS.md, in place of an earlier one."""
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    RESULTS.write_text(pattern.sub(lambda _: f"{BEGIN}\n{text}\n{END}", RESULTS.read_text()))


def judged(verdict: Verdict) -> str:
    """Run the stages in turn; what ended the verdict before its time, "" for nothing."""
    for stage in stages(verdict):
        print(f"== {stage.name}", flush=True)
        since = time.monotonic()
        try:
            if since > verdict.until_s:
                raise TimeIsOver
            stage.run()
        except TimeIsOver as end:
            verdict.left_out.append(stage.name)
            print(f"left out, the time was over\n{end}".rstrip(), flush=True)
            if stage.decides:
                return f"{stage.name} was not done in time, give it more --minutes"
        except StageError as error:
            print(f"FAILED: {stage.name}\nSend back all that follows:\n{error}")
            print("\n".join(nvidia_gpus("nvidia-smi")))
            for package, version in installed_versions().items():
                print(f"{package} {version}", flush=True)
            return stage.name
        else:
            print(f"done in {time.monotonic() - since:.0f} s", flush=True)
    return ""


@click.command()
@click.option("--tensorrt", is_flag=True, help="Also build and judge TensorRT's engines.")
@click.option("--seconds", default=3.0, help="How long each rate is measured.")
@click.option("--minutes", default=10.0, help="When it ends; 60 are sensible with --tensorrt.")
def main(tensorrt: bool, seconds: float, minutes: float) -> None:
    """Judge this machine's GPU, and write RESULTS.md."""
    if not nvidia_gpus("nvidia-smi") or not torch.cuda.is_available():
        raise SystemExit("there is no NVIDIA GPU that torch can use here; nothing was written")
    with tempfile.TemporaryDirectory() as name:
        verdict = Verdict(tensorrt, seconds, time.monotonic() + 60 * minutes, Path(name))
        failure = judged(verdict)
    written(section(verdict, failure))
    print(f"written into {RESULTS}" if failure else f"passed; send back {RESULTS}")
    sys.exit(1 if failure else 0)


if __name__ == "__main__":
    main()
