"""Whether a loss on how the error changes from frame to frame is worth anything to weights of several frames.

    python benchmarks/consistency.py DATA [--weights FILE] [--steps 400] [--share W]...

DATA holds train/ and dev/ as for ``vderain train fast``. For each share the weights are trained on, from the same start
and on the same pairs of consecutive frames with rendered rain, by the penalty of both frames plus ``share`` times the
same penalty of the difference of their errors. Prints PSNR and flicker over two consecutive frames at three places of
each rendered dev clip, and how far the dry clips come out from themselves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from torch import Tensor

from vderain.machine import cpu_fields, cpu_model, package_version
from vderain.metrics import psnr
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.training.config.methods import TrainConfig
from vderain.training.data.cache import PictureCache
from vderain.training.data.images import ClipFile, read_window
from vderain.training.data.patches import cropped
from vderain.training.data.sources import Samples, load_sources
from vderain.training.data.stacks import network_input
from vderain.training.data.synthetic_clips import SequenceMaker
from vderain.training.evaluation.predict import derain_stack, stacked_clips
from vderain.training.losses.supervised import PENALTIES
from vderain.training.rain.render import Picture, add_rain, recompress
from vderain.weights import find_weights, load_network

PATCH, PAIRS, RATE = 128, 4, 3e-4
DRY_SHARE = 0.15
PLACES = (4, 11, 18)


def draw_pair(
    rng: np.random.Generator, clips: Samples, maker: SequenceMaker
) -> tuple[list[Picture], list[Picture]]:
    """The stacks and the ground truths of two consecutive frames."""
    sample = clips[int(rng.integers(len(clips)))]
    side, m = PATCH + 2 * maker.margin_px, maker.margin_px
    frames = sample.frames[: maker.frames + 1]
    clean = list(cropped(rng, frames, side))
    rainy = clean if rng.random() < DRY_SHARE else add_rain(rng, clean)
    if rng.random() < 0.5:
        rainy = [recompress(rng, frame) for frame in rainy]
    middle = maker.frames // 2
    offsets = list(range(-middle, middle + 1))
    stacks = [maker.laid_over(rng, rainy[k : k + maker.frames], offsets) for k in (0, 1)]
    truths = [frame[m:-m, m:-m] for frame in clean[middle : middle + 2]]
    return stacks, truths


def batch(step: int, clips: Samples, maker: SequenceMaker) -> tuple[Tensor, Tensor]:
    """Stacks (2 PAIRS, 3 + T - 1, P, P) and ground truths (2 PAIRS, 3, P, P), a frame's follower behind it."""
    rng = np.random.default_rng((9, step))
    drawn = [draw_pair(rng, clips, maker) for _ in range(PAIRS)]
    seen = np.stack([network_input(stack) for stacks, _ in drawn for stack in stacks])
    truth = np.stack([network_input(one) for _, truths in drawn for one in truths])
    return torch.from_numpy(seen), torch.from_numpy(truth)


def train(network: SemiDRDNet, clips: Samples, steps: int, share: float) -> None:
    """Train in place."""
    maker, penalty = SequenceMaker(network.config.frames), PENALTIES["psnr"]
    optimizer = torch.optim.Adam(network.requires_grad_().parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for step in range(steps):
        seen, truth = batch(step, clips, maker)
        with torch.autocast("cpu", torch.bfloat16):
            change = network.change(seen.to(memory_format=torch.channels_last))
        error = seen[:, :3] + change.float() - truth
        loss = penalty(error).mean()
        if share:
            loss = loss + share * penalty(error[1::2] - error[::2]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    network.eval().requires_grad_(requires_grad=False)


def scored(data: Path, frames: int) -> Iterator[tuple[str, list[Picture], list[Picture]]]:
    """A name, the stacks and the ground truths of two consecutive frames; "dry" for dry clips."""
    for truth in sorted((data / "dev" / "clean_video").iterdir()):
        rendered = sorted((data / "dev" / "rendered").glob(f"{truth.stem}_*"))
        for path in (truth, *rendered):
            for place in PLACES:
                around = frames // 2
                length = 2 * around + 2
                wet, dry = (read_window(ClipFile(p, place - around, length)) for p in (path, truth))
                stacks = list(stacked_clips(wet, frames))[around : around + 2]
                yield "dry" if path == truth else "rendered", stacks, dry[around : around + 2]


def score(network: SemiDRDNet, data: Path) -> dict[str, float]:
    """PSNR in dB of rendered rain and of dry clips, and the flicker of the former in levels; means."""
    found: dict[str, list[float]] = {"rendered": [], "flicker": [], "dry": []}
    for name, stacks, truths in scored(data, network.config.frames):
        answers = [derain_stack(network, stack) for stack in stacks]
        found[name] += [psnr(a, t) for a, t in zip(answers, truths, strict=True)]
        if name == "rendered":
            before, after = (a.astype(float) - t for a, t in zip(answers, truths, strict=True))
            found["flicker"].append(float(np.abs(after - before).mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--weights", default=None, help="Other weights than the shipped ones.")
@click.option("--steps", default=400, show_default=True)
@click.option("--share", "shares", type=float, multiple=True, default=(0.0, 0.3, 1.0))
def main(data: Path, weights: str | None, steps: int, shares: tuple[float, ...]) -> None:
    """Print a row for the weights as they are, and for each share."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(f"{cpu_model(cpu_fields())}, one thread; torch {package_version('torch')}")
    path, card = find_weights("fast", weights)
    config = TrainConfig.load(Path("fast"))
    tables = {"clips": config.sources["clips"]}
    clips = load_sources(tables, data, PictureCache(2000), reach=card.config.frames // 2 + 1)
    print("| share | rendered | flicker | dry | seconds |\n|---|---|---|---|---|")
    for share in (None, *shares):
        network = load_network(path, card).eval()
        assert isinstance(network, SemiDRDNet)
        since = time.monotonic()
        if share is not None:
            train(network, clips["clips"], steps, share)
        took_s = time.monotonic() - since
        told = score(network, data)
        cells = [f"{told[name]:.2f}" for name in ("rendered", "flicker", "dry")]
        print(f"| {share} | {' | '.join(cells)} | {took_s:.0f} |", flush=True)


if __name__ == "__main__":
    main()
