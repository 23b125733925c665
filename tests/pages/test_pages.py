from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from jinja2 import UndefinedError

from vderain.pages import Cell, Row, Table, duration, figure_cell, render, shown, size
from vderain.pages.plots import Axes, along, line_plot, scatter_plot

ODD = 'a<b>&"c'


class Text(HTMLParser):
    """The text of a page, as a browser shows it."""

    def __init__(self, page):
        super().__init__()
        self.texts, self.tags = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


def batch(**changes):
    values = {
        "title": ODD, "generator": "test", "written": ODD, "tiles": [(ODD, ODD, "bad")], "sections": [],
    }  # fmt: skip
    return render("batch.html", **{**values, **changes})


def test_every_value_on_a_page_is_escaped():
    page = batch()
    assert ODD not in page and Text(page).texts.count(ODD) == 5  # twice as a title


def test_a_value_that_a_page_lacks_is_an_error():
    with pytest.raises(UndefinedError):
        render("batch.html", title="t", generator="g", written="w", tiles=[])


def test_a_table_sorts_by_values_and_names_columns_of_text():
    rows = [
        Row([Cell(ODD), figure_cell(1.2345, 2), figure_cell(None, 2)]),
        Row([Cell("all"), Cell("+1.2", 1.2, "good"), figure_cell(-0.0001, 2)], is_group=True),
    ]
    page = render(
        "evaluation.html", title="t", generator="g", facts={}, clip_plots=[], crops={}, plots=[], gallery={},
        error_gain=4, formulas={}, tables=[Table("T", ["set", "a", "b"], rows, ("set",)), Table("none", [], [])],
    )  # fmt: skip
    tags = Text(page).tags
    assert [values for tag, values in tags if tag == "th"] == [{"class": "text"}, {}, {}]
    assert [values.get("data-value") for tag, values in tags if tag == "td"] == [
        None, "1.234500", None, None, "1.200000", "-0.000100",
    ]  # fmt: skip
    assert "-0.00<" not in page and ">none<" not in page


def test_names_are_shown_on_one_line_and_in_ascii_where_they_hide_something():
    assert shown("a\n\u202eb\udcff.mp4 ä") == "a\\n\\u202eb\\udcff.mp4 ä"


def test_times_and_sizes_are_written_for_people():
    assert (duration(59.94), duration(3723)) == ("59.9 s", "1:02:03")
    assert [size(n) for n in (999, 12_000, 1_240_000_000, 10**13)] == [
        "999 B", "12 kB", "1.2 GB", "10.00 TB",
    ]  # fmt: skip


def test_axes_place_values_between_their_margins_upwards():
    axes = Axes(200, 100, (0, 10), (0, 1), left=20, right=30, top=5, bottom=15)
    assert (axes.x(0), axes.x(10), axes.y(0), axes.y(1)) == (20, 170, 85, 5)
    assert axes.path([(0, 0), (5, 0.5)]) == "20.0,85.0 95.0,45.0"
    assert axes.x_ticks == [0, 2, 4, 6, 8, 10]


def test_plots_are_svg_with_a_line_and_a_point_for_each():
    lines = ElementTree.fromstring(
        line_plot([[(0, 1), (1, 2)], [(0, 3), (1, 1)]], ("x", ODD), ["red", "blue"])
    )
    assert [line.get("stroke") for line in lines.findall("polyline")] == ["red", "blue"]
    assert ODD in [text.text for text in lines.findall("text")]
    points = ElementTree.fromstring(
        scatter_plot({"a": [(1, 2, ODD)], "b": [(2, 1, "n")]}, ("x", "y"))
    )
    assert [dot.find("title").text for dot in points.findall("circle")] == [ODD, "n"]
    assert len(points.findall("line[@class='even']")) == 1


def test_a_plot_has_a_legend_of_its_lines():
    drawn = along("title", [0, 1], {ODD: [1, 2], "other": [2, 1]}, ("frame", "dB"))
    assert Text(drawn).texts[-2:] == [ODD, "other"]


def test_reports_and_the_live_page_share_colours_and_the_slider():
    live, report = render("live.css"), batch()
    for shared in (render("colours.css"), render("base.css")):
        assert shared.strip() in live and shared.strip() in report
    assert "{%" not in live
