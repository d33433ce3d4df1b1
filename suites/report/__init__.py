"""Turn a journal into tables, plots and one HTML file, and compare two runs."""

from sparsebench.suites.report.compare import Comparison, compare
from sparsebench.suites.report.journal import ReportError, Run, read_run
from sparsebench.suites.report.overview import overview_figure
from sparsebench.suites.report.write import write_report

__all__ = ["Comparison", "ReportError", "Run", "compare", "overview_figure", "read_run", "write_report"]
