"""The document as one HTML file that needs no network and no script."""

from specterm.report.html.page import as_html

__all__ = ["as_html"]
