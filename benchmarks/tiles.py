"""What a frame that goes in parts loses, by where the means come from that its gates see.

    python benchmarks/tiles.py PICTURE [--weights FILE] [--size 640x352]

The change of one picture in torch and float32: whole; block by block in stripes (`reference`, `cuda`); with means
averaged over its quarters, once and twice (`openvino` and, in float16, `tensorrt`, in tiles); with those of the
picture made smaller; and with those of one quarter alone, as plain tiles would have it. Without --weights: the
shipped `fast` ones, and a seeded network of the `paper` tier, which has no weights yet.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
import torch
import torch.nn.functional as F

from vderain.engines.backends.tiles import ROUNDS
from vderain.metrics import psnr
from vderain.network.config import PAPER
from vderain.network.inference.means import GatheringNetwork, GivenNetwork
from vderain.network.inference.memory import means_length
from vderain.network.inference.tiled import TiledNetwork
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.weights import find_weights, load_network


class Rgb(torch.nn.Module):
    """A network as a graph over one tensor."""

    def __init__(self, network) -> None:
        super().__init__()
        self.network = network

    def forward(self, rainy):
        return (self.network.change(rainy),)


def seeded_paper():
    torch.manual_seed(0)
    network = SemiDRDNet(PAPER).eval().requires_grad_(False)
    for branch in (network.rain, network.detail):
        branch.tail.weight.mul_(0.1)
        branch.tail.bias.zero_()
    return network


def row(name, means, whole_means, change, whole) -> str:
    gap = "" if means is None else f"{float((means - whole_means).abs().max()):.1e}"
    worst = 255 * float((change - whole).abs().max())
    agreement = psnr(255 * change.numpy(), 255 * whole.numpy(), peak=255)
    return f"| {name} | {gap} | {worst:.2g} | {min(agreement, 200):.1f} dB |"


def average_in_half(make, quarters):
    """Means of the quarters, asked twice, as a network in float16 sees them."""
    gather = GatheringNetwork(Rgb(make().half()))
    average = torch.zeros(1, 1, 1, means_length(gather.inner.network.config))
    for _ in range(ROUNDS):
        average = torch.stack([gather(quarter.half(), average) for quarter in quarters]).mean(0)
    return average


def table(make, rainy) -> None:
    network = make()
    gather, given = GatheringNetwork(Rgb(make())), GivenNetwork(Rgb(make()))
    own = torch.zeros(1, 1, 1, means_length(network.config))
    whole, means = network.change(rainy), gather(rainy, own)

    def shown(name, some) -> None:
        print(row(name, some, means, given(rainy, some)[0], whole), flush=True)

    print(f"largest change {255 * float(whole.abs().max()):.1f} levels")
    print(f"largest mean {float(means.abs().max()):.3f}")
    print("| means | worst mean | worst change, levels | agreement |\n|---|---|---|---|")
    stripes = TiledNetwork(network, 32).change(rainy)
    print(row("whole frame's, in stripes", None, means, stripes, whole))
    quarters = [half for band in rainy.chunk(2, 2) for half in band.chunk(2, 3)]
    average = own
    for times in ("once", "twice"):
        few = [gather(quarter, average) for quarter in quarters]
        average = torch.stack(few).mean(0)
        shown(f"averaged over quarters, {times}", average)
    halved = average_in_half(make, quarters)
    change = GivenNetwork(Rgb(make().half()))(rainy.half(), halved)[0].float()
    print(row("averaged over quarters, twice, in float16", halved, means, change, whole))
    change = make().half().change(rainy.half()).float()
    print(row("whole frame's, in float16", None, means, change, whole), flush=True)
    for part in (2, 4):
        multiple = network.config.multiple
        smaller = [side // part // multiple * multiple for side in rainy.shape[2:]]
        reduced = torch.nn.functional.interpolate(rainy, smaller, mode="area")
        shown(f"of the frame at 1/{part}", gather(reduced, own))
    few = [gather(quarter, own) for quarter in quarters]
    shown("of one quarter", max(few, key=lambda some: float((some - means).abs().max())))


@click.command()
@click.argument("picture", type=click.Path(exists=True))
@click.option("--weights", type=click.Path(exists=True))
@click.option("--size", default="640x352")
def main(picture: str, weights: str | None, size: str) -> None:
    """Print a table for each network."""
    width, height = (int(side) for side in size.split("x"))
    pixels = cv2.cvtColor(cv2.imread(picture), cv2.COLOR_BGR2RGB)
    pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    rainy = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    path, card = find_weights("fast", weights)
    with torch.inference_mode():
        print(f"{Path(picture).name} at {size}, weights {path.name}")
        table(
            lambda: load_network(path, card),
            F.pad(rainy, (0, 0, 0, 0, 0, card.config.channels - 3)),
        )
        if weights is None:
            print(f"{Path(picture).name} at {size}, `paper`, seeded")
            table(seeded_paper, rainy)


if __name__ == "__main__":
    main()
