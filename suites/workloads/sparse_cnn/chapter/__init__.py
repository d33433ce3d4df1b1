"""The sparse CNN's chapter of the report."""
