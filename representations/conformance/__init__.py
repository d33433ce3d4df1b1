"""Check that a representation keeps every promise of the interface: ours and everybody else's, by the same checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sparsebench.representations import operations
from sparsebench.representations.base import Representation
from sparsebench.representations.conformance import convolutions, products, size, state
from sparsebench.representations.conformance.subject import SkipError, Subject, WrongError
from sparsebench.representations.registry import check_class, first_line, missing_requirements

STATUSES: tuple[str, ...] = ("passed", "failed", "skipped")

Check = Callable[[Subject], None]

CHECKS: dict[str, Check] = {
    "round trip": products.round_trip,
    **{name: products.check_of(name) for name in ("matmul", "rmatmul", "sampled_matmul")},
    "inputs unchanged": state.inputs_unchanged,
    "determinism": state.deterministic,
    "gradients": products.gradients,
    "with_values": state.with_values,
    "round trip 4-D": products.round_trip_4d,
    "transpose": products.transpose,
    "empty rows": products.empty_rows,
    "nothing stored": products.nothing_stored,
    "everything stored": products.everything_stored,
    "ragged shapes": products.ragged_shapes,
    "one column or none": products.few_columns,
    "non-contiguous input": products.non_contiguous,
    "unsorted input": products.unsorted_source,
    "float64": products.float64,
    "NaN propagates": products.nan_propagates,
    "wrong shapes refused": products.wrong_shapes,
    "operands of another dtype": products.other_dtypes,
    "own copy of the source": state.own_copy,
    "own results": state.own_results,
    "storage": state.storage,
    "kernel names": state.kernel_names,
    "no silent densification": size.no_densification,
    **{name: convolutions.check_of(name) for name in ("conv2d", "conv2d_input", "conv2d_values", "conv2d_with")},
}
"""The checks, the plainer ones first."""

ESSENTIAL: tuple[str, ...] = ("round trip", "matmul")
"""Without these two nothing is known of a class, however many other checks it skips."""
SCOPE = "scope"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one check found.

    Attributes:
        name: of the check.
        status: one of STATUSES.
        detail: one line: "expected …, got …" of a failure, the reason of a skip, what was checked of a pass.
    """

    name: str
    status: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What all checks found.

    Attributes:
        representation: the name of the class.
        device: that they ran on.
        results: one a check.
    """

    representation: str
    device: str
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Tell whether nothing failed, and enough was checked."""
        return not self.failures

    @property
    def failures(self) -> tuple[Result, ...]:
        """Return the checks that failed."""
        return self._of("failed")

    @property
    def skips(self) -> tuple[Result, ...]:
        """Return the checks that did not apply."""
        return self._of("skipped")

    def _of(self, status: str) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.status == status)

    def __str__(self) -> str:
        """Return a line a check and a last line with the counts."""
        width = max(len(result.name) for result in self.results)
        lines = [f"{result.status:7}  {result.name:{width}}  {result.detail}" for result in self.results]
        counts = ", ".join(f"{len(self._of(status))} {status}" for status in STATUSES)
        return "\n".join([*lines, f"{self.representation} on {self.device}: {counts}"])


def checks() -> dict[str, Check]:
    """Return CHECKS and one for each further product that `operations` knows; `Result.name` is a key, or SCOPE."""
    further = (name for name in operations.names() if name not in CHECKS and operations.get(name).of_matrix)
    return CHECKS | {name: products.check_of(name) for name in further}


def check(cls: type[Representation], device: str = "cpu") -> Report:
    """Run every check on a class; what the class raises is a failure of that check and ends nothing else.

    Takes seconds. Where it leaves out an optional part, or refuses by `unsupported`, the check is skipped and says so.

    Args:
        cls: the class.
        device: "cpu" or "cuda".

    Raises:
        BrokenRepresentationError: if it is no class that could be checked.
        ValueError: if the device is neither "cpu" nor "cuda", or a module is missing that the class requires.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"expected a device of cpu, cuda, got {device!r}")
    check_class(cls, cls.__qualname__ if isinstance(cls, type) else repr(cls))
    missing = missing_requirements(cls)
    if missing:
        raise ValueError(f"expected {', '.join(missing)} to be installed for {cls.name}, got nothing; install it first")
    subject = Subject(cls=cls, device=device)
    results = [_result(name, check_one, subject) for name, check_one in checks().items()]
    unknown = [result for result in results if result.name in ESSENTIAL and result.status == "skipped"]
    if unknown:
        detail = "; ".join(f"{result.name}: {result.detail}" for result in unknown)
        message = f"expected {' and '.join(ESSENTIAL)}, got nothing checked: {detail}"
        results.append(Result(name=SCOPE, status="failed", detail=message))
    return Report(representation=cls.name, device=device, results=tuple(results))


def _result(name: str, check_one: Check, subject: Subject) -> Result:
    try:
        check_one(subject)
    except SkipError as error:
        return Result(name=name, status="skipped", detail=_one_line(error))
    except WrongError as error:
        return Result(name=name, status="failed", detail=_one_line(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever it raises is its own failure, SystemExit too; only Ctrl-C is the user's
        detail = f"expected no error, got {type(error).__name__}: {_one_line(error)}"
        return Result(name=name, status="failed", detail=detail)
    return Result(name=name, status="passed", detail=_one_line(check_one.__doc__ or name))


def _one_line(message: object) -> str:
    if isinstance(message, BaseException):
        try:
            return first_line(message)
        except Exception:  # an error whose own text cannot be made
            return "(no message)"
    return str(message).splitlines()[0]
