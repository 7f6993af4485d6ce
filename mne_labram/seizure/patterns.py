"""What an electrographic seizure is made of, in numbers, and drawing those numbers at random."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mne_labram.signal.head_field import direction_of

__all__ = ["SEIZURE_KINDS", "SeizurePattern", "draw_pattern"]

#: The kinds that :func:`draw_pattern` knows, and how often it draws each when none is asked for.
SEIZURE_KINDS: dict[str, float] = {
    "focal_rhythmic": 0.34,
    "focal_fast": 0.16,
    "spike_wave": 0.14,
    "tonic_clonic": 0.14,
    "electrodecrement": 0.10,
    "rhythmic_delta": 0.12,
}

# Temporal foci are the commonest on the scalp; the others are drawn less often.
_FOCI = {
    "temporal": ("F7", "F8", "T7", "T8", "FT9", "FT10", "P7", "P8"),
    "frontal": ("FP1", "FP2", "F3", "F4", "FZ", "FC1", "FC2"),
    "central": ("C3", "C4", "CZ", "CP1", "CP2"),
    "posterior": ("P3", "P4", "PZ", "O1", "O2"),
}
_FOCUS_CHANCE = (0.55, 0.2, 0.12, 0.13)


@dataclass(frozen=True)
class SeizurePattern:
    """One discharge, as a function of the time since it began.

    The same pattern is the same seizure in every window, montage and sampling rate: what is irregular about it
    follows from :attr:`seed`.

    Parameters
    ----------
    kind : str
        One of :data:`SEIZURE_KINDS`, for information.
    duration : float
        Seconds from onset to end.
    knots : tuple of float
        Points in the seizure between which frequency, amplitude and shape are interpolated: parts of its duration,
        rising from 0 to 1.
    frequencies : tuple of float
        Repetition rate at the knots in Hz; geometric in between.
    amplitudes : tuple of float
        Amplitude at the knots, 0 to 1.
    sharpness : tuple of float
        Shape of a wave at the knots: 0 is a sinusoid, 1 a sharply contoured wave.
    spikes : tuple of float
        Amplitude of a spike before each wave at the knots, relative to the wave; 0 for none.
    n_spikes : int
        Spikes in each complex; more than one is a polyspike.
    wave_seconds : float
        Longest duration of a wave: between slower discharges there is silence, as in the clonic phase.
    fast : tuple of float
        Amplitude of fast activity superimposed at the knots, relative to the wave.
    fast_frequency : float
        Its frequency in Hz.
    rate_noise, amplitude_noise : float
        Relative standard deviation of the repetition rate and of the amplitude from wave to wave.
    polymorphic : float
        Part of the power, 0 to 1, with which places of the territory follow rhythms of their own, near the common
        one and less regular.
    attack, release : float
        Seconds in which the discharge appears and disappears.
    focus : tuple of float
        Direction of the focus from the middle of the head: right, front, up.
    generalised : bool
        The discharge is everywhere from the beginning, largest around the focus.
    eccentricity : float
        Depth of the sources, see :func:`~mne_labram.signal.head_field.dipole_potentials`.
    tilt : float
        Angle of the sources to the radial direction, in radians.
    polarity : float
        1 or -1: the sign of the spike and the wave over a radial source.
    spread_speed : float
        How fast the seizing territory grows over the head, in metres per second.
    extent : float
        How far it grows, as an angle in radians.
    crossing : float | None
        Seconds after which the other hemisphere takes part; ``None``: never.
    wave_speed : float
        How fast each single wave travels over the territory, in metres per second.
    attenuation : float
        Part of the background that vanishes at the onset, 0 to 1.
    attenuation_seconds : float
        How long that lasts.
    seed : int
        Of everything that is irregular.

    Raises
    ------
    ValueError
        If a number makes no sense.
    """

    kind: str
    duration: float
    knots: tuple[float, ...]
    frequencies: tuple[float, ...]
    amplitudes: tuple[float, ...]
    sharpness: tuple[float, ...]
    spikes: tuple[float, ...]
    fast: tuple[float, ...]
    focus: tuple[float, float, float]
    n_spikes: int = 1
    wave_seconds: float = 1.0
    fast_frequency: float = 18.0
    rate_noise: float = 0.04
    amplitude_noise: float = 0.15
    polymorphic: float = 0.0
    attack: float = 1.0
    release: float = 0.5
    generalised: bool = False
    eccentricity: float = 0.8
    tilt: float = 0.3
    polarity: float = -1.0
    spread_speed: float = 0.01
    extent: float = 0.8
    crossing: float | None = None
    wave_speed: float = 2.0
    attenuation: float = 0.0
    attenuation_seconds: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        n = len(self.knots)
        if n < 2 or self.knots[0] != 0.0 or self.knots[-1] != 1.0 or any(np.diff(self.knots) <= 0):
            raise ValueError(f"knots must rise from 0 to 1, got {self.knots}.")
        for name in ("frequencies", "amplitudes", "sharpness", "spikes", "fast"):
            values = getattr(self, name)
            if len(values) != n or not all(math.isfinite(value) and value >= 0.0 for value in values):
                raise ValueError(f"{name} must hold one number, 0 or more, for each of the {n} knots, got {values}.")
        if min(self.frequencies) <= 0.0 or max(self.amplitudes) <= 0.0:
            raise ValueError("frequencies must be positive, and an amplitude somewhere more than 0.")
        for name in ("duration", "wave_seconds", "spread_speed", "wave_speed", "attenuation_seconds"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0.0):
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}.")
        if not 0.0 <= self.rate_noise <= 0.2:
            # Beyond this, time would sometimes run backwards.
            raise ValueError(f"rate_noise lies between 0 and 0.2, got {self.rate_noise}.")
        for name in ("attenuation", "polymorphic", "eccentricity"):
            if not 0.0 <= getattr(self, name) <= 1.0 or (name == "eccentricity" and self.eccentricity == 0.0):
                raise ValueError(f"{name} lies between 0 and 1, got {getattr(self, name)}.")
        if not np.linalg.norm(self.focus) > 0.0:
            raise ValueError(f"focus must be a direction, got {self.focus}.")


def draw_pattern(rng: np.random.Generator, *, kind: str | None = None) -> SeizurePattern:
    """Draw a seizure at random.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the numbers come from.
    kind : str | None
        One of :data:`SEIZURE_KINDS`; ``None`` draws one.

        - ``"focal_rhythmic"``: rhythmic theta (5-9 Hz), or delta (2-5 Hz), over one lobe that slows down, sharpens
          and spreads. The rhythms of temporal lobe seizures on the scalp (Ebersole & Pacia 1996, Epilepsia
          37:386-399; Pacia & Ebersole 1997, Epilepsia 38:642-654; for delta, PubMed 31319289: 35 % of 192 seizures).
        - ``"focal_fast"``: low-voltage fast activity (13-30 Hz) that grows and slows into rhythmic theta and sharp
          delta (Foldvary et al. 2001, Neurology 57:2022-2028).
        - ``"spike_wave"``: generalised spikes and waves at 2.5-4 Hz that slow by up to 1 Hz, frontal maximum: typical
          absences (Sadleir et al. 2006, Neurology 67:413-418).
        - ``"tonic_clonic"``: fast activity that slows to about 10 Hz while it grows (tonic), then polyspikes and
          waves that become slower and further apart (clonic) (Gastaut & Broughton 1972, Epileptic Seizures).
        - ``"electrodecrement"``: the background flattens under low-voltage fast activity, a rhythmic discharge
          follows (type 3 of Ebersole & Pacia).
        - ``"rhythmic_delta"``: rhythmic delta (1-3.5 Hz) with fast activity or spikes on it, evolving: "RDA+F" and
          "RDA+S" that evolve, in the words of the ACNS.

    Returns
    -------
    pattern : SeizurePattern
        A seizure of 10 s or longer (spike-and-wave: 5 s).

    Raises
    ------
    ValueError
        If there is no such kind.

    Notes
    -----
    What makes a rhythm a seizure: it evolves in frequency, morphology or location, or discharges at more than 2.5 Hz,
    for 10 s or longer (Hirsch et al. 2021, J Clin Neurophysiol 38:1-29). Every kind evolves in at least two of
    these. The ranges of amplitude, irregularity and spread are ours: wide, so that a detector cannot learn them by
    heart. The wave front of a seizure creeps by millimetres per second, single discharges cross a lobe in tens of
    milliseconds (Smith et al. 2016, Nature Communications 7:11098).
    """
    if kind is None:
        kinds = list(SEIZURE_KINDS)
        kind = kinds[int(rng.choice(len(kinds), p=list(SEIZURE_KINDS.values())))]
    if kind not in SEIZURE_KINDS:
        raise ValueError(f"There is no seizure of kind {kind!r}; the kinds are {', '.join(SEIZURE_KINDS)}.")
    return SeizurePattern(kind=kind, **_DRAW[kind](rng), seed=int(rng.integers(2**31)))


def _u(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _log(rng: np.random.Generator, low: float, high: float) -> float:
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def _sites(rng: np.random.Generator, *, crossing: float = 0.5) -> dict:
    """Where a focal seizure begins and how it spreads."""
    lobe = list(_FOCI)[int(rng.choice(len(_FOCI), p=_FOCUS_CHANCE))]
    focus = direction_of(_FOCI[lobe][int(rng.integers(len(_FOCI[lobe])))]) + rng.normal(0.0, 0.12, 3)
    return {
        "focus": tuple(float(value) for value in focus / np.linalg.norm(focus)),
        "eccentricity": _u(rng, 0.5, 0.9),
        "tilt": _u(rng, 0.0, 1.0),
        "polarity": -1.0 if rng.random() < 0.8 else 1.0,
        "spread_speed": _log(rng, 0.003, 0.04),
        "extent": _u(rng, 0.4, 1.5),
        "crossing": _u(rng, 2.0, 25.0) if rng.random() < crossing else None,
        "wave_speed": _log(rng, 0.5, 8.0),
        "rate_noise": _u(rng, 0.01, 0.1),
        "amplitude_noise": _u(rng, 0.05, 0.35),
        "polymorphic": _u(rng, 0.0, 0.6) * (rng.random() < 0.7),
    }


def _everywhere(rng: np.random.Generator) -> dict:
    """Where a generalised seizure is largest: frontally, in the middle."""
    focus = direction_of("FZ" if rng.random() < 0.8 else "CZ") + rng.normal(0.0, 0.1, 3)
    return {
        "focus": tuple(float(value) for value in focus / np.linalg.norm(focus)),
        "generalised": True,
        "eccentricity": _u(rng, 0.6, 0.85),
        "tilt": _u(rng, 0.0, 0.4),
        "polarity": -1.0,
        "wave_speed": _log(rng, 3.0, 20.0),
        "spread_speed": 1.0,
        "extent": math.pi,
        "amplitude_noise": _u(rng, 0.05, 0.25),
        "polymorphic": _u(rng, 0.0, 0.3) * (rng.random() < 0.5),
    }


def _focal_rhythmic(rng: np.random.Generator) -> dict:
    onset = _u(rng, 5.0, 9.0) if rng.random() < 0.65 else _u(rng, 2.5, 5.0)
    last = max(1.0, onset * _u(rng, 0.3, 0.7))
    middle = onset * _u(rng, 0.8, 1.2)
    sharp, spiky = _u(rng, 0.2, 1.0), _u(rng, 0.0, 0.8) * (rng.random() < 0.4)
    return {
        "duration": _log(rng, 15.0, 120.0),
        "knots": (0.0, 0.35, 1.0),
        "frequencies": (onset, middle, last),
        "amplitudes": (_u(rng, 0.25, 0.7), 1.0, _u(rng, 0.6, 1.0)),
        "sharpness": (_u(rng, 0.0, 0.4), sharp, sharp),
        "spikes": (0.0, spiky, spiky),
        "fast": (_u(rng, 0.0, 0.2), 0.0, 0.0),
        "attack": _u(rng, 0.5, 4.0),
        "release": _u(rng, 0.2, 2.0),
        **_sites(rng),
    }


def _focal_fast(rng: np.random.Generator) -> dict:
    onset, middle = _u(rng, 13.0, 30.0), _u(rng, 4.5, 9.0)
    last = _u(rng, 1.5, 4.0)
    spiky = _u(rng, 0.0, 1.2) * (rng.random() < 0.5)
    begin = _u(rng, 0.1, 0.3)
    return {
        "duration": _log(rng, 15.0, 120.0),
        "knots": (0.0, begin, begin + _u(rng, 0.2, 0.4), 1.0),
        "frequencies": (onset, onset * _u(rng, 0.7, 1.0), middle, last),
        "amplitudes": (_u(rng, 0.1, 0.3), _u(rng, 0.3, 0.6), 1.0, _u(rng, 0.6, 1.0)),
        "sharpness": (0.0, 0.2, _u(rng, 0.3, 1.0), _u(rng, 0.3, 1.0)),
        "spikes": (0.0, 0.0, 0.3 * spiky, spiky),
        "fast": (0.0, 0.0, 0.0, 0.0),
        "attack": _u(rng, 0.5, 3.0),
        "attenuation": _u(rng, 0.0, 0.5),
        "attenuation_seconds": _u(rng, 2.0, 6.0),
        **_sites(rng),
    }


def _spike_wave(rng: np.random.Generator) -> dict:
    onset = _u(rng, 2.9, 4.2)
    last = max(2.5, onset - _u(rng, 0.2, 1.0))
    spike = _u(rng, 0.5, 1.6)
    return {
        "duration": _log(rng, 5.0, 30.0),
        "knots": (0.0, 0.3, 1.0),
        "frequencies": (onset, 0.5 * (onset + last), last),
        "amplitudes": (_u(rng, 0.7, 1.0), 1.0, _u(rng, 0.6, 0.9)),
        "sharpness": (0.2, 0.2, 0.2),
        # Spikes fade in the course of an absence while the waves stay.
        "spikes": (spike, spike * _u(rng, 0.6, 1.0), spike * _u(rng, 0.2, 0.7)),
        "fast": (0.0, 0.0, 0.0),
        "n_spikes": 1 if rng.random() < 0.75 else 2,
        "attack": _u(rng, 0.1, 0.5),
        "release": _u(rng, 0.1, 0.6),
        "rate_noise": _u(rng, 0.005, 0.05),
        **_everywhere(rng),
    }


def _tonic_clonic(rng: np.random.Generator) -> dict:
    tonic = _u(rng, 0.15, 0.35)
    spike = _u(rng, 0.6, 1.5)
    return {
        "duration": _log(rng, 30.0, 120.0),
        "knots": (0.0, tonic, tonic + 0.1, 0.8, 1.0),
        "frequencies": (
            _u(rng, 15.0, 25.0),
            _u(rng, 8.0, 11.0),
            _u(rng, 4.0, 6.0),
            _u(rng, 1.5, 3.0),
            _u(rng, 0.6, 1.2),
        ),
        "amplitudes": (_u(rng, 0.1, 0.3), _u(rng, 0.6, 0.9), 1.0, _u(rng, 0.8, 1.0), _u(rng, 0.6, 1.0)),
        "sharpness": (0.0, _u(rng, 0.3, 1.0), 0.3, 0.2, 0.2),
        "spikes": (0.0, 0.0, spike, spike, spike),
        "fast": (0.0, 0.0, 0.0, 0.0, 0.0),
        "n_spikes": int(rng.integers(2, 5)),
        "wave_seconds": _u(rng, 0.25, 0.5),
        "attack": _u(rng, 0.5, 2.0),
        "release": 0.2,
        "rate_noise": _u(rng, 0.02, 0.1),
        **_everywhere(rng),
    }


def _electrodecrement(rng: np.random.Generator) -> dict:
    flat = _u(rng, 0.15, 0.35)
    duration = _log(rng, 12.0, 60.0)
    generalised = rng.random() < 0.5
    later = _u(rng, 2.5, 7.0)
    return {
        "duration": duration,
        "knots": (0.0, flat, flat + 0.1, 1.0),
        "frequencies": (_u(rng, 16.0, 30.0), _u(rng, 13.0, 16.0), later, later * _u(rng, 0.4, 0.8)),
        "amplitudes": (_u(rng, 0.05, 0.15), _u(rng, 0.1, 0.25), _u(rng, 0.5, 0.9), 1.0),
        "sharpness": (0.0, 0.0, _u(rng, 0.2, 0.8), _u(rng, 0.2, 0.8)),
        "spikes": (0.0, 0.0, 0.0, _u(rng, 0.0, 0.8)),
        "fast": (0.0, 0.0, 0.0, 0.0),
        "attack": 0.3,
        "rate_noise": _u(rng, 0.03, 0.12),
        "attenuation": _u(rng, 0.6, 0.95),
        "attenuation_seconds": flat * duration,
    } | ({**_everywhere(rng)} if generalised else {k: v for k, v in _sites(rng).items() if k != "rate_noise"})


def _rhythmic_delta(rng: np.random.Generator) -> dict:
    onset = _u(rng, 1.8, 3.5)
    with_spikes = rng.random() < 0.5
    plus = _u(rng, 0.2, 0.6)
    return {
        "duration": _log(rng, 15.0, 120.0),
        "knots": (0.0, 0.4, 1.0),
        "frequencies": (onset, onset * _u(rng, 0.9, 1.4), max(1.0, onset * _u(rng, 0.5, 0.8))),
        "amplitudes": (_u(rng, 0.4, 0.8), 1.0, _u(rng, 0.6, 1.0)),
        "sharpness": (_u(rng, 0.0, 0.3), _u(rng, 0.0, 0.6), _u(rng, 0.0, 0.6)),
        "spikes": (0.0, plus, 2.0 * plus) if with_spikes else (0.0, 0.0, 0.0),
        "fast": (0.0, 0.0, 0.0) if with_spikes else (0.5 * plus, plus, 0.3 * plus),
        "fast_frequency": _u(rng, 11.0, 22.0),
        "attack": _u(rng, 0.5, 4.0),
        "release": _u(rng, 0.2, 2.0),
        **_sites(rng),
    }


_DRAW = {
    "focal_rhythmic": _focal_rhythmic,
    "focal_fast": _focal_fast,
    "spike_wave": _spike_wave,
    "tonic_clonic": _tonic_clonic,
    "electrodecrement": _electrodecrement,
    "rhythmic_delta": _rhythmic_delta,
}
