"""The network between planes: the decoder's samples in, the change in sample steps out.

Only the change is converted, so no picture is ever resampled or rounded, and where the network finds no
rain the planes stay bit-identical. Two forms compute the same: ``PlanesNetwork`` goes through RGB and
serves as the reference; ``PackedNetwork`` folds colour matrix, chroma resampling and pixel-unshuffle into
the first and the last convolutions, so that no RGB ever exists.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vderain.frames import LUMA_WEIGHTS, PlaneFormat
from vderain.network.fold import ContextForm, convolution_like, fold
from vderain.network.semi_drdnet import Branch, SemiDRDNet


def rgb_from_samples(fmt: PlaneFormat) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Matrix (3, P) and offsets (P,), float64: RGB in [0, 1] = matrix @ (samples - offsets)."""
    planes = len(fmt.plane_shapes)
    if fmt.layout == "rgb":
        return np.eye(3) / fmt.peak, np.zeros(3)
    kr, kb = LUMA_WEIGHTS[fmt.matrix]
    kg = 1 - kr - kb
    matrix = np.array(
        [
            [1, 0, 2 * (1 - kr)],
            [1, -2 * (1 - kb) * kb / kg, -2 * (1 - kr) * kr / kg],
            [1, 2 * (1 - kb), 0],
        ]
    )
    unit = 1 << (fmt.bit_depth - 8)
    luma, chroma = (fmt.peak, fmt.peak) if fmt.full_range else (219 * unit, 224 * unit)
    offsets = np.array([0 if fmt.full_range else 16 * unit, 128 * unit, 128 * unit], np.float64)
    scaled: npt.NDArray[Any] = matrix / np.array([luma, chroma, chroma])
    return scaled[:, :planes], offsets[:planes]


def samples_from_rgb(fmt: PlaneFormat) -> npt.NDArray[Any]:
    """Matrix (P, 3), float64: change in sample steps = matrix @ change in RGB."""
    planes = len(fmt.plane_shapes)
    if planes == 3:
        return np.asarray(np.linalg.inv(rgb_from_samples(fmt)[0]))
    kr, kb = LUMA_WEIGHTS[fmt.matrix]
    scale = rgb_from_samples(fmt)[0][0, 0]
    return np.array([[kr, 1 - kr - kb, kb]]) / float(scale)


class PlanesNetwork(nn.Module):
    """A network behind explicit conversion to RGB and back.

    Input: for each of T frames its planes (1, 1, H, W) in any real dtype, oldest first. Output: the change
    of the centre frame's planes in sample steps, in the network's dtype. The change is clamped so
    that no RGB value leaves [0, 1], or moves further out where it lies outside already. ``network`` has
    ``change``: (N, 3T, H, W) RGB in [0, 1] -> the change of the centre frame, (N, 3, H, W).
    """

    to_rgb: Tensor
    offsets: Tensor
    to_samples: Tensor

    def __init__(
        self, network: nn.Module, fmt: PlaneFormat, *, multiple: int, frames: int = 1
    ) -> None:
        super().__init__()
        self.network = network
        self.fmt = fmt
        self.frames = frames
        self._padded = fmt.padded(multiple).plane_shapes
        matrix, offsets = rgb_from_samples(fmt)
        self.register_buffer("to_rgb", torch.from_numpy(matrix).float())
        self.register_buffer("offsets", torch.from_numpy(offsets).float())
        self.register_buffer("to_samples", torch.from_numpy(samples_from_rgb(fmt)).float())

    def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
        """T * P planes -> P changes."""
        count = len(self.fmt.plane_shapes)
        pictures = [self._rgb(planes[i : i + count]) for i in range(0, len(planes), count)]
        change = self.network.change(torch.cat(pictures, 1))  # type: ignore[operator]
        rainy = pictures[self.frames // 2]
        change = change.maximum((-rainy).clamp(max=0)).minimum((1 - rainy).clamp(min=0))
        changes = F.conv2d(change, self.to_samples[:, :, None, None])
        sx, sy = self.fmt.subsampling
        parts = list(torch.split(changes, 1, 1))
        if sx * sy > 1:
            parts[1:] = [F.avg_pool2d(part, (sy, sx)) for part in parts[1:]]
        shapes = self.fmt.plane_shapes
        return tuple(_cropped(part, shape) for part, shape in zip(parts, shapes, strict=True))

    def _rgb(self, planes: tuple[Tensor, ...]) -> Tensor:
        """The planes of one frame -> (1, 3, padded H, padded W)."""
        sx, sy = self.fmt.subsampling
        dtype = self.to_rgb.dtype
        full = [
            _replicated(plane.to(torch.float32) - offset, size).to(dtype)
            for plane, offset, size in zip(planes, self.offsets, self._padded, strict=True)
        ]
        full[1:] = [c.repeat_interleave(sy, 2).repeat_interleave(sx, 3) for c in full[1:]]
        return F.conv2d(torch.cat(full, 1), self.to_rgb[:, :, None, None])


class PackedNetwork(nn.Module):
    """An unshuffled SemiDRDNet whose outer convolutions read and write packed planes (ours).

    Same input and output as ``PlanesNetwork``; equal to it within float rounding, except that nothing is
    clamped in RGB: ``apply_change`` bounds the samples instead. The two differ only where a change pushes
    one colour of a dark or saturated pixel out of RGB, most of which a player's own clipping undoes.
    Offsets are subtracted before the zero padding of the first convolution, so that borders are equal
    too. Traced with a format that needs no padding, neither form's graph depends on the planes' size.
    """

    spread: Tensor

    def __init__(self, network: SemiDRDNet, fmt: PlaneFormat, context: ContextForm = "sum") -> None:
        super().__init__()
        if not packable(network.config.unshuffle, fmt):
            raise ValueError(f"unshuffle {network.config.unshuffle} cannot pack {fmt}")
        self.fmt = fmt
        self.frames = network.config.frames
        self.unshuffle = network.config.unshuffle
        self._padded = fmt.padded(network.config.multiple).plane_shapes
        folded = fold(network, context)
        mix = _pack_matrix(fmt, self.unshuffle)
        unmix = _unpack_matrix(fmt, self.unshuffle)
        self.rain = _packed_branch(folded.rain, mix, -unmix, self.frames)
        self.detail = _packed_branch(folded.detail, mix, unmix, self.frames)
        self.gates = folded.gates
        if self.gates is not None:
            self.register_buffer("spread", _gate_matrix(fmt, self.unshuffle, self.frames - 1))
        self.offsets = [float(offset) for offset in rgb_from_samples(fmt)[1]] * self.frames

    def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
        """T * P planes -> P changes."""
        blocks = self._blocks()
        shifted = (
            plane.to(torch.float32) - offset if offset else plane.to(torch.float32)
            for plane, offset in zip(planes, self.offsets, strict=True)
        )
        x = self._packed(shifted, blocks * self.frames)
        features = self.rain.features(x)
        change = self.rain.tail(features) + self.detail(x)
        if self.gates is not None:
            change = change + self._taken_over(planes, torch.sigmoid(self.gates(features)))
        parts = torch.split(change, [by * bx for by, bx in blocks], 1)
        return tuple(
            _cropped(_depth_to_space(part, by, bx), shape)
            for part, (by, bx), shape in zip(parts, blocks, self.fmt.plane_shapes, strict=True)
        )

    def _packed(self, planes: Iterable[Tensor], blocks: list[tuple[int, int]]) -> Tensor:
        """Planes padded and packed, side by side."""
        dtype = self.rain.tail.weight.dtype
        sizes = self._padded * self.frames
        return torch.cat(
            [
                _space_to_depth(_replicated(plane, size).to(dtype), by, bx)
                for plane, size, (by, bx) in zip(planes, sizes, blocks, strict=False)
            ],
            1,
        )

    def _taken_over(self, planes: tuple[Tensor, ...], gates: Tensor) -> Tensor:
        """What the gates bring from the neighbours, packed; chroma by the mean of the gates over it.

        Differences are taken of whole numbers: those of rounded samples would be rounding.
        """
        count = len(self.fmt.plane_shapes)
        pictures = [planes[i : i + count] for i in range(0, len(planes), count)]
        current = pictures.pop(len(pictures) // 2)
        differences = (
            (plane.to(torch.int32) - own.to(torch.int32)).to(torch.float32)
            for picture in pictures
            for plane, own in zip(picture, current, strict=True)
        )
        brought = self._packed(differences, self._blocks() * len(pictures))
        brought = brought * F.conv2d(gates, self.spread)
        return torch.stack(brought.chunk(len(pictures), 1)).sum(0)

    def _blocks(self) -> list[tuple[int, int]]:
        """Samples (rows, columns) of each plane in one packed position."""
        sx, sy = self.fmt.subsampling
        chroma = (self.unshuffle // sy, self.unshuffle // sx)
        return [(self.unshuffle, self.unshuffle), *[chroma] * (len(self.fmt.plane_shapes) - 1)]


def packable(unshuffle: int, fmt: PlaneFormat) -> bool:
    """Whether the outer convolutions of a network can absorb this format."""
    sx, sy = fmt.subsampling
    return unshuffle > 1 and unshuffle % sx == 0 and unshuffle % sy == 0


def _pack_matrix(fmt: PlaneFormat, s: int) -> npt.NDArray[Any]:
    """(3 s s, packed channels): unshuffled RGB = matrix @ packed samples, offsets subtracted."""
    matrix, _ = rgb_from_samples(fmt)
    sx, sy = fmt.subsampling
    rows, columns = np.divmod(np.arange(s * s), s)
    blocks = [np.eye(s * s)]
    if matrix.shape[1] == 3:
        cell = (rows // sy) * (s // sx) + columns // sx  # the chroma sample over each pixel
        nearest = np.eye(s * s // (sx * sy))[cell]
        blocks += [nearest, nearest]
    return np.concatenate([np.kron(matrix[:, [p]], block) for p, block in enumerate(blocks)], 1)


def _unpack_matrix(fmt: PlaneFormat, s: int) -> npt.NDArray[Any]:
    """(packed channels, 3 s s): packed change = matrix @ unshuffled change in RGB; chroma is averaged."""
    matrix = samples_from_rgb(fmt)
    sx, sy = fmt.subsampling
    rows, columns = np.divmod(np.arange(s * s), s)
    blocks = [np.eye(s * s)]
    if matrix.shape[0] == 3:
        cell = (rows // sy) * (s // sx) + columns // sx
        mean = np.eye(s * s // (sx * sy))[cell].T / (sx * sy)
        blocks += [mean, mean]
    return np.concatenate([np.kron(matrix[[p]], block) for p, block in enumerate(blocks)], 0)


def _gate_matrix(fmt: PlaneFormat, s: int, neighbours: int) -> Tensor:
    """(neighbours * packed channels, neighbours * s s, 1, 1): gates of pixels -> of packed samples."""
    sx, sy = fmt.subsampling
    rows, columns = np.divmod(np.arange(s * s), s)
    blocks = [np.eye(s * s)]
    if len(fmt.plane_shapes) == 3:
        cell = (rows // sy) * (s // sx) + columns // sx
        blocks += [np.eye(s * s // (sx * sy))[cell].T / (sx * sy)] * 2
    spread = np.kron(np.eye(neighbours), np.concatenate(blocks, 0))
    return torch.from_numpy(spread).float()[..., None, None]


def _packed_branch(
    branch: Branch, mix: npt.NDArray[Any], unmix: npt.NDArray[Any], frames: int
) -> Branch:
    """Let a folded branch read and write packed samples, in place; float64 throughout."""
    head, tail = branch.head[0], branch.tail
    assert isinstance(head, nn.Conv2d) and head.bias is not None and tail.bias is not None
    inward = torch.from_numpy(np.kron(np.eye(frames), mix))
    weight = torch.einsum("ouhw,up->ophw", head.weight.double(), inward)
    branch.head[0] = convolution_like(head, weight, head.bias)
    outward = torch.from_numpy(unmix)
    weight = torch.einsum("pu,uihw->pihw", outward, tail.weight.double())
    branch.tail = convolution_like(tail, weight, outward @ tail.bias.double())
    return branch


def _replicated(plane: Tensor, size: tuple[int, int]) -> Tensor:
    """Grow (1, 1, H, W) to ``size`` by repeating the last row and column."""
    below, right = size[0] - plane.shape[2], size[1] - plane.shape[3]
    return F.pad(plane, (0, right, 0, below), mode="replicate") if below or right else plane


def _cropped(plane: Tensor, shape: tuple[int, int]) -> Tensor:
    """The inverse of ``_replicated``."""
    height, width = shape
    return plane if tuple(plane.shape[2:]) == shape else plane[:, :, :height, :width]


def _space_to_depth(plane: Tensor, rows: int, columns: int) -> Tensor:
    """(1, 1, H, W) -> (1, rows * columns, H / rows, W / columns)."""
    if rows == columns:
        return F.pixel_unshuffle(plane, rows) if rows > 1 else plane
    height, width = plane.shape[2] // rows, plane.shape[3] // columns
    split = plane.reshape(1, height, rows, width, columns)
    return split.permute(0, 2, 4, 1, 3).reshape(1, rows * columns, height, width)


def _depth_to_space(packed: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of ``_space_to_depth``."""
    if rows == columns:
        return F.pixel_shuffle(packed, rows) if rows > 1 else packed
    height, width = packed.shape[2:]
    split = packed.reshape(1, rows, columns, height, width)
    return split.permute(0, 3, 1, 4, 2).reshape(1, 1, height * rows, width * columns)
