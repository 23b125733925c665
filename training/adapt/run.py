"""Adapts weights to unlabelled rainy footage: trains, evaluates on the validation split, and decides (ours)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vderain.errors import SourceError, TrainingError
from vderain.metrics import mean_psnr, psnr
from vderain.network.base import ChangeNetwork
from vderain.training.adapt.dry import Derain, read_dry, shows_rain
from vderain.training.adapt.objective import AdaptObjective
from vderain.training.adapt.retention import OtherRain, probe, shipped_images
from vderain.training.adapt.samples import DryPool, Lesson, LessonSampler
from vderain.training.checkpoint import load_checkpoint, save_checkpoint
from vderain.training.config.adapt import AdaptConfig
from vderain.training.data.augment import draw_chart
from vderain.training.data.footage import Footage, Piece, read_footage, read_frames, read_lessons
from vderain.training.data.stacks import window_of
from vderain.training.evaluation.noreference import RealScores, score_result
from vderain.training.evaluation.predict import derain_frames, derain_image, derain_middle
from vderain.training.export import write_weights
from vderain.training.rain.streaks import Image
from vderain.training.rain.temporal import View
from vderain.training.train import Trainer
from vderain.weights import find_weights, load_network

_LEAST_GAIN_DB = 0.05  # on the validation split, between evaluations
_WORTH_DB = 0.2  # from which adapted weights are kept: the best of many evaluations flatters
_DRY_FLOOR_DB = 40.0  # of dry images with what the weights make of them
_DRY_LOSS_DB = 1.0  # that they may come further away by, above the floor
_DRY_IMAGES = 12
_OTHER_IMAGES = 300
_OTHER_LOSS_DB = 0.2  # of rendered rain against its ground truth, that may be forgotten
_KEPT_DRY_SHARE = 0.2  # of the samples whose predictions are kept
_PROBED = 4  # one of so many images of anything is kept to ask what was forgotten


@dataclass(frozen=True, slots=True)
class ValidationScores:
    """The scores of weights on the validation split at one time.

    Attributes:
        step: of the run; 0 for the original weights.
        agreement_db: mean PSNR against the target, where it can be trusted.
        dry_db: mean PSNR of dry images with what becomes of them.
        other_db: mean PSNR against the ground truth of other, rendered rain on images that nothing learns from.

    """

    step: int
    agreement_db: float
    dry_db: float
    other_db: float


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """The decision of the validation split on the adapted weights; ``reason`` is a sentence for the user."""

    adapted: bool
    reason: str
    original: RealScores
    changed: RealScores
    evaluations: tuple[ValidationScores, ...]
    best: ValidationScores
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class ValidationPiece:
    """A validation piece: its frames, its view, and the original weights' predictions for all its frames."""

    piece: Piece
    view: View
    derained: tuple[Image, ...]


class Adaptation:
    """Everything of one run of ``vderain adapt``: made once, then ``train``, ``judge`` and ``write``.

    Raises SourceError for footage that cannot be used or that shows no rain, and dry footage that does.
    """

    def __init__(self, config: AdaptConfig, run_dir: Path, on_note: Callable[[str], None]) -> None:
        self.config, self.run_dir = config, run_dir
        path, self.card = find_weights(config.tier, config.initial)
        self.original = load_network(path, self.card)
        derain = partial(derain_frames, self.original)
        footage = read_footage([Path(one) for one in config.footage], config.windows, config.seed)
        for note in footage.notes:
            on_note(note)
        on_note(
            f"{len(footage.learnt)} pieces of footage to learn from, {len(footage.validation)} for validation"
        )
        lessons = self._lessons(footage, derain)
        self.validation = [
            ValidationPiece(piece, seen, derained)
            for piece, (seen, derained) in zip(
                footage.validation, read_lessons(footage.validation, derain), strict=True
            )
        ]
        own = read_dry([Path(one) for one in config.dry], derain, config.seed, on_note)
        other = shipped_images()
        if config.replay:
            other += read_frames([Path(one) for one in config.replay], _OTHER_IMAGES)
        rng = np.random.default_rng(config.seed)
        self._dry = [*own, *other][:: max(1, len([*own, *other]) // _DRY_IMAGES)][:_DRY_IMAGES]
        self._dry += [draw_chart(rng) for _ in range(4)]
        self._dry += [one.view.target()[:256, :256] for one in self.validation]
        self._dry = [image[:384, :384] for image in self._dry]
        taught = [image for number, image in enumerate(other) if number % _PROBED]
        self._probes = self._other_rain({"other": (other[::_PROBED], 1.0)}, 0.0).probes(config.seed)
        images = {
            "other": (taught, 1.0),
            "own": (own, 0.3),
            "footage": ([lesson.target for lesson in lessons], 0.3),
        }
        sampler = LessonSampler(
            config,
            lessons,
            DryPool(lessons, own, taught),
            self._other_rain(images, _KEPT_DRY_SHARE),
            window_of(self.original.config),
        )
        torch.set_flush_denormal(True)
        self.trainer = Trainer(
            config, run_dir, objective=AdaptObjective(config, sampler, self.original)
        )
        self.evaluations: list[ValidationScores] = []
        self.best: ChangeNetwork = self.original

    def _lessons(self, footage: Footage, derain: Derain) -> list[Lesson]:
        views = [seen for seen, _ in read_lessons(footage.learnt, derain)]
        names = ", ".join(self.config.footage)
        if np.mean([seen.valid.mean() for seen in views]) < 0.05:
            raise SourceError(
                f"{names}: too much moves to separate rain from the scene; give calmer footage"
            )
        if not shows_rain(views):
            raise SourceError(
                f"{names}: no rain is seen that moves from frame to frame; nothing to adapt to, nothing was written"
            )
        window = window_of(self.original.config)
        return [
            Lesson.of(seen, piece.frames, window)
            for piece, seen in zip(footage.learnt, views, strict=True)
        ]

    def _other_rain(
        self, images: Mapping[str, tuple[Sequence[Image], float]], dry_share: float
    ) -> OtherRain:
        return OtherRain(
            images,
            patch=self.config.patch,
            window=window_of(self.original.config),
            seed=self.config.seed,
            dry_share=dry_share,
        )

    def train(
        self, on_step: Callable[[Any], None], on_evaluation: Callable[[ValidationScores], None]
    ) -> None:
        """Run until the validation split stops gaining, or steps or minutes end. Resumes a run that was stopped."""
        self._resume()
        if not self.evaluations:
            self.evaluations.append(self._evaluate(self.original, 0))
            on_evaluation(self.evaluations[0])

        def step(progress: Any) -> None:
            on_step(progress)
            trainer = self.trainer
            if trainer.saved_step != trainer.step:
                return
            evaluation = self._evaluate(trainer.averaged, trainer.step)
            if self._is_better(evaluation):
                self.best = copy.deepcopy(trainer.averaged).eval()
            self.evaluations.append(evaluation)
            self._save()
            on_evaluation(evaluation)
            late = trainer.seconds > 60 * self.config.minutes  # those before a stop among them
            if late or self._since_best() >= self.config.patience:
                trainer.stop()

        if self._since_best() < self.config.patience:
            self.trainer.train(Path(), step)

    def _is_better(self, evaluation: ValidationScores) -> bool:
        """Whether an evaluation is the best so far of those that do no harm."""
        return self._beats(evaluation, self.best_evaluation)

    def _beats(self, evaluation: ValidationScores, best: ValidationScores) -> bool:
        gain_db = evaluation.agreement_db - best.agreement_db
        return self._does_no_harm(evaluation) and gain_db > _LEAST_GAIN_DB

    def _does_no_harm(self, evaluation: ValidationScores) -> bool:
        return self._leaves_dry(evaluation) and self._keeps_other(evaluation)

    def _leaves_dry(self, evaluation: ValidationScores) -> bool:
        return evaluation.dry_db >= min(_DRY_FLOOR_DB, self.evaluations[0].dry_db - _DRY_LOSS_DB)

    def _keeps_other(self, evaluation: ValidationScores) -> bool:
        return evaluation.other_db >= self.evaluations[0].other_db - _OTHER_LOSS_DB

    @property
    def shown_network(self) -> ChangeNetwork:
        """What previews show: the best weights so far, or the latest ones until any gained."""
        return self.trainer.averaged if self.best is self.original else self.best

    @property
    def best_evaluation(self) -> ValidationScores:
        """The evaluation with the best agreement of those that did no harm, as they came."""
        best = self.evaluations[0]
        for evaluation in self.evaluations[1:]:
            if self._beats(evaluation, best):
                best = evaluation
        return best

    def _since_best(self) -> int:
        return len(self.evaluations) - 1 - self.evaluations.index(self.best_evaluation)

    def _evaluate(self, network: ChangeNetwork, step: int) -> ValidationScores:
        network.eval()
        agreements = []
        for one in self.validation:
            result, valid = derain_middle(network, one.piece.frames), one.view.valid
            if valid.any():
                agreements.append(psnr(result[valid], one.view.target()[valid]))
        if not agreements:
            raise SourceError(
                f"{', '.join(self.config.footage)}: the last part, the validation split, moves too much; "
                "give more footage"
            )
        dry = [psnr(derain_image(network, image), image) for image in self._dry]
        found = (mean_psnr(agreements), mean_psnr(dry), probe(network, self._probes))
        return ValidationScores(step, *(round(value, 3) for value in found))

    @property
    def _best_file(self) -> Path:
        return self.run_dir / "best.pt"

    def _save(self) -> None:
        evaluations = [astuple(evaluation) for evaluation in self.evaluations]
        save_checkpoint(self._best_file, {"looks": evaluations, "network": self.best.state_dict()})

    def _resume(self) -> None:
        """Resume with the evaluations of a run that was stopped; those after its checkpoint are done again."""
        if not (self._best_file.exists() and self.trainer.checkpoint.exists()):
            return
        self.trainer.resume()
        state = load_checkpoint(self._best_file)
        evaluations = [ValidationScores(*values) for values in state["looks"]]
        self.evaluations = [
            evaluation for evaluation in evaluations if evaluation.step <= self.trainer.step
        ]
        try:
            self.best = copy.deepcopy(self.original)
            self.best.load_state_dict(state["network"])
        except RuntimeError as error:
            raise TrainingError(
                f"{self._best_file}: does not fit this run; remove the folder"
            ) from error

    def judge(self) -> Verdict:
        """Compare adapted with original weights on the validation split."""
        before, after = (self._scores(network) for network in (self.original, self.best))
        original, changed = RealScores.mean(before), RealScores.mean(after)
        first, best = self.evaluations[0], self.best_evaluation
        gain = changed.agreement_db - original.agreement_db
        pairs = zip(before, after, strict=True)
        gained = [bool(b.agreement_db > a.agreement_db) for a, b in pairs]
        adapted = best.step > 0 and gain >= _WORTH_DB and 2 * sum(gained) > len(gained)
        if adapted:
            reason = (
                f"adapted: {len(self.validation)} validation frames come {gain:.2f} dB nearer to the target"
                f" (step {best.step}); dry images stay at {best.dry_db:.1f} dB"
                f" ({first.dry_db:.1f} before); on other rain they {self._cost()}"
            )
        else:
            reason = f"the original weights are kept: {self._why_not(gain, gained)}"
        return Verdict(
            adapted, reason, original, changed, tuple(self.evaluations), best, self.trainer.seconds
        )

    def _cost(self) -> str:
        first, best = self.evaluations[0].other_db, self.best_evaluation.other_db
        change = "lose" if best < first else "gain"
        return f"{change} {abs(best - first):.2f} dB ({first:.2f} before)"

    def _why_not(self, gained_db: float, gained: Sequence[bool]) -> str:
        if self.best_evaluation.step > 0:
            return (
                f"{sum(gained)} of {len(gained)} validation frames come nearer to the target,"
                f" {gained_db:.2f} dB on average; less than {_WORTH_DB} dB, or half of them, may be chance"
            )
        first = self.evaluations[0]
        harmful = [
            evaluation for evaluation in self.evaluations if not self._does_no_harm(evaluation)
        ]
        if harmful:
            evaluation = max(harmful, key=lambda one: one.agreement_db)
            gain = evaluation.agreement_db - first.agreement_db
            if gain > _LEAST_GAIN_DB:
                cost = (
                    f"a loss of {first.other_db - evaluation.other_db:.2f} dB on other rain"
                    if self._leaves_dry(evaluation)
                    else f"changes to dry images ({first.dry_db:.1f} to {evaluation.dry_db:.1f} dB)"
                )
                return f"a gain of {gain:.2f} dB on validation frames came with {cost}"
        return "training brought validation frames no nearer to the target"

    def _scores(self, network: ChangeNetwork) -> list[RealScores]:
        """Of each validation piece that can be judged; the same ones for all weights."""
        found = []
        for one in self.validation:
            results = one.derained
            if network is not self.original:
                results = tuple(derain_frames(network, one.piece.frames))
            if (scores := score_result(one.view, results)) is not None:
                found.append(scores)
        if not found:
            raise SourceError(
                f"{', '.join(self.config.footage)}: the validation split moves too much to be judged"
            )
        return found

    def write(self, weights: Path, verdict: Verdict) -> None:
        """Write the weights that the verdict chose, with a card that says so. Raises SinkError."""
        network = copy.deepcopy(self.best if verdict.adapted else self.original)
        training = {
            "adapted": verdict.adapted,
            "verdict": verdict.reason,
            "steps": verdict.best.step,
            "from": self.card.sha256,
            "minutes": round(verdict.seconds / 60, 1),
            "before": self.card.training,
        }
        data = self.card.data + (
            " Then adapted to unlabelled footage of the user's." if verdict.adapted else ""
        )
        scores = {
            "validation": {
                "before_db": round(verdict.original.agreement_db, 2),
                "after_db": round(verdict.changed.agreement_db, 2),
            },
            "other_rain": {
                "before_db": verdict.evaluations[0].other_db,
                "after_db": verdict.best.other_db,
            },
            "dry": {"before_db": verdict.evaluations[0].dry_db, "after_db": verdict.best.dry_db},
            "original": self.card.scores,
        }
        card = replace(self.card, training=training, data=data, scores=scores)
        if verdict.adapted:
            card = replace(card, int8={})  # measured on other weights
        write_weights(network, weights, card)
