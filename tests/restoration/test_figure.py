"""The figure of a restoration."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import mne
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mne_labram.restoration.figure import plot_restoration
from mne_labram.restoration.restore import gram_restore
from mne_labram.signal.contract import ContractError

NAMES = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2"]


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def raw(make_raw) -> mne.io.BaseRaw:
    return make_raw(seconds=30.0, sfreq=100.0)


def test_before_after_and_the_band(raw: mne.io.BaseRaw) -> None:
    after, report = gram_restore(raw, segments=[(5, 2, ["F3"]), (6, 3, ["O1"])], method="ridge", return_report=True)
    figure = plot_restoration(raw, after, report, title="both", show=False)
    top, bottom = figure.axes
    assert [ax.get_ylabel() for ax in figure.axes] == ["F3 (µV)", "O1 (µV)"]
    assert_allclose(top.get_xlim(), (4.0, 7.99))
    lines = {line.get_label(): line for line in top.lines}
    assert set(lines) == {"before", "as it was", "restored"}
    restored = lines["restored"].get_ydata()
    assert_allclose(restored[100:300], 1e6 * after.get_data("F3", 500, 700)[0])
    assert np.isnan(np.delete(restored, np.arange(100, 300))).all()
    assert_allclose(lines["before"].get_ydata()[100:300], 1e6 * raw.get_data("F3", 500, 700)[0])
    assert len(top.collections) == len(bottom.collections) == 1
    assert len(top.patches) == 1


def test_without_a_report_annotations_say_where(raw: mne.io.BaseRaw) -> None:
    after = gram_restore(raw, "C4", [(12.0, 1.0)], method="spline")
    (ax,) = plot_restoration(raw, after, show=False).axes
    assert ax.get_ylabel() == "C4 (µV)"
    assert_allclose(ax.get_xlim(), (11.0, 13.99))
    assert not ax.collections
    axes = plot_restoration(raw, after, picks=["C3", "C4"], start=0.0, duration=30.0, show=False).axes
    assert len(axes) == 2
    assert_allclose(axes[0].get_xlim(), (0.0, 29.99))
    assert np.isnan({line.get_label(): line for line in axes[0].lines}["restored"].get_ydata()).all()


def test_epochs(raw: mne.io.BaseRaw) -> None:
    epochs = mne.make_fixed_length_epochs(raw, 4.0, preload=True, verbose="error").shift_time(-1.0)
    after, report = gram_restore(epochs, segments=[(3, 0.0, 1.0, ["Fp2"])], method="ridge", return_report=True)
    for each in (report, None):
        (ax,) = plot_restoration(epochs, after, each, show=False).axes
        line = next(line for line in ax.lines if line.get_label() == "restored")
        assert "epoch 3" in ax.get_xlabel()
        shown = line.get_xdata()[np.isfinite(line.get_ydata())]
        assert_allclose(shown[[0, -1]], [0.0, 0.99], atol=1e-9)
        assert_array_equal(len(ax.collections), int(each is not None))


def test_bad_input_is_one_sentence(raw: mne.io.BaseRaw) -> None:
    after = gram_restore(raw, "C4", [(12.0, 1.0)], method="spline")
    with pytest.raises(ContractError, match="Nothing was restored"):
        plot_restoration(raw, raw, show=False)
    with pytest.raises(ContractError, match="differ in channels"):
        plot_restoration(raw.copy().pick(["C4"]), after, show=False)
    with pytest.raises(TypeError, match="both"):
        plot_restoration(mne.make_fixed_length_epochs(raw, 4.0, verbose="error"), after, show=False)
    with pytest.raises(ContractError, match="no channel 'X'"):
        plot_restoration(raw, after, picks="X", show=False)
    with pytest.raises(ContractError, match="lies outside"):
        plot_restoration(raw, after, start=29.0, duration=5.0, show=False)


def test_channels_restored_elsewhere_are_named_and_not_drawn(raw: mne.io.BaseRaw) -> None:
    after = gram_restore(raw, segments=[(5, 2, ["F3"]), (20, 3, ["O1"])], method="spline")
    figure = plot_restoration(raw, after, title="pops", show=False)
    assert [ax.get_ylabel() for ax in figure.axes] == ["F3 (µV)"]
    assert figure.get_suptitle() == "pops\nAlso restored, not shown: O1 at other times."
    late = plot_restoration(raw, after, start=19.0, duration=5.0, show=False)
    assert [ax.get_ylabel() for ax in late.axes] == ["O1 (µV)"]
    assert late.get_suptitle() == "Also restored, not shown: F3 at other times."
    both = plot_restoration(raw, after, picks=["F3", "O1"], show=False)
    assert [ax.get_ylabel() for ax in both.axes] == ["F3 (µV)", "O1 (µV)"]
    assert both.get_suptitle() == ""
    with pytest.raises(ContractError, match="Nothing was restored in this stretch"):
        plot_restoration(raw, after, start=10.0, duration=5.0, show=False)
