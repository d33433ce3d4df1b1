"""Time sparse @ dense, its transposed and its sampled product, and a training step, on every representation.

pytest suites/bench_matmul.py --benchmark-only --representation torch-csr --benchmark-json=out.json
"""

from sparsebench.suites.plugin import CellRunner
from sparsebench.suites.workloads import matmul as WORKLOAD  # noqa: N812  # the name that the plugin looks for


def test_cell(cell_runner: CellRunner) -> None:
    """Measure one cell; see suites/plugin.py."""
    cell_runner(WORKLOAD)
