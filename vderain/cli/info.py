"""``vderain info``: what a file holds."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import timedelta

import click

from vderain.cli.terminal import one_line
from vderain.cli.wording import as_flags
from vderain.engines import open_engine
from vderain.frames import ColorTags
from vderain.interfaces import StreamInfo
from vderain.media.describe import Description, describe
from vderain.options import EngineOptions

_FRAMES = 6  # that the estimate is measured on

# FFmpeg's names of the code points of ITU-T H.273 that are met in practice.
_RANGES = {1: "limited", 2: "full"}
_MATRICES = {0: "rgb", 1: "bt709", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
_PRIMARIES = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020", 12: "smpte432"}
_TRANSFERS = {
    **{1: "bt709", 6: "smpte170m", 8: "linear", 13: "iec61966-2-1"},
    **{14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 18: "arib-std-b67"},
}


@click.command()
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(file: str, as_json: bool) -> None:
    """Show what FILE holds, what of it would be copied, and how long deraining it would take."""
    from vderain.engines.measure import frames_per_s

    found = describe(file)
    if not as_json:
        click.echo("\n".join(map(one_line, _text(found))))
    with closing(open_engine(EngineOptions())) as engine:
        rate = frames_per_s(engine, found.network_format, frames=_FRAMES)
        spec = engine.open(found.network_format)
    frames = found.info.frames_expected
    estimate = {
        "engine": f"{spec.name} {spec.precision}, tier {spec.tier}",
        "network_frames_per_s": round(rate, 1),
        "network_s": round(frames / rate, 1) if frames is not None else None,
    }
    if as_json:
        values = {**found.to_dict(), "estimate": estimate}
        click.echo(json.dumps(values, indent=2, default=str, ensure_ascii=False))
    else:
        click.echo(_estimated(1 / rate, frames, str(estimate["engine"])))


def _text(found: Description) -> list[str]:
    about = found.info
    rows = {
        "file": about.path,
        "container": about.container,
        "video": f"{about.codec}, {about.width}x{about.height}, {about.pix_fmt}",
        "frame rate": _frame_rate(about),
        "length": _length(about),
        "pixel shape": "" if about.sample_aspect_ratio == 1 else str(about.sample_aspect_ratio),
        "rotation": f"{about.rotation} degrees counter-clockwise" if about.rotation else "none",
        "colour tags": _colour(about.tags),
        "network sees": str(found.network_format),
        "refused": as_flags(found.refusal),
    }
    lines = [f"{name}: {value}" for name, value in rows.items() if value]
    for fate in found.tracks:
        copied = "copied" if fate.copied else "kept in a file next to the output"
        lines.append(f"track {fate.track}: {copied} ({found.output})")
    if found.boxes:
        kept = "carried" if found.boxes_carried else "kept in a file next to the output"
        lines.append(f"boxes {found.boxes}: {kept} ({found.output})")
    lines += [f"note: {note}" for note in found.notes]
    return lines + [f"loss: {loss} (in {found.output})" for loss in found.losses]


def _estimated(frame_s: float, frames: int | None, engine: str) -> str:
    rate = f"the network does {1 / frame_s:.1f} frames per second ({engine}), encoding comes on top"
    if frames is None:
        return f"time to derain: {rate}"
    return f"time to derain: at least {timedelta(seconds=round(frames * frame_s))}; {rate}"


def _frame_rate(about: StreamInfo) -> str:
    return f"{float(about.frame_rate):.3f} fps ({about.frame_rate})" if about.frame_rate else ""


def _length(about: StreamInfo) -> str:
    parts = [
        f"{about.duration_s:.3f} s" if about.duration_s is not None else "",
        f"{about.frames} frames" if about.frames is not None else "",
    ]
    return ", ".join(filter(None, parts)) or "unknown"


def _colour(tags: ColorTags) -> str:
    named = (
        ("range", _RANGES, tags.range),
        ("matrix", _MATRICES, tags.matrix),
        ("primaries", _PRIMARIES, tags.primaries),
        ("transfer", _TRANSFERS, tags.transfer),
    )
    return ", ".join(
        f"{name} {names.get(code, _unnamed(name, code))}" for name, names, code in named
    )


def _unnamed(name: str, code: int) -> str:
    return "untagged" if code == (0 if name == "range" else 2) else f"code {code}"
