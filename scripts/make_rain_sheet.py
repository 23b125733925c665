"""Make a contact sheet of rendered rain, by kind, or next to real rain.

    python scripts/make_rain_sheet.py --clean DIR -o docs/rain_sheet.jpg
    python scripts/make_rain_sheet.py --clean DIR --real DIR -o sheet.png

``--clean`` and ``--real`` take folders or single files, images or clips, and may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import click
import cv2
import numpy as np

from vderain.errors import SourceError
from vderain.training.rain.render import Image, add_rain, render_clip, render_kind

CELL = (400, 225)  # width, height
COLUMNS = 3
REAL_COLUMNS, REAL_ROWS = 2, 10
BY_KIND = {
    "drops": "drops, mist and wind",
    "mist": "mist, few streaks",
    "curtain": "soft streaks in a veil",
    "fog": "streaks in depth fog",
    "additive": "simple model: additive",
    "screen": "simple model: screen",
}


def read_shots(path: Path) -> list[Image]:
    """Three consecutive frames from the middle of a clip, or an image; (H, W, 3) uint8 RGB."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is not None:
        return [fitted(image)]
    capture = cv2.VideoCapture(str(path))
    capture.set(cv2.CAP_PROP_POS_FRAMES, capture.get(cv2.CAP_PROP_FRAME_COUNT) // 2)
    frames = [frame for read, frame in (capture.read() for _ in range(3)) if read]
    capture.release()
    return [fitted(frame) for frame in frames]


def fitted(bgr: Image) -> Image:
    """The middle of an image, shrunk or cut to a cell, as RGB."""
    width, height = CELL
    factor = max(width / bgr.shape[1], height / bgr.shape[0], 0.5)
    resized = cv2.resize(bgr, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    top, left = (resized.shape[0] - height) // 2, (resized.shape[1] - width) // 2
    return np.ascontiguousarray(resized[top : top + height, left : left + width, ::-1], np.uint8)


def read_all(paths: tuple[Path, ...]) -> list[list[Image]]:
    """The shots of every readable file."""
    files = [f for path in paths for f in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    shots = [shot for file in files if file.is_file() and (shot := read_shots(file))]
    if not shots:
        raise SourceError(f"{', '.join(map(str, paths))}: no readable image or clip")
    return shots


def labelled(image: Image, text: str) -> Image:
    """The image with white words on black in its corner."""
    marked = image.copy()
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    cv2.rectangle(marked, (0, 0), (width + 8, height + 10), (0, 0, 0), -1)
    cv2.putText(marked, text, (4, height + 4), 0, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return marked


def by_kind(rng: np.random.Generator, clean: list[list[Image]]) -> Iterator[Image]:
    """One row for each kind, then lamps at night, then three frames of a clip."""
    shots = cycle(clean)
    for kind, words in BY_KIND.items():
        for _ in range(COLUMNS):
            yield labelled(render_kind(rng, [next(shots)[0]], kind)[0], words)
    for _ in range(COLUMNS):
        night = (next(shots)[0] * np.float32(0.3)).astype(np.uint8)
        yield labelled(render_clip(rng, [night])[0], "darkened frame, lamps")
    frames = next(shot for shot in shots if len(shot) == COLUMNS or len(clean[0]) < COLUMNS)
    frames = (frames * COLUMNS)[:COLUMNS]
    for index, frame in enumerate(render_clip(rng, frames)):
        yield labelled(frame, f"one storm, frame {index + 1}")


def beside_real(
    rng: np.random.Generator, clean: list[list[Image]], real: list[list[Image]]
) -> Iterator[Image]:
    """Real rain to the left, rendered rain to the right."""
    for _ in range(REAL_ROWS):
        for _ in range(REAL_COLUMNS):
            yield labelled(real[rng.integers(len(real))][0], "real")
        for _ in range(REAL_COLUMNS):
            yield labelled(add_rain(rng, [clean[rng.integers(len(clean))][0]])[0], "rendered")


def write(path: Path, cells: list[Image], columns: int) -> None:
    """Write the cells row by row; JPEG or PNG by the name's ending."""
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    options = [cv2.IMWRITE_JPEG_QUALITY, 82] if path.suffix == ".jpg" else []
    if not cv2.imwrite(str(path), np.vstack(rows)[..., ::-1], options):
        raise SourceError(f"{path}: cannot be written")


@click.command()
@click.option("--clean", multiple=True, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--real", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--seed", default=0)
@click.option("-o", "out", required=True, type=click.Path(dir_okay=False, path_type=Path))
def main(clean: tuple[Path, ...], real: tuple[Path, ...], seed: int, out: Path) -> None:
    """Render rain onto the CLEAN images, by kind, or next to REAL ones."""
    rng = np.random.default_rng(seed)
    if real:
        cells = beside_real(rng, read_all(clean), read_all(real))
        write(out, list(cells), 2 * REAL_COLUMNS)
    else:
        write(out, list(by_kind(rng, read_all(clean))), COLUMNS)


if __name__ == "__main__":
    main()
