"""Fine-tuning: a Braindecode ``EEGClassifier`` that starts from pretrained weights and trains as a preset says."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import Any

import torch

from mne_labram.models.labram import LabramForClassification
from mne_labram.training.lora import merge_lora
from mne_labram.training.splits import HoldOut
from mne_labram.training.tuner import WEIGHT_DECAY, FineTuner

__all__ = ["finetuned_model", "finetuner"]


def finetuner(
    model: Any = "labram-tiny",
    n_outputs: int | None = None,
    class_names: Sequence[str] | None = None,
    preset: str = "linear",
    *,
    ch_names: Sequence[str] | None = None,
    last_k: int = 2,
    layer_decay: float = 0.65,
    weight_decay: float = WEIGHT_DECAY,
    lora_rank: int = 8,
    class_weight: Any = "balanced",
    lr: float | None = None,
    batch_size: int = 64,
    max_epochs: int = 50,
    validation: str | None = "subjects",
    validation_size: float = 0.2,
    early_stopping: bool = True,
    patience: int = 8,
    line_freq: float | None = None,
    assume_unit: str | None = None,
    precision: str = "float32",
    device: str | None = None,
    seed: int | None = 0,
    verbose: int = 1,
    **options: Any,
) -> FineTuner:
    """Make a classifier that fine-tunes a pretrained model: ``finetuner(n_outputs=2).fit(epochs, y, groups=subjects)``.

    Parameters
    ----------
    model : LabramForMaskedModeling | LabramForClassification | LabramTokenizer | str | Path
        Where training starts from, at every ``fit`` anew: a name of :func:`mne_labram.list_pretrained`, a checkpoint
        file, or a model, which is not changed.
    n_outputs : int | None
        Number of classes, of a fresh head; ``None``: as many as ``class_names`` or as ``y`` has, or, where ``model``
        is a classifier, its own head with its names.
    class_names : sequence of str | None
        Names of the classes 0, 1, ...; :func:`mne_labram.labram_annotate` writes them.
    preset : {"linear", "last-k", "full", "lora"}
        What is trained beside the head: nothing; the last ``last_k`` blocks and the final norm; everything, with
        learning rates that fall from layer to layer; adapters of rank ``lora_rank`` in every block (needs peft). What
        is not trained stays in evaluation mode.
    ch_names : sequence of str | None
        Channels of the windows. Epochs and Braindecode's windows say them themselves, arrays do not.
    last_k : int
        Number of blocks for ``"last-k"``.
    layer_decay : float
        Ratio of the learning rates of neighbouring layers for ``"full"`` (0.65 for base, 0.8 for large and huge).
    weight_decay : float
        Of AdamW, on matrices only.
    lora_rank : int
        Rank of the adapters for ``"lora"``; they are merged into the weights when training ends.
    class_weight : "balanced" | sequence of float | None
        Weight of each class in the loss. ``"balanced"``: the inverse of its frequency in the windows that are trained
        on, validation left out.
    lr : float | None
        Peak learning rate, after a warm-up over a tenth of ``max_epochs`` and before a cosine down to zero; ``None``:
        5e-3, 5e-4, 5e-4 and 1e-3 for the four presets.
    batch_size, max_epochs : int
        Windows per step, and passes at most.
    validation : {"subjects", "blocks"} | None
        What early stopping looks at: whole subjects of the training data, given as ``groups`` to ``fit`` (Braindecode's
        windows carry them in their description as ``subject``); the last windows of each class, which is also what
        happens where there are no groups; or nothing.
    validation_size : float
        Part of the training windows, about.
    early_stopping : bool
        Stop when the validation loss has not fallen for ``patience`` passes. With validation, the weights of the best
        pass are restored either way.
    patience : int
        See ``early_stopping``.
    line_freq : float | None
        50 or 60 Hz, for Epochs; ``None`` takes ``info["line_freq"]``.
    assume_unit : str | None
        Unit of Epochs whose unit is wrong, see :func:`mne_labram.conform`.
    precision : {"float32", "bf16", "auto"}
        Number format of the forward pass.
    device : str | None
        ``None``: cuda if there is one, else cpu.
    seed : int | None
        Of the head, the order of windows, dropout and the choice of subjects; ``None``: torch's global state.
    verbose : int
        1: skorch's table, a line per pass; 0: nothing.
    **options : Any
        Further arguments of ``EEGClassifier``, e.g. ``callbacks``, ``criterion__label_smoothing``,
        ``module__drop_path_prob`` or ``optimizer__param_groups`` in place of ours
        (:func:`mne_labram.training.layer_decay.layer_decay_patterns` writes ours).

    Returns
    -------
    classifier : FineTuner
        A :class:`braindecode.EEGClassifier`, not fitted. Once fitted it is what ``model`` arguments take, and
        :func:`finetuned_model` gives what :func:`mne_labram.save_checkpoint` saves.

    Raises
    ------
    ImportError
        For ``preset="lora"`` without peft, when training begins.
    ValueError
        If an argument makes no sense; at the latest in ``fit``, before training.

    Notes
    -----
    Windows are float32 in microvolts, prepared as the model's contract asks; Epochs are prepared in ``fit`` and
    ``predict``. Classes are whole numbers from 0 (:class:`sklearn.preprocessing.LabelEncoder` makes them).

    Examples
    --------
    >>> classifier = finetuner(class_names=["rest", "arithmetic"], preset="last-k")
    >>> classifier.fit(epochs, y, groups=subjects)  # doctest: +SKIP
    >>> save_checkpoint(finetuned_model(classifier), "arithmetic.safetensors")  # doctest: +SKIP
    """
    if validation not in ("subjects", "blocks", None):
        raise ValueError(f"validation must be 'subjects', 'blocks' or None, got {validation!r}.")
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    _check_device(device)
    if n_outputs is not None:
        options["module__n_outputs"] = operator.index(n_outputs)
    for name, value in {"class_names": class_names, "ch_names": ch_names}.items():
        if isinstance(value, str):
            raise ValueError(f"{name} must be a list of names, got {value!r}.")
        if value is not None:
            options[f"module__{name}"] = list(value)
    return FineTuner(
        "LabramForClassification",
        model=model,
        preset=preset,
        last_k=last_k,
        layer_decay=layer_decay,
        weight_decay=weight_decay,
        lora_rank=lora_rank,
        class_weight=class_weight,
        lr=lr,
        batch_size=batch_size,
        max_epochs=max_epochs,
        train_split=None if validation is None else HoldOut(validation_size, validation, 0 if seed is None else seed),
        early_stopping=early_stopping,
        patience=patience,
        line_freq=line_freq,
        assume_unit=assume_unit,
        precision=precision,
        device=device,
        seed=seed,
        verbose=verbose,
        **options,
    )


def _check_device(device: str) -> None:
    """Refuse a device that torch does not know or does not have: it would say so by a RuntimeError, in ``fit``."""
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ValueError(f"device must be one of torch's, as 'cpu' or 'cuda', got {device!r}.") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("There is no GPU that torch can use; fine-tune with device='cpu'.")


def finetuned_model(classifier: Any) -> LabramForClassification:
    """Take the trained model out of a classifier, for :func:`mne_labram.save_checkpoint` or to train it otherwise.

    Parameters
    ----------
    classifier : FineTuner | EEGClassifier
        Fitted.

    Returns
    -------
    model : LabramForClassification
        A copy on the CPU, in evaluation mode, nothing frozen, adapters merged.

    Raises
    ------
    ValueError
        If the classifier is not fitted.
    """
    if not getattr(classifier, "initialized_", False):
        raise ValueError("The classifier has no weights yet; call fit first.")
    return merge_lora(copy.deepcopy(classifier.module_)).cpu().eval().requires_grad_(True)
