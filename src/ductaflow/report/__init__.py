"""The report of a session: results -> JSON twin (`twin`) -> one HTML page (`page`), written by `live`."""

from ductaflow.report.live import LiveReport, Working, write_report
from ductaflow.report.merge import Merged, merge_reports
from ductaflow.report.page import render_html
from ductaflow.report.status_report import generate_status_report
from ductaflow.report.stored import Stored
from ductaflow.report.twin import NOT_YET, Entry, build_report

__all__ = [
    "NOT_YET",
    "Entry",
    "LiveReport",
    "Merged",
    "Stored",
    "Working",
    "build_report",
    "generate_status_report",
    "merge_reports",
    "render_html",
    "write_report",
]
