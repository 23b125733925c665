import cv2
import numpy as np
import pytest


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "clean").mkdir()
    for index in range(3):
        image = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (96, 64))
        cv2.imwrite(str(tmp_path / "clean" / f"{index}.png"), image)
    return tmp_path
