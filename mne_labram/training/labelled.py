"""What labelled windows say of themselves: channels, length, classes, subjects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from mne import BaseEpochs, concatenate_epochs
from skorch.helper import SliceDataset
from skorch.utils import is_dataset

from mne_labram.signal.conform import conform_epochs_array
from mne_labram.signal.contract import ContractError, SignalContract
from mne_labram.signal.windows import window_length

__all__ = ["as_epochs", "class_labels", "conformed_epochs", "described_windows", "subjects_of"]

# Peak in microvolts below which windows cannot be EEG but may be volts.
_VOLTS_PEAK = 0.01
# Windows that are looked at to tell volts from microvolts.
_N_LOOKED_AT = 4


def as_epochs(X: Any) -> Any:
    """Put together what scikit-learn's cross-validation makes of Epochs: a list with one for each index.

    Parameters
    ----------
    X : Any
        Windows.

    Returns
    -------
    X : Any
        Epochs if it was such a list; otherwise what it was.
    """
    if isinstance(X, (list, tuple)) and X and all(isinstance(each, BaseEpochs) for each in X):
        return concatenate_epochs(list(X), add_offset=False, verbose="error")
    return X


def conformed_epochs(
    epochs: BaseEpochs,
    contract: SignalContract,
    *,
    ch_names: Sequence[str] | None,
    line_freq: float | None,
    assume_unit: str | None,
    every: bool = False,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Make Epochs into what a model takes.

    Parameters
    ----------
    epochs : mne.Epochs
        In volts.
    contract : SignalContract
        The model's.
    ch_names : sequence of str | None
        Channels to keep; ``None``: all that have an embedding.
    line_freq, assume_unit
        See :func:`mne_labram.conform`.
    every : bool
        Ask for every one of ``ch_names``.

    Returns
    -------
    X : ndarray of float32, shape (n_epochs, n_chans, n_times)
        Microvolts, whole patches.
    found : dict
        ``ch_names`` and ``n_times``.

    Raises
    ------
    ContractError
        If they cannot be made into that, an epoch holds unusable seconds, or a channel that is asked for is missing.
    """
    data, report = conform_epochs_array(
        epochs,
        contract,
        line_freq=line_freq,
        assume_unit=assume_unit,
        ch_names=None if ch_names is None else list(ch_names),
    )
    unusable = int((~report.usable_epochs).sum())
    if unusable:
        raise ContractError(
            f"{unusable} of {len(data)} epochs hold unusable seconds; drop them first (mne_labram.check shows which)."
        )
    if every and report.missing_channels:
        raise ContractError(
            f"The epochs lack {len(report.missing_channels)} of the {len(ch_names)} channels that the classifier was "
            f"trained on ({', '.join(report.missing_channels[:5])}); train one on the channels that there are."
        )
    length = window_length(contract, data.shape[2], data.shape[2])
    return data[:, :, :length], {"ch_names": list(report.ch_names), "n_times": length}


def described_windows(X: Any, contract: SignalContract, *, ch_names: Sequence[str] | None) -> dict[str, Any]:
    """Read off an array or a data set what a model has to know of it.

    Parameters
    ----------
    X : ndarray, shape (n_windows, n_chans, n_times) | torch.utils.data.Dataset
        Windows in microvolts.
    contract : SignalContract
        The model's.
    ch_names : sequence of str | None
        Channels, where the caller knows them.

    Returns
    -------
    found : dict
        ``ch_names`` (``None`` where nobody says them) and ``n_times``.

    Raises
    ------
    ContractError
        If the windows look like volts, are at another rate, have different channels, or more or fewer than named.
    ValueError, TypeError
        If there are none, or these are no windows.
    """
    by_item = is_dataset(X) or isinstance(X, SliceDataset)
    if by_item:
        shape = tuple(np.shape(_signal(X[0]))) if len(X) else ()
        n_windows, some = len(X), [_signal(X[i]) for i in range(min(_N_LOOKED_AT, len(X)))]
    elif hasattr(X, "shape"):
        shape, n_windows, some = tuple(X.shape[1:]), len(X), X[:_N_LOOKED_AT]
    else:
        raise TypeError(
            "Windows must be mne.Epochs, an array (n_windows, n_chans, n_times) or a data set, got "
            f"{type(X).__name__}; mne_labram.training.annotated_windows makes them of a recording."
        )
    if not n_windows or len(shape) != 2:
        raise ValueError(f"Windows must have the shape (n_windows, n_chans, n_times), got {(n_windows, *shape)}.")
    peak = max(float(np.abs(np.asarray(each)).max()) for each in some)
    if 0 < peak < _VOLTS_PEAK:
        raise ContractError(
            f"The first windows reach {peak:.2g} µV: they look like volts, and the model takes microvolts; multiply "
            "them by 1e6 (in Braindecode: Preprocessor(lambda x: 1e6 * x))."
        )
    if by_item:
        ch_names = _dataset_channels(X, contract) if ch_names is None else ch_names
    if ch_names is not None and len(ch_names) != shape[0]:
        raise ContractError(f"There are {len(ch_names)} channel names for windows of {shape[0]} channels.")
    return {"ch_names": None if ch_names is None else list(ch_names), "n_times": shape[1]}


def class_labels(X: Any, y: Any) -> np.ndarray:
    """Find the class of each window.

    Parameters
    ----------
    X : ndarray | torch.utils.data.Dataset
        Windows.
    y : array-like | None
        Classes; ``None`` where the data set has them.

    Returns
    -------
    labels : ndarray of int64, shape (n_windows,)
        Classes.

    Raises
    ------
    ValueError
        If there is not one for each window.
    TypeError
        If they are not whole numbers.
    """
    if y is None:
        if not is_dataset(X):
            raise ValueError("The classes are missing; pass y.")
        y = _metadata(X, "target")
        if y is None:
            y = [X[i][1] for i in range(len(X))]
    labels = np.asarray(y)
    if labels.dtype.kind in "fO" and bool((labels != labels).any()):
        raise ValueError("Some classes are missing (NaN); leave their windows out.")
    if labels.shape != (len(X),):
        raise ValueError(f"There must be one class per window: {len(X)} windows, classes of shape {labels.shape}.")
    if not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
        raise TypeError(
            f"Classes must be whole numbers from 0, got {labels.dtype}; encode them with "
            "sklearn.preprocessing.LabelEncoder and pass their names as class_names."
        )
    return labels.astype(np.int64)


def subjects_of(X: Any) -> np.ndarray | None:
    """Read the subject of each of Braindecode's windows.

    Parameters
    ----------
    X : Any
        Windows.

    Returns
    -------
    subjects : ndarray of str, shape (n_windows,) | None
        ``None`` where they do not say.
    """
    subjects = _metadata(X, "subject")
    return None if subjects is None else np.asarray(subjects).astype(str)


def _signal(item: Any) -> Any:
    """Take the signal out of an item of a data set: (x, y, ...), or x alone."""
    return item[0] if isinstance(item, (list, tuple)) else item


def _metadata(X: Any, column: str) -> Any:
    """Read a column of what Braindecode knows of its windows, also of some of them."""
    if hasattr(X, "get_metadata"):
        metadata = X.get_metadata()
        return metadata[column].to_numpy() if column in metadata else None
    # A SliceDataset of skorch, which scikit-learn takes apart, or a Subset of torch.
    indices = getattr(X, "indices_", getattr(X, "indices", None))
    if indices is None or not hasattr(X, "dataset"):
        return None
    values = _metadata(X.dataset, column)
    return None if values is None else values[np.asarray(indices)]


def _leaves(dataset: Any) -> Iterator[Any]:
    """Yield the data sets of single recordings inside a data set."""
    if hasattr(dataset, "datasets"):
        for each in dataset.datasets:
            yield from _leaves(each)
    elif hasattr(dataset, "dataset"):
        yield from _leaves(dataset.dataset)
    else:
        yield dataset


def _dataset_channels(dataset: Any, contract: SignalContract) -> list[str] | None:
    """Read the channels of Braindecode's windows, which must be the same in all, at the model's rate."""
    known = None
    for leaf in _leaves(dataset):
        inst = next((getattr(leaf, name) for name in ("raw", "windows") if getattr(leaf, name, None) is not None), None)
        if inst is None:
            return None
        if abs(inst.info["sfreq"] - contract.sfreq) > 1e-3:
            raise ContractError(
                f"The windows have {inst.info['sfreq']:g} samples per second and the model takes {contract.sfreq:g}; "
                "resample the recordings before they are cut."
            )
        names = list(inst.ch_names)
        if known is not None and names != known:
            raise ContractError("The recordings have different channels; pick the same ones, in the same order, first.")
        known = names
    return known
