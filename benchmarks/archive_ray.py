"""Derain the same clips with one worker on Ray and with two, and compare time and outputs.

    python benchmarks/archive_ray.py --clips 4 --seconds 12
    python benchmarks/archive_ray.py --address auto --workers 1 2 4 --threads 4

Without ``--address`` it starts a cluster on this machine. Each number of workers begins with the engines
built and the cluster up; the time that a worker needs to begin is part of what is measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.archive import outputs
from vderain.batch.archive import open_manifest, work_through
from vderain.batch.clips.find import WORK_FOLDER, Archive
from vderain.batch.options import BatchOptions, Settings
from vderain.batch.ray.cluster import LOCAL, connected
from vderain.batch.ray.executor import RayExecutor
from vderain.batch.runner import Batch
from vderain.machine import cpu_fields, cpu_model, package_version
from vderain.options import EncodeOptions, EngineOptions


def generate(folder: Path, count: int, seconds: float, size: str) -> None:
    folder.mkdir()
    for number in range(count):
        subprocess.run(
            ["ffmpeg", "-v", "error", "-stream_loop", "-1", "-i", "samples/rainy_road.mp4", "-t", str(seconds),
             "-vf", f"scale={size}", "-preset", "ultrafast", "-g", "50", str(folder / f"{number}.mp4")], check=True,
        )  # fmt: skip


def measure(source: Path, target: Path, workers: int, options: argparse.Namespace) -> float:
    """Frames derained in a second."""
    settings = Settings(
        BatchOptions(segment_s=4.0),
        engine=EngineOptions(threads=options.threads),
        encode=EncodeOptions(preset="ultrafast"),
    )
    executor = RayExecutor(
        settings.engine,
        address=options.address,
        workers=workers,
        shared=target / WORK_FOLDER / "segments",
        visible=[source],
    )
    with open_manifest(target) as manifest:
        since = time.monotonic()
        batch = Batch(manifest, target, settings, executor)
        tally = work_through(Archive([source], target), batch)
        took_s = time.monotonic() - since
        frames = sum(clip.record.get("frames", 0) for clip in manifest.clips())
    print(
        f"{workers} workers of {options.threads} threads: {frames} frames in {took_s:.1f} s,"
        f" {frames / took_s:.1f} fps; {len(tally.failed)} clips failed, {executor.deaths} workers died"
    )
    return frames / took_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--size", default="640:360")
    parser.add_argument("--threads", type=int, default=1, help="of a worker")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--address", default=LOCAL)
    options = parser.parse_args()
    versions = ", ".join(
        f"{name} {package_version(name)}" for name in ("vderain", "ray", "av", "openvino")
    )
    print(f"{cpu_model(cpu_fields())}, {os.cpu_count()} cores; {versions}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder / "warm", 1, 1.0, options.size)
        generate(folder / "in", options.clips, options.seconds, options.size)
        with connected(options.address, options.threads * max(options.workers)):
            measure(folder / "warm", folder / "first", 1, options)  # builds the engine
            rates, made = [], []
            for workers in options.workers:
                target = folder / f"out{workers}"
                rates.append(measure(folder / "in", target, workers, options))
                made.append(outputs(target))
    for workers, rate in zip(options.workers[1:], rates[1:], strict=True):
        print(
            f"{workers} workers against {options.workers[0]}: {rate / rates[0]:.2f} times the throughput"
        )
    print(f"outputs: {'the same' if all(each == made[0] for each in made) else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
