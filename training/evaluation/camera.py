"""An engine as a camera's stream uses it: for scores of what runs live."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vderain.clips import Window
from vderain.flow.future import Future
from vderain.frames import Clip, PlaneFormat
from vderain.interfaces import Engine, EngineSpec


@dataclass(frozen=True, slots=True)
class LookingAhead:
    """``engine``, shown at most ``lookahead`` future frames of a clip: past ones take the place of the others."""

    engine: Engine
    lookahead: int

    @property
    def slots(self) -> int:
        """As the engine's."""
        return self.engine.slots

    @property
    def window(self) -> Window:
        """The neighbours that a clip must hold."""
        return self.engine.window.looking_ahead(self.lookahead)

    def open(self, fmt: PlaneFormat) -> EngineSpec:
        """Open the engine; its description says how many future frames it is shown."""
        return replace(self.engine.open(fmt), lookahead=self.window.lookahead)

    def submit(self, clip: Clip, *, strength: float = 1.0, on_device: bool = False) -> Future:
        """As the engine's."""
        return self.engine.submit(clip, strength=strength, on_device=on_device)

    def change(self, clip: Clip) -> Future:
        """As the engine's."""
        return self.engine.change(clip)

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()
