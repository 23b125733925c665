"""Everything that waits for a GPU, in one command on a machine that has one:

    pip install -e ".[dev,tensorrt]" && python benchmarks/gpu.py

Runs the tests that need a GPU and the engines' contract suite on it, measures both tiers at 720p and 1080p
through both engines, end to end as well, and writes what it found into benchmarks/RESULTS.md, between the
lines that name this script. The `paper` tier has no shipped weights; its speed does not depend on them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import click
import torch

from vderain.diagnosis import installed_versions, nvidia_gpus
from vderain.machine import package_version
from vderain.network.card import Card
from vderain.network.config import FAST, PAPER
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.weights import save_network

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
BEGIN, END = "<!-- benchmarks/gpu.py begin -->", "<!-- benchmarks/gpu.py end -->"
TESTS = ["tests/engines/test_gpu.py", "tests/engines/test_contract.py", "tests/engines/test_takeover.py"]  # fmt: skip
SIZES = ("1280x720", "1920x1080")


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


def measured(weights: Path, engine: str, size: str, seconds: float) -> dict | str:
    """What `vderain engine bench` found, or why it could not."""
    command = [sys.executable, "-m", "vderain", "engine", "bench", "--json", "--size", size]
    command += ["--weights", str(weights), "--engine", engine, "--wait-engine"]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)], capture_output=True, text=True, check=False
    )
    print(done.stdout, done.stderr, flush=True)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()


def row(tier: str, engine: str, size: str, found: dict | str) -> str:
    if isinstance(found, str):
        return f"| {tier} | {engine} | {size} | {found} | | | | |"
    rates, share = found["rates"], 100 * found["share_of_peak"]
    ratio = rates["end to end"] / rates["network"]
    return (
        f"| {tier} | {found['engine']} {found['precision']} | {size} | {rates['network']:.1f} | "
        f"{share:.0f} % of {found['peak_tflop_per_s']:.0f} TFLOP/s | {rates['end to end']:.1f} ({ratio:.2f}) | "
        f"{rates['decode']:.0f} / {rates['encode']:.0f} | {found['limiting_stage']} |"
    )


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
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for tier, config in (("fast", FAST), ("paper", PAPER)):
            weights = made_weights(Path(name), tier, config)
            for engine in ("tensorrt", "cuda"):
                for size in SIZES:
                    found = measured(weights, engine, size, seconds)
                    rows.append(row(tier, engine, size, found))
    versions = {**installed_versions(), "torch-tensorrt": package_version("torch-tensorrt")}
    told = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    written(
        "\n".join(
            [
                f"Measured on {date.today()}: {'; '.join(gpus)}. {told}.",
                f"Tests on the GPU: {said}.",
                "",
                "| tier | engine | size | network fps | share of the matrix peak | end to end fps (of network) "
                "| decode / encode fps | limited by |",
                "|---|---|---|---|---|---|---|---|",
                *rows,
            ]
        )
    )
    print(f"written into {RESULTS}")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
