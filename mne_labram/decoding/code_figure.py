"""Codes over time, channel by channel, and how often each is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mne.viz.utils import plt_show
from numpy.typing import ArrayLike

__all__ = ["plot_codes"]

# Codes that are rarer than the hundred most frequent ones look alike.
_COLOURS = 100


def plot_codes(
    codes: ArrayLike,
    *,
    n_codes: int,
    seconds: float | None = None,
    ch_names: Sequence[str] | None = None,
    stages: int = 2,
    title: str | None = None,
    show: bool = True,
) -> Any:
    """Plot codes over time, the first stages of a residual quantiser one below the other.

    Parameters
    ----------
    codes : array-like of int, shape (n_windows, n_chans, n_frames, n_stages) or (n_chans, n_frames, n_stages)
        From :func:`mne_labram.labram_tokenize`, or from :class:`mne_labram.EEGTokenizer` brought back to this shape.
        Windows follow one another; where one could not be analysed its codes are -1 and it stays white.
    n_codes : int
        Size of a codebook.
    seconds : float | None
        Length of all that is shown; ``None``: time is counted in frames.
    ch_names : sequence of str | None
        Channels; ``None``: they are numbered.
    stages : int
        How many stages to show, the first ones; all if there are fewer.
    title : str | None
        Title of the figure.
    show : bool
        Show the figure.

    Returns
    -------
    figure : matplotlib.figure.Figure
        The figure.

    Raises
    ------
    TypeError
        If the codes are no integers.
    ValueError
        If shapes do not fit, or a code is not in its codebook.

    Notes
    -----
    The number of a code means nothing, so its colour is its rank: the more frequent among what is shown, the darker.
    Beside each stage is the share of each code, from the most frequent on, and the perplexity, which is how many codes
    there would be if all that are used were used alike.
    """
    import matplotlib.pyplot as plt

    codes = _side_by_side(codes, n_codes)
    n_chans, n_frames, n_stages = codes.shape
    if stages < 1:
        raise ValueError(f"stages must be 1 or more, got {stages}.")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds}.")
    names = [str(row + 1) for row in range(n_chans)] if ch_names is None else list(ch_names)
    if len(names) != n_chans:
        raise ValueError(f"There are {len(names)} names for {n_chans} channels; give one for each.")
    n_shown = min(stages, n_stages)
    extent = (0.0, float(n_frames if seconds is None else seconds), n_chans - 0.5, -0.5)
    figure = plt.figure(figsize=(11, 1.0 + n_shown * min(0.8 + 0.14 * n_chans, 4.0)), layout="constrained")
    axes = figure.subplots(n_shown, 2, width_ratios=(4, 1), sharex="col", squeeze=False)
    for stage, (picture, usage) in enumerate(axes):
        own = codes[:, :, stage]
        counts = np.bincount(own[own >= 0], minlength=n_codes)
        order = np.argsort(-counts, kind="stable")
        rank = np.empty(n_codes, dtype=int)
        rank[order] = np.arange(n_codes)
        colours = np.ma.masked_array(rank[np.maximum(own, 0)], own < 0)
        picture.imshow(colours, aspect="auto", interpolation="nearest", extent=extent, vmin=0, vmax=_COLOURS)
        picture.set_ylabel(f"stage {stage + 1}")
        picture.set_yticks(range(n_chans), names, fontsize=7 if n_chans > 8 else 9)
        shares = counts[order] / max(counts.sum(), 1)
        usage.fill_between(np.arange(n_codes), 100 * shares, step="mid", color="C0", alpha=0.7)
        used = shares[shares > 0]
        perplexity = float(np.exp(-(used * np.log(used)).sum())) if len(used) else 0.0
        usage.set_title(f"{len(used)} of {n_codes} used,\nperplexity {perplexity:.0f}", fontsize=9)
        usage.set(xlim=(0, n_codes), ylim=(0, None), ylabel="share (%)")
        usage.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("time (frames)" if seconds is None else "time (s)")
    axes[-1, 1].set_xlabel("code, by frequency")
    if title is not None:
        figure.suptitle(title)
    plt_show(show)
    return figure


def _side_by_side(codes: ArrayLike, n_codes: int) -> np.ndarray:
    """Check codes and join windows, shape (n_chans, n_frames, n_stages)."""
    codes = np.asarray(codes)
    if not np.issubdtype(codes.dtype, np.integer):
        raise TypeError(f"Codes are integers, these are {codes.dtype}.")
    if codes.ndim == 4:
        codes = codes.transpose(1, 0, 2, 3).reshape(codes.shape[1], -1, codes.shape[3])
    if codes.ndim != 3 or not codes.size:
        raise ValueError(
            "codes must have the shape (n_windows, n_chans, n_frames, n_stages) or (n_chans, n_frames, n_stages), got "
            f"{codes.shape}."
        )
    if codes.min() < -1 or codes.max() >= n_codes:
        raise ValueError(
            f"Codes must lie between 0 and {n_codes - 1}, or be -1, and these go from {codes.min()} to {codes.max()}; "
            "give n_codes of the model."
        )
    return codes
