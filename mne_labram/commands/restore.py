"""``mne-labram restore``: bad channels and segments of one recording."""

from __future__ import annotations

import json as json_format
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import mne

__all__ = ["restore"]

_RAW = ("raw.fif", "raw.fif.gz", "eeg.fif", "eeg.fif.gz")
_EPOCHS = ("-epo.fif", "_epo.fif", "-epo.fif.gz", "_epo.fif.gz")
_SEGMENT = re.compile(r"\s*(\d+(?:\.\d*)?)\s*\+\s*(\d+(?:\.\d*)?)\s*(?::\s*(.+?))?\s*")


def restore(
    recording: Annotated[Path, typer.Argument(help="A recording: anything mne.io.read_raw reads, or *-epo.fif.")],
    output: Annotated[Path, typer.Argument(help="*_raw.fif, .edf or .bdf to write; *-epo.fif for epochs.")],
    picks: Annotated[
        str, typer.Option(help="Channels to restore, separated by commas; 'bads': those the file marks as bad; 'all'.")
    ] = "bads",
    segments: Annotated[
        str | None,
        typer.Option(
            help="'bad annotations', or seconds as ONSET+DURATION, separated by semicolons, each with its channels if "
            "you like: '12.5+2; 40+1.5:Fp1,F3'. By default everything."
        ),
    ] = None,
    method: Annotated[str, typer.Option(help="gram, spline or ridge.")] = "gram",
    model: Annotated[str, typer.Option("--model", "-m", help="For gram: a checkpoint or a name.")] = "gram-tiny",
    calibrate: Annotated[bool, typer.Option(help="Learn from what is good of the recording first.")] = True,
    crossfade: Annotated[float, typer.Option(help="Seconds that lead over to what is visible.")] = 0.1,
    denoise: Annotated[
        bool, typer.Option("--denoise", help="Keep of what is restored what agrees with the other channels.")
    ] = False,
    reset_bads: Annotated[bool, typer.Option("--reset-bads", help="Mark restored channels as good.")] = False,
    report: Annotated[Path | None, typer.Option(help="Also write what was done, with uncertainties, as JSON.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Also draw before and after (.png, .pdf or .svg).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Restore bad channels and segments from the channels that are good; everything else stays as it is."""
    import mne

    from mne_labram._files import checked_ending, written_whole
    from mne_labram.commands.files import check_writable

    name = output.name.lower()
    if not name.endswith((*_RAW, *_EPOCHS)) and output.suffix.lower() not in (".edf", ".bdf"):
        raise ValueError(
            f"A restored recording cannot be written to {output.name!r}; let the name end in _raw.fif, .edf or .bdf, "
            "or, for epochs, in -epo.fif."
        )
    check_writable(output, overwrite)
    for extra, what, endings in (
        (report, "The report", (".json",)),
        (figure, "The figure", (".png", ".pdf", ".svg")),
    ):
        if extra is not None:
            checked_ending(extra, what, *endings)
            check_writable(extra, overwrite)
    wanted = parse_segments(segments)
    mne.set_log_level("error")
    from mne_labram.restoration.restore import gram_restore
    from mne_labram.signal.opening import open_recording

    inst = open_recording(recording)
    if isinstance(inst, mne.BaseEpochs) != name.endswith(_EPOCHS):
        raise ValueError(
            "Epochs are written to *-epo.fif and recordings to _raw.fif, .edf or .bdf; this holds "
            f"{'epochs' if isinstance(inst, mne.BaseEpochs) else 'a recording'} and {output.name!r} is for the other."
        )
    mne.set_log_level("error" if quiet else "warning")
    names: Any = picks if picks in ("bads", "all") else [each.strip() for each in picks.split(",")]
    options = {"method": method, "model": model, "calibrate": calibrate, "crossfade": crossfade, "denoise": denoise}
    out, done = gram_restore(inst, names, wanted, **options, reset_bads=reset_bads, return_report=True)
    notes = _write(out, inst, output, overwrite)
    if report is not None:
        with written_whole(report, overwrite=overwrite) as temporary:
            temporary.write_text(json_format.dumps(done.to_dict(), indent=1) + "\n", encoding="utf8")
    if figure is not None:
        from mne_labram.restoration.figure import plot_restoration

        drawn = plot_restoration(inst, out, done, show=False)
        with written_whole(figure, overwrite=overwrite) as temporary:
            drawn.savefig(temporary)
    if not quiet:
        typer.echo(str(done))
        for note in notes:
            typer.echo(f"  Note: {note}")


def parse_segments(text: str | None) -> Any:
    """Read segments as they are typed.

    Parameters
    ----------
    text : str | None
        ``"bad annotations"``, or ``"12.5+2; 40+1.5:Fp1,F3"``.

    Returns
    -------
    segments : None | str | list of tuple
        What :func:`mne_labram.gram_restore` takes.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if text is None or text == "bad annotations":
        return text
    out: list[tuple] = []
    for part in text.split(";"):
        found = _SEGMENT.fullmatch(part)
        if found is None:
            raise ValueError(
                f"{part.strip()!r} is no segment; write ONSET+DURATION in seconds, as in '12.5+2; 40+1.5:Fp1,F3', or "
                "'bad annotations'."
            )
        channels = [name.strip() for name in found[3].split(",")] if found[3] else []
        out.append((float(found[1]), float(found[2]), *([channels] if channels else [])))
    return out


def _write(
    out: mne.io.BaseRaw | mne.BaseEpochs, source: mne.io.BaseRaw | mne.BaseEpochs, output: Path, overwrite: bool
) -> list[str]:
    """Write the recording; return what the format does not keep."""
    from mne_labram._files import written_whole

    with written_whole(output, overwrite=overwrite) as temporary:
        if output.suffix.lower() not in (".edf", ".bdf"):
            out.save(temporary, verbose="error")
            return []
        from mne_labram.codec.edf_writer import Calibration, not_in_edf, write_edf
        from mne_labram.signal.source import edf_parts

        # What was not restored is the same integer as before, where the ranges of the file are known.
        known = {}
        for part in edf_parts(source)[0][:1]:
            header, bits = part.header, part.header.kind[:3]
            if bits == output.suffix[1:].upper():
                known = {
                    label: Calibration(low, high, int(first), int(last))
                    for label, unit, low, high, first, last in zip(
                        header.labels,
                        header.units,
                        header.physical_min,
                        header.physical_max,
                        header.digital_min,
                        header.digital_max,
                        strict=True,
                    )
                    if unit.lower() in ("uv", "µv", "μv")
                }
        notes = write_edf(out, temporary, calibrations=known)
    lost = not_in_edf(out.info)
    return [*([f"{output.suffix} does not keep {', '.join(lost)}; _raw.fif does."] if lost else []), *notes]
