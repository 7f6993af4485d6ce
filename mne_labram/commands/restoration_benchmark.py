"""``mne-labram benchmark restoration``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["restoration_benchmark"]


def restoration_benchmark(
    data: Annotated[Path, typer.Option(help="The folder that holds eegmat.")] = Path("../shared/data"),
    model: Annotated[
        str, typer.Option("--model", "-m", help="A checkpoint of Gram, or the name of one.")
    ] = "gram-tiny",
    draws: Annotated[int, typer.Option(help="How often every window is shown with something else hidden.")] = 4,
    seed: Annotated[int, typer.Option(help="Of what is hidden.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Few subjects, one draw.")] = False,
    json: Annotated[Path | None, typer.Option(help="Also write everything as JSON here.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the JSON file if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the tables.")] = False,
) -> None:
    """Errors of restoring hidden channels beside splines and regression, on subjects held out."""
    import mne

    from mne_labram.commands.measured import check_json, write_json

    check_json(json, overwrite)
    mne.set_log_level("error")
    from mne_labram.benchmark.restoration_page import restoration_benchmark_page

    mne.set_log_level("error" if quiet else "info")
    page, found = restoration_benchmark_page(data, model=model, draws=draws, seed=seed, quick=quick)
    write_json(json, found, overwrite=overwrite)
    typer.echo(page)
