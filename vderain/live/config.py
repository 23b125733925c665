"""CAMERAS.toml: many cameras, their outputs, and options for all or for one."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from vderain.errors import OptionError, respell
from vderain.live.options import ENCODE_FOR_FILES, LiveOptions
from vderain.live.station import CameraPlan
from vderain.media.io.urls import is_url, shown
from vderain.options import EncodeOptions, EngineOptions

Options = TypeVar("Options", EngineOptions, EncodeOptions, LiveOptions)
_CAMERA_KEYS = ("name", "url", "url_env", "outputs")
_SHARED_KEYS = ("engine_timeout",)  # of [live], but about the engine, which all cameras share


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """What a process runs: its cameras, and the engine that they share."""

    cameras: tuple[CameraPlan, ...]
    engine: EngineOptions


def read_config(
    path: Path, *, engine: EngineOptions, encode: EncodeOptions, live: LiveOptions
) -> ServeConfig:
    """Read CAMERAS.toml over the options of the command line.

    ``[engine]`` is for all; ``[live]`` and ``[encode]`` are for all cameras, and their keys in a
    ``[[camera]]`` for that one, except ``engine_timeout``: the engine is shared. Keys are the flags
    of the command line with ``_`` for ``-``. ``url_env`` names a variable that holds the address, for
    passwords. Raises OptionError.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OptionError(f"{path}: is not TOML: {error}") from None
    for key in data:
        if key not in ("engine", "live", "encode", "camera"):
            raise OptionError(f"{path}: {key} is not known; use engine, live, encode, camera")
    engine = _over(engine, _table(data, "engine", path), f"{path}: [engine]")
    live = _over(live, _table(data, "live", path), f"{path}: [live]")
    encode = _over(encode, _table(data, "encode", path), f"{path}: [encode]")
    cameras = data.get("camera", [])
    if not isinstance(cameras, list) or not all(isinstance(each, dict) for each in cameras):
        raise OptionError(f"{path}: write each camera as [[camera]]")
    plans = tuple(
        _camera(table, index, path, live, encode) for index, table in enumerate(cameras, start=1)
    )
    if not plans:
        raise OptionError(f"{path}: names no camera; write [[camera]] with a url")
    return ServeConfig(plans, engine)


def _camera(
    table: dict[str, Any], index: int, path: Path, live: LiveOptions, encode: EncodeOptions
) -> CameraPlan:
    where = f"{path}: camera {table.get('name', index)}"
    url = table.get("url")
    if "url_env" in table:
        if "url" in table:
            raise OptionError(f"{where}: has url and url_env; keep one of them")
        if not isinstance(table["url_env"], str):
            raise OptionError(f"{where}: url_env is the name of a variable, a text")
        url = address_in(table["url_env"], where)
    if not isinstance(url, str) or not url:
        raise OptionError(f"{where}: has no url")
    outputs = table.get("outputs", [])
    if not isinstance(outputs, list) or not all(isinstance(each, str) for each in outputs):
        raise OptionError(f"{where}: outputs is a list of texts")
    own = {key: value for key, value in table.items() if key not in _CAMERA_KEYS}
    for key in _SHARED_KEYS:
        if key in own:
            raise OptionError(
                f"{where}: {key} is for all cameras, which share the engine; write it under [live]"
            )
    live_keys = [key for key in _keys(LiveOptions) if key not in _SHARED_KEYS]
    for_live = {key: value for key, value in own.items() if key in live_keys}
    for_encode = {key: value for key, value in own.items() if key not in for_live}
    name = str(table.get("name") or camera_name(url))
    return CameraPlan(
        name,
        url,
        tuple(outputs),
        _over(live, for_live, where),
        _over(encode, for_encode, where, also=(*live_keys, *_CAMERA_KEYS)),
    )


def address_in(variable: str, where: str) -> str:
    """The address that an environment variable holds; ``where`` names it. Raises OptionError."""
    address = os.environ.get(variable)
    if not address:
        raise OptionError(f"{where}: the environment variable {variable} is not set")
    return address


def camera_name(url: str) -> str:
    """What a camera without a name is called."""
    return shown(url) if is_url(url) else url


def _table(data: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    table = data.get(key, {})
    if not isinstance(table, dict):
        raise OptionError(f"{path}: write {key} as a table, [{key}]")
    return table


def _keys(options: type[Any]) -> dict[str, str]:
    """Keys of a file, the command line's flags, and the field that each sets."""
    names = [item.name for item in fields(options) if item.name not in ENCODE_FOR_FILES]
    return {name.removesuffix("_s"): name for name in names}


def _over(
    options: Options, table: Mapping[str, Any], where: str, *, also: tuple[str, ...] = ()
) -> Options:
    """``options`` with the values of a table in their place. Raises OptionError."""
    known: dict[str, str] = _keys(type(options))
    changes: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise OptionError(
                f"{where}: {key} is not known; use one of {', '.join([*known, *also])}"
            )
        now = getattr(options, known[key])
        wanted = (int, float) if isinstance(now, float) else type(now)
        wrong = now is not None and not isinstance(value, wanted)
        if wrong or (isinstance(value, bool) and not isinstance(now, bool)):
            raise OptionError(f"{where}: {key} = {value!r} has the wrong type")
        changes[known[key]] = value
    try:
        return replace(options, **changes)
    except OptionError as error:
        keys = {field: key for key, field in known.items()}
        text = respell(str(error), lambda name, value: keys.get(name) and f"{keys[name]} = {value}")
        raise OptionError(f"{where}: {text}") from None
    except TypeError:
        raise OptionError(f"{where}: a value has the wrong type") from None
