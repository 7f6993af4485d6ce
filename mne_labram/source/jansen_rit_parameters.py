"""The constants of Jansen and Rit's populations."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

__all__ = ["ALPHA", "DEEPSIF_SETTINGS", "JansenRitParameters"]


@dataclass(frozen=True)
class JansenRitParameters:
    """Constants of populations, and of what drives them.

    Parameters
    ----------
    A, B : float
        Peaks of excitatory and inhibitory postsynaptic potentials in mV.
    a, b : float
        Their rate constants in 1/ms.
    v0 : float
        Potential in mV at which half of the largest rate is fired.
    nu_max : float
        Half of the largest firing rate in 1/ms.
    r : float
        Steepness of the sigmoid in 1/mV.
    J : float
        Average number of synapses.
    a_1, a_2, a_3, a_4 : float
        Shares of it: from pyramidal cells to excitatory cells and back, to inhibitory cells and back.
    mu : float
        Mean input in 1/ms.
    noise : float
        Deviation of the input, times that of DeepSIF's first setting; 0: none.
    coupling : float
        What rates of other regions are multiplied by, beside their weights.

    Raises
    ------
    ValueError
        If one is no finite number, or a rate constant or the steepness not above 0, or the noise below 0.

    Notes
    -----
    Jansen & Rit (1995), Biological Cybernetics 73, 357-366, section 3: A, B, a, b, v0, r, J (their C) and the shares.
    Their e0, here nu_max, is 2.5 per second. Defaults of `mu` and `noise` are DeepSIF's first setting (Sun et al. 2022,
    PNAS 119, e2201128119; bfinl/DeepSIF, forward/generate_tvb_data.py).
    """

    A: float = 3.25
    B: float = 22.0
    a: float = 0.1
    b: float = 0.05
    v0: float = 6.0
    nu_max: float = 0.0025
    r: float = 0.56
    J: float = 135.0
    a_1: float = 1.0
    a_2: float = 0.8
    a_3: float = 0.25
    a_4: float = 0.25
    mu: float = 0.087
    noise: float = 1.0
    coupling: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
                raise ValueError(f"{field.name} must be a finite number, not {value!r}.")
        for name in ("a", "b", "r"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}.")
        if self.noise < 0:
            raise ValueError(f"noise must be from 0 up, not {self.noise}.")

    @property
    def sigma(self) -> float:
        """Deviation of the noise on y4 in mV/ms, for a step of 1 ms; it goes with the square root of the step."""
        # a * 3.25 * (p_max - p_min) / 2 * noise, of an input from 0.03 to 0.15 per ms: DeepSIF, as above.
        return self.a * 3.25 * (0.15 - 0.03) / 2 * self.noise


#: The three settings that DeepSIF's spikes come from (as above). Of the first, most spikes can be used; of the others
#: hardly any (../shared/reference/source_imaging.md, section 3.4).
DEEPSIF_SETTINGS = (
    JansenRitParameters(mu=0.087, noise=1.0),
    JansenRitParameters(mu=0.08, noise=1.7),
    JansenRitParameters(mu=0.083, noise=1.5),
)
#: The input of Jansen & Rit's alpha rhythm: 120 to 320 per second, 220 on average (as above, section 4).
ALPHA = JansenRitParameters(mu=0.22)
