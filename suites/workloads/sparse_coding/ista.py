"""Offer ISTA by a short path."""

from sparsebench.suites.workloads.sparse_coding.solvers.ista import ista

__all__ = ["ista"]
