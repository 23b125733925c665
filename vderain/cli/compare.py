"""``vderain compare``: before and after in one image."""

from __future__ import annotations

import sys
from typing import Any

import click
from tqdm import tqdm

from vderain.cli.options import OptionsCommand, options_of, pick
from vderain.cli.wording import as_flags
from vderain.media.compare import Mode, compare_files, compare_still, refuse_inputs
from vderain.media.stills.sink import write_png
from vderain.options import EncodeOptions


@click.command(cls=OptionsCommand)
@click.argument("rainy")
@click.argument("dry")
@click.option("--output", "-o", help="Write the comparison here: a video, or .png for two images.")
@click.option(
    "--still",
    type=(click.FloatRange(min=0), str),
    metavar="SECONDS OUT.png",
    help="Write one image of this time instead of a video.",
)
@click.option(
    "--mode",
    type=click.Choice(["side", "split"]),
    default="side",
    show_default=True,
    help="Side by side, or one image split by a line, which moves in video.",
)
@options_of(EncodeOptions)
def compare(
    rainy: str,
    dry: str,
    output: str | None,
    still: tuple[float, str] | None,
    mode: Mode,
    **values: Any,
) -> None:
    """Show RAINY on the left and DRY on the right: two videos, or two images.

    Frames are paired by their timestamps. The sound and other tracks are those of RAINY.

    \b
    vderain compare rainy.mp4 dry.mp4 -o compare.mp4
    vderain compare rainy.mp4 dry.mp4 --mode split -o compare.mp4
    vderain compare rainy.mp4 dry.mp4 --still 12.5 still.png
    """
    if (output is None) == (still is None):
        raise click.UsageError("give either --output or --still")
    encode = pick(EncodeOptions, values)
    if still is not None:
        at_s, path = still
        refuse_inputs(path, rainy, dry)
        image = compare_still(rainy, dry, at_s, mode=mode, encode=encode)
        write_png(path, image, overwrite=encode.overwrite)
    if output is not None:
        sys.exit(_write_video(rainy, dry, output, mode, encode))


def _write_video(rainy: str, dry: str, output: str, mode: Mode, encode: EncodeOptions) -> int:
    with tqdm(unit=" frames", disable=None, dynamic_ncols=True) as bar:

        def advance(expected: int | None) -> None:
            bar.total = expected
            bar.update()

        report = compare_files(rainy, dry, output, mode=mode, encode=encode, on_frame=advance)
    click.echo(f"{report.path}: {report.frames} frames compared ({report.codec})", err=True)
    for kind, lines in (("note", report.notes), ("loss", report.losses)):
        for line in lines:
            click.echo(as_flags(f"{kind}: {line}"), err=True)
    return 3 if report.losses else 0
