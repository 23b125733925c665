"""What footage teaches: patches with targets from neighbouring frames, from its own rain, or rendered (ours)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vderain.clips import Window
from vderain.training.adapt.retention import OtherRain
from vderain.training.config.adapt import AdaptConfig
from vderain.training.data.augment import draw_chart, recoloured
from vderain.training.data.patches import ONE_FRAME
from vderain.training.data.stacks import network_input, stacked_alone, stacked_still
from vderain.training.evaluation.predict import middle_clip
from vderain.training.rain.streaks import Image, Layer
from vderain.training.rain.temporal import Mask, View

REAL, MADE, DRY, KEPT = range(4)  # kinds of samples, as AdaptBatch.kinds holds them

_CHART_SHARE = 0.15  # of dry images
_REPLAY_SHARE = 0.5  # of them where clean images of anything are given
_OWN_DRY_SHARE = 0.7  # of the rest where dry footage of the camera is given
_GAINS = (0.7, 1.5)  # of mined rain
_LEAST_VALID = 0.3  # of a patch whose target is to count
_TRIES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """A rainy frame of the footage, what it should become where that is known, and its rain.

    Attributes:
        stack: the frame with the neighbours that a network of T frames sees, (H, W, 3 + T - 1) uint8.
        target: (H, W, 3) uint8 RGB.
        valid: where ``target`` can be trusted.
        light: what its rain adds, (H, W, 3) float32, 1 is white; 0 where that is not known.

    """

    stack: Image
    target: Image
    valid: Mask
    light: Layer

    @classmethod
    def of(cls, seen: View, frames: Sequence[Image], window: Window) -> Lesson:
        """What a view of consecutive frames teaches a network of several frames."""
        return cls(middle_clip(frames, window), seen.target(), seen.valid, seen.light())


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A patch: rainy (P, P, 3 + K) and target (P, P, 3) uint8, and how much each pixel counts, (P, P) float32."""

    rainy: Image
    target: Image
    weight: npt.NDArray[np.float32]
    kind: int


@dataclass(frozen=True, slots=True)
class AdaptBatch:
    """The patches of a step.

    Attributes:
        rainy: (N, 3 + T - 1, P, P) float32, the input of ``change``.
        target: (N, 3, P, P) RGB in [0, 1].
        weight: (N, 1, P, P), how much each pixel counts.
        kinds: (N,) REAL, MADE, DRY or KEPT.

    """

    rainy: Tensor
    target: Tensor
    weight: Tensor
    kinds: Tensor

    def to(self, device: torch.device) -> AdaptBatch:
        """The same on a device, channels last."""
        images = (self.rainy, self.target, self.weight)
        rainy, target, weight = (
            one.to(device, memory_format=torch.channels_last) for one in images
        )
        return AdaptBatch(rainy, target, weight, self.kinds.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class DryPool:
    """Images without rain, to add rain to or to stay dry: ``own`` of the cameras, ``other`` of anything."""

    lessons: Sequence[Lesson]
    own: Sequence[Image] = ()
    other: Sequence[Image] = ()

    def draw(self, rng: np.random.Generator, patch: int) -> tuple[Image, npt.NDArray[np.float32]]:
        """A dry patch, and where it can be trusted."""
        place = rng.random()
        if place < _CHART_SHARE:
            return _cut(rng, patch, draw_chart(rng))[0], np.ones((patch, patch), np.float32)
        whole: Sequence[Image] = ()
        if self.other and rng.random() < _REPLAY_SHARE:
            whole = self.other
        elif self.own and rng.random() < _OWN_DRY_SHARE:
            whole = self.own
        if whole:
            image = _cut(rng, patch, whole[int(rng.integers(len(whole)))])[0]
            if whole is self.other:
                image = recoloured(rng, image)
            return image, np.ones((patch, patch), np.float32)
        lesson = self.lessons[int(rng.integers(len(self.lessons)))]
        target, valid = _cut(rng, patch, lesson.target, lesson.valid)
        return target, valid.astype(np.float32)


class LessonSampler:
    """Batches of lessons, each a function of its number: a resumed run draws what an uninterrupted one would."""

    def __init__(
        self,
        config: AdaptConfig,
        lessons: Sequence[Lesson],
        dry: DryPool,
        other: OtherRain,
        window: Window = ONE_FRAME,
    ) -> None:
        self._config, self._lessons, self._dry, self._window = config, lessons, dry, window
        self._other = other
        rainy = np.array([lesson.light.mean() for lesson in lessons])
        self._chances = rainy / rainy.sum() if rainy.sum() > 0 else None

    def batches(self, start: int = 0) -> Iterator[AdaptBatch]:
        """Batches from number ``start`` on, without end."""
        return map(self.batch, itertools.count(start))

    def batch(self, number: int) -> AdaptBatch:
        """Batch ``number``."""
        rng = np.random.default_rng((self._config.seed, number))
        samples = [self.draw(rng) for _ in range(self._config.batch)]
        rainy, target = (
            torch.from_numpy(np.stack([network_input(getattr(one, name)) for one in samples]))
            for name in ("rainy", "target")
        )
        weight = torch.from_numpy(np.stack([one.weight for one in samples]))[:, None]
        return AdaptBatch(rainy, target, weight, torch.tensor([one.kind for one in samples]))

    def draw(self, rng: np.random.Generator) -> Sample:
        """One sample of a kind drawn by its share: the one place that knows how samples are made."""
        config, patch = self._config, self._config.patch
        kind = rng.random()
        if kind < config.median_share:
            return self._real(rng)
        kind -= config.median_share
        if kind < config.kept_share:
            return Sample(*self._other.draw(rng), np.ones((patch, patch), np.float32), KEPT)
        kind -= config.kept_share
        image, weight = self._dry.draw(rng, patch)
        if kind < config.mined_share:
            falling = [self._with_own_rain(rng, image) for _ in range(self._window.frames)]
            return Sample(stacked_still(falling, self._window), image, weight, MADE)
        return Sample(stacked_alone(image, self._window.seen_frames), image, weight, DRY)

    def _real(self, rng: np.random.Generator) -> Sample:
        """A patch of the footage; of a few draws the first that is known well enough."""
        for _ in range(_TRIES):
            lesson = self._lessons[int(rng.integers(len(self._lessons)))]
            stack, target, valid = _cut(
                rng, self._config.patch, lesson.stack, lesson.target, lesson.valid
            )
            if valid.mean() >= _LEAST_VALID:
                break
        return Sample(stack, target, valid.astype(np.float32), REAL)

    def _with_own_rain(self, rng: np.random.Generator, image: Image) -> Image:
        """Rain mined from the footage on a dry patch: added, or less of it the brighter the ground."""
        number = int(rng.choice(len(self._lessons), p=self._chances))
        light = _cut(rng, self._config.patch, self._lessons[number].light)[0]
        light = light * np.float32(255 * rng.uniform(*_GAINS))
        ground = image.astype(np.float32)
        if rng.random() < 0.5:
            light = light * (1 - ground / 255) / np.float32(0.6)
        return np.rint(ground + light).clip(0, 255).astype(np.uint8)


def _cut(rng: np.random.Generator, side: int, *images: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """The same random square of images of one size, which are mirrored up to it where they are smaller."""
    below, right = (max(0, side - length) for length in images[0].shape[:2])
    if below or right:
        images = tuple(
            np.pad(one, [(0, below), (0, right), (0, 0)][: one.ndim], mode="symmetric")
            for one in images
        )
    height, width = images[0].shape[:2]
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    return [one[top : top + side, left : left + side] for one in images]
