"""Names of files and tracks come from strangers: they cannot command a terminal, or add lines."""

import io
import json
import logging

import pytest

from tests.command import vderain
from tests.media.synth import write
from vderain.cli.terminal import PrintableText, one_line, printable
from vderain.live.logs import log_to_stderr

TITLE = "\x1b]0;owned\x07"


@pytest.mark.parametrize("control", ["\x1b[2J", "\x9b2J", "\x07", "a\rb", "\x7f", "\u202e", "\0"])
def test_control_characters_are_shown_and_not_obeyed(control):
    shown = printable(f"<{control}>")
    assert shown.isprintable() and json.loads(f'"{shown}"') == f"<{control}>"


def test_text_and_progress_bars_stay_as_they_are():
    for text in ("Regen über Zürich\n", "雨\t☔\n", "\r 50%|#####     |"):
        assert printable(text) == text
    assert one_line("a\nvderain: done") == "a\\nvderain: done"


def test_a_stream_shows_what_its_encoding_lacks():
    inner = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    stream = PrintableText.over(inner)
    assert stream.write("ü\x1b\udcff\n") == 4
    stream.flush()
    assert inner.buffer.getvalue() == b"\\xfc\\u001b\\udcff\n"
    assert PrintableText.over(held := io.StringIO()) is held


def test_a_file_name_with_control_characters_is_shown_in_errors(tmp_path):
    name = tmp_path / f"a{TITLE}\nvderain: done.mp4"
    done = vderain("info", name)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "\\u001b]0;owned\\u0007" in done.stderr and "\x1b" not in done.stderr


def test_track_names_with_control_characters_are_shown(tmp_path):
    source = tmp_path / f"a{TITLE}.mkv"
    write(source, languages=("eng",), subtitle="ass", attachment=True)
    data = source.read_bytes()
    assert b"font.ttf" in data
    source.write_bytes(data.replace(b"font.ttf", b"fon\x1b[2J\n"))
    done = vderain("info", source)
    assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr
    assert "fon" in done.stdout and "\n)" not in done.stdout  # a line break of the name


def test_log_lines_hold_no_line_of_their_own(capsys):
    logger = logging.getLogger("vderain")
    kept = logger.handlers, logger.propagate, logger.level
    try:
        log_to_stderr("text")
        logging.getLogger("vderain.live").warning("%s is failed", "gate\n12:00:00 gate is running")
        assert capsys.readouterr().err.count("\n") == 1
    finally:
        logger.handlers, logger.propagate = kept[:2]
        logger.setLevel(kept[2])
