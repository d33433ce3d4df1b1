"""Share what all timed operations on a code have in common, of the notebook's network and of models."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sparsebench.representations.base import Representation, Spec
from sparsebench.suites.workloads.problem import Problem


class StoredCode(Problem):
    """An operation on the code `tensor` (n, N), held in a representation, or one that stores it anew."""

    operation = "matmul"
    """What a representation is asked, for its Spec; "build" where the operation itself stores the code."""

    def spec(self) -> Spec:
        """Ask for the operation on the code."""
        return Spec(
            operation=self.operation,
            shape=tuple(self.tensor.shape),
            dtype=self.tensor.dtype,
            device=self.device,
            pattern=self.case.pattern,
        )

    def outputs(self, result: Any) -> tuple[Tensor, ...]:
        """Return the result as a tuple, a code strided."""
        if isinstance(result, tuple):
            return result
        return (result.to_dense() if isinstance(result, Representation) else result.detach(),)

    def native_parts(self) -> tuple[str, ...]:
        """Return the operation; none where it stands on the build alone."""
        return () if self.operation == "build" else (self.operation,)

    def builds_inside(self) -> bool:
        """Tell whether the code is stored in the operation."""
        return self.operation == "build"
