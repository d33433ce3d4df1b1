"""Compute selection and products slowly and obviously, as the oracle of the other kernels; any dtype, any device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparsebench.kernels.sparse_codes.layout import CodeIndex, check_dense, check_dtypes, check_selection, check_values


def select(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row of x (n, N), values (n, k) and places int32 (n, k), ascending in place.

    Of equal entries the first ones win. NaN counts as larger than every number, as in torch.topk, and NaNs count as
    equal; −0 equals 0.

    Raises:
        ValueError: if x is no strided (n, N), or k not in 0 .. N.
    """
    check_selection(x, k, None)
    places = torch.empty((x.shape[0], k), dtype=torch.int32, device=x.device)
    for i, row in enumerate(x.tolist()):

        def rank(j: int, row: list[float] = row) -> tuple[bool, float, int]:
            return (not math.isnan(row[j]), 0.0 if math.isnan(row[j]) else -row[j], j)

        places[i] = torch.tensor(sorted(sorted(range(len(row)), key=rank)[:k]), dtype=torch.int32)
    return x.gather(1, places.long()), places


def decode(index: CodeIndex, values: Tensor, dictionary: Tensor) -> Tensor:
    """Return codes @ dictionary, (n, N) @ (N, d) -> (n, d).

    Raises:
        ValueError: if the operands do not fit.
    """
    check_values(index, values)
    check_dense(index, "dictionary", dictionary, index.shape[1])
    check_dtypes(None, values=values, dictionary=dictionary)
    out = dictionary.new_zeros((index.shape[0], dictionary.shape[1]))
    for i, s, j in entries(index):
        out[i] += values[i, s] * dictionary[j]
    return out


def decode_dictionary(index: CodeIndex, values: Tensor, error: Tensor) -> Tensor:
    """Return codesᵀ @ error, (N, n) @ (n, d) -> (N, d): the gradient of the dictionary where `error` is that of decode.

    Raises:
        ValueError: if the operands do not fit.
    """
    check_values(index, values)
    check_dense(index, "error", error, index.shape[0])
    check_dtypes(None, values=values, error=error)
    out = error.new_zeros((index.shape[1], error.shape[1]))
    for i, s, j in entries(index):
        out[j] += values[i, s] * error[i]
    return out


def decode_values(index: CodeIndex, error: Tensor, dictionary: Tensor) -> Tensor:
    """Return (error @ dictionaryᵀ) at the places, (n, k), 0 in pads: the gradient of the values.

    Raises:
        ValueError: if the operands do not fit.
    """
    check_dense(index, "error", error, index.shape[0])
    check_dense(index, "dictionary", dictionary, index.shape[1], error.shape[1])
    check_dtypes(None, error=error, dictionary=dictionary)
    out = error.new_zeros((index.shape[0], index.slots))
    for i, s, j in entries(index):
        out[i, s] = torch.dot(error[i], dictionary[j])
    return out


def entries(index: CodeIndex) -> list[tuple[int, int, int]]:
    """Return (row, slot, place) of every entry, pads left out."""
    rows: list[list[int]] = index.places.tolist()
    return [(i, s, j) for i, row in enumerate(rows) for s, j in enumerate(row) if j < index.shape[1]]
