"""Check the micro-kernels by themselves: called by address on raw memory, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import threadpoolctl
from numba import njit

from sparsebench.kernels.microkernels import blas, host, mkl, tiles
from sparsebench.kernels.microkernels.call import call
from sparsebench.kernels.microkernels.generated import ARGUMENTS


@njit
def run(address: int, arguments: tuple[int, ...]) -> None:
    call(address, arguments)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(8, 32), (4, 16), (1, 8), (2, 1), (8, 48)])
def test_an_outer_tile(dtype: type, ordered: bool, rows: int, columns: int) -> None:
    """Two of three stored blocks, the second one cut off by the edge; NaN stands wherever nothing may be read."""
    name, size, inner, limit = np.dtype(dtype).name, np.dtype(dtype).itemsize, 6, 16
    rng = np.random.default_rng(0)
    a = rng.standard_normal((3, rows, inner)).astype(dtype)
    b = np.full((18, columns + 3), np.nan, dtype)
    b[:limit, :columns] = rng.standard_normal((limit, columns))
    others, order = np.array([1, 0, 2], np.int32), np.array([2, 2, 0], np.int32)
    used = [2, 0] if ordered else [1, 2]
    a[used[1], :, 4:] = np.nan  # block number 2 of the summed axis begins at 12 and ends at the limit, 16
    c = np.full((rows, columns + 5), 7.0, dtype)
    values = {
        "a": a.ctypes.data, "b": b.ctypes.data, "c": c.ctypes.data,
        "others": others.ctypes.data, "order": order.ctypes.data, "first": 1, "last": 3,
        "a_place": a.strides[0], "b_other": inner * b.strides[0], "inner": inner, "limit": limit,
        "a_row": a.strides[1], "a_inner": size, "b_inner": b.strides[0], "b_column": size,
        "c_row": c.strides[0], "c_column": size,
    }  # fmt: skip
    kernel, *_ = tiles.table(
        "outer", name, (rows,), (columns,), frozenset({(rows, columns)}), ordered, (("a_row", a.strides[1]),)
    )
    run(int(kernel[0, 0]), tuple(values.get(argument, 0) for argument in ARGUMENTS))
    want = a[used[0]].astype(np.float64) @ b[:6, :columns] + a[used[1], :, :4].astype(np.float64) @ b[12:16, :columns]
    np.testing.assert_allclose(c[:, :columns], want, rtol=0, atol=30 * np.finfo(dtype).eps)
    assert (c[:, columns:] == 7).all()


def test_sizes_make_up_every_total() -> None:
    assert tiles.halves(8) == (8, 4, 2, 1)
    assert tiles.used((8, 4, 2, 1), (70, 5, 0)) == {8, 4, 2, 1}
    assert tiles.used((48, 16, 8, 4, 2, 1), (64,)) == {48, 16}
    assert tiles.used((32, 16, 8), (64, 16)) == {32, 16}


def test_a_vector_is_what_the_processor_computes_with() -> None:
    assert host.vector_bytes() in (16, 32, 64)
    assert tiles.lanes("float32") * 4 == tiles.lanes("float64") * 8 == host.vector_bytes()
    assert tiles.lanes("bfloat16") == tiles.lanes("float32")  # computed in float32


def test_kernels_are_compiled_once() -> None:
    arguments = ("dots", "float32", (2,), (2,), frozenset({(2, 2)}), False, (("b_column", 64), ("inner", 16)))
    first = tiles.table(*arguments)[0][0, 0]
    assert tiles.table(*arguments)[0][0, 0] == first != 0


def test_blas_is_kept_to_one_thread_and_given_its_threads_back() -> None:
    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = threads()
        with blas.one_thread():
            with blas.one_thread():
                assert set(threads()) == {1}
            assert set(threads()) == {1}
        assert threads() == before
        with pytest.raises(KeyError), blas.one_thread():
            raise KeyError
        assert threads() == before


def test_mkl_makes_a_kernel_where_it_is_installed() -> None:
    if mkl.library() is None:
        assert mkl.kernel("float32", 8, 8, 8, True, True, 8, 8, 8, 0) is None
        pytest.skip("the package mkl is not installed: seen that no kernel is promised")
    a, b, c = (np.random.default_rng(n).standard_normal((8, 8)).astype(np.float32) for n in range(3))
    for plain in (True, False):
        made = mkl.kernel("float32", 8, 8, 8, plain, True, 8, 8, 8, 1)
        assert made is not None
        got = c.copy()
        run(made[1], (made[0], a.ctypes.data, b.ctypes.data, got.ctypes.data))
        np.testing.assert_allclose(got, c + (a if plain else a.T) @ b, rtol=0, atol=1e-5)
