"""Generate what a thread does with its groups: calls of the functions of cpu_generated.py.

Both functions take the address of an int64 array, laid out as `PASSES` and `PANEL` say, and a thread's number t; the
thread has the groups bounds[t] .. bounds[t + 1].
"""

from __future__ import annotations

from functools import cache

from sparsebench.kernels.bitmap.layout import ROWS
from sparsebench.kernels.common import pool
from sparsebench.kernels.microkernels import host
from sparsebench.kernels.microkernels.emit import Emitter

PASSES: tuple[str, ...] = (
    "bounds", "whole", "final", "passes", "step", "values", "bits", "starts", "chunks",
    "x", "x_next", "x_pass", "out", "out_next", "out_pass", "out_part",
)  # fmt: skip
"""Of a product in registers: `step` groups at a time stay in the cache while all passes go over them, `whole` being the
function of each but the last one. Thread t writes at out + t · out_part. Strides are in bytes."""

PANEL: tuple[str, ...] = (
    "bounds", "function", "values", "bits", "starts", "chunks", "panel", "panel_row", "panel_chunk", "begin", "end"
)  # fmt: skip
"""Of a panel of the rows from bounds[0] on, and of the chunks begin .. end."""


@cache
def address(kind: str) -> int:
    """Return the address of what a thread does for "passes" or "panel"."""
    e = Emitter("float32", 1)
    e.label("entry")
    names = PASSES if kind == "passes" else PANEL
    given = {name: e.load("i64", e.add("%data", str(8 * (pool.HEAD + place))), 8) for place, name in enumerate(names)}
    mine = e.add(given["bounds"], e.mul("%thread", "8"))
    first, last = e.load("i64", mine, 8), e.load("i64", e.add(mine, "8"), 8)
    (_passes if kind == "passes" else _panel)(e, given, first, last)
    e.do("ret void")
    body = "\n".join(e.lines)
    ir = f"define void @{kind}(i64 %data, i64 %thread) nounwind {{\n{body}\n}}\n"
    found: int = host.compile_module(ir).get_function_address(kind)
    return found


def _call(e: Emitter, function: str, arguments: list[str]) -> None:
    pointer = e.let(f"inttoptr i64 {function} to ptr")
    e.do(f"call void {pointer}({', '.join(f'i64 {argument}' for argument in arguments)})")


def _passes(e: Emitter, given: dict[str, str], first: str, last: str) -> None:
    out = e.add(given["out"], e.mul("%thread", given["out_part"]))
    with e.loop("block", first, last, given["step"], []) as block:
        after = e.add(block.counter, given["step"])
        end = e.let(f"select i1 {e.let(f'icmp slt i64 {after}, {last}')}, i64 {after}, i64 {last}")
        with e.loop("pass", "0", given["passes"], "1", []) as number:
            at_end = e.let(f"icmp eq i64 {e.add(number.counter, '1')}, {given['passes']}")
            function = e.let(f"select i1 {at_end}, i64 {given['final']}, i64 {given['whole']}")
            source = e.add(given["x"], e.mul(number.counter, given["x_pass"]))
            target = e.add(out, e.mul(number.counter, given["out_pass"]))
            stored = [given[name] for name in ("values", "bits", "starts", "chunks")]
            _call(e, function, [*stored, source, given["x_next"], target, given["out_next"], block.counter, end])


def _panel(e: Emitter, given: dict[str, str], first: str, last: str) -> None:
    before = e.let(f"sub i64 {first}, {e.load('i64', given['bounds'], 8)}")
    target = e.add(given["panel"], e.mul(e.mul(before, str(ROWS)), given["panel_row"]))
    stored = [given[name] for name in ("values", "bits", "starts", "chunks")]
    _call(e, given["function"], [*stored, target, *(given[name] for name in PANEL[7:]), first, last])
