"""``mne-labram compress`` and ``mne-labram decompress``."""

from __future__ import annotations

import json as json_format
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["compress", "decompress"]

_FIF = ("raw.fif", "raw.fif.gz", "eeg.fif", "eeg.fif.gz")


def compress(
    recording: Annotated[Path, typer.Argument(help="A continuous recording: anything mne.io.read_raw reads.")],
    output: Annotated[
        Path | None, typer.Argument(help="The file (.bcz) to write; by default beside the recording, with its name.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="hybrid (the default), neural, or lossless (the default with --max-error).")
    ] = None,
    bitrate: Annotated[
        float | None, typer.Option("--bitrate", "-b", help="Bits per second and channel; 256 by default.")
    ] = None,
    max_error: Annotated[
        float | None, typer.Option(help="Largest error of a sample in µV, in mode lossless; 0 (exact) by default.")
    ] = None,
    lossless_channels: Annotated[
        str | None, typer.Option(help="Channels to keep exactly whatever their type, separated by commas.")
    ] = None,
    block_seconds: Annotated[float, typer.Option(help="Length of a block, which is what damage costs (s).")] = 60.0,
    report: Annotated[bool, typer.Option(help="Measure the error; takes about as long again.")] = True,
    json: Annotated[Path | None, typer.Option(help="Also write the report as JSON here.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Blocks coded at a time; -1 for all cores.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Compress a recording; channels that are not EEG are kept exactly."""
    import mne

    from mne_labram._files import checked_ending, written_whole
    from mne_labram.commands.files import check_writable

    if output is None:
        output = recording.with_suffix(".bcz")
    elif output.is_dir():
        output = output / f"{recording.stem}.bcz"
    checked_ending(output, "A compressed recording", ".bcz")
    check_writable(output, overwrite)
    if json is not None:
        checked_ending(json, "The report", ".json")
        check_writable(json, overwrite)
    if mode is None:
        mode = "hybrid" if max_error is None else "lossless"
    if mode == "lossless" and bitrate is not None:
        raise ValueError("--mode lossless takes the bits that it needs; leave --bitrate out, or allow a --max-error.")
    mne.set_log_level("error" if quiet else "warning")
    from mne_labram.codec.compression import braincodec_compress

    mne.set_log_level("error" if quiet else "info")
    names = [] if lossless_channels is None else [name.strip() for name in lossless_channels.split(",")]
    made = braincodec_compress(
        recording,
        output,
        mode=mode,
        bitrate=256 if bitrate is None else bitrate,
        max_error=max_error,
        lossless_channels=names,
        block_seconds=block_seconds,
        report=report,
        n_jobs=jobs,
        overwrite=overwrite,
    )
    if json is not None:
        with written_whole(json, overwrite=overwrite) as temporary:
            temporary.write_text(json_format.dumps(made.to_dict(), indent=1) + "\n", encoding="utf8")
    if not quiet:
        # The notes were logged.
        typer.echo(str(replace(made, notes=[])))


def decompress(
    compressed: Annotated[Path, typer.Argument(help="A file of mne-labram compress (.bcz).")],
    output: Annotated[
        Path | None,
        typer.Argument(help="*_raw.fif (keeps all), .edf or .bdf; by default *_raw.fif beside the compressed file."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a damaged file.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Blocks decoded at a time; -1 for all cores.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Turn a compressed recording into one that other programs read."""
    import mne

    from mne_labram.commands.files import check_writable

    if output is None:
        output = compressed.with_name(f"{compressed.stem.removesuffix('_raw')}_raw.fif")
    elif output.is_dir():
        output = output / f"{compressed.stem.removesuffix('_raw')}_raw.fif"
    edf = output.suffix.lower() in (".edf", ".bdf")
    if not edf and not output.name.lower().endswith(_FIF):
        raise ValueError(
            f"A recording cannot be written to {output.name!r}; let the name end in _raw.fif (keeps all), .edf or .bdf."
        )
    check_writable(output, overwrite)
    mne.set_log_level("error")
    from mne_labram.codec.compression import braincodec_decompress
    from mne_labram.codec.output import write_recording

    # What is damaged is worth a line even in the quiet of a script.
    mne.set_log_level("warning")
    raw = braincodec_decompress(compressed, strict=strict, n_jobs=jobs)
    notes = write_recording(raw, output, overwrite=overwrite)
    if not quiet:
        seconds = raw.n_times / raw.info["sfreq"]
        typer.echo(f"{len(raw.ch_names)} channels, {seconds:.6g} s at {raw.info['sfreq']:g} Hz: {output}")
        for note in notes:
            typer.echo(f"Note: {note}")
