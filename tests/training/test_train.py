import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.networks import TINY, randomized
from tests.training.runs import CLEAN, SHAPE, config, log_of
from vderain.cli.training.train import train
from vderain.errors import OptionError, SinkError, SourceError, TrainingError, WeightsError
from vderain.network.card import Card
from vderain.network.config import BEST
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.training.checkpoint import load_checkpoint, save_checkpoint
from vderain.training.distributed import World
from vderain.training.methods.batches import step_batches
from vderain.training.train import Trainer
from vderain.weights import find_weights, load_network, save_network

pytestmark = pytest.mark.usefixtures("one_thread")

SEMI = {
    "real": {"real": {"reader": "real", "path": "clean", "share": 1.0}},
    "unpaired": CLEAN,
    "real_batch": 2,
    "semi_from": 0.5,
    "encoder_width": 4,
    "patch": 48,
}


def states(trainer):
    parts = {
        "network": trainer.network,
        "averaged": trainer.averaged,
        "objective": trainer.objective,
    }
    return {f"{p}.{n}": v.clone() for p, m in parts.items() for n, v in m.state_dict().items()}


def test_training_lowers_the_loss_and_keeps_a_log_and_a_checkpoint(data, tmp_path):
    seen = []
    trainer = Trainer(config(), tmp_path / "run")
    trainer.train(data, seen.append)
    losses = [float(row["loss"]) for row in log_of(tmp_path / "run")]
    assert len(losses) == 3 and losses[-1] < 0.8 * losses[0]
    assert trainer.checkpoint.exists() and not list((tmp_path / "run").glob("*.part"))
    assert [p.step for p in seen] == list(range(1, 31)) and 0 <= seen[-1].waiting_share <= 1


TEMPORAL = {"network": {**SHAPE, "frames": 3}}


@pytest.mark.parametrize(
    "changes",
    [{}, SEMI, TEMPORAL, SEMI | TEMPORAL],
    ids=["supervised", "semi-supervised", "temporal", "temporal semi-supervised"],
)
def test_a_resumed_run_equals_the_uninterrupted_one(data, tmp_path, changes):
    settings = {"steps": 6, "checkpoint_every": 4, **changes}
    whole = Trainer(config(**settings), tmp_path / "whole")
    whole.train(data)

    class KilledError(Exception):
        pass

    def kill(progress):
        if progress.step == 5:  # a step after the checkpoint; real rain began with step 4
            raise KilledError

    with pytest.raises(KilledError):
        Trainer(config(**settings), tmp_path / "killed").train(data, kill)
    resumed = Trainer(config(**settings), tmp_path / "killed")
    resumed.resume()
    assert resumed.step == 4
    resumed.train(data)
    for (name, ours), theirs in zip(states(resumed).items(), states(whole).values(), strict=True):
        assert torch.equal(ours, theirs), name
    kept = [[row[k] for k in ("step", "loss")] for row in log_of(tmp_path / "killed")]
    assert kept == [[row[k] for k in ("step", "loss")] for row in log_of(tmp_path / "whole")]


def test_the_losses_of_the_first_steps_are_what_they_were(data, tmp_path):
    """Golden figures: a change of data, losses or network that nobody meant shows here."""
    trainer = Trainer(config(steps=4, precision="float32", **SEMI), tmp_path / "run")
    batches = step_batches(trainer.config, data, tmp_path, 0, trainer.world)
    terms = [trainer.train_step(next(batches)) for _ in range(4)]
    assert [t["supervised"] for t in terms] == pytest.approx(GOLDEN["supervised"], rel=1e-3)
    assert [t["background"] for t in terms[2:]] == pytest.approx(GOLDEN["background"], rel=1e-2)
    assert [t["rain"] for t in terms[2:]] == pytest.approx(GOLDEN["rain"], rel=1e-2)
    assert "rain" not in terms[1]  # the warm-up is supervised


GOLDEN = {
    "supervised": [0.67433, 0.63217, 0.59791, 0.59767],
    "background": [6.86863, 6.36006],
    "rain": [6.44638, 5.78517],
}


def test_only_the_terms_that_are_switched_on_are_computed(data, tmp_path):
    settings = {**SEMI, "semi_from": 0.0, "background_contrast": 0.0}
    trainer = Trainer(config(**settings), tmp_path / "run")
    terms = trainer.train_step(next(step_batches(trainer.config, data, tmp_path, 0, trainer.world)))
    assert terms["background"] == 0 and terms["rain"] > 0
    off = {**settings, "rain_contrast": 0.0}
    assert Trainer(config(**off), tmp_path / "off").objective.contrast is None


def test_real_rain_leaves_the_normalisation_as_it_was(data, tmp_path):
    trainer = Trainer(config(**{**SEMI, "semi_from": 0.0}), tmp_path / "run")
    batch = next(step_batches(trainer.config, data, tmp_path, 0, trainer.world))
    alone = Trainer(config(patch=48), tmp_path / "alone")
    for each, fed in ((trainer, batch), (alone, replace(batch, real=None, clean=None))):
        each.network.train()
        each.objective(each.network, fed, 0)
    norms = [n for n in trainer.network.state_dict() if n.endswith("running_mean")]
    assert norms
    for name in norms:
        assert torch.equal(trainer.network.state_dict()[name], alone.network.state_dict()[name])
    assert all(m.training for m in trainer.network.modules())


def test_an_infinite_loss_stops_with_the_last_good_state(data, tmp_path):
    trainer = Trainer(config(), tmp_path / "run")
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"step 1: the loss is nan; begin again"):
        trainer.train(data)
    assert not trainer.checkpoint.exists()
    trainer = Trainer(config(checkpoint_every=1, steps=3), tmp_path / "run")

    def spoil(_progress):
        with torch.no_grad():
            next(trainer.network.parameters()).fill_(float("nan"))

    with pytest.raises(TrainingError, match=r"the last good state is .*checkpoint\.pt"):
        trainer.train(data, on_step=spoil)


def test_a_checkpoint_of_another_configuration_is_refused_and_a_longer_run_is_not(data, tmp_path):
    Trainer(config(steps=2), tmp_path / "run").train(data)
    with pytest.raises(OptionError, match=r"another configuration.*network"):
        Trainer(config(steps=2, network={**SHAPE, "rain_width": 4}), tmp_path / "run").resume()
    longer = Trainer(config(steps=4, dry_weight=2.0), tmp_path / "run")
    longer.resume()
    assert longer.step == 2
    assert longer.history == ["from step 2: dry_weight 1.0 -> 2.0", "from step 2: steps 2 -> 4"]


def test_a_checkpoint_from_before_there_were_methods_goes_on(data, tmp_path):
    Trainer(config(steps=1), tmp_path / "run").train(data)
    path = tmp_path / "run" / "checkpoint.pt"
    state = load_checkpoint(path)
    newer = {"schema", "method", "folder"}
    save_checkpoint(path, {name: value for name, value in state.items() if name not in newer})
    longer = Trainer(config(steps=2), tmp_path / "run")
    longer.train(data)
    assert longer.step == 2


def test_a_contrast_is_not_switched_on_in_the_middle_of_a_run(data, tmp_path):
    Trainer(config(steps=1, patch=48), tmp_path / "run").train(data)
    with pytest.raises(OptionError, match=r"another configuration.*unpaired"):
        Trainer(config(steps=2, **SEMI), tmp_path / "run").resume()


def test_a_run_starts_from_given_weights(data, tmp_path):
    given = tmp_path / "given.safetensors"
    save_network(SemiDRDNet(TINY), given, Card("fast", TINY, ""))
    network = SemiDRDNet(TINY)
    trainer = Trainer(config(initial=str(given), steps=1, learning_rate=0.0), tmp_path / "run")
    assert trainer.network.config == network.config
    before = states(trainer)
    trainer.train(data)
    changed = [n for n, v in states(trainer).items() if not torch.equal(v, before[n])]
    assert changed and all("running" in n or "batches" in n for n in changed)
    assert trainer.history == ["began with given.safetensors, trained for unknown steps"]
    with pytest.raises(WeightsError, match="given"):
        Trainer(config(initial=str(given), network={**SHAPE, "rain_width": 4}), tmp_path / "other")


def test_a_run_starts_from_the_shipped_weights_of_a_smaller_tier(tmp_path):
    settings = config(tier="best", network={}, initial="fast")
    trainer = Trainer(settings, tmp_path / "run")
    assert trainer.history[-1].startswith("began with fast.safetensors")
    seen = torch.rand(1, BEST.channels, 32, 32)
    shipped = load_network(*find_weights("fast"))
    with torch.no_grad():
        assert torch.allclose(trainer.network.change(seen), shipped.change(seen), atol=1e-2)


def test_a_run_without_normalisation_absorbs_that_of_its_initial_weights(tmp_path):
    given = tmp_path / "given.safetensors"
    network = randomized(SemiDRDNet(TINY))
    save_network(network, given, Card("fast", TINY, ""))
    plain = {**SHAPE, "normalised": False}
    trainer = Trainer(config(initial=str(given), network=plain), tmp_path / "run")
    rainy = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(trainer.network.change(rainy), network.change(rainy), atol=1e-5)


def test_a_compiled_run_keeps_the_plain_networks_state(data, tmp_path, monkeypatch):
    compiled = []

    def compile_eagerly(network):  # the real back end takes a minute and a C++ compiler
        compiled.append(network)
        return real(network, backend="eager")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", compile_eagerly)
    trainer = Trainer(config(steps=2, compiled=True), tmp_path / "run")
    trainer.train(data)
    assert compiled == [trainer.network]
    plain = Trainer(config(steps=3), tmp_path / "run")
    plain.train(data)
    assert plain.step == 3 and "from step 2: compiled True -> False" in plain.history


def test_a_resumed_run_takes_the_learning_rate_it_is_given(data, tmp_path):
    Trainer(config(steps=2), tmp_path / "run").train(data)
    still = Trainer(config(steps=4, learning_rate=0.0), tmp_path / "run")
    still.resume()
    before = [p.clone() for p in still.network.parameters()]
    still.train(data)
    assert still.step == 4
    assert all(map(torch.equal, before, still.network.parameters()))


@pytest.mark.slow
def test_a_run_goes_on_in_another_precision(data, tmp_path):
    for steps, precision in enumerate(("bfloat16", "float16", "bfloat16"), 1):
        trainer = Trainer(config(steps=steps, precision=precision), tmp_path / "run")
        trainer.train(data)
    assert trainer.step == 3


def test_weights_that_are_no_numbers_do_not_replace_the_last_good_state(data, tmp_path):
    trainer = Trainer(config(steps=6, checkpoint_every=2), tmp_path / "run")

    def spoil(progress):
        if progress.step == 3:  # no loss shows it
            next(trainer.averaged.parameters()).fill_(float("inf"))

    with pytest.raises(TrainingError, match=r"step 4: a weight.*last good state"):
        trainer.train(data, spoil)
    good = Trainer(trainer.config, tmp_path / "run")
    good.resume()
    assert good.step == 2


def test_a_gradient_that_overflows_in_any_process_skips_the_step_in_all(
    data, tmp_path, monkeypatch
):
    def infinite(parameters, world):
        next(iter(parameters)).grad.fill_(float("inf"))  # as the mean with another process' one

    trainer = Trainer(config(precision="float16"), tmp_path / "run")
    before = [p.clone() for p in trainer.network.parameters()]
    batch = next(step_batches(trainer.config, data, tmp_path, 0, trainer.world))
    monkeypatch.setattr("vderain.training.train.average_gradients", infinite)
    trainer.train_step(batch)
    assert all(map(torch.equal, before, trainer.network.parameters()))


def test_what_cannot_be_written_is_named(data, tmp_path):
    (tmp_path / "run" / "log.csv").mkdir(parents=True)
    with pytest.raises(SinkError, match=r"log\.csv"):
        Trainer(config(steps=1), tmp_path / "run").train(data)
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="file"):
        Trainer(config(steps=1), tmp_path / "file" / "run").train(data)


def test_clips_of_real_rain_that_cannot_be_mined_are_named(data, tmp_path, caplog):
    table = {"reader": "rainy_clips", "path": "wet", "share": 1.0}
    mined = config(real={"wet": table})
    with pytest.raises(SourceError, match="wet"):
        step_batches(mined, data, tmp_path, 0, World())
    (tmp_path / "wet").mkdir()
    (tmp_path / "wet" / "broken.mp4").write_bytes(b"rain")
    next(step_batches(mined, data, tmp_path, 0, World()))
    assert "broken.mp4" in caplog.text


def test_mined_layers_reach_the_contrast_and_depend_on_the_step_alone(data, tmp_path, monkeypatch):
    layers = [np.full((64, 96), 0.5, np.float32), np.full((64, 96, 3), 0.1, np.float32)]
    monkeypatch.setattr("vderain.training.methods.batches._mined", lambda *_: layers)
    trainer = Trainer(config(**{**SEMI, "semi_from": 0.0}), tmp_path / "run")
    batches = step_batches(trainer.config, data, tmp_path, 0, trainer.world)
    batch = [next(batches) for _ in range(2)][1]
    again = next(step_batches(trainer.config, data, tmp_path, 1, trainer.world))
    assert batch.mined.shape == (2, 3, 48, 48) and torch.equal(batch.mined, again.mined)
    assert 0 < batch.mined.min() and batch.mined.max() <= 1
    trainer.network.eval()  # or each call would move the statistics
    terms = [
        trainer.objective(trainer.network, each, 1)["rain"].item()
        for each in (batch, batch, replace(batch, mined=None))
    ]
    assert terms[0] == terms[1] != terms[2]


def test_a_run_that_had_ended_says_so(data, tmp_path):
    settings = f"--set=network={{{', '.join(f'{k}={json.dumps(v)}' for k, v in SHAPE.items() if k != 'normalised')}}}"
    arguments = ["paper", "--clean", str(data / "clean"), "--run", str(tmp_path / "run"), settings]
    arguments += ["--steps=1", "--set=batch=1", "--set=patch=32", "--device=cpu"]
    told = [CliRunner().invoke(train, arguments).output for _ in range(2)]
    assert ["nothing was trained" in text for text in told] == [False, True]


def test_a_log_that_cannot_be_continued_is_named_and_left_alone(data, tmp_path):
    run = tmp_path / "run"
    Trainer(config(steps=10), run).train(data)
    (run / "log.csv").write_text("edited\n1,2")
    with pytest.raises(SinkError, match=r"log\.csv.*move it away"):
        Trainer(config(steps=20), run).train(data)
    assert (run / "log.csv").read_text() == "edited\n1,2"


def test_an_error_for_initial_weights_of_another_shape_says_what_differs(data, tmp_path):
    other = replace(TINY, rain_width=TINY.rain_width * 2)
    weights = tmp_path / "other.safetensors"
    save_network(SemiDRDNet(other), weights, Card("fast", other, "", {}, {}, "", ""))
    told = rf"other\.safetensors.* has rain_width {other.rain_width}, not {TINY.rain_width};"
    with pytest.raises(WeightsError, match=told):
        Trainer(config(initial=str(weights)), tmp_path / "run")


def test_real_rain_that_nothing_uses_is_reported(data, tmp_path, caplog):
    settings = config(real={"wet": {"reader": "real", "path": "clean"}})
    step_batches(settings, data, tmp_path, 0, World())
    assert "wet: real rain is not used" in caplog.text
