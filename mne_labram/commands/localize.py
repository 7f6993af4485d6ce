"""``mne-labram localize``: the sources of one recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["localize"]


def localize(
    recording: Annotated[Path, typer.Argument(help="Anything mne.io.read_raw reads, or *-ave.fif.")],
    output: Annotated[Path, typer.Argument(help="*-stc.h5, or *.stc for the pair *-lh.stc and *-rh.stc.")],
    forward: Annotated[
        Path | None, typer.Option("--forward", "-f", help="*-fwd.fif; the template's head by default.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="A checkpoint, a name, or a file of BrainForgeInverse.save.")
    ] = "brainforge-tiny",
    noise: Annotated[Path | None, typer.Option(help="*-cov.fif: covariance of the noise in single trials.")] = None,
    condition: Annotated[str, typer.Option(help="Of a file with several averages: name or number.")] = "0",
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
    from mne_labram.signal.opening import open_recording

    checked_ending(output, "A source estimate", ".stc", ".h5")
    as_pair = output.suffix.lower() == ".stc"
    base = output.with_name(output.name.removesuffix(".stc").removesuffix("-lh").removesuffix("-rh"))
    first = base.with_name(f"{base.name}-lh.stc") if as_pair else output
    check_writable(first, overwrite)
    if figure is not None:
        checked_ending(figure, "The figure", ".png", ".pdf", ".svg")
        check_writable(figure, overwrite)
    mne.set_log_level("error")
    if recording.name.endswith(("-ave.fif", "_ave.fif", "-ave.fif.gz", "_ave.fif.gz")) and recording.is_file():
        which = int(condition) if condition.isdecimal() else condition
        inst = mne.read_evokeds(recording, condition=which)
    else:
        inst = open_recording(recording)
    if isinstance(inst, mne.BaseEpochs):
        raise ContractError("A file holds one source estimate; average the epochs, or use brainforge_localize.")
    fwd = None if forward is None else mne.read_forward_solution(forward)
    noise_cov = None if noise is None else mne.read_cov(noise)
    from mne_labram.source.headmodel import default_forward
    from mne_labram.source.inverse import BrainForgeInverse

    mne.set_log_level("error" if quiet else "info")
    kind = _is_inverse(model)
    if fwd is None and (not kind or figure is not None):
        fwd = default_forward(inst.info)
    if kind:
        inverse = BrainForgeInverse.load(model)
        inverse.noise_cov = noise_cov or inverse.noise_cov
    else:
        inverse = BrainForgeInverse(fwd, model=model, noise_cov=noise_cov)
    part = {} if start is None and stop is None else {"start": start, "stop": stop}
    stc = inverse.apply(inst, window=window, assume_unit=assume_unit, **part)
    if as_pair and not isinstance(stc, mne.SourceEstimate):
        raise ContractError("Sources with deep points are not written as .stc; let the name end in -stc.h5.")
    mne.set_log_level("error")
    with written_whole(first, overwrite=overwrite) as temporary:
        stc.save(temporary.with_name(base.name) if as_pair else temporary, ftype="stc" if as_pair else "h5")
    if figure is not None:
        from mne_labram.source.figure import plot_sources

        drawn = plot_sources(stc, fwd, show=False)
        with written_whole(figure, overwrite=overwrite) as temporary:
            drawn.savefig(temporary)
    if not quiet:
        typer.echo(f"{inverse.where(stc)}: {base if as_pair else output}")


def _is_inverse(model: str) -> bool:
    """Say whether a file holds an inverse, with its head, rather than weights alone."""
    if not Path(model).is_file():
        return False
    from mne_labram.source.inverse_file import is_inverse

    return is_inverse(model)
