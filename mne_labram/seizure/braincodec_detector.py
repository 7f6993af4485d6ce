"""A seizure detector on the encoder of a codec, fitted to labelled recordings."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from mne.utils import logger
from torch import nn

from mne_labram.decoding.inference import resolve_model
from mne_labram.models import BrainCodec, BrainCodecForSeizure
from mne_labram.models.braincodec.fusion import ConvolutionFusion
from mne_labram.seizure.augmentation import SeizureAugmentation
from mne_labram.seizure.detector import NeuroStormDetector
from mne_labram.seizure.store import SeizureStore
from mne_labram.signal.contract import SignalContract
from mne_labram.training.settings import TrainingSettings

__all__ = ["BrainCodecDetector", "detector_class"]

# Adam at 1e-3 as published; a small head on a frozen encoder needs neither decay by layer nor a long warm-up.
_SETTINGS: dict[str, Any] = {
    "epochs": 1000,
    "max_steps": 1500,
    "warmup_steps": 50,
    "lr": 1e-3,
    "min_lr": 1e-6,
    "betas": [0.9, 0.999],
    "weight_decay": 0.01,
    "clip_grad": 3.0,
    "log_every": 50,
}
# A simulated seizure covers half of its window or more; all lengths are alike.
_SIMULATED_SHARE = 0.75


def detector_class(model: Any) -> type[NeuroStormDetector]:
    """Return the detector that stands on a model.

    Parameters
    ----------
    model : str | Path | torch.nn.Module
        The name of weights that ship, a checkpoint, or a model.

    Returns
    -------
    cls : type
        :class:`BrainCodecDetector` for a codec and what stands on one,
        :class:`~mne_labram.seizure.detector.NeuroStormDetector` for all others.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If there is no such model.
    """
    module, _ = resolve_model(model)
    return BrainCodecDetector if isinstance(module, BrainCodec | BrainCodecForSeizure) else NeuroStormDetector


class BrainCodecDetector(NeuroStormDetector):
    """A head on a codec's encoder, trained on labelled recordings.

    Parameters
    ----------
    model : str | Path | torch.nn.Module
        The encoder to begin with: the name of weights that ship, a checkpoint, a :class:`~mne_labram.BrainCodec`, or a
        :class:`~mne_labram.BrainCodecForSeizure`, which is trained on with the head it has.
    lengths : tuple of float
        Lengths of training windows in seconds; 4 s as published.
    window, stride : float
        Length and step in seconds of the windows that ``probabilities`` averages. The published step is 1 s.
    augmentation : SeizureAugmentation | None
        What is mixed into training windows. ``None``, as published: nothing, for recordings with seizures enough;
        ``SeizureAugmentation()`` for others. With ``fusion="conv"``, montages are not varied, since it knows one only.
    seizure_share, max_repeats : float
        How often windows with a seizure come; see :class:`~mne_labram.seizure.detector.NeuroStormDetector`.
    class_weights : {"balanced"} | list of float | None
        Weights in the loss of seconds without and with a seizure. ``"balanced"`` weighs seconds with one up by how much
        rarer they are in an epoch, simulated ones among them, at most by ``max_class_weight``; ``None``, as published:
        none.
    max_class_weight : float
        See ``class_weights``.
    tokens_per_batch : int
        Channels times seconds of all windows of a batch.
    settings : TrainingSettings | mapping | None
        How it is trained, as far as it differs from the defaults of this class; see
        :class:`mne_labram.training.settings.TrainingSettings`.
    options : mapping | None
        Arguments of :class:`~mne_labram.BrainCodecForSeizure` beside the encoder's, such as ``fusion``, ``head``,
        ``freeze_encoder`` or ``class_names``.
    batch_size : int
        Windows per forward pass of ``probabilities``.
    precision : {"auto", "float32", "bf16"}
        Number format of ``probabilities``.
    device : str | None
        Where; ``None``: a GPU if there is one for training, and where the model is for scoring.

    Attributes
    ----------
    model_ : BrainCodecForSeizure
        The fitted model: the best on validation recordings, or the last where there are none.

    Raises
    ------
    TypeError
        If the model is neither a codec nor stands on one.
    ValueError
        If an option makes no sense.

    Notes
    -----
    Windows are read from the store when a batch of them is due, so that memory does not grow with the number of
    recordings or subjects; the public training loads every recording of a split into every worker.
    """

    _settings = _SETTINGS

    def __init__(
        self,
        model: Any = "braincodec-tiny",
        *,
        lengths: tuple[float, ...] = (4.0,),
        window: float = 4.0,
        stride: float = 2.0,
        augmentation: SeizureAugmentation | None = None,
        seizure_share: float = 0.1,
        max_repeats: float = 20.0,
        class_weights: str | list[float] | None = "balanced",
        max_class_weight: float = 20.0,
        tokens_per_batch: int = 1216,
        settings: TrainingSettings | Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        batch_size: int = 32,
        precision: str = "auto",
        device: str | None = None,
    ) -> None:
        super().__init__(
            model,
            lengths=lengths,
            window=window,
            stride=stride,
            augmentation=augmentation,
            seizure_share=seizure_share,
            max_repeats=max_repeats,
            tokens_per_batch=tokens_per_batch,
            settings=settings,
            options=options,
            batch_size=batch_size,
            precision=precision,
            device=device,
        )
        if not isinstance(self._start, BrainCodec | BrainCodecForSeizure):
            raise TypeError(
                f"This detector stands on the encoder of a BrainCodec, not of {type(self._start).__name__}."
            )
        if isinstance(class_weights, str) and class_weights != "balanced":
            raise ValueError(f"class_weights must be 'balanced', a list or None, got {class_weights!r}.")
        if not max_class_weight >= 1.0:
            raise ValueError(f"max_class_weight must be at least 1, got {max_class_weight}.")
        self.class_weights, self.max_class_weight = class_weights, max_class_weight
        fresh = self._fresh_model(0)
        self._contract = fresh.contract
        if self.augmentation is not None and isinstance(fresh.fusion, ConvolutionFusion):
            self.augmentation = replace(self.augmentation, variation=None)

    @property
    def contract(self) -> SignalContract:
        """The signal it must be given: that of its encoder, in whole seconds."""
        return self._contract

    def _fresh_model(self, seed: int) -> BrainCodecForSeizure:
        """Put a head onto a copy of the encoder; the caller's random numbers stay what they were."""
        options = dict(self.options or {})
        if isinstance(self._start, BrainCodecForSeizure):
            if options:
                raise ValueError("options are for a codec; this model has a head already.")
            model = copy.deepcopy(self._start)
            # Operating points are those of the weights they were measured with.
            model.detection = None
            return model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            window = round(self.window * self._start.sfreq)
            return BrainCodecForSeizure.from_encoder(self._start, **{"n_times": window, **options})

    def _before_training(self, model: nn.Module, train: SeizureStore) -> None:
        """Weigh classes by how rare they are."""
        weights = self.class_weights
        if weights == "balanced":
            share = self._seizure_share(train)
            if self.augmentation is not None:
                share += (1.0 - share) * self.augmentation.seizure * _SIMULATED_SHARE
            if not share:
                return
            rarer = min((1.0 - share) / share, self.max_class_weight)
            weights = [1.0] + [max(rarer, 1.0)] * (max(2, model.n_outputs) - 1)
            logger.info(f"{100 * share:.3g} % of the seconds of an epoch are of seizures; they weigh {weights[1]:.3g}.")
        if weights is not None:
            model.class_weights = weights

    def _seizure_share(self, store: SeizureStore) -> float:
        """Return which share of the recorded seconds of an epoch are of seizures, repetitions counted."""
        seconds = {"seizure": 0.0, "interictal": 0.0, "background": 0.0}
        windows = dict.fromkeys(seconds, 0)
        ictal = 0
        with_seizures = {store.subject_of(i) for i, table in enumerate(store.tables) if len(table)}
        theirs = np.array([store.subject_of(i) in with_seizures for i in range(len(store))])
        for length in self.lengths:
            table = store.conformed.windows(length)
            n_times = table.n_times
            has = store.has_seizure(table.file, table.start, n_times)
            for name, own in (
                ("seizure", has),
                ("interictal", ~has & theirs[table.file]),
                ("background", ~has & ~theirs[table.file]),
            ):
                windows[name] += int(own.sum())
                seconds[name] += float(own.sum() * n_times) / store.conformed.sfreq
            for file, start in zip(table.file[has].tolist(), table.start[has].tolist(), strict=True):
                ictal += int((store.window_labels(file, start, n_times) != 0).sum())
        repeats = self._weights(windows)
        total = sum(repeats.get(name, 1.0) * each for name, each in seconds.items())
        return repeats.get("seizure", 1.0) * ictal / total if total else 0.0
