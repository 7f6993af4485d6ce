"""Are these numbers microvolts? Measured on the signal, because headers are often wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["UNITS_IN_MICROVOLTS", "amplitude_problem", "typical_amplitude", "unit_factor"]

#: Microvolts in one of each unit ``assume_unit`` takes.
UNITS_IN_MICROVOLTS: dict[str, float] = {"V": 1e6, "mV": 1e3, "uV": 1.0, "nV": 1e-3}
#: Median amplitudes in µV that scalp EEG can have: amplifier noise is about 0.1 µV, the largest slow waves 1 mV.
PLAUSIBLE = (0.1, 1000.0)
#: With ``assume_unit`` the user vouches for the unit; beyond this factor it is still a mistake of 1000 or more.
_TOLERANCE = 100.0


def unit_factor(assume_unit: str | None, default: str) -> float:
    """Return microvolts per number.

    Parameters
    ----------
    assume_unit : {"V", "mV", "uV", "nV"} | None
        Unit of the numbers in the object, whatever its header says. ``"µV"`` is taken for ``"uV"``.
    default : str
        Unit when ``assume_unit`` is ``None``: ``"V"`` for MNE objects, ``"uV"`` for arrays.

    Returns
    -------
    factor : float
        By which the numbers are multiplied.

    Raises
    ------
    ValueError
        If the unit is none of the four.
    """
    if assume_unit is None:
        return UNITS_IN_MICROVOLTS[default]
    unit = assume_unit.replace("\u00b5", "u").replace("\u03bc", "u") if isinstance(assume_unit, str) else ""
    if unit not in UNITS_IN_MICROVOLTS:
        raise ValueError(f"assume_unit must be one of 'V', 'mV', 'uV' and 'nV', got {assume_unit!r}.")
    return UNITS_IN_MICROVOLTS[unit]


def typical_amplitude(segments: Sequence[np.ndarray]) -> np.ndarray:
    """Return the typical amplitude of each channel.

    Parameters
    ----------
    segments : sequence of ndarray, shape (n_chans, n_times)
        Excerpts of a recording in µV; NaN where there is no sample.

    Returns
    -------
    amplitude : ndarray, shape (n_chans,)
        Median over the excerpts of ``median |x - median(x)|`` within the excerpt, in µV; excerpts in which the channel
        is constant do not count. 0 for a channel that is constant everywhere.

    Notes
    -----
    The median is taken within short excerpts, so neither an electrode's offset (10-100 mV on BioSemi files) nor its
    slow drift counts as amplitude.
    """
    n_chans = segments[0].shape[0]
    table = np.zeros((len(segments), n_chans))
    for row, segment in zip(table, segments, strict=True):
        finite = np.isfinite(segment)
        for channel in range(n_chans):
            values = segment[channel, finite[channel]]
            if values.size:
                row[channel] = np.median(np.abs(values - np.median(values)))
                # Coarsely digitised EEG can rest on one value for more than half of the time.
                if row[channel] == 0:
                    row[channel] = np.mean(np.abs(values - np.median(values)))
    moving = table > 0
    return np.array([np.median(table[moving[:, i], i]) if moving[:, i].any() else 0.0 for i in range(n_chans)])


def amplitude_problem(
    amplitude: float, *, factor: float, vouched: bool, what: str = "The recording", hint: str = ""
) -> tuple[str | None, str | None]:
    """Judge a recording's typical amplitude.

    Parameters
    ----------
    amplitude : float
        Median over channels of :func:`typical_amplitude`, in µV.
    factor : float
        Microvolts per number that led to it (:func:`unit_factor`).
    vouched : bool
        Whether the user gave ``assume_unit``.
    what : str
        Subject of the sentence.
    hint : str
        What the file says of its unit, if that is odd.

    Returns
    -------
    refusal, warning : str | None
        A sentence each, or ``None``.
    """
    low, high = PLAUSIBLE
    if amplitude == 0:
        return f"{what} holds nothing but constant channels; there is no EEG to analyse.", None
    if low <= amplitude <= high:
        return None, None
    text = (
        f"{what} has a median amplitude of {_microvolts(amplitude)} and scalp EEG lies between {low:g} and {high:g} µV"
    )
    if hint:
        text += f" ({hint})"
    if vouched and low / _TOLERANCE <= amplitude <= high * _TOLERANCE:
        return None, text + "; taken as it is because assume_unit was given."
    if vouched:
        return text + "; the given assume_unit is wrong.", None
    return text + f"; {_remedy(amplitude / factor)}.", None


def _remedy(amplitude: float) -> str:
    """Say which unit would make the numbers plausible: the one that comes nearest to 20 µV."""
    distance = {unit: abs(np.log10(amplitude * each / 20)) for unit, each in UNITS_IN_MICROVOLTS.items()}
    unit = min(distance, key=distance.__getitem__)
    if PLAUSIBLE[0] <= amplitude * UNITS_IN_MICROVOLTS[unit] <= PLAUSIBLE[1]:
        return f"if the numbers are in {unit}, pass assume_unit={unit!r}"
    # Volts or millivolts in a file that says µV come out of MNE too small by as much; no unit of ours stands for that.
    for unit, power in (("V", 6), ("mV", 3)):
        if PLAUSIBLE[0] <= amplitude * 10.0 ** (6 + power) <= PLAUSIBLE[1]:
            return (
                f"if the file holds {unit} and says µV, mend the unit in it, or multiply the signal by 1e{power} "
                f"(raw.load_data().apply_function(lambda x: 1e{power} * x))"
            )
    return "no unit makes it plausible, so check the calibration in the file"


def _microvolts(value: float) -> str:
    return f"{value:.3g} µV" if 1e-3 <= value < 1e4 else f"{value:.2e} µV"
