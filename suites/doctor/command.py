"""Offer `sparsebench doctor`."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    measure: Annotated[
        bool, typer.Option(help="Measure the processor, and a few products beside their rooflines (15 s).")
    ] = False,
    draw: Annotated[int, typer.Option(help="Compare what is chosen with the best for so many products.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Of the products that are drawn.")] = 0,
    threads: Annotated[int | None, typer.Option(help="For torch, numba and BLAS alike; default: all cores.")] = None,
) -> None:
    """Say what is known of this processor, what was chosen on it by how much, and what its rooflines allow."""
    from sparsebench.suites.doctor import bounds, facts, kept  # imported late: numba and torch take seconds
    from sparsebench.suites.doctor import draw as drawing
    from sparsebench.suites.measure import machine

    try:
        machine.set_threads(machine.chosen_threads(threads))
    except ValueError as error:
        typer.echo(f"sparsebench: {error}", err=True)
        raise typer.Exit(2) from None
    known = facts.look(measure=measure)
    if measure:
        bounds.measure()
    results = []
    for drawn in drawing.draw(draw, seed):
        results.append(drawing.compare(drawn))
        result = results[-1]
        typer.echo(f"{result.ratio:.3f} ± {2 * result.error:.3f}  {result.told}")
        if result.chosen != result.best:
            typer.echo(f"      {result.chosen}; best {result.best}")
    if results:
        typer.echo(drawing.summary(results))
        return
    for line in (*facts.lines(known), *kept.lines(known), *bounds.lines(known)):
        typer.echo(line)
