"""Which signals stop a command, and that tests of them do not depend on how the suite was started."""

import signal
import subprocess
import sys

import pytest

INTERRUPTS = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
SIGNALS = """
import os, signal
from vderain.cli import take_signals
take_signals()
for number in (signal.{first}, signal.{second}):
    try:
        os.kill(os.getpid(), number)
        signal.sigtimedwait([], 0.01)
        print("goes on")
    except KeyboardInterrupt:
        print("stopped")
"""


def child(script, ignored=()):
    def ignore():
        # A suite under nohup ignores SIGHUP, and so would what it starts.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    command = [sys.executable, "-c", script]
    return subprocess.check_output(command, text=True, preexec_fn=ignore).split("\n")[:-1]


def test_children_of_tests_take_interrupts():
    assert child(INTERRUPTS) == ["True"]


def test_children_of_tests_take_interrupts_in_a_suite_that_runs_in_the_background():
    test = f"{__file__}::{test_children_of_tests_take_interrupts.__name__}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        capture_output=True, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("first", "second"), [("SIGTERM", "SIGHUP"), ("SIGHUP", "SIGINT")])
def test_signals_stop_a_command(first, second):
    assert child(SIGNALS.format(first=first, second=second)) == ["stopped", "stopped"]


def test_a_command_under_nohup_outlives_its_terminal():
    script = SIGNALS.format(first="SIGHUP", second="SIGTERM")
    assert child(script, ignored=[signal.SIGHUP]) == ["goes on", "stopped"]


def test_a_command_in_the_background_is_not_stopped_by_ctrl_c_but_by_sigterm():
    script = SIGNALS.format(first="SIGINT", second="SIGTERM")
    assert child(script, ignored=[signal.SIGINT]) == ["goes on", "stopped"]
