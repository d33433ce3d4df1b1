"""Give a report in the one form that is asked for: Markdown, the cells as CSV or Parquet, or a small picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from sparsebench.suites.files import write_whole
from sparsebench.suites.report.journal import ReportError, Run, read_run
from sparsebench.suites.report.overview import overview_svg
from sparsebench.suites.report.side_by_side import in_html, in_markdown, side_by_side
from sparsebench.suites.report.table import Section
from sparsebench.suites.report.write import as_markdown, lead, write_report

FORMATS: tuple[str, ...] = ("html", "md", "csv", "parquet", "svg")
TOGETHER: dict[str, Callable[[Sequence[Section], Sequence[str]], str]] = {"md": in_markdown, "html": in_html}
"""Formats of several runs."""
PARQUET = "cells.parquet"
"""Written into the run's folder, where no other place is named: it is nothing to print."""


def given(folders: Sequence[Path], form: str | None, out: Path | None) -> str:
    """Return what `sparsebench report` prints, once everything that is asked for is written.

    Args:
        folders: of runs; several are laid side by side, in Markdown or HTML.
        form: of FORMATS; None for html, or md where there are several runs.
        out: the file to write; None prints text, and writes html and parquet of one run into its folder.

    Raises:
        ReportError: if the format is unknown, or does not suit; a folder is no run; pyarrow is missing; or the file
            cannot be written.
    """
    form = form or ("html" if len(folders) == 1 else "md")
    if form not in FORMATS:
        raise ReportError(f"expected --format {', '.join(FORMATS)}, got {form!r}")
    if len(folders) > 1 and form not in TOGETHER:
        raise ReportError(f"expected --format {' or '.join(TOGETHER)} for several runs, got {form}; or name one run")
    if form == "html" and len(folders) == 1:
        if out is not None:
            raise ReportError("expected --out with another format, got html, which stands in the run's folder")
        return f"report: {write_report(folders[0])}\n"
    if form == "parquet":
        run = read_run(folders[0])
        return f"cells: {_parquet(run.frame, out or run.folder / PARQUET)}\n"
    text = TOGETHER[form](*side_by_side(folders)) if len(folders) > 1 else _text(read_run(folders[0]), form)
    if out is None:
        return text
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, text)
    except OSError as error:
        raise _unwritten(out, error) from error
    return f"report: {out}\n"


def _text(run: Run, form: str) -> str:
    if form == "md":
        return as_markdown(run)
    if form == "csv":
        return run.frame.to_csv(index=False)
    return overview_svg(run.frame, lead(run))


def _parquet(frame: pd.DataFrame, path: Path) -> Path:
    # a column of a newer journal may hold texts and numbers; Parquet has one type a column
    texts = {
        name: frame[name].map(lambda value: value if value is None else str(value))
        for name in frame.columns
        if frame[name].dtype == object
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.assign(**texts).to_parquet(path, engine="pyarrow", index=False)
    except ImportError as error:
        raise ReportError(
            "expected pyarrow for --format parquet, got none; install sparsebench[parquet], or take --format csv"
        ) from error
    except OSError as error:
        raise _unwritten(path, error) from error
    return path


def _unwritten(path: Path, error: OSError) -> ReportError:
    return ReportError(f"expected to write {path}, got {type(error).__name__}: {error.strerror}; name another --out")
