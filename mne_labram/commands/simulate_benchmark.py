"""``mne-labram benchmark simulate``."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["simulate_benchmark"]


def simulate_benchmark(
    regions: Annotated[list[int], typer.Option(help="Sizes of the networks.")] = [76, 998],  # noqa: B006
    trajectories: Annotated[int, typer.Option(help="Trajectories side by side; 64 at a time are compiled for.")] = 64,
    seconds: Annotated[float, typer.Option(help="Length of each in seconds.")] = 1.0,
    rounds: Annotated[int, typer.Option(help="Turns of each.")] = 3,
) -> None:
    """Processor time per simulated second of neural masses, against The Virtual Brain where it is installed."""
    from mne_labram.benchmark.simulate import simulate_table

    typer.echo(simulate_table(regions, n_trajectories=trajectories, seconds=seconds, rounds=rounds))
