"""``WaveformBank``: what sources do, and what goes on around them, to be put anywhere on any cortex."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mne_labram._files import checked_ending, written_whole
from mne_labram.signal.contract import ContractError
from mne_labram.source.waveforms import evoked_like, made_up_spikes, oscillations

__all__ = ["WAVEFORM_KINDS", "WaveformBank"]

#: What :meth:`WaveformBank.draw` can give.
WAVEFORM_KINDS: tuple[str, ...] = ("spike", "oscillation", "evoked")
_FORMAT = 1
#: Logarithms of how many times as fast spikes are played.
_TEMPO = (math.log(0.7), math.log(3.0))


@dataclass(frozen=True, eq=False)
class WaveformBank:
    """Spikes and background of neural masses, as numbers without a head; oscillations and evoked waves are drawn anew.

    Parameters
    ----------
    sfreq : float
        Samples per second of what is stored.
    spikes : ndarray of float16, shape (n_spikes, n_times)
        Clips of which the largest value is 1; none: spikes are made up, see
        :func:`~mne_labram.source.waveforms.made_up_spikes`.
    spike_regions : ndarray of int16, shape (n_spikes,)
        The region that each was found in.
    background : ndarray of float16, shape (n_clips, n_regions, n_background_times)
        What regions do where nothing is excited: mean 0, and root mean square 1 over all regions and times of a clip.
    positions : ndarray of float32, shape (n_regions, 3)
        Where the regions are, in any frame whose axes are right, front and up; empty where that is not known.
    about : dict
        How it was made; what JSON can hold.

    Raises
    ------
    ContractError
        If shapes do not fit, or a value is not finite.
    """

    sfreq: float = 500.0
    spikes: np.ndarray = field(default_factory=lambda: np.zeros((0, 500), np.float16))
    spike_regions: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))
    background: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 500), np.float16))
    positions: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sfreq) and self.sfreq > 0.0):
            raise ContractError(f"A waveform bank needs a positive sampling rate, got {self.sfreq}.")
        if self.spikes.ndim != 2 or self.spike_regions.shape != self.spikes.shape[:1]:
            raise ContractError(
                f"Spikes are (n_spikes, n_times) with a region each, got {self.spikes.shape} and "
                f"{self.spike_regions.shape}; make the bank with make_bank."
            )
        if self.background.ndim != 3 or self.positions.ndim != 2 or self.positions.shape[1:] != (3,):
            raise ContractError(
                f"Background is (n_clips, n_regions, n_times) and positions (n_regions, 3), got {self.background.shape}"
                f" and {self.positions.shape}; make the bank with make_bank."
            )
        if len(self.positions) and self.background.size and len(self.positions) != self.background.shape[1]:
            raise ContractError(
                f"There are {self.background.shape[1]} regions in the background and {len(self.positions)} positions; "
                "give one for each region, or none."
            )
        for name in ("spikes", "background", "positions"):
            if not np.isfinite(getattr(self, name)).all():
                raise ContractError(f"The {name} of a waveform bank must be finite; make the bank again.")

    @property
    def n_spikes(self) -> int:
        """How many spikes are stored."""
        return len(self.spikes)

    @property
    def n_regions(self) -> int:
        """How many regions the background has; 0 without a background."""
        return self.background.shape[1] if self.background.size else 0

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays, which is also what the file takes."""
        return sum(a.nbytes for a in (self.spikes, self.spike_regions, self.background, self.positions))

    def __repr__(self) -> str:
        return (
            f"<WaveformBank | {self.n_spikes} spikes, {len(self.background)} background clips of {self.n_regions} "
            f"regions, {self.sfreq:g} Hz, {self.n_bytes / 1e6:.3g} MB>"
        )

    def save(self, fname: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the bank to one file, whole or not at all.

        Parameters
        ----------
        fname : path-like
            Ends in .npz.
        overwrite : bool
            Replace an existing file.

        Raises
        ------
        ValueError
            If the name ends in something else.
        OSError
            If the file exists and may not be replaced, or cannot be written.
        """
        path = checked_ending(Path(fname), "A waveform bank", ".npz")
        with written_whole(path, overwrite=overwrite) as temporary, open(temporary, "wb") as file:
            # Not compressed: halves of noise do not get smaller, and reading is ten times faster.
            np.savez(
                file,
                format=np.int64(_FORMAT),
                sfreq=np.float64(self.sfreq),
                spikes=self.spikes.astype(np.float16),
                spike_regions=self.spike_regions.astype(np.int16),
                background=self.background.astype(np.float16),
                positions=self.positions.astype(np.float32),
                about=np.array(json.dumps(self.about, sort_keys=True)),
            )

    @classmethod
    def load(cls, fname: str | os.PathLike[str]) -> WaveformBank:
        """Read a bank.

        Parameters
        ----------
        fname : path-like
            What :meth:`save` wrote.

        Returns
        -------
        bank : WaveformBank
            The same.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ContractError
            If it is no bank.
        """
        sentence = f"{os.fspath(fname)} is no waveform bank of this version; make it again with make_bank."
        names = ("sfreq", "spikes", "spike_regions", "background", "positions", "about")
        try:
            with np.load(fname, allow_pickle=False) as stored:
                version = int(stored["format"])
                parts = {name: stored[name] for name in names}
            parts["sfreq"] = float(parts["sfreq"])
            parts["about"] = json.loads(str(parts["about"]))
        except (KeyError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
            raise ContractError(sentence) from error
        if version != _FORMAT:
            raise ContractError(sentence)
        return cls(**parts)

    def draw(
        self,
        n: int,
        n_times: int,
        sfreq: float,
        rng: np.random.Generator,
        *,
        kinds: Sequence[str] = WAVEFORM_KINDS,
    ) -> np.ndarray:
        """Draw what sources do.

        Parameters
        ----------
        n : int
            How many waveforms.
        n_times : int
            Samples of each.
        sfreq : float
            Samples per second.
        rng : numpy.random.Generator
            Where everything is drawn from.
        kinds : sequence of str
            Of which kinds, all alike; a name that comes twice comes twice as often.

            - ``"spike"``: stored spikes (made-up ones where none is stored), one at least and three in four seconds on
              average, their peaks anywhere but at the edges of the window, of either sign. Neural masses of one set of
              parameters all spike alike, 50 ms wide at half their height: each is played 0.7 to 3 times as fast, which
              covers what is called a spike and what is called a sharp wave.
            - ``"oscillation"``, ``"evoked"``: see :mod:`mne_labram.source.waveforms`.

        Returns
        -------
        waveforms : ndarray of float32, shape (n, n_times)
            Largest absolute value 1.

        Raises
        ------
        ValueError
            If there is no such kind.
        """
        check_kinds(kinds)
        out = np.empty((n, n_times), np.float32)
        which = rng.integers(len(kinds), size=n)
        for number, kind in enumerate(kinds):
            rows = np.flatnonzero(which == number)
            if not len(rows):
                continue
            if kind == "oscillation":
                out[rows] = oscillations(len(rows), n_times, sfreq, rng)
            elif kind == "evoked":
                out[rows] = evoked_like(len(rows), n_times, sfreq, rng)
            elif self.n_spikes:
                out[rows] = self._spikes(len(rows), n_times, sfreq, rng)
            else:
                out[rows] = made_up_spikes(len(rows), n_times, sfreq, rng)
        return out

    def _spikes(self, n: int, n_times: int, sfreq: float, rng: np.random.Generator) -> np.ndarray:
        n_stored = self.spikes.shape[1]
        duration = n_times / sfreq
        sign = np.where(rng.random(n) < 0.5, -1.0, 1.0)
        count = np.maximum(1, rng.poisson(0.75 * duration, n))
        out = np.zeros((n, n_times))
        time = np.arange(n_times) / sfreq
        for row in range(n):
            for _ in range(count[row]):
                clip = self.spikes[rng.integers(self.n_spikes)].astype(float)
                centre, tempo = rng.uniform(0.1, 0.9) * duration, math.exp(rng.uniform(*_TEMPO))
                clip = _low_passed(clip, self.sfreq, sfreq / tempo)
                peak = int(np.argmax(np.abs(clip)))
                at = (time - centre) * tempo * self.sfreq + peak
                out[row] += np.interp(at, np.arange(n_stored), clip, left=0.0, right=0.0)
        out *= sign[:, np.newaxis]
        return out / np.maximum(np.abs(out).max(axis=1, keepdims=True), 1e-6)


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise ValueError for a kind of waveform that is not known, or none at all."""
    unknown = [kind for kind in kinds if kind not in WAVEFORM_KINDS]
    if isinstance(kinds, str) or unknown or not len(kinds):
        raise ValueError(f"Waveforms are a sequence of {', '.join(WAVEFORM_KINDS)}, got {kinds!r}.")


def _low_passed(clip: np.ndarray, stored: float, wanted: float) -> np.ndarray:
    """Take off what cannot be seen at a lower rate than a spike is stored at."""
    if wanted >= 0.9 * stored:
        return clip
    # A Gaussian that has fallen to a half at 0.4 of the wanted rate: no ringing before and after a spike.
    width = math.sqrt(2.0 * math.log(2.0)) / (2.0 * math.pi * 0.4 * wanted) * stored
    reach = min(max(1, math.ceil(4.0 * width)), (len(clip) - 1) // 2)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    return np.convolve(clip, kernel / kernel.sum(), mode="same")
