"""Frames per second of a tier in an engine, for the verdict on a GPU: the network, and whole runs.

    python benchmarks/gpu_verdict/rates.py --weights W --engine cuda --size 1280x720 [--path CPU] [--path NVDEC]

One process measures all of it, so that CUDA starts once and cuDNN searches its kernels once. Prints JSON: ``single``,
the network's frames per second with one frame in flight, and ``paths``, what `vderain engine bench` finds with each
decoder and encoder.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

import click

from vderain.diagnostics.bench import bench
from vderain.engines import open_engine
from vderain.engines.measure import frames_per_s
from vderain.frames import PlaneFormat
from vderain.options import EncodeOptions, EngineOptions, RunOptions

PATHS = {  # decoder and encoder of a whole run
    "CPU": (RunOptions(), EncodeOptions()),
    "NVDEC": (RunOptions(decoder="nvdec"), EncodeOptions()),
    "NVDEC, NVENC": (RunOptions(decoder="nvdec"), EncodeOptions(codec="h264_nvenc")),
}


def rates(options: EngineOptions, fmt: PlaneFormat, seconds: float, paths: list[str]) -> dict:
    """What the script prints."""
    with closing(open_engine(replace(options, slots=1))) as engine:
        single = frames_per_s(engine, fmt, seconds)
    found = {}
    for path in paths:
        run, encode = PATHS[path]
        found[path] = bench(options, encode, fmt, seconds, run=run).to_dict()
    return {"single": single, "paths": found}


@click.command()
@click.option("--weights", type=click.Path(exists=True))
@click.option("--engine", default="auto")
@click.option("--size", default="1280x720")
@click.option("--seconds", default=3.0, help="How long each rate is measured.")
@click.option("--path", "paths", multiple=True, type=click.Choice([*PATHS]), default=["CPU"])
def main(weights: str | None, engine: str, size: str, seconds: float, paths: list[str]) -> None:
    """Print the rates as JSON."""
    width, height = (int(side) for side in size.split("x"))
    options = EngineOptions(engine=engine, weights=weights, wait_engine=True)
    print(json.dumps(rates(options, PlaneFormat("yuv420", width, height), seconds, [*paths])))


if __name__ == "__main__":
    main()
