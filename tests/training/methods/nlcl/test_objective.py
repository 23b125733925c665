"""NLCL's objective inside the trainer; each fault that the public code is known for has a test that would see it."""

import pytest
import torch

from tests.networks import TINY_NLCL
from tests.training.methods.nlcl.configs import TERMS, config
from vderain.errors import OptionError
from vderain.network.nlcl import NlclNetwork
from vderain.training.distributed import World
from vderain.training.losses.encoders import Discriminator
from vderain.training.methods.batches import UnpairedBatch
from vderain.training.train import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


def only(*terms, **changes):
    """A configuration with these terms alone."""
    return config(**{name: float(name in terms) for name in TERMS}, **changes)


def batch_of(size=(32, 32), count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return UnpairedBatch(*torch.rand(2, count, 3, *size, generator=generator).unbind())


def names_that_moved(trainer, step):
    parts = {"network": trainer.network, "objective": trainer.objective}
    before = {f"{p}.{n}": v.clone() for p, m in parts.items() for n, v in m.named_parameters()}
    step()
    now = {f"{p}.{n}": v for p, m in parts.items() for n, v in m.named_parameters()}
    return {name for name, value in now.items() if not torch.equal(value, before[name])}


def named(trainer, *starts):
    parts = {"network": trainer.network, "objective": trainer.objective}
    found = {f"{p}.{n}" for p, m in parts.items() for n, _ in m.named_parameters()}
    return {name for name in found if name.startswith(starts)}


# The public code's faults.


def test_every_parameter_has_one_optimiser_and_the_right_one(tmp_path):
    trainer = Trainer(config(), tmp_path)
    generators = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
    judge = [
        id(p) for group in trainer.objective.encoder_optimizer.param_groups for p in group["params"]
    ]
    assert len(generators) == len(set(generators)) and not set(generators) & set(judge)
    objective = trainer.objective
    learning = (
        trainer.network,
        objective.rain,
        objective.background_heads,
        objective.rain_heads,
        objective.location_heads,
    )
    assert set(generators) == {id(p) for part in learning for p in part.parameters()}
    assert set(judge) == {id(p) for p in objective.discriminator.parameters()}
    for optimizer in (trainer.optimizer, objective.encoder_optimizer):
        assert all(group["betas"] == (0.5, 0.999) for group in optimizer.param_groups)
        assert all(group["lr"] == 2e-4 for group in optimizer.param_groups)


@pytest.mark.parametrize(
    ("term", "layers", "heads"),
    [
        ("layer_contrast", "own", ("objective.background_heads", "objective.rain_heads")),
        ("layer_contrast", "pattern", ("objective.background_heads",)),
        ("location_contrast", "own", ("objective.location_heads",)),
    ],
)
def test_each_contrast_trains_its_own_heads_at_every_level(tmp_path, term, layers, heads):
    trainer = Trainer(only(term, layers=layers), tmp_path)
    moved = names_that_moved(trainer, lambda: trainer.train_step(batch_of()))
    every_head = named(trainer, "objective.background", "objective.rain_", "objective.location")
    assert moved & every_head == named(trainer, *heads)
    assert len(trainer.objective.background_heads.heads) == 4
    assert len(trainer.objective.location_heads.heads) == len(trainer.network.channels)
    assert moved & named(trainer, "network")
    assert bool(moved & named(trainer, "objective.rain.")) == (term == "layer_contrast")


def test_the_deepest_level_is_compared_and_the_image_itself_is_not(tmp_path, monkeypatch):
    seen = []

    def spy(levels, locations, size):
        seen.append([tuple(level.shape[1:]) for level in levels])
        return features_at(levels, locations, size)

    from vderain.training.losses import contrastive
    from vderain.training.losses.sampling import features_at

    monkeypatch.setattr("vderain.training.methods.nlcl.objective.features_at", spy)
    monkeypatch.setattr(contrastive, "features_at", spy)
    trainer = Trainer(config(), tmp_path)
    trainer.objective(trainer.network, batch_of(), 0)
    judged = [tuple(level.shape[1:]) for level in trainer.objective.discriminator(batch_of().rainy)]
    drawn = [tuple(level.shape[1:]) for level in trainer.network.levels(batch_of().rainy)]
    assert [channels for channels, *_ in judged] == [4, 8, 16, 32]
    assert seen == 2 * [judged] + 6 * [drawn]


@pytest.mark.parametrize(
    ("term", "layers"),
    [("layer_contrast", "own"), ("layer_contrast", "pattern"), ("location_contrast", "own")],
)
@pytest.mark.parametrize(("size", "count"), [((32, 48), 3), ((50, 33), 1)])
def test_every_image_of_any_batch_and_shape_takes_part(tmp_path, term, layers, size, count):
    trainer = Trainer(only(term, layers=layers), tmp_path)
    batch = batch_of(size, count)
    sides = [batch.rainy] if term == "layer_contrast" else [batch.rainy, batch.clean]
    for side in sides:
        side.requires_grad_()
    trainer.objective(trainer.network, batch, 0)["loss"].backward()
    for side in sides:
        assert all(float(gradient.abs().max()) > 0 for gradient in side.grad)


# What the terms are.


def test_the_terms_are_what_the_paper_says(tmp_path):
    trainer = Trainer(config(), tmp_path)
    batch = batch_of()
    terms = trainer.objective(trainer.network, batch, 0)
    signed = 2 * batch.rainy - 1
    background, rain = trainer.network(signed), trainer.objective.rain(signed)
    scores = trainer.objective.discriminator.score((background + 1) / 2)
    plain = {
        "consistency": ((background + rain - signed) ** 2).mean(),
        "sparsity": (signed - background).abs().mean(),
        "adversarial": ((scores - 1) ** 2).mean(),
    }
    for name, value in plain.items():
        assert torch.allclose(terms[name], value, atol=1e-5), name
    weights = dict(zip(TERMS, (1.0, 0.1, 1.0, 1.0, 1.0), strict=True))
    total = sum(weight * terms[name] for name, weight in weights.items())
    assert torch.allclose(terms["loss"], total)


@pytest.mark.parametrize("term", ["layer_contrast", "location_contrast"])
def test_a_contrast_whose_weight_is_0_is_not_computed(tmp_path, term):
    trainer = Trainer(config(**{term: 0.0}), tmp_path)
    assert set(trainer.train_step(batch_of())) == {"loss", *TERMS} - {term}


def test_the_discriminator_learns_in_its_own_step_only(tmp_path):
    trainer = Trainer(config(), tmp_path)
    judge = named(trainer, "objective.discriminator")
    trainer.objective(trainer.network, batch_of(), 0)["loss"].backward()
    assert all(p.grad is None for p in trainer.objective.discriminator.parameters())
    moved = names_that_moved(trainer, lambda: trainer.objective.train_encoder(World()))
    assert moved and moved <= judge


def test_the_discriminator_takes_clean_images_for_real(tmp_path):
    trainer = Trainer(config(learning_rate=1e-2), tmp_path)
    batch = UnpairedBatch(torch.rand(2, 3, 32, 32), torch.full((2, 3, 32, 32), 0.7))
    for step in range(30):
        trainer.objective(trainer.network, batch, step)
        trainer.objective.train_encoder(World())
    with torch.no_grad():
        background = trainer.network(2 * batch.rainy - 1)
        clean, drawn = (
            trainer.objective.discriminator.score(side).mean()
            for side in (batch.clean, (background + 1) / 2)
        )
    assert clean > drawn + 0.3


def test_statistics_are_gathered_on_rainy_images_alone(tmp_path):
    trainer = Trainer(config(), tmp_path)
    alone = NlclNetwork(TINY_NLCL).train()
    alone.load_state_dict(trainer.network.state_dict())
    trainer.network.train()
    trainer.objective(trainer.network, batch_of(), 0)
    alone(2 * batch_of().rainy - 1)
    for name, value in alone.state_dict().items():
        assert torch.allclose(value, trainer.network.state_dict()[name], atol=1e-6), name


def test_both_rates_are_constant_and_then_fall_to_nothing(tmp_path):
    trainer = Trainer(config(steps=8, constant_share=0.5), tmp_path)
    rates = []
    for _ in range(8):
        trainer.train_step(batch_of())
        optimizers = (trainer.optimizer, trainer.objective.encoder_optimizer)
        rates.append([group["lr"] for one in optimizers for group in one.param_groups])
    expected = [2e-4 * share for share in (1, 1, 1, 1, 1, 0.75, 0.5, 0.25)]
    for column in zip(*rates, strict=True):
        assert column == pytest.approx(expected)
    assert trainer.objective.learning_rate(8) == 0


def test_with_unit_statistics_a_run_begins_near_the_identity_and_gathers_nothing(tmp_path):
    trainer = Trainer(config(statistics="unit"), tmp_path)
    network = trainer.network.train()
    first = trainer.objective(network, batch_of(), 0)
    assert first["consistency"] < 0.05 and first["sparsity"] < 0.15
    state = network.state_dict()
    assert not any(value.any() for name, value in state.items() if "running_mean" in name)
    with pytest.raises(OptionError, match="frozen_statistics"):
        config(statistics="unit", network={**TINY_NLCL.to_dict(), "frozen_statistics": False})


# What is ours, and off unless it is asked for.


def test_at_first_the_discriminator_may_learn_alone_clean_from_rainy(tmp_path):
    trainer = Trainer(config(encoder_lead=1), tmp_path)
    judge = named(trainer, "objective.discriminator")
    assert names_that_moved(trainer, lambda: trainer.train_step(batch_of())) == judge
    second = {}
    moved = names_that_moved(trainer, lambda: second.update(trainer.train_step(batch_of())))
    assert moved > judge and set(second) == {"loss", *TERMS, "discriminator"}


def test_the_discriminator_may_have_a_rate_of_its_own(tmp_path):
    trainer = Trainer(config(encoder_rate=3.0, steps=8, constant_share=0.0), tmp_path)
    trainer.train_step(batch_of())
    (group,) = trainer.objective.encoder_optimizer.param_groups
    assert group["lr"] == pytest.approx(3 * 2e-4)
    trainer.train_step(batch_of())
    assert group["lr"] == pytest.approx(3 * 2e-4 * 7 / 8)


def test_the_discriminator_may_see_more_than_the_generators_learn_from(data, tmp_path, monkeypatch):
    trainer = Trainer(config(batch=1, encoder_batch=3), tmp_path)
    batch = next(trainer.objective.batches(data, tmp_path, 0, World()))
    assert len(batch.rainy) == len(batch.clean) == 3
    batch.rainy.requires_grad_()
    trainer.objective(trainer.network, batch, 0)["loss"].backward()
    assert [bool(gradient.any()) for gradient in batch.rainy.grad] == [True, False, False]
    seen = []
    monkeypatch.setattr(
        trainer.objective.discriminator, "score", lambda x: seen.append(x) or x.mean((1, 2, 3))
    )
    with pytest.raises(RuntimeError, match="grad"):  # of a score without weights
        trainer.objective.train_encoder(World())
    clean, drawn = seen[0][:3], seen[0][3:]
    assert torch.equal(clean, batch.clean)
    with torch.no_grad():
        predictions = [trainer.network(2 * one[None] - 1) for one in batch.rainy]
    assert torch.allclose(drawn, torch.cat(predictions) / 2 + 0.5, atol=1e-5)


def test_locations_may_be_contrasted_in_a_part_of_each_patch(tmp_path):
    trainer = Trainer(only("location_contrast", location_px=32), tmp_path)
    batch = batch_of((48, 64), count=1)
    batch.clean.requires_grad_()
    trainer.objective(trainer.network, batch, 0)["loss"].backward()
    rows, columns = (batch.clean.grad[0].abs().sum(0).sum(axis) > 0 for axis in (1, 0))
    assert int(rows.sum()) == int(columns.sum()) == 32
    with pytest.raises(OptionError, match="location_px 20"):
        config(location_px=20)


def test_a_background_brighter_than_the_rain_may_cost(tmp_path):
    trainer = Trainer(only(brightening=2.0, statistics="unit"), tmp_path)
    terms = trainer.objective(trainer.network, batch_of(), 0)
    signed = 2 * batch_of().rainy - 1
    brighter = (trainer.network(signed) - signed).relu().mean()
    assert torch.allclose(terms["loss"], 2 * brighter, atol=1e-6) and brighter > 0
    assert "brightening" not in Trainer(config(), tmp_path).train_step(batch_of())


def test_the_discriminator_may_see_texture_alone(tmp_path):
    judge = Trainer(config(encoder_texture_px=15), tmp_path).objective.discriminator
    image = torch.rand(1, 3, 64, 64)
    darker, flat = image - 0.3, image.mean((2, 3), keepdim=True).expand_as(image)
    with torch.no_grad():
        assert torch.allclose(judge.score(darker), judge.score(image), atol=1e-4)
        assert not torch.allclose(judge.score(flat), judge.score(image), atol=1e-2)
    with pytest.raises(OptionError, match="encoder_texture_px 14: must be odd"):
        config(encoder_texture_px=14)


def test_without_normalisation_the_discriminator_sees_how_much_of_it_there_is():
    gain = {}
    for normalised in (True, False):
        torch.manual_seed(0)
        judge = Discriminator(8, normalised=normalised)
        faint = torch.rand(1, 3, 64, 64)
        faint, strong = (0.5 + (faint - 0.5) * contrast for contrast in (0.1, 1.0))
        deepest = [judge(image)[-1].detach().std() for image in (faint, strong)]
        gain[normalised] = float(deepest[1] / deepest[0])
    assert gain[True] < 1.5 and gain[False] > 3
