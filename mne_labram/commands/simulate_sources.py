"""``mne-labram simulate-sources``: a bank of spikes and background for simulated recordings, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["simulate_sources"]


def simulate_sources(
    output: Annotated[
        Path | None, typer.Argument(help="The bank to write (.npz); none: only say what it would take.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="998 regions x 100 spikes and 200 s of background, rather than a small bank.")
    ] = False,
    regions: Annotated[int | None, typer.Option(help="Regions of the connectome, made up by a distance rule.")] = None,
    spikes: Annotated[int | None, typer.Option(help="Spikes of each region.")] = None,
    background: Annotated[int | None, typer.Option(help="Seconds of background.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Pieces at a time; -1 for all cores.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of everything; the number of jobs changes nothing.")] = 0,
    estimate: Annotated[bool, typer.Option("--estimate", help="Say first what the whole takes, from a part.")] = False,
    resume: Annotated[bool, typer.Option(help="Use the pieces of an interrupted run; --no-resume begins anew.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and the estimate.")] = False,
) -> None:
    """Simulate neural masses, and keep the spikes and the background that simulated recordings are made of."""
    from dataclasses import replace

    import mne

    from mne_labram._files import checked_ending
    from mne_labram.commands.files import check_writable

    if output is not None:
        checked_ending(output, "A waveform bank", ".npz")
        check_writable(output, overwrite)
    if jobs == 0:
        raise ValueError("--jobs must be a number of processes, or -1 for all cores, got 0.")
    mne.set_log_level("error" if quiet else "info")
    from mne_labram.source.bank_costs import bank_cost
    from mne_labram.source.bank_making import make_bank
    from mne_labram.source.bank_pieces import FULL_RECIPE, SMALL_RECIPE

    told = {"n_regions": regions, "clips_per_region": spikes, "background_clips": background}
    recipe = replace(
        FULL_RECIPE if full else SMALL_RECIPE, **{name: value for name, value in told.items() if value is not None}
    )
    if estimate or output is None:
        typer.echo(str(bank_cost(recipe, seed=seed)))
    if output is not None:
        bank = make_bank(output, recipe, seed=seed, n_jobs=jobs, resume=resume, overwrite=overwrite)
        if not quiet:
            typer.echo(f"{bank}: {output}")
