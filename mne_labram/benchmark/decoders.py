"""The rows of ``mne-labram benchmark decoding``: features and a linear probe, covariances, and networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mne.utils import logger

from mne_labram.benchmark.decoding import DecodingTask
from mne_labram.benchmark.probe import (
    LabelledWindows,
    band_power,
    channel_embedding,
    fitted_decision,
    standardized_by_subject,
)
from mne_labram.benchmark.weights import random_twin
from mne_labram.signal.contract import SignalContract
from mne_labram.training.finetune import finetuner
from mne_labram.weights.pretrained import load_model

__all__ = [
    "BAND_POWER",
    "BASELINE_CONTRACT",
    "FeatureDecoder",
    "NetworkDecoder",
    "TangentDecoder",
    "baseline_decoders",
    "fit_eegnet",
    "fit_finetuner",
    "model_decoders",
]

#: The row that others are compared with.
BAND_POWER = "log band power + LR"
#: How baselines are given the signal.
BASELINE_CONTRACT = SignalContract(name="decoding benchmark", l_freq=0.5, h_freq=45.0, vocabulary=None)

# What learns from windows, classes and subjects, and returns what judges windows.
Fit = Callable[[LabelledWindows, int], Callable[[np.ndarray], np.ndarray]]


class FeatureDecoder:
    """Features of each window, and a logistic regression (:func:`mne_labram.benchmark.probe.probe`).

    Parameters
    ----------
    name : str
        What it is called in tables.
    contract : SignalContract
        How the signal is prepared.
    compute : callable
        ``compute(windows)`` returns features, shape (n_windows, n_features).
    seed : int
        Of principal components.
    """

    def __init__(
        self, name: str, contract: SignalContract, compute: Callable[[LabelledWindows], np.ndarray], seed: int = 0
    ) -> None:
        self.name, self.contract, self.compute, self.seed = name, contract, compute, seed
        # Features do not depend on the fold.
        self._features: dict[str, np.ndarray] = {}

    def decide(self, task: DecodingTask, test: Sequence[str]) -> Mapping[bool, np.ndarray]:
        """Learn from all subjects but some, and judge these; see :class:`mne_labram.benchmark.decoding.Decoder`.

        Parameters
        ----------
        task : DecodingTask
            The windows.
        test : sequence of str
            Who is judged.

        Returns
        -------
        decisions : dict of bool to ndarray
            Transductive: every feature is z-scored within each subject, or run.
        """
        windows = task.windows(self.contract)
        if task.name not in self._features:
            self._features[task.name] = self.compute(windows)
        features, rows = self._features[task.name], np.isin(windows.subjects, test)
        both = {False: features, True: standardized_by_subject(features, windows.subjects)}
        return {kind: _linear(values, windows, rows, task, self.seed) for kind, values in both.items()}


class TangentDecoder:
    """Covariances within bands, in the tangent space at their Riemannian mean, and a logistic regression.

    Parameters
    ----------
    contract : SignalContract
        How the signal is prepared.
    floor : float
        Added to the variances, in units of their mean. Cleaning took directions out of these recordings, other ones of
        each file, and their tiny variances count in a logarithm as much as large ones; with a floor they do not
        (``shared/reference/baselines.md``, trap 4).

    Notes
    -----
    Barachant et al. 2012, IEEE Trans Biomed Eng 59:920-928, by pyriemann; covariances with the shrinkage of Chen et al.
    2010 (OAS). Transductive: the covariances of each subject are first moved to the identity by their own mean (Zanini
    et al. 2018, IEEE Trans Biomed Eng 65:1107-1116), and features z-scored within each subject.
    """

    def __init__(self, contract: SignalContract = BASELINE_CONTRACT, floor: float = 0.0) -> None:
        self.contract, self.floor = contract, floor
        self.name = "Riemannian tangent space + LR" + (f", floor of {floor:g}" if floor else "")
        self._covariances: dict[str, list[np.ndarray]] = {}

    def decide(self, task: DecodingTask, test: Sequence[str]) -> Mapping[bool, np.ndarray]:
        """Learn from all subjects but some, and judge these; see :class:`mne_labram.benchmark.decoding.Decoder`.

        Parameters
        ----------
        task : DecodingTask
            The windows.
        test : sequence of str
            Who is judged.

        Returns
        -------
        decisions : dict of bool to ndarray
            Inductive and transductive.
        """
        from pyriemann.geometry.base import invsqrtm
        from pyriemann.geometry.mean import mean_riemann
        from pyriemann.geometry.tangentspace import tangent_space

        windows = task.windows(self.contract)
        if task.name not in self._covariances:
            found = _band_covariances(windows, task)
            for each in found:
                level = np.trace(each, axis1=1, axis2=2) / each.shape[-1]
                each += self.floor * level[:, None, None] * np.eye(each.shape[-1])
            self._covariances[task.name] = found
        rows, features = np.isin(windows.subjects, test), {False: [], True: []}
        for covariances in self._covariances[task.name]:
            features[False].append(tangent_space(covariances, mean_riemann(covariances[~rows])))
            moved = np.empty_like(covariances)
            for subject in np.unique(windows.subjects):
                own = windows.subjects == subject
                whitening = invsqrtm(mean_riemann(covariances[own]))
                moved[own] = whitening @ covariances[own] @ whitening
            features[True].append(tangent_space(moved, np.eye(moved.shape[-1])))
        values = {kind: np.concatenate(parts, axis=1) for kind, parts in features.items()}
        values[True] = standardized_by_subject(values[True], windows.subjects)
        return {kind: _linear(each, windows, rows, task) for kind, each in values.items()}


class NetworkDecoder:
    """A network that is trained anew for every fold.

    Parameters
    ----------
    name : str
        What it is called in tables.
    contract : SignalContract
        How the signal is prepared.
    fit : callable
        ``fit(windows, seed)`` trains, and returns what judges windows: ``(n, n_chans, n_times)`` to ``(n,)``.
    seed : int
        Of the training.
    """

    def __init__(self, name: str, contract: SignalContract, fit: Fit, seed: int = 0) -> None:
        self.name, self.contract, self.fit, self.seed = name, contract, fit, seed

    def decide(self, task: DecodingTask, test: Sequence[str]) -> Mapping[bool, np.ndarray]:
        """Train on all subjects but some, and judge these; see :class:`mne_labram.benchmark.decoding.Decoder`.

        Parameters
        ----------
        task : DecodingTask
            The windows.
        test : sequence of str
            Who is judged.

        Returns
        -------
        decisions : dict of bool to ndarray
            Transductive: the network's judgements are z-scored within each subject, and the threshold is the one that
            fits the training subjects then; the order of a subject's windows is the same in both.
        """
        windows = task.windows(self.contract)
        rows = np.isin(windows.subjects, test)
        training = LabelledWindows(
            windows.x[~rows], windows.y[~rows], windows.subjects[~rows], windows.ch_names, windows.sfreq
        )
        values = np.asarray(self.fit(training, self.seed)(windows.x), dtype=float)[:, None]
        moved = standardized_by_subject(values, windows.subjects)
        return {False: values[rows, 0], True: _linear(moved, windows, rows, task)}


def _linear(
    values: np.ndarray, windows: LabelledWindows, rows: np.ndarray, task: DecodingTask, seed: int = 0
) -> np.ndarray:
    """Fit a logistic regression to the other rows, and judge these."""
    groups = task.groups(windows)[~rows]
    return fitted_decision(values[~rows], windows.y[~rows], groups, values[rows], seed=seed)


def _band_covariances(windows: LabelledWindows, task: DecodingTask) -> list[np.ndarray]:
    """Covariances of every window in every band."""
    from pyriemann.geometry.covariance import covariances
    from scipy.signal import butter, sosfiltfilt

    names = task.band_channels or windows.ch_names
    picks = [windows.ch_names.index(name) for name in names]
    found = []
    for low, high in task.bands:
        sos = butter(4, (low, high), "bandpass", fs=windows.sfreq, output="sos")
        filtered = sosfiltfilt(sos, windows.x[:, picks].astype(float), axis=-1)
        found.append(covariances(filtered, estimator="oas"))
    return found


def baseline_decoders(*, epochs: int = 30, seed: int = 0) -> list[Any]:
    """Return what has to be beaten.

    Parameters
    ----------
    epochs : int
        Passes of EEGNet.
    seed : int
        Of what is random.

    Returns
    -------
    decoders : list of Decoder
        Log band power, tangent space without and with a floor, EEGNet.
    """
    return [
        FeatureDecoder(BAND_POWER, BASELINE_CONTRACT, band_power, seed),
        TangentDecoder(),
        TangentDecoder(floor=0.1),
        NetworkDecoder("EEGNet", BASELINE_CONTRACT, lambda windows, own: fit_eegnet(windows, own, epochs=epochs), seed),
    ]


def model_decoders(
    models: Sequence[str], *, epochs: int = 3, seed: int = 0, fine_tune: bool = True, n_twins: int = 1
) -> tuple[list[Any], list[str]]:
    """Return the rows of our models: probes and full fine-tuning, of trained and of fresh weights.

    Parameters
    ----------
    models : sequence of str
        Names of weights that ship, or checkpoints.
    epochs : int
        Passes of fine-tuning.
    seed : int
        Of what is random.
    fine_tune : bool
        Also train everything.
    n_twins : int
        Networks of fresh weights that are probed for each model.

    Returns
    -------
    decoders : list of Decoder
        The rows.
    notes : list of str
        A sentence for each model that is not there, or hears more than 45 Hz elsewhere.
    """
    decoders: list[Any] = []
    notes: list[str] = []
    for name in models:
        try:
            model = load_model(name)
        except (ValueError, OSError) as error:
            notes.append(f"Without {name}: {error}")
            logger.info(notes[-1])
            continue
        if model.contract.h_freq is None or model.contract.h_freq > 45.0:
            notes.append(
                f"{name} was trained on up to {model.contract.h_freq or model.contract.sfreq / 2:g} Hz, and gets a "
                "signal low-passed at 45 Hz here."
            )
        twins = {f"{name}, fresh weights (seed {own})": random_twin(model, own) for own in range(seed, seed + n_twins)}
        for label, network in {name: model, **twins}.items():
            decoders.append(FeatureDecoder(f"{label}: probe", model.contract, _embedding(network), seed))
        if fine_tune:
            # What is fresh shall not be slower below than above.
            for label, network, decay in (
                (name, model, 0.65),
                (f"{name}, fresh weights", random_twin(model, seed), 1.0),
            ):
                decoders.append(
                    NetworkDecoder(f"{label}: fine-tuned", model.contract, _tuned(network, epochs, decay), seed)
                )
    return decoders, notes


def _embedding(network: Any) -> Callable[[LabelledWindows], np.ndarray]:
    return lambda windows: channel_embedding(network, windows)


def _tuned(network: Any, epochs: int, layer_decay: float) -> Fit:
    return lambda windows, seed: fit_finetuner(network, windows, seed, epochs=epochs, layer_decay=layer_decay)


def fit_finetuner(
    model: Any,
    windows: LabelledWindows,
    seed: int,
    *,
    epochs: int = 3,
    min_steps: int = 40,
    max_windows: int = 600,
    layer_decay: float = 0.65,
    batch_size: int = 32,
) -> Callable[[np.ndarray], np.ndarray]:
    """Fine-tune a model with all of its weights (:func:`mne_labram.training.finetune.finetuner`).

    Parameters
    ----------
    model : torch.nn.Module
        Where training starts from.
    windows : LabelledWindows
        What is learnt.
    seed : int
        Of the training.
    epochs : int
        Passes; the last weights are taken, since so few passes need no early stopping.
    min_steps : int
        More passes where that would be fewer steps.
    max_windows : int
        Of more windows, so many are taken by chance, the same number of both classes.
    layer_decay : float
        Ratio of the learning rates of neighbouring layers.
    batch_size : int
        Windows per step.

    Returns
    -------
    judge : callable
        Windows to the logarithm of the odds of class 1.
    """
    rows = _balanced(windows.y, max_windows, seed)
    classifier = finetuner(
        model,
        n_outputs=2,
        preset="full",
        ch_names=windows.ch_names,
        layer_decay=layer_decay,
        batch_size=batch_size,
        max_epochs=_passes(epochs, min_steps, len(rows), batch_size),
        validation=None,
        early_stopping=False,
        seed=seed,
        device="cpu",
        verbose=0,
    )
    classifier.fit(windows.x[rows], windows.y[rows])

    def judge(x: np.ndarray) -> np.ndarray:
        chances = np.clip(classifier.predict_proba(x), 1e-9, 1.0)
        return np.log(chances[:, 1]) - np.log(chances[:, 0])

    return judge


def fit_eegnet(
    windows: LabelledWindows,
    seed: int,
    *,
    epochs: int = 30,
    min_steps: int = 100,
    batch_size: int = 64,
    lr: float = 1e-3,
) -> Callable[[np.ndarray], np.ndarray]:
    """Train EEGNet (Lawhern et al. 2018, J Neural Eng 15:056013), as Braindecode has it.

    Parameters
    ----------
    windows : LabelledWindows
        What is learnt; every second sample is taken, which is enough below 45 Hz.
    seed : int
        Of weights and order.
    epochs, min_steps : int
        See :func:`fit_finetuner`.
    batch_size : int
        Windows per step.
    lr : float
        Highest learning rate of AdamW, with a cosine down to zero.

    Returns
    -------
    judge : callable
        Windows to the logarithm of the odds of class 1.
    """
    from braindecode.models import EEGNet

    # Of the training windows, so that one number does for everybody.
    scale = float(np.median(np.abs(windows.x))) / 0.6745 or 1.0
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        prepared = _halved(windows.x, scale)
        # With the constraint on its last layer that it was published with.
        network = EEGNet(
            n_chans=prepared.shape[1],
            n_outputs=2,
            n_times=prepared.shape[2],
            sfreq=windows.sfreq / 2,
            final_layer_with_constraint=True,
        )
        labels = torch.as_tensor(windows.y)
        weight = len(labels) / (2.0 * torch.bincount(labels, minlength=2).clamp_min(1))
        passes = _passes(epochs, min_steps, len(labels), batch_size)
        optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01)
        per_pass = -(-len(labels) // batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, passes * per_pass)
        network.train()
        for _ in range(passes):
            for rows in torch.randperm(len(labels)).split(batch_size):
                loss = torch.nn.functional.cross_entropy(network(prepared[rows]), labels[rows], weight)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    network.eval()

    def judge(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits = torch.cat([network(part) for part in _halved(x, scale).split(batch_size)])
        return (logits[:, 1] - logits[:, 0]).numpy()

    return judge


def _halved(x: np.ndarray, scale: float) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(x[..., ::2]) / scale, dtype=torch.float32)


def _balanced(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw rows of at most so many windows, at most half of them of each class; all of them if they are no more."""
    if len(y) <= n:
        return np.arange(len(y))
    rng = np.random.default_rng(seed)
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(y == label))[: n // 2] for label in (0, 1)]))


def _passes(epochs: int, min_steps: int, n_windows: int, batch_size: int) -> int:
    return max(epochs, -(-min_steps // -(-n_windows // batch_size)))
