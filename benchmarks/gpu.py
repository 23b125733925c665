"""The verdict on a machine with an NVIDIA GPU: does it work, and how fast is it. Stops at the first failure.

    pip install -e ".[dev]" && python benchmarks/gpu.py                  # cuda, NVDEC and the pipeline: 10 minutes
    pip install -e ".[dev,nvidia]" && python benchmarks/gpu.py --tensorrt   # and TensorRT, whose builds take longer

Correctness comes first: what the machine has, the decoder and encoder of the GPU in a process of their own, the tests
that need a GPU, the contract of all engines. A test that this machine must run and skips is a failure. Then speed: each
tier at 720p and 1080p, alone and end to end, and where the time goes. A stage that fails ends it, and says what to send
back. What was measured goes into benchmarks/RESULTS.md, between the lines that name this script. Stages that would
begin after ``--minutes`` are left out, and the section says which.
"""

from __future__ import annotations

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
from vderain.network.config import FAST, PAPER
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.weights import save_network

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
BEGIN, END = "<!-- benchmarks/gpu.py begin -->", "<!-- benchmarks/gpu.py end -->"

# In processes of their own, since each makes the GPU's context first in its own way.
DECODER_TESTS = ["tests/media/gpu/test_nvdec.py", "tests/media/gpu/test_surfaces.py"]
GPU_TESTS = ["tests/engines/backends/test_gpu.py", "tests/engines/backends/test_device_planes.py"]
CONTRACT = ["tests/engines/test_contract.py", "tests/engines/test_fallback.py"]
TESTS = [*DECODER_TESTS, *GPU_TESTS, *CONTRACT]
# Reasons to skip that hold on a sound machine too, besides those of other engines.
ALLOWED = ("one GPU", "cannot compute in it", "there is a GPU", "NVENC")
PATHS = {  # decoder and encoder of a whole run
    "CPU": ["--codec", "h264"],
    "NVDEC": ["--set", "decoder=nvdec", "--codec", "h264"],
    "NVDEC, NVENC": ["--set", "decoder=nvdec", "--codec", "h264_nvenc"],
}
SIZES = ("1280x720", "1920x1080")
TIERS = {"fast": FAST, "paper": PAPER}
STAGE_LIMIT_S = 240.0


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
    tests: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    profile: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def engines(self) -> tuple[str, ...]:
        """Those that are judged."""
        return ("cuda", "tensorrt") if self.tensorrt else ("cuda",)

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
    verdict.command("-m", "pytest", "-q", "-x", "--junitxml", str(report), *tests, *options)
    cases = list(ElementTree.parse(report).iter("testcase"))  # our own file
    refused = refused_skips(cases, tensorrt=verdict.tensorrt)
    if refused or not cases:
        raise StageError("\n".join(["tests that this machine must run were skipped:", *refused]))
    skipped = sum(case.find("skipped") is not None for case in cases)
    verdict.tests.append(f"{' '.join(tests)}: {len(cases) - skipped} passed, {skipped} skipped")


def refused_skips(cases: list[ElementTree.Element], *, tensorrt: bool) -> list[str]:
    """Names and reasons of the tests that were skipped without need."""
    refused = []
    for case in cases:
        skip = case.find("skipped")
        if skip is None:
            continue
        reason = skip.get("message", "")
        own = not tensorrt and ("torch_tensorrt" in reason or "tensorrt" in case.get("name", ""))
        if not own and not any(words in reason for words in ALLOWED):
            refused.append(f"{case.get('classname')}::{case.get('name')}: {reason}")
    return refused


def probed(verdict: Verdict) -> None:
    """What vderain sees of the machine, and a first product on the GPU."""
    print(verdict.command("-m", "vderain", "doctor"), flush=True)
    verdict.command("-c", "import torch; assert float((torch.ones(8, 8, device='cuda') @ "
            "torch.ones(8, 8, device='cuda')).sum()) == 512", limit_s=60)  # fmt: skip


def derained(verdict: Verdict) -> None:
    """A whole run of the sample, decoded in software and by NVDEC."""
    clip = str(ROOT / "samples" / "rainy_road.mp4")
    for decoder in ("software", "nvdec"):
        out = verdict.folder / f"{decoder}.mkv"
        print(verdict.command("-m", "vderain", "run", clip, str(out), "--engine", "cuda",
                      "--set", f"decoder={decoder}"), flush=True)  # fmt: skip


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
            limit_s=STAGE_LIMIT_S if engine == "cuda" else 1800,
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
        limit_s=1800,
    )
    seconds = time.monotonic() - since
    verdict.tests.append(f"{tier}, tensorrt, {size}: built and checked in {seconds:.0f} s")


def benched(verdict: Verdict, tier: str, engine: str, size: str) -> None:
    """A tier at a size: the network with one and with several frames in flight, and whole runs."""
    if engine == "tensorrt":
        built(verdict, tier, size)
    single = measured(verdict, tier, engine, size, "--set", "slots=1")
    for path, options in PATHS.items():
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


def stages(verdict: Verdict) -> list[tuple[str, Callable[[], None]]]:
    """Correctness first, then speed; the shipped tier first."""
    found: list[tuple[str, Callable[[], None]]] = [
        ("the machine", lambda: probed(verdict)),
        ("decoder and encoder of the GPU", lambda: tested(verdict, DECODER_TESTS)),
        ("tests that need a GPU", lambda: tested(verdict, GPU_TESTS)),
        ("the contract of engines", lambda: tested(verdict, CONTRACT, "-k", "not 4k")),
        ("a whole run", lambda: derained(verdict)),
    ]
    for engine in verdict.engines:
        for tier in TIERS:
            for size in SIZES:
                found.append(
                    (
                        f"{tier}, {engine}, {size}",
                        lambda where=(tier, engine, size): benched(verdict, *where),
                    )
                )
    found.append(("profile", lambda: profiled(verdict)))
    if os.environ.get("VDERAIN_DATA"):
        found.append(("what half precision loses", lambda: compared(verdict)))
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


@click.command()
@click.option("--tensorrt", is_flag=True, help="Also build and judge TensorRT's engines.")
@click.option("--seconds", default=3.0, help="How long each rate is measured.")
@click.option(
    "--minutes", default=10.0, help="No stage begins later; 60 are sensible with --tensorrt."
)
def main(tensorrt: bool, seconds: float, minutes: float) -> None:
    """Judge this machine's GPU, and write RESULTS.md."""
    if not nvidia_gpus("nvidia-smi") or not torch.cuda.is_available():
        raise SystemExit("there is no NVIDIA GPU that torch can use here; nothing was written")
    failure = ""
    with tempfile.TemporaryDirectory() as name:
        until_s = time.monotonic() + 60 * minutes
        verdict = Verdict(tensorrt, seconds, until_s, Path(name))
        for stage, run in stages(verdict):
            if time.monotonic() > until_s:
                verdict.left_out.append(stage)
                continue
            print(f"== {stage}", flush=True)
            try:
                run()
            except TimeIsOver:
                verdict.left_out.append(stage)
            except StageError as error:
                failure = stage
                told = "\n".join(f"{k} {v}" for k, v in installed_versions().items())
                print(f"FAILED: {stage}\nSend back all that follows:\n{error}\n{told}", flush=True)
                break
    written(section(verdict, failure))
    print(f"written into {RESULTS}")
    sys.exit(1 if failure else 0)


if __name__ == "__main__":
    main()
