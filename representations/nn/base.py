"""Hold one representation in a torch module: parameters, devices, copies, and state dicts that know their pattern."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from sparsebench.representations import autograd
from sparsebench.representations.base import Representation
from sparsebench.representations.nn.opaque import opaque
from sparsebench.representations.nn.places import COMPARED, facts_of, pack, read, unpack, write
from sparsebench.representations.nn.store import gives_values, store_at, stored_places
from sparsebench.representations.pattern import Pattern


@dataclass(frozen=True)
class _Places:
    """What a representation is built again from: its packed places, or the weight of one without values."""

    cls: type[Representation]
    shape: tuple[int, ...]
    content: bytes | Tensor


class SparseModule(nn.Module):
    """Hold a representation: its values are a parameter if its class trains, else a buffer if it gives values.

    The state dict holds the values (of a class that gives none, the dense `weight`), the bias, and as `pattern` bytes
    that say where the values stand: so a checkpoint of other places is refused instead of scrambling the weights, and
    `restore` needs nothing else.
    """

    values: Tensor | None
    bias: Tensor | None
    kept: Tensor | None

    def __init__(
        self,
        representation: Representation,
        bias: Tensor | None = None,
        *,
        pattern: Pattern | None = None,
        kept: Tensor | None = None,
    ) -> None:
        """Take a representation, whose values are shared and not copied.

        Args:
            representation: the weight.
            bias: one value an output, copied, or None.
            pattern: the hint that the representation was built with; it is built again with it on another device.
            kept: bool, shaped as the values: False where a value is fill, and stays as it is in training.

        Raises:
            ValueError: if bias or kept do not fit.
        """
        super().__init__()
        outputs = representation.shape[0]
        if bias is not None and tuple(bias.shape) != (outputs,):
            raise ValueError(f"expected a bias ({outputs},), got {tuple(bias.shape)}; give one value an output")
        values = representation.values if gives_values(type(representation)) else None
        if kept is not None and (values is None or kept.shape != values.shape):
            shape = None if values is None else tuple(values.shape)
            raise ValueError(f"expected kept shaped as the values {shape}, got {tuple(kept.shape)}; leave it out")
        self._held = representation
        self._pattern = pattern
        if values is not None and representation.trains():
            self.values = nn.Parameter(values.detach())
        else:
            self.register_buffer("values", values)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=bias.requires_grad)
        self.register_buffer("kept", kept, persistent=False)

    @property
    def representation(self) -> Representation:
        """Return the representation around the present values, which it shares."""
        return self._held if self.values is None else self._held.with_values(self.values.detach())

    @property
    @opaque
    def weight(self) -> Tensor:
        """Return a dense copy of the weight, made anew each time; its gradient flows to the values where they train.

        What writes into it changes nothing: write into `values`.
        """
        values = self._trained()
        if values is None or not (values.requires_grad and torch.is_grad_enabled()):
            return self.representation.to_dense()
        return autograd.to_dense(self._held, values)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set anything but `weight`, as what fuses, ties or replaces weights would.

        Raises:
            AttributeError: for `weight`.
        """
        if name == "weight":
            raise AttributeError(
                f"expected the weight of a stored layer to be left alone, got a {type(value).__name__} in its "
                f"place; write into `values`, or change the dense layer and convert it then"
            )
        super().__setattr__(name, value)

    def extra_repr(self) -> str:
        """Return name, shape, and bytes."""
        held = self._held
        shape = "×".join(map(str, held.shape))
        return f"{held.name}, {shape}, bias={self.bias is not None}, bytes={held.storage().stored_bytes}"

    def _trained(self) -> Tensor | None:
        """Return the values to compute with, masked where a gradient would otherwise move fill."""
        if self.kept is None or self.values is None or not (self.values.requires_grad and torch.is_grad_enabled()):
            return self.values
        return self.values * self.kept

    # Devices, dtypes, copies

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Build again where `to` and its like change device or dtype: only the class knows how its index moves."""
        held = self._held
        probe = fn(torch.zeros((), dtype=held.dtype, device=held.device))
        if probe.dtype == held.dtype and probe.device == held.device:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it without types
            self._tie()
            return self
        present = self.representation
        weight, mask = present.to_dense().reshape(held.shape), stored_places(present, self.kept)
        again, kept = store_at(type(held), fn(weight), mask.to(probe.device), self._pattern)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it without types
        self._held, self.kept = again, kept
        if self.values is not None:
            self.values.data = again.values.detach()
            self.values.grad = None  # it was laid out for the old place
        return self

    def _tie(self) -> None:
        """Let the representation share the values' memory again, after they were copied or moved."""
        if self.values is not None:
            self._held = self._held.with_values(self.values.detach())

    def __getstate__(self) -> dict[str, Any]:
        """Give the places instead of the representation: not every index of torch can be copied or pickled."""
        state = dict(vars(self))
        content = self._held.to_dense() if self.values is None else pack(stored_places(self._held, None))
        state["_held"] = _Places(type(self._held), self._held.shape, content)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch leaves it without types
        places: _Places = state["_held"]
        if isinstance(places.content, Tensor):
            self._held = places.cls.build(places.content, self._pattern)
        elif self.values is not None:
            mask = unpack(places.content, places.shape).to(self.values.device)
            self._held, _ = store_at(places.cls, torch.zeros_like(mask, dtype=self.values.dtype), mask, self._pattern)
            self._tie()

    # State dicts

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.values is None:
            destination[prefix + "weight"] = self._held.to_dense()
        destination[prefix + "pattern"] = write(self._held, self.kept, self._pattern)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        own = dict(state_dict)
        found, weight = own.pop(prefix + "pattern", None), own.pop(prefix + "weight", None)
        name = prefix.removesuffix(".") or type(self).__name__
        if found is None:
            missing_keys.append(prefix + "pattern")
            if weight is not None or prefix + "values" in own:
                error_msgs.append(f"expected a converted layer at {name}, got none; load it before convert")
            return
        try:
            got, _ = read(found)
        except ValueError as error:
            error_msgs.append(f"{prefix}pattern: {error}")
            return
        want = facts_of(self._held, self.kept)
        parts = ", ".join(f"{key} {got[key]} instead of {want[key]}" for key in COMPARED if got[key] != want[key])
        if parts:
            error_msgs.append(
                f"expected a checkpoint of {name} with the same pattern, got {parts}; convert the model as it was "
                f"then, or restore the dense one from the checkpoint"
            )
            return
        if self.values is None and weight is not None:
            moved = weight.to(self._held.device, self._held.dtype)
            self._held = type(self._held).build(moved, self._pattern)
        arguments = (own, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        super()._load_from_state_dict(*arguments)
        self._tie()
