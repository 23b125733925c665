"""A folder to train on, as the configuration describes it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from vderain.errors import OptionError
from vderain.training.data.layouts.readers import LAYOUTS


@dataclass(frozen=True, slots=True)
class Source:
    """A folder to train on, as a table of the configuration.

    Attributes:
        path: below the data folder.
        reader: one of LAYOUTS, or auto.
        share: how often its samples are drawn, relative to the other sources.
        frames: taken of each clip, spread over it: neighbours teach a per-frame network little.
        clean_side: of files that show a pair side by side; Rain800's are clean on the left.
        backgrounds: folder of the clean images, where they are elsewhere (RainCityscapes).
        upside_down: whether pairs may be put upside down, for rain at any angle; None as suits the layout.
        part: "1/2" takes the first of every two files, "2/2" the second, clips as a whole: so one folder gives
            the rainy side of some scenes and the clean side of others.
        rendered: render rain on clean images, for the rainy side of unpaired training.
        without: names of files to leave out, say of scenes that the other side of unpaired training shows.

    """

    path: str = ""
    reader: str = "auto"
    share: float = 1.0
    frames: int = 24
    clean_side: str = "left"
    backgrounds: str = ""
    upside_down: bool | None = None
    part: str = "1/1"
    rendered: bool = False
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.reader != "auto" and self.reader not in LAYOUTS:
            raise OptionError(f"reader {self.reader}: choose auto or one of {', '.join(LAYOUTS)}")
        if self.clean_side not in ("left", "right"):
            raise OptionError(f"clean_side {self.clean_side}: choose left or right")
        if not 0 < self.share < math.inf or self.frames < 1:
            raise OptionError("share must be above 0 and finite, and frames at least 1")
        number, count = self.parts
        if not 1 <= number <= count:
            raise OptionError(f'part {self.part}: write "2/3" for the second of every three files')

    @property
    def parts(self) -> tuple[int, int]:
        """Which of how many parts; (0, 0) for what is no part."""
        match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", self.part)
        return (int(match[1]), int(match[2])) if match else (0, 0)

    @classmethod
    def from_table(cls, name: str, table: Mapping[str, Any]) -> Source:
        """From a TOML table; OptionError, naming the source, for settings that do not exist or fit."""
        defaults = {item.name: item.default for item in fields(cls)}
        if unknown := sorted(set(table) - set(defaults)):
            raise OptionError(
                f"source {name}: unknown settings {', '.join(unknown)}; known are {', '.join(defaults)}"
            )
        table = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
        for key, value in table.items():
            kind = bool if defaults[key] is None else type(defaults[key])
            if type(value) is not kind and not (kind is float and type(value) is int):
                kind_name = "list" if kind is tuple else kind.__name__
                raise OptionError(
                    f"source {name}: {key} must be of type {kind_name}, got {value!r}"
                )
        try:
            source = cls(**table)
        except OptionError as error:
            raise OptionError(f"source {name}: {error}") from None
        if not source.path and source.reader != "charts":
            raise OptionError(
                f'source {name}: path is missing; name a folder, "." is the data folder itself'
            )
        return source
