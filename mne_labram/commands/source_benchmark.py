"""``mne-labram benchmark source``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["source_benchmark"]


def source_benchmark(
    data: Annotated[Path, typer.Option(help="The folder that holds deepsif_ictal and mne_sample_evoked.")] = Path(
        "../shared/data"
    ),
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="A checkpoint of BrainForge or DeepSIF, or its name; may be repeated."),
    ] = None,
    montage: Annotated[list[str] | None, typer.Option(help="19, 32 or 64 electrodes; may be repeated.")] = None,
    windows: Annotated[int, typer.Option(help="Windows of each case.")] = 20,
    heads: Annotated[int, typer.Option(help="Heads that windows are simulated through.")] = 2,
    spacing: Annotated[str, typer.Option(help="Sources of these heads.")] = "ico4",
    seed: Annotated[int, typer.Option(help="Of windows and heads.")] = 0,
    sparse: Annotated[bool, typer.Option(help="With MxNE, which takes longest.")] = True,
    fit: Annotated[int, typer.Option(help="Also fit BrainForge to the heads of recordings, in so many steps.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Few electrodes, cases and windows.")] = False,
    json: Annotated[Path | None, typer.Option(help="Also write everything as JSON here.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the JSON file if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the tables.")] = False,
) -> None:
    """Where simulated and known activity is found, beside MNE's inverses, without the forward that made it."""
    import mne

    from mne_labram.commands.measured import check_json, write_json

    check_json(json, overwrite)
    mne.set_log_level("error")
    from mne_labram.benchmark.source_page import source_benchmark_page
    from mne_labram.benchmark.source_windows import MONTAGES

    mne.set_log_level("error" if quiet else "info")
    page, found = source_benchmark_page(
        data, model=model, montages=montage or tuple(MONTAGES), n_windows=windows, n_heads=heads, spacing=spacing,
        seed=seed, quick=quick, sparse=sparse, fit_steps=fit,
    )  # fmt: skip
    write_json(json, found, overwrite=overwrite)
    typer.echo(page)
