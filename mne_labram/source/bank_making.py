"""Make a ``WaveformBank`` out of neural masses: piece by piece, on many cores or a cluster, resumable."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from mne.utils import logger, verbose

from mne_labram._files import checked_ending, written_whole
from mne_labram.signal.blocks import with_progress
from mne_labram.signal.contract import ContractError
from mne_labram.source.bank import WaveformBank
from mne_labram.source.bank_pieces import (
    CLIP_SECONDS,
    SFREQ,
    SMALL_RECIPE,
    BankRecipe,
    Piece,
    checked_regions,
    make_piece,
    pieces_of,
    places_of,
)
from mne_labram.source.cache import content_key, kept, open_cache
from mne_labram.source.connectome import Connectome, synthetic_connectome
from mne_labram.source.jansen_rit_parameters import JansenRitParameters

__all__ = ["default_bank", "make_bank"]

#: Counts changes of what a recipe gives.
_VERSION = 1
_READING = (KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile)


@verbose
def make_bank(
    path: str | os.PathLike[str],
    recipe: BankRecipe = SMALL_RECIPE,
    *,
    connectome: Connectome | None = None,
    positions: np.ndarray | None = None,
    seed: int = 0,
    n_jobs: int | None = None,
    resume: bool = True,
    overwrite: bool = False,
    verbose: bool | str | int | None = None,
) -> WaveformBank:
    """Simulate neural masses, and keep their spikes and their background.

    Parameters
    ----------
    path : path-like
        The bank to write (.npz). Finished pieces wait in a folder of the same name and ``.parts``, which is removed at
        the end.
    recipe : BankRecipe
        How much of what.
    connectome : Connectome | None
        Which regions are connected; ``None``: :func:`~mne_labram.source.connectome.synthetic_connectome` of as many as
        the recipe says, evenly over a sphere.
    positions : ndarray, shape (n_regions, 3) | None
        Where the regions of ``connectome`` are, axes right, front and up in any unit: their background is then put
        there. Without positions it is dealt out to sources in their order.
    seed : int
        Of everything; the same seed gives the same bank, whatever ``n_jobs``.
    n_jobs : int | None
        Pieces at a time, by joblib: -1 for all cores, and any backend of ``joblib.parallel_config`` (a Dask cluster
        too; only this process writes).
    resume : bool
        Use the pieces that an interrupted run with the same recipe, connectome and seed left.
    overwrite : bool
        Replace an existing bank.
    verbose : bool | str | int | None
        Verbosity; see :func:`mne.verbose`.

    Returns
    -------
    bank : WaveformBank
        What was written.

    Raises
    ------
    ValueError
        If the name does not end in .npz, or the recipe and the connectome do not fit.
    OSError
        If the bank exists and may not be replaced, its folder does not exist, or it cannot be written.
    ContractError
        If no region spiked alone.

    Notes
    -----
    Parameters as in DeepSIF (Sun et al. 2022), the first of whose three settings is used: with the others more regions
    spike at the same time. Each trajectory has one region that is more excitable; its spikes are cut out by the rule of
    :func:`~mne_labram.source.waveforms.extract_spikes`. Background comes from runs in which none is. Sources are
    superposed on it later, which leaves out what a spike does to the other regions: RMS 0.02 of their background in the
    median of 64 excited regions, 0.11 at most, at 998 regions; 0.11 and 0.6 at 76.
    """
    target = checked_ending(Path(path).expanduser(), "A waveform bank", ".npz")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{str(target)!r} exists already; pass overwrite=True (--overwrite) to replace it.")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"There is no folder {str(target.parent)!r} to write {target.name!r} into; make it first."
        )
    if connectome is None:
        positions = places_of(recipe.n_regions)
        connectome = synthetic_connectome(positions)
    elif positions is not None:
        positions = np.asarray(positions, dtype=float)
        if positions.shape != (connectome.n_regions, 3) or not np.isfinite(positions).all():
            raise ValueError(
                f"positions must be finite numbers ({connectome.n_regions}, 3), one place for each region, got "
                f"{positions.shape}."
            )
    pieces = pieces_of(recipe, checked_regions(connectome, recipe))
    key = _key(recipe, connectome, seed)
    folder = target.with_name(target.name + ".parts")
    folder.mkdir(exist_ok=True)
    files = [folder / f"{key}-{number:05d}.npz" for number in range(len(pieces))]
    done: dict[int, dict[str, np.ndarray]] = {}
    if resume:
        done = {number: part for number, file in enumerate(files) if (part := _read(file)) is not None}
        if done:
            logger.info(f"{len(done)} of {len(pieces)} pieces are there already.")
    todo = [number for number in range(len(pieces)) if number not in done]
    for number, part in zip(todo, _run(todo, pieces, recipe, connectome, seed, n_jobs), strict=True):
        # On the disk as soon as it is there: an interrupted run goes on from it.
        with written_whole(files[number], overwrite=True) as temporary, open(temporary, "wb") as file:
            np.savez(file, **part)
        done[number] = part
    bank = _assemble([done[number] for number in range(len(pieces))], recipe, positions, seed)
    bank.save(target, overwrite=overwrite)
    for file in files:
        file.unlink()
    if not any(folder.iterdir()):  # others wait there for another recipe or seed
        folder.rmdir()
    logger.info(f"{bank}: {target}")
    return bank


def default_bank(cache: str | os.PathLike[str] | bool | None = None, *, seed: int = 0) -> WaveformBank:
    """Return a small bank, made at its first use (seconds) and kept.

    Parameters
    ----------
    cache : path-like | bool | None
        The folder where it is kept: ``None`` is that of :func:`~mne_labram.source.cache.cache_folder`; false keeps
        nothing.
    seed : int
        Of the simulation: networks are trained with 0 and measured with another one.

    Returns
    -------
    bank : WaveformBank
        :data:`SMALL_RECIPE` with this seed.
    """
    positions = places_of(SMALL_RECIPE.n_regions)
    connectome = synthetic_connectome(positions)

    def make() -> WaveformBank:
        logger.info("Simulating neural masses for waveforms and background, once.")
        pieces = pieces_of(SMALL_RECIPE, SMALL_RECIPE.n_regions)
        parts = list(_run(range(len(pieces)), pieces, SMALL_RECIPE, connectome, seed, 1))
        return _assemble(parts, SMALL_RECIPE, positions, seed)

    with open_cache(cache) as folder:
        path = folder / f"waveforms-{_key(SMALL_RECIPE, connectome, seed)}.npz"
        return kept(path, make, lambda temporary, bank: bank.save(temporary, overwrite=True), WaveformBank.load)


def _key(recipe: BankRecipe, connectome: Connectome, seed: int) -> str:
    """Name what a bank is made of."""
    return content_key(
        recipe=asdict(recipe),
        weights=np.ascontiguousarray(connectome.weights, dtype="<f8").tobytes(),
        lengths=np.ascontiguousarray(connectome.tract_lengths, dtype="<f8").tobytes(),
        speed=float(connectome.speed),
        parameters=asdict(JansenRitParameters()),
        seed=int(seed),
        version=_VERSION,
    )


def _run(
    todo: Iterable[int], pieces: list[Piece], recipe: BankRecipe, connectome: Connectome, seed: int, n_jobs: int | None
) -> Iterator[dict[str, np.ndarray]]:
    """Yield pieces in order, by joblib, whose backend the caller may choose."""
    jobs = [(number, pieces[number], recipe, connectome, seed) for number in todo]
    if not jobs:
        return
    from joblib import Parallel, delayed

    results = Parallel(n_jobs=n_jobs, return_as="generator")(delayed(make_piece)(*job) for job in jobs)
    yield from with_progress(results, len(jobs), "Simulating neural masses")


def _read(file: Path) -> dict[str, np.ndarray] | None:
    """Read a piece, or nothing if there is none that is whole."""
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except _READING as error:
        logger.info(f"{file.name} is damaged ({type(error).__name__}) and is made anew.")
        return None


def _assemble(
    parts: list[dict[str, np.ndarray]], recipe: BankRecipe, positions: np.ndarray | None, seed: int
) -> WaveformBank:
    n_times = round(CLIP_SECONDS * SFREQ)
    spikes = [part for part in parts if "spikes" in part]
    n_found = sum(len(part["spikes"]) for part in spikes)
    if not n_found:
        raise ContractError(
            "No region spiked alone; simulate longer (most_runs), or look at the weights of the connectome."
        )
    background = [part["background"] for part in parts if "background" in part]
    regions = np.concatenate([part["regions"] for part in spikes])
    simulated = float(sum(part["simulated"] for part in spikes))
    few = np.bincount(regions, minlength=recipe.n_regions) < recipe.clips_per_region
    if few.any():
        logger.info(
            f"{int(few.sum())} of {recipe.n_regions} regions gave fewer than {recipe.clips_per_region} spikes of their "
            "own."
        )
    return WaveformBank(
        sfreq=SFREQ,
        spikes=np.concatenate([part["spikes"] for part in spikes]),
        spike_regions=regions,
        background=np.concatenate(background) if background else np.zeros((0, 0, n_times), np.float16),
        positions=np.zeros((0, 3), np.float32) if positions is None else np.asarray(positions, dtype=np.float32),
        about={
            "recipe": asdict(recipe),
            "seed": int(seed),
            "simulated_seconds": simulated,
            "regions_with_fewer_spikes": int(few.sum()),
        },
    )
