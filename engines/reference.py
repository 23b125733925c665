"""The reference engine: the network as it was trained, in torch and float32.

Every other engine is compared with it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from vderain.engines.contract import clip_inputs, spec_from_card
from vderain.errors import EngineLoadError, WeightsError
from vderain.frames import Clip, Plane, PlaneFormat
from vderain.interfaces import EngineSpec, Pending
from vderain.network.base import ChangeNetwork
from vderain.network.card import Card
from vderain.network.planes import PlanesNetwork
from vderain.weights import load_network


class ReferenceBackend:
    """Torch on the CPU; the network is loaded once for all formats."""

    def __init__(self, weights: Path, card: Card, *, threads: int = 0) -> None:
        self._network = load_finite_network(weights, card)
        self._spec = spec_from_card(card, "reference", "float32", "CPU")
        self._threads = threads

    def open(self, fmt: PlaneFormat) -> ReferenceEngine:
        """An engine for clips of one format."""
        return ReferenceEngine(self._network, fmt, self._spec, threads=self._threads)


class ReferenceEngine:
    """``Engine`` for one plane format; computes when it is asked for the answer."""

    slots = 1

    def __init__(
        self, network: ChangeNetwork, fmt: PlaneFormat, spec: EngineSpec, *, threads: int = 0
    ) -> None:
        self._fmt = fmt
        self._spec = spec
        self._threads = threads
        config = network.config
        self._planes_network = PlanesNetwork(
            network, fmt, multiple=config.multiple, frames=config.frames
        ).eval()
        self._closed = False

    def spec_for(self, fmt: PlaneFormat) -> EngineSpec:
        """The same for every format."""
        return self._spec

    def submit(self, clip: Clip) -> Pending:
        """Take a clip; its samples are copied before this returns."""
        if self._closed:
            raise EngineLoadError("the engine is closed")
        inputs = [
            torch.from_numpy(np.ascontiguousarray(plane, np.float32))[None, None]
            for plane in clip_inputs(clip, self._fmt, self._spec.frames)
        ]
        return _Answer(functools.partial(self._compute, inputs))

    def close(self) -> None:
        """Refuse further clips."""
        self._closed = True

    def _compute(self, inputs: list[torch.Tensor]) -> tuple[Plane, ...]:
        try:
            with torch.inference_mode(), _limited_threads(self._threads):
                changes = self._planes_network(*inputs)
                return tuple(change[0, 0].contiguous().numpy() for change in changes)
        except RuntimeError as error:  # torch's word for all that goes wrong, memory included
            raise EngineLoadError(f"the reference engine failed: {error}") from error


class _Answer:
    """``Pending`` that computes when it is asked first."""

    def __init__(self, compute: Callable[[], tuple[Plane, ...]]) -> None:
        self._compute = compute

    @functools.cached_property
    def _change(self) -> tuple[Plane, ...]:
        return self._compute()

    def result(self) -> tuple[Plane, ...]:
        return self._change


def load_finite_network(weights: Path, card: Card) -> ChangeNetwork:
    """The network of checked weights; WeightsError where a number in it is none."""
    network = load_network(weights, card)
    for name, values in network.state_dict().items():
        if not bool(torch.isfinite(values).all()):
            raise WeightsError(
                f"{weights}: {name} holds NaN or infinite values; train or export it again"
            )
    return network


@contextlib.contextmanager
def _limited_threads(threads: int) -> Iterator[None]:
    """Let torch use this many threads meanwhile, 0: as many as it likes.

    The setting is the whole process's, so it is put back.
    """
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads:
            torch.set_num_threads(before)
