"""What ``pip install vderain`` takes, and how soon its first frame comes; prints, asserts nothing.

    python benchmarks/install.py [--folder FOLDER]

Builds the wheel, installs it with what it requires into a new environment, and prints the size of each package.
Then it derains the sample to a pipe: the time until the first frame has come, with an empty engine cache and
with a filled one, and what of it is importing. Needs a network.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "samples" / "rainy_road.mp4"
SAMPLE_BYTES = 640 * 360 * 3 // 2  # of a frame
LARGEST = 8
IMPORTS = "import vderain.cli.run, vderain.engines.pool"


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the environment here.")
@click.option("--repeats", default=3, show_default=True, help="First runs; the fastest is printed.")
def main(folder: Path | None, repeats: int) -> None:
    """Measure the core install."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = folder or Path(temporary)
        python = install(folder)
        print_sizes(python)
        first, again = zip(*(first_frames(python) for _ in range(repeats)), strict=True)
        print(f"first frame of the first run: {min(first):.2f} s after start")
        print(f"first frame of a later run:   {min(again):.2f} s")
        print(f"of it importing:              {import_s(python):.2f} s")


def install(folder: Path) -> Path:
    """The Python of a new environment with the wheel."""
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*wheel, str(folder), str(ROOT)], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    python = folder / "env" / "bin" / "python"
    (built,) = folder.glob("vderain-*.whl")
    print(f"wheel {built.stat().st_size / 1e6:.1f} MB")
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(built)], check=True)
    return python


def print_sizes(python: Path) -> None:
    """Print what lies in site-packages, as ``du`` counts it."""
    (packages,) = (python.parents[1] / "lib").glob("python*/site-packages")
    sizes = {path.name: used_bytes(path) for path in packages.iterdir()}
    tools = sum(size for name, size in sizes.items() if name.startswith(("pip", "setuptools")))
    for name in sorted(sizes, key=lambda name: -sizes[name])[:LARGEST]:
        print(f"{sizes[name] / 1e6:8.1f} MB  {name}")
    total = sum(sizes.values())
    print(f"{total / 1e6:8.1f} MB  in all, {tools / 1e6:.1f} MB of it pip and setuptools")


def used_bytes(path: Path) -> int:
    """Bytes on disk of a file or a folder."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return sum(file.lstat().st_blocks * 512 for file in files)


def first_frames(python: Path) -> tuple[float, float]:
    """Seconds from the start of a process to its first frame: with an empty engine cache, then with a filled one."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "VDERAIN_CACHE": cache}
        return first_frame_s(python, environment), first_frame_s(python, environment)


def first_frame_s(python: Path, environment: dict[str, str]) -> float:
    """Seconds until one frame of the sample has come through a pipe as y4m."""
    command = [str(python.parent / "vderain"), "run", str(SAMPLE), "-", "--quiet"]
    command += ["--duration", "0.2", "--set", "pipe-format=y4m"]
    since = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        for _ in range(2):  # the headers of the stream and of the frame
            process.stdout.readline()
        came = len(process.stdout.read(SAMPLE_BYTES))
        taken = time.perf_counter() - since
        process.stdout.read()
    if came < SAMPLE_BYTES or process.returncode not in (0, 3):  # 3: y4m takes no sound
        sys.exit("the sample was not derained")
    return taken


def import_s(python: Path) -> float:
    """Seconds that importing takes in a new process, in addition to starting Python."""
    code = (
        f"import time; since = time.perf_counter(); {IMPORTS}; print(time.perf_counter() - since)"
    )
    command = [str(python), "-I", "-c", code]  # not what lies in the current folder
    return min(float(subprocess.check_output(command, text=True)) for _ in range(3))


if __name__ == "__main__":
    main()
