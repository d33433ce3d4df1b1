"""Offer FISTA by a short path."""

from sparsebench.suites.workloads.sparse_coding.solvers.fista import fista

__all__ = ["fista"]
