"""Where a GPU's time goes in an engine: its longest kernels and copies, and how long it stood idle.

    python benchmarks/gpu_verdict/kernels.py --weights W --engine tensorrt [--size 1280x720] [--seconds 1]

Frames come as fast as the engine takes them, all slots in flight. Without --engine and without a GPU, the
operators of the engine that `vderain run` would choose are listed, as far as torch runs them.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

import click
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from vderain.engines import open_engine
from vderain.engines.measure import frames_per_s
from vderain.frames import PlaneFormat
from vderain.interfaces import Engine
from vderain.options import EngineOptions

WARM_UP_S = 0.5


@dataclass(frozen=True)
class Kernel:
    """A kernel or a copy by its name: how often it ran, and for how long altogether."""

    name: str
    calls: int
    total_ms: float


@dataclass(frozen=True)
class Usage:
    """What a device did from its first kernel to its last: kernels, the longest first.

    In ``busy_ms`` at least one of them ran; with several streams their sum is larger.
    """

    kernels: tuple[Kernel, ...]
    busy_ms: float
    span_ms: float


def usage(spans: Iterable[tuple[str, float, float]]) -> Usage:
    """Sum up (name, start, end), in microseconds and in any order."""
    ordered = sorted(spans, key=lambda span: span[1])
    if not ordered:
        return Usage((), 0.0, 0.0)
    named: dict[str, tuple[int, float]] = {}
    busy_us, covered_us = 0.0, ordered[0][1]
    for name, start, end in ordered:
        calls, total_us = named.get(name, (0, 0.0))
        named[name] = calls + 1, total_us + end - start
        busy_us += max(0.0, end - max(start, covered_us))
        covered_us = max(covered_us, end)
    kernels = (Kernel(name, calls, us / 1000) for name, (calls, us) in named.items())
    longest = sorted(kernels, key=lambda kernel: -kernel.total_ms)
    return Usage(tuple(longest), busy_us / 1000, (covered_us - ordered[0][1]) / 1000)


def profiled(engine: Engine, fmt: PlaneFormat, seconds: float) -> tuple[Usage, float]:
    """What the GPU did meanwhile, and frames per second; without a GPU, what torch did on the CPU."""
    frames_per_s(engine, fmt, WARM_UP_S)
    on_gpu = torch.cuda.is_available()
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as seen:
        rate = frames_per_s(engine, fmt, seconds)
    events = [event for event in seen.events() if event.device_type == kind]
    return usage((e.name, e.time_range.start, e.time_range.end) for e in events), rate


def table(found: Usage, rate: float, rows: int) -> list[str]:
    """The longest kernels as rows of a table, and what the GPU did in between."""
    lines = ["| kernel or copy | times | ms | share |", "|---|---|---|---|"]
    total_ms = sum(kernel.total_ms for kernel in found.kernels)
    for kernel in found.kernels[:rows]:
        name = kernel.name.replace("|", "/")[:90]
        share = kernel.total_ms / total_ms
        lines.append(f"| `{name}` | {kernel.calls} | {kernel.total_ms:.2f} | {share:.1%} |")
    idle = 1 - found.busy_ms / found.span_ms if found.span_ms else 1.0
    lines.append("")
    lines.append(
        f"{len(found.kernels)} kinds in all, {total_ms:.0f} ms of them in {found.span_ms:.0f} ms, idle for"
        f" {idle:.1%} of it; {rate:.1f} frames per second with the profiler on."
    )
    return lines


@click.command()
@click.option("--weights", type=click.Path(exists=True))
@click.option("--engine", default="auto")
@click.option("--size", default="1280x720")
@click.option("--seconds", default=1.0)
@click.option("--rows", default=12, help="How many kernels are listed.")
def main(weights: str | None, engine: str, size: str, seconds: float, rows: int) -> None:
    """Print the table."""
    width, height = (int(side) for side in size.split("x"))
    fmt = PlaneFormat("yuv420", width, height)
    options = EngineOptions(engine=engine, weights=weights, wait_engine=True)
    with closing(open_engine(options)) as opened:
        found, rate = profiled(opened, fmt, seconds)
        spec = opened.open(fmt)
    print(f"{spec.name} {spec.precision}, tier {spec.tier}, {size}:\n")
    print("\n".join(table(found, rate, rows)))


if __name__ == "__main__":
    main()
