"""Every simulated source has an estimated one that stands for it."""

from __future__ import annotations

import numpy as np
import pytest

from mne_labram.signal.contract import ContractError
from mne_labram.source.carried import carried_over


def test_sources_have_one_that_stands_for_them(sphere_head) -> None:
    simulated, estimated = sphere_head(1284), sphere_head(324)
    same = carried_over(estimated, estimated)
    np.testing.assert_allclose(same.toarray(), np.eye(324), atol=1e-6)
    mapping = carried_over(simulated, estimated)
    assert mapping.shape == (324, 1284)
    np.testing.assert_array_equal(np.diff(mapping.tocsc().indptr), 1)
    assert mapping.data.max() < 1 + 1e-6
    assert (mapping.data > 0).mean() > 0.95
    there, here = mapping.nonzero()
    apart = np.linalg.norm(estimated.positions[there] - simulated.positions[here], axis=1)
    assert np.median(apart) < 0.012
    with pytest.raises(ContractError, match="needs 8 sources"):
        carried_over(simulated, _Few())


class _Few:
    n_sources = 5
