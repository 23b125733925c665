"""Makes the graphs of a weights file, with torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vderain.engines.graphs.archive import (
    GraphFile,
    graph_name,
    own_formats,
    rgb_name,
    write_graphs,
)
from vderain.engines.graphs.reference import check_stacks
from vderain.engines.graphs.runtime import import_openvino, ir_bytes
from vderain.engines.graphs.traced import change_model, planes_model
from vderain.errors import SinkError
from vderain.network.base import ChangeNetwork
from vderain.network.config import NetworkConfig
from vderain.network.inference.quantize import quantize
from vderain.network.planes import packable
from vderain.network.samples import bounded
from vderain.weights import find_weights, load_network


def export_graphs(weights: Path) -> Path:
    """Write the graphs of a weights file next to it; returns their path.

    Raises WeightsError where weights or card cannot be used, EngineLoadError without openvino, SinkError where
    the file cannot be written.
    """
    ov = import_openvino()
    _, card = find_weights(weights.stem, str(weights))
    network = load_network(weights, card)
    predictions = {
        name: _prediction(network, stack) for name, stack in check_stacks(card.config).items()
    }
    graphs: dict[str, tuple[bytes, bytes]] = {}
    forms = {False: network}
    if card.int8:
        forms[True] = quantize(network, card.int8)
    for int8, form in forms.items():
        graphs[rgb_name(int8=int8)] = ir_bytes(ov, change_model(ov, form), half=True)
        for fmt in own_formats():
            padded = fmt.padded(card.config.multiple)
            packs = isinstance(card.config, NetworkConfig) and packable(card.config.unshuffle, fmt)
            if packs:
                model = planes_model(ov, form, padded)
                graphs[graph_name(fmt, int8=int8)] = ir_bytes(ov, model, half=True)
    try:
        return write_graphs(weights, card, GraphFile(graphs, predictions))
    except OSError as error:
        raise SinkError(f"{weights}: its graphs cannot be written ({error.strerror})") from error


@torch.inference_mode()
def _prediction(network: ChangeNetwork, stack: np.ndarray) -> np.ndarray:
    change = network.change(torch.from_numpy(stack)[None])[0].numpy()
    return bounded(change, stack).astype(np.float16)
