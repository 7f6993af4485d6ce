"""From windows of a recording to linear operators on it: which network, which channels, which noise."""

from __future__ import annotations

from collections.abc import Callable

import mne
import numpy as np
import torch

from mne_labram.models.brainforge import BrainForge
from mne_labram.models.brainforge.statistics import white_noise_level
from mne_labram.source.head import SourceModel
from mne_labram.source.judging import at_judged_rate
from mne_labram.source.localizable import noise_in_microvolts

__all__ = ["WindowOperators"]


class WindowOperators:
    """What a network says of the windows of one recording.

    Parameters
    ----------
    base : BrainForge
        The network.
    head : SourceModel
        The head, with the channels of the recording in its order.
    lost : ndarray, shape (n_chans, n_lost)
        Orthonormal directions in which the recording has no signal.
    noise : mne.Covariance | None
        Of the noise in single trials.
    nave : int
        Trials that were averaged.

    Raises
    ------
    ContractError
        If the noise covariance lacks a channel.
    """

    def __init__(
        self,
        base: BrainForge,
        head: SourceModel,
        lost: np.ndarray,
        *,
        noise: mne.Covariance | None = None,
        nave: int = 1,
    ) -> None:
        self.n_chans, self.kept = head.n_channels, None
        leadfield = head.leadfield
        if lost.shape[1]:
            self.kept = np.eye(self.n_chans) - lost @ lost.T
            leadfield = self.kept @ (leadfield - leadfield.mean(axis=0))
            values, vectors = np.linalg.eigh(self.kept - 1.0 / self.n_chans)
            # Axes in which there is signal.
            self.axes = torch.from_numpy(vectors[:, values > 0.5].T.astype(np.float32))
        self.network = base.bind_head(
            leadfield, head.positions, head.normals, head.neighbours, head.electrodes, head.ch_names
        ).eval()
        self.noise = None
        if noise is not None:
            covariance = noise_in_microvolts(noise, head.ch_names, nave)
            covariance = covariance if self.kept is None else self.kept @ covariance @ self.kept
            self.noise = torch.from_numpy(covariance.astype(np.float32))

    def operators_of(self, sfreq: float) -> Callable[[np.ndarray], np.ndarray]:
        """Return the function that judges windows of a sampling rate.

        Parameters
        ----------
        sfreq : float
            Samples per second.

        Returns
        -------
        operators : callable
            Of windows in µV, shape (batch, n_chans, n_times), in any reference; returns operators to nAm, shape
            (batch, n_sources, n_chans), which do not see the reference either.
        """

        def operators(windows: np.ndarray) -> np.ndarray:
            windows = windows - windows.mean(axis=1, keepdims=True)
            if self.kept is not None:
                windows = self.kept @ windows
            x = torch.from_numpy(at_judged_rate(windows, sfreq).astype(np.float32))
            with torch.inference_mode():
                noise = self._noise_of(x)
                return self.network.posterior(x, noise_covariance=noise).operator.numpy()

        return operators

    def _noise_of(self, x: torch.Tensor) -> torch.Tensor | None:
        if self.noise is not None or self.kept is None:
            return self.noise
        # The level of white noise among the axes that are left: the others would make it too low.
        y = self.axes @ x
        y = torch.cat((y, torch.zeros_like(y[:, :1])), dim=1)
        return white_noise_level(y, torch.ones(y.shape[:2]))[:, None, None] * torch.eye(self.n_chans)
