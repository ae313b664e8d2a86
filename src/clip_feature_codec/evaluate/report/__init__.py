"""An evaluation to look at: one HTML page, figures, tables, a picture grid, and text for the terminal."""

from clip_feature_codec.evaluate.report.figures import write_figure, write_figures
from clip_feature_codec.evaluate.report.grid import write_grid
from clip_feature_codec.evaluate.report.page import html_page
from clip_feature_codec.evaluate.report.pictures import Pictures
from clip_feature_codec.evaluate.report.tables import write_table
from clip_feature_codec.evaluate.report.text import text_table

__all__ = [
    "Pictures",
    "html_page",
    "text_table",
    "write_figure",
    "write_figures",
    "write_grid",
    "write_table",
]
