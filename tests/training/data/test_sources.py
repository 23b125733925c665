import logging

import numpy as np
import pytest

from tests.training.folders import level, noise, save
from vderain.errors import OptionError, SourceError
from vderain.training.data.cache import ImageCache
from vderain.training.data.sources import (
    READERS,
    Source,
    load_sources,
    open_source_folder,
    read_clean,
    read_halves,
    read_pairs,
)


def make_pairs(folder, count=3, **sizes):
    for index in range(count):
        save(folder / "input" / f"{index}.png", level(100 + index, **sizes))
        save(folder / "target" / f"{index}.png", level(index, **sizes))
    return folder


def test_halves_are_clean_on_the_left_by_default(tmp_path):
    save(tmp_path / "a.png", np.concatenate([level(10), level(200)], 1))
    (sample,) = read_halves(tmp_path)
    assert np.all(sample.background == 10) and np.all(sample.rainy == 200)
    (sample,) = read_halves(tmp_path, clean_side="right")
    assert np.all(sample.background == 200) and np.all(sample.rainy == 10)


def test_pairs_share_their_names(tmp_path):
    for sample in read_pairs(make_pairs(tmp_path)):
        assert np.all(sample.rainy == sample.background + 100)


def test_real_rain_has_no_background_and_clean_images_no_rain(tmp_path):
    save(tmp_path / "a.png", level(1))
    assert [sample.background for sample in READERS["real"](tmp_path)] == [None]
    assert [sample.rainy for sample in read_clean(tmp_path)] == [None]
    roles = [READERS[name](tmp_path).role for name in ("real", "clean", "charts", "halves")]
    assert roles == ["rainy", "clean", "clean", "paired"]


def test_a_broken_image_is_skipped_counted_and_named(tmp_path, caplog):
    make_pairs(tmp_path / "mine", 4)
    (tmp_path / "mine" / "input" / "1.png").write_text("not an image")
    save(tmp_path / "mine" / "input" / "3.png", level(1, 9, 11))
    save(tmp_path / "mine" / "input" / "9.png", level(1))
    tables = {"mine": {"path": "mine", "reader": "pairs"}}
    with caplog.at_level(logging.WARNING):
        sources = load_sources(tables, tmp_path, ImageCache())
    (record,) = caplog.records
    assert record.message.startswith("mine: 3 of 5 files skipped: ")
    assert "1.png: not an image" in record.message
    assert "9.png: no clean image belongs to it" in record.message
    assert f"3.png: is 11x9 but {tmp_path}/mine/target/3.png is 10x8" in record.message
    assert len(sources["mine"].skipped) == 3


def test_many_skipped_files_are_counted_not_listed(tmp_path):
    for index in range(9):
        save(tmp_path / "input" / f"{index}.png", level(1))
    save(tmp_path / "target" / "0.png", level(1))
    skipped = read_pairs(tmp_path).skipped
    assert "8 of 9 files skipped" in str(skipped) and str(skipped).endswith("and 3 more")


def test_in_place_of_a_broken_sample_comes_the_next_one(tmp_path):
    make_pairs(tmp_path)
    (tmp_path / "target" / "1.png").write_text("broken")
    (tmp_path / "target" / "2.png").write_text("broken")
    before, after = read_pairs(tmp_path), read_pairs(tmp_path)
    after.load()  # whether it is known before does not matter
    for samples in (before, after):
        assert [int(samples[i].rainy[0, 0, 0]) for i in range(3)] == [100, 100, 100]
        assert len(list(samples)) == 1


def test_a_folder_of_which_nothing_can_be_used_is_an_error(tmp_path):
    (tmp_path / "broken.png").write_text("not an image")
    samples = read_clean(tmp_path)
    for use in (list, lambda s: s[0], lambda s: s.load()):
        with pytest.raises(SourceError, match=r"none of 1 files can be used; .*broken\.png"):
            use(samples)


def test_pairs_of_different_sizes_name_both_files(tmp_path):
    make_pairs(tmp_path, 1)
    save(tmp_path / "target" / "0.png", level(1, 30, 40))
    with pytest.raises(SourceError, match=r"input/0\.png.* is 10x8 but .*target/0\.png is 40x30"):
        read_pairs(tmp_path)[0]


def test_rain_that_falls_stays_upright_and_synthetic_pairs_may_turn(tmp_path):
    make_pairs(tmp_path / "pairs")
    frames = {"input": "a1_Rain", "target": "a1_GT"}
    for folder, named in frames.items():
        (tmp_path / "video").mkdir(exist_ok=True)
        (tmp_path / "video" / named).symlink_to(tmp_path / "pairs" / folder)

    def upside_down(name, **settings):
        return open_source_folder(name, Source(path=name, **settings), tmp_path)[0].upside_down

    assert upside_down("pairs") and not upside_down("pairs", upside_down=False)
    assert not upside_down("pairs/target", reader="clean", upside_down=True)
    assert not READERS["real"](tmp_path / "pairs" / "input")[0].upside_down


def test_auto_says_which_layout_it_took(tmp_path, caplog):
    make_pairs(tmp_path / "mine")
    with caplog.at_level(logging.INFO):
        sources = load_sources({"mine": {"path": "mine"}}, tmp_path, ImageCache())
    assert sources["mine"].reader == "pairs"
    assert "read as pairs, 3 samples" in caplog.text


def test_settings_and_folders_that_do_not_exist_are_named(tmp_path):
    with pytest.raises(OptionError, match="source mine: unknown settings pat"):
        load_sources({"mine": {"pat": "x"}}, tmp_path, ImageCache())
    with pytest.raises(SourceError, match=r"gone: no such folder \(source mine\).*data folder"):
        load_sources({"mine": {"path": "gone"}}, tmp_path, ImageCache())


def test_loading_ends_when_the_cache_is_full_but_tries_some_of_every_source(tmp_path, monkeypatch):
    for name in ("one", "two"):
        for index in range(40):
            save(tmp_path / name / f"{index}.png", noise(index, 16, 16))
    read = []
    cache = ImageCache(0.001)  # one image
    whole = cache.image
    monkeypatch.setattr(cache, "image", lambda ref: (read.append(ref), whole(ref))[1])
    load_sources({n: {"path": n, "reader": "clean"} for n in ("one", "two")}, tmp_path, cache)
    assert [sum(ref.path.parent.name == name for ref in read) for name in ("one", "two")] == [
        16
    ] * 2


def test_a_source_in_the_wrong_section_is_named_with_what_to_do(tmp_path):
    save(tmp_path / "a" / "1.png", noise(0))

    def load(reader, section):
        load_sources({"mine": {"path": "a", "reader": reader}}, tmp_path, ImageCache(), section)

    with pytest.raises(OptionError, match=r"sources\.mine.*under \[real\]"):
        load("real", "sources")
    with pytest.raises(OptionError, match=r"real\.mine.*reader real.*rendered = true"):
        load("clean", "real")
    rendered = {"mine": {"path": "a", "reader": "clean", "rendered": True}}
    assert len(load_sources(rendered, tmp_path, ImageCache(), "real")["mine"]) == 1
    with pytest.raises(OptionError, match=r"unpaired\.mine.*reader clean"):
        load("real", "unpaired")


def test_an_image_too_narrow_to_show_a_pair_is_named(tmp_path):
    save(tmp_path / "thin.png", level(5, 8, 1))
    with pytest.raises(SourceError, match=r"thin\.png: too narrow"):
        READERS["halves"](tmp_path)[0]
