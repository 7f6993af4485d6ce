"""``mne-labram benchmark lossless``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["lossless_benchmark"]


def lossless_benchmark(
    recordings: Annotated[list[Path], typer.Argument(help="EDF and BDF files, or folders of them.")],
    seconds: Annotated[float | None, typer.Option(help="How much of every file; all by default.")] = None,
    block_seconds: Annotated[float, typer.Option(help="Length of our blocks in seconds.")] = 60.0,
    hours: Annotated[float, typer.Option(help="Length of the recording whose coding is timed; 0 for none.")] = 1.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the table.")] = False,
) -> None:
    """Bits per sample of exact coding against zlib, linear prediction with Rice codes, and FLAC; time and memory."""
    import mne

    from mne_labram.benchmark.lossless import lossless_table

    mne.set_log_level("error" if quiet else "info")
    typer.echo(lossless_table(recordings, seconds=seconds, block_seconds=block_seconds, hours=hours))
