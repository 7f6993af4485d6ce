"""Where electrodes are: MNE's 10-05 template, and what the LaBraM list adds to it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import mne
import numpy as np
from mne.transforms import apply_trans

__all__ = ["SAME_SITE", "canonical_electrode", "montage_in_head_frame", "template_positions"]

#: Electrodes of the LaBraM list that MNE's 10-05 template does not name, and the template's name for their site.
#:
#: - ``T1``, ``T2``, ``CB1``, ``CB2``: their sites in the sibling template ``colin27_postfixed``
#:   (``standard_postfixed`` before MNE 1.13), which are those of FT9, FT10, PO9 and PO10. Clinical T1 and T2 are
#:   measured from the ear canal and the outer canthus and lie within about 2 cm of FT9 and FT10.
#: - ``O9``, ``O10``: their sites in ``colin27_1020``, which are those of I1 and I2.
#: - ``CFC1`` to ``CFC8``, ``CCP7``, ``CCP8``: Berlin BCI names, as in BCI Competition IV data set 1. The BBCI
#:   toolbox (bbci_public, ``mntutil_posExt1010.m``) puts them between the rows and half a step off the columns of
#:   the 10-10 grid (CFC1 between FC1, FCz, C1 and Cz; CFC7 between FT7, FC5, T7 and C5): the 10-05 sites below. Its
#:   CCP1 to CCP6 are half a step off as well, but those names belong to the 10-05 system, whose sites are used.
SAME_SITE: Mapping[str, str] = MappingProxyType(
    {
        "T1": "FT9",
        "T2": "FT10",
        "CB1": "PO9",
        "CB2": "PO10",
        "O9": "I1",
        "O10": "I2",
        **{f"CFC{number}": f"FCC{number}h" for number in range(1, 7)},
        "CFC7": "FTT7h",
        "CFC8": "FTT8h",
        "CCP7": "TTP7h",
        "CCP8": "TTP8h",
    }
)

# The Colin27 template was renamed in MNE 1.13; asking for the old name there warns.
_TEMPLATE_NAMES = ("colin27_1005", "standard_1005")


def _canonical(name: str) -> str:
    """Upper case, but for the ``h`` of a half step (``FTT9h``), as the LaBraM list writes them."""
    upper = name.upper()
    return upper[:-1] + "h" if upper.endswith("H") else upper


def montage_in_head_frame(name: str) -> dict[str, np.ndarray]:
    """Positions of one of MNE's built-in montages, as ``raw.set_montage`` would store them.

    Parameters
    ----------
    name : str
        One of ``mne.channels.get_builtin_montages()``.

    Returns
    -------
    positions : dict of str to ndarray, shape (3,)
        The montage's own channel names and their positions in metres, in MNE's head frame.
    """
    montage = mne.channels.make_standard_montage(name)
    to_head = mne.channels.compute_native_head_t(montage)
    return {name: apply_trans(to_head, position) for name, position in montage.get_positions()["ch_pos"].items()}


@lru_cache(maxsize=1)
def template_positions() -> Mapping[str, np.ndarray]:
    """Positions of all electrodes that are known by name.

    Returns
    -------
    positions : mapping of str to ndarray, shape (3,)
        Canonical name (upper case, half steps as ``FTT9h``) to position in metres, in MNE's head frame: the 343
        electrodes of the template and the 16 of :data:`SAME_SITE`. The arrays are read-only.

    Notes
    -----
    The template is the 10-05 system (Oostenveld & Praamstra 2001, Clin Neurophysiol 112:713-719) on the Colin27
    head: MNE's ``colin27_1005``, called ``standard_1005`` before MNE 1.13. It is brought to the head frame as
    ``raw.set_montage`` does, so a recording with that montage holds exactly these coordinates.
    """
    available = mne.channels.get_builtin_montages()
    montage = montage_in_head_frame(next(name for name in _TEMPLATE_NAMES if name in available))
    table = {_canonical(name): position for name, position in montage.items()}
    table.update({name: table[site].copy() for name, site in SAME_SITE.items()})
    for position in table.values():
        position.setflags(write=False)
    return MappingProxyType(table)


@lru_cache(maxsize=1)
def _by_upper_case() -> dict[str, str]:
    return {name.upper(): name for name in template_positions()}


def canonical_electrode(token: str) -> str | None:
    """Find an electrode by its whole name.

    Parameters
    ----------
    token : str
        Name in any case.

    Returns
    -------
    name : str | None
        Canonical name; None if there is no such electrode.
    """
    return _by_upper_case().get(token.upper())
