"""Define what a workload hands to the harness: cases, and for each case a Problem or a Training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec, Storage
from sparsebench.suites.cell import Case

if TYPE_CHECKING:
    from sparsebench.suites.report.colours import Look
    from sparsebench.suites.report.journal import Run
    from sparsebench.suites.report.table import Section

Action = Callable[[], Any]
"""Something to time: takes nothing, returns what `Problem.outputs` understands."""


Artifact = tuple[str, Mapping[str, np.ndarray]]
"""A file name and arrays to keep in the run folder as .npz, for the report's pictures."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """A figure of merit beside the time.

    Attributes:
        value: the figure.
        metric: what it is, with its unit, as "l1_per_image".
        figures: further ones by name, those of trivial answers among them; None where one is not defined.
    """

    value: float
    metric: str
    figures: Mapping[str, float | None] | None = None


class Problem(ABC):
    """One case made concrete on one device: its data, its dense forms, its oracle. Holds no timing.

    Attributes:
        case: what this is an instance of.
        device: "cpu" or "cuda".
        tensor: what a representation is built from, strided; shared by all representations, so never changed.
        operation: what a representation is asked, for its Spec; "build" where encoding into it is all.
        product: whether `useful_flops` are what any way of doing it needs, and the values of `tensor` are all read or
            all written; no time is then shorter than this machine takes for as much.
    """

    case: Case
    device: str
    tensor: Tensor
    operation: str = "matmul"
    product: bool = False

    def spec(self) -> Spec:
        """Return what a representation will be asked, for `Representation.unsupported`."""
        return Spec(
            operation=self.operation,
            shape=tuple(self.tensor.shape),
            dtype=self.tensor.dtype,
            device=self.device,
            pattern=self.case.pattern,
        )

    @abstractmethod
    def references(self) -> Mapping[str, Action]:
        """Return the dense forms of the operation by name; the harness takes the fastest one."""

    @abstractmethod
    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return the operation on a representation, ready to be called many times."""

    def outputs(self, result: Any) -> tuple[Tensor, ...]:
        """Return what an action computed as strided tensors, in the order of `oracle`. Gradients are outputs too."""
        return (result,)

    @abstractmethod
    def exact(self) -> tuple[Tensor, ...]:
        """Compute the float64 dense results."""

    @cached_property
    def _exact(self) -> tuple[Tensor, ...]:
        return self.exact()

    def oracle(self) -> tuple[Tensor, ...]:
        """Return the float64 dense results, computed once."""
        return self._exact

    def turned(self) -> tuple[float, ...] | None:
        """Turn the sign of a dense operand in place; called again, turn it back.

        A result that was remembered, or that does not depend on the operand, then no longer passes.

        Returns:
            what each result of the oracle is multiplied by then; nothing, (), where `exact` has to be computed anew;
            None where there is no such operand.
        """
        return None

    @abstractmethod
    def useful_flops(self) -> float:
        """Return the operations that the non-zeros need: 2 × non-zeros × columns for a product."""

    def least_work(self, result: Any) -> tuple[float, float]:
        """Return the operations, and the bytes that are read or written, that no way of doing it can spare.

        Args:
            result: of the action.
        """
        written = sum(map(_bytes_of, self.held(result)))
        if not self.product:
            return 0.0, float(written)
        values = int(torch.count_nonzero(self.tensor)) * self.tensor.element_size()
        return self.useful_flops(), float(max(written, values))

    def native_parts(self) -> tuple[str, ...]:
        """Return which of a representation's operations the action stands on; the row's provenance is about these."""
        return () if self.operation == "build" else (self.operation,)

    def held(self, result: Any) -> tuple[Tensor, ...]:
        """Return the tensors that an action hands back, as stored; what it allocates beyond them is workspace."""
        return self.outputs(result)

    def storage(self, cls: type[Representation], built: Representation) -> Storage:
        """Return the bytes that the case holds in a representation; more than `built` if that is only a part of it."""
        return built.storage()

    def counts(self) -> tuple[int, int]:
        """Return how many of the numbers that are stored are not zero, and how many there are when dense."""
        return int(torch.count_nonzero(self.tensor)), self.tensor.numel()

    def artifact(self, result: Any) -> Artifact | None:
        """Return what the report draws of a result, if anything."""
        return None

    def builds_inside(self) -> bool:
        """Tell whether the operation itself builds the representation, so that there is no build to pay off."""
        return self.operation == "build"

    def quality(self, outputs: tuple[Tensor, ...]) -> Quality | None:
        """Return a figure of merit of what was computed, if the workload has one."""
        return None


def _bytes_of(output: Tensor) -> int:
    """Return the bytes of a result's elements, or of its storage where several elements are one."""
    if not isinstance(output, Tensor) or output.layout != torch.strided:
        return 0
    return int(min(output.numel() * output.element_size(), output.untyped_storage().nbytes()))


class Training(ABC):
    """One case that is a whole training, run once: its quality is the result, and no representation takes part.

    Attributes:
        case: what this is an instance of.
        device: "cpu" or "cuda".
    """

    case: Case
    device: str

    @abstractmethod
    def train(self) -> Any:
        """Train, or fetch what was trained already."""

    @abstractmethod
    def quality(self, result: Any) -> Quality:
        """Return a figure of merit of what was trained."""

    def seconds(self, result: Any) -> float | None:
        """Return how long a training took that was not run just now, but fetched; None for what the clock says."""
        return None

    def artifact(self, result: Any) -> Artifact | None:
        """Return what the report draws of a result, if anything."""
        return None


class Workload(Protocol):
    """A module that a bench file or an entry point in the group `sparsebench.workloads` names.

    It may have a `chapter` too: see `TellingWorkload`.
    """

    def cases(self, profile: str) -> list[Case]:
        """Return the cases of profile "quick", "full" or "gpu"; cheap, loads no data."""

    def problem(self, case: Case, device: str, data: Path | None) -> Problem | Training:
        """Make a case concrete; the harness keeps the last one, as cases come grouped.

        Whatever it raises costs the cells of this case, and no other: their rows have it as their reason.

        Raises:
            DataError: if the data folder is not as expected.
        """


class TellingWorkload(Workload, Protocol):
    """A workload with a chapter of its own in the report."""

    def chapter(self, run: Run, looks: Mapping[str, Look]) -> tuple[Section | None, list[str]]:
        """Return the chapter, None if there is nothing to tell, and a note in one line for each thing left out.

        Args:
            run: the run, its frame holding the rows of this suite alone.
            looks: colours by representation, as in all other figures.
        """


class TrainingWorkload(Workload, Protocol):
    """A workload that ships what its trainings give, so that a short profile need not train."""

    def trainings(self, profile: str) -> list[Case]:
        """Return the cases that `sparsebench run --train` adds to those of a profile; cheap, loads no data."""
