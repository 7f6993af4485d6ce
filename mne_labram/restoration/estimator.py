"""Restoration as a scikit-learn transformer."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import mne
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from mne_labram.restoration.hidden import eeg_channels
from mne_labram.restoration.restore import METHODS, calibrate_predictor, gram_restore, make_predictor
from mne_labram.signal.contract import ContractError
from mne_labram.signal.opening import open_recording

__all__ = ["EEGRestorer"]


class EEGRestorer(TransformerMixin, BaseEstimator):
    """Restore bad channels and segments, learning from other recordings of the same channels.

    ``fit`` calibrates the method on what is good of the data, ``transform`` restores with what was learned then. In a
    pipeline, test data are restored by what training data showed.

    Parameters
    ----------
    method : {"gram", "spline", "ridge"}
        What predicts hidden channels, see :func:`mne_labram.gram_restore`.
    model : GramForRestoration | str | Path
        For ``"gram"``.
    picks : "bads" | "all" | str | list of str
        Channels to restore. With arrays, ``"bads"`` and ``"all"`` name none.
    segments : None | "bad annotations" | list of tuple | mne.Annotations | ndarray of bool
        What to restore of them, see :func:`mne_labram.gram_restore`. Arrays are restored where they are NaN, and
        channels that ``picks`` names as a whole.
    calibrate : bool
        Learn from the data given to ``fit``.
    crossfade : float
        Seconds over which what is predicted leads over to what is visible.
    denoise : bool
        Keep of what is restored what agrees with the other channels, see :func:`mne_labram.gram_restore`; not of NaN.
    reset_bads : bool
        Take restored channels out of ``info["bads"]``.
    ch_names : list of str | None
        Channel names of arrays.
    sfreq : float | None
        Sampling rate of arrays in Hz.

    Attributes
    ----------
    predictor_ : ChannelPredictor
        What was calibrated.
    ch_names_ : list of str
        Channels that it was made for.
    sfreq_ : float
        Their sampling rate in Hz.
    calibrated_ : float
        Seconds that it was calibrated on.
    n_features_in_ : int
        Channels of the data given to ``fit``.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from mne_labram import EEGEmbedding
    >>> make_pipeline(EEGRestorer("ridge"), EEGEmbedding("labram-tiny"))  # doctest: +SKIP
    """

    def __init__(
        self,
        method: str = "gram",
        model: Any = "gram-tiny",
        *,
        picks: str | Sequence[str] = "bads",
        segments: Any = None,
        calibrate: bool = True,
        crossfade: float = 0.1,
        denoise: bool = False,
        reset_bads: bool = False,
        ch_names: list[str] | None = None,
        sfreq: float | None = None,
    ) -> None:
        self.method = method
        self.model = model
        self.picks = picks
        self.segments = segments
        self.calibrate = calibrate
        self.crossfade = crossfade
        self.denoise = denoise
        self.reset_bads = reset_bads
        self.ch_names = ch_names
        self.sfreq = sfreq

    def fit(self, X: Any, y: Any = None) -> EEGRestorer:
        """Calibrate the method on what is good of the data.

        Parameters
        ----------
        X : mne.io.Raw | mne.Epochs | ndarray, shape (n_windows, n_chans, n_times)
            MNE objects in volts; arrays in microvolts, with ``ch_names`` and ``sfreq`` given, NaN where bad.
        y : None
            Ignored.

        Returns
        -------
        self : EEGRestorer
            Fitted.

        Raises
        ------
        ContractError
            If there are no EEG channels with positions.
        TypeError
            If ``X`` is no recording and no array of three dimensions.
        ValueError
            If there is no such method.
        """
        if self.method not in METHODS:
            raise ValueError(f"There is no method {self.method!r}; use one of {', '.join(map(repr, METHODS))}.")
        if self.method == "ridge" and not self.calibrate:
            raise ContractError("method='ridge' knows nothing but what it is fitted to; leave calibrate=True.")
        inst, _ = self._inst(X)
        channels = eeg_channels(inst.info, bipolar=self.method == "gram")
        sfreq = float(inst.info["sfreq"])
        predictor = make_predictor(self.method, channels, sfreq, self.model)
        self.calibrated_ = calibrate_predictor(inst, channels, predictor) if self.calibrate else 0.0
        self.predictor_ = predictor
        self.ch_names_, self.sfreq_ = list(channels.names), sfreq
        self.n_features_in_ = len(inst.ch_names)
        return self

    def transform(self, X: Any) -> Any:
        """Restore data with what was learned.

        Parameters
        ----------
        X : mne.io.Raw | mne.Epochs | ndarray, shape (n_windows, n_chans, n_times)
            Of the same channels and sampling rate as in ``fit``.

        Returns
        -------
        restored : mne.io.Raw | mne.Epochs | ndarray
            Of the kind of ``X``; a copy, or ``X`` itself where there is nothing to restore.

        Raises
        ------
        ContractError
            If channels or sampling rate are others than in ``fit``, or what is asked for cannot be restored.
        """
        check_is_fitted(self, "predictor_")
        inst, lacking = self._inst(X)
        channels = eeg_channels(inst.info, bipolar=self.method == "gram")
        sfreq = float(inst.info["sfreq"])
        if channels.names != self.ch_names_ or sfreq != self.sfreq_:
            raise ContractError(
                f"These are {len(channels.names)} channels at {sfreq:g} Hz ({', '.join(channels.names)}), and the "
                f"restorer was fitted to {len(self.ch_names_)} at {self.sfreq_:g} Hz ({', '.join(self.ch_names_)})."
            )
        picks, segments = self.picks, self.segments
        if lacking is not None:
            picks, segments = "all", lacking
        if self._is_nothing(inst, picks, segments):
            return X.copy() if isinstance(X, np.ndarray) else inst
        out = gram_restore(
            inst,
            picks,
            segments,
            method=deepcopy(self.predictor_),
            calibrate=False,
            crossfade=self.crossfade,
            denoise=self.denoise,
            reset_bads=self.reset_bads,
        )
        if lacking is None:
            return out
        restored = out.get_data(copy=False) * 1e6
        return np.where(np.isfinite(X) & ~self._named(inst)[:, None], X, restored).astype(X.dtype)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.no_validation = True
        return tags

    def _named(self, inst: Any) -> np.ndarray:
        names = [] if self.picks in ("bads", "all") else self.picks
        names = [names] if isinstance(names, str) else list(names)
        unknown = [name for name in names if name not in inst.ch_names]
        if unknown:
            raise ContractError(f"There is no channel {unknown[0]!r}; the channels are {', '.join(inst.ch_names)}.")
        return np.isin(inst.ch_names, names)

    def _inst(self, X: Any) -> tuple[Any, list[tuple] | None]:
        """Return an MNE object, and what is to be restored of an array."""
        if isinstance(X, (list, tuple)) and X and all(isinstance(each, mne.BaseEpochs) for each in X):
            # What scikit-learn's cross-validation makes of Epochs: a list with one for each index.
            X = mne.concatenate_epochs(list(X), add_offset=False, verbose="error")
        if not isinstance(X, np.ndarray):
            return open_recording(X), None
        if X.ndim != 3 or not np.issubdtype(X.dtype, np.floating):
            raise TypeError(
                f"Arrays need the shape (n_windows, n_chans, n_times) and real numbers, got {X.dtype} of {X.shape}."
            )
        if self.ch_names is None or self.sfreq is None:
            raise ContractError("An array says nothing of its channels; pass ch_names and sfreq.")
        if len(self.ch_names) != X.shape[1]:
            raise ContractError(f"There are {len(self.ch_names)} names for {X.shape[1]} channels; give one for each.")
        info = mne.create_info(list(self.ch_names), float(self.sfreq), "eeg", verbose="error")
        inst = mne.EpochsArray(X.astype(float) * 1e-6, info, verbose="error")
        named = self._named(inst)
        lacking = []
        for window, x in enumerate(X):
            bad = ~np.isfinite(x) | named[:, None]
            for row in np.flatnonzero(bad.any(axis=1)).tolist():
                edges = np.flatnonzero(np.diff(np.concatenate([[0], bad[row].astype(np.int8), [0]])))
                for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
                    seconds = (start / self.sfreq, (stop - start) / self.sfreq)
                    lacking.append((window, *seconds, [self.ch_names[row]]))
        return inst, lacking

    @staticmethod
    def _is_nothing(inst: Any, picks: Any, segments: Any) -> bool:
        """Tell whether good data were given, which need no restoring."""
        if segments is None:
            return isinstance(picks, str) and picks == "bads" and not inst.info["bads"]
        if isinstance(segments, str):
            table = inst.annotations
            return table is None or not any(text.upper().startswith("BAD") for text in table.description)
        return len(segments) == 0 or (isinstance(segments, np.ndarray) and not segments.any())
