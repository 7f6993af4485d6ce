"""A recording on the disk with some samples replaced: what was restored, over what is in the file."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
from mne.io import BaseRaw
from mne.utils import verbose

__all__ = ["Patches", "RawRestored"]

# Above this, replaced samples are kept in a file without a name.
_MAX_BYTES = 64 * 2**20


class Patches:
    """Samples that replace others.

    Parameters
    ----------
    n_samples : int
        How many samples will be added, over all channels.
    """

    def __init__(self, n_samples: int) -> None:
        self._used, self._places = 0, []
        if n_samples * 8 <= _MAX_BYTES:
            self._samples: np.ndarray = np.empty(n_samples)
        else:
            # The file is gone once nothing refers to it.
            with tempfile.TemporaryFile(prefix="mne-labram-") as file:
                self._samples = np.memmap(file, np.float64, "w+", shape=(n_samples,))

    def __deepcopy__(self, memo: dict[int, Any]) -> Patches:
        return self  # nothing changes them once they are complete

    def add(self, pick: int, start: int, samples: np.ndarray) -> None:
        """Add samples of a channel, in volts, from sample ``start`` of the recording on."""
        stop = self._used + len(samples)
        self._samples[self._used : stop] = samples
        self._places.append((pick, start, start + len(samples), self._used))
        self._used = stop

    def apply(self, data: np.ndarray, picks: np.ndarray, start: int) -> None:
        """Put the samples over ``data``, shape (len(picks), n_times), which begins at sample ``start``."""
        stop, rows = start + data.shape[1], {int(pick): row for row, pick in enumerate(picks)}
        for pick, low, high, place in self._places:
            first, last = max(low, start), min(high, stop)
            if first < last and pick in rows:
                new = self._samples[place + first - low : place + last - low]
                data[rows[pick], first - start : last - start] = new


class RawRestored(BaseRaw):
    """A recording that is read from its file, with what was restored in its place.

    Parameters
    ----------
    source : mne.io.Raw
        The recording; not loaded.
    patches : Patches
        What replaces what is read.
    verbose : bool | str | int | None
        Control verbosity of the logging output.
    """

    @verbose
    def __init__(self, source: BaseRaw, patches: Patches, *, verbose: bool | str | int | None = None) -> None:
        source = source.copy()
        first = int(source.first_samp)
        super().__init__(
            source.info.copy(),
            preload=False,
            first_samps=[first],
            last_samps=[first + source.n_times - 1],
            filenames=[None],
            raw_extras=[{"source": source, "patches": patches, "first": first}],
            orig_format=source.orig_format,
            verbose=verbose,
        )
        self._raw_extras[0]["cals"] = np.ravel(self._cals).copy()
        # As they are: setting them would cut those that reach beyond the recording.
        self._annotations = source.annotations.copy()

    def _read_segment_file(
        self,
        data: np.ndarray,
        idx: slice | np.ndarray,
        fi: int,
        start: int,
        stop: int,
        cals: np.ndarray | None,
        mult: np.ndarray | None,
    ) -> None:
        extras = self._raw_extras[fi]
        start, stop = start - extras["first"], stop - extras["first"]
        picks = np.arange(len(extras["cals"]))[idx]
        samples = extras["source"].get_data(picks=picks, start=start, stop=stop, verbose="ERROR")
        extras["patches"].apply(samples, picks, start)
        # These are volts already; projectors set since want what is in a file.
        data[:] = samples if mult is None else mult @ (samples / extras["cals"][picks, None])
