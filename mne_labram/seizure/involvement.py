"""Which channels a seizure was found by: leave one out, and see what that does to the detector's answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mne.utils import logger
from torch import nn

from mne_labram.decoding.inference import ModelRunner
from mne_labram.decoding.progress import progress_bar
from mne_labram.decoding.second_scores import class_probabilities
from mne_labram.signal.blocks import ConformPlan

__all__ = ["Involvement", "channel_involvement"]

# Channels whose absence costs at least this share of what the absence of the first one costs are listed.
_SHARE = 0.5
# Unless even the first one changes the logit by less: 0.1 is a tenth of the odds, which any channel's absence may do.
_SMALLEST_DROP = 0.1
# Keeps logits finite where a probability is 0 or 1 in float32.
_CLIP = 1e-6


@dataclass(frozen=True)
class Involvement:
    """What the absence of each channel does to the detector's answer during one event.

    Parameters
    ----------
    start, stop : float
        Of the event, in seconds after the recording's first sample.
    ch_names : tuple of str
        Channels as the recording labels them.
    drop : tuple of float
        By how much the logit of a seizure falls without each channel; negative where it rises.
    """

    start: float
    stop: float
    ch_names: tuple[str, ...]
    drop: tuple[float, ...]

    @property
    def relative(self) -> np.ndarray:
        """Drops in units of the largest, 0 where the logit rises; shape (n_chans,)."""
        drop = np.maximum(self.drop, 0.0)
        return drop / max(drop.max(initial=0.0), _SMALLEST_DROP)

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels with at least half of the largest drop, largest first; none where no drop reaches 0.1."""
        drop = np.asarray(self.drop)
        if drop.max(initial=0.0) < _SMALLEST_DROP:
            return ()
        order = np.argsort(-drop, kind="stable")
        return tuple(self.ch_names[i] for i in order if drop[i] >= _SHARE * drop.max())


def channel_involvement(
    plan: ConformPlan,
    module: nn.Module,
    events: Sequence[tuple[float, float, float]],
    *,
    length: int,
    background: int = 0,
    n_windows: int = 3,
    max_events: int = 40,
    batch_size: int = 32,
    device: str | None = None,
) -> list[Involvement]:
    """Measure by occlusion which channels events were found by.

    Parameters
    ----------
    plan : ConformPlan
        The recording, judged to its end. It is read again where the events are.
    module : torch.nn.Module
        The detector; it is bound to all channels but one, for each of them.
    events : sequence of tuple (start, stop, confidence)
        In whole seconds after the first sample.
    length : int
        Samples in a window.
    background : int
        Class that is no seizure.
    n_windows : int
        Windows for each event, spread evenly over it.
    max_events : int
        Events looked at, by falling confidence.
    batch_size : int
        Windows per forward pass.
    device : str | None
        ``None``: where the model is.

    Returns
    -------
    involvement : list of Involvement
        In order of time. An event without a usable window has none, and neither has any event where the recording has
        but one channel.

    Notes
    -----
    Occlusion (Zeiler and Fergus, 2014, Visualizing and Understanding Convolutional Networks, ECCV) by removal: the
    model reads any number of channels, so that nothing stands in for the one that is missing. The cost is bounded by
    ``n_windows * max_events`` windows for each channel. It says what this detector's answer rests on, which is not
    where a seizure begins.
    """
    ch_names, positions = plan.report.ch_names, plan.report.model_positions
    if len(ch_names) < 2 or not events:
        return []
    if len(events) > max_events:
        logger.info(f"Channel involvement is measured for the {max_events} most confident of {len(events)} events.")
    chosen = sorted(sorted(events, key=lambda event: -event[2])[:max_events])
    looked_at = [(event, starts) for event in chosen if (starts := _windows_of(event, plan, length, n_windows))]
    if not looked_at:
        return []
    windows = np.stack([window for _, starts in looked_at for window in _read(plan, starts, length)])
    owner = np.repeat(np.arange(len(looked_at)), [len(starts) for _, starts in looked_at])

    def logits(keep: list[int]) -> np.ndarray:
        names = [ch_names[i] for i in keep]
        runner = ModelRunner(
            module, names, None if positions is None else positions[keep], "float32", batch_size, device
        )
        with runner.running():
            out = runner(windows[:, keep], class_probabilities)
        seizure = 1.0 - out[..., background].reshape(len(out), -1).astype(float)
        seizure = np.clip(seizure.mean(axis=1), _CLIP, 1 - _CLIP)
        logit = np.log(seizure / (1 - seizure))
        return np.bincount(owner, weights=logit) / np.bincount(owner)

    everything = list(range(len(ch_names)))
    whole = logits(everything)
    drops = np.empty((len(looked_at), len(ch_names)))
    with progress_bar(len(ch_names), "Leaving channels out", unit="channel") as progress:
        for channel in everything:
            drops[:, channel] = whole - logits([i for i in everything if i != channel])
            progress.update()
    labels = tuple(row.label for row in plan.report.channel_map.rows)
    return [
        Involvement(float(start), float(stop), labels, tuple(float(each) for each in row))
        for ((start, stop, _), _), row in zip(looked_at, drops, strict=True)
    ]


def _windows_of(event: tuple[float, float, float], plan: ConformPlan, length: int, n_windows: int) -> list[int]:
    """Return the first samples of usable windows within an event, or around it where it is shorter than a window."""
    sfreq = plan.sfreq
    start, stop = event[0] * sfreq, min(event[1] * sfreq, plan.n_times)
    middle, room = (start + stop) / 2, max(0.0, stop - start - length)
    n = 1 + min(n_windows - 1, int(room // length))
    centres = middle + room * (np.arange(n) / (n - 1) - 0.5 if n > 1 else np.zeros(1))
    starts = np.clip(np.round((centres - length / 2) / sfreq) * sfreq, 0, plan.n_times - length).astype(int)
    unusable = plan.report.unusable
    return [
        int(first)
        for first in np.unique(starts)
        if not unusable[int(first // sfreq) : int(np.ceil((first + length) / sfreq))].any()
    ]


def _read(plan: ConformPlan, starts: list[int], length: int) -> list[np.ndarray]:
    """Read windows of one event; those that lie close together at once."""
    windows = []
    stretch, first = None, 0
    for start in starts:
        if stretch is None or start + length > first + stretch.shape[1]:
            near = [each for each in starts if start <= each <= start + 60 * plan.sfreq]
            first, stretch = start, plan.read(start, near[-1] + length)
        windows.append(stretch[:, start - first : start - first + length])
    return windows
