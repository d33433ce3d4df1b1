"""Offer the Olshausen-Field model by a short path."""

from sparsebench.suites.workloads.sparse_coding.models.olshausen_field import OlshausenField, OlshausenFieldSettings

__all__ = ["OlshausenField", "OlshausenFieldSettings"]
