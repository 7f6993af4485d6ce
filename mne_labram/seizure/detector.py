"""A seizure detector that is fitted to labelled recordings: NeuroStorm on an encoder that has been trained before."""

from __future__ import annotations

import copy
import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from mne.utils import logger, verbose
from torch import nn

from mne_labram.decoding.inference import ModelRunner, resolve_model
from mne_labram.decoding.second_scores import class_probabilities
from mne_labram.models import NeuroStorm
from mne_labram.models.neurostorm import UNKNOWN_TYPE
from mne_labram.seizure.augmentation import SeizureAugmentation
from mne_labram.seizure.event_types import known_type
from mne_labram.seizure.store import SeizureStore
from mne_labram.signal.contract import SignalContract
from mne_labram.signal.events import SecondAccumulator
from mne_labram.signal.vocabulary import DOUBLE_BANANA, TEN_TWENTY
from mne_labram.training.batches import WindowBatches
from mne_labram.training.pretrain import pretrain
from mne_labram.training.settings import TrainingSettings
from mne_labram.weights.checkpoint import load_checkpoint

__all__ = ["NeuroStormDetector", "SeizureDetector", "store_probabilities"]

_BATCH = 32
_AUGMENTATION = SeizureAugmentation()
# What a training of some thousand windows on an encoder that knows EEG takes on two cores.
_SETTINGS: dict[str, Any] = {
    "epochs": 1000,
    "max_steps": 1500,
    "warmup_steps": 100,
    "lr": 5e-4,
    "min_lr": 1e-6,
    "betas": [0.9, 0.98],
    "weight_decay": 0.05,
    "clip_grad": 3.0,
    "layer_decay": 0.8,
    "log_every": 50,
}


class SeizureDetector(Protocol):
    """What can be evaluated: anything that is fitted to recordings and gives one number per second."""

    contract: SignalContract

    def fit(
        self, train: SeizureStore, validation: SeizureStore | None = None, *, folder: Path | None = None, seed: int = 0
    ) -> Self:
        """Fit, and keep what is best on the validation recordings.

        Parameters
        ----------
        train : SeizureStore
            What it learns from.
        validation : SeizureStore | None
            Other subjects, which decide when to stop.
        folder : Path | None
            Where it may keep files.
        seed : int
            Of everything random.

        Returns
        -------
        detector : SeizureDetector
            Itself.
        """

    def probabilities(self, store: SeizureStore, file: int) -> np.ndarray:
        """Score a recording.

        Parameters
        ----------
        store : SeizureStore
            The recordings.
        file : int
            Which of them.

        Returns
        -------
        probabilities : ndarray, shape (n_seconds,)
            Between 0 and 1, NaN where not analysed.
        """


class NeuroStormDetector:
    """NeuroStorm, fine-tuned on labelled recordings with simulated seizures and artefacts among them.

    Parameters
    ----------
    model : str | Path | torch.nn.Module
        The encoder to begin with: the name of weights that ship, a checkpoint, or a LaBraM model. A
        :class:`~mne_labram.NeuroStorm` is trained on with the head it has.
    lengths : tuple of float
        Lengths of training windows in seconds.
    window, stride : float
        Length and step in seconds of the windows that :meth:`probabilities` averages.
    augmentation : SeizureAugmentation | None
        What is mixed into training windows; ``None``: nothing, for recordings with seizures enough.
    seizure_share : float
        Windows with a recorded seizure are repeated until they make up this share of all, where there are any, and so
        are the windows without one of the same subjects, since who it is must not tell what it is; at most
        ``max_repeats`` times.
    max_repeats : float
        See ``seizure_share``.
    tokens_per_batch : int
        Channels times seconds of all windows of a batch.
    settings : TrainingSettings | mapping | None
        How it is trained, as far as it differs from the defaults of this class; see
        :class:`mne_labram.training.settings.TrainingSettings`.
    options : mapping | None
        Arguments of :class:`~mne_labram.NeuroStorm` beside the encoder's, such as ``amplitude``, or ``class_names``
        for types of seizures, which tables must name then; simulated seizures are of unknown type.
    batch_size : int
        Windows per forward pass of :meth:`probabilities`.
    precision : {"auto", "float32", "bf16"}
        Number format of :meth:`probabilities`.
    device : str | None
        Where; ``None``: a GPU if there is one for training, and where the model is for scoring.

    Attributes
    ----------
    model_ : NeuroStorm
        The fitted model: the best on validation recordings, or the last where there are none.

    Notes
    -----
    Ours. Its probabilities say how much a second looks like the seizures it was shown, in training windows of which a
    third held one; they are no probabilities of a seizure in a night. A threshold is chosen on other recordings
    (:func:`mne_labram.seizure.calibration.calibrate`).
    """

    # What differs from the defaults of TrainingSettings.
    _settings: Mapping[str, Any] = _SETTINGS

    def __init__(
        self,
        model: Any = "labram-tiny",
        *,
        lengths: tuple[float, ...] = (4.0, 8.0, 16.0),
        window: float = 8.0,
        stride: float = 4.0,
        augmentation: SeizureAugmentation | None = _AUGMENTATION,
        seizure_share: float = 0.1,
        max_repeats: float = 20.0,
        tokens_per_batch: int = 608,
        settings: TrainingSettings | Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        batch_size: int = _BATCH,
        precision: str = "auto",
        device: str | None = None,
    ) -> None:
        if not 0.0 <= seizure_share < 0.5:
            raise ValueError(f"seizure_share must lie between 0 and 0.5, got {seizure_share}.")
        self.model, self.lengths, self.window, self.stride = model, lengths, window, stride
        self.augmentation, self.seizure_share, self.max_repeats = augmentation, seizure_share, max_repeats
        self.tokens_per_batch, self.settings, self.options = tokens_per_batch, settings, options
        self.batch_size, self.precision, self.device = batch_size, precision, device
        self._start, _ = resolve_model(model)

    @property
    def contract(self) -> SignalContract:
        """The signal it must be given: that of its encoder."""
        return self._start.contract

    @verbose
    def fit(
        self,
        train: SeizureStore,
        validation: SeizureStore | None = None,
        *,
        folder: Path | None = None,
        seed: int = 0,
        verbose: bool | str | int | None = None,
    ) -> Self:
        """Train on recordings.

        Parameters
        ----------
        train : SeizureStore
            What it learns from.
        validation : SeizureStore | None
            Recordings of other subjects; the weights with the smallest loss on them are kept.
        folder : Path | None
            Gets logs, checkpoints and weights; a training that was interrupted goes on from there. ``None``: nothing is
            kept.
        seed : int
            Of everything random.
        verbose : bool | str | int | None
            Control verbosity of the logging output.

        Returns
        -------
        detector : NeuroStormDetector
            Itself.

        Raises
        ------
        ValueError
            If the recordings were made for another contract, a subject is on both sides, there is nothing to learn (no
            seizure, neither recorded nor simulated), or the folder holds a training on other recordings or labels.
        """
        self._check(train)
        if validation is not None and (both := sorted(set(train.subjects) & set(validation.subjects))):
            raise ValueError(f"{', '.join(both)} is in training and validation; a subject must be on one side only.")
        simulated = self.augmentation is not None and self.augmentation.seizure > 0.0
        if not train.n_seizures and not simulated:
            raise ValueError(
                "There is no seizure to learn from; give recordings with seizures, or let them be simulated "
                "(augmentation=SeizureAugmentation())."
            )
        with tempfile.TemporaryDirectory() as temporary:
            self._fit(train, validation, Path(temporary) if folder is None else Path(folder), seed)
        return self

    def _fit(self, train: SeizureStore, validation: SeizureStore | None, folder: Path, seed: int) -> None:
        model = self._fresh_model(seed)
        names, mixture = self._classes(model), self.augmentation
        if mixture is not None and len(names) > 2:
            mixture = replace(mixture, label=UNKNOWN_TYPE)
        batches = self._batches(train, mixture, seed, names)
        held_out = None
        if validation is not None:
            calm = None if mixture is None else SeizureAugmentation.for_validation(mixture)
            held_out = self._batches(validation, calm, seed + 1, names, training=False)
        self._before_training(model, train)
        settings = self.settings
        if not isinstance(settings, TrainingSettings):
            settings = TrainingSettings.from_dict({**self._settings, **(settings or {})})
        logger.info(
            f"{type(model).__name__}: {len(train)} recordings, {batches.n_windows} windows in {len(batches)} batches "
            f"per epoch{'' if held_out is None else f'; {held_out.n_windows} windows to validate on'}."
        )
        if (folder / "final.safetensors").is_file() and not (folder / "checkpoints").is_dir():
            raise ValueError(f"{folder} holds weights already; give another folder.")
        pretrain(
            model,
            batches,
            folder,
            settings=settings,
            seed=seed,
            validation=held_out,
            resume=(folder / "checkpoints").is_dir(),
            device=self.device,
            # Windows are known by their places only: those of somebody else, or with other labels, may look the same.
            config={"recordings": _digest(train), "validation": None if validation is None else _digest(validation)},
        )
        best, final = folder / "best.safetensors", folder / "final.safetensors"
        # Where the time was up within the first epoch, nothing was validated.
        self.model_ = load_checkpoint(best if held_out is not None and best.is_file() else final)

    def _before_training(self, model: nn.Module, train: SeizureStore) -> None:
        """Tell the model what follows from the recordings."""

    def _fresh_model(self, seed: int) -> nn.Module:
        """Put a head onto a copy of the encoder; the caller's random numbers stay what they were."""
        options = dict(self.options or {})
        if isinstance(self._start, NeuroStorm):
            if options:
                raise ValueError("options are for an encoder; this model is a NeuroStorm already.")
            model = copy.deepcopy(self._start)
            # Operating points are those of the weights they were measured with.
            model.detection = None
            return model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            window = round(self.window * self.contract.sfreq)
            return NeuroStorm.from_encoder(self._start, **{"n_times": window, **options})

    @staticmethod
    def _classes(model: nn.Module) -> list[str]:
        """Name the classes that recordings are labelled with."""
        names = model.class_names or []
        if len(names) != max(2, model.n_outputs) or any(known_type(name) is None for name in names):
            raise ValueError(
                "The outputs must be named as SzCORE names the background and types of seizures, such as "
                "options={'class_names': ['bckg', 'sz_foc', 'sz_gen']}."
            )
        return [str(known_type(name)) for name in names]

    def _batches(
        self,
        store: SeizureStore,
        augmentation: SeizureAugmentation | None,
        seed: int,
        class_names: Sequence[str] = ("bckg", "sz"),
        *,
        training: bool = True,
    ) -> WindowBatches:
        """Cut recordings into windows with labels, those with a seizure more often."""
        with_seizures = {store.subject_of(i) for i, table in enumerate(store.tables) if len(table)}
        theirs = np.array([store.subject_of(i) in with_seizures for i in range(len(store))])

        def groups(file: np.ndarray, start: np.ndarray, n_times: int) -> np.ndarray:
            same = np.where(theirs[file], "interictal", "background")
            return np.where(store.has_seizure(file, start, n_times), "seizure", same)

        options: dict[str, Any] = {
            "lengths": self.lengths,
            "tokens_per_batch": self.tokens_per_batch,
            "groups": groups,
            "labels": lambda file, start, n_times: store.window_labels(file, start, n_times, class_names),
            "augment": augmentation,
            "shuffle": training,
            "seed": seed,
        }
        if not training:
            return WindowBatches(store.conformed, **options)
        counts: dict[str, int] = {"seizure": 0, "interictal": 0, "background": 0}
        for seconds in self.lengths:
            table = store.conformed.windows(seconds)
            names = groups(table.file, table.start, table.n_times)
            for name in counts:
                counts[name] += int((names == name).sum())
        return WindowBatches(store.conformed, **options, weights=self._weights(counts))

    def _weights(self, counts: Mapping[str, int]) -> dict[str, float]:
        """Decide how often windows of each group come in an epoch, so that the rare ones get their share."""
        rare = ["seizure", "interictal"] if counts["background"] else ["seizure"]
        plenty = counts["background"] or counts["interictal"]
        wanted = self.seizure_share * plenty / (1.0 - len(rare) * self.seizure_share)
        return {
            name: min(max(wanted / counts[name], 1.0), self.max_repeats) for name in rare if counts[name] and wanted
        }

    def _check(self, store: SeizureStore) -> None:
        """Refuse recordings that were filtered for another model."""
        if store.contract != self.contract:
            raise ValueError(
                f"These recordings were made for {store.contract.name} and not for this detector; open them with "
                "contract=detector.contract."
            )

    def probabilities(self, store: SeizureStore, file: int) -> np.ndarray:
        """Score a recording second by second.

        Parameters
        ----------
        store : SeizureStore
            The recordings.
        file : int
            Which of them.

        Returns
        -------
        probabilities : ndarray, shape (n_seconds,)
            One minus the probability of the background, averaged over the windows that cover a second; NaN where none
            does, because every one would touch an unusable second or a gap.

        Raises
        ------
        ValueError
            If it has not been fitted, or the recordings were made for another contract.
        """
        if not hasattr(self, "model_"):
            raise ValueError("The detector has not been fitted; call fit first.")
        self._check(store)
        return store_probabilities(
            self.model_,
            store,
            file,
            window=self.window,
            stride=self.stride,
            batch_size=self.batch_size,
            precision=self.precision,
            device=self.device,
        )


def _digest(store: SeizureStore) -> str:
    """Return a number for recordings and their seizures."""
    rows = [
        (store.subject_of(file), recording.path.name, [(e.onset, e.duration, e.event_type) for e in table.events])
        for file, (recording, table) in enumerate(zip(store.recordings, store.tables, strict=True))
    ]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def store_probabilities(
    model: nn.Module,
    store: SeizureStore,
    file: int,
    *,
    window: float = 8.0,
    stride: float = 4.0,
    batch_size: int = _BATCH,
    precision: str = "auto",
    device: str | None = None,
) -> np.ndarray:
    """Score a recording of a store with a classifier whose first output is the background.

    Parameters
    ----------
    model : torch.nn.Module
        The classifier.
    store : SeizureStore
        The recordings.
    file : int
        Which of them.
    window, stride : float
        Length and step of windows in seconds. A stretch that is shorter than a window is one window of all the whole
        patches it has.
    batch_size : int
        Windows per forward pass.
    precision : {"auto", "float32", "bf16"}
        Number format.
    device : str | None
        ``None``: where the model is.

    Returns
    -------
    probabilities : ndarray, shape (n_seconds,)
        Between 0 and 1; NaN where no window lies.

    Notes
    -----
    Of a referential recording the electrodes of the 10-20 system are read, of a bipolar one the double banana, as
    :func:`mne_labram.detect_seizures` does, so that a threshold means the same in both; all channels where less than
    half of these are there.
    """
    recording, conformed = store.recordings[file], store.conformed
    sfreq, patch = conformed.sfreq, store.contract.patch_samples
    rows = _montage_rows(recording)
    names = [recording.ch_names[row] for row in rows]
    positions = None if recording.positions is None else recording.positions[rows]
    accumulator = SecondAccumulator(len(recording.unusable), 1)
    bad = np.concatenate([[0], np.cumsum(recording.unusable)])
    runner = ModelRunner(model, names, positions, precision, batch_size, device)
    step = max(1, round(stride * sfreq))
    with runner.running():
        for first, stop in recording.segments:
            length = min(round(window * sfreq), (stop - first) // patch * patch)
            if not length:
                continue
            # On one grid in all segments, as in detection: the second of a seam is unusable, so that a grid which began
            # there would lose its whole first stride. And so that both ends are covered where they can be.
            starts = np.arange(-(-first // step) * step, stop - length + 1, step)
            starts = np.unique(np.concatenate([[first, stop - length], starts])).astype(int)
            begins = (starts / sfreq + 1e-9).astype(int)
            ends = ((starts + length - 1) / sfreq + 1e-9).astype(int)
            starts = starts[bad[ends + 1] == bad[begins]]
            for i in range(0, len(starts), batch_size):
                some = starts[i : i + batch_size]
                x = np.stack([conformed.read(file, start, length)[rows] for start in some])
                out = 1.0 - runner(x, class_probabilities)[..., 0]
                out = np.repeat(out[:, None], length // patch, axis=1) if out.ndim == 1 else out
                seconds = (some[:, None] + patch * np.arange(out.shape[1])) / sfreq
                accumulator.add(seconds.ravel(), patch / sfreq, out.reshape(-1, 1))
    return accumulator.average()[0]


def _montage_rows(recording: Any) -> list[int]:
    """Choose the channels of the standard montage."""
    wanted = {"referential": TEN_TWENTY, "bipolar": DOUBLE_BANANA}.get(recording.montage, ())
    rows = [recording.ch_names.index(name) for name in wanted if name in recording.ch_names]
    return rows if rows and 2 * len(rows) >= len(wanted) else list(range(len(recording.ch_names)))
