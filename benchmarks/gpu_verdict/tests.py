"""The tests that need a GPU: which they are, how pytest runs them, and what its report says."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from vderain.machine import usable_cores

# In processes of their own, since each makes the GPU's context first in its own way.
DECODER_TESTS = ["tests/media/gpu/test_nvdec.py", "tests/media/gpu/test_surfaces.py"]
GPU_TESTS = ["tests/engines/backends/test_gpu.py", "tests/engines/backends/test_device_planes.py"]
CONTRACT = ["tests/engines/test_contract.py"]
TESTS = [*DECODER_TESTS, *GPU_TESTS, *CONTRACT]
TEST_LIMIT_S = 90  # of one test, before the stack of each of its threads is written
# Processes that run tests at the same time, and what each needs.
MOST_WORKERS, WORKER_CORES, WORKER_GIB = 4, 4, 8


def most_workers(gpu_gib: int) -> int:
    """Processes that run tests at the same time; 1 where they would be in each other's way."""
    if importlib.util.find_spec("xdist") is None:
        return 1
    return max(1, min(usable_cores() // WORKER_CORES, gpu_gib // WORKER_GIB, MOST_WORKERS))


def worker_threads(workers: int) -> int:
    """Threads of torch in each process; 0, which leaves the number to torch, where there is one process."""
    return usable_cores() // workers if workers > 1 else 0


def pytest_arguments(report: Path, *, builds: bool, workers: int) -> list[str]:
    """Arguments of Python that run pytest, which writes ``report``; ``builds`` allows a test any time."""
    arguments = ["-m", "pytest", "-v", "-x", "--junitxml", str(report)]
    if not builds:
        arguments += ["-o", f"faulthandler_timeout={TEST_LIMIT_S}"]
    return [*arguments, "-n", str(workers)] if workers > 1 else arguments


def counted(report: Path, allowed: list[str]) -> tuple[int, int, list[str]]:
    """How many tests passed, how many were skipped, and those skipped for a reason that is not allowed."""
    cases = list(ElementTree.parse(report).iter("testcase"))  # our own file
    skipped = sum(case.find("skipped") is not None for case in cases)
    return len(cases) - skipped, skipped, refused_skips(cases, allowed)


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
