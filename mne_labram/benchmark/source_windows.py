"""Windows of known sources, simulated through other heads than the one that they are imaged with.

Four times as many sources, other conductivities, a finer boundary element model, and electrodes some millimetres from
where they are thought to be.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mne
import numpy as np
import scipy

from mne_labram.signal.contract import ContractError
from mne_labram.source.bank import WaveformBank
from mne_labram.source.cache import content_key, kept, open_cache
from mne_labram.source.carried import carried_over
from mne_labram.source.head import SourceModel, source_model
from mne_labram.source.headmodel import (
    bem_key,
    cortex_key,
    default_forward,
    electrodes_on_template,
    perturbed_forward,
)
from mne_labram.source.metrics import source_amplitude
from mne_labram.source.noise import NoiseBank
from mne_labram.source.simulate import SimulatedBatch, SourceSimulator
from mne_labram.source.warp import warped_cortex

__all__ = [
    "CASES",
    "DEPTHS",
    "MONTAGES",
    "SECONDS",
    "TEST_SEED",
    "ImagingHead",
    "SourceCase",
    "SourceWindow",
    "another_head",
    "draw_windows",
    "imaging_head",
    "true_heads",
]

#: Rate and length of the windows.
SFREQ, SECONDS = 100.0, 1.0
#: Electrodes of each montage.
MONTAGES: dict[str, list[str]] = {
    "19": "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split(),
    "32": mne.channels.make_standard_montage("biosemi32").ch_names,
    "64": mne.channels.make_standard_montage("biosemi64").ch_names,
}
#: Thirds of the sources by their distance to the nearest electrode.
DEPTHS = ("shallow", "middle", "deep")
# Of MNE's frames, that of fiducials.
_HEAD_FRAME = 4
#: What is drawn here, electrodes and coloured noise, begins with this number, so that no training draws the same.
TEST_SEED = 7_000_001
# Of brain, skull and scalp in S/m, as in perturbed_forward; part of the name of what is kept.
_TRUE_CONDUCTIVITY = (0.33, 0.0083, 0.43)


@dataclass(frozen=True)
class SourceCase:
    """What is simulated.

    Attributes
    ----------
    n_sources : int
        Patches that are active at the same time.
    snr_db : float
        Over the whole array, in the average reference.
    """

    n_sources: int
    snr_db: float


#: One, two and three sources at 0, 5, 10 and 20 dB.
CASES = tuple(SourceCase(n_sources, snr_db) for n_sources in (1, 2, 3) for snr_db in (0.0, 5.0, 10.0, 20.0))


@dataclass(frozen=True, eq=False)
class ImagingHead:
    """What methods know of the head.

    Attributes
    ----------
    model : SourceModel
        Channels and sources of the estimates.
    fwd : mne.Forward
        The same for MNE, of free orientation where it has one: MNE weights depth with it.
    sfreq : float
        Samples per second of the windows.
    operators : dict
        What methods of MNE share and keep: inverse operators by the noise that they are for.
    """

    model: SourceModel
    fwd: mne.Forward
    sfreq: float = SFREQ
    operators: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SourceWindow:
    """A recording of known sources, and what it looks like among the sources that are estimated.

    Attributes
    ----------
    x : ndarray, shape (n_channels, n_times)
        µV, average reference.
    noise_covariance : ndarray, shape (n_channels, n_channels)
        µV², in the same reference.
    case : SourceCase
        What it is.
    depth : int
        Third of the sources by depth in which the first patch has its middle, from the outside.
    centres : ndarray, shape (n_patches, 3)
        Middle of each patch, metres.
    true_amplitude, true_positions : ndarray, shape (n_members,) and (n_members, 3)
        Root mean square of all simulated sources that do anything, nAm, and their positions.
    active_positions : ndarray, shape (n_active, 3)
        Of those of half of their patch's amplitude and more.
    active : ndarray of bool, shape (n_sources,)
        Estimated sources that stand for one of them.
    weights : ndarray, shape (n_patches, n_sources)
        How much each estimated source takes part in a patch.
    waveforms : ndarray, shape (n_patches, n_times)
        nAm at the middle of each patch.
    """

    x: np.ndarray
    noise_covariance: np.ndarray
    case: SourceCase
    depth: int
    centres: np.ndarray
    true_amplitude: np.ndarray
    true_positions: np.ndarray
    active_positions: np.ndarray
    active: np.ndarray
    weights: np.ndarray
    waveforms: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """What a perfect estimate would be, nAm, shape (n_sources, n_times)."""
        return self.weights.T @ self.waveforms


def imaging_head(
    ch_names: Sequence[str], *, spacing: str = "ico3", cache: Any = None, sfreq: float = SFREQ
) -> ImagingHead:
    """Make the head that everything is imaged with: the template's, for electrodes of the 10-05 system.

    Parameters
    ----------
    ch_names : sequence of str
        Electrodes.
    spacing, cache : str, path-like | bool | None
        See :func:`~mne_labram.source.headmodel.default_forward`.
    sfreq : float
        Samples per second of the windows.

    Returns
    -------
    head : ImagingHead
        For methods.
    """
    fwd = default_forward(_info(ch_names), spacing=spacing, cache=cache)
    # What was turned along the normals is kept in it, and can be turned back.
    free = mne.convert_forward_solution(fwd, surf_ori=True, force_fixed=False, verbose="ERROR")
    return ImagingHead(source_model(fwd), free, sfreq)


def true_heads(
    ch_names: Sequence[str],
    *,
    n_heads: int = 2,
    spacing: str = "ico4",
    bem_ico: int = 4,
    seed: int = 0,
    cache: Any = None,
) -> list[SourceModel]:
    """Make the heads that windows are simulated through.

    Parameters
    ----------
    ch_names : sequence of str
        Electrodes.
    n_heads : int
        How many, with electrodes in other places each.
    spacing : str
        Of the sources, see :func:`~mne_labram.source.headmodel.perturbed_forward`.
    bem_ico : int
        How fine the surfaces are.
    seed : int
        Of the displacement of electrodes.
    cache : path-like | bool | None
        Where the heads are kept, see there.

    Returns
    -------
    models : list of SourceModel
        The same sources, other leadfields.

    Raises
    ------
    ValueError
        If there is to be no head.
    """
    if n_heads < 1:
        raise ValueError(f"At least one head is needed, got n_heads={n_heads}.")
    models: list[SourceModel] = []
    for number in range(n_heads):
        key = content_key(
            kind="source benchmark", names=list(ch_names), bem=bem_key(_TRUE_CONDUCTIVITY, bem_ico),
            src=cortex_key(spacing), seed=(TEST_SEED, seed, number),
        )  # fmt: skip
        with open_cache(cache) as folder:
            fwd = kept(
                folder / f"head-{key}-fwd.fif",
                lambda number=number: perturbed_forward(
                    _info(ch_names), spacing=spacing, bem_ico=bem_ico,
                    conductivity=_TRUE_CONDUCTIVITY, seed=np.random.default_rng((TEST_SEED, seed, number)), cache=cache,
                ),
                lambda path, made: mne.write_forward_solution(path, made, overwrite=True, verbose="ERROR"),
                lambda path: mne.read_forward_solution(path, verbose="ERROR"),
            )  # fmt: skip
        models.append(source_model(fwd))
        if number:
            # The same cortex: distances along it take half a minute, and are taken once.
            models[-1].share_distances(models[0])
    return models


def another_head(
    data: str | os.PathLike[str], ch_names: Sequence[str], *, spacing: str = "ico4", cache: Any = None
) -> SourceModel:
    """Make the head of a person to simulate through, whose sources are known by their places in the template.

    Parameters
    ----------
    data : path-like
        ``../shared/data``, for the skull of MNE's sample subject.
    ch_names : sequence of str
        Electrodes, at the template's places moved onto this scalp.
    spacing, cache : str, path-like | bool | None
        See :func:`true_heads`.

    Returns
    -------
    model : SourceModel
        What these electrodes see of the template's cortex, bent into the person's skull
        (:func:`~mne_labram.source.warp.warped_cortex`). Positions, normals and distances are those of the template:
        where an estimate that knows only the template has to find them.

    Raises
    ------
    FileNotFoundError
        If the recordings are absent.
    """
    folder = Path(data) / "mne_sample_evoked"
    file = folder / "sample-320-320-320-bem-sol.fif"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is absent; give the folder that holds mne_sample_evoked.")
    template = source_model(default_forward(_info(ch_names), spacing=spacing, cache=cache))
    info = _info(ch_names)
    for ch, position in zip(info["chs"], electrodes_on_template(info)[1], strict=True):
        ch["loc"][:3], ch["loc"][3:], ch["coord_frame"] = position, 0.0, _HEAD_FRAME
    with mne.utils.use_log_level("error"):
        bem, trans = mne.read_bem_solution(file), mne.read_trans(folder / "sample_audvis_trunc-trans.fif")
        src = warped_cortex(bem, trans, spacing=spacing, cache=cache)
        person = source_model(mne.make_forward_solution(info, trans, src, bem, meg=False, mindist=0.0))
    if any(not np.array_equal(*each) for each in zip(person.vertices, template.vertices, strict=True)):
        raise ContractError("Some sources lie outside this head's inner skull; take a coarser spacing.")
    return replace(template, leadfield=person.leadfield)


def _info(ch_names: Sequence[str]) -> mne.Info:
    return mne.create_info(list(ch_names), SFREQ, "eeg")


def draw_windows(
    head: ImagingHead,
    models: Sequence[SourceModel],
    cases: Sequence[SourceCase] = CASES,
    *,
    n_windows: int = 20,
    bank: WaveformBank | None = None,
    real_noise: NoiseBank | None = None,
    noise: Sequence[str] = ("white", "coloured"),
    extent_mm: float | tuple[float, float] = (5.0, 40.0),
    seed: int = 0,
) -> list[SourceWindow]:
    """Simulate windows.

    Parameters
    ----------
    head : ImagingHead
        What they will be imaged with.
    models : sequence of SourceModel
        What they are simulated through, in turn; of the same channels and sources.
    cases : sequence of SourceCase
        What is simulated.
    n_windows : int
        Of each case.
    bank, real_noise, noise, extent_mm
        See :class:`~mne_labram.source.simulate.SourceSimulator`.
    seed : int
        Of everything; windows of a case do not depend on the other cases.

    Returns
    -------
    windows : list of SourceWindow
        Case by case.

    Raises
    ------
    ContractError
        If channels or sources differ.
    ValueError
        If there is nothing to draw.
    """
    if n_windows < 1 or not cases or not models:
        raise ValueError("There is nothing to simulate; give cases, heads and n_windows of at least 1.")
    for model in models:
        if model.ch_names != head.model.ch_names:
            raise ContractError("Heads have other channels than the one to image with; pick the same from both.")
    found: dict[SourceCase, list[SourceWindow]] = {case: [] for case in cases}
    for number, model in enumerate(models):
        if number:
            model.share_distances(models[0])
        simulator = SourceSimulator(
            model, bank, sfreq=head.sfreq, seconds=SECONDS, extent_mm=extent_mm, noise=noise, real_noise=real_noise,
            none=0.0, background=0.0, channel_dropout=0.0, jitter_mm=0.0, gap_mm=20.0, seed=TEST_SEED + seed,
        )  # fmt: skip
        mapping = carried_over(model, head.model)
        limits = np.quantile(model.depth, [1 / 3, 2 / 3])
        share = len(range(number, n_windows, len(models)))
        for case in cases:
            if not share:
                continue
            rng = np.random.default_rng((TEST_SEED, seed, number, case.n_sources, round(10 * case.snr_db) + 10_000))
            batch = simulator.draw(share, rng, n_sources=case.n_sources, snr_db=case.snr_db)
            found[case] += [_window(batch, window, case, model, mapping, limits) for window in range(share)]
    return [window for case in cases for window in found[case]]


def _window(
    batch: SimulatedBatch,
    number: int,
    case: SourceCase,
    model: SourceModel,
    mapping: scipy.sparse.csr_array,
    limits: np.ndarray,
) -> SourceWindow:
    patches = batch.patches[number]
    middles = np.array([patch.indices[np.argmax(patch.weights)] for patch in patches])
    spread = np.zeros((len(patches), model.n_sources))
    for row, patch in zip(spread, patches, strict=True):
        row[patch.indices] = patch.weights
    amplitude = source_amplitude(batch.sources[number])
    members = np.flatnonzero(amplitude)
    active = batch.active[number]
    standing = np.zeros(mapping.shape[0], dtype=bool)
    standing[(mapping[:, np.flatnonzero(active)] != 0).nonzero()[0]] = True
    return SourceWindow(
        x=batch.x[number].astype(float),
        noise_covariance=batch.noise_covariance[number].astype(float),
        case=case,
        depth=int(np.searchsorted(limits, model.depth[middles[0]])),
        centres=model.positions[middles],
        true_amplitude=amplitude[members],
        true_positions=model.positions[members],
        active_positions=model.positions[active],
        active=standing,
        weights=(mapping @ spread.T).T,
        waveforms=np.array([patch.waveform for patch in patches], dtype=float),
    )
