"""The report of a run as JSON."""

import json

from vderain.cli.wording import as_flags
from vderain.report import write_report


def test_options_in_losses_and_notes_are_spelled_for_the_reader(tmp_path):
    report = {
        "output": "crf=17.mp4",
        "losses": ["HDR is lost without hdr='keep'"],
        "engines": [{"name": "openvino", "notes": ["slots=2 was used"]}],
    }
    write_report(tmp_path / "r.json", report, as_flags)
    written = json.loads((tmp_path / "r.json").read_text())
    assert written == {
        "output": "crf=17.mp4",
        "losses": ["HDR is lost without --hdr keep"],
        "engines": [{"name": "openvino", "notes": ["--set slots=2 was used"]}],
    }


def test_a_report_of_the_library_names_its_fields(tmp_path):
    write_report(tmp_path / "r.json", {"losses": ["HDR is lost without hdr='keep'"]})
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["losses"] == ["HDR is lost without hdr='keep'"]
