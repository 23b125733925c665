"""The images that are scored: rainy, ground truth and every method's prediction, one after the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from vderain.clips import clips, upright_clip
from vderain.errors import SourceError
from vderain.frames import Clip, Frame
from vderain.interfaces import Engine, EngineSpec
from vderain.media import open_source
from vderain.media.frames.rgb import planes_to_rgb
from vderain.options import EncodeOptions, RunOptions
from vderain.training.data.images import (
    CLIPS,
    IMAGES,
    ImageFile,
    image_frame,
    read_image,
)
from vderain.training.evaluation.suite import (
    INPUT,
    OURS,
    Pair,
    Results,
    TestSet,
    find_files,
    find_pairs,
    refuse_sizes,
)
from vderain.training.rain.render import Image

_SMALLEST_PX = 11  # the window of SSIM


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """The images behind an ``Item``, (H, W, 3) uint8 RGB; ``predictions`` by method.

    ``follows``: whether the shot before it is the frame before it. A shot that is not ``scored`` is
    there for the flicker of the next one.
    """

    name: str
    rainy: Image
    truth: Image
    predictions: Mapping[str, Image]
    follows: bool = False
    scored: bool = True


@dataclass(slots=True)
class Timing:
    """What the network took, one image after the other: waiting for each prediction, opening left out."""

    seconds: float = 0.0
    images: int = 0
    ms_per_megapixel: list[float] = field(default_factory=list)
    engines: dict[EngineSpec, None] = field(default_factory=dict)

    @property
    def median_ms_per_megapixel(self) -> float | None:
        """Over the images, so that the first one, which also warms up, does not count."""
        return statistics.median(self.ms_per_megapixel) if self.ms_per_megapixel else None


class Prepared:
    """A set whose files are known: what can be seen to be missing is refused before anything is computed.

    ``layout``: how a folder of pairs was read, "" for other sets. Raises SourceError.
    """

    def __init__(self, test: TestSet, results: Sequence[Results]) -> None:
        self.test = test
        self.layout = ""
        self._pairs: list[Pair] = []
        self._clips: dict[Path, Path] = {}  # rainy clip -> ground truth
        if test.kind == "pairs":
            self.layout, self._pairs = find_pairs(test)
        elif test.kind == "clean":
            files = find_files(test.rainy, IMAGES | CLIPS)
            stills = [path for path in files if path.suffix.lower() in IMAGES]
            self._pairs = [Pair(path.name, *[ImageFile(path)] * 2) for path in stills]
            self._clips = {path: path for path in files if path not in stills}
        else:
            assert test.truth is not None
            for path in (test.rainy, test.truth):
                if not path.exists():
                    raise SourceError(f"{path}: there is no such file or folder")
            self._clips = {test.rainy: test.truth}
        names = [pair.name for pair in self._pairs]
        found = {one.name: one.images(test, names) for one in results} if names else {}
        self._predictions = {method: paths for method, paths in found.items() if paths is not None}
        self._clip_predictions: dict[str, Path] = {}
        if list(self._clips) == [test.rainy]:  # results are named as sets
            clips = {one.name: one.clip(test.name, test.rainy) for one in results}
            self._clip_predictions = {
                name: path for name, path in clips.items() if path is not None
            }

    @property
    def predicting(self) -> set[str]:
        """The methods that have results for this set."""
        return {*self._predictions, *self._clip_predictions}

    def shots(self, engine: Engine | None, *, every: int, timing: Timing) -> Iterator[Shot]:
        """Every image, and of clips each that is to be scored, with the frame before it."""
        for pair in self._pairs:
            yield self._image(pair, engine, timing)
        for rainy, truth in self._clips.items():
            yield from _clip_shots(rainy, truth, self._clip_predictions, engine, every, timing)

    def _image(self, pair: Pair, engine: Engine | None, timing: Timing) -> Shot:
        rainy, truth = pair.load()
        name = str(pair.rainy.path)
        _refuse_small(rainy, name)
        predictions = {} if engine is None else {OURS: derain_rgb([rainy], engine, timing)[0]}
        for method, paths in self._predictions.items():
            predictions[method] = read_image(paths[pair.name])
            refuse_sizes(predictions[method], rainy, str(paths[pair.name]), name)
        return Shot(pair.name, rainy, truth, predictions)


def _clip_shots(
    rainy: Path,
    truth: Path,
    others: Mapping[str, Path],
    engine: Engine | None,
    every: int,
    timing: Timing,
) -> Iterator[Shot]:
    """Frames one by one, with the frame before each scored one."""
    paths = {INPUT: rainy} | ({} if truth == rainy else {"truth": truth}) | dict(others)
    with ExitStack() as stack:
        decoded = [stack.enter_context(closing(_frames(path))) for path in paths.values()]
        streams = [_seen(decoded[0], engine), *(_seen(frames, None) for frames in decoded[1:])]
        counted = 0
        for index, together in enumerate(zip_longest(*streams)):
            frames = [pair[0] for pair in together if pair is not None]
            if len(frames) < len(together):
                _refuse_counts(paths, streams, [pair is not None for pair in together], index)
            clip = together[0][1]
            counted += 1
            scored = index % every == 0
            if not scored and (index + 1) % every:
                continue
            named = dict(zip(paths, frames, strict=True))
            images = {name: _upright_rgb(frame) for name, frame in named.items()}
            wet = images[INPUT]
            dry = images.get("truth", wet)
            for name, image in images.items():
                refuse_sizes(image, wet, str(paths[name]), str(rainy))
            _refuse_small(wet, str(rainy))
            predictions = {name: images[name] for name in others}
            if engine is not None and clip is not None:
                predictions = {OURS: _derain(clip, engine, timing)} | predictions
            yield Shot(f"{rainy.stem} {index}", wet, dry, predictions, index > 0, scored)
    if not counted:
        raise SourceError(f"{rainy}: holds no frame that can be scored")


def _seen(frames: Iterator[Frame], engine: Engine | None) -> Iterator[tuple[Frame, Clip | None]]:
    """Each frame with the clip that the engine sees of it, neighbours included."""
    if engine is None:
        return ((frame, None) for frame in frames)
    seen = clips(frames, engine.window)
    return ((item, clip) for item, clip in seen if isinstance(item, Frame))


def _frames(path: Path) -> Generator[Frame, None, None]:
    """The frames of a video or a folder; SourceError for a damaged one, since its number would shift."""
    with closing(open_source(str(path), run=RunOptions(), encode=EncodeOptions())) as source:
        for item in source:
            if isinstance(item, Frame):
                yield item
            if source.stats.decode_failures:
                losses = source.stats.losses
                reason = losses[0] if losses else "a frame cannot be decoded"
                raise SourceError(
                    f"{path}: {reason}; frames are compared one by one, so all must be there"
                )


def _refuse_counts(
    paths: Mapping[str, Path],
    streams: Sequence[Iterator[object]],
    came: Sequence[bool],
    index: int,
) -> None:
    """Count what is left of each stream, and raise SourceError with the counts."""
    counts = [
        index + has_come + sum(1 for _ in stream)
        for stream, has_come in zip(streams, came, strict=True)
    ]
    held = ", ".join(f"{path} {count}" for path, count in zip(paths.values(), counts, strict=True))
    raise SourceError(f"frames are compared one by one, and the counts differ: {held}")


def _upright_rgb(frame: Frame) -> Image:
    clip = upright_clip(frame)
    return planes_to_rgb(clip.planes, clip.format)


def derain_rgb(
    frames: Sequence[Image],
    engine: Engine,
    timing: Timing,
    wanted: Sequence[int] | None = None,
) -> list[Image]:
    """Consecutive frames (H, W, 3) uint8 RGB as an engine derains them; a single one has no neighbours.

    ``wanted`` are the places of those that are derained, all where None.
    """
    images = (image_frame(rgb, number) for number, rgb in enumerate(frames))
    chosen = range(len(frames)) if wanted is None else wanted
    return [
        _derain(clip, engine, timing)
        for place, (_, clip) in enumerate(_seen(images, engine))
        if clip is not None and place in chosen
    ]


def _derain(clip: Clip, engine: Engine, timing: Timing) -> Image:
    timing.engines[engine.open(clip.format)] = None  # before the clock starts
    since = time.perf_counter()
    dry = engine.submit(clip).result()
    elapsed = time.perf_counter() - since
    timing.seconds += elapsed
    timing.images += 1
    timing.ms_per_megapixel.append(1e9 * elapsed / (clip.format.width * clip.format.height))
    return planes_to_rgb(dry, clip.format)


def _refuse_small(image: Image, name: str) -> None:
    if min(image.shape[:2]) < _SMALLEST_PX:
        raise SourceError(
            f"{name} is {image.shape[1]}x{image.shape[0]}; SSIM needs {_SMALLEST_PX} pixels a side"
        )
