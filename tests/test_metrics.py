import numpy as np
import pytest

from vderain.metrics import psnr, ssim


def test_psnr_of_a_known_error():
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 16, np.uint8)
    assert psnr(grey, black) == pytest.approx(20 * np.log10(255 / 16))
    assert psnr(black, black) == float("inf")


def test_ssim_follows_its_formula_at_one_window():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0, 255, (2, 11, 11))
    g = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(g, g) / g.sum() ** 2
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
    cov = (window * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    expected /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    assert ssim(a, b) == pytest.approx(expected, rel=1e-9)


def test_ssim_is_one_for_equal_pictures_and_refuses_small_ones():
    picture = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    assert ssim(picture, picture) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="11x11"):
        ssim(picture[:5], picture[:5])
