"""``vderain engine``: what runs the network, ahead of time and measured."""

from __future__ import annotations

import json
import re
import sys
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from vderain.cli.options import OptionsCommand, options_of, pick
from vderain.cli.wording import as_flags
from vderain.errors import OptionError
from vderain.frames import LUMA_WEIGHTS, SUBSAMPLING, Matrix, PlaneFormat
from vderain.options import EncodeOptions, EngineOptions, RunOptions

if TYPE_CHECKING:
    from vderain.diagnostics.bench import Bench
    from vderain.engines.profile import Choice
    from vderain.engines.store.cache import Entry

_MIB = 1 << 20
_LARGEST_PX = 1 << 15
_NOT_MEASURED = (
    *("start_s", "duration_s", "sequence", "strength", "lookahead", "queue_frames", "max_memory"),
    *("overwrite", "pipe_format"),
)


class _Group(click.Group):
    command_class = OptionsCommand


@click.group(cls=_Group)
def engine() -> None:
    """Build engines ahead of time, manage them, and measure them.

    \b
    vderain engine build --size 1920x1080
    vderain engine tune
    vderain engine bench --size 1280x720
    """


def _size(ctx: click.Context, param: click.Parameter, text: Any) -> Any:
    """``1280x720``, or several, as (width, height)."""
    values = text if isinstance(text, tuple) else (text,)
    sizes = []
    for value in values:
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)
        if not found or not all(0 < int(side) <= _LARGEST_PX for side in found.groups()):
            raise click.BadParameter(f"{value!r}: width x height in pixels, such as 1280x720")
        sizes.append((int(found[1]), int(found[2])))
    return tuple(sizes) if isinstance(text, tuple) else sizes[0]


@engine.command()
@click.option(
    "--size", "sizes", multiple=True, required=True, callback=_size, metavar="WxH",
    help="Size of the video, as it is displayed; may be repeated.",
)  # fmt: skip
@click.option(
    "--layout", type=click.Choice([*SUBSAMPLING]), default="yuv420", show_default=True,
    help="Layout of the samples.",
)  # fmt: skip
@click.option("--bits", type=click.IntRange(8, 16), default=8, show_default=True, help="Bit depth.")
@click.option(
    "--matrix", type=click.Choice([*LUMA_WEIGHTS]),
    help="Colour matrix [default: bt709 from 720 lines up, else bt601].",
)  # fmt: skip
@click.option("--full-range", is_flag=True, help="Samples use the full range, as from phones.")
@options_of(EngineOptions)
def build(
    sizes: tuple[tuple[int, int], ...],
    layout: Any,
    bits: int,
    matrix: Any,
    full_range: bool,
    **values: Any,
) -> None:
    """Build and check engines for some sizes, so that a run begins at once.

    vderain info names layout, depth, matrix and range of a video.
    """
    from dataclasses import replace

    from vderain.engines import open_engine

    options = replace(pick(EngineOptions, values), wait_engine=True)
    with closing(open_engine(options)) as pool:
        for width, height in sizes:
            chosen: Matrix = matrix or ("bt709" if height >= 720 else "bt601")
            span = full_range or layout == "rgb"
            fmt = PlaneFormat(layout, width, height, bits, chosen, full_range=span)
            spec = pool.open(fmt)
            click.echo(f"{fmt}: {spec.name} {spec.precision} on {spec.device}")
            for note in spec.notes:
                click.echo(as_flags(f"  note: {note}"))


@engine.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List the engines that are built."""
    from vderain.engines.store.cache import EngineCache

    cache = EngineCache()
    entries = cache.entries()
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    for entry in entries:
        click.echo(_line(entry))
    total = sum(entry.size_bytes for entry in entries) / _MIB
    click.echo(f"{len(entries)} engines, {total:.1f} MiB in {cache.folder}", err=True)


@engine.command()
@click.option("--remove", is_flag=True, help="Delete those that are damaged.")
def verify(remove: bool) -> None:
    """Read every built engine and compare it with its checksum; exit code 1 where one is damaged."""
    from vderain.engines.store.cache import EngineCache

    cache = EngineCache()
    entries = cache.entries(verify=True)
    damaged = [entry for entry in entries if entry.fault]
    for entry in damaged:
        click.echo(_line(entry))
    if remove and damaged:
        _remove(cache, [entry.digest for entry in damaged])
    click.echo(f"{len(entries) - len(damaged)} of {len(entries)} engines are sound", err=True)
    sys.exit(1 if damaged and not remove else 0)


@engine.command()
def clear() -> None:
    """Delete every built engine, timings and the profile of tune; a run builds what it needs again."""
    from vderain.engines.store.cache import EngineCache

    cache = EngineCache()
    freed = _remove(cache, None)
    click.echo(f"{freed / _MIB:.1f} MiB freed in {cache.folder}", err=True)


@engine.command()
@click.option("--size", default="1280x720", callback=_size, show_default=True, metavar="WxH",
              help="Size to measure at.")  # fmt: skip
@click.option("--seconds", default=60.0, show_default=True, help="How long to measure, about.")
@options_of(EngineOptions)
def tune(size: tuple[int, int], seconds: float, **values: Any) -> None:
    """Measure engines, precisions, frames in flight and threads, and keep the fastest for vderain run.

    Building what is measured takes additional time. With --engine or --precision it only prints.
    """
    from vderain.engines.profile import tune as measure

    options = pick(EngineOptions, values)
    fmt = PlaneFormat("yuv420", *size)
    found = measure(options, fmt, budget_s=seconds, on_measured=_print_choice)
    if not found or not found[0].frames_per_s:
        raise OptionError("nothing that these options allow runs here")
    kept = options.engine == "auto" and options.precision == "auto"
    click.echo(f"{'run uses' if kept else 'fastest'}: {found[0]}", err=True)


def _print_choice(choice: Choice) -> None:
    rate = f"{choice.frames_per_s:7.2f} fps" if choice.frames_per_s else "     no"
    click.echo(as_flags(f"{rate}  {choice}" + (f": {choice.reason}" if choice.reason else "")))


@engine.command()
@click.option("--size", default="1280x720", callback=_size, show_default=True, metavar="WxH",
              help="Size to measure at.")  # fmt: skip
@click.option("--seconds", default=10.0, show_default=True, help="How long each stage is measured.")
@click.option("--profile", is_flag=True,
              help="Also measure the network by kind of operator (openvino).")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options_of(EngineOptions, EncodeOptions, RunOptions, leave_out=_NOT_MEASURED)
def bench(
    size: tuple[int, int], seconds: float, profile: bool, as_json: bool, **values: Any
) -> None:
    """Measure every stage of a run at one size, and name the one that limits it."""
    from vderain.diagnostics.bench import bench as measure

    options, encode = pick(EngineOptions, values), pick(EncodeOptions, values)
    run = pick(RunOptions, values)
    fmt = PlaneFormat("yuv420", *size)
    found = measure(options, encode, fmt, seconds, run=run, profile=profile)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else _text(found))


def _text(found: Bench) -> str:
    lines = [f"{found.format}: {found.engine} {found.precision} on {found.device}"]
    lines += [f"{name:12} {rate:9.2f} fps" for name, rate in found.rates.items()]
    lines.append(f"limited by {found.limiting_stage}")
    lines.append(
        f"network: {found.tflop_per_s:.3f} TFLOP/s of {found.peak_tflop_per_s:.3f} that a matrix "
        f"product reaches in {found.peak_precision} ({100 * found.share_of_peak:.0f} %)"
    )
    if found.operators:
        total_ms, share = sum(one.ms for one in found.operators), found.convolution_share
        lines.append(
            f"operators: {total_ms:.1f} ms a frame, convolution {100 * share:.1f} %,"
            f" the rest {100 - 100 * share:.1f} %"
        )
        for one in found.operators:
            lines.append(f"  {one.kind:28} {one.ms:9.2f} ms {100 * one.share:6.1f} %")
    lines += [f"note: {note}" for note in (*found.notes, *found.run_notes)]
    return "\n".join(lines)


def _line(entry: Entry) -> str:
    if not entry.engine:
        return f"{entry.digest[:12]}  {entry.fault}"
    fmt = str(PlaneFormat(**entry.format))
    if entry.engine.startswith("openvino"):  # built once for all sizes
        fmt = "any size" + fmt[fmt.index(" ") :]
    fault = f"  DAMAGED: {entry.fault}" if entry.fault else ""
    return (
        f"{entry.digest[:12]}  {entry.engine} {entry.precision}  {fmt}  weights "
        f"{entry.weights[:8]}  {entry.size_bytes / _MIB:.1f} MiB  {entry.built}{fault}"
    )


def _remove(cache: Any, digests: list[str] | None) -> int:
    from vderain.errors import SinkError

    try:
        return int(cache.remove(digests))
    except OSError as error:
        raise SinkError(
            f"{error.filename}: cannot be deleted ({error.strerror}); nothing uses it but vderain"
        ) from None
