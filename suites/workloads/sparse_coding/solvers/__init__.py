"""Infer codes on a given dictionary: lasso problems and matching pursuit, in any unit."""
