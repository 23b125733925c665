"""What ``vderain evaluate`` writes: a JSON file, or a folder with a page and images."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vderain import __version__
from vderain.errors import SinkError
from vderain.files import hidden_name, looking_at, refuse_name, sweep
from vderain.machine import cpu_fields, cpu_model, package_version, usable_cores
from vderain.network.card import Card
from vderain.training.evaluation.clips import dry_motion, static_rain
from vderain.training.evaluation.clips.crops import crops
from vderain.training.evaluation.clips.page import ShownCrop
from vderain.training.evaluation.clips.report import clip_summary, clips_to_plain
from vderain.training.evaluation.clips.run import Clip, ClipSetScores, ScoredClip
from vderain.training.evaluation.noreference import RealScores
from vderain.training.evaluation.page import MARK, Shown, page_of
from vderain.training.evaluation.scores import (
    Item,
    NetworkCost,
    Scores,
    SetScores,
    group_means,
    to_plain,
)
from vderain.training.evaluation.shots import Shot, Timing
from vderain.training.evaluation.suite import INPUT, OURS, ClipSet, TestSet
from vderain.training.rain.render import Image

SCHEMA = 1
ERROR_GAIN = 4  # how much brighter an error is shown than it is
_QUALITY: dict[str, list[int]] = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, 88], ".png": []}
_OWN_ENTRIES = {"index.html", "scores.json", "images", "pictures"}  # the last: of earlier versions

FORMULAS = {
    "PSNR": "10 log10(255² / MSE) of R, G and B in 8 bit, after rounding, MSE over all samples of an"
    " image; the mean over images. An equal image has infinite PSNR (null in the JSON); in means"
    " an image counts for at most 100 dB.",
    "SSIM": "Wang et al. 2004: Gaussian window of 11x11, sigma 1.5, K = (0.01, 0.03), L = 255,"
    " population statistics, the 5 pixels at each border left out; mean over R, G and B.",
    "PSNR Y, SSIM Y": "the same of Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255 (BT.601, studio"
    " range, as MATLAB's rgb2ycbcr), not rounded, still with a peak of 255.",
    "flicker": "mean |(o(t) - o(t-1)) - (g(t) - g(t-1))| in 8-bit code values of R, G and B, of output o and"
    " ground truth g.",
    "dry input": "the output against the input itself: what the network changes where there is no"
    " rain; mean and largest change in 8-bit code values.",
    "time": "median over the images of the milliseconds from an image's submission to its result,"
    " per megapixel, one at a time; opening the engine left out.",
    **static_rain.FORMULAS,
    **dry_motion.FORMULAS,
    "FLOP": "of one 1280x720 frame, as trained (nothing folded); a multiplication and an addition are"
    " two.",
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was measured, and of what; ``card`` and ``cost`` are None where no network ran."""

    sets: Sequence[SetScores]
    timing: Timing
    weights: str = ""
    card: Card | None = None
    cost: NetworkCost | None = None
    real: Mapping[str, Mapping[str, RealScores]] = field(default_factory=dict)
    """Of footage without ground truth, by clip and method."""
    clips: Sequence[ClipSetScores] = ()

    @property
    def rows(self) -> Iterator[tuple[str, str, int | None, Mapping[str, Scores]]]:
        """(label, kind, images, means by method) of every set, then of every group."""
        for one in self.sets:
            yield one.name, one.kind, len(one.items), one.means
        for label, (kind, means) in group_means(self.sets).items():
            yield label, kind, None, means

    def facts(self) -> dict[str, str]:
        """What ran, where and how fast, as label and text."""
        facts = {}
        if self.card is not None:
            facts["weights"] = (
                f"{self.weights}, tier {self.card.tier}, sha256 {self.card.sha256[:12]}"
            )
        engines = [f"{one.name} {one.precision} on {one.device}" for one in self.timing.engines]
        if engines:
            facts["engine"] = ", ".join(dict.fromkeys(engines))
        if self.cost is not None:
            facts["network"] = (
                f"{self.cost.parameters:,} parameters, {self.cost.gflop_720p:.1f} GFLOP per 1280x720 frame"
            )
        time_ms = self.timing.median_ms_per_megapixel
        if time_ms is not None:
            facts["time"] = (
                f"{time_ms:.1f} ms per megapixel (median), {self.timing.seconds:.1f} s for"
                f" {self.timing.images} images"
            )
        return facts | {"machine": ", ".join(machine().values())}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``summary`` is what a card's scores hold."""
        timing = self.timing
        return {
            "schema": SCHEMA,
            "weights": None if self.card is None else {
                "file": self.weights, "tier": self.card.tier, "sha256": self.card.sha256,
                **(asdict(self.cost) if self.cost else {}),
            },
            "engines": [asdict(spec) for spec in timing.engines],
            "time": {
                "images": timing.images,
                "seconds": round(timing.seconds, 3),
                "median_ms_per_megapixel": timing.median_ms_per_megapixel,
            },
            "machine": machine(),
            "formulas": FORMULAS,
            "summary": {label: _summary(means) for label, _, _, means in self.rows}
            | clip_summary(self.clips),
            "sets": [_set_to_dict(one) for one in self.sets],
            "real": {
                name: {method: asdict(scores) for method, scores in found.items()}
                for name, found in self.real.items()
            },
            "clips": clips_to_plain(self.clips),
        }  # fmt: skip


def machine() -> dict[str, str]:
    """The processor, and the version of everything that decides about the figures."""
    versions = {name: package_version(name) for name in ("torch", "openvino", "numpy")}
    versions["opencv"] = package_version("opencv-python-headless", "opencv-python")
    return {
        "processor": f"{cpu_model(cpu_fields())}, {usable_cores()} cores",
        "vderain": f"vderain {__version__}",
        "python": f"Python {platform.python_version()}",
        **{name: f"{name} {version}" for name, version in versions.items() if version},
    }


def _summary(means: Mapping[str, Scores]) -> dict[str, float | None]:
    before, after = means.get(INPUT), means.get(OURS)
    values: dict[str, float | None] = {}
    for when, scores in (("before", before), ("after", after)):
        if scores is None:
            continue
        plain = to_plain(scores)
        values[f"psnr_{when}_db"] = plain["psnr_db"]
        values[f"ssim_{when}"] = plain["ssim"]
        values[f"psnr_y_{when}_db"] = plain["psnr_y_db"]
        values[f"ssim_y_{when}"] = plain["ssim_y"]
        if scores.flicker is not None:
            values[f"flicker_{when}"] = plain["flicker"]
    return {name: None if value is None else round(value, 4) for name, value in values.items()}


def _set_to_dict(one: SetScores) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "layout": one.layout,
        "means": {method: to_plain(scores) for method, scores in one.means.items()},
        "images": [
            {"name": item.name, **{method: to_plain(s) for method, s in item.scores.items()}}
            for item in one.items
        ],
    }


def check_json(path: Path) -> None:
    """Raise SinkError where scores cannot be written, or would replace something else."""
    refuse_name(str(path), SinkError)
    with looking_at(path):
        if not path.parent.is_dir():
            raise SinkError(f"{path}: the folder {path.parent} does not exist; create it first")
        if path.is_dir() or (path.exists() and not _holds_scores(path)):
            raise SinkError(f"{path}: exists and is no earlier evaluation; choose another name")


def _holds_scores(path: Path) -> bool:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and {"schema", "sets", "formulas"} <= set(values)


def write_json(path: Path, evaluation: Evaluation) -> None:
    """Write the scores under their name when they are complete. Raises SinkError."""
    partial = path.with_name(hidden_name(".json"))
    try:
        partial.write_text(_json(evaluation), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise SinkError(f"{path}: the scores cannot be written ({error.strerror})") from None


def _json(evaluation: Evaluation) -> str:
    text = json.dumps(evaluation.to_dict(), indent=1, allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode() + "\n"  # for names that are not UTF-8


class ReportFolder:
    """Collects images while sets are scored, and becomes a folder with a page when all is there.

    An earlier report of the same name is replaced, anything else is left alone. Raises SinkError.
    """

    def __init__(self, path: Path, *, shown: int) -> None:
        refuse_name(str(path), SinkError)
        self.path = path
        self._shown = shown
        self._partial = path.parent / hidden_name()
        self._entries: dict[str, list[tuple[float, Shown]]] = {}
        self._crops: dict[str, list[ShownCrop]] = {}
        self._check()

    def _check(self) -> None:
        with looking_at(self.path):
            if not self.path.parent.is_dir():
                raise SinkError(
                    f"{self.path}: the folder {self.path.parent} does not exist; create it first"
                )
            if os.path.lexists(self.path) and not _is_report(self.path):
                raise SinkError(
                    f"{self.path}: exists and is no earlier report; name a folder that can be made"
                )
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise SinkError(f"{self.path}: no permission to write into {self.path.parent}")
        sweep(self.path.parent)

    def add(self, test: TestSet, shot: Shot, item: Item) -> None:
        """Keep the images of a shot until it is known which are worth showing."""
        entries = self._entries.setdefault(test.name, [])
        stem = f"{len(self._entries):03d}-{len(entries):05d}"
        images = {INPUT: shot.rainy, **shot.predictions}
        if test.kind != "clean":
            images["truth"] = shot.truth
        errors = {
            name: error_map(prediction, shot.truth) for name, prediction in shot.predictions.items()
        }
        files = self._write(stem, list(images.values()) + list(errors.values()))
        shown = Shown(
            item.name,
            dict(zip(images, files, strict=False)),
            dict(zip(errors, files[len(images) :], strict=True)),
            item.scores,
        )
        entries.append((_gain(item), shown))

    def add_clip(
        self,
        test: ClipSet,
        clip: Clip,
        scored: ScoredClip,
        results: Mapping[str, Mapping[int, Image]],
    ) -> None:
        """Keep crops of a clip at full size, without a loss."""
        shown = self._crops.setdefault(test.name, [])
        frames = [place - clip.window.first for place in scored.places]
        for crop in crops(clip, results, frames, self._shown):
            stem = f"c{len(self._crops):03d}-{len(shown):05d}"
            files = self._write(stem, list(crop.images.values()), ".png")
            first = next(iter(crop.images.values()))
            named = dict(zip(crop.images, files, strict=True))
            shown.append(ShownCrop(crop.label, (first.shape[0], first.shape[1]), named))

    def _write(self, stem: str, images: Sequence[Image], suffix: str = ".jpg") -> list[str]:
        names = [f"images/{stem}-{number}{suffix}" for number in range(len(images))]
        try:
            (self._partial / "images").mkdir(parents=True, exist_ok=True)
            for name, image in zip(names, images, strict=True):
                data = cv2.imencode(suffix, image[..., ::-1], _QUALITY[suffix])[1]
                (self._partial / name).write_bytes(data.tobytes())
        except OSError as error:
            raise SinkError(f"{self.path}: cannot be written: {error.strerror}") from error
        return names

    def publish(self, evaluation: Evaluation) -> None:
        """Leave out the images that are not shown, write page and scores, and take the name."""
        gallery = {name: choose(entries, self._shown) for name, entries in self._entries.items()}
        kept = {name for shown in gallery.values() for one in shown for name in one.files}
        kept |= {
            name for shown in self._crops.values() for one in shown for name in one.files.values()
        }
        old = self.path.parent / hidden_name()
        try:
            self._partial.mkdir(exist_ok=True)
            for file in (self._partial / "images").glob("*"):
                if f"images/{file.name}" not in kept:
                    file.unlink()
            page = page_of(evaluation, gallery, FORMULAS, error_gain=ERROR_GAIN, crops=self._crops)
            (self._partial / "index.html").write_text(
                page, encoding="utf-8", errors="backslashreplace"
            )
            (self._partial / "scores.json").write_text(_json(evaluation), encoding="utf-8")
            if self.path.exists():
                os.replace(self.path, old)
            os.replace(self._partial, self.path)
        except OSError as error:
            if old.exists() and not self.path.exists():
                os.replace(old, self.path)
            raise SinkError(f"{self.path}: cannot be completed: {error.strerror}") from error
        shutil.rmtree(old, ignore_errors=True)

    def discard(self) -> None:
        """Remove what has no name yet; may be called after ``publish``."""
        shutil.rmtree(self._partial, ignore_errors=True)


def _is_report(path: Path) -> bool:
    """Whether a folder is empty, or holds a report and nothing else."""
    if not path.is_dir() or path.is_symlink():
        return False
    names = {entry.name for entry in path.iterdir()}
    if not names:
        return True
    if not names <= _OWN_ENTRIES or "index.html" not in names:
        return False
    return MARK in (path / "index.html").read_text(encoding="utf-8", errors="replace")


def error_map(prediction: Image, truth: Image) -> Image:
    """The largest error of R, G and B at each pixel, brightened and coloured; (H, W, 3) uint8 RGB."""
    error = cv2.absdiff(np.ascontiguousarray(prediction), np.ascontiguousarray(truth)).max(axis=2)
    bright = np.minimum(error.astype(np.int32) * ERROR_GAIN, 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(bright, cv2.COLORMAP_INFERNO)[..., ::-1], np.uint8)


def _gain(item: Item) -> float:
    """By how many dB an image won; of dry ones, how near it stayed."""
    after = [scores.psnr_db for name, scores in item.scores.items() if name != INPUT]
    before = item.scores[INPUT].psnr_db if INPUT in item.scores else 0.0
    gain = after[0] - before if after else 0.0
    return gain if np.isfinite(gain) else 0.0 if np.isnan(gain) else 1e3


def choose(entries: Sequence[tuple[float, Shown]], count: int) -> list[Shown]:
    """Half the images with the least gain, half spread evenly, in their order."""
    if len(entries) <= count:
        return [shown for _, shown in entries]
    order = sorted(range(len(entries)), key=lambda index: entries[index][0])
    chosen = set(order[: count // 2])
    rest = [index for index in range(len(entries)) if index not in chosen]
    spread = np.linspace(0, len(rest) - 1, count - len(chosen)).astype(int)
    chosen.update(rest[index] for index in spread)
    return [entries[index][1] for index in sorted(chosen)]
