"""The network between planes: the decoder's samples in, the change in sample steps out.

Only the change is converted, so no image is ever resampled or rounded, and where the network finds no
rain the planes stay bit-identical. Two forms compute the same: ``PlanesNetwork`` goes through RGB and
serves as the reference; ``PackedNetwork`` folds colour matrix, chroma resampling and pixel-unshuffle into
the first and the last convolutions, so that no RGB ever exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vderain.frames import RGB_LUMA_WEIGHTS, PlaneFormat
from vderain.network.base import ChangeNetwork
from vderain.network.inference.fold import ContextForm, convolution_like, fold
from vderain.network.samples import rgb_from_samples, samples_from_rgb
from vderain.network.semi_drdnet import Branch, SemiDRDNet


class PlanesNetwork(nn.Module):
    """A network behind explicit conversion to RGB and back.

    Input: the planes (1, 1, H, W) of a ``Clip`` in any real dtype. Output: the change of the frame's planes in
    sample steps, in the network's dtype. The change is clamped so that no RGB value leaves [0, 1], or moves
    further out where it lies outside already.
    """

    to_rgb: Tensor
    offsets: Tensor
    to_samples: Tensor

    def __init__(self, network: ChangeNetwork, fmt: PlaneFormat, *, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.fmt = fmt
        self._padded = fmt.padded(multiple).plane_shapes
        matrix, offsets = rgb_from_samples(fmt)
        self.register_buffer("to_rgb", torch.from_numpy(matrix).float())
        self.register_buffer("offsets", torch.from_numpy(offsets).float())
        self.register_buffer("to_samples", torch.from_numpy(samples_from_rgb(fmt)).float())

    def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
        """The frame's P planes, its neighbours' luma -> P changes."""
        shapes = self.fmt.plane_shapes
        current, neighbours = planes[: len(shapes)], planes[len(shapes) :]
        rgb = self._rgb(current)
        seen = [rgb]
        if neighbours:
            seen += [
                self.to_rgb[0, 0] * _replicated(one, self._padded[0]).to(self.to_rgb.dtype)
                for one in _differences(current, neighbours, self.fmt)
            ]
        change = self.network.change(torch.cat(seen, 1))
        change = change.maximum((-rgb).clamp(max=0)).minimum((1 - rgb).clamp(min=0))
        changes = F.conv2d(change, self.to_samples[:, :, None, None])
        sx, sy = self.fmt.subsampling
        parts = list(torch.split(changes, 1, 1))
        if sx * sy > 1:
            parts[1:] = [F.avg_pool2d(part, (sy, sx)) for part in parts[1:]]
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

    pack_neighbours: Tensor

    def __init__(self, network: SemiDRDNet, fmt: PlaneFormat, context: ContextForm = "sum") -> None:
        super().__init__()
        if not packable(network.config.unshuffle, fmt):
            raise ValueError(f"unshuffle {network.config.unshuffle} cannot pack {fmt}")
        self.fmt = fmt
        self.unshuffle = network.config.unshuffle
        self._padded = fmt.padded(network.config.multiple).plane_shapes
        folded = fold(network, context)
        mix = _pack_matrix(fmt, self.unshuffle)
        unmix = _unpack_matrix(fmt, self.unshuffle)
        self.fusion = folded.fusion
        if self.fusion is not None:
            # Differences stay in samples: what is multiplied by them takes the scale.
            unit = float(rgb_from_samples(fmt)[0][0, 0])
            self.fusion.steepness *= unit
            differences = network.config.seen_channels - 3
            identity = unit * np.eye(differences * self.unshuffle**2)
            mix = np.pad(mix, [(0, side) for side in identity.shape])
            mix[-len(identity) :, -len(identity) :] = identity
        self.rain = _packed_branch(folded.rain, mix, -unmix)
        self.detail = _packed_branch(folded.detail, mix, unmix)
        self.offsets = [float(offset) for offset in rgb_from_samples(fmt)[1]]
        # Made here and not in ``forward``: a CUDA graph takes no copies from the host.
        for index, (rows, columns) in enumerate(self._blocks()):
            self.register_buffer(f"pack{index}", _packing(1, rows, columns), persistent=False)
        if self.fusion is not None:
            neighbours = _packing(network.config.seen_frames - 1, self.unshuffle, self.unshuffle)
            self.register_buffer("pack_neighbours", neighbours, persistent=False)

    def forward(self, *planes: Tensor) -> tuple[Tensor, ...]:
        """The frame's P planes, its neighbours' luma -> P changes."""
        blocks = self._blocks()
        current, neighbours = planes[: len(blocks)], planes[len(blocks) :]
        x = self._packed(current)
        if self.fusion is None:
            parts = self._parts(self.rain(x) + self.detail(x))
        else:
            lumas = _differences(current, neighbours, self.fmt)
            padded = torch.cat([_replicated(luma, self._padded[0]) for luma in lumas], 1)
            differences = _space_to_depth(padded.to(x.dtype), self.pack_neighbours, blocks[0])
            x, fused = self.fusion.before_branches(x, differences)
            features = self.rain.features(x)
            parts = self._parts(self.rain.tail(features) + self.detail(x))
            fused = self.fusion.after_branches(differences, fused, self.fusion.features(features))
            brightened = len(parts) if self.fmt.layout == "rgb" else 1
            parts[:brightened] = [part + fused for part in parts[:brightened]]
        return tuple(
            _cropped(_depth_to_space(part, by, bx), shape)
            for part, (by, bx), shape in zip(parts, blocks, self.fmt.plane_shapes, strict=True)
        )

    def _parts(self, change: Tensor) -> list[Tensor]:
        """A packed change, plane by plane."""
        return list(torch.split(change, [by * bx for by, bx in self._blocks()], 1))

    def _packed(self, planes: tuple[Tensor, ...]) -> Tensor:
        """The planes of a frame without their offsets, padded and packed, side by side."""
        dtype = self.rain.tail.weight.dtype
        packed = []
        for index, (plane, offset, size, block) in enumerate(
            zip(planes, self.offsets, self._padded, self._blocks(), strict=True)
        ):
            shifted = plane.to(torch.float32) - offset if offset else plane.to(torch.float32)
            kernel = self.get_buffer(f"pack{index}")
            packed.append(_space_to_depth(_replicated(shifted, size).to(dtype), kernel, block))
        return torch.cat(packed, 1)

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


def _differences(
    current: tuple[Tensor, ...], neighbours: tuple[Tensor, ...], fmt: PlaneFormat
) -> Iterator[Tensor]:
    """Neighbours' luma minus the frame's, float32, in samples.

    Of whole numbers where there are more than a half holds: the difference of rounded samples would be rounding.
    """
    exact = torch.float32 if fmt.bit_depth == 8 else torch.int32
    own = current[0].to(exact)
    if fmt.layout == "rgb":
        channels = zip(RGB_LUMA_WEIGHTS, current, strict=True)
        red, green, blue = (weight * plane.to(torch.float32) for weight, plane in channels)
        own = (red + green + blue).round().to(exact)
    for luma in neighbours:
        yield (luma.to(exact) - own).to(torch.float32)


def _packed_branch(branch: Branch, mix: npt.NDArray[Any], unmix: npt.NDArray[Any]) -> Branch:
    """Let a folded branch read and write packed samples, in place; float64 throughout."""
    head, tail = branch.head[0], branch.tail
    assert isinstance(head, nn.Conv2d) and head.bias is not None and tail.bias is not None
    inward = torch.from_numpy(mix)
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


def _packing(count: int, rows: int, columns: int) -> Tensor:
    """The kernel that packs ``count`` planes: (count * rows * columns, count, rows, columns), of ones and zeros."""
    area = rows * columns
    kernel = torch.eye(count)[:, None, :, None] * torch.eye(area)[None, :, None]
    return kernel.reshape(count * area, count, rows, columns)


def _space_to_depth(planes: Tensor, packing: Tensor, block: tuple[int, int]) -> Tensor:
    """(1, P, H, W) -> (1, P * rows * columns, H / rows, W / columns), plane by plane.

    A convolution, since compilers keep its layout for those that follow.
    """
    return F.conv2d(planes, packing, stride=block)


def _depth_to_space(packed: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of ``_space_to_depth``."""
    if rows == columns:
        return F.pixel_shuffle(packed, rows) if rows > 1 else packed
    height, width = packed.shape[2:]
    split = packed.reshape(1, rows, columns, height, width)
    return split.permute(0, 3, 1, 4, 2).reshape(1, 1, height * rows, width * columns)
