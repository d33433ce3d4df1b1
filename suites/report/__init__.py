"""Turn a journal into tables, plots and one HTML file, and compare two runs."""

from sparsebench.suites.report.compare import Comparison, compare
from sparsebench.suites.report.formats import given
from sparsebench.suites.report.journal import ReportError, Run, read_run
from sparsebench.suites.report.overview import overview_svg
from sparsebench.suites.report.write import write_report

__all__ = ["Comparison", "ReportError", "Run", "compare", "given", "overview_svg", "read_run", "write_report"]
