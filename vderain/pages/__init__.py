"""Reports for people: HTML pages and SVG plots, by Jinja templates, one style sheet and one plotter.

A page is one file that needs no network, and no script to be read. Every value is escaped but ``Markup``.
"""

from vderain.pages.render import duration, render, shown, size
from vderain.pages.tables import Cell, Row, Table, figure_cell

__all__ = ["Cell", "Row", "Table", "duration", "figure_cell", "render", "shown", "size"]
