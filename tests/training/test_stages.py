"""Recipes of several stages: read, run, stopped, resumed, averaged, exported."""

import json

import pytest
import torch
from click.testing import CliRunner

from tests.networks import TINY
from tests.training.folders import noise, save
from vderain.cli.training.export import export
from vderain.cli.training.train import train
from vderain.errors import OptionError, WeightsError
from vderain.network.card import Card
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.training.config.stages import load_stages
from vderain.training.stages import RecipeRun, export_recipe, weights_of
from vderain.weights import find_weights, load_network, save_network

pytestmark = pytest.mark.usefixtures("one_thread")

NETWORK = ", ".join(
    f"{k} = {json.dumps(v)}" for k, v in TINY.to_dict().items() if k != "normalised"
)
HEAD = f"""
tier = "tiny"
steps = 2
batch = 2
patch = 32
precision = "float32"
checkpoint_every = 1
network = {{{NETWORK}}}
[sources.clean]
reader = "clean"
path = "clean"
share = 1.0
[[stage]]
name = "first"
[[stage]]
name = "second"
steps = 3
learning_rate = 5e-4
"""
MEAN = """
[[stage]]
name = "mean"
average = {first = 0.25, second = 0.75}
"""


@pytest.fixture
def recipe(tmp_path):
    save(tmp_path / "clean" / "a.png", noise(0))

    def write(text=HEAD + MEAN):
        path = tmp_path / "mine.toml"
        path.write_text(text.replace('tier = "tiny"', 'tier = "fast"'))
        return path

    return write


def call(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def state_of(path):
    return load_network(*find_weights("any", str(path))).state_dict()


def test_each_stage_begins_with_the_weights_of_the_one_before(recipe, tmp_path):
    run = tmp_path / "run"
    done = call(train, recipe(), "--run", run, "--data", tmp_path, "--device", "cpu", "--quiet")
    assert done.exit_code == 0, done.output
    names = ["first", "second", "mean"]
    states = [state_of(weights_of(run, names, name)) for name in names]
    history = Card.load(weights_of(run, names, "second")).training["changes"]
    assert history == ["began with weights.safetensors, trained for 2 steps"]
    for key, mean in states[2].items():
        wanted = 0.25 * states[0][key] + 0.75 * states[1][key]
        assert torch.allclose(mean, wanted, atol=2e-3), key
    assert call(export, run, "-o", tmp_path / "mine.safetensors").exit_code == 0
    card = Card.load(tmp_path / "mine.safetensors")
    assert card.training["command"] == "vderain train mine.toml"
    assert [stage["name"] for stage in card.training["stages"]] == names
    assert card.training["steps"] == 5


def test_a_stopped_recipe_goes_on_in_the_stage_that_it_was_in(recipe, tmp_path):
    stages = load_stages(recipe())
    seen = []
    stopped = RecipeRun(stages, tmp_path / "run")

    def stop(stage, progress):
        seen.append((stage.name, progress.step))
        if seen[-1] == ("second", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.train(tmp_path, stop)
    with pytest.raises(WeightsError, match="second is not finished"):
        export_recipe(tmp_path / "run", tmp_path / "early.safetensors")
    RecipeRun(stages, tmp_path / "run").train(tmp_path, lambda s, p: seen.append((s.name, p.step)))
    assert seen == [("first", 1), ("first", 2), ("second", 1), ("second", 2), ("second", 3)]
    whole = RecipeRun(stages, tmp_path / "whole")
    whole.train(tmp_path)
    names = [stage.name for stage in stages]
    one, other = (state_of(weights_of(tmp_path / run, names, "mean")) for run in ("run", "whole"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_stages_share_the_predictions_of_their_teacher(recipe, tmp_path):
    teacher = tmp_path / "teacher.safetensors"
    save_network(SemiDRDNet(TINY), teacher, Card("fast", TINY, ""))
    taught = HEAD.replace("steps = 2\n", f'steps = 2\nteacher = "{teacher}"\nteacher_patches = 2\n')
    run = tmp_path / "run"
    done = call(train, recipe(taught), "--run", run, "--data", tmp_path, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert [path.parent for path in run.rglob("answer.npy")] == [run / "teacher"]


def test_settings_go_to_all_stages_or_to_the_one_that_is_named(recipe):
    first, second, _ = load_stages(recipe(), ["batch=4", "second.steps=9"])
    assert (first.config.batch, second.config.batch) == (4, 4)
    assert (first.config.steps, second.config.steps) == (2, 9)


def test_a_number_of_steps_is_that_of_all_stages_in_their_proportions(recipe):
    first, second, mean = load_stages(recipe(), steps=50)
    assert (first.config.steps, second.config.steps, mean.config) == (20, 30, None)
    first, second, _ = load_stages(recipe(), steps=1)
    assert (first.config.steps, second.config.steps) == (1, 1)


def test_sources_of_the_command_replace_those_of_a_stage_too(recipe):
    own = 'sources = {other = {reader = "clean", path = "other", share = 1.0}}\n'
    mine = {"mine": {"reader": "clean", "path": "mine", "share": 1.0}}
    stages = load_stages(recipe(HEAD + own + MEAN), sources=mine)
    assert [stage.config.sources for stage in stages[:2]] == [mine, mine]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD.replace('name = "second"', 'name = "first"'), "one name"),
        (HEAD.replace('name = "second"\n', ""), "give it a name"),
        (HEAD + MEAN.replace("0.75", "0.5"), "add up to 1"),
        (HEAD + MEAN.replace("second", "third"), "no stage before"),
        (HEAD + MEAN + "steps = 3\n", "only trust"),
        (HEAD + MEAN + "trust = true\n", "are numbers"),
        (HEAD.replace("steps = 3", "stepps = 3"), "stage second: unknown settings stepps"),
    ],
)
def test_a_stage_that_cannot_be_is_named(recipe, text, told):
    with pytest.raises(OptionError, match=told):
        load_stages(recipe(text))


def test_an_average_can_trust_the_median_more_than_its_stages_do(recipe, tmp_path):
    median = 'frames = 3, fusion = "median"'
    head = HEAD.replace('frames = 1, fusion = "gates"', median)
    assert median in head
    stages = load_stages(recipe(head + MEAN + "trust = 1.5\n"))
    RecipeRun(stages, tmp_path / "run").train(tmp_path)
    names = ["first", "second", "mean"]
    first, second, mean = (state_of(weights_of(tmp_path / "run", names, n)) for n in names)
    bias = "fusion.features.bias"
    moved = mean[bias] - (0.25 * first[bias] + 0.75 * second[bias])
    half = len(moved) // 2  # the weights of the median, then those of the darkest sample
    assert torch.allclose(moved[:half], torch.tensor(1.5), atol=0.01)
    assert torch.allclose(moved[half:], torch.tensor(0.0), atol=0.01)
    card = Card.load(weights_of(tmp_path / "run", names, "mean"))
    assert card.training["trust"] == 1.5


def test_trust_needs_networks_that_begin_with_the_median(recipe):
    with pytest.raises(OptionError, match="stage mean: trust needs"):
        load_stages(recipe(HEAD + MEAN + "trust = 1.5\n"))


def test_a_finished_stage_is_not_trained_longer_behind_the_back_of_later_ones(recipe, tmp_path):
    RecipeRun(load_stages(recipe()), tmp_path / "run").train(tmp_path)
    longer = RecipeRun(load_stages(recipe(), steps=10), tmp_path / "run")
    with pytest.raises(OptionError, match="stage first is finished with 2 steps, and 4 are asked"):
        longer.train(tmp_path)


def test_another_recipe_does_not_go_on_in_the_folder_of_one(recipe, tmp_path):
    RecipeRun(load_stages(recipe()), tmp_path / "run").train(tmp_path)
    other = load_stages(recipe(HEAD.replace('name = "second"', 'name = "last"')))
    with pytest.raises(OptionError, match="other stages"):
        RecipeRun(other, tmp_path / "run").train(tmp_path)


def test_the_command_sets_the_length_of_the_whole_recipe(recipe, tmp_path):
    done = call(train, recipe(), "--steps", 10, "--run", tmp_path / "run", "--data", tmp_path)
    assert done.exit_code == 0, done.output
    weights = [weights_of(tmp_path / "run", ["first", "second"], n) for n in ("first", "second")]
    assert [Card.load(path).training["steps"] for path in weights] == [4, 6]
    assert call(export, tmp_path / "run", "-o", tmp_path / "mine.safetensors").exit_code == 0
    card = Card.load(tmp_path / "mine.safetensors")
    assert card.training["command"] == "vderain train mine.toml --steps 10"
