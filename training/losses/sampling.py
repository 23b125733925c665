"""Non-local sampling of NLCL (arXiv 2203.11509): the patches of an image that look most alike, or least.

Shapes: N images, K centres per image, M locations per image. A location is the (row, column) of a
pixel, int64; a patch around it starts ``patch_px // 2`` pixels above and to the left.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vderain.errors import OptionError

_TINY_ENERGY = 1e-12  # keeps a chance for every patch of an image that is zero everywhere


def draw_centres(
    image: Tensor,
    count: int,
    *,
    patch_px: int = 16,
    busy: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Random locations whose patches lie inside the image, (N, count, 2) int64.

    Args:
        image: (N, C, H, W) float.
        count: locations per image, drawn independently.
        patch_px: side of a patch.
        busy: draw in proportion to the mean square of the patch (ours), for layers that are mostly empty.
        generator: on the CPU; torch's own where None.

    Raises OptionError where a patch does not fit the image.

    """
    rows, columns = _patch_grid(image, patch_px)
    if busy:
        energy = box_mean(at_least_float32(image).square().mean(1, keepdim=True), patch_px)
        weights = energy.flatten(1).cpu() + _TINY_ENERGY
        drawn = torch.multinomial(weights, count, replacement=True, generator=generator)
    else:
        drawn = torch.randint(rows * columns, (len(image), count), generator=generator)
    corners = torch.stack((drawn // columns, drawn % columns), -1)
    return (corners + patch_px // 2).to(image.device)


@torch.no_grad()
def non_local_neighbours(
    image: Tensor,
    centres: Tensor,
    *,
    count: int,
    patch_px: int = 16,
    window_px: int = 40,
    farthest: bool = False,
) -> Tensor:
    """The ``count`` patches around each centre that are closest to the centre's own, by squared distance.

    Candidates are the ``window_px`` x ``window_px`` patch positions around the centre, stride 1, less those
    that do not lie inside the image. The centre itself is one, so it comes first among the closest.

    Args:
        image: (N, C, H, W) float, any H and W that hold a patch.
        centres: (N, K, 2) int64, see ``draw_centres``.
        count: neighbours per centre.
        patch_px: side of a patch.
        window_px: side of the window of positions, from ``-window_px // 2`` on.
        farthest: the least similar patches instead (reverse sampling).

    Returns:
        Locations (N, K, count, 2) int64, best first.

    Raises OptionError where a patch does not fit, a centre lies too near a border, or a window holds fewer
    candidates than ``count``.

    """
    grid = _patch_grid(image, patch_px)
    corners = centres - patch_px // 2
    limits = corners.new_tensor(grid)
    if bool(((corners < 0) | (corners >= limits)).any()):
        raise OptionError(
            f"centres: a {patch_px}x{patch_px} patch around one of them leaves the image"
        )
    half = window_px // 2
    offsets = torch.arange(window_px, device=image.device) - half
    positions = corners[..., None] + offsets  # (N, K, 2, window)
    inside = (positions >= 0) & (positions < limits[:, None])
    allowed = inside[:, :, 0, :, None] & inside[:, :, 1, None, :]
    fewest = int(allowed.flatten(2).sum(2).min()) if allowed.numel() else count
    if count > fewest:
        raise OptionError(
            f"count {count}: a window of {window_px} px holds {fewest} patches of {patch_px} px here;"
            " ask for fewer or give larger crops"
        )
    distance = _window_distances(image, corners, patch_px, window_px)
    distance = distance.masked_fill(~allowed, -torch.inf if farthest else torch.inf)
    chosen = distance.flatten(2).topk(count, dim=2, largest=farthest).indices
    return centres[:, :, None] + torch.stack((chosen // window_px, chosen % window_px), -1) - half


def features_at(levels: Sequence[Tensor], locations: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """Feature vectors at pixels of the image that was encoded.

    Args:
        levels: feature maps (N, C_level, h, w) of any size; a location is scaled to each, per axis.
        locations: (N, M, 2) int64.
        size: (height, width) of the image.

    Returns:
        One (N, M, C_level) per level, in the levels' order.

    """
    vectors = []
    for level in levels:
        height, width = level.shape[2:]
        row = (2 * locations[..., 0] + 1) * height // (2 * size[0])
        column = (2 * locations[..., 1] + 1) * width // (2 * size[1])
        index = (row * width + column)[:, None].expand(-1, level.shape[1], -1)
        vectors.append(level.flatten(2).gather(2, index).transpose(1, 2))
    return vectors


def box_mean(values: Tensor, side_px: int) -> Tensor:
    """Mean of every square of ``side_px`` that fits, (N, C, H, W) -> (N, C, H - side + 1, W - side + 1)."""
    down = F.avg_pool2d(
        values, (side_px, 1), 1
    )  # one axis at a time costs 2 side instead of side^2
    return F.avg_pool2d(down, (1, side_px), 1)


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision as float32, anything else as it is."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _patch_grid(image: Tensor, patch_px: int) -> tuple[int, int]:
    rows, columns = (side - patch_px + 1 for side in image.shape[2:])
    if min(rows, columns) < 1:
        height, width = image.shape[2:]
        raise OptionError(f"patch_px {patch_px}: does not fit crops of {width}x{height}")
    return rows, columns


def _window_distances(image: Tensor, corners: Tensor, patch_px: int, window_px: int) -> Tensor:
    """Squared distances to all window positions, (N, K, window, window); those outside mean nothing."""
    half = window_px // 2
    padding = (half, window_px - half - 1) * 2
    padded = F.pad(at_least_float32(image), padding).permute(0, 2, 3, 1)
    side = torch.arange(window_px + patch_px - 1, device=image.device)
    row = (corners[..., 0, None] + side)[:, :, :, None]
    column = (corners[..., 1, None] + side)[:, :, None, :]
    sample = torch.arange(len(image), device=image.device)[:, None, None, None]
    region = padded[sample, row, column].permute(0, 1, 4, 2, 3)  # (N, K, C, side, side)
    own = slice(half, half + patch_px)
    # A distance does not change with a shift, and small values lose less to cancellation.
    region = region - region[..., own, own].mean((3, 4), keepdim=True)
    patch = region[..., own, own]
    energy = box_mean(region.square().sum(2), patch_px) * patch_px**2
    own_energy = patch.square().sum((2, 3, 4))[..., None, None]
    return energy + own_energy - 2 * _correlation(region, patch, window_px)


def _correlation(region: Tensor, patch: Tensor, window_px: int) -> Tensor:
    """Sum over channels of the patch times the region, at every position where it fits inside."""
    size = 1 << (region.shape[-1] - 1).bit_length()
    spectrum = torch.fft.rfft2(region, s=(size, size))
    spectrum = spectrum * torch.fft.rfft2(patch, s=(size, size)).conj()
    product: Tensor = torch.fft.irfft2(spectrum.sum(2), s=(size, size))
    return product[..., :window_px, :window_px]
