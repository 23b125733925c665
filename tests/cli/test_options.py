from dataclasses import dataclass

import click
import pytest
from click.testing import CliRunner

from vderain.cli.options import options_of, pick
from vderain.errors import OptionError
from vderain.options import EncodeOptions, EngineOptions, RunOptions, check_options, option


@dataclass(frozen=True)
class Sample:
    speed_s: float = option(1.5, "How fast.", low=0.5, high=2.0)
    mode: str = option("a", "Which.", choices=("a", "b"))
    count: int | None = option(None, "How many.", low=1)
    force: bool = option(False, "Really.")

    def __post_init__(self):
        check_options(self)


@click.command()
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
    with pytest.raises(OptionError, match="--"):
        Sample(**wrong)


def test_help_shows_every_option_with_its_default():
    output = run("--help").output
    for text in ("--speed", "How fast.", "1.5", "--mode", "[a|b]"):
        assert text in output


@pytest.mark.parametrize("options", [RunOptions, EngineOptions, EncodeOptions])
def test_shipped_defaults_are_within_their_own_bounds(options):
    check_options(options())
