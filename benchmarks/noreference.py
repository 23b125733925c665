"""Whether the scores without ground truth rank results as PSNR against it does.

    VDERAIN_DATA=<folder with dev/> python benchmarks/noreference.py [--weights FILE]

Ten results of each rendered clip of the development set: the input, the weights at strengths of 0.5, 0.8 and 1, the
input and the derained frames blurred, medians of 3 and 5 pixels, a bilateral filter, and the derained frames noisier.
Prints Spearman's correlation of each score with PSNR, over the ten, for each clip and as the mean over clips.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
import cv2
import numpy as np

from vderain.metrics import psnr
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.training.data.images import ClipFile, read_window
from vderain.training.evaluation.noreference import RealScores, score_result
from vderain.training.evaluation.predict import derain_frames
from vderain.training.rain.streaks import Picture
from vderain.training.rain.temporal import view
from vderain.weights import find_weights, load_network

FRAMES, WINDOW = 15, 7  # read of each clip, and scored in its middle
LOWER_IS_BETTER = {"residual", "streaks", "flicker"}


def results_of(network: SemiDRDNet, frames: list[Picture]) -> dict[str, list[Picture]]:
    """Ten answers to the frames, by name."""
    dry = derain_frames(network, frames)
    rng = np.random.default_rng(0)

    def mixed(share: float) -> list[Picture]:
        return [
            np.rint(d * share + f * (1 - share)).astype(np.uint8)
            for f, d in zip(frames, dry, strict=True)
        ]

    return {
        "input": frames,
        "half": mixed(0.5),
        "most": mixed(0.8),
        "derained": dry,
        "blurred input": [cv2.GaussianBlur(one, (0, 0), 1.5) for one in frames],
        "blurred": [cv2.GaussianBlur(one, (0, 0), 1.5) for one in dry],
        "median 3": [cv2.medianBlur(one, 3) for one in frames],
        "median 5": [cv2.medianBlur(one, 5) for one in frames],
        "bilateral": [cv2.bilateralFilter(one, 7, 40, 5) for one in frames],
        "noisy": [np.clip(d + rng.normal(0, 6, d.shape), 0, 255).astype(np.uint8) for d in dry],
    }


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's, of two lists without ties worth the name."""
    ranks = [np.argsort(np.argsort(np.asarray(side))).astype(float) for side in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def correlations(network: SemiDRDNet, rainy: Path, clean: Path) -> dict[str, float]:
    """Of each score with PSNR, over the results of one clip."""
    frames, truth = (read_window(ClipFile(path, 0, FRAMES)) for path in (rainy, clean))
    first = (FRAMES - WINDOW) // 2
    inner = slice(first, first + WINDOW)
    results = results_of(network, frames)
    seen = view(frames[inner], results["derained"][inner])
    scores: list[RealScores] = []
    decibels = []
    for result in results.values():
        found = score_result(seen, result[inner])
        assert found is not None, f"{rainy}: too little of it can be trusted"
        scores.append(found)
        decibels.append(psnr(result[FRAMES // 2], truth[FRAMES // 2]))
    by_name = {name: [asdict(one)[name] for one in scores] for name in asdict(scores[0])}
    return {
        name: rank_correlation(values, decibels) * (-1 if name in LOWER_IS_BETTER else 1)
        for name, values in by_name.items()
    }


@click.command()
@click.option("--weights", default=None, help="Other weights than the shipped ones.")
def main(weights: str | None) -> None:
    """Print a row for each clip, and the means."""
    network = load_network(*find_weights("fast", weights)).eval()
    assert isinstance(network, SemiDRDNet)
    data = Path(os.environ["VDERAIN_DATA"]) / "dev"
    rows = {}
    for rainy in sorted((data / "rendered").glob("*.mp4")):
        clean = data / "clean_video" / f"{rainy.stem.rpartition('_')[0]}.mp4"
        rows[rainy.stem] = correlations(network, rainy, clean)
    names = list(next(iter(rows.values())))
    print(f"| clip | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    for stem, row in rows.items():
        print(f"| {stem} | {' | '.join(f'{row[name]:.2f}' for name in names)} |")
    for label, of in (("mean", np.mean), ("lowest", np.min)):
        values = [of([row[name] for row in rows.values()]) for name in names]
        print(f"| {label} | {' | '.join(f'{value:.2f}' for value in values)} |")


if __name__ == "__main__":
    main()
