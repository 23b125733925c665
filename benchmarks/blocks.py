"""What each block of a `fast` network's rain branch is worth, and the network without some of them.

    python benchmarks/blocks.py WEIGHTS DATA
    python benchmarks/blocks.py WEIGHTS DATA --without 0,2 --output trimmed.safetensors
    python benchmarks/blocks.py WEIGHTS DATA --coarse 6,4 --output grown.safetensors
    python benchmarks/blocks.py WEIGHTS DATA --one-frame --output per_frame.safetensors
    python benchmarks/blocks.py WEIGHTS DATA --towards OTHER 0.3 --output between.safetensors

DATA holds dev/. Every block is left out once, which a residual branch survives, and parts of the development sets
are scored without further training: every sixth of Rain800's hold-back, the heavy pairs, two frames of each
rendered shower. --without takes blocks out of the coarsest scale; --coarse adds blocks that do nothing yet to
the coarser scales; --one-frame leaves out what sees neighbours, so that single pictures are answered as
before. These are starts for `vderain train`. --towards goes a share of the way to weights that were trained on from
these: what they gained for what they lost, in the measure wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

from vderain.clips import Window
from vderain.metrics import psnr
from vderain.network.card import Card
from vderain.network.semi_drdnet import CoarseStage, RainBlock, SemiDRDNet
from vderain.training.data.images import ClipFile, read_picture, read_window
from vderain.training.data.stacks import stacked_alone
from vderain.training.evaluation.predict import derain_stack, stacked_clips
from vderain.weights import find_weights, load_network, save_network

SIDES = (320, 480)
CLIPS = ("ntia_Aspen", "vid4_calendar", "vid4_foliage")


def samples(data: Path, frames: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Stacks (H, W, 3 + T - 1) and their ground truth (H, W, 3), uint8."""
    dev = data / "dev"
    for path in sorted((dev / "rain800_pairs").iterdir())[::6]:
        both = read_picture(path)
        half = both.shape[1] // 2
        yield cut(stacked_alone(both[:, half : 2 * half], frames)), cut(both[:, :half])
    for path in sorted((dev / "heavy_pairs" / "input").iterdir()):
        rainy, clean = (
            read_picture(dev / "heavy_pairs" / side / path.name) for side in ("input", "target")
        )
        yield cut(stacked_alone(rainy, frames)), cut(clean)
    for name in CLIPS:
        rainy = read_window(ClipFile(dev / "rendered" / f"{name}_shower.mp4", 0, 8))
        clean = read_window(ClipFile(dev / "clean_video" / f"{name}.mp4", 0, 8))
        stacks = list(stacked_clips(rainy, Window(frames, frames // 2)))
        for index in (3, 5):
            yield cut(stacks[index]), cut(clean[index])


def cut(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture[: SIDES[0], : SIDES[1]])


def scales(network: SemiDRDNet) -> list[nn.Sequential]:
    """The blocks of the rain branch, finest scale first."""
    found = [network.rain.blocks]
    while stages := [block for block in found[-1] if isinstance(block, CoarseStage)]:
        found.append(stages[0].blocks)
    return found


def without(network: SemiDRDNet, left_out: list[int]) -> SemiDRDNet:
    """The network without some blocks of its coarsest scale."""
    *finer, last = network.config.coarse_blocks
    smaller = SemiDRDNet(replace(network.config, coarse_blocks=(*finer, last - len(left_out))))
    kept = [block for index, block in enumerate(scales(network)[-1]) if index not in left_out]
    trimmed = scales(network)[-1]
    del trimmed[:]
    trimmed.extend(kept)
    smaller.load_state_dict(network.state_dict())
    return smaller


def grown(network: SemiDRDNet, counts: tuple[int, ...]) -> SemiDRDNet:
    """The network with so many blocks on each coarser scale, of which the new ones add nothing yet."""
    larger = SemiDRDNet(replace(network.config, coarse_blocks=counts))
    for name in ("detail", "fusion", "rain.head", "rain.body", "rain.tail"):
        if name.partition(".")[0] != "fusion" or network.fusion is not None:
            larger.get_submodule(name).load_state_dict(network.get_submodule(name).state_dict())
    for old, new in zip(scales(network), scales(larger), strict=True):
        for sources, targets in zip(parted(old), parted(new), strict=True):
            for source, target in zip(sources, targets, strict=False):
                for part in ("down", "up") if isinstance(source, CoarseStage) else ("body", "gate"):
                    target.get_submodule(part).load_state_dict(
                        source.get_submodule(part).state_dict()
                    )
            for fresh in targets[len(sources) :]:
                nn.init.zeros_(fresh.body[-1].weight)
                nn.init.zeros_(fresh.body[-1].bias)
    return larger


def parted(blocks: nn.Sequential) -> tuple[list[nn.Module], ...]:
    """The blocks before the coarser scale, that scale, and those after it."""
    at = next((k for k, each in enumerate(blocks) if isinstance(each, CoarseStage)), len(blocks))
    return [*blocks[:at]], [*blocks[at : at + 1]], [*blocks[at + 1 :]]


def of_one_frame(network: SemiDRDNet) -> SemiDRDNet:
    """The per-frame network that answers a picture as this one answers it T times."""
    single = SemiDRDNet(replace(network.config, frames=1))
    state = single.state_dict()
    for name in state:
        values = network.state_dict()[name]
        # What the branches see of neighbours is 0 then.
        state[name] = values if values.dim() < 2 else values[:, : state[name].shape[1]]
    single.load_state_dict(state)
    return single


def between(network: SemiDRDNet, other: SemiDRDNet, share: float) -> SemiDRDNet:
    """The network with each weight ``share`` of the way to the other's."""
    mean = SemiDRDNet(network.config)
    theirs = other.state_dict()
    mean.load_state_dict(
        {name: torch.lerp(own, theirs[name], share) for name, own in network.state_dict().items()}
    )
    return mean


def write(network: SemiDRDNet, path: Path, source: Path, card: Card, told: str) -> None:
    changes = [*card.training.get("changes", []), f"{source.name}: {told}"]
    training = {**card.training, "changes": changes}
    card = replace(card, config=network.config, scores={}, int8={}, training=training)
    save_network(network, path, card)
    click.echo(
        f"{path}: {told}; {2 * network.config.macs_per_pixel * 1280 * 720 / 1e9:.1f} GFLOP at 1280x720"
    )


def table(network: SemiDRDNet, data: Path) -> None:
    drawn = list(samples(data, network.config.frames))

    def score() -> float:
        return float(np.mean([psnr(derain_stack(network, rainy), clean) for rainy, clean in drawn]))

    click.echo(f"whole: {score():.2f} dB")
    for scale, blocks in enumerate(scales(network)):
        for index, block in enumerate(blocks):
            if isinstance(block, RainBlock):
                blocks[index] = nn.Identity()
                click.echo(f"1/{2**scale} without block {index}: {score():.2f} dB")
                blocks[index] = block


@click.command()
@click.argument("weights")
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--without", "left_out", help="Blocks of the coarsest scale, such as 0,2.")
@click.option(
    "--coarse", help="Blocks of each coarser scale, such as 6,4; no fewer than there are."
)
@click.option("--one-frame", is_flag=True, help="As a network that sees one frame.")
@click.option("--towards", nargs=2, type=(str, float), help="Other weights, and how far.")
@click.option("--output", "-o", type=click.Path(path_type=Path))
def main(
    weights: str,
    data: Path,
    left_out: str | None,
    coarse: str | None,
    one_frame: bool,
    towards: tuple[str, float] | None,
    output: Path | None,
) -> None:
    torch.set_num_threads(1)
    path, card = find_weights("fast", weights)
    network = load_network(path, card).eval()
    if output is None:
        table(network, data)
    elif one_frame:
        write(of_one_frame(network), output, path, card, "without what sees neighbours")
    elif towards:
        other, share = find_weights("fast", towards[0]), towards[1]
        mean = between(network, load_network(*other), share)
        write(mean, output, path, card, f"{share:g} of the way to {other[0].name}")
    elif coarse:
        counts = tuple(int(count) for count in coarse.split(","))
        write(grown(network, counts), output, path, card, f"grown to {coarse} coarser blocks")
    else:
        numbers = sorted(int(number) for number in (left_out or "").split(",") if number)
        told = f"without blocks {', '.join(map(str, numbers))} of the coarsest scale"
        write(without(network, numbers), output, path, card, told)


if __name__ == "__main__":
    main()
