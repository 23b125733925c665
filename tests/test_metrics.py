import cv2
import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vderain.metrics import flicker, luma, mean_psnr, psnr, ssim


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


def test_ssim_is_one_for_equal_images_and_refuses_small_ones():
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    assert ssim(image, image) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="11x11"):
        ssim(image[:5], image[:5])


def noisy_pair(seed=2):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 256, (40, 53, 3), np.uint8)
    truth[10:30] = cv2.GaussianBlur(truth, (9, 9), 2)[10:30]  # structure as well as noise
    noise = rng.normal(0, 12, truth.shape)
    return np.clip(truth + noise, 0, 255).astype(np.uint8), truth


@pytest.mark.parametrize("view", [lambda rgb: rgb, luma], ids=["rgb", "luma"])
def test_scores_equal_those_of_scikit_image(view):
    image, truth = map(view, noisy_pair())
    channels = {"channel_axis": -1} if truth.ndim == 3 else {}
    expected = structural_similarity(
        image, truth, data_range=255, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, **channels,
    )  # fmt: skip
    assert ssim(image, truth) == pytest.approx(expected, abs=1e-9)
    expected = peak_signal_noise_ratio(truth, image, data_range=255)
    assert psnr(image, truth) == pytest.approx(expected, abs=1e-9)


def test_luma_is_that_of_matlab():
    image, _ = noisy_pair()
    np.testing.assert_allclose(luma(image), rgb2ycbcr(image)[..., 0], atol=1e-9)
    corners = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    assert luma(corners).tolist() == [[16, pytest.approx(235)]]


def test_flicker_is_blind_to_a_constant_error_and_sees_one_that_changes():
    truth_before, truth = noisy_pair(3)
    brighter = [np.clip(side, 0, 200) for side in (truth, truth_before)]
    constant = [side + 7 for side in brighter]
    assert flicker(*constant, *brighter) == 0
    assert flicker(constant[0], brighter[1], *brighter) == 7
    assert flicker(brighter[0], constant[1], *brighter) == 7  # also where uint8 would wrap around


def test_an_equal_image_counts_as_the_ceiling_in_a_mean():
    assert mean_psnr([float("inf"), 40.0]) == 70.0
    assert mean_psnr([30.0, 40.0]) == 35.0
