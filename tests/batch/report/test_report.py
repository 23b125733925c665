"""The report of a batch: what it tells, what it escapes, and that it is cheap to write again."""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import cv2
import numpy as np
import pytest

from tests.media.synth import STEP, write
from vderain.batch.manifest import ClipRow
from vderain.batch.report.record import IMAGES_FOLDER, write_report
from vderain.cli.wording import as_flags
from vderain.errors import SinkError, SourceError
from vderain.media.before_after import before_and_after

NASTY = 'a/"quoted" <script>alert(1)</script> & \n\u202eb\udcff.mp4'


class Images:
    """Counts what it makes."""

    def __init__(self):
        self.asked = []

    def __call__(self, rainy, dry, at_s):
        self.asked.append((rainy, dry, at_s))
        return b"before", b"after"


def broken(rainy, dry, at_s):
    raise SourceError(f"{rainy}: is gone")


def row(number, name="clip.mp4", state="done", **record):
    known = {
        "frames": 100, "frames_copied": 20, "duration_s": 4.0, "seconds": 10.0, "size_bytes": 500,
        "engines": ["openvino float32"], "losses": [], "notes": [], "tracks_copied": [], "codec": "h264",
    }  # fmt: skip
    return ClipRow(
        number, Path("/in") / name, Path(name), 1000, 0, state, 3 if state == "failed" else 0,
        "it is broken" if state == "failed" else "", record={**known, **record} if state == "done" else {},
    )  # fmt: skip


def rain(peak, count=100):
    """A timeline in which it rains around one frame."""
    scores = [round(float(3 * np.exp(-(((i - peak) / 20) ** 2))), 3) for i in range(count)]
    return {"time_base": [1, 25], "pts": list(range(count)), "scores": scores, "opinions": []}


def read(folder):
    return json.loads((folder / "report.json").read_text()), (folder / "report.html").read_text()


class Reader(HTMLParser):
    """Collects tags and attributes, as a browser sees them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.links = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]


def test_totals_add_up_what_is_done(tmp_path):
    rows = [row(1), row(2, "b.mp4", losses=["no room"]), row(3, "c.mp4", "failed")]
    rows += [row(4, "d.mp4", "skipped"), row(5, "e.mp4", "planned")]
    write_report(tmp_path, tmp_path, rows, seconds=12.5, images=Images())
    totals = read(tmp_path)[0]["totals"]
    assert totals == {
        "clips": 5, "done": 2, "with_losses": 1, "failed": 1, "skipped": 1, "waiting": 1,
        "frames": 200, "frames_copied": 40, "duration_s": 8.0, "work_s": 20.0, "run_s": 12.5,
        "frames_per_s": 8.0, "times_real_time": 0.4, "source_bytes": 2000, "output_bytes": 1000,
    }  # fmt: skip


def test_what_failed_stands_first_and_then_what_was_lost(tmp_path):
    rows = [
        row(1, "fine.mp4"),
        row(2, "lossy.mp4", losses=["no room"]),
        row(3, "bad.mp4", "failed"),
    ]
    write_report(tmp_path, tmp_path, rows, images=Images())
    page = read(tmp_path)[1]
    places = [
        page.index(text)
        for text in ("bad.mp4<", "it is broken", "lossy.mp4<", "no room", "fine.mp4<")
    ]
    assert places == sorted(places)


def test_names_are_escaped_and_the_link_leads_to_the_file(tmp_path):
    target = tmp_path / "target"
    (target / NASTY).parent.mkdir(parents=True)
    (target / NASTY).write_bytes(b"video")
    rows = [row(1, NASTY), row(2, NASTY + "x", "failed")]
    write_report(tmp_path, target, rows, images=Images())
    told, page = read(tmp_path)
    reader = Reader(page)
    assert "script" not in reader.tags
    assert "\u202e" not in page
    assert "\\n\\u202eb\\udcff.mp4" in page
    (link,) = [link for link in reader.links if link.startswith("target/")]
    assert re.fullmatch(r"[\w/%.~-]+", link)
    assert os.path.exists(os.path.join(os.fsencode(tmp_path), unquote_to_bytes(link)))
    assert told["clips"][0]["output"] == NASTY


def test_the_page_needs_nothing_from_outside(tmp_path):
    write_report(tmp_path, tmp_path, [row(1, rain=rain(30))], images=Images())
    reader = Reader(read(tmp_path)[1])
    assert "script" not in reader.tags
    files = [link for link in reader.links if link.startswith(IMAGES_FOLDER)]
    assert len(files) == 3
    assert all((tmp_path / file).is_file() for file in files)
    assert not [link for link in reader.links if "//" in link]


def test_images_show_the_moment_with_most_rain_else_the_middle(tmp_path):
    images = Images()
    rows = [row(1, rain=rain(75)), row(2, "b.mp4"), row(3, "c.mp4", rain={"no": "timeline"})]
    write_report(tmp_path, tmp_path, rows, images=images)
    moments = [at_s for *_, at_s in images.asked]
    assert moments[0] == pytest.approx(3.0, abs=0.3)
    assert moments[1:] == [2.0, 2.0]
    told = read(tmp_path)[0]["clips"][0]["rain"]
    assert 0 < told["wet_share"] < 1
    assert told["peak_score"] > 1


def test_images_are_made_once_and_again_for_a_clip_that_was_done_again(tmp_path):
    images = Images()
    for _ in range(2):
        write_report(tmp_path, tmp_path, [row(1), row(2, "b.mp4")], images=images)
    assert len(images.asked) == 2
    write_report(tmp_path, tmp_path, [row(1, seconds=11.0), row(2, "b.mp4")], images=images)
    assert len(images.asked) == 3
    assert len(list((tmp_path / IMAGES_FOLDER).iterdir())) == 4


def test_an_image_that_cannot_be_made_is_left_out(tmp_path):
    write_report(tmp_path, tmp_path, [row(1)], images=broken)
    told, page = read(tmp_path)
    assert told["clips"][0]["before"] == ""
    assert "img" not in Reader(page).tags


def test_an_empty_batch_has_a_report(tmp_path):
    totals = write_report(tmp_path, tmp_path, [], images=Images())
    assert (totals.clips, totals.frames_per_s) == (0, None)


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SinkError, match="report cannot be written"):
        write_report(tmp_path / "file", tmp_path, [], images=Images())


def test_an_interrupted_report_leaves_the_old_one(tmp_path, monkeypatch):
    write_report(tmp_path, tmp_path, [row(1)], images=Images())
    before = (tmp_path / "report.html").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SinkError, match="No space left"):
        write_report(tmp_path, tmp_path, [row(2, "b.mp4")], images=broken)
    assert (tmp_path / "report.html").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.html", "report.json", IMAGES_FOLDER,
    }  # fmt: skip


def test_thumbnails_are_small_upright_and_of_one_moment(tmp_path):
    pts = tuple(range(0, 20 * STEP, STEP))
    long = write(tmp_path / "a.mp4", pts=pts, size=(800, 400), rotation=90)
    short = write(tmp_path / "b.mp4", pts=pts[:10], size=(800, 400), rotation=90)
    sizes = {decoded(data).shape for data in before_and_after(long, short, 0.6)}
    assert sizes == {(720, 360, 3)}
    # The short one has no frame there: both show their first, which are the same.
    first, second = (decoded(data).astype(int) for data in before_and_after(long, short, 0.6))
    assert abs(first - second).mean() < 3
    later = decoded(before_and_after(long, long, 0.6)[0]).astype(int)
    assert abs(first - later).mean() > 3


def decoded(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_options_in_the_report_are_spelled_for_its_reader(tmp_path):
    rows = [
        row(1, losses=["no HDR with hdr='refuse'"], notes=["slots=2 was used"], not_copied="crf=17")
    ]
    write_report(tmp_path, tmp_path, rows, images=Images(), spell=as_flags)
    report, page = read(tmp_path)
    (clip,) = report["clips"]
    assert (clip["losses"], clip["notes"]) == (
        ["no HDR with --hdr refuse"],
        ["--set slots=2 was used"],
    )
    assert clip["not_copied"] == "--crf 17"
    assert "--hdr refuse" in page and "hdr=" not in page
