"""The reference engine: the network as it was trained, in torch and float32.

Every other engine is compared with it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vderain.clips import Window
from vderain.engines.engine import added, clip_inputs, spec_from_card
from vderain.errors import EngineFailedError, EngineLoadError, WeightsError
from vderain.flow.future import Future
from vderain.frames import Clip, Plane, PlaneFormat
from vderain.interfaces import EngineSpec
from vderain.machine import available_bytes
from vderain.network.base import ChangeNetwork
from vderain.network.card import Card
from vderain.network.inference.allocated import peak_bytes, stripe_rows
from vderain.network.inference.tiled import TiledNetwork
from vderain.network.planes import PlanesNetwork
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.weights import load_network

_FEWEST_ROWS = 16  # of a stripe; with less memory the system raises the error


class ReferenceBackend:
    """Torch on the CPU; the network is loaded once for all formats."""

    def __init__(self, weights: Path, card: Card, *, threads: int = 0) -> None:
        self._network = load_finite_network(weights, card)
        self._spec = spec_from_card(card, "reference", "float32", "CPU")
        self._threads = threads

    def open(self, fmt: PlaneFormat) -> ReferenceEngine:
        """An engine for clips of one format."""
        free = available_bytes()
        return ReferenceEngine(
            self._network, fmt, self._spec, threads=self._threads, free_bytes=free
        )


class ReferenceEngine:
    """``Engine`` for one plane format, on the network's device; computes when the result is asked for.

    A frame that needs more than ``free_bytes`` of memory is computed in stripes.
    """

    slots = 1

    def __init__(
        self,
        network: ChangeNetwork,
        fmt: PlaneFormat,
        spec: EngineSpec,
        *,
        threads: int = 0,
        free_bytes: int | None = None,
    ) -> None:
        self._fmt = fmt
        self._threads = threads
        config = network.config
        self.window = Window.of(config.frames, config.ranks)
        self._device = next(network.parameters()).device
        self._planes_network, notes = _fitting(network, fmt, free_bytes)
        self._planes_network.eval().to(self._device)
        self._spec = replace(spec, notes=(*spec.notes, *notes))
        self._closed = False

    def open(self, fmt: PlaneFormat) -> EngineSpec:
        """As the protocol says; it is open already."""
        return self._spec

    def submit(self, clip: Clip, *, strength: float = 1.0, on_device: bool = False) -> Future:
        """As the protocol says; the change is added on the host."""
        return added(self.change(clip), clip, strength)

    def change(self, clip: Clip) -> Future:
        """Copy the clip's samples; they are computed later."""
        if self._closed:
            raise EngineLoadError("the engine is closed")
        planes = clip_inputs(clip, self._fmt, self.window)
        try:
            inputs = [
                torch.from_numpy(np.ascontiguousarray(plane, np.float32))[None, None].to(
                    self._device
                )
                for plane in planes
            ]
        except (RuntimeError, MemoryError) as error:  # a GPU without free memory
            raise EngineFailedError(f"the reference engine failed: {error}") from error
        return Future(functools.partial(self._compute, inputs))

    def close(self) -> None:
        """Refuse further clips."""
        self._closed = True

    def _compute(self, inputs: list[torch.Tensor]) -> tuple[Plane, ...]:
        try:
            with torch.inference_mode(), _limited_threads(self._threads), _exact():
                changes = self._planes_network(*inputs)
                return tuple(change[0, 0].contiguous().cpu().numpy() for change in changes)
        except (RuntimeError, MemoryError) as error:  # torch raises these for all failures
            raise EngineFailedError(f"the reference engine failed: {error}") from error


def load_finite_network(weights: Path, card: Card) -> ChangeNetwork:
    """The network of a weights file; WeightsError where a number in it is not finite."""
    network = load_network(weights, card)
    for name, values in network.state_dict().items():
        if not bool(torch.isfinite(values).all()):
            raise WeightsError(
                f"{weights}: {name} holds NaN or infinite values; train or export it again"
            )
    return network


def _fitting(
    network: ChangeNetwork, fmt: PlaneFormat, free_bytes: int | None
) -> tuple[PlanesNetwork, tuple[str, ...]]:
    """The graph, in stripes where a whole frame needs more than the free memory; and a note."""
    config = network.config

    def graph(rows: int = 0) -> PlanesNetwork:
        inner = TiledNetwork(network, rows) if rows and isinstance(network, SemiDRDNet) else network
        return PlanesNetwork(inner, fmt, multiple=config.multiple)

    def peak(rows: int = 0) -> int:
        return peak_bytes(graph(rows), fmt.clip_shapes(config.seen_frames), torch.float32)

    if not isinstance(network, SemiDRDNet) or free_bytes is None or peak() <= free_bytes:
        return graph(), ()
    height = fmt.padded(config.multiple).height
    rows = stripe_rows(peak, height // network.config.unshuffle, free_bytes) or _FEWEST_ROWS
    note = f"{free_bytes >> 20} MiB are free: a frame is computed in stripes of {rows} rows"
    return graph(rows), (note,)


@contextlib.contextmanager
def _exact() -> Iterator[None]:
    """Keep convolutions on a GPU from rounding float32 to TF32."""
    with torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled,
        benchmark=torch.backends.cudnn.benchmark,
        deterministic=torch.backends.cudnn.deterministic,
        allow_tf32=False,
    ):
        yield


@contextlib.contextmanager
def _limited_threads(threads: int) -> Iterator[None]:
    """Let torch use this many threads within the block; 0 leaves the choice to torch.

    The setting belongs to the whole process, so it is restored.
    """
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads:
            torch.set_num_threads(before)
