"""Launch Triton kernels from plans: all that depends on shapes is worked out once, and a call fills in addresses.

Triton's own way to a kernel that it has compiled looks at every argument anew: 45 µs of the host's time for forty of
them, and more with descriptors, where a small product takes the device five. Here the first launch goes that way; later
ones hand the compiled kernel's launcher the same numbers and, for tensors, plain addresses. They may: a plan is looked
up by all that a kernel is compiled for, which of a tensor is its dtype and whether its address is a multiple of 16.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from sparsebench.kernels.common.triton_direct import Direct, direct_launch, listens
from sparsebench.kernels.common.triton_launch import INTERPRETED

OPERAND: Any = object()
"""Stands among a launch's arguments for a tensor that each call brings."""

_MOST = 256
"""Plans kept with an index: a sequence of a new length is a new shape."""

Key = tuple[Any, ...]

Planned = Callable[..., Tensor]
"""A call whose plan is made: takes the operands that its key was made of, and returns the result, if it makes one."""

_held: weakref.WeakKeyDictionary[Any, dict[Key, Planned]] = weakref.WeakKeyDictionary()


class Box:
    """How operands of one shape are described to the hardware that copies tiles: sizes, strides and the tile."""

    def __init__(self, shape: Sequence[int], strides: Sequence[int], tile: Sequence[int]) -> None:
        """Keep the sizes, the strides in elements, the last of which is 1, and the tile's sizes."""
        self.shape, self.strides, self.tile = list(shape), list(strides), list(tile)

    def __call__(self, tensor: Tensor) -> TensorDescriptor:
        """Return Triton's descriptor of a tensor."""
        return TensorDescriptor(tensor.detach(), self.shape, self.strides, self.tile)


class Launch:
    """One launch of one kernel, for operands of the shapes, strides, dtypes and alignments that it was made for.

    In the interpreter every call goes Triton's own way, so that tests there see the same arguments.
    """

    def __init__(
        self,
        kernel: Any,
        grid: tuple[int, ...],
        arguments: Sequence[Any],
        constants: Mapping[str, Any],
        options: Mapping[str, int] | None = None,
        *,
        device: torch.device,
        boxes: Sequence[Box | None] = (),
    ) -> None:
        """Work out a launch.

        Args:
            kernel: made by `triton.jit`; its compile-time constants stand behind all other parameters.
            grid: of one to three sizes.
            arguments: numbers, tensors that do not change, and OPERAND.
            constants: compile-time constants by name.
            options: warps, stages and the like.
            device: that the operands are on.
            boxes: for the operands in their order, where one is read through a descriptor.
        """
        self._kernel, self._grid, self._constants, self._options = kernel, grid, dict(constants), dict(options or {})
        self._arguments, self._sizes = list(arguments), (*grid, 1, 1)[:3]
        self._places = [place for place, one in enumerate(arguments) if one is OPERAND]
        self._boxes = [*boxes, *[None] * (len(self._places) - len(boxes))]
        self._device = -1 if device.index is None else device.index
        self._again: Callable[[tuple[Tensor, ...]], None] | None = None
        self.compiled: Any = None

    def __call__(self, *operands: Tensor) -> Any:
        """Launch with these operands, and return the compiled kernel; None in the interpreter."""
        if self._again is None:
            self._first(operands)
        elif torch.cuda.current_device() == self._device:
            self._again(operands)
        else:
            with torch.cuda.device(self._device):
                self._again(operands)
        return self.compiled

    def _first(self, operands: tuple[Tensor, ...]) -> None:
        arguments = list(self._arguments)
        for place, one, box in zip(self._places, operands, self._boxes, strict=True):
            arguments[place] = one.detach() if box is None else box(one)
        with torch.cuda.device_of(operands[0]):
            compiled = self._kernel[self._grid](*arguments, **self._constants, **self._options)
            if compiled is None or INTERPRETED:
                return
            direct = direct_launch(compiled, self._sizes, self._device)
            if direct is not None and not any(self._boxes):
                self._again = self._plain(direct)
            elif direct is not None:
                self._again = self._described(direct, arguments)
            else:
                self._again = self._usual(compiled)
        self.compiled = compiled

    def _fixed(self) -> list[Any]:
        """Return all arguments, tensors as addresses, with the constants behind them as compiled kernels take them."""
        held = [one.data_ptr() if isinstance(one, Tensor) else one for one in self._arguments]
        return [*held, *(self._constants[name] for name in self._kernel.arg_names[len(held) :])]

    def _plain(self, direct: Direct) -> Callable[[tuple[Tensor, ...]], None]:
        fixed, places = self._fixed(), self._places

        def again(operands: tuple[Tensor, ...]) -> None:
            arguments = fixed.copy()
            for place, one in zip(places, operands, strict=True):
                arguments[place] = one.data_ptr()
            direct(arguments)

        return again

    def _described(self, direct: Direct, first: list[Any]) -> Callable[[tuple[Tensor, ...]], None]:
        """Return the same where operands are described: encoded once an address, as results and batches come again."""
        fixed, boxes = self._fixed(), dict(zip(self._places, self._boxes, strict=True))
        expanded: list[Any] = []
        slots: list[tuple[int, int, Box | None, dict[int, Any], int]] = []
        count = 0
        for at, one in enumerate(fixed):
            box = boxes.get(at)
            if at in boxes:
                slots.append((len(slots), len(expanded), box, {}, count))
            if box is None:
                expanded.append(one)
            else:
                expanded += direct.encode(count, first[at])
                count += 1

        def again(operands: tuple[Tensor, ...]) -> None:
            arguments = expanded.copy()
            for i, place, box, known, number in slots:
                address = operands[i].data_ptr()
                if box is None:
                    arguments[place] = address
                    continue
                encoded = known.get(address)
                if encoded is None:
                    if len(known) >= _MOST:
                        known.clear()
                    encoded = known[address] = direct.encode(number, box(operands[i]))[0]
                arguments[place] = encoded
            direct(arguments)

        return again

    def _usual(self, compiled: Any) -> Callable[[tuple[Tensor, ...]], None]:
        """Return the launch by Triton's own launcher, with descriptors made anew."""
        fixed, stream, runtime = self._fixed(), triton.runtime.driver.active.get_current_stream, triton.knobs.runtime
        slots = list(zip(self._places, self._boxes, strict=True))
        # made at the first launch: where the kernel lies, and what starts it
        start = partial(compiled.run, *self._sizes)
        told = partial(compiled.launch_metadata, self._sizes)

        def again(operands: tuple[Tensor, ...]) -> None:
            arguments = fixed.copy()
            for (place, box), one in zip(slots, operands, strict=True):
                arguments[place] = one.data_ptr() if box is None else box(one)
            on, enter, leave = stream(self._device), runtime.launch_enter_hook, runtime.launch_exit_hook
            listened = listens(enter) or listens(leave)
            more = told(on, *arguments) if listened else None
            hooks = (enter, leave) if listened else (None, None)
            start(on, compiled.function, compiled.packed_metadata, more, *hooks, *arguments)

        return again


def signature(kind: Key, *operands: Tensor) -> Key | None:
    """Return all that plans and checks of operands depend on; None if one has no strides, which no plan is for.

    Args:
        kind: the product, and what else it was called with.
        operands: as they were given.
    """
    found: list[Any] = [kind]
    for one in operands:
        if one.layout is not torch.strided:
            return None
        found += (one.shape, one.stride(), one.dtype, one.device, one.data_ptr() % 16)
    return tuple(found)


def recall(index: object, key: Key | None) -> Planned | None:
    """Return the plan of an index that was kept by this key, or None."""
    plans = _held.get(index)
    return None if plans is None else plans.get(key)  # type: ignore[arg-type]


def keep(index: object, key: Key | None, plan: Planned) -> Planned:
    """Keep a plan for as long as the index lives, and return it; it must not hold the index, which would never go."""
    plans = _held.setdefault(index, {})
    if len(plans) >= _MOST:
        plans.clear()
    if key is not None:
        plans[key] = plan
    return plan
