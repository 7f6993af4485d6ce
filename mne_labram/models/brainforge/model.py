"""BrainForge: where on the cortex a recording comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from braindecode.models.base import EEGModuleMixin
from torch import Tensor, nn

from mne_labram.models.brainforge.binding import HeadBindingMixin, referential_electrodes
from mne_labram.models.brainforge.geometry import SourceGeometry
from mne_labram.models.brainforge.network import ScalpEncoder, SourceStage
from mne_labram.models.brainforge.spherical_head import spherical_head
from mne_labram.models.brainforge.statistics import WindowStatistics, white_noise_level, whitener, window_statistics
from mne_labram.models.inputs import SignalMixin, contract_fields
from mne_labram.models.labram.inputs import with_arrays
from mne_labram.signal.contract import SignalContract

__all__ = ["BrainForge", "SourcePosterior"]

#: Hz that the weights that ship have seen.
SFREQ = 100.0
# The odds of being active count from here: at the beginning of training most sources are thought to be.
_OPEN = 2.0
# Limits of the logarithm of a prior variance, relative to what would explain the window alone.
_LOWEST, _HIGHEST = -25.0, 15.0
# Of what training weighs: how much an active source counts beside a silent one, and the whole of it.
_POSITIVE, _DETECTION = 5.0, 8.0
# A reconstruction that is worse than this many times nothing at all counts no more.
_WORST = 4.0


class SourcePosterior(NamedTuple):
    """What is thought of the sources of a window.

    Attributes
    ----------
    active : Tensor, shape (batch, n_sources)
        Log odds that a source is active.
    variance : Tensor, shape (batch, n_sources)
        Prior variance of its dipole moment, nAm².
    operator : Tensor, shape (batch, n_sources, n_chans)
        ``operator @ x`` are dipole moments in nAm of a signal in µV, at any sampling rate.
    """

    active: Tensor
    variance: Tensor
    operator: Tensor


class BrainForge(HeadBindingMixin, SignalMixin, EEGModuleMixin, nn.Module):
    r"""Source imaging by a network that learns which sources are active, and a linear inverse that says how much.

    :bdg-danger:`Foundation Model` :bdg-info:`Attention/Transformer`

    A convolutional network sees the scalp as an image at every moment, and a transformer what it does over time. Every
    source of the head looks at that, at what the covariance of the window says of its topography
    (:func:`~mne_labram.models.brainforge.statistics.window_statistics`), and at its neighbours, and is given a prior
    variance :math:`\gamma_s`. Dipole moments are then the conditional mean under that prior,

    .. math:: \hat{j} = \Gamma G^T (G \Gamma G^T + N)^{-1} x,

    so that they explain the signal, have its scale, and follow it at any sampling rate. All parameters are shared by
    all sources and electrodes: one set of weights serves any forward.

    Parameters
    ----------
    n_outputs : None
        Not used; the outputs are the sources.
    n_chans : int | None
        Number of channels; only checked against the names.
    chs_info : list of dict | None
        ``info["chs"]``: the channels, if ``ch_names`` is None.
    n_times : int | None
        Samples in a window; any.
    input_window_seconds : float | None
        Length of a window in seconds.
    sfreq : float | None
        Sampling rate in Hz; the weights that ship have seen 100 Hz.
    ch_names : list of str | None
        Referential channels of the 10-05 system, in the order of the input.
    n_sources : int
        Sources of the spherical head that the model has until :meth:`bind_head` gives it another one.
    embed_dim : int
        Width of a source's state.
    num_layers : int
        Mixers of each stage.
    num_stages : int
        How often sources are judged: each time, with what came of the last judgement.
    image_size : int
        Pixels on a side of the image of the scalp.
    time_dim, time_layers : int
        Width and blocks of the transformer over time.
    num_heads : int
        Attention heads.
    drop_prob : float
        Dropout in the transformer.
    activation : type of nn.Module
        Class of the activations.
    contract : SignalContract | dict | None
        How the signal was prepared, where it differs from 0.5 to 45 Hz.

    Raises
    ------
    ValueError
        If a channel has no position, or the names do not fit ``n_chans``.

    Notes
    -----
    The brief's system (a convolution over scalp topographies, a transformer over time, training on neural masses) with
    the physics inside: the prior variances are what sparse Bayesian learning iterates for (Wipf & Nagarajan 2009,
    NeuroImage 44:947-966), found by a network that has seen many sources instead.
    """

    def __init__(
        self,
        n_outputs: int | None = None,
        n_chans: int | None = None,
        chs_info: list[dict] | None = None,
        n_times: int | None = None,
        input_window_seconds: float | None = None,
        sfreq: float | None = None,
        ch_names: list[str] | None = None,
        n_sources: int = 324,
        embed_dim: int = 48,
        num_layers: int = 2,
        num_stages: int = 2,
        image_size: int = 16,
        time_dim: int = 64,
        time_layers: int = 2,
        num_heads: int = 4,
        drop_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
        contract: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            n_outputs=n_outputs,
            n_chans=n_chans,
            chs_info=with_arrays(chs_info),
            n_times=n_times,
            input_window_seconds=input_window_seconds,
            sfreq=sfreq,
        )
        self.ch_names, electrodes = referential_electrodes(ch_names, chs_info)
        if n_chans is not None and n_chans != len(self.ch_names):
            raise ValueError(f"BrainForge got {len(self.ch_names)} channel names for n_chans={n_chans} channels.")
        if self._n_chans is None:
            self._n_chans = len(self.ch_names)
        self._contract_fields = contract_fields(contract)
        self.image_size, self._own_head = image_size, False
        self.geometry = SourceGeometry(*spherical_head(electrodes, n_sources), image_size)
        self.encoder = ScalpEncoder(
            image_size,
            embed_dim=time_dim,
            num_layers=time_layers,
            num_heads=num_heads,
            drop_prob=drop_prob,
            activation=activation,
        )
        self.stages = nn.ModuleList(
            SourceStage(embed_dim, num_layers, time_dim, num_heads, first=stage == 0, activation=activation)
            for stage in range(num_stages)
        )
        # Braindecode finds the end of a network by this name.
        self.final_layer = self.stages[-1].judge
        recorded = {} if contract is None else {"contract": dict(self._contract_fields)}
        self._record(ch_names=list(self.ch_names), **recorded)

    @property
    def contract(self) -> SignalContract:
        """What the model may be fed: any rate will do, but this is what it was trained on."""
        return SignalContract(
            **{
                "name": "BrainForge",
                "l_freq": 0.5,
                "h_freq": 45.0,
                "reference": "average",
                **self._contract_fields,
                "sfreq": SFREQ,
                "scale": 1.0,
                "patch_samples": 1,
                "max_patches": 1000,
                "vocabulary": None,
                "montages": ("referential",),
            }
        )

    def forward(
        self,
        x: Tensor,
        return_features: bool = False,
        *,
        visible: Tensor | None = None,
        noise_covariance: Tensor | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """Estimate dipole moments.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts, in any reference; finite.
        return_features : bool
            Return the tokens over time and the log odds of sources instead.
        visible : Tensor, shape (batch, n_chans) | None
            1 where a channel is to be believed; ``None``: all.
        noise_covariance : Tensor, shape (n_chans, n_chans) or (batch, n_chans, n_chans) | None
            Of the noise in µV²; ``None``: white, its variance estimated from the window.

        Returns
        -------
        sources : Tensor, shape (batch, n_sources, n_times)
            Dipole moments along the normals in nAm.
        features : dict
            If ``return_features``: ``"features"``, shape (batch, n_tokens, time_dim), and ``"cls_token"``, the log odds
            of the sources, shape (batch, n_sources).

        Raises
        ------
        ValueError
            If the shape is not that of the bound channels, or values are not finite.
        """
        x, visible = self._checked(x, visible)
        posterior, tokens = self._posterior(x, visible, noise_covariance)
        if return_features:
            return {"features": tokens, "cls_token": posterior[-1].active}
        return posterior[-1].operator @ x

    @torch.no_grad()
    def embed(self, x: Tensor, pooling: str = "mean") -> Tensor:
        """Describe windows by what the transformer says of the scalp over time.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.
        pooling : {"mean", "tokens"}
            Average over time, or not.

        Returns
        -------
        embedding : Tensor, shape (batch, time_dim) or (batch, n_tokens, time_dim)
            One token for two samples.

        Raises
        ------
        ValueError
            If ``pooling`` is neither, or the input does not fit.
        """
        if pooling not in ("mean", "tokens"):
            raise ValueError(f"pooling must be 'mean' or 'tokens', got {pooling!r}.")
        tokens = self(x, return_features=True)["features"]
        return tokens.mean(dim=1) if pooling == "mean" else tokens

    def posterior(
        self, x: Tensor, *, visible: Tensor | None = None, noise_covariance: Tensor | None = None
    ) -> SourcePosterior:
        """Judge sources.

        Parameters
        ----------
        x, visible, noise_covariance : Tensor
            As for :meth:`forward`.

        Returns
        -------
        posterior : SourcePosterior
            Of the last stage.
        """
        x, visible = self._checked(x, visible)
        return self._posterior(x, visible, noise_covariance)[0][-1]

    def _checked(self, x: Tensor, visible: Tensor | None) -> tuple[Tensor, Tensor]:
        """Check a signal, and bring it to the average reference of its visible channels."""
        x, visible = self._whole_window(x, visible, len(self.ch_names), self.final_layer.weight.dtype)
        mean = (x * visible.unsqueeze(2)).sum(dim=1, keepdim=True) / visible.sum(dim=1).clamp_min(1.0)[:, None, None]
        return (x - mean) * visible.unsqueeze(2), visible

    def _posterior(
        self, x: Tensor, visible: Tensor, noise_covariance: Tensor | None
    ) -> tuple[list[SourcePosterior], Tensor]:
        """Run all stages on a signal in the average reference."""
        batch, n_chans, _ = x.shape
        eye = torch.eye(n_chans, dtype=x.dtype, device=x.device)
        if noise_covariance is None:
            noise = white_noise_level(x, visible)[:, None, None] * eye
        else:
            noise = noise_covariance.to(x).expand(batch, -1, -1)
        whiten = whitener(noise, visible)
        gain, y = whiten @ self.geometry.leadfield, whiten @ x
        found: WindowStatistics = window_statistics(y, gain)
        level = x.square().sum(dim=(1, 2)) / (visible.sum(dim=1) * x.shape[2]).clamp_min(1.0)
        unit = x * level.clamp_min(torch.finfo(x.dtype).tiny).rsqrt()[:, None, None]
        tokens = self.encoder(unit, visible, self.geometry.image_weights)
        known = torch.cat(
            (
                found.sources,
                self.geometry.places().expand(batch, -1, -1),
                found.window.unsqueeze(1).expand(-1, self.n_sources, -1),
            ),
            dim=2,
        )
        power = found.covariance.diagonal(dim1=1, dim2=2).sum(dim=1) / (visible.sum(dim=1) - 1).clamp_min(1.0)
        norm = gain.square().sum(dim=1).clamp_min(1e-12)
        alone = power.clamp_min(1.0).unsqueeze(1) / norm
        out, before = [], None
        for stage in self.stages:
            active, amplitude, h = stage(known, tokens, self.geometry, before)
            variance = alone * torch.exp((2 * amplitude + 2 * F.logsigmoid(active + _OPEN)).clamp(_LOWEST, _HIGHEST))
            modelled = (gain * variance.unsqueeze(1)) @ gain.transpose(1, 2) + eye
            weights = torch.linalg.solve(modelled, gain)
            out.append(SourcePosterior(active, variance, variance.unsqueeze(2) * (weights.transpose(1, 2) @ whiten)))
            # Per unit of gain, so that the unit of moments does not matter.
            through = ((found.covariance @ weights) * weights).sum(dim=1) / norm
            explained = (gain * weights).sum(dim=1) / norm
            seen = (through + 1e-6).log() - (explained + 1e-6).log()
            before = torch.stack((seen, (variance * norm + 1e-6).log() / 4.0, variance * norm * explained), dim=2), h
        return out, tokens

    def training_step(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        r"""Compute the loss of simulated windows.

        Parameters
        ----------
        batch : mapping
            ``"x"``, µV, shape (batch, n_chans, n_times); ``"sources"``, nAm, shape (batch, n_sources, n_times);
            ``"active"``, shape (batch, n_sources), which sources are; and perhaps ``"emphasis"`` of the same shape, how
            much each of them counts, and ``"visible"`` and ``"noise_covariance"``, see :meth:`forward`.

        Returns
        -------
        losses : dict of str to Tensor
            ``"loss"``; without gradient ``"error"``, squared error over squared moments, each source weighted by its
            gain (of windows without a source: what is found, over the signal), and ``"detection"``, the weighted
            cross-entropy of being active, mean over stages.

        Notes
        -----
        With :math:`w_s` the squared norm of a source's topography in the average reference, and :math:`a` and
        :math:`p` whether a source is active and the probability that it is said to be,

        .. math:: L = \min\left(\frac{\sum w_s (\hat{j}_s - j_s)^2}{\sum w_s j_s^2}, 4\right)
                  - \frac{8}{S} \sum_s \left(5 e_s a_s \log p_s + (1 - a_s) \log(1 - p_s)\right),

        the mean over windows, and in the second part over stages; :math:`e` is ``"emphasis"``. The first part asks for
        moments in their own unit, the second for silence where nothing is; 4, 8 and 5 were chosen by hand.
        """
        if not isinstance(batch, Mapping) or "sources" not in batch:
            raise ValueError(
                "BrainForge is trained on windows whose sources are known; give a mapping with 'x', 'sources' and "
                "'active'."
            )
        x, visible = self._checked(batch["x"], batch.get("visible"))
        stages, _ = self._posterior(x, visible, batch.get("noise_covariance"))
        wanted, active = batch["sources"], batch["active"].to(x)
        norm = self.geometry.leadfield - self.geometry.leadfield.mean(dim=0)
        weight = norm.square().sum(dim=0)[None, :, None]
        found = stages[-1].operator @ x
        there = (wanted.square() * weight).sum(dim=(1, 2))
        error = ((found - wanted).square() * weight).sum(dim=(1, 2)) / there.clamp_min(1e-12)
        signal = x.square().sum(dim=(1, 2)).clamp_min(1e-12)
        none = (found.square() * weight).sum(dim=(1, 2)) / signal
        error = torch.where(there > 0, error, none)
        emphasis = batch.get("emphasis")
        positive = _POSITIVE if emphasis is None else _POSITIVE * emphasis.to(x)
        counts = torch.where(active > 0, positive, torch.ones_like(active))
        detection = torch.stack(
            [F.binary_cross_entropy_with_logits(each.active, active, weight=counts) for each in stages]
        ).mean()
        loss = error.clamp_max(_WORST).mean() + _DETECTION * detection
        return {"loss": loss, "error": error.mean().detach(), "detection": detection.detach()}

    def reset_head(self, n_outputs: int) -> None:
        """Refuse: sources are no classes.

        Parameters
        ----------
        n_outputs : int
            Not used.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("BrainForge has no classification head; bind it to another head with bind_head instead.")
