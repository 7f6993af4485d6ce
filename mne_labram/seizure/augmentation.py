"""Training windows with seizures and artefacts that were never recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch

from mne_labram.seizure.simulation import add_seizure
from mne_labram.signal.artefacts import add_artefact
from mne_labram.training.augment import Augmentation

__all__ = ["SeizureAugmentation"]

# What false alarms are made of: half of all artefacts are one of these.
_OFTEN = ("muscle", "chewing", "movement")


@dataclass(frozen=True)
class SeizureAugmentation:
    """Mix simulated seizures and artefacts into background, then vary the batch.

    Parameters
    ----------
    seizure : float
        Probability that a window without seizure gets a simulated one, or a part of one.
    artefact : float
        Probability that a window gets one or two simulated artefacts or normal rhythms, which change no label.
    snr_db : tuple of float
        Range of the power of a simulated seizure over the background's, in decibels.
    artefact_db : tuple of float
        The same for artefacts.
    log_gain_sd : float
        Standard deviation of the natural logarithm of a gain of the whole window, in half of the windows: with 1, a
        window is two to three times as large or small as it was, so that amplitude alone decides nothing. The other
        half keeps its amplitude.
    label : int
        Class of patches within a simulated seizure; -2 for one of unknown type, in a model that tells types apart.
    variation : Augmentation | None
        Gains, references, derivations and channels, applied last (:class:`mne_labram.training.augment.Augmentation`);
        ``None`` leaves the montage as it is.

    Raises
    ------
    ValueError
        If a probability is outside 0 to 1, a range is not one, or the spread is negative.

    Notes
    -----
    Ours. A simulated seizure covers at least half of a window, or 4 s of a long one; patches of which it covers more
    than half are labelled. What is drawn depends on the generator only.
    """

    seizure: float = 0.3
    artefact: float = 0.5
    snr_db: tuple[float, float] = (0.0, 14.0)
    artefact_db: tuple[float, float] = (-3.0, 20.0)
    log_gain_sd: float = 1.0
    label: int = 1
    variation: Augmentation | None = field(default_factory=lambda: Augmentation(gain_sd=0.2, max_tokens=None))

    def __post_init__(self) -> None:
        for name in ("seizure", "artefact"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a probability, between 0 and 1; got {getattr(self, name)}.")
        for name in ("snr_db", "artefact_db"):
            low, high = getattr(self, name)
            if not (np.isfinite([low, high]).all() and low <= high):
                raise ValueError(f"{name} is a range in decibels, the smaller number first; got {low:g} and {high:g}.")
        if not self.log_gain_sd >= 0.0:
            raise ValueError(f"log_gain_sd must not be negative, got {self.log_gain_sd}.")

    @classmethod
    def for_validation(cls, augmentation: SeizureAugmentation) -> SeizureAugmentation:
        """Return the same mixture in a montage and at an amplitude that stay as they are.

        Parameters
        ----------
        augmentation : SeizureAugmentation
            Of the training.

        Returns
        -------
        augmentation : SeizureAugmentation
            With simulated seizures and artefacts as often as there.
        """
        values = {each.name: getattr(augmentation, each.name) for each in fields(cls)}
        return cls(**{**values, "log_gain_sd": 0.0, "variation": None})

    def __call__(self, batch: Mapping[str, Any], generator: np.random.Generator) -> dict[str, Any]:
        """Vary one batch.

        Parameters
        ----------
        batch : mapping
            ``"x"``, shape (batch, n_chans, n_times) in microvolts; ``"y"``, shape (batch, n_patches), 0 where there is
            no seizure; ``"ch_names"``; and ``"positions"`` where the names do not tell where electrodes are.
        generator : numpy.random.Generator
            Source of all randomness.

        Returns
        -------
        batch : dict
            A new one with new tensors.
        """
        x, y = batch["x"].numpy().copy(), batch["y"].numpy().copy()
        positions = batch.get("positions")
        channels = list(batch["ch_names"]) if positions is None else np.asarray(positions)
        # A patch is a second, so its length is the rate.
        patch = x.shape[2] // y.shape[1]
        sfreq = float(patch)
        for i in range(len(x)):
            do_seizure, do_artefact = generator.random(2) < (self.seizure, self.artefact)
            # Every window has numbers of its own, so that what one draws does not change the next.
            own = np.random.default_rng(generator.integers(2**63))
            # A window in which nothing was recorded cannot be mixed with anything.
            if not np.any(x[i]):
                continue
            # Often two at once: who moves tenses muscles.
            for _ in range(int(do_artefact) * int(own.integers(1, 3))):
                kind = str(own.choice(_OFTEN)) if own.random() < 0.5 else None
                x[i] = add_artefact(x[i], channels, sfreq, own, snr_db=self.artefact_db, kind=kind)
            if do_seizure and not y[i].any():
                x[i], inside = add_seizure(
                    x[i], channels, sfreq, own, snr_db=self.snr_db, min_overlap=min(4.0, len(y[i]) / 2)
                )
                y[i] = self.label * (inside.reshape(len(y[i]), patch).mean(axis=1) > 0.5)
        scaled = generator.random((len(x), 1, 1)) < 0.5
        gains = np.exp(self.log_gain_sd * generator.standard_normal((len(x), 1, 1)) * scaled)
        out = {**batch, "x": torch.from_numpy((x * gains).astype(np.float32)), "y": torch.from_numpy(y)}
        return out if self.variation is None else self.variation(out, generator)
