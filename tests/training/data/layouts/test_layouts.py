import pytest

from tests.training.folders import level, noise, save, write_clip
from vderain.errors import OptionError, SourceError
from vderain.training.data.layouts.find import find_samples
from vderain.training.data.layouts.readers import LAYOUTS
from vderain.training.data.layouts.source import Source

CITY = "ulm_000001_000019_leftImg8bit"
RAIN = "_rain_alpha_0.01_beta_0.005_dropsize_0.01_pattern_1"

# Layout -> rainy file -> its background, as the data sets' archives name them.
TREES = {
    "rain100-one-folder": ("rain100", {"rain-1.png": "norain-1.png", "rain-2.png": "norain-2.png"}),
    "rain100-test": ("rain100", {"rainy/rain-001.png": "norain-001.png"}),
    "rain200": ("rain100", {"rain/X2/norain-1x2.png": "norain/norain-1.png"}),
    "rain200-light": ("rain100", {"a/rain/norain-7x2.png": "a/norain/norain-7.png"}),
    "rain200-new": ("rain100", {"rain/norain-3.png": "norain/norain-3.png"}),
    "rain1400": (
        "rain1400",
        {f"training/rainy_image/9_{i}.jpg": "training/ground_truth/9.jpg" for i in range(1, 15)},
    ),
    "spa-folders": ("spa", {"rain/000.png": "gt/000gt.png"}),
    "spa-flat": ("spa", {"real_input/0001.png": "real_gt/0001.png"}),
    "spa-real-world": ("spa", {"real_world/a/0.png": "real_world_gt/a/0.png"}),
    "raincityscapes": (
        "raincityscapes",
        {f"leftImg8bit_rain/train/ulm/{CITY}{RAIN}.png": f"leftImg8bit/train/ulm/{CITY}.png"},
    ),
    "nturain": (
        "nturain",
        {
            "t1_Rain_01/0001.jpg": "t1_GT/0001.jpg",
            "t1_Rain_02/0001.jpg": "t1_GT/0001.jpg",
            "a1_Rain/7.jpg": "a1_GT/7.jpg",
        },
    ),
    "nturain-by-kind": ("pairs", {"Rain/a1/0001.jpg": "GT/a1/0001.jpg"}),
    "pairs": ("pairs", {"input/a.png": "target/a.png", "input/sub/a.png": "target/sub/a.png"}),
    "pairs-suffix": ("pairs", {"train/rainy/a.jpg": "train/clean/a.png"}),
}


def paths(found, folder):
    return {
        sample.rainy.path.relative_to(folder).as_posix(): (
            sample.background.path.relative_to(folder).as_posix()
        )
        for sample in found.samples
    }


@pytest.mark.parametrize("name", TREES)
def test_published_layouts_are_paired_and_recognised(tmp_path, name):
    reader, pairs = TREES[name]
    for rainy, background in pairs.items():
        save(tmp_path / rainy, level(200))
        save(tmp_path / background, level(100))
    assert paths(find_samples(tmp_path, Source(reader=reader)), tmp_path) == pairs
    found = find_samples(tmp_path, Source())
    assert found.reader == reader
    assert paths(found, tmp_path) == pairs


def test_spa_lists_name_their_pairs_wherever_they_were_unpacked(tmp_path):
    for name in ("real_world/000/000-1/a.png", "real_world/000/b.png"):
        save(tmp_path / name, level(5))
    (tmp_path / "real_world.txt").write_text(
        "/real_world/000/000-1/a.png ./real_world/000/b.png\n"
        "/real_world/000/b.png /real_world/000/gone.png\n"
        "two words\n"
    )
    found = find_samples(tmp_path, Source())
    assert found.reader == "spa"
    assert paths(found, tmp_path) == {"real_world/000/000-1/a.png": "real_world/000/b.png"}
    (reason,) = found.unmatched.values()
    assert "gone.png" in reason


def test_rain_on_cityscapes_may_keep_its_backgrounds_elsewhere(tmp_path):
    save(tmp_path / "rain" / f"{CITY}{RAIN}.png", level(9))
    clean = save(tmp_path / "city" / "train" / f"{CITY}.png", level(8))
    source = Source(reader="raincityscapes", backgrounds="city")
    (sample,) = find_samples(tmp_path / "rain", source, tmp_path / "city").samples
    assert sample.background.path == clean
    with pytest.raises(SourceError, match="no clean image belongs to it"):
        find_samples(tmp_path / "rain", Source())


def test_pairs_in_one_file_are_recognised_by_their_halves(tmp_path):
    for seed in range(3):
        scene = noise(seed, 32, 48)
        both = noise(9, 32, 96)
        both[:, :48], both[:, 48:] = scene // 2, scene // 2 + 60
        save(tmp_path / "rain" / "training" / f"{seed}.png", both)  # as Rain800 names its folders
    found = find_samples(tmp_path, Source())
    assert found.reader == "halves"
    assert (found.samples[0].background.half, found.samples[0].rainy.half) == ("left", "right")
    right = find_samples(tmp_path, Source(reader="halves", clean_side="right"))
    assert (right.samples[0].background.half, right.samples[0].rainy.half) == ("right", "left")


def test_photographs_are_clean_and_clips_are_clips(tmp_path):
    for seed in range(6):
        save(tmp_path / "photos" / f"{seed}.png", noise(seed))
        save(tmp_path / "clips" / "walk" / f"{seed}.png", noise(seed))
    write_clip(tmp_path / "clips" / "a.avi", range(3))
    clean = find_samples(tmp_path / "photos", Source())
    assert (clean.reader, clean.layout.role, len(clean.samples)) == ("clean", "clean", 6)
    clips = find_samples(tmp_path / "clips", Source(frames=4))
    assert (clips.reader, len(clips.samples)) == ("clips", 8)
    assert {sample.background.path.name for sample in clips.samples} == {"a.avi", "walk"}
    single = find_samples(tmp_path / "clips" / "a.avi", Source(frames=4))
    assert (single.reader, len(single.samples)) == ("clips", 4)


def test_real_rain_has_no_background_and_is_never_guessed(tmp_path):
    folder = tmp_path / "real_rain"
    for seed in range(6):
        save(folder / f"{seed}.png", noise(seed))
    photos = find_samples(folder, Source(reader="real"))
    clips = find_samples(folder, Source(reader="rainy_clips", frames=2))
    assert (len(photos.samples), len(clips.samples)) == (6, 2)
    assert all(sample.background is None for sample in photos.samples + clips.samples)
    with pytest.raises(SourceError, match="say which it is"):
        find_samples(folder, Source())


def test_folders_for_tests_are_left_out(tmp_path):
    for split in ("train", "test", "rain_data_test_Light", "val"):
        for side in ("input", "target"):
            save(tmp_path / split / side / "a.png", level(3))
    found = find_samples(tmp_path, Source())
    assert [sample.rainy.path for sample in found.samples] == [tmp_path / "train/input/a.png"]
    left_out = {path.name for path in found.unmatched}
    assert left_out == {"test", "rain_data_test_Light", "val"}
    named = find_samples(tmp_path / "test", Source())
    assert len(named.samples) == 1


def test_files_without_a_partner_are_reported(tmp_path):
    save(tmp_path / "input" / "a.png", level(1))
    save(tmp_path / "input" / "b.png", level(1))
    save(tmp_path / "target" / "a.png", level(1))
    found = find_samples(tmp_path, Source(reader="pairs"))
    assert len(found.samples) == 1
    assert list(found.unmatched) == [tmp_path / "input" / "b.png"]


@pytest.mark.parametrize("reader", sorted(set(LAYOUTS) - {"charts"}))
def test_an_error_for_an_empty_folder_says_what_was_looked_for(tmp_path, reader):
    with pytest.raises(SourceError, match=f"reader {reader}, which looks for") as error:
        find_samples(tmp_path, Source(reader=reader))
    assert LAYOUTS[reader].holds in str(error.value)


def test_names_that_do_not_match_are_an_error(tmp_path):
    save(tmp_path / "input" / "a.png", level(1))
    save(tmp_path / "target" / "b.png", level(1))
    with pytest.raises(SourceError, match=r"input/ and target/.*a\.png: no clean image"):
        find_samples(tmp_path, Source(reader="pairs"))


def test_a_missing_and_an_unrecognised_folder_are_named(tmp_path):
    with pytest.raises(SourceError, match="gone: no such folder"):
        find_samples(tmp_path / "gone", Source())
    with pytest.raises(SourceError, match="no images or clips"):
        find_samples(tmp_path, Source())


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"reader": "rain9000"}, "reader rain9000: choose auto or one of"),
        ({"pth": "x"}, "unknown settings pth; known are path, reader"),
        ({"share": "much"}, "share must be of type float"),
        ({"share": 0}, "share must be above 0"),
        ({"share": float("inf"), "path": "a"}, "share must be above 0 and finite"),
        ({}, "path is missing"),
        ({"frames": 0}, "frames at least 1"),
        ({"clean_side": "top"}, "choose left or right"),
        ({"upside_down": 1}, "upside_down must be of type bool"),
        ({"without": "3.jpg"}, "without must be of type list"),
    ],
)
def test_settings_of_a_source_that_cannot_be_are_named(table, reason):
    with pytest.raises(OptionError, match=f"source mine: .*{reason}"):
        Source.from_table("mine", table)


def test_settings_of_a_source_are_taken_over():
    source = Source.from_table("mine", {"path": "a", "share": 2, "upside_down": False})
    assert (source.path, source.share, source.upside_down) == ("a", 2, False)


def test_rainy_images_next_to_clean_ones_of_other_names_are_not_taken_for_clean(tmp_path):
    save(tmp_path / "input" / "a.png", noise(1))
    save(tmp_path / "target" / "b.png", noise(2))
    with pytest.raises(SourceError, match=r"seems to hold pairs.*a\.png"):
        find_samples(tmp_path, Source())


def test_a_part_takes_every_so_many_files_and_clips_as_a_whole(tmp_path):
    for index in range(5):
        save(tmp_path / "images" / f"{index}.png", level(1))
    taken = [
        [
            sample.path.stem
            for sample in find_samples(
                tmp_path / "images", Source(reader="clean", part=part)
            ).samples
        ]
        for part in ("1/2", "2/2", "3/3")
    ]
    assert taken == [["0", "2", "4"], ["1", "3"], ["2"]]
    for clip in "abc":
        (tmp_path / "clips").mkdir(exist_ok=True)
        (tmp_path / "clips" / f"{clip}.mp4").touch()
    found = find_samples(tmp_path / "clips", Source(reader="clips", frames=4, part="2/2"))
    assert [sample.path.stem for sample in found.samples] == ["b"] * 4


def test_files_may_be_left_out_by_name_and_the_parts_stay_what_they_were(tmp_path):
    for index in range(5):
        save(tmp_path / f"{index}.png", level(1))
    table = {"path": "a", "reader": "clean", "part": "1/2", "without": ["0.png", "1.png"]}
    found = find_samples(tmp_path, Source.from_table("mine", table))
    assert [sample.path.stem for sample in found.samples] == ["2", "4"]
    typo = Source.from_table("mine", {**table, "without": ["9.png"]})
    with pytest.raises(SourceError, match=r"without: a holds no 9\.png"):
        find_samples(tmp_path, typo)


@pytest.mark.parametrize("part", ["0/2", "3/2", "half", "1", "-1/2"])
def test_a_part_that_cannot_be_is_named(part):
    with pytest.raises(OptionError, match=rf"part {part}: write"):
        Source(path="a", part=part)


def test_a_part_in_which_nothing_is_left_is_an_error(tmp_path):
    save(tmp_path / "0.png", level(1))
    with pytest.raises(SourceError, match=r"part 2/2: nothing found"):
        find_samples(tmp_path, Source(reader="clean", part="2/2"))
