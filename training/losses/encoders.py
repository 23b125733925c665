"""What turns images into feature vectors for the contrastive losses, and trains to do so.

Encoders take images (N, 3, H, W) float, RGB in [0, 1], and return feature maps, finest first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vderain.errors import OptionError, WeightsError
from vderain.training.losses.layers import high_pass
from vderain.training.losses.sampling import at_least_float32

SMALLEST_CROP_PX = 24  # InstanceNorm needs more than one value at the discriminator's deepest level
_TEXTURE_GAIN = 4.0  # about as large as signed images are
_VGG19_BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class Encoder(Protocol):
    """A module that returns levels of features for images."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level."""

    def __call__(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] -> one (N, C_level, h, w) per level."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Of the module."""


def frozen(module: nn.Module, inputs: Any) -> Any:
    """The module's output with gradients to its inputs, none to its own parameters."""
    detached = {name: value.detach() for name, value in module.named_parameters()}
    return torch.func.functional_call(module, detached, (inputs,))


def frozen_levels(encoder: Encoder, images: Tensor) -> list[Tensor]:
    """The encoder's levels with gradients to the images, none to the encoder's own parameters."""
    levels: list[Tensor] = frozen(cast(nn.Module, encoder), images)
    return levels


class BlurPool(nn.Module):
    """Halves height and width (rounded up) without aliasing: a binomial blur, then every second pixel.

    Source: Zhang 2019 (arXiv 1904.11486), filter of 3.
    """

    window: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("window", torch.outer(line, line).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H / 2, W / 2)."""
        # Zeros at the border, as the convolutions around it have: any other padding costs as much as the blur.
        return F.conv2d(x, self.window.to(x.dtype), stride=2, padding=1, groups=x.shape[1])


class Discriminator(nn.Module):
    """NLCL's discriminator of clean images, a 70x70 PatchGAN with anti-aliased downsampling; also an encoder.

    Four 4x4 convolutions of ``width`` to 8 ``width`` channels, leaky ReLU, InstanceNorm from the second
    on; the first three are followed by a BlurPool. Its levels are the four activations, the deepest
    included and the image itself not. 64 channels are NLCL's (2.76 M parameters); 16 do on a CPU.

    ``normalised`` False leaves InstanceNorm out (ours): it sets every image's mean features to the same
    values, so that what an image has everywhere, as it has rain, is hard to see in its scores.
    ``texture_px``, an odd side, shows it images less their mean over such a square (ours): scenes differ
    most in tone, and rain is fine.
    """

    def __init__(
        self, width: int = 64, *, normalised: bool = True, texture_px: int | None = None
    ) -> None:
        super().__init__()
        if width < 1:
            raise OptionError(f"width {width}: must be at least 1")
        self.channels: tuple[int, ...] = (width, 2 * width, 4 * width, 8 * width)
        inputs = (3, *self.channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs[i], inputs[i + 1], 4, padding=1) for i in range(4)
        )
        self.halves = nn.ModuleList(BlurPool(channels) for channels in self.channels[:3])
        self.tail = nn.Conv2d(self.channels[-1], 1, 4, padding=1)
        self.normalised, self.texture_px = normalised, texture_px
        if not normalised:
            self._keep_scale()

    def _keep_scale(self) -> None:
        """First weights that pass features on at the size that they came in, where no normalisation does."""
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
            nn.init.kaiming_normal_(convolution.weight, a=0.2)
            nn.init.zeros_(convolution.bias)
        nn.init.normal_(self.tail.weight, std=0.01)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1], at least 24 x 24 -> four levels of 1, 1/2, 1/4 and 1/8 of the size."""
        if min(images.shape[2:]) < SMALLEST_CROP_PX:
            height, width = images.shape[2:]
            raise OptionError(f"discriminator: needs crops of at least 24x24, got {width}x{height}")
        seen = 2 * images - 1
        if self.texture_px is not None:
            seen = _TEXTURE_GAIN * high_pass(images, self.texture_px)
        # Three channels convolve several times faster on a CPU when they are contiguous.
        x = seen.contiguous(memory_format=torch.channels_last)
        levels: list[Tensor] = []
        for index, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if index and self.normalised:
                x = F.instance_norm(x)
            x = F.leaky_relu(x, 0.2, inplace=True)
            levels.append(x)
            if index < 3:
                x = self.halves[index](x)
        return levels

    def score(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, 1, h, w), trained towards 1 where clean and 0 elsewhere."""
        scores: Tensor = self.tail(self.forward(images)[-1])
        return scores


def lsgan_discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Least-squares GAN (arXiv 1611.04076), labels 1 and 0; scores of any shape -> scalar."""
    real, fake = at_least_float32(real_scores), at_least_float32(fake_scores)
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


def lsgan_generator_loss(fake_scores: Tensor) -> Tensor:
    """How far the discriminator is from taking the predictions for clean images; scores of any shape -> scalar."""
    return (at_least_float32(fake_scores) - 1).square().mean()


class Vgg19Features(nn.Module):
    """VGG-19 (arXiv 1409.1556) from the user's own file of ImageNet weights; never trained here.

    Args:
        weights_path: a state dict with torchvision's names ("features.0.weight", ...), as its
            ``vgg19`` files hold; nothing is downloaded, and torchvision is not needed.
        layers: which of torchvision's ``features`` are levels; by default the first ReLU of each block.

    Raises:
        OptionError: for a layer that does not exist.
        WeightsError: where the file is missing, damaged or of another network.

    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, weights_path: str | Path, layers: Sequence[int] = (1, 6, 11, 20, 29)
    ) -> None:
        super().__init__()
        modules, widths = _vgg19_modules()
        if not layers or not all(0 <= layer < len(modules) for layer in layers):
            raise OptionError(f"layers {tuple(layers)}: choose from 0 to {len(modules) - 1}")
        self.layers = tuple(sorted(set(layers)))
        self.channels: tuple[int, ...] = tuple(widths[layer] for layer in self.layers)
        self.features = nn.Sequential(*modules[: self.layers[-1] + 1])
        self._load(Path(weights_path))
        self.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN)[:, None, None])
        self.register_buffer("deviation", torch.tensor(_IMAGENET_DEVIATION)[:, None, None])

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] -> one map per layer of ``layers``."""
        x = (images - self.mean) / self.deviation
        levels = []
        for index, module in enumerate(self.features):
            x = module(x)
            if index in self.layers:
                levels.append(x)
        return levels

    def _load(self, path: Path) -> None:
        if not path.is_file():
            raise WeightsError(f"{path}: no such file; name a state dict of torchvision's vgg19")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            wanted = self.state_dict()
            self.load_state_dict({name: state[name] for name in wanted})
        except (KeyError, TypeError, RuntimeError, OSError, EOFError, UnpicklingError) as error:
            raise WeightsError(
                f"{path}: not the weights of torchvision's vgg19 ({(str(error) or 'it is empty').splitlines()[0]})"
            ) from None


class ProjectionHeads(nn.Module):
    """A two-layer perceptron per encoder level, whose output has unit length (NLCL: 256, ReLU, 256).

    All parameters exist from the start, so an optimiser that is given ``parameters()`` trains every one.
    """

    def __init__(self, channels: Sequence[int], *, hidden: int = 256, outputs: int = 256) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
            for width in channels
        )

    def forward(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """One (..., C_level) per level -> one (..., outputs) each; ValueError where a level is missing."""
        pairs = zip(self.heads, vectors, strict=True)
        return [F.normalize(head(level), dim=-1) for head, level in pairs]


def _vgg19_modules() -> tuple[list[nn.Module], list[int]]:
    """The network's feature layers, and the channels behind each."""
    modules: list[nn.Module] = []
    widths: list[int] = []
    inputs = 3
    for width, count in _VGG19_BLOCKS:
        for _ in range(count):
            modules += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            widths += [width, width]
            inputs = width
        modules.append(nn.MaxPool2d(2))
        widths.append(width)
    return modules, widths
