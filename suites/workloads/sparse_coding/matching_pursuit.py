"""Offer the matching-pursuit model by a short path."""

from sparsebench.suites.workloads.sparse_coding.models.matching_pursuit import MatchingPursuit, MatchingPursuitSettings

__all__ = ["MatchingPursuit", "MatchingPursuitSettings"]
