"""The shipped weights on what moves too fast to be aligned: no ghost next to it, none through it."""

import cv2
import numpy as np
import pytest

from vderain.training.data.stacks import stacked_alone, window_of
from vderain.training.evaluation.predict import derain_stack, stacked_clips
from vderain.training.rain.render import render_clip
from vderain.weights import find_weights, load_network

COUNT, MIDDLE = 9, 4
SEEDS = range(3)


@pytest.fixture(scope="module")
def network():
    return load_network(*find_weights("fast")).eval()


def scene(seed, step_px):
    """A clip with a bright and a dark bar that cross it, and where any frame has an edge of theirs."""
    noise = cv2.GaussianBlur(
        np.random.default_rng(seed).random((176, 480, 3), np.float32), (0, 0), 4
    )
    ground = np.uint8(60 + 80 * (noise - noise.min()) / np.ptp(noise))
    frames, near = [], np.zeros(ground.shape[:2], np.uint8)
    for index in range(COUNT):
        frame, x = ground.copy(), 40 + step_px * index
        frame[40:140, x : x + 28] = 235
        frame[60:120, x + 40 : x + 60] = 15
        frames.append(frame)
        if abs(index - MIDDLE) <= 4:
            cv2.rectangle(near, (x, 40), (x + 28, 140), 255, 9)
            cv2.rectangle(near, (x + 40, 60), (x + 60, 120), 255, 9)
    return frames, near > 0


@pytest.mark.parametrize("step_px", [12, 24, 32])
def test_near_a_fast_edge_neighbours_do_not_harm(network, step_px):
    """The error there, in levels, is not higher than that of the same network on the frame alone."""
    errors = []
    for seed in SEEDS:
        clean, near = scene(seed, step_px)
        rainy = render_clip(np.random.default_rng(seed), clean)
        stacks = (
            list(stacked_clips(rainy, window_of(network.config)))[MIDDLE],
            stacked_alone(rainy[MIDDLE], network.config.seen_frames),
        )
        predictions = [derain_stack(network, stack).astype(float) for stack in stacks]
        errors.append(
            [np.abs(prediction - clean[MIDDLE])[near].mean() for prediction in predictions]
        )
    with_neighbours, alone = np.mean(errors, 0)
    assert with_neighbours <= alone
