"""What adapting must not undo: predictions for other rain, and for dry images (ours).

They are held to those of the original weights (Li and Hoiem, "Learning without Forgetting", ECCV 2016), on rain
that is rendered on whatever clean images there are: those that come with the tool, and the user's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vderain.clips import Window
from vderain.metrics import mean_psnr, psnr
from vderain.network.base import ChangeNetwork
from vderain.training.data.augment import draw_chart
from vderain.training.data.footage import read_frames
from vderain.training.data.patches import PatchSampler
from vderain.training.data.sources import Sample
from vderain.training.evaluation.predict import derain_stack
from vderain.training.rain.streaks import Image

_SHIPPED = Path(__file__).parents[1] / "replay"
_CHARTS = 24
_CHART_SHARE = 0.1  # relative to the other sources
_PROBES = 32


def shipped_images() -> list[Image]:
    """The clean images that come with the tool, (H, W, 3) uint8 RGB; ``replay/README.md`` names their sources."""
    return read_frames([_SHIPPED], len(list(_SHIPPED.glob("*.jpg"))))


class OtherRain:
    """Patches with rendered rain of all kinds, or without any, and their ground truth.

    Args:
        images: clean ones by name, with how often each name is drawn; a few drawn charts are added.
        patch: side of a patch in pixels.
        window: what the network sees at once.
        seed: of the charts.
        dry_share: how many patches have no rain.

    """

    def __init__(
        self,
        images: Mapping[str, tuple[Sequence[Image], float]],
        *,
        patch: int,
        window: Window,
        seed: int,
        dry_share: float,
    ) -> None:
        rng = np.random.default_rng(seed)
        named = {name: each for name, each in images.items() if each[0]}
        named["charts"] = ([draw_chart(rng) for _ in range(_CHARTS)], _CHART_SHARE)
        sources = {
            name: [Sample(None, image) for image in some] for name, (some, _) in named.items()
        }
        shares = {name: share for name, (_, share) in named.items()}
        self._sampler = PatchSampler(
            sources, shares, patch=patch, batch=1, dry_share=dry_share, seed=seed, window=window
        )

    def draw(self, rng: np.random.Generator) -> tuple[Image, Image]:
        """One sample: rainy (P, P, 3 + T - 1) and background (P, P, 3), uint8."""
        patch = self._sampler.draw(rng)
        return patch.rainy, patch.background

    def probes(self, seed: int) -> list[tuple[Image, Image]]:
        """Some samples to ask again and again what was forgotten."""
        rng = np.random.default_rng(seed)
        return [self.draw(rng) for _ in range(_PROBES)]


def probe(network: ChangeNetwork, probes: Sequence[tuple[Image, Image]]) -> float:
    """Mean PSNR in dB of a network's predictions for ``probes`` against their ground truth."""
    return mean_psnr(psnr(derain_stack(network, rainy), truth) for rainy, truth in probes)
