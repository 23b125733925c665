"""Real rain before and after, for looking at: one row for each clip or image of a folder.

python scripts/make_real_sheet.py DIR -o sheet.png [--weights W] [--weights OTHER] [--count 12] [--zoom 2]

The columns are the frame, of clips the plain median of five frames, and the frame derained with each of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click
import cv2
import numpy as np

from vderain.network.base import ChangeNetwork
from vderain.training.data.folders import files_below, find_clips
from vderain.training.data.images import IMAGES, frames_by_opencv, read_image
from vderain.training.evaluation.clips.windows import temporal_median
from vderain.training.evaluation.predict import derain_image, derain_middle
from vderain.training.rain.render import Image
from vderain.weights import find_weights, load_network

TILE_PX = (480, 320)  # width, height
FIRST = 30  # index of the first frame that is read of a clip
AROUND = 8  # frames that are read on each side of the one that is shown


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--weights", multiple=True, help="A weights file [default: the shipped ones].")
@click.option("--count", default=8, show_default=True, help="Rows, spread over the folder.")
@click.option("--zoom", default=1.0, show_default=True, help="Show the middle 1/zoom of each.")
def main(folder: Path, output: Path, weights: tuple[str, ...], count: int, zoom: float) -> None:
    """Write the sheet."""
    networks = [load_network(*find_weights("fast", each)) for each in weights or (None,)]
    found = find_clips(folder) or [path for path, _ in files_below(folder, IMAGES)]
    chosen = np.linspace(0, len(found) - 1, min(count, len(found))).astype(int)
    rows = [np.hstack([tile(p, zoom) for p in cells(found[i], networks)]) for i in chosen]
    cv2.imwrite(str(output), np.vstack(rows)[..., ::-1])


def cells(path: Path, networks: list[ChangeNetwork]) -> Iterator[Image]:
    """The images of a row."""
    if path.suffix.lower() in IMAGES:
        image = read_image(path)
        yield image
        yield from (derain_image(network, image) for network in networks)
        return
    frames = list(islice(frames_by_opencv(path), FIRST, FIRST + 2 * AROUND + 1))
    yield frames[AROUND]
    yield temporal_median(frames[AROUND - 2 : AROUND + 3]).astype(np.uint8)
    yield from (derain_middle(network, frames) for network in networks)


def tile(image: Image, zoom: float) -> Image:
    """The middle of an image, as large as a tile."""
    height, width = image.shape[:2]
    h, w = int(height / zoom), int(width / zoom)
    top, left = (height - h) // 2, (width - w) // 2
    part = image[top : top + h, left : left + w]
    return np.asarray(cv2.resize(part, TILE_PX, interpolation=cv2.INTER_AREA), np.uint8)


if __name__ == "__main__":
    main()
