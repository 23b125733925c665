"""The template engine, and how values are written for people."""

from __future__ import annotations

import os
import unicodedata
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, **values: Any) -> Markup:
    """A page, a part of one or an SVG from a file of ``templates``; every value in it is escaped but Markup."""
    return Markup(
        _environment().get_template(template).render(values)
    )  # its values are escaped there


def shown(name: str) -> str:
    """A name of a file on one line: what cannot be seen, or is no text, is spelled out."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return "".join(
        character if character == " " or unicodedata.category(character)[0] not in "CZ"
        else character.encode("unicode_escape").decode()
        for character in text
    )  # fmt: skip


def duration(seconds: float) -> str:
    """``59.9 s``, ``1:02:03``."""
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def size(count: int) -> str:
    """A number of bytes: ``12 kB``, ``1.2 GB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit in ("B", "kB") else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"


def _link(path: str) -> str:
    """The address of a file next to the page, whatever its name."""
    return quote(os.fsencode(path))


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("vderain.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"shown": shown, "duration": duration, "size": size, "link": _link}
    return made
