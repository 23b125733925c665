"""Rainy images of any folder, each beside its derained one: for looking at, since real rain has no ground truth.

python scripts/make_real_sheet.py DIR -o sheet.png [--weights W] [--weights OTHER] [--count 12]
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np

from vderain import Derainer, EngineOptions
from vderain.training.data.sources import Source, open_source_folder
from vderain.training.rain.render import Image

TILE = (480, 320)


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--weights", multiple=True, help="A weights file [default: the shipped ones].")
@click.option("--count", default=8, show_default=True, help="Images, spread over the folder.")
@click.option("--zoom", default=1.0, show_default=True, help="Show the middle 1/zoom of each.")
def main(folder: Path, output: Path, weights: tuple[str, ...], count: int, zoom: float) -> None:
    """One row for each image: rainy, then derained with each of the weights."""
    reader = "rainy_clips" if any(folder.glob("*.mp4")) else "real"
    samples = open_source_folder(folder.name, Source(reader=reader, frames=count), folder)
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)
    rainy = [
        sample.rainy for sample in (samples[int(i)] for i in chosen) if sample.rainy is not None
    ]
    columns = [rainy]
    for each in weights or (None,):
        with Derainer(EngineOptions(weights=each)) as derainer:
            columns.append([derainer(image) for image in rainy])
    rows = [np.hstack([tile(p, zoom) for p in row]) for row in zip(*columns, strict=True)]
    cv2.imwrite(str(output), np.vstack(rows)[..., ::-1])


def tile(image: Image, zoom: float) -> Image:
    """The middle of an image, as large as a tile."""
    height, width = image.shape[:2]
    h, w = int(height / zoom), int(width / zoom)
    top, left = (height - h) // 2, (width - w) // 2
    part = image[top : top + h, left : left + w]
    return np.asarray(cv2.resize(part, TILE, interpolation=cv2.INTER_AREA), np.uint8)


if __name__ == "__main__":
    main()
