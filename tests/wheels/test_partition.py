"""Torch-TensorRT's own partitioner over every tier in float16: every operator converted, one engine, float32 means."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.wheels.conftest import RELEASES, pip, unpacked
from tests.wheels.partition import GRAPHS


@pytest.mark.wheels
def test_every_tier_becomes_one_engine(tmp_path):
    minor = ".".join(torch.__version__.split(".")[:2])
    release = next((known for known in RELEASES if known.startswith(minor + ".")), None)
    if release is None:
        pytest.skip(f"no torch-tensorrt is known for torch {torch.__version__}")
    unpacked(f"torch-tensorrt=={release}", tmp_path)
    needs = pip("install", "--target", str(tmp_path), "--no-deps", "dllist", "psutil", "filelock")
    if needs.returncode:
        pytest.skip("what torch-tensorrt imports cannot be downloaded, so nothing is proved of it")
    script = Path(__file__).with_name("partition.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert {tier for tier, *_ in found} == set(GRAPHS) >= {"fast", "fast, median of nine", "paper"}
    for tier, bit_depth, share, engines, averaged in found:
        assert (share, engines) == (100.0, 1), f"{tier} at {bit_depth} bit"
        gated = getattr(GRAPHS[tier], "squeeze_ratio", 0)
        assert averaged == (["torch.float32"] if gated else []), f"{tier} at {bit_depth} bit"
