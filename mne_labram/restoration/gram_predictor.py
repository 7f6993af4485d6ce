"""Hidden channels as Gram's spatial filter predicts them: from where they are, and from what is visible of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mne_labram.decoding.inference import resolve_model
from mne_labram.nn.conditional import expected_covariance
from mne_labram.restoration.bands import BAND_EDGES, BandCovariances, constant_runs, split_bands
from mne_labram.restoration.denoising import (
    TYPICAL_SPREAD,
    expected_level,
    running_power,
    typical_levels,
    visible_power,
    wiener,
)
from mne_labram.restoration.predictors import check_two_visible, checked_signal
from mne_labram.restoration.solving import solve_patterns, unit_trace
from mne_labram.signal.contract import ContractError

__all__ = ["GramPredictor"]

# Seconds of the windows that the filter adapts to, of the shortest piece of one that says something about slow bands,
# and of the average that the error is rated over.
_WINDOW, _SHORTEST, _RATED_OVER = 8.0, 1.0, 1.0
# Where the believed channels have so many times the power that they have on average in the good stretches of the
# recording, or are so many standard deviations above a typical spectrum, they are not taken at their word: EEG varies
# as well, but little is lost by that. In a stretch of that many seconds it must be twice as many times.
_MORE_THAN_KNOWN, _MORE_THAN_TYPICAL, _STRETCH = 1.7, 3.5, 1.0
# As a multiple of that, by the power over a second, what is reported. Of 395 windows (8 s) of subjects 00 to 17 of
# EEGMAT at rest, 7 % are taken for such calibrated and 1 % without; 5 % and 1 % are reported.
_REPORTED = 3.0
# Seconds of good stretches that are enough to go by, and bands that are too few to have a typical spectrum.
_KNOWN, _FEW_BANDS = 8.0, 3
# A band of less than this share of the power is none.
_SILENT = 1e-5
# µV²; less is no signal.
_SMALLEST = 1e-12
# Expected squared errors of what is kept, times this: they were half of the real ones on subjects 2, 8, 14 of EEGMAT.
_MISFIT = 2.0
# What is hidden is filled, divided into bands, and predicted anew: bands of visible samples near it change by that.
_ROUNDS = 2
# Seconds of the rest of the recording that count: more would outweigh the window at hand without end.
_MOST_CALIBRATION = 120.0
# After so many seconds of calibration the model counts for half of what it does without: a recording knows its own
# electrodes best, above all where channels depend on one another (ICA leaves such). Chosen on subjects 6 to 11 of
# EEGMAT, where 1.5 to 0.2 s do equally well.
_TRUST = 1.5
# Rounds of the EM algorithm: with half of the patches hidden, four leave 4 % less error than two.
_EM_ROUNDS = 4


@dataclass(frozen=True)
class _Shared:
    """An artefact in most channels.

    Attributes
    ----------
    covariances : ndarray, shape (n_bands, n_channels, n_channels)
        Of EEG without it, µV².
    bands : ndarray of bool, shape (n_bands,)
        Where it is.
    when : ndarray of bool, shape (n_times,)
        Samples.
    """

    covariances: np.ndarray
    bands: np.ndarray
    when: np.ndarray


class GramPredictor:
    """Predict hidden samples with the spatial filter of a :class:`~mne_labram.models.gram.GramForRestoration`.

    Parameters
    ----------
    ch_names : sequence of str
        Channel names.
    positions : ndarray, shape (n_channels, 3) or (n_channels, 6)
        Head coordinates in metres; of anode and cathode where channels are bipolar.
    sfreq : float
        Sampling rate in Hz, any: weights are found per band and act on the signal as it was recorded.
    model : GramForRestoration | str | path-like
        The model, a checkpoint file, or a name of :func:`mne_labram.list_pretrained`.

    Attributes
    ----------
    in_most : ndarray of bool, shape (n_times,)
        Samples of the last prediction at which most channels hold an artefact; looked for beside doubtful ones only.

    Raises
    ------
    ContractError
        If a position is missing, or the model has no spatial filter.
    """

    def __init__(
        self, ch_names: Sequence[str], positions: np.ndarray, sfreq: float, *, model: Any = "gram-tiny"
    ) -> None:
        self.ch_names, self.sfreq = list(ch_names), float(sfreq)
        positions = np.asarray(positions, float)
        if positions.shape == (len(self.ch_names), 3):
            positions = np.hstack([positions, positions])
        if positions.shape != (len(self.ch_names), 6) or not np.isfinite(positions).all():
            raise ContractError(
                f"Every one of the {len(self.ch_names)} channels needs a position (x, y, z) in metres; set a montage."
            )
        if not self.sfreq > 0:
            raise ContractError(f"The sampling rate must be positive, got {sfreq:g} Hz.")
        found, _ = resolve_model(model)
        spatial_filter = getattr(found, "spatial_filter", None)
        if spatial_filter is None:
            raise ContractError(
                f"{type(found).__name__} has no spatial filter, so it cannot restore; take gram-tiny, or train a "
                "GramForRestoration with spatial_filter={}."
            )
        if tuple(spatial_filter.band_edges) != BAND_EDGES:
            raise ContractError(
                f"The spatial filter of the model has bands from {spatial_filter.band_edges} Hz, and recordings are "
                f"restored in bands from {list(BAND_EDGES)} Hz; train it with these."
            )
        self.filter = spatial_filter.eval()
        self.positions = torch.from_numpy(positions).float()
        #: Channels in the common reference; the others are differences of two electrodes, which have none.
        self.referential = (positions[:, :3] == positions[:, 3:]).all(axis=1)
        self._observed = BandCovariances(len(self.ch_names), self.sfreq)
        self.in_most = np.zeros(0, bool)
        self._calibrated: tuple[np.ndarray, list[np.ndarray], list[np.ndarray], list[float]] | None = None
        self.n_bands = min(len(self._observed.edges), self.filter.n_bands)

    def observe(self, x: np.ndarray, hidden: np.ndarray) -> None:
        """Learn from a stretch of the recording.

        Parameters
        ----------
        x : ndarray, shape (n_channels, n_times)
            Microvolts at the recording's own rate, in its own reference.
        hidden : ndarray of bool, shape (n_channels, n_times)
            Samples that must not be believed.

        Raises
        ------
        ContractError
            If the shapes do not fit, or a visible sample is not finite.
        """
        self._observed.add(*checked_signal(x, hidden, len(self.ch_names)))
        self._calibrated = None

    def predict(
        self, x: np.ndarray, hidden: np.ndarray, doubtful: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fill in what is hidden.

        Parameters
        ----------
        x : ndarray, shape (n_channels, n_times)
            Microvolts; anything where hidden.
        hidden : ndarray of bool, shape (n_channels, n_times)
            What to predict.
        doubtful : ndarray of bool, shape (n_channels, n_times) | None
            Samples among the hidden ones that hold the signal and an artefact: what they show is kept but for the
            artefact, band by band (:func:`~mne_labram.restoration.denoising.wiener`). ``None``: nothing.

        Returns
        -------
        restored : ndarray, shape (n_channels, n_times)
            ``x`` where visible, predictions where hidden, in the reference of ``x``.
        deviation : ndarray, shape (n_channels, n_times)
            Expected standard deviation of the error in microvolts, 0 where visible.

        Raises
        ------
        ContractError
            If the shapes do not fit, a visible sample is not finite, or fewer than two channels are visible.

        Notes
        -----
        Of doubtful channels the difference from the prediction is filtered, of which the conditional covariance is what
        to expect. Where the believed channels have far more power in a band than they should (than on average in what
        was observed, or without that than EEG of a typical spectrum), they are filtered with them, in the covariance of
        what was observed; :attr:`in_most` then says when.
        """
        shown = None
        if doubtful is not None:
            doubtful = np.asarray(doubtful, bool) & np.asarray(hidden, bool)
            shown = np.where(doubtful, x, 0.0)
            if not np.isfinite(shown).all():
                raise ContractError("A doubtful sample is not finite; leave such samples out of what is doubtful.")
        x, hidden = checked_signal(x, hidden, len(self.ch_names))
        deviation, self.in_most = np.zeros_like(x), np.zeros(x.shape[1], bool)
        runs = constant_runs(hidden) if hidden.size else []
        check_two_visible(hidden, runs)
        for start, _ in runs:
            if (hidden[:, start] & self.referential).any() and not (~hidden[:, start] & self.referential).any():
                raise ContractError(
                    "All channels that have a reference are hidden at once, and bipolar ones do not tell what it was; "
                    "restore fewer of them at a time."
                )
        if not hidden.any():
            return x, deviation
        # Without a window's own covariances first: they need a signal without holes.
        x = self._filled(x, hidden, None)[0]
        for _ in range(_ROUNDS - 1):
            x, _ = self._filled(x, hidden, split_bands(x, self.sfreq))
        with_artefact = None
        if shown is not None and doubtful.any():
            with_artefact = doubtful, split_bands(np.where(doubtful, shown, x), self.sfreq)
        return self._filled(x, hidden, split_bands(x, self.sfreq), rated=True, doubtful=with_artefact)

    def _filled(
        self,
        x: np.ndarray,
        hidden: np.ndarray,
        bands: np.ndarray | None,
        *,
        rated: bool = False,
        doubtful: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict once, in overlapping windows that fade into one another; note where most hold an artefact."""
        n_times = x.shape[1]
        out, total, deviation = np.zeros_like(x), np.zeros(n_times), np.zeros_like(x)
        self.in_most = np.zeros(n_times, bool)
        for start, stop, fade in _windows(n_times, self.sfreq):
            part = slice(start, stop)
            total[part] += fade
            if not hidden[:, part].any():
                continue
            own = None if bands is None else bands[..., part]
            doubt = None if doubtful is None else (doubtful[0][:, part], doubtful[1][..., part])
            predicted, expected, shared = self._window(x[:, part], hidden[:, part], own, rated, doubt)
            self.in_most[part] |= shared
            out[:, part] += fade * predicted
            deviation[:, part] += fade * expected
        return np.where(hidden, out / total, x), np.where(hidden, deviation / total, 0.0)

    def _window(
        self,
        x: np.ndarray,
        hidden: np.ndarray,
        bands: np.ndarray | None,
        rated: bool,
        doubtful: tuple[np.ndarray, np.ndarray] | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict what is hidden in one window, from signals divided into bands or as they are.

        Also returns the samples at which most channels see an artefact, as far as that was looked for.
        """
        runs = constant_runs(hidden if doubtful is None else np.vstack([hidden, doubtful[0]]))
        covariances, visible, seconds = self._calibration()
        worth = 1.0 / (1.0 + sum(seconds) / _TRUST)
        if bands is not None:
            for start, stop in runs:
                if (stop - start) / self.sfreq >= min(_SHORTEST, x.shape[1] / self.sfreq):
                    piece = bands[: self.n_bands, :, start:stop]
                    piece = piece - self._common(piece, np.ones(len(x), bool))
                    covariances.append(piece @ piece.transpose(0, 2, 1) / (stop - start))
                    visible.append(~hidden[:, start])
                    seconds.append((stop - start) / self.sfreq)
        model = self._model(covariances, visible, seconds, worth)
        out, deviation, shared = np.zeros_like(x), np.zeros_like(x), np.zeros(x.shape[1], bool)
        signals = x[None] if bands is None else bands
        if bands is None:
            model = (model * self._typical_power(covariances, visible, seconds)).sum(dim=0, keepdim=True)
        solved = solve_patterns(model, [hidden[:, start] for start, _ in runs], self.referential)
        for start, stop in runs:
            off = hidden[:, start]
            if not off.any():
                continue
            weights, unknown = solved[off.tobytes()]
            here = slice(start, stop)
            doubt = None if doubtful is None else doubtful[0][off, start]
            most = None
            if doubt is not None and doubt.any():
                most = self._in_most(signals[: len(weights), :, here], off)
                shared[here] |= most.when
            for index, signal in enumerate(signals[:, :, here]):
                # Bands above those of the model, at high rates, are its last one's.
                own = min(index, len(weights) - 1)
                predicted = weights[own][off] @ signal
                if rated:
                    centred = (signal - self._common(signal, ~off))[~off]
                    power = running_power(centred, self.sfreq, _RATED_OVER).sum(axis=0)
                    variance = unknown[own].diagonal()[off][:, None] * power
                    if most is not None:
                        beside = doubtful[1][index, :, here]
                        if most.bands[own]:
                            predicted, variance = self._unmixed(own, beside, off, doubt, most)
                        else:
                            difference = ((beside - self._common(beside, ~off))[off] - predicted)[doubt]
                            covariance = unknown[own][np.ix_(off, off)][np.ix_(doubt, doubt)]
                            kept, left = self._kept(own, covariance, difference, power)
                            predicted[doubt] += kept
                            variance[doubt] = left
                    deviation[off, here] += variance
                out[off, here] += predicted
            # Predictions are relative to the mean of the visible channels.
            out[off, here] += self._common(x[:, here], ~off)[off]
        return out, np.sqrt(np.maximum(deviation, 0.0)), shared

    def _kept(
        self, band: int, covariance: np.ndarray, difference: np.ndarray, power: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Keep of differences from predictions, of which the covariance is known, what is not too large to be right."""
        size = np.sqrt(np.maximum(power, _SMALLEST))
        mixing, amplitudes, variance = wiener(covariance, difference / size, self.sfreq, self._share(band))
        return size * (mixing @ amplitudes), _MISFIT * power * (np.square(mixing) @ variance)

    def _share(self, band: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda excess: self.filter.kept(torch.from_numpy(excess), band).numpy()

    def _in_most(self, signals: np.ndarray, off: np.ndarray) -> _Shared:
        """Tell in which bands the believed channels have far more power than they should, and when."""
        if self._calibrated is None:
            observed = self._calibration()
            model = self._model(*observed, 1.0 / (1.0 + sum(observed[2]) / _TRUST)).numpy()
            self._calibrated = model, *observed
        model, covariances, visible, seconds = self._calibrated
        power = np.square((signals - self._common(signals, ~off))[:, ~off]).sum(axis=1)
        modelled = visible_power(model, ~off, self.referential)
        if sum(seconds) >= _KNOWN:
            level = expected_level(model, covariances, visible, seconds, self.referential)
            most = np.full(len(level), _MORE_THAN_KNOWN)
        else:
            typical = typical_levels(power.mean(axis=1) / (~off).sum()) * (~off).sum()
            level = typical / np.maximum(modelled, np.finfo(float).tiny)
            most = np.exp(_MORE_THAN_TYPICAL * TYPICAL_SPREAD[: len(level)])
        # Of a short stretch the power says less.
        most = most * (1.0 + _STRETCH * self.sfreq / power.shape[1])
        bound = most * level * modelled
        bands = power.mean(axis=1) > bound
        if bands.any():
            # Artefacts that are large in one band are seldom absent from the next.
            bands = power.mean(axis=1) > bound / np.sqrt(most)
        # Where filters left nothing, rounding varies as it likes.
        bands &= power.mean(axis=1) > _SILENT * power.mean(axis=1).sum()
        if len(model) <= _FEW_BANDS and sum(seconds) < _KNOWN:
            bands[:] = False
        over = running_power(np.sqrt(power[bands]), self.sfreq, _RATED_OVER) > _REPORTED * bound[bands, None]
        return _Shared(model * np.maximum(level, _SILENT * level.max())[:, None, None], bands, over.any(axis=0))

    def _unmixed(
        self, band: int, signal: np.ndarray, off: np.ndarray, doubt: np.ndarray, most: _Shared
    ) -> tuple[np.ndarray, np.ndarray]:
        """Restore channels where all of them hold an artefact; return that with the variance of its error."""
        observed = ~off
        observed[np.flatnonzero(off)[doubt]] = True
        # What the common reference does not reach.
        common = (observed & self.referential)[observed].astype(float)
        complement = np.linalg.svd(common[None])[2]
        contrasts = complement[1:].T if common.any() else complement.T
        expected = contrasts.T @ most.covariances[band][np.ix_(observed, observed)] @ contrasts
        mixing, amplitudes, variance = wiener(expected, contrasts.T @ signal[observed], self.sfreq, self._share(band))
        solved = solve_patterns(torch.from_numpy(most.covariances[band][None]), [~observed], self.referential)
        weights, unknown = solved[(~observed).tobytes()]
        mixing = weights[0][:, observed] @ contrasts @ mixing
        mixing = (mixing - self._common(mixing, ~off))[off]
        power = visible_power(most.covariances[band], observed, self.referential)
        lacking = unknown[0].diagonal()[off][:, None] * power
        return mixing @ amplitudes, _MISFIT * (np.square(mixing) @ variance) + lacking

    def _common(self, signal: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Return the mean of the visible channels that have a reference, for these, and zeros for the others."""
        some = visible & self.referential
        if not some.any():
            return np.zeros_like(signal)
        return self.referential[:, None] * signal[..., some, :].mean(axis=-2, keepdims=True)

    def _calibration(self) -> tuple[list[np.ndarray], list[np.ndarray], list[float]]:
        """Return what was observed, as further pieces; at most two minutes' worth."""
        covariances, visible, seconds = [], [], []
        for seen, duration, own in self._observed.patterns():
            whole = np.zeros((self.n_bands, len(seen), len(seen)))
            rows = np.flatnonzero(seen)
            whole[:, rows[:, None], rows] = own[: self.n_bands]
            covariances.append(whole)
            visible.append(seen)
            seconds.append(duration)
        total = sum(seconds)
        if total > _MOST_CALIBRATION:
            seconds = [each * _MOST_CALIBRATION / total for each in seconds]
        return covariances, visible, seconds

    def _model(
        self, covariances: list[np.ndarray], visible: list[np.ndarray], seconds: list[float], worth: float
    ) -> torch.Tensor:
        """Run the filter; shape (n_bands, n_channels, n_channels), of unit trace in each band."""
        n = len(self.ch_names)
        with torch.inference_mode():
            if not covariances:
                model = self._prior()
            else:
                pieces = np.stack(covariances)
                if self.n_bands < self.filter.n_bands:
                    missing = np.zeros((len(pieces), self.filter.n_bands - self.n_bands, n, n))
                    pieces = np.concatenate([pieces, missing + 1e-9 * np.eye(n)], axis=1)
                scale = np.einsum("pbcc,pc->", pieces, np.stack(visible).astype(float))
                pieces = torch.from_numpy(pieces / max(scale, 1e-30)).float()
                seen = torch.from_numpy(np.stack(visible)).float()
                lengths = torch.tensor(seconds).float()
                if self.referential.all():
                    model = self.filter(
                        pieces[None], seen[None], lengths, self.positions, n_rounds=_EM_ROUNDS, worth=worth
                    )[0]
                else:
                    model = self._updated(pieces, seen, lengths, worth)
        return model[: self.n_bands].double()

    def _prior(self) -> torch.Tensor:
        """Return what is known of channels from where they are.

        Where there are bipolar ones, it is known of electrodes, of which channels are differences: what closes a loop
        (Fp1-F7-T7-P7-O1 and Fp1-F3-C3-P3-O1) is then exact.
        """
        if self.referential.all():
            loadings, log_noise = self.filter.prior(self.positions)
            return unit_trace(loadings @ loadings.transpose(-1, -2) + torch.diag_embed(log_noise.exp()))
        ends = torch.cat((self.positions[:, :3], self.positions[:, 3:]))
        places, which = torch.unique(ends, dim=0, return_inverse=True)
        ends = torch.eye(len(places))[which].unflatten(0, (2, -1))
        bipolar = torch.from_numpy(~self.referential).float()[:, None]
        differences = ends[0] - ends[1] * bipolar
        loadings, log_noise = self.filter.prior(torch.cat((places, places), dim=1))
        electrodes = loadings @ loadings.transpose(-1, -2) + torch.diag_embed(log_noise.exp())
        return unit_trace(differences @ electrodes @ differences.T)

    def _updated(self, pieces: torch.Tensor, seen: torch.Tensor, seconds: torch.Tensor, worth: float) -> torch.Tensor:
        """Add what was observed to the prior, as the filter does, but without its network, which knows references."""
        known = self._prior()
        referential = torch.from_numpy(self.referential).float()
        by_band = seen[:, None].expand(-1, self.filter.n_bands, -1)
        known_for = worth * self.filter.log_worth.exp()[:, None, None]
        samples = (self.filter.samples_per_second * seconds.sum())[:, None, None]
        share = (seconds / seconds.sum())[:, None, None, None]
        model = known
        for _ in range(_EM_ROUNDS):
            expected = expected_covariance(pieces, by_band, model.expand_as(pieces), referential=referential)
            model = (known_for * known + samples * unit_trace((expected * share).sum(dim=0))) / (known_for + samples)
        return model

    def _typical_power(
        self, covariances: list[np.ndarray], visible: list[np.ndarray], seconds: list[float]
    ) -> torch.Tensor:
        """Say how much of the power is in which band, for one prediction of all bands together."""
        if covariances:
            power = sum(
                s * np.einsum("bcc,c->b", c, v.astype(float))
                for c, v, s in zip(covariances, visible, seconds, strict=True)
            )
        else:
            # EEG falls off with frequency.
            power = 1.0 / (1.0 + np.arange(self.n_bands))
        return torch.from_numpy(power / max(power.sum(), 1e-30))[:, None, None]


def _windows(n_times: int, sfreq: float) -> list[tuple[int, int, np.ndarray]]:
    """Cut a stretch into windows of about 8 s with half overlap; weights of each are positive everywhere."""
    length = max(1, round(_WINDOW * sfreq))
    if n_times <= length:
        return [(0, n_times, np.ones(n_times))]
    count = int(np.ceil(2 * (n_times - length) / length)) + 1
    fade = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)) / length
    return [
        (start, start + length, fade) for start in np.linspace(0, n_times - length, count).round().astype(int).tolist()
    ]
