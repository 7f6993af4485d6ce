"""``mne-labram benchmark decoding``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["decoding_benchmark"]


def decoding_benchmark(
    data: Annotated[Path, typer.Option(help="The folder that holds eegmat and eegmmidb.")] = Path("../shared/data"),
    models: Annotated[str, typer.Option(help="Names of weights, or checkpoints, separated by commas.")] = (
        "labram-tiny,eegfoundation-tiny,gram-tiny"
    ),
    epochs: Annotated[int, typer.Option(help="Passes of full fine-tuning.")] = 3,
    eegnet_epochs: Annotated[int, typer.Option(help="Passes of EEGNet.")] = 30,
    folds: Annotated[int, typer.Option(help="Groups of subjects of eegmat.")] = 6,
    twins: Annotated[int, typer.Option(help="Networks of fresh weights that are probed beside each model.")] = 1,
    fine_tune: Annotated[bool, typer.Option(help="Also train all weights of the models.")] = True,
    imagery: Annotated[bool, typer.Option(help="Also imagined movements.")] = True,
    seed: Annotated[int, typer.Option(help="Of what is random.")] = 0,
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 2,
    quick: Annotated[bool, typer.Option("--quick", help="Four subjects, one pass.")] = False,
    json: Annotated[Path | None, typer.Option(help="Also write everything as JSON here.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the JSON file if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the tables.")] = False,
) -> None:
    """Rest or arithmetic, and imagined movements: our models beside band power, tangent space and EEGNet."""
    import mne

    from mne_labram.commands.measured import check_json, write_json

    check_json(json, overwrite)
    mne.set_log_level("error")
    from mne_labram.benchmark.decoding_page import decoding_benchmark_page

    mne.set_log_level("error" if quiet else "info")
    page, found = decoding_benchmark_page(
        data,
        models=[name.strip() for name in models.split(",") if name.strip()],
        epochs=epochs,
        eegnet_epochs=eegnet_epochs,
        n_folds=folds,
        n_twins=twins,
        fine_tune=fine_tune,
        imagery=imagery,
        seed=seed,
        threads=threads,
        quick=quick,
    )
    write_json(json, found, overwrite=overwrite)
    typer.echo(page)
