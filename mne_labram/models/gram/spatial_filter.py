"""How channels go together in each frequency band: anywhere on the head, and in the window at hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mne_labram.nn.conditional import conditional_weights, expected_covariance, visible_reference

__all__ = ["MIN_CHANNELS", "SpatialFilter", "band_covariances"]

# Width of the bumps over the head that loadings and maps are made of (1 / width in squared chords, halved).
_SHARP, _BLUNT = 6.0, 3.0
# How much of the network's output reaches loadings; small, so that training begins at the prior.
_STEP = 0.3
# Added to powers before the logarithm; a band of a channel has about 1 / n_bands.
_SMALLEST_POWER = 1e-4
# The centre of the sphere through the electrodes of the 10-20 system on MNE's template head, by least squares, in
# metres; directions are seen from there.
_CENTRE = (0.0, 0.016, 0.045)
#: Fewest channels that training is worth while with, and the most that are hidden at all times.
MIN_CHANNELS, _MOST_HIDDEN = 4, 9
# Shares of channels that are hidden in pieces.
_SHARES = (0.2, 0.6)
# Above this EEG of the recordings that models are trained on holds nothing.
_HIGHEST = 45.0


def band_covariances(x: Tensor, sfreq: float, edges: Sequence[float], n_pieces: int) -> Tensor:
    """Compute covariances of channels in each band and each piece of windows.

    Parameters
    ----------
    x : Tensor, shape (batch, n_chans, n_times)
        Signal.
    sfreq : float
        Sampling rate in Hz.
    edges : sequence of float
        Lower edges of the bands in Hz; the last has no upper one.
    n_pieces : int
        Pieces of equal length; divides ``n_times``.

    Returns
    -------
    covariances : Tensor, shape (batch, n_pieces, n_bands, n_chans, n_chans)
        In squares of the signal's unit.
    """
    n_times = x.shape[2]
    spectrum = torch.fft.rfft(x - x.mean(dim=2, keepdim=True))
    frequencies = torch.arange(spectrum.shape[2], device=x.device) * (sfreq / n_times)
    band = torch.bucketize(frequencies, torch.tensor(list(edges[1:]), device=x.device), right=True)
    parts = []
    for index in range(len(edges)):
        part = torch.fft.irfft(spectrum * (band == index), n_times).unflatten(2, (n_pieces, -1)).transpose(1, 2)
        parts.append(part @ part.transpose(-1, -2) / part.shape[-1])
    return torch.stack(parts, dim=2)


class SpatialFilter(nn.Module):
    r"""A model of how channels covary, from where they are and from what of them is visible.

    Parameters
    ----------
    band_edges : sequence of float
        Lower edges of the bands in Hz; the last has no upper one.
    n_sites : int
        Bumps over the head that loadings are sums of.
    rank : int
        Sources of each band.
    n_maps : int
        Bumps over the head that the network sees correlations of a channel through.
    embed_dim, num_layers, num_heads : int
        Of the network over channels.
    drop_prob : float
        Dropout in it.

    Notes
    -----
    Ours; not in Gram. In each band, channel :math:`c` is :math:`x_c = f_c^T z + e_c`, a factor model. The loadings
    :math:`f_c` are a learned function of the electrode's direction from the centre of the head (of a bipolar channel
    the difference of two), which is what is known of a head that nobody has seen; and a transformer over channels,
    which sees how strong each channel is in each band and with which regions it correlates, adds to the loadings and
    sets the variance of :math:`e_c`. What is hidden is the conditional mean given what is visible, so that weights are
    those of any number of channels in any reference, and amplitudes are right; and the conditional variance says how
    uncertain it is.

    The model is then what is known before the window, worth :math:`\nu` independent samples per band (learned), and the
    window's own covariances are added to it by the EM algorithm
    (:func:`mne_labram.nn.conditional.expected_covariance`), the posterior mode under an inverse Wishart prior. Channels
    that are visible for some of the time, or were before, are thus predicted as this very recording shows them.
    """

    def __init__(
        self,
        band_edges: Sequence[float] = (0.0, 4.0, 8.0, 13.0, 20.0, 30.0),
        n_sites: int = 48,
        rank: int = 24,
        n_maps: int = 16,
        embed_dim: int = 96,
        num_layers: int = 3,
        num_heads: int = 4,
        drop_prob: float = 0.1,
    ) -> None:
        super().__init__()
        #: What it was built with, by name.
        self.arguments: dict[str, Any] = {
            "band_edges": list(band_edges),
            "n_sites": n_sites,
            "rank": rank,
            "n_maps": n_maps,
            "embed_dim": embed_dim,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "drop_prob": drop_prob,
        }
        self.band_edges, self.rank = [float(edge) for edge in band_edges], rank
        n_bands = len(self.band_edges)
        self.register_buffer("sites", _upper_sphere(n_sites), persistent=False)
        self.register_buffer("maps", _upper_sphere(n_maps), persistent=False)
        upper = [*self.band_edges[1:], _HIGHEST]
        # Independent samples in a second of a band of this width (two for each hertz).
        per_second = [2.0 * max(high - low, 1.0) for low, high in zip(self.band_edges, upper, strict=True)]
        self.register_buffer("samples_per_second", torch.tensor(per_second), persistent=False)
        self.site_loadings = nn.Parameter(torch.randn(n_bands, n_sites, rank) * 0.15)
        self.log_noise = nn.Parameter(torch.full((n_bands,), -2.5))
        self.log_worth = nn.Parameter(torch.full((n_bands,), 4.0))
        # Offset and slope of what is kept of a doubtful channel; no part of the losses here (see kept).
        self.register_buffer("doubt", torch.tensor([[-2.5, 1.25]]).repeat(n_bands, 1))
        self.embed = nn.Linear(n_bands * (n_maps + 1) + 1 + n_maps + n_sites, embed_dim)
        self.blocks = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(
                embed_dim, num_heads, 2 * embed_dim, drop_prob, batch_first=True, norm_first=True
            ),
            num_layers,
            enable_nested_tensor=False,
        )
        self.loadings = nn.Linear(embed_dim, n_bands * rank)
        self.noise = nn.Linear(embed_dim, n_bands)
        for layer in (self.loadings, self.noise):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return len(self.band_edges)

    def _at(self, positions: Tensor, sites: Tensor, sharpness: float) -> Tensor:
        """Describe channels by bumps, shape (n_chans, n_sites)."""
        centre = positions.new_tensor(_CENTRE)

        def bumps(place: Tensor) -> Tensor:
            direction = place - centre
            direction = direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-6)
            values = torch.exp(sharpness * (direction @ sites.T - 1))
            return values / values.norm(dim=1, keepdim=True)

        anode = bumps(positions[:, :3])
        bipolar = (positions[:, :3] != positions[:, 3:]).any(dim=1, keepdim=True)
        return anode - bumps(positions[:, 3:]) * bipolar

    def prior(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return loadings and noise of channels of which nothing is known but where they are.

        Parameters
        ----------
        positions : Tensor, shape (n_chans, 6)
            Anode and cathode in metres, in the head frame; equal for referential channels.

        Returns
        -------
        loadings : Tensor, shape (n_bands, n_chans, rank)
            Of each band.
        log_noise : Tensor, shape (n_bands, n_chans)
            Logarithm of each channel's own variance.
        """
        loadings = self._at(positions, self.sites, _SHARP) @ self.site_loadings
        return loadings, self.log_noise[:, None].expand(-1, len(positions))

    def kept(self, excess: Tensor, band: int) -> Tensor:
        """Say how much is kept of what doubtful channels show beside what is predicted.

        Parameters
        ----------
        excess : Tensor, any shape
            Power of the difference in one direction of the space of these channels, as a multiple of the error that is
            expected of the prediction there: about 1 of what is good, more of an artefact.
        band : int
            Which band.

        Returns
        -------
        share : Tensor, same shape
            Between 0 and 1, ``1 / (1 + exp(offset) * excess ** slope)``.

        Notes
        -----
        A Wiener filter keeps ``min(1, 1 / excess)``. This goes smoothly from one to the other, since power over half a
        second, in directions that were themselves found in the window, is a rough measure. Offset and slope of each
        band are fitted to artefacts simulated onto clean recordings (``doc/weights/make_gram.py``).
        """
        offset, slope = self.doubt[band]
        return torch.sigmoid(-(offset + slope * torch.log(excess.clamp_min(1e-6))))

    def adapted(self, covariances: Tensor, seen: Tensor, positions: Tensor) -> Tensor:
        """Return the model of windows.

        Parameters
        ----------
        covariances : Tensor, shape (batch, n_bands, n_chans, n_chans)
            What is expected of all channels, in the average reference.
        seen : Tensor, shape (batch, n_chans)
            For which share of the time a channel was visible.
        positions : Tensor, shape (n_chans, 6)
            As in :meth:`prior`.

        Returns
        -------
        covariances : Tensor, shape (batch, n_bands, n_chans, n_chans)
            Of unit trace.
        """
        batch, n_bands, n_chans, _ = covariances.shape
        # Channels that were never seen, which are guesses here, have no say in the reference.
        reference = visible_reference(seen).unsqueeze(1)
        covariances = reference @ covariances @ reference.transpose(-1, -2)
        power = covariances.diagonal(dim1=-2, dim2=-1)
        scale = power.clamp_min(1e-12).rsqrt()
        correlations = covariances * scale.unsqueeze(-1) * scale.unsqueeze(-2) * seen[:, None, None, :]
        maps = self._at(positions, self.maps, _BLUNT)
        # What a channel correlates with, as a map of the head; 4 brings it to about unit size.
        seen_through = (correlations @ maps) * (4.0 / seen.sum(dim=1).clamp_min(1e-6))[:, None, None, None]
        seen_through = seen_through.permute(0, 2, 1, 3) * seen[:, :, None, None]
        share = power * (n_chans * n_bands / power.sum(dim=(1, 2), keepdim=True).clamp_min(1e-12))
        levels = torch.log(share + _SMALLEST_POWER).transpose(1, 2) * seen.unsqueeze(2)
        place = torch.cat((maps, self._at(positions, self.sites, _SHARP)), dim=1).expand(batch, -1, -1)
        tokens = self.blocks(self.embed(torch.cat((seen_through.flatten(2), levels, seen.unsqueeze(2), place), dim=2)))
        loadings, log_noise = self.prior(positions)
        change = self.loadings(tokens).unflatten(2, (n_bands, self.rank)).transpose(1, 2)
        loadings = loadings + _STEP * change
        noise = torch.exp(log_noise + self.noise(tokens).transpose(1, 2))
        return _unit(loadings @ loadings.transpose(-1, -2) + torch.diag_embed(noise))

    def forward(
        self,
        covariances: Tensor,
        visible: Tensor,
        seconds: Tensor,
        positions: Tensor,
        *,
        n_rounds: int = 2,
        worth: float = 1.0,
    ) -> Tensor:
        """Tell how channels go together in windows.

        Parameters
        ----------
        covariances : Tensor, shape (batch, n_pieces, n_bands, n_chans, n_chans)
            Of each piece of a window, in any reference; rows of hidden channels are not looked at, but finite.
        visible : Tensor, shape (batch, n_pieces, n_chans)
            1 where a channel is visible in a piece, 0 where it is hidden.
        seconds : Tensor, shape (n_pieces,)
            Length of each piece; pieces may be of other windows of the same recording.
        positions : Tensor, shape (n_chans, 6)
            Anode and cathode in metres, in the head frame; equal for referential channels.
        n_rounds : int
            Rounds of the EM algorithm.
        worth : float
            What the model counts for beside what was observed, as a multiple of what was learned for single windows.

        Returns
        -------
        covariances : Tensor, shape (batch, n_bands, n_chans, n_chans)
            Of unit trace, for :func:`mne_labram.nn.conditional.conditional_weights`.
        """
        loadings, log_noise = self.prior(positions)
        known = _unit(loadings @ loadings.transpose(-1, -2) + torch.diag_embed(log_noise.exp()))
        known = known.expand(len(covariances), -1, -1, -1)
        share = seconds / seconds.sum()
        by_band = visible.unsqueeze(2).expand(-1, -1, self.n_bands, -1)

        def expected(model: Tensor) -> Tensor:
            pieces = expected_covariance(covariances, by_band, model.unsqueeze(1).expand_as(covariances))
            return (pieces * share[None, :, None, None, None]).sum(dim=1)

        seen = (visible * share[None, :, None]).sum(dim=1)
        model = self.adapted(expected(known), seen, positions)
        known_for = worth * self.log_worth.exp()[None, :, None, None]
        samples = (self.samples_per_second * seconds.sum())[None, :, None, None]
        out = model
        for _ in range(n_rounds):
            out = (known_for * model + samples * _unit(expected(out))) / (known_for + samples)
        return out

    def training_loss(
        self,
        x: Tensor,
        positions: Tensor,
        sfreq: float,
        n_pieces: int,
        *,
        n_draws: int = 8,
        artefact: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Hide channels of windows, at all times or for some pieces, and compute how well they are predicted.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts; at least four channels.
        positions : Tensor, shape (n_chans, 6)
            As in :meth:`forward`.
        sfreq : float
            Sampling rate in Hz.
        n_pieces : int
            Pieces of a window.
        n_draws : int
            Masks of each window. Of all masks a quarter hides pieces of channels, the others whole channels.
        artefact : Tensor, shape (batch, n_chans, n_times) | None
            What is added to ``x`` before the filter sees it, in the same unit, zero where nothing is: it learns not to
            rely on channels that hold an artefact.
        generator : torch.Generator | None
            Source of what is random, on the CPU.

        Returns
        -------
        error : Tensor, shape ()
            Mean of squared errors by squared signal in what is hidden, see :meth:`covariance_loss`.

        Raises
        ------
        ValueError
            If there are fewer than four channels.

        Notes
        -----
        Every window is mixed with another one of the batch, band by band: sums of independent signals, whose
        covariances are those of heads between two heads. There are few subjects, and this is what keeps the network
        from learning them by heart.
        """
        n_chans = x.shape[1]
        if n_chans < MIN_CHANNELS:
            raise ValueError(f"A spatial filter is trained on at least {MIN_CHANNELS} channels, got {n_chans}.")
        with torch.no_grad():
            covariances = band_covariances(x.to(positions.dtype), sfreq, self.band_edges, n_pieces)
            power = covariances.diagonal(dim1=-2, dim2=-1).sum(dim=(2, 3)).mean(dim=1)
            power = power.clamp_min(1e-12)[:, None, None, None, None]
            covariances = covariances / power
            added = None
            if artefact is not None and bool(artefact.any()):
                added = torch.zeros_like(covariances)
                some = artefact.abs().sum(dim=(1, 2)) > 0
                found = band_covariances(artefact[some].to(positions.dtype), sfreq, self.band_edges, n_pieces)
                added[some] = found / power[some]
        row = torch.arange(n_draws * len(x), device=x.device)
        n_patterns = len(row) // 4 if n_pieces > 1 else 0
        losses = []
        for rows, by_piece in ((row[n_patterns:] % len(x), False), (row[:n_patterns] % len(x), True)):
            if not len(rows):
                continue
            own = (covariances if by_piece else covariances.mean(dim=1, keepdim=True))[rows]
            beside = None
            if added is not None:
                beside = (added if by_piece else added.mean(dim=1, keepdim=True))[rows]
            share = torch.rand((len(own), 1, self.n_bands, 1, 1), generator=generator).to(x.device)
            other = own[torch.randperm(len(own), generator=generator).to(x.device)].mean(dim=1, keepdim=True)
            visible = _draw_visible(len(own), own.shape[1], n_chans, generator).to(positions)
            mixed = share * own + (1 - share) * other
            loss = self.covariance_loss(mixed, visible, positions, x.shape[2] / sfreq, beside)
            losses.append(loss * len(rows) / len(row))
        return torch.stack(losses).sum()

    def covariance_loss(
        self,
        covariances: Tensor,
        visible: Tensor,
        positions: Tensor,
        seconds: float,
        artefacts: Tensor | None = None,
    ) -> Tensor:
        """Compute the same from covariances: prediction is linear in each band, so that they tell the error.

        Parameters
        ----------
        covariances : Tensor, shape (batch, n_pieces, n_bands, n_chans, n_chans)
            True ones, of hidden channels too.
        visible : Tensor, shape (batch, n_pieces, n_chans)
            1 where a channel is visible.
        positions : Tensor, shape (n_chans, 6)
            As in :meth:`forward`.
        seconds : float
            Length of a window.
        artefacts : Tensor, shape (batch, n_pieces, n_bands, n_chans, n_chans) | None
            Covariances of what is added to the signal and independent of it: the filter sees both, and is to predict
            the signal.

        Returns
        -------
        error : Tensor, shape ()
            Mean over windows of the sum of squared errors by the sum of squared signal, over bands and hidden channels,
            both in the reference of the mean of the visible ones; for windows with an artefact the logarithm of one
            plus that.
        """
        n_pieces = visible.shape[1]
        each = covariances.new_full((n_pieces,), seconds / n_pieces)
        model = self(covariances if artefacts is None else covariances + artefacts, visible, each, positions)
        by_band = visible.unsqueeze(2).expand(-1, -1, self.n_bands, -1)
        weights, _ = conditional_weights(model.unsqueeze(1).expand_as(covariances), by_band)
        reference = visible_reference(visible).unsqueeze(2)
        missed = reference - weights
        hidden = 1.0 - by_band
        error = (missed @ covariances @ missed.transpose(-1, -2)).diagonal(dim1=-2, dim2=-1) * hidden
        if artefacts is not None:
            error = error + (weights @ artefacts @ weights.transpose(-1, -2)).diagonal(dim1=-2, dim2=-1) * hidden
        target = (reference @ covariances @ reference.transpose(-1, -2)).diagonal(dim1=-2, dim2=-1) * hidden
        ratio = error.sum(dim=(1, 2, 3)) / target.sum(dim=(1, 2, 3)).clamp_min(1e-12)
        if artefacts is not None:
            # An artefact of twenty times the EEG must not count for hundreds of windows.
            corrupted = artefacts.diagonal(dim1=-2, dim2=-1).sum(dim=(1, 2, 3)) > 0
            ratio = torch.where(corrupted, torch.log1p(ratio), ratio)
        return ratio.mean()


def _draw_visible(batch: int, n_pieces: int, n_chans: int, generator: torch.Generator | None) -> Tensor:
    """Draw what is visible, shape (batch, n_pieces, n_chans); at least two channels, and at least one is hidden."""
    order = torch.rand((batch, n_pieces, n_chans), generator=generator).argsort(dim=2).argsort(dim=2)
    if n_pieces == 1:
        count = torch.randint(1, min(_MOST_HIDDEN, n_chans // 2) + 1, (batch, 1, 1), generator=generator)
    else:
        low, high = _SHARES
        share = low + (high - low) * torch.rand((batch, 1, 1), generator=generator)
        spread = torch.randint(-1, 2, (batch, n_pieces, 1), generator=generator)
        count = ((share * n_chans).round().long() + spread).clamp(1, n_chans - 2)
    return (order >= count).float()


def _unit(covariances: Tensor) -> Tensor:
    trace = covariances.diagonal(dim1=-2, dim2=-1).sum(-1)
    return covariances / trace.clamp_min(1e-12)[..., None, None]


def _upper_sphere(n_points: int) -> Tensor:
    """Spread points over the part of the unit sphere that electrodes are on, along a golden spiral."""
    index = torch.arange(n_points, dtype=torch.float64) + 0.5
    height = 1 - 1.25 * index / n_points
    angle = math.pi * (1 + math.sqrt(5)) * index
    radius = torch.sqrt((1 - height**2).clamp_min(0.0))
    return torch.stack((radius * angle.cos(), radius * angle.sin(), height), dim=1).float()
