"""Everything that waits for a GPU, in one command on a machine that has one:

    pip install -e ".[dev,tensorrt]" && python benchmarks/gpu.py

Runs every test that needs a GPU, and the suites that run on one by themselves; measures both tiers at 720p and 1080p
through both engines: the network alone, with one frame in flight and with several (what overlapping brings), its share
of a matrix product's measured peak (with a profile where that is low), and end to end with the decoder and the encoder
of the CPU and of the GPU. With VDERAIN_DATA set, also what float16 and bfloat16 lose on the development sets, which
goes onto the card. Writes all of it into benchmarks/RESULTS.md, between the lines that name this script. The `paper`
tier has no shipped weights; its speed does not depend on them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import click
import torch
from losses import losses, onto_card, table

from vderain.diagnostics.diagnosis import installed_versions, nvidia_gpus
from vderain.machine import package_version
from vderain.network.card import Card
from vderain.network.config import FAST, PAPER
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.weights import save_network

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
BEGIN, END = "<!-- benchmarks/gpu.py begin -->", "<!-- benchmarks/gpu.py end -->"
TESTS = [
    *(
        "tests/engines/backends/test_gpu.py",
        "tests/engines/test_contract.py",
        "tests/engines/test_takeover.py",
    ),
    *("tests/engines/backends/test_device_planes.py", "tests/engines/backends/test_tiles.py"),
    *("tests/media/gpu/test_nvdec.py", "tests/media/gpu/test_surfaces.py"),
]
PATHS = {  # decoder and encoder of a whole run
    "CPU": ["--codec", "h264"],
    "NVDEC": ["--set", "decoder=nvdec", "--codec", "h264"],
    "NVDEC, NVENC": ["--set", "decoder=nvdec", "--codec", "h264_nvenc"],
}
SIZES = ("1280x720", "1920x1080")
SHARE_AIM = 0.45  # of the measured peak; what stays below it is profiled


def made_weights(folder: Path, name: str, config) -> Path:
    """Weights of a seeded network with a small answer."""
    torch.manual_seed(0)
    network = SemiDRDNet(config).eval().requires_grad_(False)
    for branch in (network.rain, network.detail):
        branch.tail.weight.mul_(0.1)
        branch.tail.bias.zero_()
    path = folder / f"{name}.safetensors"
    save_network(network.half(), path, Card(name, config, sha256=""))
    return path


def run_tests() -> tuple[str, bool]:
    """The last line of pytest, and whether all passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", *TESTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, flush=True)
    return (done.stdout.strip().splitlines() or ["no tests ran"])[-1], done.returncode == 0


def measured(weights: Path, engine: str, size: str, seconds: float, *options: str) -> dict | str:
    """What `vderain engine bench` found, or why it could not."""
    command = [sys.executable, "-m", "vderain", "engine", "bench", "--json", "--size", size]
    command += [
        "--weights",
        str(weights),
        "--engine",
        engine,
        "--set",
        "wait-engine=true",
        *options,
    ]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)], capture_output=True, text=True, check=False
    )
    print(done.stdout, done.stderr, flush=True)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()


def network_row(tier: str, engine: str, size: str, found: dict | str, single: dict | str) -> str:
    """The network alone: several frames in flight against one."""
    if isinstance(found, str):
        return f"| {tier} | {engine} | {size} | {found} | | | |"
    rate, share = found["rates"]["network"], 100 * found["share_of_peak"]
    overlap = "" if isinstance(single, str) else f"{rate / single['rates']['network']:.2f}"
    return (
        f"| {tier} | {found['engine']} {found['precision']} | {size} | {rate:.1f} | {overlap} | "
        f"{found['tflop_per_s']:.1f} of {found['peak_tflop_per_s']:.0f} TFLOP/s in {found['peak_precision']} | "
        f"{share:.0f} % |"
    )


def profile(weights: Path, engine: str, size: str) -> list[str]:
    """Where the GPU's time goes, or why that is not known."""
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_profile.py"), "--size", size]
    command += ["--weights", str(weights), "--engine", engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"{engine}, {size}: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}", ""]
    return [*done.stdout.strip().splitlines(), ""]


def run_row(tier: str, engine: str, size: str, path: str, found: dict | str) -> str:
    """A whole run, and what its stages could do alone."""
    if isinstance(found, str):
        return f"| {tier} | {engine} | {size} | {path} | {found} | | |"
    rates = found["rates"]
    ratio = rates["end to end"] / rates["network"]
    alone = f"{rates['decode']:.0f} / {rates['encode']:.0f}"
    told = "; ".join(found["run_notes"])
    return (
        f"| {tier} | {engine} | {size} | {path} | {rates['end to end']:.1f} ({ratio:.2f}) | {alone} | "
        f"{found['limiting_stage']}{'; ' + told if told else ''} |"
    )


def measured_losses() -> list[str]:
    """What half precisions lose on the development sets, also onto the card."""
    if not os.environ.get("VDERAIN_DATA"):
        return ["Losses of float16 and bfloat16: not measured, VDERAIN_DATA was not set."]
    found = losses("cuda", ("float16", "bfloat16"), None, 4)
    onto_card(None, "cuda", found)
    return table("cuda", found)


def written(section: str) -> None:
    """Put the section into RESULTS.md, in place of an earlier one."""
    text = RESULTS.read_text()
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    RESULTS.write_text(pattern.sub(lambda _: f"{BEGIN}\n{section}\n{END}", text))


@click.command()
@click.option("--seconds", default=20.0, help="How long each stage is measured.")
@click.option("--skip-tests", is_flag=True)
def main(seconds: float, skip_tests: bool) -> None:
    """Test and measure on this machine's GPU, and write RESULTS.md."""
    gpus = nvidia_gpus("nvidia-smi")
    if not gpus or not torch.cuda.is_available():
        raise SystemExit("there is no NVIDIA GPU that torch can use here; nothing was written")
    said, passed = ("skipped", True) if skip_tests else run_tests()
    networks, runs, profiles = [], [], []
    with tempfile.TemporaryDirectory() as name:
        for tier, config in (("fast", FAST), ("paper", PAPER)):
            weights = made_weights(Path(name), tier, config)
            for engine in ("tensorrt", "cuda"):
                for size in SIZES:
                    single = measured(weights, engine, size, seconds, "--set", "slots=1")
                    for path, options in PATHS.items():
                        found = measured(weights, engine, size, seconds, *options)
                        runs.append(run_row(tier, engine, size, path, found))
                        if path == "CPU":
                            networks.append(network_row(tier, engine, size, found, single))
                            if isinstance(found, dict) and found["share_of_peak"] < SHARE_AIM:
                                profiles += profile(weights, engine, size)
    versions = {**installed_versions(), "torch-tensorrt": package_version("torch-tensorrt")}
    told = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    written(
        "\n".join(
            [
                f"Measured on {date.today()}: {'; '.join(gpus)}. {told}.",
                f"Tests on the GPU: {said}.",
                "",
                "| tier | engine | size | network fps | times one frame in flight | reached | share of the peak |",
                "|---|---|---|---|---|---|---|",
                *networks,
                "",
                "| tier | engine | size | decoder, encoder | end to end fps (of network) | decode / encode fps "
                "| limited by |",
                "|---|---|---|---|---|---|---|",
                *runs,
                "",
                f"Where the time goes of those that stay below {SHARE_AIM:.0%} of the peak:",
                "",
                *(profiles or ["None does.", ""]),
                *measured_losses(),
            ]
        )
    )
    print(f"written into {RESULTS}")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
