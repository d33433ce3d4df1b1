"""Time a workload that another package brings by an entry point in the group `sparsebench.workloads`.

pytest suites/outside.py --workload NAME --benchmark-only --representation csr --benchmark-json=out.json
"""

import pytest

from sparsebench.suites.plugin import CellRunner, named_workload


def test_cell(cell_runner: CellRunner, request: pytest.FixtureRequest) -> None:
    """Measure one cell; see suites/plugin.py."""
    cell_runner(named_workload(request.config))
