"""Sources of one source space as they appear in another: which estimated source stands for which simulated one."""

from __future__ import annotations

import numpy as np
import scipy

from mne_labram.signal.contract import ContractError
from mne_labram.source.head import SourceModel

__all__ = ["carried_over"]

# How many estimated sources near a simulated one may stand for it.
_CANDIDATES = 8


def carried_over(true: SourceModel, estimated: SourceModel) -> scipy.sparse.csr_array:
    """Say which estimated source stands for which simulated one.

    Parameters
    ----------
    true, estimated : SourceModel
        What is simulated with, and what is estimated.

    Returns
    -------
    mapping : scipy.sparse.csr_array, shape (n_estimated, n_true)
        Takes moments of simulated sources to those of estimated ones. Every simulated source has one that stands for
        it, the nearest of those that point to the same side (of the eight nearest; the other bank of a sulcus does
        not), times the cosine between both normals.

    Raises
    ------
    ContractError
        If there are fewer than eight sources.
    """
    if estimated.n_sources < _CANDIDATES:
        raise ContractError(
            f"A source space needs {_CANDIDATES} sources to stand for others, got {estimated.n_sources}."
        )
    near = scipy.spatial.cKDTree(estimated.positions).query(true.positions, k=_CANDIDATES)[1]
    cosines = np.einsum("nkd,nd->nk", estimated.normals[near], true.normals)
    # The first that points to the same side, and the nearest where none does.
    first = np.argmax(cosines > 0.0, axis=1)
    number = np.arange(true.n_sources)
    entries = (cosines[number, first], (near[number, first], number))
    return scipy.sparse.csr_array(entries, shape=(estimated.n_sources, true.n_sources))
