"""Offer the `sparsebench` command."""

from __future__ import annotations

import io
import re
import sys
import tempfile
import warnings
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from sparsebench.representations import operations, registry
from sparsebench.suites import plan
from sparsebench.suites.doctor.command import doctor

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Time, weigh and judge sparse representations: from which sparsity on does each beat dense?",
)
RUNS = Path("results/runs")
BUDGETS: dict[str, float] = {"quick": 510.0}
"""Seconds of a run by profile, where --time is not given; the others take what they take."""
console = Console(soft_wrap=True, markup=False, highlight=False, emoji=False)


class Exit(IntEnum):
    """What the exit status means."""

    DONE = 0
    FAILED_CELLS = 1
    USER_MISTAKE = 2
    INTERRUPTED = 130


def refuse(error: Exception | str) -> NoReturn:
    """Print one line to stderr and leave with the status of a user's mistake."""
    typer.echo(f"sparsebench: {error}", err=True)
    raise typer.Exit(Exit.USER_MISTAKE)


@app.command("list")
def list_() -> None:
    """Show the representations and the suites, what can be used here, and why the rest cannot."""
    table = Table("representation", "from", "usable", "operations of its own", "trains")
    for name, entry in registry.entries().items():
        try:
            cls = registry.load(name)
        except registry.BrokenRepresentationError as error:
            table.add_row(name, entry.package, f"no: {error}", "", "")
            continue
        missing = registry.missing_requirements(cls)
        usable = f"no: needs {', '.join(missing)}" if missing else "yes"
        own = [part for part in operations.names() if cls.provenance(part) == "native"]
        table.add_row(name, entry.package, usable, ", ".join(own), "yes" if cls.trains() else "no")
    console.print(table)
    suites = Table("suite", "usable", "cells quick", "cells full")
    for suite in plan.suites():
        if why := plan.why_broken(suite, "quick") or plan.why_broken(suite, "full"):
            suites.add_row(suite, f"no: {why}", "", "")
            continue
        workload = plan.workload_of(suite)
        counts = [str(len(plan.plan(workload, profile, registry.names()))) for profile in ("quick", "full")]
        suites.add_row(suite, "yes", *counts)
    console.print(suites)


@app.command()
def run(
    suite: Annotated[list[str] | None, typer.Option(help="Only this suite; may be repeated.")] = None,
    representation: Annotated[
        list[str] | None, typer.Option(help="Only this one (name or module:Class); may be repeated.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    profile: Annotated[
        str, typer.Option(help="quick (minutes), full (hours), or gpu (minutes, matmul on CUDA).")
    ] = "quick",
    only: Annotated[
        str | None, typer.Option(help="Only cells whose id holds this text, as '|block-32x32|' or 'attention'.")
    ] = None,
    levels: Annotated[
        str | None, typer.Option(help="Measure at these sparsities, as 0.5,0.8,0.9, instead of searching break-evens.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Time that the run may take, as 90s or 10m; default: 8.5m for quick.")
    ] = None,
    train: Annotated[
        bool, typer.Option(help="Train networks and dictionaries anew; quick shows kept studies, and checks one.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Run folder; one that exists is resumed.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder with the four MNIST files; also SPARSEBENCH_DATA.")] = None,
    dlmc: Annotated[
        Path | None, typer.Option(help="Folder with the Deep Learning Matrix Collection, for the suite dlmc.")
    ] = None,
    dlmc_sample: Annotated[
        int | None, typer.Option(help="Matrices of it to draw, seeded; default: 24 for quick, all for full.")
    ] = None,
    download: Annotated[bool, typer.Option(help="Download MNIST (11 MB) and use it.")] = False,
    threads: Annotated[int | None, typer.Option(help="For torch, numba and BLAS alike; default: all cores.")] = None,
    cell_timeout: Annotated[float, typer.Option(help="Seconds that one cell may take.")] = 120.0,
    cell_memory: Annotated[
        str | None, typer.Option(help="Memory that a cell's process may hold, as 4GiB; default: 80 % of what is free.")
    ] = None,
) -> None:
    """Measure; every cell is on disk the moment it is done, and an interrupted run resumes with the same --out."""
    from sparsebench.suites.measure import machine  # imported late: `list` and `report` need not wait for numba
    from sparsebench.suites.runner import outlook, progress, run
    from sparsebench.suites.runner.journal import RunFolder, RunFolderError
    from sparsebench.suites.workloads.data import DataError, check_folder, data_folder, download_mnist
    from sparsebench.suites.workloads.dlmc import collection

    if reason := machine.device_problem(device):
        refuse(reason)
    if profile == "gpu" and device != "cuda":
        refuse(f"expected --device cuda with --profile gpu, got {device}: its products take a CPU days; choose quick")
    try:
        folder = download_mnist() if download else check_folder(data_folder(data))
        for note in collection.choose(dlmc, dlmc_sample, profile=plan.check_profile(profile)):
            typer.echo(note, err=True)
        if plan.LAST in (suite or ()):
            collection.collection()  # one line, if it was asked for and there is none
        path = out or RUNS / datetime.now().strftime("%Y-%m-%d-%H%M%S")
        chosen = machine.chosen_threads(threads)
        machine.set_threads(chosen)
        order = run.Order(
            suites=_usable(
                [name for name in plan.choose_suites(suite) if name != plan.LAST or dlmc is not None], profile
            ),
            representations=plan.choose_representations(representation),
            device=device,
            profile=profile,
            data=folder,
            dlmc=None if dlmc is None else dlmc.resolve(),
            dlmc_sample=dlmc_sample,
            threads=chosen,
            cell_timeout_s=cell_timeout,
            cell_memory_bytes=None if cell_memory is None else _bytes(cell_memory),
            out=RunFolder(path=path.resolve()),
            only=only,
            train=train,
            levels=None if levels is None else _levels(levels),
            time_s=_seconds(time) if time is not None else BUDGETS.get(profile) if levels is None else None,
        )
        agendas = run.agendas_of(order)
        console.print(outlook.before(order, agendas))
        if dlmc is None and suite is None:
            console.print("not in this run: pruned networks' own matrices; give --dlmc DIR")
        with progress.shown(console) as tell:
            statuses = run.run(order, tell, agendas)
    except (plan.PlanError, DataError, RunFolderError, ValueError) as error:
        refuse(error)
    except KeyboardInterrupt:
        console.print(f"interrupted; every finished cell is in {path}")
        console.print(f"resume with --out {path}, or see what is there with: sparsebench report {path}")
        raise typer.Exit(Exit.INTERRUPTED) from None
    console.print(", ".join(f"{count} {status}" for status, count in statuses.most_common()))
    if (left := outlook.after(order, agendas)) is not None:
        console.print(left)
    console.print(f"run: {path}")
    raise typer.Exit(Exit.FAILED_CELLS if run.exit_status(statuses) else Exit.DONE)


def _levels(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise plan.PlanError(f"expected --levels as 0.5,0.8,0.9, got {text!r}") from None


def _seconds(text: str) -> float:
    """Return the seconds of "90s", "10m", "2h" or "90"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not found:
        raise plan.PlanError(f"expected --time as 90s, 10m or 2h, got {text!r}")
    return float(found[1]) * {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}[found[2]]


def _bytes(text: str) -> int:
    """Return the bytes of "4GiB", "4G", "1500MiB" or "1500M"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([MG])(?:iB)?", text.strip())
    if not found:
        raise plan.PlanError(f"expected --cell-memory as 4GiB or 1500MiB, got {text!r}")
    return int(float(found[1]) * {"M": 1 << 20, "G": 1 << 30}[found[2]])


def _usable(suites: list[str], profile: str) -> list[str]:
    """Return the suites that can be run, and say of each other one in a line why it is left out.

    Raises:
        PlanError: if none is left.
    """
    broken = {suite: why for suite in suites if (why := plan.why_broken(suite, profile))}
    for suite, why in broken.items():
        typer.echo(f"{suite} left out: {why}", err=True)
    if len(broken) == len(suites):
        raise plan.PlanError(f"expected a suite that can be run, got {', '.join(suites)}; mend its package")
    return [suite for suite in suites if suite not in broken]


@app.command()
def report(
    run_folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN…", help="Default: the newest in results/runs. Several are laid side by side."),
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="html (default), md, csv, parquet or svg, a picture for a README.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for md, csv, svg or parquet; text is printed without it.")
    ] = None,
) -> None:
    """Write report.html (one file, no network), report.md and cells.csv into a run folder, or give one form alone."""
    from sparsebench.suites.report import ReportError, given  # imported late: matplotlib takes a second

    try:
        told = given(run_folders or [newest_run()], form, out)
    except (ReportError, plan.PlanError) as error:
        refuse(error)
    except OSError as error:
        where = error.filename2 or error.filename
        refuse(f"expected to write {where}, got {error.strerror}; make room, or copy the run elsewhere")
    typer.echo(told, nl=False)


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="A run folder.")],
    run_b: Annotated[Path, typer.Argument(help="Another one.")],
    fail_on: Annotated[
        str | None,
        typer.Option(help="Leave with status 1 if a cell or a whole representation is slower (or: faster)."),
    ] = None,
) -> None:
    """Say of every cell whether its speed-up is the same, faster, slower or unclear in the second run."""
    from sparsebench.suites import report

    try:
        found = report.compare(run_a, run_b)
    except report.ReportError as error:
        refuse(error)
    if fail_on is not None and fail_on not in found.counts:
        refuse(f"expected --fail-on {', '.join(found.counts)}, got {fail_on!r}")
    console.print(found)
    raise typer.Exit(Exit.FAILED_CELLS if fail_on is not None and found.has(fail_on) else Exit.DONE)


@app.command()
def selftest(
    time: Annotated[str, typer.Option(help="Time that it may take, as 5m; longer finds smaller differences.")] = "6m",
    threads: Annotated[int | None, typer.Option(help="For torch, numba and BLAS alike; default: all cores.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder for its journal; default: a passing one.")] = None,
) -> None:
    """Measure how often `compare` is wrong here, and which slow-downs it finds; later runs on this machine use it."""
    from sparsebench.suites.measure import machine
    from sparsebench.suites.runner import progress
    from sparsebench.suites.runner.journal import RunFolderError
    from sparsebench.suites.selftest import run as tried

    try:
        chosen = machine.chosen_threads(threads)
        machine.set_threads(chosen)
        with tempfile.TemporaryDirectory(prefix="sparsebench-selftest-") as thrown, progress.shown(console) as tell:
            found = tried.selftest((out or Path(thrown) / "run").resolve(), chosen, _seconds(time), tell)
    except (plan.PlanError, RunFolderError, ValueError) as error:
        refuse(error)
    for line in tried.told(found):
        console.print(line)


@app.command()
def check(
    representation: Annotated[str, typer.Argument(help="Name or module:Class.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Check that a representation keeps the interface's promises."""
    from sparsebench.representations import conformance
    from sparsebench.suites.measure import machine

    if reason := machine.device_problem(device):
        refuse(reason)
    try:
        cls = registry.load(representation)
    except (registry.UnknownRepresentationError, registry.BrokenRepresentationError) as error:
        refuse(error)
    if missing := registry.missing_requirements(cls):
        refuse(f"expected {', '.join(missing)} to be installed for {cls.name}; install it and check again")
    outcome = conformance.check(cls, device=device)
    console.print(str(outcome))
    raise typer.Exit(Exit.DONE if outcome.passed else Exit.FAILED_CELLS)


app.command()(doctor)


def newest_run() -> Path:
    """Return the folder in results/runs that was written last.

    Raises:
        PlanError: if there is none.
    """
    found = sorted(RUNS.glob("*/cells.jsonl"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise plan.PlanError(f"expected a run folder, found none in {RUNS}; name one, or begin with: sparsebench run")
    return found[-1].parent


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # ASCII or latin-1 have no ×: better a ? than nothing
            stream.reconfigure(errors="replace")
    sys.path.insert(0, "")  # module:Class may name a module in the working directory, as with python -m
    # torch says so once a process; who compares layouts knows, or reads it in torch's own documentation
    warnings.filterwarnings("ignore", message="Sparse (CSR|CSC|BSR|BSC) tensor support is in beta")
    app()
