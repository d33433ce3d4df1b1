"""Time the matrices of the Deep Learning Matrix Collection on every representation.

pytest suites/bench_dlmc.py --dlmc DIR --benchmark-only --representation csr --benchmark-json=out.json
"""

from sparsebench.suites.plugin import CellRunner
from sparsebench.suites.workloads.dlmc import workload as WORKLOAD  # noqa: N812  # the name that the plugin looks for


def test_cell(cell_runner: CellRunner) -> None:
    """Measure one cell; see suites/plugin.py."""
    cell_runner(WORKLOAD)
