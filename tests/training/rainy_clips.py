"""Small clips with rain, their ground truth, and weights that can be adapted to them."""

import cv2
import numpy as np
import torch

from tests.networks import TINY
from tests.training.folders import save
from vderain.network.build import build_network
from vderain.network.card import Card
from vderain.weights import save_network

SIZE = (96, 128)


def scene(seed=0, size=SIZE):
    """A smooth texture, (H, W, 3) uint8 RGB."""
    grain = np.random.default_rng(seed).random((*size, 3), np.float32) - 0.5
    smooth = cv2.GaussianBlur(grain, (0, 0), 2.5)
    return np.clip(90 + smooth * (22 / smooth.std()), 0, 255).astype(np.uint8)


def with_rain(frames, seed=0, streaks=14):
    """The frames with bright slanted streaks that differ in each."""
    rng = np.random.default_rng(seed)
    rainy = []
    for frame in frames:
        layer = np.zeros(frame.shape[:2], np.float32)
        height, width = layer.shape
        for _ in range(streaks):
            x, y = int(rng.integers(width)), int(rng.integers(-10, height))
            cv2.line(layer, (x, y), (x + 4, y + 16), 90.0, 1, cv2.LINE_AA)
        rainy.append(np.clip(frame + layer[..., None], 0, 255).astype(np.uint8))
    return rainy


def pan(count, step=2, seed=0):
    """A camera that moves sideways over a scene."""
    wide = scene(seed, (SIZE[0], SIZE[1] + step * count))
    return [np.ascontiguousarray(wide[:, step * i : step * i + SIZE[1]]) for i in range(count)]


def write_frames(folder, frames):
    """A clip as a folder of numbered images."""
    for number, frame in enumerate(frames):
        save(folder / f"{number:04d}.png", frame)
    return folder


def save_unchanging(path, config=TINY):
    """Weights that change nothing yet."""
    torch.manual_seed(0)
    network = build_network(config)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "tail" in name:
                value.zero_()
    save_network(network, path, Card("tiny", config, sha256=""))
    return path
