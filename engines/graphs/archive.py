"""The file of graphs next to a weights file: ``mine.openvino`` next to ``mine.safetensors``.

A tar file under LZMA, since its graphs share most of their numbers. It holds the graphs, the digest of the
weights and the network's predictions for the images of the self-check. 8-bit 4:2:0 in BT.601 and BT.709 has
graphs of its own, which read the planes as they are; other formats use the graph of the change in RGB.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vderain.engines.graphs.planes import between_planes, with_sample_types
from vderain.engines.graphs.runtime import read_ir, widened
from vderain.errors import WeightsError
from vderain.files import write_whole
from vderain.frames import Matrix, PlaneFormat
from vderain.network.card import Card
from vderain.network.config import CONFIGS

SUFFIX = ".openvino"
RGB = "rgb"  # the graph of the change in RGB
SCHEMA = 1

Predictions = Mapping[str, npt.NDArray[np.float16]]
"""Name of an image of the self-check -> the change of its stack in RGB, (3, H, W)."""

_ABOUT = "about.json"
_OWN_MATRICES: tuple[Matrix, ...] = ("bt601", "bt709")


@dataclass(frozen=True, slots=True)
class GraphFile:
    """The graphs of one network. ``graphs`` holds (XML, weights) by name, see ``graph_name``."""

    graphs: Mapping[str, tuple[bytes, bytes]]
    predictions: Predictions

    def change_model(self, ov: Any, core: Any) -> Any:
        """The network's change in RGB, in float32: (1, C, H, W) -> (1, 3, H, W) of any size."""
        return self._read(ov, core, RGB)

    def planes_model(
        self, ov: Any, core: Any, fmt: PlaneFormat, seen_frames: int, *, int8: bool
    ) -> Any:
        """The network between the planes of a format, of any size that needs no padding.

        Raises WeightsError where the file has no graph for it.
        """
        own = graph_name(fmt, int8=int8)
        if own in self.graphs:
            return with_sample_types(ov, self._read(ov, core, own), fmt)
        return between_planes(ov, self._read(ov, core, rgb_name(int8=int8)), fmt, seen_frames)

    def _read(self, ov: Any, core: Any, name: str) -> Any:
        if name not in self.graphs:
            raise WeightsError(
                f"the graphs next to the weights have no {name}; vderain export --graphs makes them again"
            )
        return widened(ov, read_ir(core, *self.graphs[name]))


def graph_path(weights: Path) -> Path:
    """The path of the graphs of a weights file."""
    return weights.with_suffix(SUFFIX)


def own_formats() -> list[PlaneFormat]:
    """One format, of any size, for each kind that has a graph of its own and that the network can pack."""
    return [
        PlaneFormat("yuv420", 64, 64, 8, matrix, full_range)
        for matrix in _OWN_MATRICES
        for full_range in (False, True)
    ]


def graph_name(fmt: PlaneFormat, *, int8: bool) -> str:
    """The name of the graph between a format's planes; not every format has such a graph."""
    span = "full" if fmt.full_range else "limited"
    name = f"{fmt.layout}-{fmt.bit_depth}-{fmt.matrix}-{span}"
    return f"int8-{name}" if int8 else name


def rgb_name(*, int8: bool) -> str:
    """The name of the graph of the change in RGB."""
    return f"int8-{RGB}" if int8 else RGB


def write_graphs(weights: Path, card: Card, file: GraphFile) -> Path:
    """Write the graphs of a weights file next to it, whole or not at all. Raises OSError."""
    members = {_ABOUT: json.dumps(_about(card), indent=2).encode()}
    for name, prediction in file.predictions.items():
        stream = io.BytesIO()
        np.save(stream, prediction, allow_pickle=False)
        members[f"{name}.npy"] = stream.getvalue()
    for name, (xml, numbers) in file.graphs.items():
        members[f"{name}.xml"], members[f"{name}.bin"] = xml, numbers
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    path = graph_path(weights)
    write_whole(path, lzma.compress(tar.getvalue(), preset=9))
    return path


def graphs_state(weights: Path, card: Card) -> tuple[str, str]:
    """(sha256 of the graphs next to a weights file, why they cannot be used); one of them is "".

    Reads only the beginning of the file.
    """
    path = graph_path(weights)
    try:
        data = path.read_bytes()
        with tarfile.open(fileobj=io.BytesIO(data), mode="r|xz") as archive:
            about = _member(archive, archive.next())
        _check(json.loads(about), card)
    except FileNotFoundError:
        return "", f"{path} is missing"
    except _StaleError as error:
        return "", f"{path} {error}"
    except _DAMAGED as error:
        return "", f"{path} is damaged ({error})"
    return hashlib.sha256(data).hexdigest(), ""


def read_graphs(weights: Path) -> GraphFile:
    """The graphs next to a weights file; WeightsError where they are damaged."""
    path = graph_path(weights)
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(path, mode="r:xz") as archive:
            for member in archive:
                members[member.name] = _member(archive, member)
        predictions = {
            name.removesuffix(".npy"): np.load(io.BytesIO(data), allow_pickle=False)
            for name, data in members.items()
            if name.endswith(".npy")
        }
        graphs = {
            name.removesuffix(".xml"): (data, members[f"{name.removesuffix('.xml')}.bin"])
            for name, data in members.items()
            if name.endswith(".xml")
        }
    except _DAMAGED as error:
        raise WeightsError(
            f"{path}: damaged ({error}); install it again, or make it with vderain export --graphs"
        ) from None
    return GraphFile(graphs, predictions)


class _StaleError(Exception):
    """The graphs belong to other weights."""


_DAMAGED = (
    OSError,
    tarfile.TarError,
    lzma.LZMAError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
)


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo | None) -> bytes:
    stream = archive.extractfile(member) if member is not None else None
    if stream is None:
        raise ValueError("not a file of graphs")
    return stream.read()


def _about(card: Card) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "weights": card.sha256,
        "network": card.network,
        "config": card.config.to_dict(),
        "int8": {name: list(limits) for name, limits in card.int8.items()},
    }


def _check(about: dict[str, Any], card: Card) -> None:
    """Raise _StaleError unless the graphs were made of a card's weights, in the current form."""
    if about["schema"] != SCHEMA:
        raise _StaleError("was written by another version of vderain")
    config = CONFIGS[about["network"]].from_dict(about["config"])
    int8 = {name: tuple(limits) for name, limits in about["int8"].items()}
    if (about["weights"], config, int8) != (card.sha256, card.config, dict(card.int8)):
        raise _StaleError("was made of other weights")
