"""Take the suites' options and fixtures in."""

from sparsebench.suites.plugin import (
    cell_runner,
    pytest_addoption,
    pytest_benchmark_update_json,
    pytest_generate_tests,
)

__all__ = ["cell_runner", "pytest_addoption", "pytest_benchmark_update_json", "pytest_generate_tests"]
