"""Milliseconds per frame of aligning neighbours, CPU and wall; prints, asserts nothing.

python benchmarks/alignment.py VIDEO... [--size 1280x720] [--frames 5] [--most 24] [--threads 1,2]
"""

from __future__ import annotations

import time
from fractions import Fraction

import av
import click

from vderain.clips import Window, clips
from vderain.flow.workers import Workers
from vderain.frames import Frame, PlaneFormat


def frames_of(path: str, size: tuple[int, int], most: int) -> list[Frame]:
    """The first frames of a video in 4:2:0."""
    width, height = size
    fmt, found = PlaneFormat("yuv420", width, height), []
    with av.open(path) as source:
        for index, frame in zip(range(most), source.decode(video=0), strict=False):
            packed = frame.reformat(width, height, "yuv420p").to_ndarray()
            y, u, v = packed[:height], *packed[height:].reshape(2, height // 2, width // 2)
            frame_of = Frame((y, u, v), fmt, pts=index, time_base=Fraction(1, 25))
            found.append(frame_of)
    return found


def cost(items: list[Frame], frames: int, threads: int) -> tuple[float, float]:
    """CPU and wall milliseconds per frame."""
    since, since_cpu = time.monotonic(), time.process_time()
    count = sum(1 for _ in clips(items, Window.of(frames), workers=Workers(threads)))
    wall, cpu = time.monotonic() - since, time.process_time() - since_cpu
    return 1000 * cpu / count, 1000 * wall / count


@click.command()
@click.argument("videos", nargs=-1, required=True)
@click.option("--size", default="1280x720", help="Size that frames are brought to.")
@click.option("--frames", default=5, help="Frames of a clip.")
@click.option("--most", default=24, help="Frames of a video.")
@click.option("--threads", default="1", help="Threads that align; several numbers take turns.")
@click.option(
    "--rounds", default=1, help="How often each is measured; the lowest figures are printed."
)
def main(
    videos: tuple[str, ...], size: str, frames: int, most: int, threads: str, rounds: int
) -> None:
    """Measure every video."""
    width, height = (int(side) for side in size.split("x"))
    for video in videos:
        items = frames_of(video, (width, height), most)
        found: dict[int, list[tuple[float, float]]] = {}
        for _ in range(rounds):
            for number in map(int, threads.split(",")):
                found.setdefault(number, []).append(cost(items, frames, number))
        for number, costs in found.items():
            cpu_ms, wall_ms = (min(figures) for figures in zip(*costs, strict=True))
            print(
                f"{video}: {cpu_ms:.1f} CPU ms a frame, {wall_ms:.1f} ms, {number} threads",
                flush=True,
            )


if __name__ == "__main__":
    main()
