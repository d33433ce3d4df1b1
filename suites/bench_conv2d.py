"""Time a convolution with a sparse weight or sparse activations, and a training step, on every representation.

pytest suites/bench_conv2d.py --benchmark-only --representation planes --benchmark-json=out.json
"""

from sparsebench.suites.plugin import CellRunner
from sparsebench.suites.workloads import conv2d as WORKLOAD  # noqa: N812  # the name that the plugin looks for


def test_cell(cell_runner: CellRunner) -> None:
    """Measure one cell; see suites/plugin.py."""
    cell_runner(WORKLOAD)
