"""How much of a clip's streaks weights leave, and whether the rest of the picture decides it.

    python benchmarks/rain_left.py CLIP [--weights FILE]... [--box LEFT,TOP,WIDTH,HEIGHT] [--streaks HEIGHT]

A streak is what stands more than 15 levels above the median of a frame and its aligned neighbours, within the upper
``--streaks`` rows of the box: choose a calm place, since what moves stands above that median too. Printed for four
frames is the share of that height which is left, of the answers to whole frames and to the box cut out of them.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from vderain.network.semi_drdnet import SemiDRDNet
from vderain.training.data.images import ClipFile, read_window
from vderain.training.data.stacks import grey
from vderain.training.evaluation.predict import derain_stack, middle_clip
from vderain.training.rain.streaks import Picture
from vderain.weights import find_weights, load_network

LEAST_LEVELS = 15
FRAMES = (6, 14, 22, 30)
AROUND = 9  # frames read around each
LAID_OVER = 5  # frames of the median


def above_median(stack: Picture, luma: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """How far a luma (H, W) stands above the median of a stack's frame and neighbours."""
    seen = np.dstack([grey(stack[..., :3]), stack[..., 3:]])
    return np.clip(luma - np.median(seen, 2), 0, None)


def left(
    network: SemiDRDNet, frames: list[Picture], part: tuple[slice, slice], streaks: int
) -> float:
    """Share of the streaks within a part of the middle one of nine frames that the answer to the whole leaves."""
    dry = derain_stack(network, middle_clip(frames, network.config.frames))[part]
    seen = np.ascontiguousarray(middle_clip(frames, LAID_OVER)[part])
    before = above_median(seen, grey(np.ascontiguousarray(seen[..., :3])))[:streaks]
    after = above_median(seen, grey(np.ascontiguousarray(dry)))[:streaks]
    chosen = before > LEAST_LEVELS
    return float(after[chosen].mean() / before[chosen].mean())


@click.command()
@click.argument("clip", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--weights", multiple=True, help="Other weights than the shipped ones.")
@click.option("--box", default="200,0,320,192", show_default=True)
@click.option("--streaks", default=100, show_default=True)
def main(clip: Path, weights: tuple[str, ...], box: str, streaks: int) -> None:
    """Print a row for each of the weights."""
    x, y, width, height = (int(number) for number in box.split(","))
    place, whole = np.s_[y : y + height, x : x + width], np.s_[:, :]
    windows = [read_window(ClipFile(clip, at - AROUND // 2, AROUND)) for at in FRAMES]
    print("| weights | whole frames | the box alone |\n|---|---|---|")
    for path in weights or (None,):
        network = load_network(*find_weights("fast", path)).eval()
        assert isinstance(network, SemiDRDNet)
        rows = (
            [left(network, frames, place, streaks) for frames in windows],
            [
                left(network, [frame[place] for frame in frames], whole, streaks)
                for frames in windows
            ],
        )
        told = " | ".join(", ".join(f"{share:.2f}" for share in row) for row in rows)
        print(f"| {Path(path or 'shipped').name} | {told} |", flush=True)


if __name__ == "__main__":
    main()
