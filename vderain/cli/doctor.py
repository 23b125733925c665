"""``vderain doctor``: what works on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable

import click

from vderain.cli.wording import as_flags
from vderain.diagnostics.diagnosis import Diagnosis, Usable, diagnose
from vderain.diagnostics.rates import TierRate


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Show versions, CPU features, engines and encoders that work on this machine, and how fast each tier is."""
    found = diagnose()
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else as_flags(_text(found)))


def _text(found: Diagnosis) -> str:
    cpu = found.processor
    features = " ".join(cpu.features) or "unknown"
    lines = [f"{name}: {version or 'not installed'}" for name, version in found.versions.items()]
    lines += ["", f"processor: {cpu.model}, {cpu.cores} cores", f"instruction sets: {features}"]
    lines += [f"graphics: {name}" for name in found.graphics or ("none found",)]
    lines += ["", *_table("engine", found.engines), "", *_table("encoder", found.encoders)]
    lines += ["", *map(_rates, found.tiers)]
    lines += [
        "",
        f"engine cache: {found.cache_folder}, {found.cache_mib:g} MiB"
        f" ({found.cache_free_mib / 1024:.1f} GiB free there)",
        f"free disk space here: {found.here_free_mib / 1024:.1f} GiB",
    ]
    return "\n".join(lines)


def _rates(rate: TierRate) -> str:
    if not rate.frames_per_s:
        return f"tier {rate.tier}: does not run ({rate.reason})"
    speeds = ", ".join(f"{fps:g} fps at {size}" for size, fps in rate.frames_per_s.items())
    why = f"; --tier auto uses it for files: {rate.chosen}" if rate.chosen else ""
    return f"tier {rate.tier}: {speeds} ({rate.engine}, the network alone{why})"


def _table(kind: str, states: Iterable[Usable]) -> list[str]:
    return [
        f"{kind} {state.name}: {'works' if state.usable else 'does not work'}"
        + (f" ({state.detail})" if state.detail else "")
        for state in states
    ]
