"""The report of a run: printed, and written as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vderain.errors import SinkError
from vderain.files import write_whole
from vderain.interfaces import EngineSpec


@dataclass(slots=True)
class RunReport:
    """The result of one run.

    Attributes:
        frames_in: frames decoded, within the part that was asked for.
        frames_out: frames written.
        decode_failures: damaged packets or frames that were skipped.
        damaged_frames: damaged frames that were taken as far as they could be decoded.
        codec, preset: the encoder and its preset; "" for an encoder without presets.
        tracks_copied: tracks that were copied unchanged.
        losses: parts of the input that are not in the output, and why; with any, the exit code is 3.
        notes: changes of representation, and fallbacks, without loss.
        engines: the engine for each plane format.
        stage_s: seconds that each stage worked; stages overlap, so the sum may exceed ``seconds``.
        open_s: seconds spent on opening engines: loading, or building where the cache had none.
        cpu_s: CPU seconds of all threads of the process.

    """

    source: str = ""
    output: str = ""
    frames_in: int = 0
    frames_out: int = 0
    decode_failures: int = 0
    damaged_frames: int = 0
    codec: str = ""
    preset: str = ""
    tracks_copied: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    engines: list[EngineSpec] = field(default_factory=list)
    stage_s: dict[str, float] = field(default_factory=dict)
    open_s: float = 0.0
    cpu_s: float = 0.0
    seconds: float = 0.0

    @property
    def frames_per_s(self) -> float:
        """Frames written per second, including the start of the stages."""
        return self.frames_out / self.seconds if self.seconds else 0.0

    @property
    def limiting_stage(self) -> str:
        """The stage that worked longest."""
        return max(self.stage_s, key=lambda stage: self.stage_s[stage]) if self.stage_s else ""

    @property
    def exit_code(self) -> int:
        """0, or 3 where there are losses."""
        return 3 if self.losses else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **asdict(self),
            "frames_per_s": round(self.frames_per_s, 2),
            "limiting_stage": self.limiting_stage,
        }


def damage_losses(skipped: int, damaged: int) -> list[str]:
    """Losses by damage, for these numbers of skipped packets or frames and of damaged frames."""
    losses = [f"{skipped} damaged frames or packets were skipped"] if skipped else []
    if damaged:
        losses.append(f"{damaged} damaged frames were derained as far as they could be decoded")
    return losses


def check_report_path(path: Path, rainy: str, *dry: str) -> None:
    """Raise SinkError where a report cannot be written, or would replace the input or an output."""
    for other in (rainy, *dry):
        if os.path.realpath(path) == os.path.realpath(other):
            raise SinkError(
                f"{path}: the report would replace {other}; give the report its own name"
            )
    if not os.path.isdir(path.parent):
        raise SinkError(f"{path}: its folder does not exist; create it first")


def write_report(path: Path, report: dict[str, Any], spell: Callable[[str], str] = str) -> None:
    """Write a report's plain values as JSON under its name when it is complete. Raises SinkError.

    ``spell`` spells the options in losses and notes as the reader of the report knows them.
    """
    text = json.dumps(_spelled(report, spell), indent=2, ensure_ascii=False) + "\n"
    try:
        write_whole(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise SinkError(f"{path}: the report cannot be written ({error.strerror})") from None


def _spelled(value: Any, spell: Callable[[str], str]) -> Any:
    """Plain values with every text below "losses" and "notes" spelled."""
    if isinstance(value, dict):
        return {
            key: [spell(line) for line in item]
            if key in ("losses", "notes")
            else _spelled(item, spell)
            for key, item in value.items()
        }
    return [_spelled(item, spell) for item in value] if isinstance(value, list) else value
