"""Sets of hidden channels solved at once are those solved one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mne_labram.nn.conditional import conditional_weights, visible_reference
from mne_labram.restoration import solving


@pytest.mark.parametrize("referential", [np.ones(12, bool), np.arange(12) < 5])
def test_at_once_and_one_by_one(referential):
    rng = np.random.default_rng(0)
    root = torch.from_numpy(rng.standard_normal((3, 12, 12)))
    covariances = root @ root.transpose(-1, -2)
    patterns = [rng.random(12) < 0.4 for _ in range(solving._AT_ONCE + 5)]
    patterns.append(patterns[0])
    solved = solving.solve_patterns(covariances, patterns, referential)
    assert len(solved) == len({off.tobytes() for off in patterns})
    common = torch.from_numpy(referential).double()
    for off in patterns[::10]:
        seen = torch.from_numpy(~off).double()
        weights, unknown = conditional_weights(covariances, seen.expand(3, -1), referential=common)
        reference = visible_reference(seen, common)
        power = ((reference @ covariances @ reference.T).diagonal(dim1=1, dim2=2) * seen).sum(dim=1)
        found = solved[off.tobytes()]
        np.testing.assert_allclose(found[0], weights.numpy(), atol=1e-10)
        np.testing.assert_allclose(found[1], (unknown / power[:, None, None]).numpy(), atol=1e-10)
    np.testing.assert_allclose(solving.unit_trace(covariances).diagonal(dim1=1, dim2=2).sum(1).numpy(), 1.0)
