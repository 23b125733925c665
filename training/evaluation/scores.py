"""Scoring: PSNR, SSIM, flicker and harm of an engine, and of other methods' results, set by set.

PSNR and SSIM are those of the literature (``vderain.metrics``): of RGB in 8 bit after rounding, and of
BT.601 luma; each image is scored by itself, and a set's figure is the mean over its images.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from vderain.errors import SourceError
from vderain.interfaces import Engine
from vderain.metrics import flicker, luma, mean_psnr, psnr, ssim
from vderain.network.config import AnyConfig
from vderain.training.evaluation.shots import Prepared, Shot, Timing
from vderain.training.evaluation.suite import INPUT, Kind, Results, TestSet
from vderain.training.rain.render import Image

_COST_SIZE = (720, 1280)


@dataclass(frozen=True, slots=True)
class Scores:
    """How near an image, or on average a set, comes to its ground truth; of dry images, to itself.

    Attributes:
        psnr_db: of RGB in 8 bit; infinite for an equal image.
        ssim: of RGB, mean over channels.
        psnr_y_db: of BT.601 luma, with a peak of 255.
        ssim_y: of BT.601 luma.
        mean_error: mean absolute error of RGB in 8-bit code values.
        largest_error: of any sample, in code values.
        flicker: mean absolute error of the difference to the frame before, in code values; None where
            there is no such frame.

    """

    psnr_db: float
    ssim: float
    psnr_y_db: float
    ssim_y: float
    mean_error: float
    largest_error: float
    flicker: float | None = None

    @classmethod
    def mean(cls, scores: Sequence[Scores]) -> Scores:
        """The mean of each figure: of PSNR with a ceiling, of flicker where it is known; the largest error of all."""
        values: dict[str, float | None] = {}
        for item in fields(cls):
            known = [value for one in scores if (value := getattr(one, item.name)) is not None]
            values[item.name] = _mean(item.name, known) if known else None
        return cls(**values)  # type: ignore[arg-type]  # None for flicker alone


def _mean(name: str, values: Sequence[float]) -> float:
    if name.startswith("largest"):
        return max(values)
    return mean_psnr(values) if name.startswith("psnr") else statistics.fmean(values)


@dataclass(frozen=True, slots=True)
class Item:
    """One scored image or frame: its scores by method, the input's among them."""

    name: str
    scores: Mapping[str, Scores]


@dataclass(frozen=True, slots=True)
class SetScores:
    """A set's scores by method, ``INPUT`` first; ``layout`` says how a folder of pairs was read."""

    name: str
    kind: Kind
    group: str | None
    layout: str
    items: tuple[Item, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Who was scored here."""
        return tuple(self.items[0].scores)  # a set without images does not come this far

    @property
    def means(self) -> dict[str, Scores]:
        """Mean over the images."""
        return {
            method: Scores.mean([item.scores[method] for item in self.items])
            for method in self.methods
        }


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """What a network holds, and does for one 1280x720 frame, as trained: nothing folded."""

    parameters: int
    gflop_720p: float


def network_cost(config: AnyConfig) -> NetworkCost:
    """Count on torch's ``meta`` device, which computes nothing; an addition and a multiplication are two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from vderain.network.build import build_network

    with torch.device("meta"):
        network = build_network(config).eval()
        # Enlarged as engines enlarge it, where the network needs other sizes.
        size = [-(-side // config.multiple) * config.multiple for side in _COST_SIZE]
        rainy = torch.empty(1, config.channels, *size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.change(rainy)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return NetworkCost(parameters, counter.get_total_flops() / 1e9)


OnShot = Callable[[TestSet, Shot, Item], None]


def evaluate(
    sets: Sequence[TestSet],
    engine: Engine | None,
    results: Sequence[Results] = (),
    *,
    every: int = 1,
    on_shot: OnShot | None = None,
    predicting: Collection[str] = (),
) -> tuple[list[SetScores], Timing]:
    """Score every set, one image in memory at a time.

    Args:
        sets: what to score.
        engine: takes the rain out; None scores results only.
        results: of other methods, scored where they have results for a set.
        every: of a clip, score every so many frames; flicker stays that of neighbours.
        on_shot: is called after each scored image.
        predicting: methods that have results for other sets, and need none here.

    Raises:
        SourceError: for what is missing, unreadable, of unequal size or length.

    """
    timing = Timing()
    # All at first: a slip in the last set shall not cost the time of the others.
    prepared = [Prepared(test, results) for test in sets]
    known = {*predicting, *(method for one in prepared for method in one.predicting)}
    for other in results:
        if other.name not in known:
            raise SourceError(
                f"{other.folder}: no results of {other.name} for any set; name images as the rainy"
                " ones, in a folder named as the set or in this one, and clips as the set"
            )
    return [_evaluate_set(one, engine, every, timing, on_shot) for one in prepared], timing


def _evaluate_set(
    prepared: Prepared, engine: Engine | None, every: int, timing: Timing, on_shot: OnShot | None
) -> SetScores:
    test = prepared.test
    items: list[Item] = []
    before: Shot | None = None
    for shot in prepared.shots(engine, every=every, timing=timing):
        if shot.scored:
            near = before is not None and shot.follows and _same_size(before, shot)
            item = _score(test, shot, before if near else None)
            items.append(item)
            if on_shot is not None:
                on_shot(test, shot, item)
        before = shot
    return SetScores(test.name, test.kind, test.group, prepared.layout, tuple(items))


def _same_size(before: Shot, shot: Shot) -> bool:
    """Frames of a folder may differ in size."""
    return before.rainy.shape == shot.rainy.shape


def _score(test: TestSet, shot: Shot, before: Shot | None) -> Item:
    images = (
        dict(shot.predictions) if test.kind == "clean" else {INPUT: shot.rainy, **shot.predictions}
    )
    previous = {}
    if before is not None:
        previous = {INPUT: before.rainy, **before.predictions}
    return Item(
        shot.name,
        {
            method: score_image(
                image, shot.truth, previous.get(method), before.truth if before else None
            )
            for method, image in images.items()
        },
    )


def score_image(
    image: Image,
    truth: Image,
    image_before: Image | None = None,
    truth_before: Image | None = None,
) -> Scores:
    """The scores of one image, (H, W, 3) uint8 RGB of at least 11x11, against its ground truth."""
    image_y, truth_y = luma(image), luma(truth)
    errors = np.abs(image.astype(np.int16) - truth)
    moved = None
    if image_before is not None and truth_before is not None:
        moved = flicker(image, image_before, truth, truth_before)
    return Scores(
        psnr_db=psnr(image, truth),
        ssim=ssim(image, truth),
        psnr_y_db=psnr(image_y, truth_y),
        ssim_y=ssim(image_y, truth_y),
        mean_error=float(errors.mean()),
        largest_error=float(errors.max()),
        flicker=moved,
    )


def group_means(scored: Sequence[SetScores]) -> dict[str, tuple[Kind, dict[str, Scores]]]:
    """Mean of the means of the sets of each group of one kind, by method: label -> (kind, means).

    Two kinds of one group have different labels.

    A method counts in a group only where all its sets have it.
    """
    members: dict[tuple[str, Kind], list[SetScores]] = {}
    for one in scored:
        if one.group is not None:
            members.setdefault((one.group, one.kind), []).append(one)
    means = {}
    several = {key: sets for key, sets in members.items() if len(sets) > 1}
    for (group, kind), sets in several.items():
        methods = [name for name in sets[0].methods if all(name in one.methods for one in sets)]
        own = [one.means for one in sets]
        alone = sum(name == group for name, _ in several) == 1
        means[f"mean of {group}" if alone else f"mean of {group}, {kind}"] = (
            kind,
            {name: Scores.mean([each[name] for each in own]) for name in methods},
        )
    return means


def to_plain(scores: Scores) -> dict[str, float | None]:
    """Scores for JSON, which knows no infinity: the PSNR of equal images is null."""
    return {
        name: None if value is None or not np.isfinite(value) else round(value, 5)
        for name, value in asdict(scores).items()
    }
