"""Variations of a training batch: other amplitudes, references, derivations and fewer channels; artefacts beside it.

A few hours of EEG come from a handful of amplifiers and caps. What changes between those and a user's recording without
changing what it shows (gain, reference, montage) is varied here, so that a model does not learn it by heart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mne_labram.signal.artefacts import simulate_artefact
from mne_labram.signal.positions import electrode_positions
from mne_labram.signal.vocabulary import DOUBLE_BANANA

__all__ = ["Augmentation"]

# A pair that is made up joins neighbours, as clinical derivations do: electrodes of the 10-20 system are 5 to 7 cm
# apart.
_LONGEST_PAIR = 0.075
# What eyes, muscles and electrodes do to a recording (issue 6, denoising), and how large: root mean square over that of
# the EEG, in the channel where it is largest, drawn evenly in decibels.
_ARTEFACTS = ("blinks", "eye_movement", "muscle", "chewing", "electrode_pop", "movement")
_SMALLEST_ARTEFACT, _LARGEST_ARTEFACT = 1.0, 20.0


@dataclass(frozen=True)
class Augmentation:
    """Vary a batch at random; everything follows from the generator that is passed in.

    Parameters
    ----------
    gain_sd : float
        Standard deviation of the natural logarithm of one gain per window.
    channel_gain_sd : float
        The same, of one gain per channel and window.
    flip : float
        Probability that the polarity of a window is inverted.
    rereference : float
        Probability that a referential batch is referred to the average of its channels or to one of them.
    bipolar : float
        Probability that a referential batch becomes a bipolar one: the double banana where its electrodes are there,
        or else pairs of neighbours.
    subset : float
        Probability that only some channels are kept.
    min_chans : int
        Fewest channels that are kept.
    max_tokens : int | None
        Channels times patches of a window that are kept at most; ``None`` keeps all. Jiang et al. (2024), appendix D,
        train with 256.
    artefact : float
        Probability that a window has a simulated artefact beside it, for models that learn to see through them: the
        batch gets ``"artefact"``, in the shape and unit of ``"x"``, zero in all other windows. ``"x"`` stays clean.

    Raises
    ------
    ValueError
        If a probability is outside 0 to 1, a spread is negative, or a number of channels is below 1.

    Notes
    -----
    Ours. A batch keeps one montage, because a model binds its channels once per batch; gains and polarity differ
    between its windows. A window's start is shifted where windows are cut
    (:class:`mne_labram.training.batches.WindowBatches`).
    """

    gain_sd: float = 0.2
    channel_gain_sd: float = 0.1
    flip: float = 0.5
    rereference: float = 0.3
    bipolar: float = 0.25
    subset: float = 0.5
    min_chans: int = 4
    max_tokens: int | None = 256
    artefact: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, whole = getattr(self, field.name), field.name in ("min_chans", "max_tokens")
            absent = value is None and field.name == "max_tokens"
            if not absent and (isinstance(value, bool) or not isinstance(value, int if whole else (int, float))):
                raise ValueError(f"{field.name} must be a {'whole ' * whole}number, got {value!r}.")
        for name in ("flip", "rereference", "bipolar", "subset", "artefact"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a probability, between 0 and 1; got {getattr(self, name)}.")
        for name in ("gain_sd", "channel_gain_sd"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        for name in ("min_chans", "max_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> Augmentation:
        """Build from the table of a recipe.

        Parameters
        ----------
        options : mapping
            Arguments by name.

        Returns
        -------
        augmentation : Augmentation
            The same.

        Raises
        ------
        ValueError
            If a name is unknown or a value makes no sense.
        """
        unknown = sorted(set(options) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"Unknown option of the augmentation: {', '.join(unknown)}.")
        return cls(**options)

    def __call__(
        self,
        batch: Mapping[str, Any],
        generator: np.random.Generator,
        *,
        patch_samples: int = 200,
        sfreq: float = 200.0,
    ) -> dict[str, Any]:
        """Vary one batch.

        Parameters
        ----------
        batch : mapping
            ``"x"``, shape (batch, n_chans, n_times) in microvolts; ``"ch_names"``; and, if the names do not tell where
            the electrodes are, ``"positions"``, shape (n_chans, 6) in metres.
        generator : numpy.random.Generator
            Source of all randomness.
        patch_samples : int
            Samples in a patch, for ``max_tokens``.
        sfreq : float
            Sampling rate in Hz, for artefacts; the models that see them take 200 Hz.

        Returns
        -------
        batch : dict
            A new one; tensors that changed are new too.
        """
        x, names = batch["x"], list(batch["ch_names"])
        positions = batch.get("positions")
        places = electrode_positions(names) if positions is None else np.asarray(positions, dtype=float)
        referential = bool((places[:, :3] == places[:, 3:]).all())
        # Always the same draws, whatever the batch is, so that one option can be changed without changing the others.
        do_pairs, do_reference, do_subset = generator.random(3) < (self.bipolar, self.rereference, self.subset)
        if referential and len(names) > 2 and do_pairs:
            x, names, places = _as_pairs(x, names, places, generator)
        elif referential and len(names) > 2 and do_reference:
            x, names, places = _rereferenced(x, names, places, generator)
        kept = self._kept(len(names), x.shape[2] // patch_samples, do_subset, generator)
        x, names, places = x[:, torch.from_numpy(kept)], [names[i] for i in kept], places[kept]
        gains = np.exp(
            self.gain_sd * generator.standard_normal((len(x), 1, 1))
            + self.channel_gain_sd * generator.standard_normal((len(x), len(names), 1))
        )
        gains *= np.where(generator.random((len(x), 1, 1)) < self.flip, -1.0, 1.0)
        varied = {
            **batch,
            "x": x * torch.from_numpy(gains).to(x),
            "ch_names": names,
            "positions": None if positions is None else places,
        }
        # Last, so that all other draws are those of a training without.
        if self.artefact:
            varied["artefact"] = self._artefacts(varied["x"], places, generator, sfreq)
        return varied

    def _artefacts(self, x: Tensor, places: np.ndarray, generator: np.random.Generator, sfreq: float) -> Tensor:
        """Simulate artefacts for some windows, as large as the EEG in them makes them."""
        out = torch.zeros_like(x)
        for window, beside in zip(x, out, strict=True):
            if generator.random() >= self.artefact:
                continue
            kind = _ARTEFACTS[int(generator.integers(len(_ARTEFACTS)))]
            size = np.exp(generator.uniform(np.log(_SMALLEST_ARTEFACT), np.log(_LARGEST_ARTEFACT)))
            artefact = torch.from_numpy(simulate_artefact(places, x.shape[2], sfreq, generator, kind=kind)).to(x)
            largest = int(artefact.square().mean(dim=1).argmax())
            beside += float(size) * window[largest].std(correction=0) * artefact
        return out

    def _kept(self, n_chans: int, n_patches: int, subset: bool, generator: np.random.Generator) -> np.ndarray:
        """Choose channels, in their order."""
        most = n_chans if self.max_tokens is None else min(n_chans, max(1, self.max_tokens // max(1, n_patches)))
        fewest = min(self.min_chans, most)
        n = int(generator.integers(fewest, most + 1)) if subset else most
        return np.sort(generator.permutation(n_chans)[:n])


def _as_pairs(
    x: Tensor, names: list[str], places: np.ndarray, generator: np.random.Generator
) -> tuple[Tensor, list[str], np.ndarray]:
    """Derive bipolar channels: the double banana every other time, where most of it can be made, or neighbours."""
    index = {name: i for i, name in enumerate(names)}
    banana = [pair.split("-") for pair in DOUBLE_BANANA]
    pairs = [(index[a], index[c]) for a, c in banana if a in index and c in index]
    if generator.random() < 0.5 or len(pairs) < len(banana) // 2:
        distance = np.linalg.norm(places[:, None, :3] - places[None, :, :3], axis=2)
        np.fill_diagonal(distance, np.inf)
        pairs, seen = [], set()
        for anode in generator.permutation(len(names)):
            near = np.flatnonzero(distance[anode] < _LONGEST_PAIR)
            near = near if len(near) else np.argsort(distance[anode])[:1]
            cathode = int(generator.choice(near))
            if frozenset((int(anode), cathode)) not in seen:
                seen.add(frozenset((int(anode), cathode)))
                pairs.append((int(anode), cathode))
    anodes, cathodes = (list(side) for side in zip(*pairs, strict=True))
    return (
        x[:, anodes] - x[:, cathodes],
        [f"{names[a]}-{names[c]}" for a, c in pairs],
        np.hstack((places[anodes, :3], places[cathodes, :3])),
    )


def _rereferenced(
    x: Tensor, names: list[str], places: np.ndarray, generator: np.random.Generator
) -> tuple[Tensor, list[str], np.ndarray]:
    """Refer to the average of all channels, or to one of them, which is left out then: it would be flat."""
    if generator.random() < 0.5:
        return x - x.mean(dim=1, keepdim=True), names, places
    reference = int(generator.integers(len(names)))
    rest = [i for i in range(len(names)) if i != reference]
    return x[:, rest] - x[:, reference : reference + 1], [names[i] for i in rest], places[rest]
