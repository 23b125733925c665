"""Recipes: configurations of several stages, each of which begins with the weights of the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vderain.errors import OptionError
from vderain.network.config import NetworkConfig
from vderain.training.config.base import read_run
from vderain.training.config.methods import AnyTrainConfig, config_from, load_config
from vderain.training.config.settings import overridden


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a recipe: a run, or the mean of the weights of stages before it.

    Attributes:
        name: as the recipe calls it; part of its folder's name.
        config: of the run; None for a mean.
        average: the share of each earlier stage in the mean, by name; they add up to 1.
        trust: by how much more than in that mean the temporal median is trusted, added before the sigmoid of
            its weight (``MedianFusion.trust_more``).

    """

    name: str
    config: AnyTrainConfig | None
    average: tuple[tuple[str, float], ...] = ()
    trust: float = 0.0


def load_stages(path: Path, overrides: Sequence[str] = (), **values: Any) -> list[Stage]:
    """The stages of a TOML file, or of a shipped one by its name; none where it describes a single run.

    Every ``[[stage]]`` has a ``name``, and settings that override those of the file itself, or a table
    ``average`` of earlier stages' names and shares, and with it a number ``trust``. ``values`` override the
    settings of the file and of its stages, except that ``steps`` are those of all stages together, in the
    file's proportions; "name=value" texts override all stages, "STAGE.name=value" one.

    Raises OptionError for a file that cannot be read, and for names and values that cannot be used.
    """
    steps = values.pop("steps", None)
    method, settings = read_run(path, (), **values)
    tables = settings.pop("stage", None)
    if tables is None:
        return []
    if not isinstance(tables, list) or not tables:
        raise OptionError(f"{path}: write every stage as a table [[stage]]")
    names = [_name(table, number, path) for number, table in enumerate(tables, 1)]
    if len(set(names)) < len(names):
        raise OptionError(f"{path}: two stages have one name ({', '.join(names)})")
    stages: list[Stage] = []
    for name, table in zip(names, tables, strict=True):
        own = {key: value for key, value in table.items() if key != "name"}
        if "average" in own:
            stages.append(_average(own, name, stages, path))
            continue
        merged = {**settings, **own, **values}
        merged = overridden(merged, _addressed(overrides, name, names))
        stages.append(Stage(name, config_from(method, merged, f"{path}, stage {name}")))
    if stages[0].config is None:
        raise OptionError(f"{path}: stage {names[0]}: the first stage cannot be an average")
    return stages if steps is None else _in_proportion(stages, steps)


def _in_proportion(stages: Sequence[Stage], steps: int) -> list[Stage]:
    """The stages with ``steps`` together, at least one each."""
    whole = sum(stage.config.steps for stage in stages if stage.config)
    scaled = []
    for stage in stages:
        config = stage.config
        if config is not None:
            config = replace(config, steps=max(1, round(steps * config.steps / whole)))
        scaled.append(replace(stage, config=config))
    return scaled


def load_recipe(path: Path, overrides: Sequence[str] = (), **values: Any) -> list[Stage]:
    """``load_stages``, or the single run as its only stage, without a name."""
    stages = load_stages(path, overrides, **values)
    return stages or [Stage("", load_config(path, overrides, **values))]


def _name(table: Any, number: int, path: Path) -> str:
    name = table.get("name") if isinstance(table, Mapping) else None
    if not isinstance(name, str) or not name.isidentifier():
        raise OptionError(f"{path}: stage {number}: give it a name of letters, digits and _")
    return name


def _average(table: Mapping[str, Any], name: str, earlier: Sequence[Stage], path: Path) -> Stage:
    shares, trust, where = table["average"], table.get("trust", 0.0), f"{path}: stage {name}"
    if set(table) - {"average", "trust"} or not isinstance(shares, Mapping) or not shares:
        raise OptionError(
            f"{where}: an average is one table of stages and shares, next to it only trust"
        )
    if unknown := sorted(set(shares) - {stage.name for stage in earlier}):
        raise OptionError(f"{where}: {', '.join(unknown)}: no stage before it has that name")
    if any(type(share) not in (int, float) for share in (*shares.values(), trust)):
        raise OptionError(f"{where}: shares and trust are numbers, got {dict(table)}")
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise OptionError(f"{where}: shares must add up to 1, got {sum(shares.values()):g}")
    networks = [stage.config.network_config for stage in earlier if stage.config]
    if trust and not all(isinstance(n, NetworkConfig) and n.fusion == "median" for n in networks):
        raise OptionError(f"{where}: trust needs networks whose fusion is median")
    average = tuple((stage, float(share)) for stage, share in shares.items())
    return Stage(name, None, average, float(trust))


def _addressed(overrides: Sequence[str], name: str, names: Sequence[str]) -> list[str]:
    """The texts for one stage: those that name no stage, and its own without its name."""
    chosen = []
    for text in overrides:
        first, dot, rest = text.partition(".")
        if not dot or first not in names:
            chosen.append(text)
        elif first == name:
            chosen.append(rest)
    return chosen
