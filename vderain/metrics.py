"""Scores of an image against its ground truth, as the deraining literature takes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[Any]

CEILING_DB = 100.0  # what an equal image counts as in a mean
_LUMA = np.array((65.481, 128.553, 24.966)) / 255


def psnr(image: Image, truth: Image, *, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB over all samples; infinite for equal images."""
    error = np.asarray(image, np.float64) - np.asarray(truth, np.float64)
    mean_square = float(np.mean(np.square(error)))
    return float("inf") if mean_square == 0 else float(10 * np.log10(peak**2 / mean_square))


def ssim(image: Image, truth: Image, *, peak: float = 255.0) -> float:
    """Structural similarity (Wang et al. 2004), mean over channels.

    Gaussian window of 11 samples, sigma 1.5, K = (0.01, 0.03), population statistics, the 5 samples at
    each border left out. Shapes (H, W) or (H, W, C), at least 11 x 11.
    """
    if image.shape != truth.shape or min(image.shape[:2]) < 11:
        raise ValueError(
            f"need two equal shapes of at least 11x11, got {image.shape}, {truth.shape}"
        )
    a, b = (np.asarray(side, np.float64) for side in (image, truth))

    def blur(values: Image) -> Image:
        return np.asarray(cv2.GaussianBlur(values, (11, 11), 1.5))[5:-5, 5:-5]

    mean_a, mean_b = blur(a), blur(b)
    variance_a, variance_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    denominator = (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return float(np.mean(numerator / denominator))


def luma(rgb: Image) -> npt.NDArray[np.float64]:
    """Studio-range luma of ITU-R BT.601, (H, W) in [16, 235], of RGB (H, W, 3) in [0, 255].

    Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255, not rounded: MATLAB's ``rgb2ycbcr`` of doubles.
    """
    return np.asarray(16 + np.asarray(rgb, np.float64) @ _LUMA, np.float64)


def flicker(image: Image, image_before: Image, truth: Image, truth_before: Image) -> float:
    """Mean absolute error of a frame difference against the ground truth's, in code values (ours).

    mean |(image - image_before) - (truth - truth_before)|: 0 where all that changes from one
    frame to the next is what changes in the scene; a constant error costs nothing.
    """
    values = [np.asarray(side, np.int32) for side in (image, image_before, truth, truth_before)]
    return float(np.mean(np.abs((values[0] - values[1]) - (values[2] - values[3]))))


def mean_psnr(values_db: Iterable[float]) -> float:
    """The mean of images' PSNR in dB, each at most ``CEILING_DB``.

    An equal image has infinite PSNR (so says scikit-image), and one of them would make the whole
    mean infinite.
    """
    return float(np.mean([min(value, CEILING_DB) for value in values_db]))
