"""Batches of training patches, each a function of its number: a resumed run draws what an uninterrupted one would."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from vderain.clips import Window
from vderain.errors import OptionError
from vderain.training.data.augment import recoloured
from vderain.training.data.crops import (
    cropped,
    mirrored,
    perhaps_recompressed,
    shrunk_patch,
    shrunk_patches,
    shrunk_view,
)
from vderain.training.data.real_rain import falling_light, real_patch
from vderain.training.data.segments import Segment
from vderain.training.data.sources import Sample, Samples
from vderain.training.data.stacks import network_input, stacked_alone
from vderain.training.data.synthetic_clips import SequenceMaker, moving_view, with_objects
from vderain.training.rain.close_drops import with_close_drops, with_soft_lights
from vderain.training.rain.mining import MinedLayer
from vderain.training.rain.render import Image, add_rain, recompress

_Made = TypeVar("_Made")
# (N, 3, P, P) each, RGB in [0, 1]
Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

ONE_FRAME = Window()
# Rendered samples that a network of several frames sees as a single image, all its frames the same: it
# would else take what stays for the background, and leave all the rain that an image shows.
_ALONE_SHARE = 0.5
_OBJECTS_SHARE = 0.25  # of rendered clips, before which things move on their own
_SOFT_LIGHTS = 0.7  # clips with soft light that is no rain, for each with drops close to the lens
_REAL_ALONE_SHARE = 0.2  # of samples of real rain that are seen as a single image
# Keeps the unpaired batches' numbers apart from the paired ones of the same seed.
_UNPAIRED_STREAM = 1


class Patch(NamedTuple):
    """One sample: rainy (P, P, 3 + K), background (P, P, 3) uint8, and how much each pixel counts, None for alike."""

    rainy: Image
    background: Image
    weight: npt.NDArray[np.float32] | None = None


class PairedBatch(NamedTuple):
    """Rainy (N, 3 + K, P, P), background (N, 3, P, P), RGB in [0, 1], and weight (N, 1, P, P); float32."""

    rainy: npt.NDArray[np.float32]
    background: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]


class PatchSampler:
    """Batches of augmented patches with ground truth, seeded.

    Args:
        sources: samples by name, pairs or clean images; a list, or ``sources.Samples``.
        shares: how often each is drawn, by the same names.
        patch: side of a patch in pixels.
        batch: patches in a batch.
        dry_share: how many of the rendered samples stay dry, so that the network learns to do no harm.
        seed: batch k is drawn from (seed, k).
        window: what the network sees at once.
        rain_model: of ``add_rain``.
        mined: streak layers of real footage, for ``add_rain``.
        close_drops: how many of the rainy clips have drops close to the lens. Soft lights are then drawn onto clips
            before the rain.
        past_share: share of clips whose neighbours lie in the past alone, as a camera's do.

    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[Sample]],
        shares: Mapping[str, float],
        *,
        patch: int,
        batch: int,
        dry_share: float,
        seed: int,
        window: Window = ONE_FRAME,
        rain_model: str = "full",
        mined: Sequence[MinedLayer] = (),
        close_drops: float = 0.0,
        past_share: float = 0.3,
    ) -> None:
        self._sources = _Mixture(sources, shares)
        dry = {name: samples for name, samples in sources.items() if _is_dry(samples)}
        self._dry = _Mixture(dry, shares) if dry else None
        self._patch, self._batch, self._dry_share = patch, batch, dry_share
        self._seed = seed
        self._window = window
        self._rain_model, self._mined = rain_model, mined
        self._close_drops, self._past_share = close_drops, past_share

    def __iter__(self) -> Iterator[PairedBatch]:
        return self.batches()

    def batches(self, start: int = 0, *, workers: int = 0) -> Iterator[PairedBatch]:
        """Batches from number ``start`` on, without end.

        ``workers`` threads make them, 0 makes them in the caller's; the batches are the same.
        """
        return _batches(self.batch, start, workers)

    def batch(self, number: int) -> PairedBatch:
        """Batch ``number``; SourceError where a source has nothing left that can be read."""
        rng = np.random.default_rng((self._seed, number))
        drawn = [self.draw(rng) for _ in range(self._batch)]
        everywhere = np.ones((self._patch, self._patch), np.float32)
        weights = [everywhere if one.weight is None else one.weight for one in drawn]
        images = _stacked([(one.rainy, one.background) for one in drawn])
        return PairedBatch(*images, np.stack(weights)[:, None])

    def draw(self, rng: np.random.Generator) -> Patch:
        """One sample; SourceError as of ``batch``."""
        sample = self._sources.draw(rng)
        if sample.segment is not None:
            return (
                self._draw_rain(rng, sample.segment)
                if sample.gives_rain
                else self._draw_real(rng, sample.segment)
            )
        if sample.background is None:
            raise OptionError("real rain has no ground truth: name its folder under [real]")
        if sample.rainy is not None:
            pair = cropped(rng, (sample.rainy, sample.background), self._patch)
            rainy, background = mirrored(rng, pair, upside_down=sample.upside_down)
            return Patch(stacked_alone(rainy, self._window.seen_frames), background)
        if self._window.frames > 1 and rng.random() >= _ALONE_SHARE:
            return self._draw_clip(rng, sample)
        background = recoloured(rng, shrunk_patch(rng, sample.background, self._patch))
        if rng.random() < self._dry_share:
            # Compressed or not, a dry image must stay as it is: to repair its blocks would be harm.
            rainy = background = perhaps_recompressed(rng, background)
        else:
            (rainy,) = add_rain(rng, [background], model=self._rain_model, mined=self._mined)
            rainy = perhaps_recompressed(rng, rainy)
        rainy, background = mirrored(rng, (rainy, background))
        return Patch(stacked_alone(rainy, self._window.seen_frames), background)

    def _draw_clip(self, rng: np.random.Generator, sample: Sample) -> Patch:
        """A stack of frames rained on."""
        maker = SequenceMaker(self._window, self._past_share)
        offsets = maker.offsets(rng)
        m = maker.margin_px
        clean = self._clean_clip(rng, sample, self._patch + 2 * m, offsets)
        rainy = clean
        is_dry = rng.random() < self._dry_share
        if not is_dry:
            rainy = add_rain(rng, clean, model=self._rain_model, mined=self._mined)
            rainy = self._perhaps_close_drops(rng, rainy)
        if rng.random() < 0.5:  # all frames of a clip are compressed, or none
            rainy = [recompress(rng, frame) for frame in rainy]
        background = (rainy if is_dry else clean)[len(clean) // 2][m:-m, m:-m]
        stack = maker.aligned_stack(rng, rainy, offsets)
        stack, background = mirrored(rng, (stack, background))
        return Patch(stack, background)

    def _clean_clip(
        self, rng: np.random.Generator, sample: Sample, side: int, offsets: Sequence[int]
    ) -> list[Image]:
        """Dry frames (side, side, 3): of a clip, or of an image under a made-up camera."""
        if sample.frames:
            middle = len(sample.frames) // 2
            clean = shrunk_patches(rng, [sample.frames[middle + k] for k in offsets], side)
        else:
            assert sample.background is not None
            clean = moving_view(rng, shrunk_view(rng, sample.background, side), side, offsets)
        clean = np.split(recoloured(rng, np.concatenate(clean)), len(clean))
        if self._close_drops and rng.random() < _SOFT_LIGHTS * self._close_drops:
            return with_soft_lights(rng, clean)
        return with_objects(rng, clean, offsets) if rng.random() < _OBJECTS_SHARE else clean

    def _draw_rain(self, rng: np.random.Generator, segment: Segment) -> Patch:
        """A dry sample under real rain, which moves as it was filmed."""
        if self._dry is None:
            raise OptionError(
                "rain to add to dry footage, and no dry footage: name a source of clean images or clips too"
            )
        sample = self._dry.draw(rng)
        seen = self._window.seen_frames
        if self._window.frames == 1 or rng.random() < _REAL_ALONE_SHARE:
            assert sample.background is not None
            dry = [recoloured(rng, shrunk_patch(rng, sample.background, self._patch))]
            light = falling_light(rng, segment, self._patch, [0])
            (rainy,) = (perhaps_recompressed(rng, one) for one in light.over(rng, dry))
            rainy, background = mirrored(rng, (rainy, dry[0]))
            return Patch(stacked_alone(rainy, seen), background)
        maker = SequenceMaker(self._window, self._past_share)
        offsets, m = maker.offsets(rng), maker.margin_px
        side = self._patch + 2 * m
        clean = self._clean_clip(rng, sample, side, offsets)
        wet = falling_light(rng, segment, side, offsets).over(rng, clean)
        wet = self._perhaps_close_drops(rng, wet)
        if rng.random() < 0.5:
            wet = [recompress(rng, frame) for frame in wet]
        stack = maker.aligned_stack(rng, wet, offsets)
        stack, background = mirrored(rng, (stack, clean[len(clean) // 2][m:-m, m:-m]))
        return Patch(stack, background)

    def _perhaps_close_drops(
        self, rng: np.random.Generator, frames: Sequence[Image]
    ) -> list[Image]:
        """The frames with drops close to the lens, as often as asked for.

        Where they are not asked for no number is drawn: the batches of former runs stay as they were.
        """
        if self._close_drops and rng.random() < self._close_drops:
            return with_close_drops(rng, frames)
        return list(frames)

    def _draw_real(self, rng: np.random.Generator, segment: Segment) -> Patch:
        """Real rain before a static camera, with the temporal median as its target."""
        if self._window.frames == 1 or rng.random() < _REAL_ALONE_SHARE:
            real = real_patch(rng, segment, self._patch, [0])
            stack = stacked_alone(real.frames[0], self._window.seen_frames)
            inner = slice(None)
        else:
            maker = SequenceMaker(self._window, self._past_share)
            offsets, m = maker.offsets(rng), maker.margin_px
            real = real_patch(rng, segment, self._patch + 2 * m, offsets)
            frames = self._perhaps_close_drops(rng, real.frames)
            stack = maker.aligned_stack(rng, frames, offsets)
            inner = slice(m, -m)
        target, known = real.target[inner, inner], real.weight[inner, inner, None]
        stack, target, weight = mirrored(rng, (stack, target, known))
        return Patch(stack, target, np.ascontiguousarray(weight[..., 0]))


class UnpairedSampler:
    """Batches of real rainy patches, and as many clean patches of other scenes, seeded.

    Args:
        rainy: real rain by name: samples with a ``rainy`` image.
        clean: images that backgrounds should look like, by name: samples with a ``background``.
        rainy_shares: how often each source of ``rainy`` is drawn, by name.
        clean_shares: the same of ``clean``.
        patch: side of a patch in pixels.
        batch: rainy patches in a batch, and clean ones.
        seed: batch k is drawn from (seed, k), apart from PatchSampler's of the same seed.
        renders: ``rainy`` may hold clean images, which rain is rendered on and which are compressed half
            of the time; the clean side then is too, or its blocks would distinguish it from the rainy one.

    """

    def __init__(
        self,
        rainy: Mapping[str, Sequence[Sample]],
        clean: Mapping[str, Sequence[Sample]],
        rainy_shares: Mapping[str, float],
        clean_shares: Mapping[str, float],
        *,
        patch: int,
        batch: int,
        seed: int,
        renders: bool = False,
    ) -> None:
        self._renders = renders
        self._rainy = _Mixture(rainy, rainy_shares)
        self._clean = _Mixture(clean, clean_shares)
        self._patch, self._batch, self._seed = patch, batch, seed

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def batches(self, start: int = 0, *, workers: int = 0) -> Iterator[Batch]:
        """Batches from number ``start`` on, without end: (rainy, clean), float32 (M, 3, P, P) in [0, 1]."""
        return _batches(self.batch, start, workers)

    def batch(self, number: int) -> Batch:
        """Batch ``number``; SourceError where a source has nothing left that can be read."""
        rng = np.random.default_rng((self._seed, number, _UNPAIRED_STREAM))
        return _stacked(
            [(self._draw_rainy(rng), self._draw_clean(rng)) for _ in range(self._batch)]
        )

    def _draw_rainy(self, rng: np.random.Generator) -> Image:
        sample = self._rainy.draw(rng)
        if sample.rainy is not None:
            return mirrored(rng, (shrunk_patch(rng, sample.rainy, self._patch),))[0]
        if sample.background is None or not self._renders:
            raise OptionError("a source under [real] has no rainy images: use reader real")
        background = shrunk_patch(rng, sample.background, self._patch)
        (rainy,) = add_rain(rng, [background])
        return mirrored(rng, (perhaps_recompressed(rng, rainy),))[0]

    def _draw_clean(self, rng: np.random.Generator) -> Image:
        sample = self._clean.draw(rng)
        if sample.background is None:
            raise OptionError("a source under [unpaired] has no clean images: use reader clean")
        clean = shrunk_patch(rng, sample.background, self._patch)
        if self._renders and sample.rainy is None:
            clean = perhaps_recompressed(rng, clean)
        return mirrored(rng, (clean,))[0]


def _is_dry(samples: Sequence[Sample]) -> bool:
    """Whether rain can be added to a source's samples."""
    if isinstance(samples, Samples):
        return samples.role == "clean"
    return all(one.rainy is None and one.background is not None for one in samples)


class _Mixture:
    """Sources, drawn by their shares."""

    def __init__(
        self, sources: Mapping[str, Sequence[Sample]], shares: Mapping[str, float]
    ) -> None:
        self._sources = list(sources.values())
        for name, samples in sources.items():
            if not len(samples):
                raise OptionError(f"source {name}: has no samples")
        total = sum(shares[name] for name in sources)
        self._until = np.cumsum([shares[name] / total for name in sources])

    def draw(self, rng: np.random.Generator) -> Sample:
        """One sample."""
        which = int(np.searchsorted(self._until, rng.random(), side="right"))
        samples = self._sources[min(which, len(self._sources) - 1)]
        return samples[int(rng.integers(len(samples)))]


def _batches(make: Callable[[int], _Made], start: int, workers: int) -> Iterator[_Made]:
    numbers = itertools.count(start)
    return _from_threads(make, numbers, workers) if workers else map(make, numbers)


def _from_threads(
    make: Callable[[int], _Made], numbers: Iterator[int], workers: int
) -> Iterator[_Made]:
    """Batches in order, a few ahead. Threads, because forked processes hang where OpenCV has its own."""
    pool = ThreadPoolExecutor(workers, "vderain-batch")
    try:
        ahead = deque(pool.submit(make, next(numbers)) for _ in range(2 * workers))
        while True:
            batch = ahead.popleft().result()
            ahead.append(pool.submit(make, next(numbers)))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def _stacked(pairs: Sequence[tuple[Image, Image]]) -> Batch:
    first, second = (
        np.stack([network_input(one) for one in side]) for side in zip(*pairs, strict=True)
    )
    return first, second
