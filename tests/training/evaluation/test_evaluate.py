from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.fakes import FakeEngine
from tests.media.synth import STEP, write
from tests.networks import TINY
from vderain.errors import OptionError, SourceError
from vderain.flow.future import Future
from vderain.interfaces import EngineSpec
from vderain.metrics import flicker, psnr, ssim
from vderain.network.config import NetworkConfig
from vderain.training.evaluation.scores import (
    Item,
    Scores,
    SetScores,
    evaluate,
    group_means,
    network_cost,
    score_image,
    to_plain,
)
from vderain.training.evaluation.suite import Results, load_suite, make_set, unique


class Darkening(FakeEngine):
    """An engine that takes ``amount`` levels off every sample."""

    def __init__(self, amount=0):
        self.amount = amount
        self.predictions = 0

    def open(self, fmt):
        return EngineSpec("darkening", "float32", "here", "none")

    def change(self, clip):
        self.predictions += 1
        change = tuple(np.full(p.shape, -self.amount, np.float32) for p in clip.planes)
        return Future(lambda: change)


def noise(seed, size=(24, 32)):
    return np.random.default_rng(seed).integers(40, 200, (*size, 3), np.uint8)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


def save_pairs(folder, count=3, brighter=10):
    for number in range(count):
        truth = noise(number)
        save(folder / "target" / f"{number}.png", truth)
        save(folder / "input" / f"{number}.png", truth + np.uint8(brighter))
    return folder


def save_frames(folder, images):
    for number, image in enumerate(images):
        save(folder / f"{number}.png", image)
    return folder


def only(scored):
    (one,) = scored[0]
    return one


def test_each_image_is_scored_before_and_after(tmp_path):
    save_pairs(tmp_path)
    one = only(evaluate([make_set("pairs", tmp_path)], Darkening(4)))
    assert [item.name for item in one.items] == ["0.png", "1.png", "2.png"]
    for number, item in enumerate(one.items):
        truth = noise(number)
        for method, brighter in (("input", 10), ("vderain", 6)):
            image = truth + np.uint8(brighter)
            assert item.scores[method].psnr_db == pytest.approx(psnr(image, truth))
            assert item.scores[method].ssim == pytest.approx(ssim(image, truth))
            assert item.scores[method].mean_error == brighter
            assert item.scores[method].flicker is None
    assert one.means["vderain"].psnr_db == pytest.approx(20 * np.log10(255 / 6))
    assert one.methods == ("input", "vderain")


def test_luma_scores_are_of_studio_range():
    """One level of gray is 219/255 levels of luma."""
    truth = np.full((16, 16, 3), 100, np.uint8)
    scores = score_image(truth + np.uint8(10), truth)
    assert scores.psnr_y_db == pytest.approx(20 * np.log10(255 / (10 * 219 / 255)))


def test_pairs_in_one_file_are_clean_left_and_rainy_right(tmp_path):
    save(tmp_path / "a.png", np.hstack([noise(0), noise(0) + np.uint8(10)]))
    shots = []
    one = evaluate(
        [make_set("pairs", tmp_path, layout="halves")],
        Darkening(),
        on_shot=lambda test, shot, item: shots.append(shot),
    )[0][0]
    np.testing.assert_array_equal(shots[0].truth, noise(0))
    np.testing.assert_array_equal(shots[0].rainy, noise(0) + 10)
    assert one.layout == "halves"


def test_images_of_equal_name_in_different_folders_keep_their_folder(tmp_path):
    for scene in ("a", "b"):
        save_pairs(tmp_path / "set" / scene, 1)
        save(tmp_path / "other" / scene / "input" / "0.jpg", noise(0))
    results = [Results("other", tmp_path / "other")]
    one = only(evaluate([make_set("pairs", tmp_path / "set")], Darkening(), results))
    assert [item.name for item in one.items] == ["a/input/0.png", "b/input/0.png"]
    assert "other" in one.methods


def flickering_clip(folder, frames=7):
    """A still scene that gets 3 levels brighter with every frame, in rain of 0, 20, 0, 20, ..."""
    truths = [noise(0) // 2 + np.uint8(3 * number) for number in range(frames)]
    rainy = [truth + np.uint8(20 * (number % 2)) for number, truth in enumerate(truths)]
    return save_frames(folder / "rainy", rainy), save_frames(folder / "truth", truths)


def test_flicker_is_the_error_of_frame_differences(tmp_path):
    rainy, truth = flickering_clip(tmp_path)
    one = only(evaluate([make_set("video", rainy, truth)], Darkening(5)))
    assert [item.scores["input"].flicker for item in one.items] == [None, *[20.0] * 6]
    assert one.means["vderain"].flicker == 20.0
    assert one.means["input"].mean_error == pytest.approx(20 * 3 / 7)
    assert one.items[3].name == "rainy 3"


def test_every_third_frame_keeps_the_flicker_of_neighbours(tmp_path):
    rainy, truth = flickering_clip(tmp_path)
    engine = Darkening()
    one = only(evaluate([make_set("video", rainy, truth)], engine, every=3))
    assert [item.name for item in one.items] == ["rainy 0", "rainy 3", "rainy 6"]
    assert [item.scores["vderain"].flicker for item in one.items] == [None, 20.0, 20.0]
    assert engine.predictions == 5  # 0, 2, 3, 5, 6


def test_dry_input_is_compared_with_itself(tmp_path):
    save(tmp_path / "images" / "a.png", noise(0))
    rainy, _ = flickering_clip(tmp_path)
    sets = [make_set("clean", tmp_path / "images"), make_set("video", rainy, rainy)]
    scored, _ = evaluate(sets, Darkening(2))
    means = scored[0].means
    assert list(means) == ["vderain"]
    assert (means["vderain"].mean_error, means["vderain"].largest_error) == (2, 2)
    assert scored[1].means["vderain"].mean_error == pytest.approx(2)
    unchanged = only(evaluate(sets[:1], Darkening(0))).items[0].scores["vderain"]
    assert unchanged.psnr_db == float("inf")
    assert to_plain(unchanged)["psnr_db"] is None
    assert Scores.mean([unchanged]).psnr_db == 100


def test_dry_clips_of_a_folder_are_scored_one_by_one(tmp_path):
    for name, rotation in (("a.mp4", None), ("b.mp4", None), ("c.mkv", 90)):
        write(tmp_path / name, pts=tuple(range(0, 3 * STEP, STEP)), rotation=rotation)
    shots = []
    scored = evaluate(
        [make_set("clean", tmp_path)],
        Darkening(6),
        on_shot=lambda test, shot, item: shots.append(shot),
    )
    items = only(scored).items
    assert [item.name for item in items] == [f"{name} {n}" for name in "abc" for n in range(3)]
    assert [item.scores["vderain"].flicker is None for item in items] == [True, False, False] * 3
    assert items[0].scores["vderain"].mean_error > 3  # the engine takes it off luma and chroma
    assert [shot.rainy.shape for shot in shots[5:7]] == [(48, 64, 3), (64, 48, 3)]  # upright


def test_time_is_that_of_the_network(tmp_path):
    _, timing = evaluate([make_set("pairs", save_pairs(tmp_path))], Darkening())
    assert timing.images == len(timing.ms_per_megapixel) == 3
    assert timing.median_ms_per_megapixel > 0
    assert [spec.name for spec in timing.engines] == ["darkening"]


def test_other_methods_are_scored_too(tmp_path):
    pairs = save_pairs(tmp_path / "set")
    for number in range(3):
        save(tmp_path / "other" / f"{number}.bmp", noise(number) + np.uint8(2))
    results = [Results("other", tmp_path / "other")]
    one = only(evaluate([make_set("pairs", pairs)], Darkening(), results))
    assert one.methods == ("input", "vderain", "other")
    assert one.means["other"].mean_error == 2
    alone = only(evaluate([make_set("pairs", pairs)], None, results))
    assert alone.methods == ("input", "other")


def test_results_of_several_sets_lie_in_their_folders_and_may_lack_a_set(tmp_path):
    sets = [make_set("pairs", save_pairs(tmp_path / name)) for name in ("a", "b")]
    for number in range(3):
        save(tmp_path / "other" / "a" / f"{number}.png", noise(number))
    scored, _ = evaluate(sets, None, [Results("other", tmp_path / "other")])
    assert [one.methods for one in scored] == [("input", "other"), ("input",)]


def test_results_of_a_clip_are_found_by_name(tmp_path):
    rainy, truth = flickering_clip(tmp_path)
    save_frames(tmp_path / "other" / "rainy", [noise(0) // 2] * 7)
    results = [Results("other", tmp_path / "other")]
    one = only(evaluate([make_set("video", rainy, truth)], None, results))
    assert one.means["other"].flicker == 3.0


def test_missing_results_are_named(tmp_path):
    pairs = save_pairs(tmp_path / "set")
    save(tmp_path / "other" / "1.png", noise(1))
    with pytest.raises(SourceError, match=r"2 of 3 results of other are missing: 0\.png, 2\.png"):
        evaluate([make_set("pairs", pairs)], None, [Results("other", tmp_path / "other")])


def test_nothing_is_computed_where_a_later_set_is_missing(tmp_path):
    engine = Darkening()
    sets = [make_set("pairs", save_pairs(tmp_path / "a")), make_set("clean", tmp_path / "none")]
    with pytest.raises(SourceError, match="none: does not exist"):
        evaluate(sets, engine)
    assert engine.predictions == 0


def test_clips_of_different_length_are_refused_with_both_counts(tmp_path):
    rainy, truth = flickering_clip(tmp_path)
    (truth / "6.png").unlink()
    with pytest.raises(SourceError, match=rf"{rainy} 7, {truth} 6"):
        evaluate([make_set("video", rainy, truth)], Darkening(), every=4)


def test_a_damaged_frame_is_refused_because_numbers_would_shift(tmp_path):
    rainy, truth = flickering_clip(tmp_path)
    (rainy / "3.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"3\.png"):
        evaluate([make_set("video", rainy, truth)], Darkening())


def test_images_of_different_size_are_named_with_their_sizes(tmp_path):
    save_pairs(tmp_path)
    save(tmp_path / "target" / "1.png", noise(0, (24, 30)))
    message = r"input/1\.png is 32x24 and .*target/1\.png is 30x24"
    with pytest.raises(SourceError, match=message):
        evaluate([make_set("pairs", tmp_path)], Darkening())


def test_frames_of_another_size_than_their_truth_are_refused(tmp_path):
    rainy, truth = flickering_clip(tmp_path, 2)
    save(truth / "1.png", noise(0, (20, 20)))
    with pytest.raises(SourceError, match="20x20"):
        evaluate([make_set("video", rainy, truth)], Darkening())


def test_an_image_without_partner_is_named(tmp_path):
    save_pairs(tmp_path)
    (tmp_path / "target" / "1.png").unlink()
    with pytest.raises(SourceError, match=r"1 of 3 rainy images cannot be paired: 1\.png"):
        evaluate([make_set("pairs", tmp_path)], Darkening())


@pytest.mark.parametrize("kind", ["pairs", "clean"])
def test_an_empty_folder_is_refused(tmp_path, kind):
    with pytest.raises(SourceError, match=str(tmp_path)):
        evaluate([make_set(kind, tmp_path)], Darkening())


def test_a_test_folder_is_scored_when_it_is_named_and_never_left_out_in_silence(tmp_path):
    for name in ("train", "test"):
        save_pairs(tmp_path / name, 2)
    with pytest.raises(SourceError, match=r"folders for tests \(test\)"):
        evaluate([make_set("pairs", tmp_path)], Darkening())
    assert len(only(evaluate([make_set("pairs", tmp_path / "test")], None)).items) == 2


def test_dry_images_are_not_taken_for_pairs(tmp_path):
    for number in range(3):
        save(tmp_path / f"{number}.png", noise(number))
    with pytest.raises(SourceError, match="as clean ones"):
        evaluate([make_set("pairs", tmp_path)], Darkening())


def test_an_unreadable_and_a_tiny_image_are_named(tmp_path):
    save(tmp_path / "tiny.png", noise(0, (10, 40)))
    with pytest.raises(SourceError, match=r"tiny\.png is 40x10; SSIM needs 11"):
        evaluate([make_set("clean", tmp_path)], Darkening())
    (tmp_path / "tiny.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"tiny\.png"):
        evaluate([make_set("clean", tmp_path)], Darkening())


def scores_of(psnr_db, flicker=None):
    return Scores(psnr_db, 0.5, psnr_db, 0.5, 1.0, psnr_db, flicker)


def test_groups_have_the_mean_of_their_sets_not_of_their_images():
    def of(name, *values, kind="pairs"):
        items = tuple(Item(str(value), {"input": scores_of(value)}) for value in values)
        return SetScores(name, kind, name.partition("/")[0], "", items)

    sets = [of("g/a", 10), of("g/b", 20, 30, 40), of("g/c", 50, kind="clean"), of("alone/d", 1)]
    means = group_means(sets)
    assert list(means) == ["mean of g"]
    kind, by_method = means["mean of g"]
    assert (kind, by_method["input"].psnr_db, by_method["input"].largest_error) == ("pairs", 20, 40)


def test_flicker_of_a_set_is_the_mean_where_it_is_known():
    assert Scores.mean([scores_of(1), scores_of(1, 4.0), scores_of(1, 6.0)]).flicker == 5.0
    assert Scores.mean([scores_of(1)]).flicker is None


def test_cost_counts_every_convolution():
    cost = network_cost(TINY)
    assert cost.gflop_720p == pytest.approx(2 * TINY.macs_per_pixel * 1280 * 720 / 1e9, rel=0.01)
    assert network_cost(NetworkConfig()).parameters == 5_221_766  # as the paper's network has


def test_equal_names_are_numbered(tmp_path):
    sets = unique([make_set("clean", tmp_path, name="a") for _ in range(3)])
    assert [test.name for test in sets] == ["a", "a 2", "a 3"]


def test_a_suite_lists_sets_below_the_data_folder(tmp_path):
    suite = tmp_path / "suite.toml"
    suite.write_text(
        '[[set]]\nname = "g/a"\npairs = "p"\nlayout = "halves"\n'
        '[[set]]\nname = "b"\nvideo = ["r.mp4", "c.mp4"]\n[[set]]\nname = "c"\nclean = "/k"\n'
    )
    first, second, third = load_suite(suite, None)
    assert (first.rainy, first.layout, first.group) == (tmp_path / "p", "halves", "g")
    assert (second.rainy.name, second.truth.name) == ("r.mp4", "c.mp4")
    assert str(third.rainy) == "/k"
    assert load_suite(suite, tmp_path / "data")[0].rainy == tmp_path / "data" / "p"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lists its sets"),
        ("set = 3", "lists its sets"),
        ("no toml", "cannot|can be read"),
        ('[[set]]\npairs = "p"', "set 1: needs a name"),
        ('[[set]]\nname = "a"', "one of pairs"),
        ('[[set]]\nname = "a"\npairs = "p"\nclean = "c"', "one of pairs"),
        ('[[set]]\nname = "a"\npairs = "p"\nweight = 2', "unknown: weight"),
        ('[[set]]\nname = "a"\nvideo = "p"', r"video must be \[RAINY, CLEAN\]"),
        ('[[set]]\nname = "a"\npairs = "p"\nlayout = "odd"', "layout odd: choose"),
        ('[[set]]\nname = "a"\npairs = "p"\nlayout = 3', "layout 3: choose"),
        ("set = [1]", "set 1"),
    ],
)
def test_a_suite_with_a_slip_is_refused(tmp_path, text, says):
    (tmp_path / "suite.toml").write_text(text)
    with pytest.raises(OptionError, match=says):
        load_suite(tmp_path / "suite.toml", None)


def test_the_development_suite_loads_by_its_name(tmp_path):
    sets = load_suite(Path("dev"), tmp_path)
    assert len({test.name for test in sets}) == len(sets) == 19
    assert sum(test.name.startswith("rendered/") for test in sets) == 9

    with pytest.raises(OptionError, match="VDERAIN_DATA"):
        load_suite(Path("dev"), None)


@pytest.mark.parametrize("name", ["", "input", "Vderain", "truth"])
def test_results_need_a_name_of_their_own(tmp_path, name):
    with pytest.raises(OptionError, match="another name"):
        Results(name, tmp_path)


def test_flicker_equals_its_metric(tmp_path):
    frames = [noise(seed) for seed in range(4)]
    save_frames(tmp_path / "r", frames[:2])
    save_frames(tmp_path / "t", frames[2:])
    one = only(evaluate([make_set("video", tmp_path / "r", tmp_path / "t")], None))
    expected = flicker(frames[1], frames[0], frames[3], frames[2])
    assert one.items[1].scores["input"].flicker == pytest.approx(expected)


def test_the_cost_of_a_network_that_takes_other_sizes_than_a_frame_is_counted():
    shape = {"rain_width": 4, "rain_blocks": 1, "detail_width": 4, "detail_blocks": 1}
    config = NetworkConfig(**shape, coarse_blocks=(1, 1, 1), unshuffle=4)
    assert 720 % config.multiple
    assert network_cost(config).gflop_720p > 0


def test_results_for_no_set_are_named(tmp_path):
    save_pairs(tmp_path / "pairs")
    (tmp_path / "other").mkdir()
    results = [Results("other", tmp_path / "other")]
    with pytest.raises(SourceError, match="no results of other for any set"):
        evaluate([make_set("pairs", tmp_path / "pairs")], None, results)
