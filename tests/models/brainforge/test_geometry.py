"""Heads as the network has them."""

from __future__ import annotations

import numpy as np
import torch

from mne_labram.models.brainforge import BrainForge
from mne_labram.models.brainforge.geometry import SourceGeometry, scalp_image_weights
from mne_labram.models.brainforge.spherical_head import spherical_head
from mne_labram.signal.positions import electrode_positions

NAMES = ["Fp1", "Fp2", "Fz", "C3", "Cz", "C4", "T7", "T8", "Pz", "O1", "O2"]


def _electrodes() -> np.ndarray:
    return electrode_positions(NAMES)[:, :3]


def test_an_image_of_what_is_the_same_everywhere_is_flat() -> None:
    weights = scalp_image_weights(_electrodes(), 16)
    visible = np.ones(len(NAMES))
    visible[3] = 0
    image = weights @ (5.0 * visible) / (weights @ visible)
    np.testing.assert_allclose(image, 5.0)


def test_the_front_is_at_one_end_of_the_image() -> None:
    weights = scalp_image_weights(_electrodes(), 16)
    peaks = {name: np.array(divmod(int(weights[:, i].argmax()), 16)) for i, name in enumerate(NAMES)}
    # Rows go from the back to the front, columns from left to right.
    assert peaks["Fp1"][0] > peaks["Cz"][0] > peaks["O1"][0]
    assert peaks["T7"][1] < peaks["C3"][1] < peaks["Cz"][1] < peaks["C4"][1] < peaks["T8"][1]


def test_means_over_neighbours() -> None:
    geometry = SourceGeometry(*spherical_head(_electrodes(), 60))
    h = torch.randn(2, 60, 5, generator=torch.Generator().manual_seed(0))
    neighbours = spherical_head(_electrodes(), 60)[3].toarray()
    expected = torch.stack([h[:, np.flatnonzero(row)].mean(dim=1) for row in neighbours], dim=1)
    near = geometry.averaged(h, "near")
    torch.testing.assert_close(near, expected)
    twice = geometry.averaged(near, "near")
    torch.testing.assert_close(geometry.averaged(h, "far"), geometry.averaged(twice, "near"), atol=1e-5, rtol=1e-4)


def test_sources_without_neighbours() -> None:
    leadfield, positions, normals, neighbours, electrodes = spherical_head(_electrodes(), 20)
    alone = neighbours.tolil()
    alone[3] = 0
    alone[:, 3] = 0
    geometry = SourceGeometry(leadfield, positions, normals, alone.tocsr(), electrodes)
    h = torch.ones(1, 20, 2)
    assert float(geometry.averaged(h, "near")[0, 3].abs().max()) == 0
    torch.testing.assert_close(geometry.averaged(h, "near")[0, 5], torch.ones(2))


def test_some_of_the_electrodes() -> None:
    head = spherical_head(_electrodes(), 30)
    whole, some = SourceGeometry(*head), [4, 0, 9]
    picked = whole.picked(some)
    assert torch.equal(picked.leadfield, whole.leadfield[some])
    assert torch.equal(picked.image_weights, whole.image_weights[:, some])
    assert whole.leadfield.shape == (len(NAMES), 30)
    assert picked.places().shape == (30, 7)


def test_the_spherical_head_is_a_head() -> None:
    """A radial source is seen best by the electrode above it, and 10 nAm are about a microvolt."""
    electrodes = _electrodes()
    leadfield, positions, normals, _, _ = spherical_head(electrodes, 200)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0)
    centre = positions - 0.85 * 0.09 * normals
    np.testing.assert_allclose(centre, np.tile(centre[0], (200, 1)), atol=1e-12)
    top = int(normals[:, 2].argmax())
    assert NAMES[int(leadfield[:, top].argmax())] == "Cz"
    assert 0.3 < 10 * np.median(leadfield.max(axis=0)) < 5.0


def test_a_head_is_no_part_of_a_checkpoint() -> None:
    model = BrainForge(ch_names=NAMES, n_sources=20, embed_dim=8, time_dim=8, num_heads=2)
    assert not any("geometry" in name for name in model.state_dict())
