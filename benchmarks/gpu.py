"""The verdict on a machine with an NVIDIA GPU: does it work, and how fast is it. Stops at the first failure.

    pip install -e ".[dev]" && python benchmarks/gpu.py                  # cuda, NVDEC and the pipeline: 10 minutes
    pip install -e ".[dev,nvidia]" && python benchmarks/gpu.py --tensorrt   # and TensorRT, whose builds take longer

Correctness comes first: what the machine has, the decoder and encoder of the GPU in a process of their own, the tests
that need a GPU, the contract of all engines, a whole run. A test that this machine must run and skips is a failure.
Then speed: each tier at 720p and 1080p, alone and end to end, and where the time goes. A stage that fails ends it, and
says what to send back. What was measured goes into benchmarks/RESULTS.md, between the lines that name this script.
Stages that are not done after ``--minutes`` are left out, and the section says which; without those of correctness
there is no verdict, and the exit code is 1.
"""

from __future__ import annotations

import functools
import json
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
# Reasons to skip that hold on a sound machine too.
ALLOWED = ("one GPU", "there is a GPU", "NVENC")
PATHS = {  # decoder and encoder of a whole run
    "CPU": ["--codec", "h264"],
    "NVDEC": ["--set", "decoder=nvdec", "--codec", "h264"],
    "NVDEC, NVENC": ["--set", "decoder=nvdec", "--codec", "h264_nvenc"],
}
SIZES = ("1280x720", "1920x1080")
STAGE_LIMIT_S = 240.0
BUILDING_LIMIT_S = 1800.0  # of a stage in which TensorRT builds
ASK_NVENC = """
from vderain.media.io.encoders import ENCODERS, why_closed
print(why_closed(ENCODERS["h264_nvenc"]) or "")
"""


class StageError(Exception):
    """A stage failed; ``str`` is what to send back."""


class TimeIsOver(Exception):  # noqa: N818  # no error
    """A stage was ended because the verdict's time is over."""


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
    def engines(self) -> tuple[str, ...]:
        """Those that are judged."""
        return ("cuda", "tensorrt") if self.tensorrt else ("cuda",)

    @property
    def paths(self) -> dict[str, list[str]]:
        """Decoders and encoders of whole runs that this GPU has."""
        return {
            name: path for name, path in PATHS.items() if not ("NVENC" in name and self.no_nvenc)
        }

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
            if left_s < limit_s:
                raise TimeIsOver from error
            raise StageError(f"{' '.join(arguments)}\nnot done after {limit_s:.0f} s") from error
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-60:])
            raise StageError(f"{' '.join(arguments)}\nexit code {done.returncode}\n{tail}")
        return done.stdout


def tested(verdict: Verdict, tests: list[str], *options: str) -> None:
    """Run tests; one that is skipped and should not be is a failure."""
    report = verdict.folder / "tests.xml"
    limit_s = BUILDING_LIMIT_S if verdict.tensorrt else STAGE_LIMIT_S
    arguments = ("-m", "pytest", "-q", "-x", "--junitxml", str(report), *tests, *options)
    verdict.command(*arguments, limit_s=limit_s)
    cases = list(ElementTree.parse(report).iter("testcase"))  # our own file
    refused = refused_skips(cases)
    if refused or not cases:
        raise StageError("\n".join(["tests that this machine must run were skipped:", *refused]))
    skipped = sum(case.find("skipped") is not None for case in cases)
    verdict.tests.append(f"{' '.join(tests)}: {len(cases) - skipped} passed, {skipped} skipped")


def refused_skips(cases: list[ElementTree.Element]) -> list[str]:
    """Names and reasons of the tests that were skipped without need."""
    refused = []
    for case in cases:
        skip = case.find("skipped")
        if skip is None:
            continue
        reason = skip.get("message", "")
        if not any(words in reason for words in ALLOWED):
            refused.append(f"{case.get('classname')}::{case.get('name')}: {reason}")
    return refused


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
        software = [note for note in result["notes"] if "software decodes" in note]
        if names != ["cuda"] or (software and decoder == "nvdec"):
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


def measured(verdict: Verdict, tier: str, engine: str, size: str, *options: str) -> dict:
    """What `vderain engine bench` found."""
    weights = made_weights(verdict.folder, tier)
    found: dict = json.loads(
        verdict.command(
            *("-m", "vderain", "engine", "bench", "--json", "--size", size, "--engine", engine),
            *("--weights", str(weights), "--seconds", str(verdict.seconds)),
            *("--set", "wait-engine=true", *options),
            limit_s=STAGE_LIMIT_S if engine == "cuda" else BUILDING_LIMIT_S,
        )
    )
    if found["engine"] != engine:
        raise StageError(f"{engine} at {size} was replaced by {found['engine']}: {found['notes']}")
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
    single = measured(verdict, tier, engine, size, "--set", "slots=1")
    for path, options in verdict.paths.items():
        found = measured(verdict, tier, engine, size, *options)
        rates = found["rates"]
        if path == "CPU":
            verdict.networks.append(
                f"| {tier} | {engine} {found['precision']} | {size} | {rates['network']:.1f} | "
                f"{rates['network'] / single['rates']['network']:.2f} | {found['tflop_per_s']:.1f} of "
                f"{found['peak_tflop_per_s']:.0f} TFLOP/s in {found['peak_precision']} | "
                f"{100 * found['share_of_peak']:.0f} % |"
            )
        told = "; ".join([found["limiting_stage"], *found["run_notes"]])
        whole = f"{rates['end to end']:.1f} ({rates['end to end'] / rates['network']:.2f})"
        alone = f"{rates['decode']:.0f} / {rates['encode']:.0f}"
        verdict.runs.append(f"| {tier} | {engine} | {size} | {path} | {whole} | {alone} | {told} |")


def profiled(verdict: Verdict) -> None:
    """Where the GPU's time goes."""
    weights = made_weights(verdict.folder, "fast")
    script = str(ROOT / "benchmarks" / "gpu_profile.py")
    for engine in verdict.engines:
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
    """Correctness first, then speed; the shipped tier first, what TensorRT builds for tests last."""
    own = [] if verdict.tensorrt else ["-k", "not tensorrt"]
    found = [
        Stage("the machine", lambda: probed(verdict), decides=True),
        Stage(
            "decoder and encoder of the GPU", lambda: tested(verdict, DECODER_TESTS), decides=True
        ),
        Stage("tests that need a GPU", lambda: tested(verdict, GPU_TESTS, *own), decides=True),
        Stage(
            "the contract of cuda",
            lambda: tested(verdict, CONTRACT, "-k", "cuda and not 4k"),
            decides=True,
        ),
        Stage("a whole run", lambda: derained(verdict), decides=True),
    ]
    for engine in verdict.engines:
        for tier in sorted(TIERS, key=lambda tier: tier not in SHIPPED_TIERS):
            for size in SIZES:
                bench = functools.partial(benched, verdict, tier, engine, size)
                found.append(Stage(f"{tier}, {engine}, {size}", bench))
    found.append(Stage("profile", lambda: profiled(verdict)))
    if os.environ.get("VDERAIN_DATA"):
        found.append(Stage("what half precision loses", lambda: compared(verdict)))
    if verdict.tensorrt:
        contract = functools.partial(tested, verdict, CONTRACT, "-k", "tensorrt and not 4k")
        found.append(Stage("the contract of tensorrt", contract))
    return found


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
        except TimeIsOver:
            verdict.left_out.append(stage.name)
            print("left out, the time was over", flush=True)
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
