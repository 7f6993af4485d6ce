"""``mne-labram localize``: the sources of one recording."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import mne

__all__ = ["localize"]

_AVERAGES = ("-ave.fif", "_ave.fif", "-ave.fif.gz", "_ave.fif.gz")


def localize(
    recording: Annotated[Path, typer.Argument(help="Anything mne.io.read_raw reads, or *-ave.fif.")],
    output: Annotated[Path, typer.Argument(help="*.stc for the pair *-lh.stc and *-rh.stc, or *-stc.h5 (h5io).")],
    forward: Annotated[
        Path | None, typer.Option("--forward", "-f", help="*-fwd.fif; the template's head by default.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="A checkpoint, a name, or a file of BrainForgeInverse.save.")
    ] = "brainforge-tiny",
    noise: Annotated[Path | None, typer.Option(help="*-cov.fif: covariance of the noise in single trials.")] = None,
    condition: Annotated[str, typer.Option(help="Of a file with several averages: name or number.")] = "0",
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Of an average: take the mean before time 0 off first.")
    ] = False,
    high_pass: Annotated[
        float | None, typer.Option(help="Of a recording: filter it first, from this frequency up (Hz).")
    ] = None,
    window: Annotated[float, typer.Option(help="Seconds in which sources are judged together.")] = 1.0,
    start: Annotated[float | None, typer.Option(help="Part of a recording: first second.")] = None,
    stop: Annotated[float | None, typer.Option(help="Part of a recording: last second.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Also draw scalp and cortex (.png, .pdf or .svg).")] = None,
    assume_unit: Annotated[
        str | None, typer.Option(help="Unit of the numbers where the file's is wrong: V, mV, uV, nV.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Find where in the brain a recording or an average comes from."""
    import mne

    from mne_labram._files import checked_ending, written_whole
    from mne_labram.commands.files import check_writable
    from mne_labram.signal.contract import ContractError

    checked_ending(output, "A source estimate", ".stc", ".h5")
    as_pair = output.suffix.lower() == ".stc"
    if not as_pair and importlib.util.find_spec("h5io") is None:
        raise ValueError(
            "MNE writes .h5 by h5io, which is not installed; pip install h5io, or let the name end in .stc."
        )
    base = output.with_name(output.name.removesuffix(".stc").removesuffix("-lh").removesuffix("-rh"))
    files = [base.with_name(f"{base.name}-{side}.stc") for side in ("lh", "rh")] if as_pair else [output]
    for path in files:
        check_writable(path, overwrite)
    if figure is not None:
        checked_ending(figure, "The figure", ".png", ".pdf", ".svg")
        check_writable(figure, overwrite)
    mne.set_log_level("error")
    inst, name = _opened(recording, condition, baseline, high_pass)
    fwd = None if forward is None else _read(mne.read_forward_solution, forward, "a forward solution (*-fwd.fif)")
    noise_cov = None if noise is None else _read(mne.read_cov, noise, "a covariance of noise (*-cov.fif)")
    from mne_labram.source.headmodel import default_forward
    from mne_labram.source.inverse import BrainForgeInverse

    mne.set_log_level("error" if quiet else "info")
    if _is_inverse(model):
        inverse = BrainForgeInverse.load(model)
        inverse.noise_cov = noise_cov or inverse.noise_cov
        if figure is not None:
            fwd = fwd or default_forward(inst.info)
            _check_sources(inverse, fwd)
    else:
        if fwd is None:
            fwd = default_forward(inst.info)
        inverse = BrainForgeInverse(fwd, model=model, noise_cov=noise_cov)
    if as_pair and "deep" in inverse.layout.spaces:
        raise ContractError("Sources with deep points are not written as .stc; let the name end in -stc.h5.")
    part = {} if start is None and stop is None else {"start": start, "stop": stop}
    stc = inverse.apply(inst, window=window, assume_unit=assume_unit, **part)
    mne.set_log_level("error")
    with written_whole(files[0], overwrite=overwrite) as temporary:
        stc.save(temporary.with_name(base.name) if as_pair else temporary, ftype="stc" if as_pair else "h5")
    if figure is not None:
        from mne_labram.source.figure import plot_sources

        recorded = inst if isinstance(inst, mne.Evoked) and assume_unit in (None, "V") else None
        drawn = plot_sources(stc, fwd, evoked=recorded, show=False)
        with written_whole(figure, overwrite=overwrite) as temporary:
            drawn.savefig(temporary)
    if not quiet:
        files += [] if figure is None else [figure]
        typer.echo(f"{name}{inverse.where(stc)}.\nWritten: {', '.join(map(str, files))}")


def _opened(recording: Path, condition: str, baseline: bool, high_pass: float | None) -> tuple[Any, str]:
    """Open a recording, or one average of a file, made ready as asked for; and the name of that average."""
    import mne

    from mne_labram.signal.contract import ContractError
    from mne_labram.signal.opening import open_recording

    name = ""
    if recording.name.lower().endswith(_AVERAGES) and recording.is_file():
        inst, name = _average(recording, condition)
    else:
        inst = open_recording(recording)
    if isinstance(inst, mne.BaseEpochs):
        raise ContractError("A file holds one source estimate; average the epochs, or use brainforge_localize.")
    if baseline and not isinstance(inst, mne.Evoked):
        raise ValueError("--baseline is for averages; for a recording there is --high-pass.")
    if high_pass is not None:
        if isinstance(inst, mne.Evoked):
            raise ValueError("--high-pass is for recordings; for an average there is --baseline.")
        nyquist = inst.info["sfreq"] / 2.0
        if not 0.0 < high_pass < nyquist:
            raise ValueError(f"--high-pass must lie between 0 and {nyquist:g} Hz, half of the rate, got {high_pass:g}.")
        inst = inst.load_data().filter(high_pass, None, picks="eeg")
    if baseline:
        if inst.times[0] >= 0.0:
            raise ValueError(f"--baseline needs time before 0, and the average begins at {inst.times[0]:g} s.")
        inst = inst.apply_baseline((None, 0.0))
    return inst, name


def _average(path: Path, condition: str) -> tuple[mne.Evoked, str]:
    """Return one average of a file, and its name."""
    import mne

    from mne_labram.signal.contract import ContractError

    averages = _read(mne.read_evokeds, path, "averages (*-ave.fif)")
    names = [average.comment for average in averages]
    if condition in names:
        number = names.index(condition)
    elif condition.isdecimal() and int(condition) < len(names):
        number = int(condition)
    else:
        listed = ", ".join(f"{number} {each!r}" for number, each in enumerate(names))
        raise ContractError(f"{path.name} has no average {condition!r}; it has {listed}.")
    return averages[number], f"{names[number]} ({number} of 0 to {len(names) - 1}). " if len(names) > 1 else ""


def _read(reader: Callable[[Path], Any], path: Path, what: str) -> Any:
    """Read a file of MNE's, and say in a sentence of ours what is wrong with it."""
    from mne_labram.signal.contract import ContractError
    from mne_labram.signal.opening import READING_ERRORS, reason_of

    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; check the path.")
    try:
        return reader(path)
    except READING_ERRORS as error:
        raise ContractError(f"{path.name} cannot be read ({reason_of(error)}); give a whole file of {what}.") from None


def _check_sources(inverse: Any, fwd: mne.Forward) -> None:
    """Refuse a forward that the sources of an inverse cannot be drawn on, before they are found."""
    import numpy as np

    from mne_labram.signal.contract import ContractError
    from mne_labram.source.estimates import source_layout
    from mne_labram.source.head import source_model

    mine, drawn = inverse.layout, source_layout(fwd, source_model(fwd))
    if mine.spaces != drawn.spaces or not all(map(np.array_equal, mine.vertices, drawn.vertices)):
        raise ContractError(
            "The inverse has other sources than the forward that the figure would be drawn on; give its own with "
            "--forward."
        )


def _is_inverse(model: str) -> bool:
    """Say whether a file holds an inverse, with its head, rather than weights alone."""
    if not Path(model).is_file():
        return False
    from mne_labram.source.inverse_file import is_inverse

    return is_inverse(model)
