"""What the engines reach against plain torch, and against what the processor's arithmetic allows.

    python benchmarks/engines.py [--size 1280x720] [--rounds 6]

One frame of the `fast` network in turn: torch eager in float32 with channels_last, the unfolded network on
RGB; the folded forms of it; OpenVINO in each precision that this CPU has. Prints medians, ratios to eager,
and shares of a matrix product's measured peak in that precision (of float32's, for int8). All on the same
number of threads, interleaved; the engines' FLOPs are those of the folded network.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from contextlib import closing

import click
import numpy as np
import torch

from vderain.clips import still_clip
from vderain.engines.backends.openvino import OpenVinoBackend
from vderain.engines.engine import frame_flop
from vderain.engines.measure import matrix_peak_flop_per_s
from vderain.engines.store.cache import EngineCache
from vderain.errors import EngineBuildError
from vderain.frames import PlaneFormat
from vderain.network.inference.fold import fold
from vderain.options import EngineOptions
from vderain.weights import find_weights, load_network


def torch_forms(network, fmt: PlaneFormat) -> dict[str, Callable[[], object]]:
    rainy = torch.rand(1, network.config.channels, fmt.height, fmt.width)
    rainy = rainy.to(memory_format=torch.channels_last)
    forms = {
        "torch eager": network,
        "torch folded, sum": fold(network),
        "torch folded, 25 taps": fold(network, "taps"),
    }
    calls = {}
    for name, module in forms.items():
        module = module.to(memory_format=torch.channels_last)
        calls[name] = lambda module=module: module.change(rainy)
    return calls


@click.command()
@click.option("--size", default="1280x720")
@click.option("--rounds", default=6)
def main(size: str, rounds: int) -> None:
    """Print each form's median, its ratio to eager, and its share of the peak."""
    width, height = (int(side) for side in size.split("x"))
    fmt = PlaneFormat("yuv420", width, height)
    path, card = find_weights("fast")
    network = load_network(path, card)
    calls = torch_forms(network, fmt)
    rng = np.random.default_rng(0)
    planes = tuple(rng.integers(16, 236, shape).astype(np.uint8) for shape in fmt.plane_shapes)
    clip = still_clip(planes, fmt, card.config.seen_frames)
    engines = []
    for precision in ("float32", "bfloat16", "float16", "int8"):
        # One frame at a time, on all threads, as torch computes.
        options = EngineOptions(precision=precision, slots=1)
        try:
            engine = OpenVinoBackend(path, card, options, EngineCache()).open(fmt)
        except EngineBuildError as error:
            print(f"openvino {precision}: {error}")
            continue
        engines.append(engine)
        calls[f"openvino {precision}"] = lambda engine=engine: engine.submit(clip).result()
    times: dict[str, list[float]] = {name: [] for name in calls}
    precisions = {
        name: name.rpartition(" ")[2] if "openvino" in name else "float32" for name in calls
    }
    peaks: dict[str, list[float]] = {}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for precision in sorted(set(precisions.values()) - {"int8"}):
                flop_per_s, _ = matrix_peak_flop_per_s(torch.device("cpu"), precision)
                peaks.setdefault(precision, []).append(flop_per_s)
            for name, call in calls.items():
                since = time.perf_counter()
                call()
                if number:  # the first round warms up
                    times[name].append(time.perf_counter() - since)
    peak = {precision: statistics.median(values) for precision, values in peaks.items()}
    rates = ", ".join(f"{value / 1e12:.3f} TFLOP/s in {name}" for name, value in peak.items())
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, "
          f"{frame_flop(card.config, fmt) / 1e9:.1f} GFLOP per frame, matrix product {rates}")  # fmt: skip
    eager = statistics.median(times["torch eager"])
    for name, values in times.items():
        median = statistics.median(values)
        flop = frame_flop(card.config, fmt, folded=name != "torch eager")
        share = flop / median / peak.get(precisions[name], peak["float32"])
        print(f"{name:24} {1000 * median:7.1f} ms   {eager / median:5.2f} times eager   "
              f"{100 * share:4.0f} % of the peak")  # fmt: skip
    for engine in engines:
        with closing(engine):
            pass


if __name__ == "__main__":
    main()
