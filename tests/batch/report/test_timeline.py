from fractions import Fraction
from xml.etree import ElementTree

import numpy as np
import pytest

from vderain.batch.rain.detector import RainTimeline
from vderain.batch.report.timeline import timeline_svg


def timeline(scores):
    pts = tuple(range(100, 100 + len(scores)))
    return RainTimeline(pts, Fraction(1, 10), np.asarray(scores, np.float32))


def rects(svg, kind):
    found = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}rect")
    return [(float(r.get("x")), float(r.get("width"))) for r in found if r.get("class") == kind]


def test_the_image_shows_rain_and_copies_where_they_were():
    svg = timeline_svg(timeline([0] * 100 + [3] * 100), [(100, 150)], 20.0, title="a<b>.mp4")
    (wet,), (copied,) = rects(svg, "wet"), rects(svg, "copied")
    assert wet == pytest.approx((44 + 664 * 9 / 20, 664 * 11 / 20), abs=0.2)
    assert copied == pytest.approx((44, 664 / 4), abs=0.2)
    assert "a&lt;b&gt;.mp4" in svg and "prefers-color-scheme" in svg and "http" not in svg[45:]


@pytest.mark.parametrize("scores", [[], [1.0], [float("nan")] * 3, [0] * 5 + [float("nan")] * 9])
def test_a_clip_of_which_little_is_known_still_has_an_image(scores):
    svg = timeline_svg(timeline(scores), [], 0.0)
    assert "nan" not in svg
    ElementTree.fromstring(svg)


def test_a_long_clip_has_a_small_image():
    svg = timeline_svg(timeline(np.linspace(0, 3, 50_000)), [], 5000.0)
    assert len(svg) < 20_000
