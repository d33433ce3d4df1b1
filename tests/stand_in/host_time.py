"""Print what a call of each Triton kernel costs the host, without a GPU: `python host_time.py [SECONDS [NAME...]]`.

A stand-in for libcuda.so.1 is built by the C compiler; Triton compiles the kernels for sm_90 and launches them through
its own driver into the stand-in, which does nothing. Tensors are on the CPU, and tell so. What a real driver adds to
each launch (about 2 µs), to each descriptor and to each result's memory is not in it. Told beside the time are, for one
planned call, the launches, the descriptors encoded, and how often Triton's own way was taken, which should be never.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
Case = tuple[str, Callable[[], Any]]


def stand_in(folder: Path) -> ctypes.CDLL:
    """Build the stand-in driver, and make torch and Triton believe in it: before any kernel is imported."""
    library = folder / "libcuda.so.1"
    compiler = os.environ.get("CC", "cc")
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wl,-soname,libcuda.so.1", "-o", library, HERE / "driver.c"]
    subprocess.run(command, check=True)
    os.environ |= {"TRITON_LIBCUDA_PATH": str(folder), "TRITON_CACHE_DIR": str(folder / "cache")}
    os.environ["XDG_CACHE_HOME"] = str(folder)
    os.environ.pop("TRITON_INTERPRET", None)
    driver = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    driver.stand_in_launches.restype = driver.stand_in_encoded.restype = ctypes.c_long

    import torch

    torch.cuda.current_device = lambda: -1
    torch.cuda.is_available = lambda: True
    torch.cuda.get_device_capability = lambda *_: (9, 0)
    torch._C._cuda_getCurrentRawStream = lambda _: 0  # type: ignore[attr-defined]

    from sparsebench.kernels.common import triton_launch

    triton_launch.check_device = lambda _: None  # the modules that are imported afterwards take this one
    return driver


def cases() -> Iterator[Case]:
    """Yield the calls by name, of small operands: the host's part does not depend on their size."""
    import torch

    from sparsebench.kernels.bitmap import triton as bitmap
    from sparsebench.kernels.bitmap.layout import BitmapIndex
    from sparsebench.kernels.block_sparse import triton as block_sparse
    from sparsebench.kernels.block_sparse.layout import BlockIndex
    from sparsebench.kernels.csr import triton as csr
    from sparsebench.kernels.csr.layout import RowIndex
    from sparsebench.kernels.plane_conv import triton as convolve
    from sparsebench.kernels.plane_conv.geometry import Geometry
    from sparsebench.kernels.sparse_codes import triton as codes
    from sparsebench.kernels.sparse_codes.layout import CodeIndex

    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    for size, dtype, form in ((64, torch.float16, "descriptors"), (16, torch.float32, "pointers")):
        crow = torch.arange(0, 9, 2, dtype=torch.int32)
        index = BlockIndex.from_rows(
            crow, torch.tensor([0, 1] * 4, dtype=torch.int32), (4 * size, 4 * size), (size, size)
        )
        values, x = draw(index.blocks, size, size, dtype=dtype), draw(4 * size, 256, dtype=dtype)
        yield f"block-sparse dsd, {form}", lambda i=index, v=values, x=x: block_sparse.dsd(i, v, x)
        yield (
            f"block-sparse dsd transposed, {form}",
            lambda i=index, v=values, x=x: block_sparse.dsd(i, v, x, transposed=True),
        )
        yield f"block-sparse dds, {form}", lambda i=index, v=values, x=x: block_sparse.dds(i, v, x.t())
        yield f"block-sparse sdd, {form}", lambda i=index, x=x: block_sparse.sdd(i, x, x.t())
    long = BlockIndex.from_rows(
        torch.tensor([0, 128], dtype=torch.int32), torch.arange(128, dtype=torch.int32), (16, 2048), (16, 16)
    )
    values, x = draw(128, 16, 16), draw(2048, 16)
    yield "block-sparse dsd, a split row", lambda: block_sparse.dsd(long, values, x)
    element = torch.ones(64, 64).nonzero(as_tuple=True)
    rows = RowIndex.from_elements(*element, (64, 64))
    held, dense = draw(rows.nnz), draw(64, 64)
    yield "csr dsd", lambda: csr.dsd(rows, held, dense)
    yield "csr dsd transposed", lambda: csr.dsd(rows, held, dense, transposed=True)
    yield "csr sdd", lambda: csr.sdd(rows, dense, dense)
    entries = CodeIndex(shape=(8, 64), places=torch.arange(16, dtype=torch.int32).repeat(8, 1).contiguous())
    code, error = draw(8, 16), draw(8, 64)
    yield "codes select", lambda: codes.select(error, 16)
    yield "codes decode", lambda: codes.decode(entries, code, dense)
    yield "codes decode_dictionary", lambda: codes.decode_dictionary(entries, code, error)
    yield "codes decode_values", lambda: codes.decode_values(entries, error, dense)
    bits = BitmapIndex.from_elements(*element, (64, 64))
    for n in (1, 64):
        x = draw(64, n)
        yield f"bitmap dsd, {n} columns", lambda x=x: bitmap.dsd(bits, held, x)
        yield f"bitmap dsd transposed, {n} columns", lambda x=x: bitmap.dsd(bits, held, x, transposed=True)
    yield "bitmap sdd", lambda: bitmap.sdd(bits, dense, dense)
    geometry, planes, size = Geometry(kernel=(3, 3), padding=(1, 1)), draw(2, 16, 8, 8), (8, 8)
    pairs = BlockIndex.from_rows(
        torch.arange(0, 17, 2, dtype=torch.int32), torch.tensor([0, 9] * 8, dtype=torch.int32), (8, 144), (1, 9)
    )
    kernel, g = draw(16, 1, 9), draw(2, 8, 8, 8)
    yield "planes convolution", lambda: convolve.blocks(geometry, pairs, kernel, planes)
    yield "planes convolution's input", lambda: convolve.blocks_input(geometry, pairs, kernel, g, size)
    single = RowIndex.from_elements(*torch.ones(8, 144).nonzero(as_tuple=True), (8, 144))
    weight = draw(single.nnz)
    yield "elements convolution", lambda: convolve.elements(geometry, single, weight, planes)


def main(seconds: float = 0.3, *names: str) -> None:
    """Print a line for each case, or for those whose names begin as one of `names` does; 0 seconds: without a time."""
    with tempfile.TemporaryDirectory() as folder:
        driver = stand_in(Path(folder))

        from triton.runtime.jit import JITFunction

        slow, run = [0], JITFunction.run

        def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
            slow[0] += 1
            return run(self, *args, **kwargs)

        JITFunction.run = counted
        for name, call in cases():
            if names and not name.startswith(names):
                continue
            held = [call() for _ in range(4)]  # results at several addresses
            del held
            before = driver.stand_in_launches(), driver.stand_in_encoded(), slow[0]
            call()
            after = driver.stand_in_launches(), driver.stand_in_encoded(), slow[0]
            launches, encoded, own_way = (new - old for new, old in zip(after, before, strict=True))
            took = f"{timed(call, seconds) * 1e6:.1f} us, " if seconds else ""
            print(f"{name}: {took}{launches} launches, {encoded} encoded, {own_way} by Triton's own way", flush=True)


def timed(call: Callable[[], Any], seconds: float) -> float:
    """Return the median time of a call, in rounds of fifty."""
    rounds, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until or len(rounds) < 15:
        start = time.perf_counter()
        for _ in range(50):
            call()
        rounds.append((time.perf_counter() - start) / 50)
    return statistics.median(rounds)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]), *sys.argv[2:])
