"""How much of a signal is lost at how many bits, for any codec, and how many bits one saves against another."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mne_labram.codec.quality import Quality
from mne_labram.signal.conform import plan_conform
from mne_labram.signal.contract import LABRAM_CONTRACT, SignalContract
from mne_labram.signal.opening import open_recording

__all__ = [
    "BlockCodec",
    "CODEC_CONTRACT",
    "Codec",
    "CodecRecording",
    "Decoded",
    "RateDistortionRow",
    "bits_saved",
    "rate_distortion",
    "read_for_codec",
]

#: 0.1 to 75 Hz at 200 Hz, as in shared/reference/baselines.md; line noise is removed where there is any.
CODEC_CONTRACT: SignalContract = replace(LABRAM_CONTRACT, name="codec benchmark", vocabulary=None)
#: Length in seconds of the windows over which errors are averaged.
WINDOW = 4.0


@dataclass(frozen=True)
class CodecRecording:
    """A recording as codecs are given it.

    Attributes
    ----------
    name, subject, dataset : str
        What it is, and whose.
    x : ndarray of float32, shape (n_chans, n_times)
        Microvolts.
    sfreq : float
        Sampling rate in Hz.
    ch_names : list of str
        Channels.
    usable : ndarray of bool, shape (n_windows,)
        Whole 4-s windows that are scored; all of the signal is coded.
    """

    name: str
    subject: str
    dataset: str
    x: np.ndarray
    sfreq: float
    ch_names: list[str]
    usable: np.ndarray


@dataclass(frozen=True)
class Decoded:
    """What became of a recording.

    Attributes
    ----------
    x : ndarray of float32, shape (n_chans, n_times)
        Microvolts.
    bits : float
        Length of the stream, everything that is needed but the trained parts of the codec.
    ideal_bits : float | None
        What a perfect entropy coder would have taken with the same model; ``None``: not known.
    n_over : int
        Blocks that took more than their budget.
    header_bits : float
        What a decoder has to be told once for the recording, and ``bits`` do not count.
    """

    x: np.ndarray
    bits: float
    ideal_bits: float | None = None
    n_over: int = 0
    header_bits: float = 0.0


class Codec(Protocol):
    """Anything that can stand in the table."""

    name: str

    def code(self, recordings: Sequence[CodecRecording], bitrate: float) -> list[Decoded]:
        """Compress and decompress recordings at so many bits per second and channel."""


class BlockCodec:
    """A coder of blocks (``mne_labram.codec``) as a codec of recordings; what counts is the bytes of its payloads.

    What the coder says of itself for the header of a file is told beside them, compressed with zlib: it is not part of
    the bitrate, and has to be small.

    Parameters
    ----------
    coder : BlockCoder | callable
        The coder; or what makes one for a recording: ``coder(recording, bitrate, block_samples)``.
    seconds : float
        Length of a block; the budget of a block is its share of the bits, whatever other blocks took.
    name : str | None
        What it is called in tables; the coder's name by default.
    """

    def __init__(self, coder: Any, seconds: float = 8.0, *, name: str | None = None) -> None:
        self.coder, self.seconds = coder, float(seconds)
        self.name = name or getattr(coder, "name", "coder")

    def code(self, recordings: Sequence[CodecRecording], bitrate: float) -> list[Decoded]:
        """Compress and decompress.

        Parameters
        ----------
        recordings : sequence of CodecRecording
            What is coded.
        bitrate : float
            Bits per second and channel.

        Returns
        -------
        decoded : list of Decoded
            One for each recording.
        """
        return [self._code_one(recording, bitrate) for recording in recordings]

    def _code_one(self, recording: CodecRecording, bitrate: float) -> Decoded:
        n_chans, n_times = recording.x.shape
        length = round(self.seconds * recording.sfreq)
        coder = self.coder if hasattr(self.coder, "encode") else self.coder(recording, bitrate, length)
        # As in a file, what is left for the last block is added to the one before if it is less than half of one.
        starts = list(range(0, max(n_times - length // 2, 1), length))
        x, bits, n_over = np.empty(recording.x.shape, dtype=np.float32), 0, 0
        for start, stop in zip(starts, [*starts[1:], n_times], strict=True):
            budget = int(bitrate * n_chans * (stop - start) / recording.sfreq)
            payload = coder.encode(recording.x[:, start:stop].astype(np.float64), bits=budget)
            x[:, start:stop] = coder.decode(payload, stop - start)
            bits += 8 * len(payload)
            n_over += 8 * len(payload) > budget
        header = json.dumps(coder.parameters()) if hasattr(coder, "parameters") else ""
        return Decoded(x, bits=bits, n_over=n_over, header_bits=8 * len(zlib.compress(header.encode(), 9)))


@dataclass(frozen=True)
class RateDistortionRow:
    """What was measured of one codec at one rate on one data set.

    Attributes
    ----------
    codec, dataset : str
        Which.
    bitrate : float
        What was asked for, in bits per second and channel.
    bits : float
        What was measured.
    prd, prdn, r : float
        See :mod:`mne_labram.codec.quality`: mean over channels and 4-s windows, then over subjects.
    spread : float
        Standard deviation of the PRD over subjects; NaN for one.
    bands : dict of str to float
        PRDN within bands, of all channels and windows of a subject together, then mean over subjects.
    overhead : float
        How much longer the stream is than the model's information content, in percent; NaN if that is not known.
    n_over : int
        Blocks that took more than their budget.
    header : float
        Bits per second and channel that are told once for the recording and not counted in ``bits``.
    subjects : dict of str to float
        PRD of each subject.
    """

    codec: str
    dataset: str
    bitrate: float
    bits: float
    prd: float
    spread: float
    prdn: float
    r: float
    bands: dict[str, float]
    overhead: float = float("nan")
    n_over: int = 0
    header: float = 0.0
    subjects: dict[str, float] = field(default_factory=dict)


def read_for_codec(
    paths: Sequence[str | os.PathLike[str]],
    *,
    dataset: str,
    contract: SignalContract = CODEC_CONTRACT,
    ch_names: Sequence[str] | None = None,
    whole: bool = True,
) -> list[CodecRecording]:
    """Read recordings as a contract asks for them.

    Parameters
    ----------
    paths : sequence of path-like
        Files; what comes before the first underscore or ``R`` with two digits is the subject.
    dataset : str
        What they are called together.
    contract : SignalContract
        How the signal is prepared.
    ch_names : sequence of str | None
        Channels, in this order; those of the first recording by default.
    whole : bool
        Leave out what follows the last whole window of 4 s, so that no codec has to do with a shorter one.

    Returns
    -------
    recordings : list of CodecRecording
        In the order of the paths.

    Raises
    ------
    ValueError
        If a recording is shorter than a window.
    """
    length = round(WINDOW * contract.sfreq)
    found, names = [], None if ch_names is None else list(ch_names)
    for path in map(Path, paths):
        plan = plan_conform(open_recording(path), contract, ch_names=names, verbose="error")
        names = list(plan.ch_names)
        blocks = list(plan.iter_blocks(60))
        x = np.concatenate([block.data for block in blocks], axis=1)
        n_windows = x.shape[1] // length
        if not n_windows:
            raise ValueError(f"{path.name} is shorter than {WINDOW:g} s.")
        unusable = np.concatenate([block.unusable for block in blocks])
        seconds = int(WINDOW)
        bad = unusable[: n_windows * seconds].reshape(n_windows, seconds).any(axis=1)
        x = np.ascontiguousarray(x[:, : n_windows * length] if whole else x, dtype=np.float32)
        subject = path.stem.split("_")[0].split("R")[0]
        found.append(CodecRecording(path.stem, subject, dataset, x, contract.sfreq, names, ~bad))
    return found


def rate_distortion(
    codecs: Sequence[Codec],
    recordings: Sequence[CodecRecording],
    bitrates: Sequence[float] = (64, 128, 256, 512, 1024),
    *,
    progress: Callable[[RateDistortionRow], None] | None = None,
) -> list[RateDistortionRow]:
    """Measure codecs at several rates.

    Parameters
    ----------
    codecs : sequence of Codec
        What is compared.
    recordings : sequence of CodecRecording
        Of one data set.
    bitrates : sequence of float
        Bits per second and channel.
    progress : callable | None
        Called with every row once it is there.

    Returns
    -------
    rows : list of RateDistortionRow
        Codec by codec.
    """
    rows = []
    for codec in codecs:
        for bitrate in bitrates:
            rows.append(_row(codec, recordings, float(bitrate)))
            if progress is not None:
                progress(rows[-1])
    return rows


def _row(codec: Codec, recordings: Sequence[CodecRecording], bitrate: float) -> RateDistortionRow:
    decoded = codec.code(recordings, bitrate)
    seconds = sum(len(each.x) * each.x.shape[1] / each.sfreq for each in recordings)
    bits = sum(each.bits for each in decoded)
    ideal = [each.ideal_bits for each in decoded]
    qualities: dict[str, Quality] = {}
    for recording, each in zip(recordings, decoded, strict=True):
        quality = qualities.setdefault(recording.subject, Quality(recording.sfreq))
        length = round(WINDOW * recording.sfreq)
        for window in np.flatnonzero(recording.usable):
            piece = np.s_[:, window * length : (window + 1) * length]
            quality.add(recording.x[piece].astype(np.float64), each.x[piece].astype(np.float64))
    prd = np.array([each.prd for each in qualities.values()])
    bands = [each.band_errors for each in qualities.values()]
    return RateDistortionRow(
        codec=codec.name,
        dataset=recordings[0].dataset,
        bitrate=bitrate,
        bits=bits / seconds,
        prd=float(prd.mean()),
        spread=float(prd.std()) if len(prd) > 1 else float("nan"),
        prdn=float(np.mean([each.prdn for each in qualities.values()])),
        r=float(np.mean([each.pearson for each in qualities.values()])),
        bands={name: float(np.mean([each[name] for each in bands])) for name in bands[0]},
        overhead=float("nan") if None in ideal else 100.0 * (bits / sum(ideal) - 1.0),
        n_over=sum(each.n_over for each in decoded),
        header=sum(each.header_bits for each in decoded) / seconds,
        subjects=dict(zip(qualities, map(float, prd), strict=True)),
    )


def bits_saved(
    curve: Mapping[float, float], reference: Mapping[float, float], rates: Sequence[float] = (64, 128, 256, 512)
) -> dict[float, float]:
    """Tell how many bits one codec saves against another at the same error.

    Parameters
    ----------
    curve, reference : mapping of float to float
        PRD at bits (those measured) per second and channel.
    rates : sequence of float
        Rates of the reference.

    Returns
    -------
    saved : dict of float to float
        By rate of the reference: 1 - (bits of the curve) / (bits of the reference), at the PRD of the reference. NaN
        where that takes a PRD or a rate more than a factor of 1.5 beyond what was measured.

    Notes
    -----
    Between two rates the logarithm of the PRD is taken to be linear in the bits, as it is at high rates, where a bit
    more for each coefficient halves the error; beyond the ends, as between the last two.
    """
    saved = {}
    for rate in map(float, rates):
        prd = _at(rate, *_points(reference))
        bits, logs = _points(curve)
        # Interpolation wants ascending arguments, and the error falls with the bits.
        needed = _at(prd, logs[::-1], bits[::-1])
        beyond = max(needed / bits[-1], bits[0] / max(needed, 1e-9), rate / max(reference), min(reference) / rate)
        saved[rate] = float("nan") if beyond > 1.5 else 1.0 - needed / rate
    return saved


def _points(curve: Mapping[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return bits, ascending, and the logarithm of the PRD at them."""
    if len(curve) < 2:
        raise ValueError("A curve of rate and distortion takes two rates or more.")
    bits = np.array(sorted(curve), dtype=float)
    return bits, np.log([curve[each] for each in bits])


def _at(x: float, xs: np.ndarray, ys: np.ndarray) -> float:
    """Interpolate, and go on beyond the ends as between the last two points."""
    i = int(np.clip(np.searchsorted(xs, x) - 1, 0, len(xs) - 2))
    return float(ys[i] + (x - xs[i]) * (ys[i + 1] - ys[i]) / (xs[i + 1] - xs[i]))
