"""The report of a session: results -> JSON twin (`data`) -> one HTML page (`page`), written by `live`."""

from ductaflow.report.conductor import generate_status_report
from ductaflow.report.data import NOT_YET, Entry, build_report
from ductaflow.report.live import LiveReport, write_report
from ductaflow.report.merge import Merged, merge_reports
from ductaflow.report.page import render_html

__all__ = [
    "NOT_YET",
    "Entry",
    "LiveReport",
    "Merged",
    "build_report",
    "generate_status_report",
    "merge_reports",
    "render_html",
    "write_report",
]
