from dataclasses import replace

import numpy as np
import pytest

from vderain.training.rain.streaks import Drops, Storm, Streaks, paint, visible_gain

STORM = Storm(focal_px=700, exposure_s=1 / 100, rain_mm_per_h=50)
SHAPE = (96, 128)


def one(start, vector, width_px=1.0, opacity=0.5):
    return Streaks(
        np.array([start], float), np.array([vector], float), np.array([width_px]), np.array([opacity])
    )  # fmt: skip


def drops(seed=0, **changes):
    return Drops(np.random.default_rng(seed), replace(STORM, **changes), *SHAPE)


def test_nothing_is_painted_without_streaks():
    nothing = Streaks(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    assert not paint(SHAPE, nothing).any()
    assert not paint(SHAPE, one((200, 5), (0, 20))).any()  # outside the image


@pytest.mark.parametrize("width_px", [0.25, 1.0, 3.0, 12.0])
def test_a_streak_covers_its_length_times_its_width(width_px):
    layer = paint(SHAPE, one((64, 28), (0, 40), width_px))
    assert layer.shape == SHAPE and layer.dtype == np.float32
    assert layer.sum() == pytest.approx(0.5 * width_px * (40 + width_px), rel=0.25)
    rows, columns = np.nonzero(layer > 0.2 * layer.max())
    assert abs(rows.mean() - 47.5) < 1.5 and abs(columns.mean() - 63.5) < 1


def test_a_streak_thinner_than_a_pixel_is_fainter():
    thin, wide = (paint(SHAPE, one((64.5, 20), (0, 40), width)).max() for width in (0.25, 1.0))
    assert thin == pytest.approx(wide / 4, rel=0.1)


def test_streaks_end_at_the_border_of_the_image():
    layer = paint(SHAPE, one((-10, 50.5), (400, 0)))
    assert (layer[48:53].sum(0) > 0.4).all()
    assert not layer[:45].any() and not layer[56:].any()


def test_opacity_never_exceeds_one():
    many = Streaks(
        np.full((50, 2), 40.0), np.full((50, 2), 9.0), np.full(50, 1.5), np.full(50, 0.9)
    )
    assert paint(SHAPE, many).max() == 1


def test_a_longer_exposure_draws_longer_and_fainter_streaks():
    short, long = drops(exposure_s=1 / 1000).streaks(), drops(exposure_s=1 / 50).streaks()
    near = [np.hypot(*s.vectors.T).max() for s in (short, long)]
    assert near[1] > 5 * near[0]
    assert np.median(long.opacity) < 0.3 * np.median(short.opacity)


def test_far_drops_are_more_and_smaller():
    widths = drops(aperture_px_m=0.0).streaks().widths_px
    near, middle, far = np.percentile(widths, [98, 50, 2])
    assert near > 2 * middle and middle > 1.3 * far
    assert (widths < widths.max() / 2).mean() > 0.9


def test_drops_near_the_camera_are_out_of_focus_and_more_transparent():
    sharp, blurred = (drops(aperture_px_m=blur).streaks() for blur in (0.0, 8.0))
    nearest = sharp.widths_px.argmax()
    assert blurred.widths_px[nearest] > 2 * sharp.widths_px[nearest]
    assert blurred.opacity[nearest] < 0.5 * sharp.opacity[nearest]


@pytest.mark.parametrize("slant_deg", [-50.0, 0.0, 30.0])
def test_drops_fall_along_the_wind(slant_deg):
    dx, dy = drops(slant_deg=slant_deg).streaks().vectors.T
    angles = np.rad2deg(np.arctan2(dx, dy))
    assert angles.mean() == pytest.approx(slant_deg, abs=0.5)
    assert 1 < angles.std() < 3


def test_a_moving_camera_lets_streaks_point_away_from_its_heading():
    still = drops(exposure_s=1 / 50)
    fast = drops(exposure_s=1 / 50, approach_m_per_s=30.0)
    change = fast.streaks().vectors - still.streaks().vectors
    away = still.streaks().starts - (64, 48)
    assert ((change * away).sum(1) >= 0).all()
    assert np.abs(change).max() > 5


def test_drops_move_on_and_others_take_their_place():
    rain = drops()
    before = rain.streaks()
    rain.advance(1 / 10_000)
    moved = rain.streaks().starts - before.starts
    stayed = np.abs(moved).max(1) < 50  # those that left the surroundings are others now
    assert stayed.mean() > 0.9
    expected = before.vectors * (1 / 10_000) / STORM.exposure_s
    np.testing.assert_allclose(moved[stayed], expected[stayed], atol=1e-6)
    shares = []
    for _ in range(30):
        rain.advance(1 / 25)
        shares.append(rain.opacity().mean())
    assert min(shares) > 0.4 * max(shares)  # the rain never thins out


def test_a_drop_that_left_comes_back_in_another_column():
    rain = drops(slant_deg=0.0, spread_deg=0.0)
    before = rain.streaks().starts
    rain.advance(1 / 25)
    moved = rain.streaks().starts - before
    back = moved[:, 1] < 0
    assert 0.05 < back.mean() < 0.95
    assert np.abs(moved[back, 0]).min() > 1
    assert np.abs(moved[~back, 0]).max() > 1  # some came back below where they started


def test_gain_tames_the_extremes_only():
    rng = np.random.default_rng(0)
    layer = rng.random(SHAPE).astype(np.float32)
    assert visible_gain(layer * np.float32(0.2)) == 1
    assert visible_gain(layer) < 1
    assert 1 < visible_gain(layer * np.float32(0.01)) <= 4
    assert np.isfinite(visible_gain(np.zeros(SHAPE, np.float32)))
