"""How much of the exported graph the planes wrapper takes: packed, plain, and the bare network on RGB.

python benchmarks/wrapper.py [--size 1280x720] [--precision bf16]
"""

from __future__ import annotations

import statistics
import time
import warnings

import click
import numpy as np
import openvino
import torch
from torch import Tensor, nn

from vderain.frames import PlaneFormat
from vderain.network.inference.fold import fold
from vderain.network.planes import PackedNetwork, PlanesNetwork
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.weights import find_weights, load_network


class Bare(nn.Module):
    """The folded network between its own float input and the change in RGB."""

    def __init__(self, network: SemiDRDNet) -> None:
        super().__init__()
        self.network = fold(network)

    def forward(self, rainy: Tensor) -> Tensor:
        """(1, 3 + T - 1, H, W) -> the change, (1, 3, H, W)."""
        return self.network.change(rainy)


def compiled(module: nn.Module, shapes: list[tuple[int, ...]], precision: str, kind: openvino.Type):
    """An infer request over random input of ``kind``."""
    example = tuple(torch.zeros(shape) for shape in shapes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about sizes
        model = openvino.convert_model(module.eval(), example_input=example)
    model.reshape({index: list(shape) for index, shape in enumerate(shapes)})
    steps = openvino.preprocess.PrePostProcessor(model)
    for index in range(len(shapes)):
        steps.input(index).tensor().set_element_type(kind)
    hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(steps.build(), "CPU", hints).create_infer_request()
    rng = np.random.default_rng(0)
    request.infer([rng.integers(0, 2, shape).astype(kind.to_dtype()) for shape in shapes])
    return request


@click.command()
@click.option("--size", default="1280x720")
@click.option("--precision", default="bf16", type=click.Choice(["bf16", "f32"]))
@click.option("--rounds", default=30)
def main(size: str, precision: str, rounds: int) -> None:
    """Print the median time of each form and its ratio to the bare network, interleaved in one run."""
    width, height = (int(side) for side in size.split("x"))
    fmt = PlaneFormat("yuv420", width, height)
    network = load_network(*find_weights("fast"))
    channels, frames = network.config.channels, network.config.seen_frames
    planes = [(1, 1, *shape) for shape in fmt.clip_shapes(frames)]
    bare_input = [(1, channels, height, width)]
    requests = {
        "bare, RGB": compiled(Bare(network), bare_input, precision, openvino.Type.f32),
        "packed planes": compiled(PackedNetwork(network, fmt), planes, precision, openvino.Type.u8),
        "plain planes": compiled(
            PlanesNetwork(fold(network), fmt, multiple=network.config.multiple), planes, precision, openvino.Type.u8
        ),
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in requests}
    for _ in range(rounds):
        for name, request in requests.items():
            since = time.perf_counter()
            request.infer()
            times[name].append(time.perf_counter() - since)
    bare = statistics.median(times["bare, RGB"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:14} {1000 * median:7.1f} ms   {median / bare:.2f} of the bare network")


if __name__ == "__main__":
    main()
