"""``mne-labram detect``: seizures of one recording, as SzCORE's benchmark runs its entries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["detect"]


def detect(
    recording: Annotated[Path, typer.Argument(help="A continuous recording: anything mne.io.read_raw reads.")],
    output: Annotated[Path, typer.Argument(help="The table (.tsv) to write; its folders are made.")],
    report: Annotated[Path | None, typer.Option(help="Also write an HTML page.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A checkpoint (.safetensors) or a name; the detector that ships by default."
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Probability that a seizure must reach; the detector's own by default.")
    ] = None,
    target_fp_per_day: Annotated[
        float | None, typer.Option(help="False alarms a day to accept, instead of a threshold.")
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="'montage' (10-20, double banana), 'model' or 'recording'.")
    ] = None,
    stride: Annotated[float | None, typer.Option(help="Step between windows (s); half a window by default.")] = None,
    assume_unit: Annotated[
        str | None, typer.Option(help="Unit of the numbers where the file's is wrong: V, mV, uV, nV.")
    ] = None,
    match: Annotated[
        str, typer.Option(help="'name', or 'position' for electrodes with coordinates but foreign names.")
    ] = "name",
    line_freq: Annotated[float | None, typer.Option(help="Line frequency in Hz: 50 or 60.")] = None,
    gaps: Annotated[
        str, typer.Option(help="'raise' or 'split': what to do with a discontinuous EDF+D file.")
    ] = "raise",
    involvement: Annotated[bool, typer.Option(help="Name the channels that each seizure was found by.")] = True,
    precision: Annotated[str, typer.Option(help="auto, float32 or bf16.")] = "auto",
    batch_size: Annotated[int, typer.Option(help="Windows per forward pass.")] = 32,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N; where the checkpoint loads by default.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Find seizures in a recording and write them as SzCORE's table (HED-SCORE TSV)."""
    import mne

    from mne_labram._files import checked_ending

    outputs = [output] if report is None else [output, report]
    for path in outputs:
        _check_target(path, recording, overwrite)
    if report is not None and _same_place(output, report):
        raise ValueError(f"{output} cannot be both the table and the page; give the page another name.")
    # A typing error must not make a table of a recording, nor a page that no browser opens.
    checked_ending(output, "The table", ".tsv")
    if report is not None:
        checked_ending(report, "The page", ".html", ".htm")
    # How torchaudio was made to import is for those who import it.
    mne.set_log_level("error")
    from mne_labram.seizure.detection import detect_seizures

    mne.set_log_level("error" if quiet else "info")
    found = detect_seizures(
        recording,
        model,
        target_fp_per_day,
        threshold,
        channels=channels,
        stride=stride,
        assume_unit=assume_unit,
        match=match,
        line_freq=line_freq,
        gaps=gaps,
        involvement=involvement,
        precision=precision,
        batch_size=batch_size,
        device=device,
    )
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
    found.to_tsv(output, overwrite=overwrite)
    if report is not None:
        found.report(report, overwrite=overwrite)
    if not quiet:
        missing = int((~found.analysed).sum())
        typer.echo(f"{len(found.table)} seizure(s) in {found.duration:.0f} s, {missing} s not analysed: {output}")


def _check_target(path: Path, recording: Path, overwrite: bool) -> None:
    """Refuse a place that cannot be written to, before any work is done."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file.")
    if _same_place(path, recording):
        raise ValueError(f"{path} is the recording itself; give the output another name.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; pass --overwrite to replace it.")
    folder = next(each for each in (path.absolute().parent, *path.absolute().parents) if each.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder, so {path.name} cannot be written into it.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"The folder {folder} cannot be written to; choose another one for {path.name}.")


def _same_place(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
