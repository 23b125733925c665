from dataclasses import dataclass

import click
import pytest
from click.testing import CliRunner

from vderain.cli import cli
from vderain.cli.options import OptionsCommand, SetOption, given, options_of, pick
from vderain.errors import OptionError
from vderain.options import EncodeOptions, EngineOptions, RunOptions, check_options, option


@dataclass(frozen=True)
class Sample:
    speed_s: float = option(1.5, "How fast.", low=0.5, high=2.0)
    mode: str = option("a", "Which.", choices=("a", "b"))
    count: int | None = option(None, "How many.", low=1)
    force: bool = option(False, "Really.")
    lanes: int = option(2, "How many lanes.", low=1, high=8, expert=True)
    hold_s: float | None = option(None, "How long.", expert=True)
    loose: bool = option(False, "Without a belt.", expert=True)

    def __post_init__(self):
        check_options(self)


@click.command(cls=OptionsCommand, elsewhere={"--horn": "is for lorries"})
@options_of(Sample)
def command(**values):
    click.echo(repr(pick(Sample, values)))


def run(*arguments):
    return CliRunner().invoke(command, arguments)


def test_the_command_line_has_the_defaults_of_the_dataclass():
    assert run().output.strip() == repr(Sample())


def test_values_arrive_with_their_types():
    result = run("--speed", "0.5", "--mode", "b", "--count", "7", "--force")
    assert result.output.strip() == repr(Sample(0.5, "b", 7, True))


@pytest.mark.parametrize(
    "wrong", [["--speed", "3"], ["--mode", "c"], ["--count", "0"], ["--count", "x"]]
)
def test_the_command_line_has_the_bounds_of_the_dataclass(wrong):
    result = run(*wrong)
    assert result.exit_code == 2 and wrong[0] in result.output


@pytest.mark.parametrize(
    "wrong", [{"speed_s": 3.0}, {"mode": "c"}, {"count": 0}, {"speed_s": float("nan")}]
)
def test_the_library_has_the_same_bounds(wrong):
    (name, value) = next(iter(wrong.items()))
    with pytest.raises(OptionError, match=f"^{name}={value!r}: "):
        Sample(**wrong)


def test_help_shows_every_option_with_its_default():
    output = run("--help").output
    for text in ("--set NAME=VALUE", "lanes=...", "How many lanes.", "1 to 8; default: 2"):
        assert text in output
    for text in ("--speed", "How fast.", "1.5", "--mode", "[a|b]"):
        assert text in output


@pytest.mark.parametrize("options", [RunOptions, EngineOptions, EncodeOptions])
def test_shipped_defaults_are_within_their_own_bounds(options):
    check_options(options())


def test_expert_options_arrive_with_their_types():
    result = run("--set", "lanes=3", "--set", "hold = 1.5", "--set", "loose=true")
    assert result.output.strip() == repr(Sample(lanes=3, hold_s=1.5, loose=True))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "lane=3"], "lane is not known; did you mean lanes?"),
        (["--set", "xyzzy=3"], "xyzzy is not known; use one of lanes, hold, loose"),
        (["--set", "lanes"], "write lanes=VALUE"),
        (["--set", "lanes=two"], "lanes=two: must be a whole number"),
        (["--set", "loose=maybe"], "loose=maybe: write true or false"),
        (["--set", "speed=1"], "speed is an option of its own; use --speed"),
        (["--set", "horn=1"], "horn is for lorries"),
        (["--lanes", "3"], "--lanes is an expert option; use --set lanes=VALUE"),
        (["--horn"], "--horn is for lorries"),
        (["--nothing"], "No such option"),
    ],
)
def test_an_error_for_a_misplaced_option_says_where_it_belongs(words, says):
    result = run(*words)
    assert result.exit_code == 2 and says in " ".join(result.output.split())


def test_expert_options_have_the_bounds_of_the_dataclass():
    result = run("--set", "lanes=9")
    assert isinstance(result.exception, OptionError) and "1 to 8" in str(result.exception)


def test_an_option_that_was_given_is_known_also_with_its_default():
    seen = []

    @click.command(cls=OptionsCommand)
    @options_of(Sample)
    def asked(**values):
        seen.extend(name for name in ("speed_s", "lanes", "mode", "loose") if given(name))

    CliRunner().invoke(asked, ["--speed", "1.5", "--set", "lanes=2"])
    assert seen == ["speed_s", "lanes"]


@pytest.mark.parametrize(
    ("name", "most"), [("run", 20), ("live", 32), ("serve", 32), ("batch", 34), ("compare", 16)]
)
def test_commands_have_few_options_and_an_expert_option_for_the_rest(name, most):
    command = cli.get_command(None, name)
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert len(options) <= most
    assert [option.opts for option in options if isinstance(option, SetOption)] == [["--set"]]
