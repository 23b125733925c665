"""What the pipeline costs in addition to the work that cannot be avoided; prints, asserts nothing.

    python benchmarks/pipeline.py [--seconds 20] [--sizes 640x360,1280x720,1920x1080] [--weights FILE]

For each size, in one run: CPU seconds of ``vderain run`` against the sum of a plain PyAV transcode at the
same encoder settings, the alignment of neighbours, and the exported graph alone; frames per second end to end
and of the network only; start-up time with a cached engine.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import av
import click
import cv2
import numpy as np

from vderain.clips import Window, clips, still_clip
from vderain.engines import open_engine
from vderain.frames import Frame, PlaneFormat
from vderain.machine import cpu_fields, cpu_model
from vderain.media import open_source
from vderain.options import EncodeOptions, EngineOptions, RunOptions

SAMPLE = Path(__file__).parent.parent / "samples" / "rainy_road.mp4"
FRAME_RATE = 25
ENCODER = {"crf": "17", "preset": "faster"}  # what `vderain run` takes by default

TRANSCODE = """
import sys, av
with av.open(sys.argv[1]) as source, av.open(sys.argv[2], "w") as sink:
    video = source.streams.video[0]
    video.thread_type = "AUTO"
    out = sink.add_stream("libx264", rate=video.average_rate, options={options!r})
    out.width, out.height, out.pix_fmt = video.width, video.height, "yuv420p"
    out.codec_context.time_base = video.time_base
    for frame in source.decode(video):
        frame.pict_type = 0
        sink.mux(out.encode(frame))
    sink.mux(out.encode())
""".replace("{options!r}", repr(ENCODER))


def make_clip(path: Path, size: tuple[int, int], seconds: float) -> int:
    """The sample, enlarged and repeated, as H.264; returns its number of frames."""
    with av.open(str(SAMPLE)) as source:
        images = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    frames = round(seconds * FRAME_RATE)
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", FRAME_RATE, options={"crf": "20", "preset": "veryfast"})
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        for index in range(frames):
            image = cv2.resize(images[index % len(images)], size, interpolation=cv2.INTER_CUBIC)
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        sink.mux(stream.encode())
    return frames


def cost(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    before, since = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.monotonic() - since, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def align_only(clip: Path, window: Window) -> float:
    """CPU seconds of aligning neighbours to every frame; frames are decoded before."""
    with closing(open_source(str(clip), run=RunOptions(), encode=EncodeOptions())) as source:
        frames = [item for item in source if isinstance(item, Frame)]
    since = time.process_time()
    for _ in clips(frames, window):
        pass
    return time.process_time() - since


def network_only(
    options: EngineOptions, size: tuple[int, int], frames: int
) -> tuple[float, float, Window]:
    """Wall and CPU seconds of the exported graph over ``frames`` frames, all slots in flight; what it sees."""
    fmt = PlaneFormat("yuv420", *size, matrix="bt709" if size[1] >= 720 else "bt601")
    rng = np.random.default_rng(0)
    planes = tuple(rng.integers(16, 236, shape).astype(np.uint8) for shape in fmt.plane_shapes)
    engine = open_engine(options)
    spec = engine.open(fmt)
    clip = still_clip(planes, fmt, spec.window.seen_frames)
    for pending in [engine.submit(clip) for _ in range(engine.slots)]:
        pending.result()
    since, cpu = time.monotonic(), time.process_time()
    waiting = []
    for _ in range(frames):
        waiting.append(engine.submit(clip))
        if len(waiting) == engine.slots:
            waiting.pop(0).result()
    for pending in waiting:
        pending.result()
    wall, cpu = time.monotonic() - since, time.process_time() - cpu
    engine.close()
    return wall, cpu, spec.window


def run_command(clip: Path, out: Path, *options: str) -> list[str]:
    """``vderain run``, saying nothing."""
    run = [sys.executable, "-m", "vderain", "run", str(clip), str(out)]
    return [*run, "--overwrite", "--quiet", *options]


def startup(clip: Path, out: Path, *options: str) -> float:
    """Median wall seconds of a run over one frame with a cached engine, interpreter included."""
    command = run_command(clip, out, *options)
    return statistics.median(cost([*command, "--duration", "0.04"])[0] for _ in range(5))


def measure(options: EngineOptions, size: tuple[int, int], seconds: float, folder: Path) -> None:
    clip, out = folder / f"{size[0]}.mp4", folder / "out.mp4"
    frames = make_clip(clip, size, seconds)
    chosen = [
        "--engine",
        options.engine,
        *(["--weights", options.weights] if options.weights else []),
    ]
    run = run_command(clip, out, *chosen)
    cost([*run, "--duration", "0.2"])  # builds the engine
    run_wall, run_cpu = cost(run)
    code_wall, code_cpu = cost([sys.executable, "-c", TRANSCODE, str(clip), str(out)])
    net_wall, net_cpu, window = network_only(options, size, frames)
    align_cpu = align_only(clip, window)
    least = code_cpu + align_cpu + net_cpu
    print(
        f"{options.engine:10} {size[0]}x{size[1]}: end to end {frames / run_wall:.1f} fps, network only "
        f"{frames / net_wall:.1f} fps, transcode only {frames / code_wall:.1f} fps | CPU seconds "
        f"{run_cpu:.1f} against {code_cpu:.1f} + {align_cpu:.1f} + {net_cpu:.1f}: ratio {run_cpu / least:.3f}",
        flush=True,
    )
    if options.engine != "reference":
        startup_s = startup(clip, out, *chosen)
        print(f"{'':10} start-up with a cached engine: {startup_s:.2f} s", flush=True)


@click.command()
@click.option("--seconds", default=20.0, help="Length of the clips.")
@click.option("--sizes", default="640x360,1280x720,1920x1080", help="Sizes to measure.")
@click.option("--engines", default="openvino", help="Engines to measure.")
@click.option("--weights", help="A weights file; the shipped ones where none is named.")
def main(seconds: float, sizes: str, engines: str, weights: str | None) -> None:
    """Measure every engine at every size."""
    packages = ("vderain", "torch", "av", "openvino", "numpy")
    print(f"{cpu_model(cpu_fields())}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          + ", ".join(f"{name} {version(name)}" for name in packages))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for engine in engines.split(","):
            for size in sizes.split(","):
                width, height = (int(side) for side in size.split("x"))
                options = EngineOptions(engine=engine, weights=weights)
                measure(options, (width, height), seconds, Path(folder))


if __name__ == "__main__":
    main()
