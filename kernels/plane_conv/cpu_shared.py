"""Convolve with all pairs of some output maps and some input maps: by our own kernels, or by torch's, gathered.

Both read the stored input maps only. Ours copies nothing but these; torch's convolution of the gathered maps multiplies
a little faster but copies more, which pays where most maps are stored. Which one is faster is measured (cpu_choice.py).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_input, conv2d_weight

from sparsebench.kernels.common import jit
from sparsebench.kernels.microkernels import tiles
from sparsebench.kernels.plane_conv import cpu_launch, cpu_plan
from sparsebench.kernels.plane_conv.cpu_buffer import Layout, Sweep, backward, beside, forward
from sparsebench.kernels.plane_conv.cpu_choice import faster
from sparsebench.kernels.plane_conv.cpu_groups import Plan
from sparsebench.kernels.plane_conv.cpu_launch import GROUPS, REDUCED, Gathering
from sparsebench.kernels.plane_conv.cpu_memory import DTYPES, computed, each, empty, numbers, plain, zeros
from sparsebench.kernels.plane_conv.geometry import Geometry, Pair
from sparsebench.kernels.plane_conv.layout import SharedMaps, check, check_gradient

Planner = Callable[[SharedMaps, int, Sweep, int, tuple[int, ...]], Plan]


def shared(geometry: Geometry, maps: SharedMaps, values: Tensor, x: Tensor) -> Tensor:
    """Return y (n, out, h', w') of x (n, in, h, w); values (rows, maps, kh, kw).

    Args:
        geometry: kernel, stride, padding, dilation.
        maps: the stored output and input maps.
        values: (rows, maps, kh, kw).
        x: any strides.

    Raises:
        ValueError: if the operands do not fit.
    """
    check("values", values, (maps.rows.numel(), maps.maps.numel(), *geometry.kernel), values, DTYPES)
    check("x", x, (None, maps.shape[1], None, None), values, DTYPES)
    size = (x.shape[2], x.shape[3])
    layout, sweeps = forward(geometry, size)

    def ours() -> Tensor:
        buffer = cpu_launch.fill(layout, plain(x), numbers(x.shape[0], x.shape[1], maps.maps.numpy()))
        out = empty(values, (x.shape[0], maps.shape[0], *sweeps[0].size), maps.rows.numel())
        for gathering in _gatherings(geometry, maps, size, layout, sweeps, out, cpu_plan.shared):
            cpu_launch.gather(gathering, plain(values), buffer, out)
        return out

    def library() -> Tensor:
        y = conv2d(_pick(x, maps.maps), values.detach(), None, geometry.stride, geometry.padding, geometry.dilation)
        return _spread(y, maps.rows, maps.shape[0])

    return faster("conv2d", geometry, maps, x, ours, library).to(x.dtype)


def shared_input(geometry: Geometry, maps: SharedMaps, values: Tensor, g: Tensor, size: Pair) -> Tensor:
    """Return the gradient of x, (n, in, h, w) with `size` (h, w), from g (n, out, h', w')."""
    check("values", values, (maps.rows.numel(), maps.maps.numel(), *geometry.kernel), values, DTYPES)
    check("g", g, (None, None, None, None), values, DTYPES)
    check_gradient(g, maps.shape[0], size, geometry)
    layout, sweeps = backward(geometry, size)

    def ours() -> Tensor:
        buffer = cpu_launch.fill(layout, plain(g), numbers(g.shape[0], g.shape[1], maps.rows.numpy()))
        out = empty(values, (g.shape[0], maps.shape[1], *size), maps.maps.numel())
        for gathering in _gatherings(geometry, maps, size, layout, sweeps, out, cpu_plan.shared_input):
            cpu_launch.gather(gathering, plain(values), buffer, out)
        return out

    def library() -> Tensor:
        shape = (g.shape[0], maps.maps.numel(), *size)
        options = (geometry.stride, geometry.padding, geometry.dilation)
        dx = conv2d_input(shape, values.detach(), _pick(g, maps.rows), *options)
        return _spread(dx, maps.maps, maps.shape[1])

    return faster("conv2d_input", geometry, maps, g, ours, library).to(g.dtype)


def shared_values(geometry: Geometry, maps: SharedMaps, g: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the values, (rows, maps, kh, kw)."""
    check("x", x, (None, maps.shape[1], None, None), g, DTYPES)
    size = (x.shape[2], x.shape[3])
    check_gradient(g, maps.shape[0], size, geometry, batch=x.shape[0])
    layout, (sweep,) = forward(geometry, size)
    shape = (maps.rows.numel(), maps.maps.numel(), *geometry.kernel)

    def ours() -> Tensor:
        gradient = beside(layout, sweep.size, tiles.lanes(computed(g)))
        out = zeros(g, shape)
        left = cpu_launch.fill(gradient, plain(g), numbers(g.shape[0], g.shape[1], maps.rows.numpy()))
        right = cpu_launch.fill(layout, plain(x), numbers(x.shape[0], x.shape[1], maps.maps.numpy()))
        plan = cpu_plan.shared(maps, geometry.taps, sweep, layout.plane, REDUCED, ranks=True)
        batches = (shape[0] * gradient.plane, shape[1] * layout.plane)
        length = (sweep.size[0] - 1) * layout.pitch + sweep.size[1]
        cpu_launch.reduce(plan, 1, geometry.taps, length, left, right, out, x.shape[0], batches, gradient.plane)
        return out

    def library() -> Tensor:
        options = (geometry.stride, geometry.padding, geometry.dilation)
        dw: Tensor = conv2d_weight(_pick(x, maps.maps), shape, _pick(g, maps.rows), *options)
        return dw

    return faster("conv2d_values", geometry, maps, x, ours, library).to(g.dtype)


def _gatherings(
    geometry: Geometry,
    maps: SharedMaps,
    size: Pair,
    layout: Layout,
    sweeps: tuple[Sweep, ...],
    out: Tensor,
    planner: Planner,
) -> list[Gathering | None]:
    """Return how each sweep is computed; worked out once for maps and operands of one size, and held by the maps."""
    samples = out.shape[0]
    key = (planner.__name__, geometry, size, samples, out.dtype, jit.threads())
    if key not in maps.made:
        depth = maps.maps.numel() if planner is cpu_plan.shared else maps.rows.numel()
        batches = (depth * layout.plane, each(out))
        plans = [planner(maps, geometry.taps, sweep, layout.plane, GROUPS) for sweep in sweeps]
        # forward, a row's weights stand side by side in the order of the entries: they are read where they are
        apart = depth * geometry.taps if planner is cpu_plan.shared else 0
        maps.made[key] = [
            cpu_launch.prepare(plan, sweep, layout.pitch, depth, out.dtype, out.shape, samples, batches, apart=apart)
            for plan, sweep in zip(plans, sweeps, strict=True)
        ]
    found: list[Gathering | None] = maps.made[key]
    return found


def _pick(tensor: Tensor, maps: Tensor) -> Tensor:
    """Return some maps of (n, c, h, w), copied; the tensor itself where that is all of them."""
    whole = tensor.detach()
    return whole if maps.numel() == tensor.shape[1] else whole.index_select(1, maps)


def _spread(some: Tensor, maps: Tensor, count: int) -> Tensor:
    """Return (n, count, h, w) with the given maps and zeros elsewhere, contiguous."""
    if maps.numel() == count:
        return some.contiguous()
    whole = some.new_zeros((some.shape[0], count, *some.shape[2:]))
    return whole.index_copy_(1, maps.long(), some)
