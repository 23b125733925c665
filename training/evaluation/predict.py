"""A network's predictions in float32, without an engine: for evaluation during training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from vderain.clips import Window, clips
from vderain.network.base import ChangeNetwork
from vderain.training.data.images import image_frame
from vderain.training.data.stacks import network_input, stacked_alone, window_of
from vderain.training.rain.streaks import Image


def derain_image(network: ChangeNetwork, image: Image) -> Image:
    """An image (H, W, 3) uint8 RGB of any size without its rain, rounded to 8 bit.

    The network is asked as it is: call its ``eval`` before. One of several frames sees T times the same.
    """
    return derain_stack(network, stacked_alone(image, network.config.seen_frames))


def derain_frames(network: ChangeNetwork, frames: Sequence[Image]) -> list[Image]:
    """Consecutive frames likewise, each with the neighbours that ``vderain run`` would show."""
    return [
        derain_stack(network, stack) for stack in stacked_clips(frames, window_of(network.config))
    ]


def derain_some(
    network: ChangeNetwork, frames: Sequence[Image], wanted: Sequence[int]
) -> list[Image]:
    """Those of consecutive frames whose places are ``wanted`` likewise; all are seen as neighbours."""
    stacks = enumerate(stacked_clips(frames, window_of(network.config)))
    return [derain_stack(network, stack) for place, stack in stacks if place in wanted]


def derain_middle(network: ChangeNetwork, frames: Sequence[Image]) -> Image:
    """The middle one of an odd number of consecutive frames likewise."""
    return derain_stack(network, middle_clip(frames, window_of(network.config)))


def stacked_clips(frames: Sequence[Image], window: Window) -> Iterator[Image]:
    """Of consecutive frames (H, W, 3) uint8 RGB the clip of each: (H, W, 3 + K), K planes of neighbours."""
    items = (image_frame(frame, number) for number, frame in enumerate(frames))
    for _, clip in clips(items, window):
        assert clip is not None  # there are no packets
        yield np.dstack(clip.inputs)


def middle_clip(frames: Sequence[Image], window: Window) -> Image:
    """The clip of the middle one of an odd number of frames, enough for the window, as ``stacked_clips`` gives it."""
    half = window.frames // 2
    around = frames[len(frames) // 2 - half :][: window.frames]
    return list(stacked_clips(around, window))[half]


@torch.inference_mode()
def derain_stack(network: ChangeNetwork, stack: Image) -> Image:
    """The frame of a stack (H, W, 3 + T - 1) uint8 without its rain, (H, W, 3)."""
    height, width = stack.shape[:2]
    multiple = network.config.multiple
    device = next(network.parameters()).device
    rainy = torch.from_numpy(network_input(stack))[None].to(device)
    filled = F.pad(rainy, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    change = network.change(filled)[..., :height, :width]
    dry = (rainy[:, :3] + change.float()).clamp(0, 1)[0].permute(1, 2, 0)
    return np.asarray((dry * 255).round().byte().cpu().numpy())
