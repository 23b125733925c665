"""How data sets name a rainy image and its background: from a path inside the folder to side and key.

Two files of one key belong together. As the archives and their authors' loaders name them: JORDER and PReNet
(Rain100, Rain200), DDN (Rain1400), SPANet (SPA-Data), RainCityscapes with Cityscapes, SPAC-CNN (NTURain).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

Side = Literal["rainy", "background"]
Key = tuple[object, ...]

_RAINY_FOLDERS = {"input", "rainy", "rain", "rainy_image", "data", "lq", "real_input", "real_world"}
_CLEAN_FOLDERS = {"target", "norain", "clean", "gt", "ground_truth", "groundtruth", "label"}
_CLEAN_FOLDERS |= {"no_rain", "real_gt", "real_world_gt"}


def by_folder(inside: Path) -> tuple[Side, Key] | None:
    """Equal names in two folders, such as ``input`` and ``target``, at any depth."""
    for depth, part in enumerate(inside.parts[:-1]):
        name = part.lower()
        if name in _RAINY_FOLDERS | _CLEAN_FOLDERS:
            key = inside.parts[:depth], inside.parts[depth + 1 : -1], inside.stem
            return "rainy" if name in _RAINY_FOLDERS else "background", key
    return None


def rain100(inside: Path) -> tuple[Side, Key] | None:
    """``rain-001`` with ``norain-001``; or ``norain-1`` (``norain-1x2``) in folders rain (rain/X2) and norain."""
    name = re.fullmatch(r"(no)?rain-(\d+)(x\d+)?", inside.stem)
    if name is None:
        return None
    folders = [part.lower() for part in inside.parts[:-1]]
    scales = {part for part in folders if re.fullmatch(r"x\d+", part)}
    is_rainy = name[1] is None or bool(({"rain", "rainy", "input"} | scales) & set(folders))
    own = {"rain", "rainy", "norain", "input", "target"} | scales
    where = tuple(part for part in folders if part not in own)
    return "rainy" if is_rainy else "background", (where, int(name[2]))


def rain1400(inside: Path) -> tuple[Side, Key] | None:
    """``rainy_image/900_14`` with ``ground_truth/900``: fourteen rains on each background."""
    found = by_folder(inside)
    if found is None or not {"rainy_image", "ground_truth"} & set(inside.parts):
        return None
    side, (before, after, stem) = found
    return side, (before, after, str(stem).rpartition("_")[0] if side == "rainy" else stem)


def spa(inside: Path) -> tuple[Side, Key] | None:
    """``rain/000`` with ``gt/000gt``; ``real_world`` with ``real_world_gt``, ``real_input`` with ``real_gt``."""
    found = by_folder(inside)
    is_real = any(part.startswith("real_") for part in inside.parts[:-1])
    if found is None or not (is_real or found[0] == "rainy" or inside.stem.endswith("gt")):
        return None
    side, (before, after, stem) = found
    return side, (before, after, re.sub(r"[_-]?gt$", "", str(stem)))


def rain_cityscapes(inside: Path) -> tuple[Side, Key] | None:
    """``ulm_000001_000019_leftImg8bit_rain_alpha_...`` with Cityscapes' ``ulm_000001_000019_leftImg8bit``."""
    scene, rain, _ = inside.stem.partition("_leftImg8bit_rain_")
    if rain:
        return "rainy", (scene,)
    scene, frame, rest = inside.stem.partition("_leftImg8bit")
    return ("background", (scene,)) if frame and not rest else None


def nturain(inside: Path) -> tuple[Side, Key] | None:
    """Frames of equal name in ``a1_Rain`` (several on one scene: ``t1_Rain_01``) and ``a1_GT``."""
    for depth, part in enumerate(inside.parts[:-1]):
        clip = re.fullmatch(r"(.+?)_(Rain|GT)(_.+)?", part)
        if clip:
            key = inside.parts[:depth], inside.parts[depth + 1 : -1], clip[1], inside.stem
            return "rainy" if clip[2] == "Rain" else "background", key
    return None
