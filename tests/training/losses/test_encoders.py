import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vderain.errors import OptionError, WeightsError
from vderain.training.losses.encoders import (
    BlurPool,
    Discriminator,
    ProjectionHeads,
    Vgg19Features,
    frozen_levels,
    lsgan_discriminator_loss,
    lsgan_generator_loss,
)


def test_the_discriminator_has_the_size_of_nlcls():
    count = sum(value.numel() for value in Discriminator().parameters())
    assert count == 2_764_737
    assert round(count / 1e6, 2) == 2.76


@pytest.mark.parametrize("size", [(24, 24), (40, 61)])
def test_levels_are_the_activations_down_to_the_deepest_and_not_the_image(size):
    network = Discriminator(width=4)
    images = torch.rand(2, 3, *size)
    levels = network(images)
    assert tuple(level.shape[1] for level in levels) == network.channels == (4, 8, 16, 32)
    assert [network.convolutions[i].out_channels for i in range(4)] == [4, 8, 16, 32]
    assert all(
        abs(level.shape[2] - size[0] / 2**i) <= 2 and abs(level.shape[3] - size[1] / 2**i) <= 2
        for i, level in enumerate(levels)
    )
    deepest = levels[-1]
    assert torch.equal(network.score(images), network.tail(deepest))
    shallow = F.leaky_relu(network.convolutions[0](2 * images - 1), 0.2)
    assert torch.allclose(levels[0], shallow, atol=1e-6)


def test_samples_do_not_see_each_other():
    network, images = Discriminator(width=2), torch.rand(3, 3, 32, 32)
    together, alone = network.score(images), network.score(images[1:2])
    assert torch.allclose(together[1:2], alone, atol=1e-5)


def test_a_discriminator_refuses_what_it_cannot_judge():
    with pytest.raises(OptionError, match="at least 24x24, got 40x23"):
        Discriminator(width=2)(torch.rand(1, 3, 23, 40))
    with pytest.raises(OptionError, match="width 0"):
        Discriminator(width=0)


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_blur_pool_is_a_binomial_blur_of_every_second_pixel(size):
    image = np.random.default_rng(0).random((2, *size))
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    window = np.outer([1, 2, 1], [1, 2, 1]) / 16
    expected = np.array(
        [
            [
                [(padded[c, y : y + 3, x : x + 3] * window).sum() for x in range(0, size[1], 2)]
                for y in range(0, size[0], 2)
            ]
            for c in range(2)
        ]
    )
    found = BlurPool(2)(torch.from_numpy(image)[None])
    assert np.allclose(found[0].numpy(), expected)


def test_frozen_levels_are_the_same_but_spare_the_parameters():
    network, images = Discriminator(width=2), torch.rand(2, 3, 32, 32, requires_grad=True)
    levels = frozen_levels(network, images)
    assert all(torch.equal(a, b) for a, b in zip(levels, network(images), strict=True))
    sum(level.square().sum() for level in levels).backward()
    assert images.grad.abs().sum() > 0
    assert all(value.grad is None and value.requires_grad for value in network.parameters())


def test_lsgan_losses():
    generator = torch.Generator().manual_seed(0)
    real, fake = (
        torch.randn(2, 1, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    values = real.flatten().tolist(), fake.flatten().tolist()
    judged = [sum((v - 1) ** 2 for v in values[0]) / 24, sum(v * v for v in values[1]) / 24]
    assert lsgan_discriminator_loss(real, fake).item() == pytest.approx(sum(judged) / 2)
    expected = sum((v - 1) ** 2 for v in values[1]) / 24
    assert lsgan_generator_loss(fake).item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lsgan_discriminator_loss, (real, fake))
    assert torch.autograd.gradcheck(lsgan_generator_loss, (fake,))


def test_the_discriminators_gradient():
    torch.manual_seed(0)
    network = Discriminator(width=1).double()
    image = torch.rand(1, 3, 24, 24, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: lsgan_generator_loss(network.score(x)), image, fast_mode=True
    )


def test_heads_give_unit_vectors_for_every_level_and_all_of_them_learn():
    heads = ProjectionHeads((3, 5), hidden=8, outputs=6)
    vectors = [torch.rand(2, 4, 3), torch.rand(2, 4, 5)]
    predictions = heads(vectors)
    assert [tuple(prediction.shape) for prediction in predictions] == [(2, 4, 6), (2, 4, 6)]
    assert all(torch.allclose(a.norm(dim=-1), torch.ones(2, 4)) for a in predictions)
    sum(prediction[..., 0].sum() for prediction in predictions).backward()
    assert all(value.grad.abs().sum() > 0 for value in heads.parameters())
    with pytest.raises(ValueError):  # noqa: PT011  # zip's message differs between versions
        heads(vectors[:1])


def test_heads_are_nlcls_by_default():
    (head,) = ProjectionHeads((512,)).heads
    assert [(m.in_features, m.out_features) for m in head if isinstance(m, nn.Linear)] == [
        (512, 256),
        (256, 256),
    ]


@pytest.fixture
def vgg_file(tmp_path):
    generator = torch.Generator().manual_seed(0)
    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64)}
    state = {}
    for index, shape in shapes.items():
        state[f"features.{index}.weight"] = 0.05 * torch.randn(*shape, 3, 3, generator=generator)
        state[f"features.{index}.bias"] = torch.randn(shape[0], generator=generator)
    state["classifier.0.bias"] = torch.zeros(3)
    path = tmp_path / "vgg19.pth"
    torch.save(state, path)
    return path


def test_vgg_levels_are_those_of_its_layers(vgg_file):
    encoder = Vgg19Features(vgg_file, layers=(6, 1))
    assert encoder.channels == (64, 128)
    assert not any(value.requires_grad for value in encoder.parameters())
    images = torch.rand(2, 3, 12, 16)
    mean, deviation = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    x = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
    state = torch.load(vgg_file, weights_only=True)

    def layer(x, index):
        weights = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
        return F.conv2d(x, *weights, padding=1).relu()

    first = layer(x, 0)
    expected = [first, layer(F.max_pool2d(layer(first, 2), 2), 5)]
    found = encoder(images)
    assert len(found) == 2
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))


def test_vgg_files_that_do_not_fit_are_named(vgg_file, tmp_path):
    with pytest.raises(WeightsError, match=r"vgg19.pth: .*features.7.weight"):
        Vgg19Features(vgg_file, layers=(8,))
    with pytest.raises(WeightsError, match=r"none.pth: no such file"):
        Vgg19Features(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(WeightsError, match=r"text.pth: not the weights"):
        Vgg19Features(tmp_path / "text.pth", layers=(1,))
    (tmp_path / "empty.pth").touch()
    with pytest.raises(WeightsError, match=r"empty.pth: not the weights"):
        Vgg19Features(tmp_path / "empty.pth", layers=(1,))
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"list.pth: not the weights"):
        Vgg19Features(tmp_path / "list.pth", layers=(1,))
    for layers in ((), (37,), (-1,)):
        with pytest.raises(OptionError, match="layers"):
            Vgg19Features(vgg_file, layers=layers)


def test_vggs_default_levels_are_the_first_relu_of_each_block(monkeypatch, vgg_file):
    monkeypatch.setattr(Vgg19Features, "_load", lambda self, path: None)
    with torch.device("meta"):
        encoder = Vgg19Features(vgg_file)
    assert encoder.channels == (64, 128, 256, 512, 512)
    previous = [encoder.features[layer - 1] for layer in encoder.layers]
    assert all(isinstance(module, nn.Conv2d) for module in previous)
    assert all(isinstance(encoder.features[layer - 2], nn.MaxPool2d) for layer in (6, 11, 20, 29))
