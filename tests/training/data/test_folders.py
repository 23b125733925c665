import pytest

from tests.training.folders import level, save
from vderain.training.data.folders import find_clips


@pytest.mark.parametrize(
    ("names", "is_clip"),
    [
        (["00.png", "01.png", "02.png", "03.png", "04.png"], True),
        (["f9.png", "f14.png", "f19.png", "f24.png", "f29.png"], True),
        (["f1.png", "f2.png", "f3.png", "f4.png"], False),
        (["f1.png", "f2.png", "f3.png", "f4.png", "f9.png"], False),
        (["cat.png", "dog.png", "fish.png", "hen.png", "pig.png"], False),
        (["a_1.png", "b_2.png", "c_3.png", "d_4.png", "e_5.png"], False),
    ],
)
def test_images_are_a_clip_where_their_numbers_count_evenly(tmp_path, names, is_clip):
    for name in names:
        save(tmp_path / "some" / name, level(1))
    assert find_clips(tmp_path) == ([tmp_path / "some"] if is_clip else [])
