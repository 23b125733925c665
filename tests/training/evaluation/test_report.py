import json
import os
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from tests.training.evaluation.test_evaluate import (
    Darkening,
    flickering_clip,
    noise,
    save,
    save_pairs,
)
from vderain.errors import SinkError
from vderain.network.card import Card
from vderain.network.config import NetworkConfig
from vderain.training.evaluation.report import (
    Evaluation,
    ReportFolder,
    check_json,
    choose,
    error_map,
    write_json,
)
from vderain.training.evaluation.scores import NetworkCost, evaluate
from vderain.training.evaluation.suite import Results, make_set
from vderain.training.evaluation.table import table

ODD = 'a<b>&"c'  # a name that a page must not take for HTML


def evaluated(tmp_path, folder=None, name=ODD):
    """Pairs with another method's results, a clip and a dry image."""
    rainy, truth = flickering_clip(tmp_path / "clip")
    for number in range(5):
        save(tmp_path / "other" / f"{number}.png", noise(number))
    save(tmp_path / "dry.png", noise(0))
    sets = [
        make_set("pairs", save_pairs(tmp_path / "pairs", 5), name=name),
        make_set("video", rainy, truth, name="g/one"),
        make_set("video", rainy, truth, name="g/two"),
        make_set("clean", tmp_path / "dry.png"),
    ]
    others = [Results("o<t>her", tmp_path / "other")]
    add = folder.add if folder else None
    scored, timing = evaluate(sets, Darkening(3), others, on_shot=add)
    card = Card("fast", NetworkConfig(), "0123456789abcdef")
    return Evaluation(scored, timing, "mine.safetensors", card, NetworkCost(1234, 5.6))


def made(tmp_path, shown=2, **settings):
    folder = ReportFolder(tmp_path / "report", shown=shown)
    folder.publish(evaluated(tmp_path, folder, **settings))
    return tmp_path / "report"


class Page(HTMLParser):
    """The tags and files of a page; refuses tags that are not closed in order."""

    VOID = frozenset({"meta", "img", "input", "line", "polyline"})

    def __init__(self, text):
        super().__init__()
        self.open, self.files, self.tags = [], set(), set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        values = dict(attributes)
        self.files |= {values[key] for key in ("src", "data-file", "href") if key in values}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_table_shows_before_after_groups_and_what_ran(tmp_path):
    text = table(evaluated(tmp_path))
    pairs = next(line for line in text.splitlines() if line.startswith(ODD))
    before, after = (20 * np.log10(255 / error) for error in (10, 7))
    assert re.search(rf"vderain +5 +{before:.2f} +{after:.2f}", pairs)
    assert re.search(r"mean of g +vderain .* 20\.00 20\.00$", text, re.MULTILINE)
    assert re.search(r"^dry +vderain +1 +38\.59 .* 3\.000 +3$", text, re.MULTILINE)
    for fact in (
        "darkening float32 on here",
        "1,234 parameters, 5.6 GFLOP",
        "0123456789ab",
        "ms per",
    ):
        assert fact in text


def test_json_is_strict_and_says_how_it_was_measured(tmp_path):
    path = tmp_path / "scores.json"
    write_json(path, evaluated(tmp_path))
    values = json.loads(path.read_text(), parse_constant=pytest.fail)
    pairs = values["sets"][0]
    assert (pairs["name"], pairs["layout"], len(pairs["images"])) == (ODD, "pairs", 5)
    assert pairs["images"][0]["o<t>her"]["psnr_db"] is None  # equal to the truth
    assert pairs["means"]["o<t>her"]["psnr_db"] == 100
    assert values["summary"]["g/one"]["flicker_after"] == 20
    assert values["summary"]["mean of g"]["psnr_before_db"] > 0
    assert "psnr_before_db" not in values["summary"]["dry"]
    assert {"PSNR", "SSIM", "flicker"} <= set(values["formulas"])
    assert values["weights"]["parameters"] == 1234
    assert {"processor", "vderain", "numpy"} <= set(values["machine"])
    check_json(path)  # an earlier evaluation may be replaced


def test_json_replaces_nothing_else(tmp_path):
    card = tmp_path / "mine.json"
    card.write_text('{"schema": 1, "tier": "fast"}')
    with pytest.raises(SinkError, match="no earlier evaluation"):
        check_json(card)
    with pytest.raises(SinkError, match="does not exist"):
        check_json(tmp_path / "none" / "scores.json")
    with pytest.raises(SinkError, match="no earlier evaluation"):
        check_json(tmp_path)


def test_the_page_is_whole_and_shows_every_file_of_its_folder(tmp_path):
    report = made(tmp_path)
    text = (report / "index.html").read_text()
    page = Page(text)
    there = {f"images/{path.name}" for path in (report / "images").iterdir()}
    assert page.files == there and len(there) > 10
    assert ODD not in text and "a&lt;b&gt;&amp;&#34;c" in text
    assert "t" not in page.tags and "o&lt;t&gt;her" in text
    assert "http" not in text  # nothing comes from a network
    assert {"index.html", "scores.json", "images"} == set(os.listdir(report))


def test_plots_are_well_formed_and_hold_every_image(tmp_path):
    text = (made(tmp_path) / "index.html").read_text()
    plots = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    assert [len(plot.findall("circle")) for plot in plots] == [5 + 7 + 7, 0, 0]
    curve = plots[1].findall("polyline")[0].get("points").split()
    assert len(curve) == 7


def test_images_on_the_page_are_those_that_were_scored(tmp_path):
    report = made(tmp_path, shown=5, name="pairs")
    for number, brighter in enumerate((10, 7, 0, 0)):  # input, vderain, the other method, truth
        shown = cv2.imread(str(report / "images" / f"001-00000-{number}.jpg"))
        assert shown.mean() == pytest.approx(noise(0).mean() + brighter, abs=1.2)
    assert len(list((report / "images").glob("001-*"))) == 5 * 6


def test_an_error_is_brightened_and_none_is_black():
    truth = noise(0)
    assert error_map(truth, truth).max() < 8
    assert error_map(truth + np.uint8(60), truth).mean() > error_map(truth + 5, truth).mean() > 8


def test_an_earlier_report_is_replaced_and_nothing_else(tmp_path):
    first = made(tmp_path)
    before = (first / "index.html").stat().st_ino
    assert (made(tmp_path) / "index.html").stat().st_ino != before
    (first / "notes.txt").write_text("mine")
    with pytest.raises(SinkError, match="no earlier report"):
        ReportFolder(first, shown=1)
    with pytest.raises(SinkError, match="no earlier report"):
        ReportFolder(tmp_path / "pairs", shown=1)
    with pytest.raises(SinkError, match="does not exist"):
        ReportFolder(tmp_path / "no" / "report", shown=1)
    assert (first / "notes.txt").read_text() == "mine"


def test_an_empty_folder_may_become_a_report(tmp_path):
    (tmp_path / "report").mkdir()
    assert (made(tmp_path) / "index.html").exists()


def test_a_report_that_fails_leaves_the_earlier_one_and_no_rest(tmp_path, monkeypatch):
    report = made(tmp_path)
    before = sorted(os.listdir(tmp_path)), (report / "index.html").read_bytes()
    folder = ReportFolder(report, shown=1)
    result = evaluated(tmp_path, folder)
    replace = os.replace

    def fail_at_the_end(source, target):
        if target == report and source == folder._partial:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_at_the_end)
    with pytest.raises(SinkError, match="No space left"):
        folder.publish(result)
    folder.discard()
    assert (sorted(os.listdir(tmp_path)), (report / "index.html").read_bytes()) == before


def test_half_of_the_images_shown_are_those_with_the_least_gain():
    entries = [(gain, str(index)) for index, gain in enumerate([5, 1, 6, 0, 7, 8, 9, 3])]
    chosen = choose(entries, 4)
    assert {"1", "3"} <= set(chosen) and len(chosen) == 4
    assert chosen == sorted(chosen)
    assert choose(entries, 20) == [name for _, name in entries]
    assert choose(entries, 0) == []


def test_results_without_a_network_make_a_report_too(tmp_path):
    pairs = save_pairs(tmp_path / "set", 1)
    folder = ReportFolder(tmp_path / "report", shown=1)
    save(tmp_path / "other" / "0.png", noise(0))
    results = [Results("other", tmp_path / "other")]
    scored, timing = evaluate([make_set("pairs", pairs)], None, results, on_shot=folder.add)
    folder.publish(Evaluation(scored, timing))
    assert json.loads((tmp_path / "report" / "scores.json").read_text())["weights"] is None
    assert "weights" not in table(Evaluation(scored, timing))
