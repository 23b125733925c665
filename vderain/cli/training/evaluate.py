"""``vderain evaluate``: scores against ground truth."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from vderain.cli.options import OptionsCommand, options_of, pick
from vderain.options import EngineOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vderain.interfaces import Engine
    from vderain.training.evaluation.clips.run import Clip, ScoredClip
    from vderain.training.evaluation.noreference import RealScores
    from vderain.training.evaluation.report import Evaluation
    from vderain.training.evaluation.scores import Item
    from vderain.training.evaluation.shots import Shot, Timing
    from vderain.training.evaluation.suite import AnySet, ClipSet, Results, TestSet
    from vderain.training.rain.render import Image

_PATH = click.Path(path_type=Path)


@click.command(cls=OptionsCommand)
@click.option(
    "--pairs", type=_PATH, multiple=True, metavar="DIR", help="A folder of pairs; may be repeated."
)
@click.option(
    "--layout",
    default="auto",
    show_default=True,
    help="Layout of --pairs: auto recognises pairs (input and target folders), halves (one file each, left half"
    " clean), rain100, rain1400, spa, raincityscapes, nturain.",
)
@click.option(
    "--video",
    type=(_PATH, _PATH),
    multiple=True,
    metavar="RAINY CLEAN",
    help="A clip and its ground truth, files or folders of frames; may be repeated.",
)
@click.option(
    "--rainy",
    type=_PATH,
    multiple=True,
    metavar="CLIP",
    help="Rainy footage without ground truth, scored by its neighbouring frames; may be repeated.",
)
@click.option(
    "--clean",
    type=_PATH,
    multiple=True,
    metavar="PATH",
    help="Dry images or clips, which should stay as they are; may be repeated.",
)
@click.option(
    "--static-rain",
    type=_PATH,
    multiple=True,
    metavar="PATH",
    help="Real rain filmed by a static camera, a clip or a folder of clips, scored against the temporal median; may be"
    " repeated.",
)
@click.option(
    "--dry-motion",
    type=_PATH,
    multiple=True,
    metavar="PATH",
    help="A dry clip in which things move, or a folder of them; may be repeated.",
)
@click.option(
    "--suite",
    type=_PATH,
    help="A TOML file that lists sets, or the shipped suite dev; relative paths begin at $VDERAIN_DATA, else at"
    " the file's folder.",
)
@click.option(
    "--results",
    multiple=True,
    metavar="NAME=DIR",
    help="Score these results of another method too: files named as the inputs; may be repeated.",
)
@click.option("--only-results", is_flag=True, help="Run no network, score --results only.")
@click.option(
    "--every",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Score one frame of so many in clips.",
)
@click.option(
    "--lookahead",
    type=click.IntRange(0),
    help="Show the network at most so many future frames of clips: 0 scores what a camera's stream gets.",
)
@click.option(
    "--report", type=_PATH, metavar="DIR", help="Write a page with plots and images here."
)
@click.option(
    "--images",
    type=click.IntRange(0),
    default=4,
    show_default=True,
    help="Images of each set on the page.",
)
@click.option("--json", "json_path", type=_PATH, metavar="FILE", help="Write all scores here.")
@options_of(EngineOptions)
def evaluate(
    pairs: tuple[Path, ...],
    layout: str,
    video: tuple[tuple[Path, Path], ...],
    rainy: tuple[Path, ...],
    clean: tuple[Path, ...],
    static_rain: tuple[Path, ...],
    dry_motion: tuple[Path, ...],
    suite: Path | None,
    results: tuple[str, ...],
    only_results: bool,
    every: int,
    lookahead: int | None,
    report: Path | None,
    images: int,
    json_path: Path | None,
    **values: Any,
) -> None:
    """Score weights or results: PSNR, SSIM, flicker, time.

    \b
    vderain evaluate --pairs DIR --report scores
    vderain evaluate --video rainy.mp4 clean.mp4 --weights mine.safetensors
    vderain evaluate --rainy dashcam.mp4                  # no ground truth needed
    vderain evaluate --static-rain DIR --dry-motion DIR2 --report scores
    vderain evaluate --pairs DIR --results other=DIR2 --report scores
    """
    from vderain.training.evaluation.report import check_json

    sets = _sets(suite, pairs, layout, video, clean, static_rain, dry_motion)
    if not sets and not rainy:
        raise click.UsageError(
            "name what to score: --pairs, --video, --rainy, --clean, --static-rain, --dry-motion or"
            " --suite"
        )
    if rainy and (only_results or report is not None):
        raise click.UsageError(
            "--rainy prints scores of weights: leave --only-results and --report out"
        )
    others = _results(results)
    if only_results and not others:
        raise click.UsageError("--only-results needs --results")
    if json_path is not None:
        check_json(json_path)
    options = None if only_results else pick(EngineOptions, values)
    scoring = _Scoring(sets, rainy, others, every, lookahead, options)
    found = _score(scoring, report, images, json_path)
    for one in found.sets:
        if one.layout:
            click.echo(f"note: {one.name}: {len(one.items)} pairs, read as {one.layout}", err=True)
    for note in dict.fromkeys(note for spec in found.timing.engines for note in spec.notes):
        click.echo(f"note: {note}", err=True)
    if report is not None:
        click.echo(f"{report / 'index.html'}: tables, plots and images", err=True)


@dataclass(frozen=True, slots=True)
class _Scoring:
    """What is scored: sets, rainy footage without ground truth, other methods' results; and by which engine.

    ``options`` is None where results alone are scored. Of clips one frame of ``every`` is scored, and the engine is
    shown at most ``lookahead`` future frames.
    """

    sets: list[AnySet]
    rainy: tuple[Path, ...]
    others: list[Results]
    every: int
    lookahead: int | None
    options: EngineOptions | None


def _sets(
    suite: Path | None,
    pairs: tuple[Path, ...],
    layout: str,
    video: tuple[tuple[Path, Path], ...],
    clean: tuple[Path, ...],
    static_rain: tuple[Path, ...],
    dry_motion: tuple[Path, ...],
) -> list[AnySet]:
    """The sets of a suite, then those of the command line."""
    from vderain.training.evaluation.suite import load_suite, make_clip_set, make_set, unique

    data = os.environ.get("VDERAIN_DATA")
    sets = load_suite(suite, Path(data) if data else None) if suite else []
    sets += [make_set("pairs", path, layout=layout) for path in pairs]
    sets += [make_set("video", wet, truth) for wet, truth in video]
    sets += [make_set("clean", path) for path in clean]
    sets += [make_clip_set("static_rain", path) for path in static_rain]
    sets += [make_clip_set("dry_motion", path) for path in dry_motion]
    return unique(sets)


def _score(
    scoring: _Scoring, report: Path | None, images: int, json_path: Path | None
) -> Evaluation:
    """Score everything behind a progress bar, print the table, and write the report and the JSON file."""
    from vderain.training.evaluation.camera import LookingAhead
    from vderain.training.evaluation.clips.run import PreparedClips, by_engine
    from vderain.training.evaluation.report import Evaluation, ReportFolder, write_json
    from vderain.training.evaluation.scores import evaluate as score
    from vderain.training.evaluation.suite import ClipSet
    from vderain.training.evaluation.table import table

    with ExitStack() as stack:
        folder = None
        if report is not None:
            folder = ReportFolder(report, shown=images)
            stack.callback(folder.discard)
        engine: Engine | None = None
        if scoring.options is not None:
            from vderain.engines import open_engine

            engine = stack.enter_context(closing(open_engine(scoring.options)))
            if scoring.lookahead is not None:
                engine = LookingAhead(engine, scoring.lookahead)
        bar = stack.enter_context(tqdm(unit=" images", disable=None, dynamic_ncols=True))

        def advance(test: TestSet, shot: Shot, item: Item) -> None:
            bar.set_postfix_str(test.name, refresh=False)
            bar.update()
            if folder is not None:
                folder.add(test, shot, item)

        def advance_clip(
            test: ClipSet, clip: Clip, found: ScoredClip, made: Mapping[str, Mapping[int, Image]]
        ) -> None:
            bar.set_postfix_str(test.name, refresh=False)
            bar.update(len(found.places))
            if folder is not None:
                folder.add_clip(test, clip, found, made)

        of_clips = PreparedClips(
            [one for one in scoring.sets if isinstance(one, ClipSet)], scoring.others
        )
        scored, timing = score(
            [one for one in scoring.sets if not isinstance(one, ClipSet)],
            engine,
            scoring.others,
            every=scoring.every,
            on_shot=advance,
            predicting=of_clips.predicting,
        )
        derain = None if engine is None else by_engine(engine, timing)
        clips = of_clips.evaluate(derain, every=scoring.every, on_clip=advance_clip)
        real = {
            str(clip): _real(clip, engine, timing) for clip in scoring.rainy if engine is not None
        }
        bar.close()
        known = {} if scoring.options is None else _network(scoring.options)
        evaluation = Evaluation(scored, timing, **known, real=real, clips=clips)
        click.echo(table(evaluation))  # first, so that a full disk does not take it away
        if json_path is not None:
            write_json(json_path, evaluation)
        if folder is not None:
            folder.publish(evaluation)
        return evaluation


def _real(clip: Path, engine: Engine, timing: Timing) -> Mapping[str, RealScores]:
    """Scores without ground truth."""
    from vderain.training.evaluation.real import score_footage
    from vderain.training.evaluation.shots import derain_rgb

    return score_footage(clip, lambda frames: derain_rgb(frames, engine, timing))


def _results(given: tuple[str, ...]) -> list[Results]:
    """The folders of ``--results NAME=DIR``."""
    from vderain.training.evaluation.suite import Results

    found: list[Results] = []
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals or not folder:
            raise click.UsageError(f"--results {text}: write NAME=DIR")
        if name in [one.name for one in found]:
            raise click.UsageError(f"--results {text}: the name {name} is taken")
        found.append(Results(name, Path(folder)))
    return found


def _network(options: EngineOptions) -> dict[str, Any]:
    """What the report says of the network that ran."""
    from vderain.engines.tiers import weights_of
    from vderain.training.evaluation.scores import network_cost

    path, card = weights_of(options)
    return {"weights": path.name, "card": card, "cost": network_cost(card.config)}
