"""What a recording must be for its sources to be found, and what of it is used: all checks, before work starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mne
import numpy as np
from mne.io import BaseRaw
from mne.utils import logger

from mne_labram.signal.contract import ContractError
from mne_labram.signal.units import typical_amplitude, unit_factor
from mne_labram.source.head import SourceModel
from mne_labram.source.scalp import same_electrodes, scalp_channels

__all__ = ["eeg_channels", "head_of_channels", "lost_directions", "noise_in_microvolts", "probe_signal"]

# Seconds, and epochs, that are looked at before work starts.
_PROBED, _PROBED_EPOCHS = 10.0, 20
# Typical amplitudes in µV that a recording, and an average over trials, can have.
_PLAUSIBLE, _PLAUSIBLE_AVERAGE = (0.1, 1000.0), (1e-3, 1000.0)
# Slow offsets are so many times larger than what moves in a recording that was not high-pass filtered.
_OFFSET = 20.0
# The same for trials and averages that no baseline was taken off, if they are at least so many seconds long.
_OFFSET_OF_TRIALS, _BASELINE_NEEDED = 5.0, 0.2
# A direction has no signal if its power is less than this share of the strongest one's: float32, and rounding.
_NOTHING = 1e-11


def eeg_channels(inst: Any) -> list[str]:
    """Return the good EEG channels of a recording.

    Parameters
    ----------
    inst : mne.io.Raw | mne.Epochs | mne.Evoked
        The recording.

    Returns
    -------
    ch_names : list of str
        In its order, without those in ``info["bads"]``.

    Raises
    ------
    ContractError
        If there are none, or one is bipolar.
    TypeError
        If ``inst`` is none of the three.
    """
    if not isinstance(inst, (BaseRaw, mne.BaseEpochs, mne.Evoked)):
        raise TypeError(f"Sources are found in Raw, Epochs and Evoked, got {type(inst).__name__}.")
    info = inst.info
    others: list[str] = []
    names = [info["ch_names"][pick] for pick in scalp_channels(info, others=others)[0]]
    if not names:
        raise ContractError("The data have no good EEG channels; set the channel types and check info['bads'].")
    if others:
        logger.info(f"No electrode on the scalp, and left out: {', '.join(others)}.")
    left_out = [name for name in info["bads"] if name in info["ch_names"]]
    if left_out:
        logger.info(f"{len(left_out)} bad channel(s) are left out: {', '.join(left_out[:5])}.")
    return names


def head_of_channels(head: SourceModel, ch_names: Sequence[str]) -> SourceModel:
    """Keep the electrodes of a recording, whatever its file calls them.

    Parameters
    ----------
    head : SourceModel
        The head.
    ch_names : sequence of str
        Channels of the recording, in their order.

    Returns
    -------
    head : SourceModel
        With these channels, under these names: found by their names or, where a name is not there, as the same
        electrode of the 10-05 system (:func:`~mne_labram.source.scalp.same_electrodes`), with a line in the log.

    Raises
    ------
    ContractError
        As :meth:`SourceModel.pick`.
    """
    # Those that are not found keep their names, so that the sentence names them and no others.
    names = [there or here for here, there in zip(ch_names, same_electrodes(ch_names, head.ch_names), strict=True)]
    picked = head.pick(names)
    other = [f"{there} for {here}" for here, there in zip(ch_names, names, strict=True) if here != there]
    if other:
        logger.info(f"Electrodes that the forward calls otherwise: {', '.join(other[:5])}{', ...' * (len(other) > 5)}.")
    return dataclasses.replace(picked, ch_names=list(ch_names))


@dataclass(frozen=True, eq=False)
class _Excerpt:
    """Stretches of a recording in µV, and when each begins."""

    pieces: list[np.ndarray]
    seconds: list[float]


def _excerpt(inst: Any, ch_names: Sequence[str], factor: float) -> _Excerpt:
    sfreq = float(inst.info["sfreq"])
    if isinstance(inst, BaseRaw):
        n_times, step = len(inst.times), max(1, round(2.0 * sfreq))
        wanted = max(1, round(_PROBED / 2.0))
        first = np.unique(np.linspace(0, max(0, n_times - step), min(wanted, -(-n_times // step))).astype(int))
        pieces = [inst.get_data(picks=list(ch_names), start=at, stop=min(at + step, n_times)) for at in first.tolist()]
        return _Excerpt([factor * piece for piece in pieces], [at / sfreq for at in first.tolist()])
    if isinstance(inst, mne.Evoked):
        return _Excerpt([factor * inst.get_data(picks=list(ch_names))], [float(inst.times[0])])
    data = inst[:_PROBED_EPOCHS].get_data(picks=list(ch_names), verbose="ERROR")
    return _Excerpt([factor * piece for piece in data], [float(inst.times[0])] * len(data))


def probe_signal(inst: Any, ch_names: Sequence[str], assume_unit: str | None = None) -> tuple[float, list[np.ndarray]]:
    """Look at some of a recording, and refuse what is no EEG.

    Parameters
    ----------
    inst : mne.io.Raw | mne.Epochs | mne.Evoked
        The recording; ten seconds or twenty epochs are read.
    ch_names : sequence of str
        Channels to look at.
    assume_unit : str | None
        See :func:`~mne_labram.signal.units.unit_factor`.

    Returns
    -------
    factor : float
        Microvolts per number of the object.
    pieces : list of ndarray, shape (n_chans, n_times)
        What was read, µV.

    Raises
    ------
    ContractError
        If there is nothing, a value is not finite, channels are constant, amplitudes are not those of EEG, or offsets
        are so large that nothing else would be seen.
    """
    factor = unit_factor(assume_unit, "V")
    if isinstance(inst, mne.BaseEpochs) and not len(inst):
        raise ContractError("There are no epochs left, all were dropped; see inst.drop_log.")
    if len(inst.times) < 2:
        raise ContractError("One sample says too little about noise to find sources; give a stretch of signal.")
    excerpt = _excerpt(inst, ch_names, factor)
    for piece in excerpt.pieces:
        check_finite(piece, ch_names)
    joined = np.concatenate(excerpt.pieces, axis=1)
    constant = [name for name, row in zip(ch_names, joined, strict=True) if np.ptp(row) == 0.0]
    if len(constant) == len(ch_names):
        raise ContractError("The data hold nothing but constant channels; there is no EEG to localize.")
    # One such channel may be the reference, which is zero against itself.
    if len(constant) > 1:
        raise ContractError(
            f"{len(constant)} channels are constant ({', '.join(constant[:5])}); mark them as bad (info['bads'])."
        )
    low, high = _PLAUSIBLE_AVERAGE if isinstance(inst, mne.Evoked) else _PLAUSIBLE
    moving = [row for row, name in enumerate(ch_names) if name not in constant]
    amplitude = float(np.median(typical_amplitude(excerpt.pieces)[moving]))
    if not low <= amplitude <= high:
        unit = next((u for u in ("uV", "mV", "V", "nV") if low <= amplitude / factor * unit_factor(u, "V") <= high), "")
        remedy = f"if the numbers are in {unit}, pass assume_unit={unit!r}" if unit else "check their calibration"
        raise ContractError(
            f"The data have a median amplitude of {amplitude:.3g} µV and scalp EEG lies between {low:g} and {high:g} "
            f"µV; {remedy}."
        )
    _check_offsets(inst, joined, amplitude)
    return factor, excerpt.pieces


def _check_offsets(inst: Any, joined: np.ndarray, amplitude: float) -> None:
    """Refuse offsets beside which nothing else would be seen: an amplifier's, or a missing baseline's."""
    continuous = isinstance(inst, BaseRaw)
    # A few samples round a peak are all offset, and right as they are.
    if not continuous and (inst.baseline is not None or len(inst.times) < _BASELINE_NEEDED * inst.info["sfreq"]):
        return
    offsets = np.median(joined, axis=1)
    offset = float(np.median(np.abs(offsets - np.median(offsets))))
    if offset > (_OFFSET * max(amplitude, 1.0) if continuous else _OFFSET_OF_TRIALS * amplitude):
        remedy = "high-pass filter the data first (filter(1, None), or --high-pass 1)"
        raise ContractError(
            f"The channels differ by offsets of {offset:.3g} µV, {offset / amplitude:.0f} times what moves in them; "
            f"{remedy if continuous else 'take the baseline off first (apply_baseline((None, 0)), or --baseline)'}."
        )


def check_finite(x: np.ndarray, ch_names: Sequence[str], where: str = "") -> None:
    """Refuse NaN and infinite samples.

    Parameters
    ----------
    x : ndarray, shape (n_chans, n_times)
        Signal.
    ch_names : sequence of str
        Its channels.
    where : str
        Which part of the recording, for the sentence.

    Raises
    ------
    ContractError
        If there are any.
    """
    if np.isfinite(x.sum()) or np.isfinite(x).all():
        return
    bad = [name for name, row in zip(ch_names, x, strict=True) if not np.isfinite(row).all()]
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    raise ContractError(
        f"The data{where} hold NaN or infinite samples in {', '.join(map(repr, bad[:5]))}{more}; mark the channels as "
        "bad, or leave the stretch out."
    )


def lost_directions(inst: Any, ch_names: Sequence[str], pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Find what projections, ICA or interpolation took out of the data, beyond the average.

    Parameters
    ----------
    inst : mne.io.Raw | mne.Epochs | mne.Evoked
        The recording.
    ch_names : sequence of str
        Channels that are used.
    pieces : sequence of ndarray, shape (n_chans, n_times)
        Excerpts of it.

    Returns
    -------
    lost : ndarray, shape (n_chans, n_lost)
        Orthonormal directions of the average reference in which there is no signal; from ``info["projs"]`` that were
        applied, and, where samples are at least twice as many as channels, as measured.
    """
    n_chans = len(ch_names)
    centre = np.eye(n_chans) - 1.0 / n_chans
    lost = np.zeros((n_chans, 0))
    vectors = [
        np.array([dict(zip(proj["data"]["col_names"], row, strict=True)).get(name, 0.0) for name in ch_names])
        for proj in inst.info["projs"]
        if proj["active"]
        for row in proj["data"]["data"]
    ]
    # Those of MEG have nothing here; that of the average reference is the average itself.
    vectors = [centre @ vector / np.linalg.norm(vector) for vector in vectors if vector.any()]
    if vectors:
        lost = _basis(np.column_stack(vectors), 1e-3)
    x = np.concatenate([piece - piece.mean(axis=1, keepdims=True) for piece in pieces], axis=1)
    if x.shape[1] >= 2 * n_chans:
        x = centre @ x
        values, vectors = np.linalg.eigh(x @ x.T)
        # The first is the average itself.
        silent = np.flatnonzero(values[1:] < _NOTHING * values[-1]) + 1
        if len(silent):
            lost = _basis(np.column_stack([lost, centre @ vectors[:, silent]]), 1e-3)
    if lost.shape[1]:
        logger.info(
            f"The data have rank {n_chans - 1 - lost.shape[1]} of {n_chans - 1} in the average reference; what they "
            "lost is taken out of the leadfield too."
        )
    return lost


def _basis(vectors: np.ndarray, tolerance: float) -> np.ndarray:
    """Return an orthonormal basis of what vectors of about unit length span."""
    u, s, _ = np.linalg.svd(vectors, full_matrices=False)
    return u[:, s > tolerance]


def noise_in_microvolts(noise_cov: mne.Covariance, ch_names: Sequence[str], nave: int = 1) -> np.ndarray:
    """Take the covariance of noise for some channels.

    Parameters
    ----------
    noise_cov : mne.Covariance
        Of single trials, V².
    ch_names : sequence of str
        Channels, in their order.
    nave : int
        Trials that were averaged.

    Returns
    -------
    covariance : ndarray, shape (n_chans, n_chans)
        µV², of an average over ``nave`` trials, as ``mne.minimum_norm`` scales it.

    Raises
    ------
    ContractError
        If it lacks a channel, or is not finite or zero.

    Notes
    -----
    Channels are found as in :func:`head_of_channels`.
    """
    known = same_electrodes(ch_names, noise_cov["names"])
    ch_names = [there or here for here, there in zip(ch_names, known, strict=True)]
    index = {name: row for row, name in enumerate(noise_cov["names"])}
    missing = [name for name in ch_names if name not in index]
    if missing:
        raise ContractError(
            f"The noise covariance has no channel {missing[0]!r} (one of {len(missing)}); compute it from the same "
            "channels, or drop them."
        )
    rows = [index[name] for name in ch_names]
    data = np.asarray(noise_cov["data"], float)
    covariance = np.diag(data[rows]) if noise_cov["diag"] else data[np.ix_(rows, rows)]
    covariance = covariance * 1e12 / max(1, nave)
    if not np.isfinite(covariance).all() or not np.trace(covariance) > 0.0:
        raise ContractError("The noise covariance is zero or not finite; compute it anew (mne.compute_covariance).")
    return covariance
