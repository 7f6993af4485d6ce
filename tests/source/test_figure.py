"""Sources on paper."""

from __future__ import annotations

import matplotlib.pyplot as plt
import mne
import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from mne_labram.signal.contract import ContractError
from mne_labram.source.figure import _head_circle, plot_sources
from mne_labram.source.inverse import BrainForgeInverse, fresh_network


def test_a_source_is_coloured_where_it_is(template_forward, template_model):
    moments = np.zeros((template_model.n_sources, 3), np.float32)
    # The leftmost source, which no view but the lateral one of the left hemisphere shows.
    moments[int(template_model.positions[:, 0].argmin()), 1] = -20.0
    inverse = BrainForgeInverse(template_forward, model=fresh_network(embed_dim=8, num_layers=1))
    stc = inverse.layout.estimate(moments, 0.0, 0.01)
    # The same electrodes by other names.
    names = [f"EEG {name.upper()}-REF" for name in template_model.ch_names]
    evoked = mne.EvokedArray(template_model.averaged @ moments * 1e-6, mne.create_info(names, 100.0, "eeg"))
    figure = plot_sources(stc, template_forward, evoked=evoked, show=False)
    assert figure.get_suptitle() == "Sources at 0.010 s"
    coloured = {}
    for ax in figure.axes:
        for drawn in ax.collections:
            if isinstance(drawn, PolyCollection) and ax.get_title().startswith(("left", "right")):
                assert drawn.get_rasterized()
                colours = drawn.get_facecolors()
                coloured[ax.get_title()] = int((np.ptp(colours[:, :3], axis=1) > 0.2).sum())
    # Some of what turns to the middle is coloured too, and drawn first: behind what lies in front of it.
    assert coloured["left, lateral"] > 2 * coloured["left, medial"]
    assert coloured["right, lateral"] == coloured["right, medial"] == 0
    assert {"recorded", "sources make"} <= {ax.get_title() for ax in figure.axes}
    plt.close(figure)
    with pytest.raises(ValueError, match="between 0 and 0.02 s"):
        plot_sources(stc, template_forward, 0.5, show=False)
    other = mne.SourceEstimate(stc.data[:2], [stc.vertices[0][:1], stc.vertices[1][:1]], 0.0, 0.01)
    with pytest.raises(ContractError, match="other vertices than the forward"):
        plot_sources(other, template_forward, show=False)


def test_a_head_is_drawn_where_it_is(template_model):
    electrodes = template_model.electrodes
    centre, radius = _head_circle(electrodes)
    assert 0.09 < radius < 0.1
    # MNE draws angles from the top, a right one on the rim; the lowest electrodes of the 10-20 system have four fifths.
    from_top = np.arccos((electrodes - centre)[:, 2] / np.linalg.norm(electrodes - centre, axis=1))
    assert 69 < np.rad2deg(from_top).max() < 79
    # No head is twice as large, whatever sphere electrodes in a row may lie on.
    assert _head_circle(2 * electrodes)[1] == 0.095
