"""The supervised loss of DRD-Net, with other penalties and structural similarity as options."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from vderain.errors import OptionError

_CHARBONNIER_EPSILON = 1e-3  # Lai et al. 2017 (LapSRN), section 3.3
# Images better than 50 dB are good enough; the factor brings a decibel to about the size of a step of L1.
_PSNR_FLOOR, _PSNR_SCALE = 1e-5, 0.02
_SSIM_WINDOW_PX = 11
_SSIM_SIGMA_PX = 1.5

PENALTIES: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "l1": lambda error, weight: _mean(error.abs(), weight),
    "charbonnier": lambda error, weight: _mean(
        (error.square() + _CHARBONNIER_EPSILON**2).sqrt(), weight
    ),
    "mse": lambda error, weight: _mean(error.square(), weight),
    "psnr": lambda error, weight: _PSNR_SCALE * (_mean(error.square(), weight) + _PSNR_FLOOR).log(),
}
"""Errors (N, C, H, W) and weights (N, 1, H, W), or None -> what each sample costs, (N,).

"psnr" is that of HINet (arXiv 2105.06086), which counts dB."""


def supervised_loss(
    rainy: Tensor,
    background: Tensor,
    streaks: Tensor,
    detail: Tensor,
    *,
    derained_weight: float = 0.1,
    sample_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    penalty: str = "l1",
    ssim_weight: float = 0.0,
) -> Tensor:
    """``derained_weight * d(rainy - streaks, background) + d(rainy - streaks + detail, background)``.

    Source: the public code of DRD-Net (arXiv 1908.10267), where d is L1; the options are ours.

    Args:
        rainy: (N, C, H, W) float, RGB in [0, 1].
        background: its ground truth, likewise.
        streaks: the rain branch's output, any floating dtype; computed on in the dtype of ``rainy``.
        detail: the detail branch's output, likewise.
        derained_weight: of the image without the detail.
        sample_weights: (N,), how much each sample counts (ours); all alike where None.
        pixel_weights: (N, 1, H, W), how much each pixel counts within its sample, 0 for what has no ground truth
            (ours); all alike where None.
        penalty: d, one of PENALTIES.
        ssim_weight: of ``1 - ssim(repaired, background)``, added where not zero.

    Returns:
        Scalar, the mean over samples.

    Raises:
        OptionError: for a penalty that does not exist, or crops too small for SSIM.

    """
    if penalty not in PENALTIES:
        raise OptionError(f"penalty {penalty}: choose one of {', '.join(PENALTIES)}")
    distance = PENALTIES[penalty]
    derained = rainy - streaks.to(rainy.dtype)
    repaired = derained + detail.to(rainy.dtype)
    losses = derained_weight * distance(derained - background, pixel_weights)
    losses = losses + distance(repaired - background, pixel_weights)
    if ssim_weight:
        known = repaired if pixel_weights is None else background.lerp(repaired, pixel_weights)
        losses = losses + ssim_weight * (1 - ssim(known, background))
    return (losses if sample_weights is None else losses * sample_weights).mean()


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Per sample, (N,); 0 where nothing counts."""
    if weight is None:
        return values.mean((1, 2, 3))
    total = weight.sum((1, 2, 3)) * values.shape[1]
    return (values * weight).sum((1, 2, 3)) / total.clamp(min=1e-6)


def ssim(images: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity per sample, differentiable, equal to ``vderain.metrics.ssim`` at a peak of 1.

    Both (N, C, H, W) float in [0, 1], at least 11 x 11 (OptionError below) -> (N,).
    """
    if min(images.shape[2:]) < _SSIM_WINDOW_PX:
        height, width = images.shape[2:]
        raise OptionError(f"ssim: needs crops of at least 11x11, got {width}x{height}")
    with torch.autocast(images.device.type, enabled=False):  # variances would cancel to noise
        mean_a, mean_b = _blurred(images), _blurred(truth)
        variance_a = _blurred(images.square()) - mean_a.square()
        variance_b = _blurred(truth.square()) - mean_b.square()
        covariance = _blurred(images * truth) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    denominator = (mean_a.square() + mean_b.square() + c1) * (variance_a + variance_b + c2)
    return (numerator / denominator).mean((1, 2, 3))


def _blurred(images: Tensor) -> Tensor:
    """Gaussian blur without the borders that the window would cross."""
    channels = images.shape[1]
    offsets = torch.arange(_SSIM_WINDOW_PX, dtype=images.dtype, device=images.device)
    window = torch.exp(-((offsets - _SSIM_WINDOW_PX // 2) ** 2) / (2 * _SSIM_SIGMA_PX**2))
    window = (window / window.sum()).expand(channels, 1, -1)
    down = F.conv2d(images, window[..., None], groups=channels)
    return F.conv2d(down, window[:, :, None], groups=channels)
