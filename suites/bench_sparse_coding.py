"""Time the models of sparse coding, each as it stands, and codes in every representation; train the notebook's network.

pytest suites/bench_sparse_coding.py --benchmark-only --representation torch-csr --benchmark-json=out.json
"""

from sparsebench.suites.plugin import CellRunner
from sparsebench.suites.workloads.sparse_coding import workload as WORKLOAD  # noqa: N812  # the plugin looks for it


def test_cell(cell_runner: CellRunner) -> None:
    """Measure one cell; see suites/plugin.py."""
    cell_runner(WORKLOAD)
