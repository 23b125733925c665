import cv2
import numpy as np
import pytest

from vderain.errors import OptionError
from vderain.training.rain import render
from vderain.training.rain.render import (
    RAIN_KINDS,
    RAIN_MODELS,
    add_rain,
    recompress,
    render_clip,
    render_kind,
)
from vderain.training.rain.scattering import partial
from vderain.training.rain.streaks import Storm

GREY = np.full((96, 128, 3), 90, np.uint8)
DARK = np.full((96, 128, 3), 30, np.uint8)
MINED = [np.full((40, 50), 0.25, np.float32)]


def rendered(image, seeds, **options):
    return [add_rain(np.random.default_rng(seed), [image], **options)[0] for seed in seeds]


@pytest.mark.parametrize("model", RAIN_MODELS)
def test_the_same_seed_renders_the_same_rain(model):
    one, two, other = rendered(GREY, (3, 3, 4), model=model)
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (33, 64), (101, 3)])
@pytest.mark.parametrize("model", RAIN_MODELS)
def test_any_size_keeps_its_shape_and_type(shape, model):
    image = np.full((*shape, 3), 120, np.uint8)
    for rainy in rendered(image, range(25), model=model, mined=MINED):
        assert rainy.shape == image.shape and rainy.dtype == np.uint8


def test_the_background_is_left_as_it_was():
    image = GREY.copy()
    rendered(image, range(20), mined=MINED)
    assert np.array_equal(image, GREY)


def test_rain_adds_light_to_a_dark_image():
    assert all(rainy.mean() > 30 for rainy in rendered(DARK, range(30)))


def test_the_full_model_holds_more_than_the_simple_one():
    full, simple = (rendered(GREY, range(30), model=model) for model in ("full", "simple"))
    assert any((rainy > 90).all() for rainy in full)  # mist reaches every pixel
    assert not any((rainy > 90).all() for rainy in simple)
    assert all((rainy >= 90).all() for rainy in simple)  # both simple models only add light


def test_an_unknown_model_is_refused():
    with pytest.raises(OptionError, match=r"heavy.*full, simple"):
        add_rain(np.random.default_rng(0), [GREY], model="heavy")


@pytest.mark.parametrize("kind", ["snow", "mined"])
def test_a_kind_that_cannot_be_rendered_is_refused(kind):
    with pytest.raises(OptionError, match=kind):
        render_kind(np.random.default_rng(0), [GREY], kind)


@pytest.mark.parametrize("kind", RAIN_KINDS)
def test_every_kind_changes_the_image(kind):
    rng = np.random.default_rng(0)
    assert any((render_kind(rng, [GREY], kind, mined=MINED)[0] != GREY).any() for _ in range(3))


def test_mined_layers_are_used_by_the_full_model_only():
    green = np.zeros((40, 50, 3), np.float32)
    green[..., 1] = 0.5

    def is_green(image):
        return image[..., 1].mean() > image[..., [0, 2]].mean() + 40

    assert any(is_green(rainy) for rainy in rendered(DARK, range(30), mined=[green]))
    assert not any(is_green(rainy) for rainy in rendered(DARK, range(30)))
    assert not any(
        is_green(rainy) for rainy in rendered(DARK, range(30), model="simple", mined=[green])
    )


def test_strengths_spread_from_drizzle_to_storm():
    noise = np.random.default_rng(0).integers(20, 200, (96, 96, 3), np.uint8)
    changes = [np.square(r.astype(float) - noise).mean() for r in rendered(noise, range(150))]
    psnr = 10 * np.log10(255**2 / np.maximum(changes, 1e-3))
    low, middle, high = np.percentile(psnr, [5, 50, 95])
    assert 10 < low < 18 < middle < 28 < high < 45


def steady(monkeypatch, storm):
    """Render clips of one storm, without mist and gusts."""
    monkeypatch.setattr(render, "draw_storm", lambda *_, **__: storm)
    monkeypatch.setattr(render, "draw_mist", lambda *_: None)
    monkeypatch.setattr(render, "uneven", lambda _, layer: layer)


def test_near_drops_leave_while_the_dry_pixels_stay(monkeypatch):
    steady(monkeypatch, Storm(focal_px=700, exposure_s=1 / 200, rain_mm_per_h=20, farthest_m=2))
    frames = render_clip(np.random.default_rng(1), [GREY] * 3)
    wet = [(frame != GREY).any(2) for frame in frames]
    assert all(0.002 < mask.mean() < 0.5 for mask in wet)
    assert not np.array_equal(wet[0], wet[1])
    dry = ~np.logical_or.reduce(wet)
    assert dry.mean() > 0.3
    assert all(np.array_equal(frame[dry], GREY[dry]) for frame in frames)


def test_drops_move_by_the_frame_interval():
    for seed in range(5):
        at_once, later = (
            render_clip(np.random.default_rng(seed), [DARK] * 2, fps=fps) for fps in (1e7, 25.0)
        )
        assert np.array_equal(at_once[0], later[0])
        moved = [np.abs(clip[1].astype(int) - clip[0]).mean() for clip in (at_once, later)]
        assert moved[0] < 0.1 * moved[1]


def test_the_background_keeps_its_own_motion(monkeypatch):
    steady(monkeypatch, Storm(focal_px=700, exposure_s=1 / 200, rain_mm_per_h=5, farthest_m=1))
    rng = np.random.default_rng(2)
    background = [rng.integers(60, 200, (64, 64, 3), np.uint8) for _ in range(3)]
    for rainy, dry in zip(render_clip(rng, background), background, strict=True):
        assert (rainy == dry).all(2).mean() > 0.5


def test_a_clip_of_one_frame_is_a_image_and_of_none_is_none():
    assert render_clip(np.random.default_rng(0), []) == []
    assert len(render_clip(np.random.default_rng(0), [GREY])) == 1


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [([GREY, GREY[:-1]], 25.0, "several sizes"), ([GREY], 0.0, "fps 0.0")],
)
def test_clips_that_make_no_sense_are_refused(frames, fps, message):
    with pytest.raises(OptionError, match=message):
        render_clip(np.random.default_rng(0), frames, fps=fps)


@pytest.mark.parametrize("kind", [kind for kind in RAIN_KINDS if kind != "mined"])
def test_streaks_of_every_kind_move_on_in_the_next_frame(kind):
    for seed in range(6):
        frames = render_kind(np.random.default_rng(seed), [DARK] * 3, kind)
        assert [frame.shape for frame in frames] == [DARK.shape] * 3
        streaks = [frame - cv2.GaussianBlur(frame, (0, 0), 6) for frame in np.float32(frames)]
        moved, there = np.abs(streaks[0] - streaks[2]).mean(), np.abs(streaks[0]).mean()
        if there > 1:  # otherwise there is hardly a streak
            assert moved > 0.5 * there


def test_a_veil_stays_while_its_streaks_move():
    for seed in range(6):
        frames = render_kind(np.random.default_rng(seed), [GREY] * 2, "curtain")
        veils = [cv2.GaussianBlur(np.float32(frame), (0, 0), 20) for frame in frames]
        added = np.abs(veils[0] - GREY).mean()
        assert np.abs(veils[0] - veils[1]).mean() < 0.3 * added + 0.5


def test_recompression_keeps_the_image_and_its_colours():
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = 200  # red: swapped channels would show
    again = recompress(np.random.default_rng(0), image)
    assert again.shape == image.shape
    assert np.abs(again.astype(int) - image).max() < 12


def test_some_rain_is_as_faint_as_a_bright_day_shows_it(monkeypatch):
    monkeypatch.setattr(render, "_PARTIAL_SHARE", 0.0)

    def changes(share):
        monkeypatch.setattr(render, "_FAINT_SHARE", share)
        images = rendered(GREY, range(60))
        return np.array([np.abs(image.astype(int) - GREY).mean() for image in images])

    as_drawn, mixed = changes(0.0), changes(0.4)
    fainter = mixed < 0.75 * as_drawn
    assert 0.25 < fainter.mean() < 0.55 and np.allclose(mixed[~fainter], as_drawn[~fainter])
    assert mixed.min() > 0, "faint, not dry"


def test_some_rain_is_seen_in_part_of_the_image_in_all_frames_alike(monkeypatch):
    monkeypatch.setattr(render, "_FAINT_SHARE", 0.0)
    clean = [GREY] * 3

    def dry_share(share):
        """How much of each scene stays as it is in all of its frames."""
        monkeypatch.setattr(render, "_PARTIAL_SHARE", share)
        scenes = [np.stack(add_rain(np.random.default_rng(k), clean)) for k in range(40)]
        return np.array([(scene == GREY).all((0, 3)).mean() for scene in scenes])

    whole, parted = dry_share(0.0), dry_share(1.0)
    assert np.median(parted - whole) > 0.1
    assert (parted < 1).all(), "part of it, not none"


def test_rain_in_part_of_a_image_is_in_few_pieces():
    for seed in range(20):
        seen = partial(np.random.default_rng(seed), GREY)
        assert seen.shape == GREY.shape[:2] and seen.dtype == np.float32
        assert 0.1 < (seen > 0).mean() < 0.85 and seen.max() <= 1
        pieces = cv2.connectedComponents((seen > 0).astype(np.uint8))[0] - 1
        assert 1 <= pieces <= 5
