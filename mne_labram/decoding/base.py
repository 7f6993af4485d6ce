"""What the scikit-learn transformers share: input of any kind, one row per window."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from mne import BaseEpochs, concatenate_epochs
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from mne_labram.decoding.inference import ModelRunner, resolve_model
from mne_labram.decoding.windows import SignalOptions, WindowSource, run_windows, window_function, window_source
from mne_labram.signal.contract import ContractError

__all__ = ["EEGTransformer"]


class EEGTransformer(TransformerMixin, BaseEstimator, ABC):
    """Base of :class:`EEGEmbedding` and :class:`EEGTokenizer`: Raw, Epochs or arrays in, a 2-D array out.

    Nothing is learned: ``fit`` loads the model and checks that the data suit it.
    """

    # Set by the subclasses: "embed" or "tokenize", and whether a feature belongs to one channel.
    _kind = ""

    def fit(self, X: Any, y: Any = None) -> EEGTransformer:
        """Load the model and settle the features.

        Parameters
        ----------
        X : mne.Epochs | mne.io.Raw | ndarray, shape (n_windows, n_chans, n_times)
            MNE objects in volts; arrays in microvolts, with ``ch_names`` and ``sfreq`` given.
        y : None
            Ignored.

        Returns
        -------
        self : EEGTransformer
            Fitted.

        Raises
        ------
        ContractError
            If the data cannot be made into what the model takes.
        """
        self._settle(self._source(X, fitting=True))
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> np.ndarray:
        """Fit and transform, reading the data once.

        Parameters
        ----------
        X : mne.Epochs | mne.io.Raw | ndarray, shape (n_windows, n_chans, n_times)
            MNE objects in volts; arrays in microvolts.
        y : None
            Ignored.
        **fit_params : dict
            Ignored.

        Returns
        -------
        out : ndarray, shape (n_windows, n_features)
            One row per window.
        """
        source = self._source(X, fitting=True)
        self._settle(source)
        return self._run(source)

    def transform(self, X: Any) -> np.ndarray:
        """Transform windows.

        Parameters
        ----------
        X : mne.Epochs | mne.io.Raw | ndarray, shape (n_windows, n_chans, n_times)
            MNE objects in volts; arrays in microvolts.

        Returns
        -------
        out : ndarray, shape (n_windows, n_features)
            One row per window.

        Raises
        ------
        ContractError
            If the data cannot be made into what the model takes; if windows hold unusable seconds and
            ``on_unusable="raise"``; if features belong to channels and the channels are not those of ``fit``.
        """
        check_is_fitted(self, "module_")
        return self._run(self._source(X))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns.

        Parameters
        ----------
        input_features : None
            Ignored: the features are not the input's.

        Returns
        -------
        names : ndarray of str, shape (n_features,)
            Column names.
        """
        check_is_fitted(self, "feature_names_")
        return np.asarray(self.feature_names_, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.no_validation = True
        return tags

    # -- what subclasses say ------------------------------------------------------------------------------------------
    def _pooling(self) -> str:
        return "mean"

    @abstractmethod
    def _by_channel(self) -> bool:
        """Tell whether a feature belongs to one channel."""

    def _features(self, out: np.ndarray) -> np.ndarray:
        return out.reshape(len(out), -1)

    @abstractmethod
    def _names(self, ch_names: list[str], shape: tuple[int, ...]) -> list[str]:
        """Name the features of one window of this shape."""

    # -- shared -------------------------------------------------------------------------------------------------------
    def _source(self, X: Any, fitting: bool = False) -> WindowSource:
        if isinstance(X, (list, tuple)) and X and all(isinstance(each, BaseEpochs) for each in X):
            # What scikit-learn's cross-validation makes of Epochs: a list with one for each index.
            X = concatenate_epochs(list(X), add_offset=False, verbose="error")
        if self.on_unusable not in ("raise", "keep"):
            raise ValueError(f"on_unusable must be 'raise' or 'keep', got {self.on_unusable!r}.")
        if fitting:
            module, _ = resolve_model(self.model)
            window_function(module, self._kind, self._pooling())
            self.module_ = module
            names = getattr(X, "ch_names", self.ch_names)
            if names is not None:
                self.n_features_in_ = len(names)
        options = SignalOptions(self.channels, self.match, self.assume_unit, self.line_freq, self.gaps)
        source = window_source(
            X,
            self.module_,
            options,
            window=self.window,
            stride=self.stride,
            ch_names=self.ch_names,
            sfreq=self.sfreq,
        )
        names = list(source.report.ch_names)
        if not fitting and self._by_channel() and (names, source.length) != (self.ch_names_, self.length_):
            raise ContractError(
                f"These windows have {len(names)} channels of {source.length} samples ({', '.join(names)}) and the "
                f"transformer was fitted on {len(self.ch_names_)} of {self.length_} ({', '.join(self.ch_names_)}); "
                "give it the same montage and window, or pool over channels with pooling='mean'."
            )
        return source

    def _runner(self, source: WindowSource) -> ModelRunner:
        report = source.report
        return ModelRunner(
            self.module_, report.ch_names, report.model_positions, self.precision, self.batch_size, self.device
        )

    def _settle(self, source: WindowSource) -> None:
        self.ch_names_ = list(source.report.ch_names)
        self.length_ = source.length
        runner = self._runner(source)
        with runner.running():
            one = runner(
                np.zeros((1, len(self.ch_names_), source.length), np.float32),
                window_function(self.module_, self._kind, self._pooling()),
            )
        self.feature_names_ = self._names(self.ch_names_, one.shape[1:])

    def _run(self, source: WindowSource) -> np.ndarray:
        function = window_function(self.module_, self._kind, self._pooling())
        out, usable = run_windows(source, self._runner(source), function)
        if self.on_unusable == "raise" and not usable.all():
            raise ContractError(
                f"{(~usable).sum()} of {len(usable)} windows hold unusable seconds; drop them (mne_labram.check shows "
                "where) or pass on_unusable='keep' to get NaN or -1 there."
            )
        return self._features(out)
