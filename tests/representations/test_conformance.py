"""The checker is checked: right classes pass, and each wrong one fails in the check that is about its fault."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from sparsebench.representations.base import Representation, Spec
from sparsebench.representations.conformance import CHECKS, SCOPE, STATUSES, Report, Result, check, size
from sparsebench.representations.conformance.held import held_bytes
from sparsebench.representations.formats.dense import Dense
from sparsebench.representations.registry import BrokenRepresentationError


def _neighbour(file: str, name: str) -> ModuleType:
    """Import a neighbour file: tests are no package, so there is no name to import it by."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(file))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


wrong = _neighbour("wrong.py", "wrong_representations")
edges = _neighbour("wrong_edges.py", "wrong_edges")
WRONG = wrong.WRONG | edges.WRONG | _neighbour("wrong_conv.py", "wrong_convolutions").WRONG


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Run on one thread: thousands of tiny operations wait for a pool longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_minimal_representation_passes_everything_that_it_gives() -> None:
    report = check(wrong.Minimal)
    assert report.passed, str(report)
    assert [result.name for result in report.results] == list(CHECKS)
    assert {result.name for result in report.skips} == {"transpose"}
    assert "index_add" not in str(report)
    assert str(report).splitlines()[-1] == f"minimal on cpu: {len(CHECKS) - 1} passed, 0 failed, 1 skipped"


def test_the_changelog_counts_the_wrong_representations_that_there_are() -> None:
    changes = " ".join((Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8").split())
    assert f" {len(WRONG)} deliberately wrong representations test it" in changes


@pytest.mark.parametrize(("cls", "intended"), WRONG.items(), ids=lambda item: getattr(item, "__name__", None))
def test_a_wrong_representation_fails_in_the_check_about_its_fault(cls: type[Representation], intended: str) -> None:
    report = check(cls)
    assert not report.passed
    assert report.failures[0].name == intended, str(report)
    if intended.startswith("conv2d"):
        assert len(report.failures) == 1, str(report)
    for result in report.results:
        assert result.status in STATUSES
        assert result.detail.strip()
        assert len(result.detail.splitlines()) == 1
    for result in report.failures:
        assert result.detail.startswith("expected "), result
        assert ", got " in result.detail, result


@pytest.mark.parametrize(
    "cls",
    [
        wrong.TransposesWrong,
        wrong.AliasesItsSource,
        wrong.MutatesItsSource,
        wrong.ReturnsItsBuffer,
        wrong.StorageOmitsIndex,
        wrong.DensifiesInBackward,
        edges.FailsOnRagged,
        edges.IgnoresDuplicates,
        edges.LosesFloat64,
        edges.ReplacesNan,
        edges.BroadcastsX,
        edges.NamesNoKernel,
    ],
    ids=lambda cls: cls.__name__,
)
def test_a_fault_of_one_kind_leaves_unrelated_checks_alone(cls: type[Representation]) -> None:
    related = {"TransposesWrong": 13, "FailsOnRagged": 5, "LosesFloat64": 4}.get(cls.__name__, 1)
    assert len(check(cls).failures) <= related, str(check(cls))


def test_every_check_is_failed_by_some_wrong_representation() -> None:
    assert set(WRONG.values()) == set(CHECKS) | {SCOPE}


def test_a_refused_allocation_is_told_as_densification() -> None:
    (failure,) = (r for r in check(wrong.DensifiesInMatmul).failures if r.name == "no silent densification")
    assert failure.detail.startswith("expected matmul in 256 MiB, got a refused allocation"), failure
    (failure,) = (r for r in check(wrong.DensifiesALittle).failures if r.name == "no silent densification")
    assert failure.detail.startswith("expected matmul in 256 MiB, got a peak of "), failure


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited on Linux only")
def test_the_memory_limit_is_taken_back() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    with size._limited_memory():
        inside = resource.getrlimit(resource.RLIMIT_AS)
        with pytest.raises(RuntimeError, match="allocate"):
            torch.empty(20 * 2**30, dtype=torch.uint8)
    assert inside != before
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert torch.empty(8 * 2**30, dtype=torch.uint8).numel() == 8 * 2**30  # untouched pages: no memory is used


def test_what_is_not_given_is_skipped_and_not_passed() -> None:
    report = check(wrong.Bare)
    assert report.passed, str(report)
    skipped = {result.name for result in report.skips}
    assert {"rmatmul", "sampled_matmul", "gradients", "with_values", "transpose", "conv2d_values"} == skipped


def test_a_refused_dtype_is_skipped_with_its_reason() -> None:
    class Single(wrong.Minimal):  # type: ignore[name-defined, misc]
        @classmethod
        def unsupported(cls, spec: Spec) -> str | None:
            return "only single precision" if spec.dtype != torch.float32 else None

    report = check(Single)
    assert report.passed, str(report)
    assert Result(name="float64", status="skipped", detail="refused: only single precision") in report.results


def test_dense_storage_skips_the_densification_check_with_its_reason() -> None:
    results = {result.name: result for result in check(Dense).results}
    assert results["no silent densification"].status == "skipped"
    assert "dense_storage" in results["no silent densification"].detail


def test_a_keyboard_interrupt_is_the_users() -> None:
    class Interrupted(wrong.Minimal):  # type: ignore[name-defined, misc]
        def matmul(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(Interrupted)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="expected a device of cpu, cuda, got 'tpu'"):
        check(wrong.Minimal, device="tpu")
    with pytest.raises(BrokenRepresentationError, match="subclass of Representation"):
        check(dict)  # type: ignore[arg-type]

    class Needy(wrong.Minimal):  # type: ignore[name-defined, misc]
        requires = ("no_such_module_anywhere",)

    with pytest.raises(ValueError, match="no_such_module_anywhere"):
        check(Needy)


def test_a_report_without_failures_passes() -> None:
    good = Result(name="matmul", status="passed", detail="Multiply.")
    bad = Result(name="storage", status="failed", detail="expected 4, got 5")
    assert Report(representation="x", device="cpu", results=(good,)).passed
    report = Report(representation="x", device="cpu", results=(good, bad))
    assert not report.passed
    assert "failed   storage  expected 4, got 5" in str(report)


class _Slots:
    __slots__ = ("inner",)

    def __init__(self, inner: object) -> None:
        self.inner = inner


def test_held_bytes_finds_every_buffer_once() -> None:
    tensor = torch.zeros(1000)
    array = np.zeros(300)
    assert held_bytes(tensor) == 4000
    assert held_bytes([tensor, tensor[:10], tensor.view(10, 100)]) == 4000
    assert held_bytes(tensor[:10]) == 4000  # a view keeps all of it
    assert held_bytes(array[5:7]) == 2400
    assert held_bytes({"a": (array, torch.from_numpy(array), array[::2].copy())}) == 2400 + 1200
    assert held_bytes(tensor.numpy()) == 4000
    assert held_bytes(_Slots([_Slots(tensor)])) == 4000
    assert held_bytes(lambda: tensor) == 4000
    assert held_bytes([b"12345678", bytearray(10), memoryview(array)]) == 8 + 10 + 2400
    assert held_bytes([torch, np, Representation, "text", 3, torch.float32, torch.device("cpu")]) == 0


def test_held_bytes_takes_sparse_tensors_apart() -> None:
    dense = torch.eye(64)
    values = 64 * 4
    assert held_bytes(dense.to_sparse()) == values + 2 * 64 * 8
    csr = dense.to_sparse_csr()
    narrow = torch.sparse_csr_tensor(
        csr.crow_indices().int(), csr.col_indices().int(), csr.values().clone(), (64, 64), check_invariants=False
    )
    assert held_bytes(narrow) == values + 65 * 4 + 64 * 4
    blocks = dense.to_sparse_bsc((16, 16))
    want = sum(part.untyped_storage().nbytes() for part in (blocks.ccol_indices(), blocks.row_indices()))
    assert held_bytes(blocks) == want + blocks.values().untyped_storage().nbytes()
