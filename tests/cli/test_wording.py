"""Messages of the library name fields; the command line shows its own options."""

import ast
import re
from pathlib import Path

import pytest

import vderain
import vderain.engines
import vderain.training
from vderain.cli.wording import as_flags


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("crf=99: must be 0 to 63", "--crf 99: must be 0 to 63"),
        ("timeout_s=0.1: must be 0.5 to 300.0", "--timeout 0.1: must be 0.5 to 300.0"),
        ("use hdr='keep' to go on", "use --hdr keep to go on"),
        ("exists already; use overwrite=True.", "exists already; use --overwrite."),
        ("slots=99: must be 0 to 16", "--set slots=99: must be 0 to 16"),
        ("use decoder='software'", "use --set decoder=software"),
        ("wait_engine=True: waits", "--set wait-engine=true: waits"),
        ("left by include='*_F.mp4'", "left by --include '*_F.mp4'"),
        ("give ray='local'", "give --ray=local"),
        ("codec='h264' or 'hevc'", "--codec h264 or 'hevc'"),
        ("rtsp://h/a?tries=3&codec=x", "rtsp://h/a?tries=3&codec=x"),
        ("strange=3 and a=b", "strange=3 and a=b"),
    ],
)
def test_options_in_messages_are_shown_as_flags(message, shown):
    assert as_flags(message) == shown


def test_the_library_raises_no_message_that_names_a_flag():
    roots = [
        Path(package.__file__).parent for package in (vderain, vderain.engines, vderain.training)
    ]
    named = []
    for path in sorted(path for root in roots for path in root.rglob("*.py")):
        if "cli" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and node.exc is not None:
                texts = [
                    part.value
                    for part in ast.walk(node.exc)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                ]
                for command in ("ray start --head", "vderain export --graphs"):
                    texts = [text.replace(command, "") for text in texts]
                named += [(path.name, t) for t in texts if re.search(r"(?<![\w-])--[a-z]", t)]
    assert named == []
