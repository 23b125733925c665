import numpy as np
import pytest

import vderain
from vderain.options import EngineOptions

REFERENCE = EngineOptions(engine="reference")


def test_derainer_keeps_shape_and_dtype():
    rng = np.random.default_rng(0)
    with vderain.Derainer(REFERENCE) as derainer:
        for shape, dtype in (
            ((21, 34, 3), np.uint8),
            ((16, 16), np.uint8),
            ((20, 24, 3), np.uint16),
        ):
            rainy = rng.integers(0, np.iinfo(dtype).max, shape, dtype)
            before = rainy.copy()
            dry = derainer(rainy)
            assert dry.shape == shape and dry.dtype == dtype
            assert np.array_equal(rainy, before)


def test_strength_zero_gives_the_image_back():
    rainy = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    with vderain.Derainer(REFERENCE, strength=0.0) as derainer:
        assert np.array_equal(derainer(rainy), rainy)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros(4, np.uint8)],
    ids=str,
)
def test_other_arrays_are_refused_with_their_shape(wrong):
    with vderain.Derainer(REFERENCE) as derainer, pytest.raises(ValueError, match=str(wrong.dtype)):
        derainer(wrong)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="derane"):
        _ = vderain.derane


def test_every_public_name_can_be_imported():
    assert all(getattr(vderain, name) for name in vderain.__all__)
