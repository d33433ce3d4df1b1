"""Check that kernels compute in a forked process as before the fork: there a parallel loop would hang or be ended."""

from __future__ import annotations

import subprocess
import sys

import pytest

WORK = """
import multiprocessing, sys, warnings
import torch
from torch.utils.data import DataLoader, Dataset

warnings.simplefilter("ignore")

def compute():
    from sparsebench.kernels.sparse_codes import products
    from sparsebench.representations import registry
    from sparsebench.representations.pattern import Pattern
    from sparsebench.suites.workloads.sparse_coding.solvers.fista import fista
    from sparsebench.suites.workloads.sparse_coding.solvers.omp import omp

    draw = torch.Generator().manual_seed(0)
    def normal(*shape):
        return torch.randn(*shape, generator=draw)

    pattern = Pattern(kind="block", block=(16, 16))
    matrix, x, g = pattern.tensor((512, 512), 0.8, 0), normal(512, 128), normal(512, 128)
    weight, images = normal(32, 8, 3, 3), normal(4, 8, 14, 14)
    weight *= torch.arange(256).reshape(32, 8, 1, 1) % 3 == 0
    found = {}
    for name in ("csr", "bitmap", "block-sparse", "ell", "planes"):
        built = registry.load(name).build(matrix, pattern)
        found[name] = built.matmul(x)
        found[name + " of a vector"] = built.matmul(x[:, :1].contiguous())
        found[name + " transposed"] = built.rmatmul(g)
        found[name + " sampled"] = built.sampled_matmul(g, x.t())
        if name != "ell":
            filters = registry.load(name).build(weight)
            found[name + " convolved"] = filters.conv2d(images)
            found[name + " gradient"] = filters.conv2d_input(normal(4, 32, 12, 12), (14, 14))
    found["values"], found["places"] = products.select(normal(512, 1000), 16)
    pictures, atoms = normal(64, 20), normal(50, 20)
    found["fista"] = fista(pictures, atoms, 0.3).code.to_dense()
    found["fista, positive"] = fista(pictures, atoms, 0.3, positive=True).code.to_dense()
    found["omp"] = omp(pictures, atoms, 5).to_dense()
    found["omp by residuals"] = omp(pictures, atoms, 5, gram_bytes=0).to_dense()
    return found

class Data(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, number):
        return compute()

def answer(queue):
    torch.set_num_threads(1)  # as DataLoader does: torch's own pool stays behind in the parent, too
    queue.put({name: tensor.numpy() for name, tensor in compute().items()})

torch.randn(2000, 2000) @ torch.randn(2000, 2000)  # sets up torch's pool, if that has threads
way, before = sys.argv[1], sys.argv[2] == "before"
expected = compute() if before else None
if way == "loader":
    (found,) = DataLoader(Data(), batch_size=None, num_workers=1, multiprocessing_context="fork", timeout=60)
else:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=answer, args=(queue,), daemon=True)
    child.start()
    found = {name: torch.from_numpy(array) for name, array in queue.get(timeout=60).items()}
    child.join()
expected = expected or compute()
for name, want in expected.items():
    # without threads, or by another kernel, sums may be taken in another order: 100 terms of about 1 each
    torch.testing.assert_close(found[name], want, rtol=1e-4, atol=1e-4, msg=lambda text: f"{name}: {text}")
print(len(found), "fine")
"""


@pytest.mark.parametrize("used", ["before", "first"])
@pytest.mark.parametrize("way", ["loader", "process"])
def test_a_forked_process_computes_what_its_parent_does(way: str, used: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", WORK, way, used], capture_output=True, text=True, timeout=150, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "34 fine\n"
