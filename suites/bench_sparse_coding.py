"""Time encoding, decoding and learning of sparse codes on every representation of the code, and train the notebook's.

pytest suites/bench_sparse_coding.py --benchmark-only --representation torch-csr --benchmark-json=out.json
"""

from sparsebench.suites.plugin import CellRunner
from sparsebench.suites.workloads.sparse_coding import workload as WORKLOAD  # noqa: N812  # the plugin looks for it


def test_cell(cell_runner: CellRunner) -> None:
    """Measure one cell; see suites/plugin.py."""
    cell_runner(WORKLOAD)
