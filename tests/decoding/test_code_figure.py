"""The figure of codes over time."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mne_labram.decoding.code_figure import plot_codes


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def test_colours_are_ranks_and_windows_follow_one_another() -> None:
    codes = np.zeros((2, 3, 4, 2), dtype=np.int64)
    codes[..., 0] = 7
    codes[1, 2, :, 0] = 5  # the last channel, in the second window
    codes[0, 0, 0, 0] = -1
    figure = plot_codes(codes, n_codes=16, seconds=8.0, ch_names=["A", "B", "C"], title="codes", show=False)
    first, usage = figure.axes[0], figure.axes[1]
    assert len(figure.axes) == 4
    (image,) = first.images
    shown = image.get_array()
    assert shown.shape == (3, 8)
    assert_array_equal(shown[2], [0] * 4 + [1] * 4)
    assert shown.mask[0, 0]
    assert shown.mask.sum() == 1
    assert image.get_extent()[1] == 8.0
    assert [label.get_text() for label in first.get_yticklabels()] == ["A", "B", "C"]
    # 19 of 23 codes are one, 4 the other: exp of the entropy is 1.6.
    assert usage.get_title() == "2 of 16 used,\nperplexity 2"
    assert figure.axes[3].get_title() == "1 of 16 used,\nperplexity 1"
    assert figure.axes[2].get_xlabel() == "time (s)"


def test_one_recording_and_fewer_stages() -> None:
    codes = np.random.default_rng(0).integers(256, size=(19, 300, 4), dtype=np.int16)
    figure = plot_codes(codes, n_codes=256, stages=1, show=False)
    assert len(figure.axes) == 2
    assert figure.axes[0].get_xlabel() == "time (frames)"
    assert figure.axes[0].get_yticklabels()[18].get_text() == "19"
    used, perplexity = figure.axes[1].get_title().split(" of 256 used,\nperplexity ")
    assert int(used) == 256
    assert 240 < int(perplexity) <= 256


def test_nothing_analysed() -> None:
    figure = plot_codes(np.full((2, 5, 1), -1), n_codes=8, show=False)
    assert figure.axes[1].get_title() == "0 of 8 used,\nperplexity 0"


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"codes": np.zeros((3, 4, 2))}, TypeError, "Codes are integers"),
        ({"codes": np.zeros((3, 4), dtype=int)}, ValueError, "must have the shape"),
        ({"n_codes": 5}, ValueError, "give n_codes of the model"),
        ({"ch_names": ["A"]}, ValueError, "1 names for 3 channels"),
        ({"stages": 0}, ValueError, "stages"),
        ({"seconds": 0.0}, ValueError, "seconds"),
    ],
)
def test_wrong_arguments(change: dict, error: type[Exception], match: str) -> None:
    arguments = {"codes": np.full((3, 4, 2), 5), "n_codes": 8, **change}
    with pytest.raises(error, match=match):
        plot_codes(arguments.pop("codes"), **arguments, show=False)
