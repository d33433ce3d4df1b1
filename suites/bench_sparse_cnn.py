"""Train the sparse CNN by every method, and time the trained networks on every representation.

pytest suites/bench_sparse_cnn.py --benchmark-only --representation planes --benchmark-json=out.json
"""

from sparsebench.suites.plugin import CellRunner
from sparsebench.suites.workloads.sparse_cnn import workload as WORKLOAD  # noqa: N812  # the plugin looks for it


def test_cell(cell_runner: CellRunner) -> None:
    """Measure one cell; see suites/plugin.py."""
    cell_runner(WORKLOAD)
