"""What sources in the head look like in the channels of a montage."""

from __future__ import annotations

import mne
import numpy as np
from numpy.testing import assert_array_equal

from mne_labram.signal.head_field import HEAD_RADIUS, dipole_potentials, direction_of, montage_of
from mne_labram.signal.vocabulary import DOUBLE_BANANA

ELECTRODES = "FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T7 T8 P7 P8 FZ CZ PZ".split()
SFREQ = 200.0


def test_derivations_are_exact() -> None:
    montage = montage_of(DOUBLE_BANANA)
    assert montage.electrodes.shape == (19, 3)
    assert montage.bipolar.all()
    assert_array_equal(np.abs(montage.derivation).sum(axis=1), np.full(18, 2.0))
    assert_array_equal(montage.derivation.sum(axis=1), np.zeros(18))
    assert np.linalg.matrix_rank(montage.derivation) == 16
    assert not montage_of(["FP1", "A1"]).bipolar.any()


def test_the_field_is_that_of_a_head_with_four_shells() -> None:
    """Compared with MNE's spherical head model."""
    directions = np.array([direction_of(name) for name in ELECTRODES])
    info = mne.create_info(ELECTRODES, SFREQ, "eeg")
    points = dict(zip(ELECTRODES, HEAD_RADIUS * directions, strict=True))
    info.set_montage(mne.channels.make_dig_montage(points, coord_frame="head"))
    sphere = mne.make_sphere_model((0.0, 0.0, 0.0), HEAD_RADIUS, verbose="error")
    for name in ("T7", "C3", "O2"):
        source = direction_of(name)
        for moment in (source, np.cross(source, [0.0, 0.6, 0.8]) / np.linalg.norm(np.cross(source, [0.0, 0.6, 0.8]))):
            for depth in (0.5, 0.8):
                dipole = mne.Dipole([0.0], HEAD_RADIUS * depth * source[None], [1e-8], moment[None], [100.0])
                forward, _ = mne.make_forward_dipole(dipole, sphere, info, verbose="error")
                theirs = forward["sol"]["data"]
                theirs = theirs @ moment if theirs.shape[1] == 3 else theirs[:, 0]
                ours = dipole_potentials(directions, source[None], moment[None], depth)[:, 0]
                assert np.corrcoef(ours, theirs)[0, 1] > 0.96
