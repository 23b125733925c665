"""The reference where torch is missing: the graph of the change in RGB in float32, checked before its use.

It must reproduce the predictions of the torch network that were stored at the export. Planes are converted in
numpy, independently of the operators that ``graphs.planes`` makes for the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vderain.clips import Window
from vderain.engines.engine import added, clip_inputs, spec_from_card
from vderain.engines.graphs.archive import GraphFile
from vderain.engines.store.selfcheck import AGREEMENT_DB, check_images, fitted
from vderain.errors import EngineBuildError
from vderain.flow.future import Future
from vderain.frames import Clip, PlaneFormat, rgb_luma
from vderain.interfaces import EngineSpec
from vderain.metrics import psnr
from vderain.network.card import Card
from vderain.network.config import AnyConfig
from vderain.network.samples import Values, bounded, network_input, sample_change

CHECKED_PX = (160, 96)  # least width and height of the images whose predictions are stored
_SHIFT_PX = 3  # from neighbour to neighbour


class GraphReference:
    """``Engine`` for one plane format over the graph of the change in RGB.

    Raises EngineBuildError where the graph does not reproduce the stored predictions.
    """

    slots = 1

    def __init__(
        self,
        ov: Any,
        core: Any,
        compile_model: Callable[[Any], Any],
        file: GraphFile,
        card: Card,
        fmt: PlaneFormat,
    ) -> None:
        self._ov, self._core, self._compile = ov, core, compile_model
        self._file = file
        self._fmt = fmt
        self._config = card.config
        self._spec = spec_from_card(card, "reference", "float32", "CPU")
        self.window = Window.of(card.config.frames, card.config.ranks)
        self._compiled: dict[tuple[int, ...], Any] = {}
        self._prove()

    def open(self, fmt: PlaneFormat) -> EngineSpec:
        """As the protocol says; it is open already."""
        return self._spec

    def submit(self, clip: Clip, *, strength: float = 1.0, on_device: bool = False) -> Future:
        """As the protocol says; the change is added on the host."""
        return added(self.change(clip), clip, strength)

    def change(self, clip: Clip) -> Future:
        """As the protocol says; computed when the result is asked for."""
        inputs = clip_inputs(clip, self._fmt, self.window)

        def compute() -> tuple[Any, ...]:
            seen = network_input(inputs, self._fmt, self._config.multiple)
            return sample_change(self._prediction(seen), seen, self._fmt)

        return Future(compute)

    def close(self) -> None:
        """Release the memory."""
        self._compiled.clear()

    def _prediction(self, seen: Values) -> Values:
        if seen.shape not in self._compiled:
            model = self._file.change_model(self._ov, self._core)
            model.reshape([1, *seen.shape])
            self._compiled[seen.shape] = self._compile(model)
        return np.asarray(self._compiled[seen.shape](seen[None])[0][0])

    def _prove(self) -> None:
        for name, stack in check_stacks(self._config).items():
            expected = self._file.predictions.get(name)
            found = bounded(self._prediction(stack), stack)
            agreement = (
                psnr(found, expected, peak=1.0)
                if expected is not None and expected.shape == found.shape
                else 0.0
            )
            if not agreement >= AGREEMENT_DB:
                raise EngineBuildError(
                    f"openvino in float32 computes {name} otherwise than the network did when its graphs"
                    f" were made ({agreement:.1f} dB); vderain export --graphs makes them again"
                )


def check_stacks(config: AnyConfig) -> dict[str, Values]:
    """The inputs of the stored predictions: images of the self-check as a network takes them, (C, H, W).

    Their neighbours are shifted copies, in order of brightness.
    """
    width, height = (-(-side // config.multiple) * config.multiple for side in CHECKED_PX)
    count = config.channels - 3
    stacks = {}
    for name, image in check_images().items():
        rgb = fitted(image, height, width).astype(np.float32).transpose(2, 0, 1) / 255
        luma = rgb_luma(list(rgb))
        shifted = [np.roll(luma, _SHIFT_PX * (index + 1), 1) - luma for index in range(count)]
        ordered = np.sort(np.stack(shifted), 0) if shifted else np.empty((0, height, width))
        stacks[name] = np.concatenate([rgb, ordered]).astype(np.float32)
    return stacks
