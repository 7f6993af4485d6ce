"""Braindecode's classifier, starting from pretrained weights and training as a preset says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from braindecode import EEGClassifier
from mne import BaseEpochs
from mne.utils import logger
from skorch.callbacks import EarlyStopping
from skorch.dataset import ValidSplit
from skorch.utils import is_dataset, noop
from torch import nn

from mne_labram.models.labram import LabramForClassification
from mne_labram.nn.precision import autocast, resolve_precision
from mne_labram.signal.contract import ContractError
from mne_labram.training.labelled import as_epochs, class_labels, conformed_epochs, described_windows, subjects_of
from mne_labram.training.lora import add_lora, merge_lora, require_peft
from mne_labram.training.optimization import parameter_groups
from mne_labram.training.schedule import WarmupCosine
from mne_labram.training.splits import HoldOut
from mne_labram.weights import load_model

__all__ = ["PRESETS", "WEIGHT_DECAY", "FineTuner"]

#: Peak learning rate of each preset: that of LaBraM's fine-tuning for "full" and "last-k" (Jiang et al. 2024, table 5);
#: more for a head alone and for adapters, which start at zero.
LEARNING_RATES = {"linear": 5e-3, "last-k": 5e-4, "full": 5e-4, "lora": 1e-3}
#: What can be trained.
PRESETS = tuple(LEARNING_RATES)

#: Of AdamW, and stochastic depth of "full": Jiang et al. 2024, table 5, base.
WEIGHT_DECAY = 0.05
_DROP_PATH = 0.1


class FineTuner(EEGClassifier):
    """Braindecode's ``EEGClassifier``, starting from pretrained weights; made by :func:`finetuner`.

    Parameters
    ----------
    module : str | type
        ``"LabramForClassification"``; ``module__*`` are its arguments, and go before what the data say.
    *args : Any
        See ``EEGClassifier``.
    model, preset, last_k, layer_decay, weight_decay, lora_rank, class_weight, early_stopping, patience, line_freq
        See :func:`finetuner`.
    assume_unit, precision, seed
        See :func:`finetuner`.
    optimizer, lr, batch_size, max_epochs, train_split, iterator_train__drop_last
        See ``EEGClassifier``; ``lr=None`` is that of the preset.
    **kwargs : Any
        See ``EEGClassifier``.
    """

    # Braindecode would hand the signal arguments to the class, which is built here from more than those.
    signal_args_set_ = True
    # scikit-learn's metadata routing: cross_validate(classifier, X, y, params={"groups": subjects}) reaches fit.
    __metadata_request__fit = {"groups": True}

    def __init__(
        self,
        module: Any,
        *args: Any,
        model: Any = "labram-tiny",
        preset: str = "linear",
        last_k: int = 2,
        layer_decay: float = 0.65,
        weight_decay: float = WEIGHT_DECAY,
        lora_rank: int = 8,
        class_weight: Any = "balanced",
        early_stopping: bool = True,
        patience: int = 8,
        line_freq: float | None = None,
        assume_unit: str | None = None,
        precision: str = "float32",
        seed: int | None = 0,
        optimizer: Any = torch.optim.AdamW,
        lr: float | None = None,
        batch_size: int = 64,
        max_epochs: int = 50,
        train_split: Any = None,
        iterator_train__drop_last: bool = False,
        **kwargs: Any,
    ) -> None:
        self.model = model
        self.preset = preset
        self.last_k = last_k
        self.layer_decay = layer_decay
        self.weight_decay = weight_decay
        self.lora_rank = lora_rank
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.patience = patience
        self.line_freq = line_freq
        self.assume_unit = assume_unit
        self.precision = precision
        self.seed = seed
        super().__init__(
            module,
            *args,
            optimizer=optimizer,
            lr=lr,
            batch_size=batch_size,
            max_epochs=max_epochs,
            train_split=train_split,
            iterator_train__drop_last=iterator_train__drop_last,
            **kwargs,
        )

    # -- data ---------------------------------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any = None, groups: Any = None, **fit_params: Any) -> FineTuner:
        """Fine-tune, from the pretrained weights on.

        Parameters
        ----------
        X : mne.Epochs | ndarray, shape (n_windows, n_chans, n_times) | torch.utils.data.Dataset
            Epochs in volts; arrays and data sets in microvolts at the model's rate, prepared as its contract asks.
        y : array-like of int, shape (n_windows,) | None
            Classes from 0; ``None`` where the data set has them.
        groups : array-like, shape (n_windows,) | None
            The subject of each window; ``None`` takes the ``subject`` of Braindecode's windows.
        **fit_params : Any
            See ``EEGClassifier``.

        Returns
        -------
        self : FineTuner
            Fitted; ``module_`` is the trained model.

        Raises
        ------
        ContractError
            If the windows are not what the model takes.
        ValueError
            If classes or groups do not fit, or a parameter makes no sense.
        """
        with self._seeded():
            return super().fit(*self._settle(X, y, groups), **fit_params)

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, groups: Any = None, **fit_params: Any) -> Any:
        """Train on, from where the last call ended.

        Parameters
        ----------
        X, y
            As for :meth:`fit`.
        classes : array-like | None
            Not used.
        groups : array-like, shape (n_windows,) | None
            As for :meth:`fit`.
        **fit_params : Any
            See ``EEGClassifier``.

        Returns
        -------
        self : FineTuner
            Fitted.
        """
        # fit ends here too, with everything settled.
        inside = "_routing_method" in fit_params
        with nullcontext() if inside else self._seeded():
            if not inside:
                X, y = self._settle(X, y, groups)
            if not self.initialized_:
                self.initialize()
            try:
                if self.preset == "lora":
                    add_lora(self.module_, rank=self.lora_rank)
                    self.module_.final_layer.requires_grad_(True)
                    self.initialize_optimizer()
                return super().partial_fit(X, y, classes=classes, **fit_params)
            finally:
                # What is kept, pickled and saved is a plain model.
                merge_lora(self.module_)
                self.groups_, self.labels_, self.start_ = None, None, []

    def _settle(self, X: Any, y: Any, groups: Any) -> tuple[Any, Any]:
        """Check everything before work starts; keep what the data say of the model to be built."""
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(map(repr, PRESETS))}, got {self.preset!r}.")
        if self.max_epochs < 1:
            raise ValueError(f"max_epochs must be at least 1, got {self.max_epochs}.")
        if self.preset == "lora":
            require_peft()
        base = _base_model(self.model)
        own = self.get_params_for("module").get("contract")
        contract = base.contract if own is None else _classifier(base, {"n_outputs": 2, "contract": own}).contract
        # In a list: skorch takes a module among its attributes for one to be trained.
        self.start_ = [base]
        if groups is None and isinstance(self.train_split, (HoldOut, ValidSplit)):
            groups = subjects_of(X)
        X = as_epochs(X)
        fixed = self.get_params_for("module").get("ch_names")
        if isinstance(X, BaseEpochs):
            X, found = conformed_epochs(
                X, contract, ch_names=fixed, line_freq=self.line_freq, assume_unit=self.assume_unit
            )
        else:
            found = described_windows(X, contract, ch_names=fixed)
        if found["ch_names"] is None:
            if not isinstance(self.model, nn.Module):
                raise ContractError("An array does not say what its channels are; pass ch_names to finetuner.")
            found["ch_names"] = list(base.ch_names)
        labels = class_labels(X, y)
        self.from_data_ = {**found, "n_outputs": self._n_outputs(labels, base)}
        if groups is not None and len(groups) != len(labels):
            raise ValueError(f"There must be one group per window: {len(labels)} windows, {len(groups)} groups.")
        self.labels_, self.groups_ = labels, groups
        return X, labels if not is_dataset(X) else y

    def _n_outputs(self, labels: np.ndarray, base: nn.Module) -> int | None:
        """Check the classes against their number; ``None`` keeps the head of the model."""
        given = self.get_params_for("module")
        n = given.get("n_outputs")
        if n is None and given.get("class_names") is not None:
            n = len(given["class_names"])
        keep = n is None and isinstance(base, _classifier_class(base))
        if keep:
            n = base.n_outputs
        if n is None:
            # Of a class that only they are of, nothing can be told.
            n = int(labels.max()) + 1 if len(np.unique(labels)) > 1 else 1
        if n < 2:
            raise ValueError("A classifier needs two classes or more; give n_outputs, or windows of another class too.")
        if labels.min() < 0 or labels.max() >= n:
            raise ValueError(
                f"Classes must be 0 to {n - 1}, got {labels.min()} to {labels.max()}; encode them with "
                "sklearn.preprocessing.LabelEncoder."
            )
        return None if keep else n

    def get_dataset(self, X: Any, y: Any = None) -> Any:
        """Make a data set of whatever is trained on or predicted; see ``EEGClassifier``."""
        X = as_epochs(X)
        if isinstance(X, BaseEpochs):
            X, _ = conformed_epochs(
                X,
                self.module_.contract,
                ch_names=self.module_.ch_names,
                line_freq=self.line_freq,
                assume_unit=self.assume_unit,
                every=True,
            )
        return super().get_dataset(X, y)

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> tuple[Any, Any]:
        """Set validation windows aside, and weigh the classes by what is left; see ``EEGClassifier``."""
        dataset = self.get_dataset(X, y)
        train, validation, rows = dataset, None, slice(None)
        if self.train_split is not None:
            if self.groups_ is not None:
                fit_params["groups"] = self.groups_
            train, validation = self.train_split(dataset, self.labels_, **fit_params)
            rows = getattr(train, "indices", slice(None))
        self._weigh_classes(self.labels_[rows])
        return train, validation

    def check_data(self, X: Any, y: Any) -> None:
        """Note the classes, which are those of the head, whether ``y`` has them all or not; see ``EEGClassifier``."""
        self.classes_inferred_ = np.arange(self.module_.n_outputs)

    def _weigh_classes(self, labels: np.ndarray) -> None:
        """Give the loss its class weights, from the windows that are trained on."""
        if self.class_weight is None:
            return
        n_classes = self.module_.n_outputs
        if isinstance(self.class_weight, str):
            if self.class_weight != "balanced":
                raise ValueError(f"class_weight must be 'balanced', numbers or None, got {self.class_weight!r}.")
            counts = np.bincount(labels, minlength=n_classes)
            if not counts.all():
                absent = ", ".join(map(str, np.flatnonzero(counts == 0)))
                logger.warning(f"No window that is trained on is of class {absent}.")
            # The mean weight of a window is one (scikit-learn, compute_class_weight).
            weight = len(labels) / ((counts > 0).sum() * np.maximum(counts, 1))
        else:
            numbers = [] if isinstance(self.class_weight, Mapping) else self.class_weight
            weight = np.asarray(numbers, dtype=float)
            if weight.shape != (n_classes,) or not (np.isfinite(weight).all() and (weight >= 0).all()):
                raise ValueError(f"class_weight must be {n_classes} numbers of at least 0, got {self.class_weight!r}.")
        self.criterion_.weight = torch.as_tensor(weight, dtype=torch.float32, device=self.device)

    # -- model --------------------------------------------------------------------------------------------------------
    def initialize_module(self) -> FineTuner:
        """Build the model with its pretrained weights, and freeze what the preset does not train."""
        start = getattr(self, "start_", [])
        base = start[0] if start else _base_model(self.model)
        options = {**getattr(self, "from_data_", {}), **self.get_params_for("module")}
        if self.preset == "full":
            options = {"drop_path_prob": _DROP_PATH, **options}
        self.module_ = _classifier(base, options)
        self.module_.requires_grad_(False)
        for part in self._trained_parts():
            part.requires_grad_(True)
        return self

    def _trained_parts(self) -> list[nn.Module]:
        """List what the preset trains, adapters aside."""
        module, encoder = self.module_, self.module_.encoder
        if self.preset == "full":
            return [module]
        if self.preset == "last-k":
            if not 1 <= self.last_k <= len(encoder.blocks):
                raise ValueError(f"last_k must lie between 1 and {len(encoder.blocks)}, got {self.last_k}.")
            return [*encoder.blocks[-self.last_k :], encoder.norm, module.final_layer]
        return [module.final_layer]

    def _set_training(self, training: bool = True) -> None:
        """Keep what is frozen in evaluation mode: dropout there would only blur what the head sees."""
        super()._set_training(training)
        if training:
            self.module_.eval()
            for part in self._trained_parts():
                part.train()

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> tuple[Any, dict[str, Any]]:
        """Group the parameters by layer and kind; see ``EEGClassifier``."""
        rate = LEARNING_RATES[self.preset] if self.lr is None else self.lr
        options = self.get_params_for(prefix)
        options.setdefault("lr", rate)
        if "param_groups" in options:
            trained = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
            args, options = super().get_params_for_optimizer(prefix, trained)
            return args, {**options, "lr": options.get("lr") or rate}
        groups = parameter_groups(
            self.module_,
            layer_decay=self.layer_decay if self.preset == "full" else None,
            weight_decay=options.pop("weight_decay", self.weight_decay),
        )
        groups = [
            {"params": g["params"], "lr": options["lr"] * g["lr_scale"], "weight_decay": g["weight_decay"]}
            for g in groups
        ]
        return (groups,), options

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Run the model at the precision asked for; see ``EEGClassifier``."""
        with autocast(resolve_precision(self.precision, self.device), self.device):
            return super().infer(x, **fit_params).float()

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        callbacks = [*super()._default_callbacks, ("schedule", WarmupCosine())]
        if self.train_split is not None:
            # Never reached, where it shall only bring the best weights back.
            patience = self.patience if self.early_stopping else self.max_epochs + 1
            callbacks.append(("early_stopping", EarlyStopping(patience=patience, load_best=True, sink=noop)))
        return callbacks

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """Draw from a seed of our own, and leave the user's random numbers as they were."""
        if self.seed is None:
            yield
            return
        devices = [torch.device(self.device)] if torch.device(self.device).type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.seed)
            yield


def _base_model(model: Any) -> nn.Module:
    """Load what training starts from."""
    if not isinstance(model, nn.Module):
        return load_model(model)
    if not hasattr(model, "encoder") or not hasattr(model, "bind_channels"):
        raise TypeError(
            f"model must be one of mne_labram's models, the path of a checkpoint or the name of pretrained weights; "
            f"got {type(model).__name__}."
        )
    return model


def _classifier_class(base: nn.Module) -> type[nn.Module]:
    """Tell what class of classifier an encoder belongs to."""
    return getattr(base, "classifier_class", LabramForClassification)


def _classifier(base: nn.Module, options: dict[str, Any]) -> nn.Module:
    """Copy a model's encoder, with its own head where it has one and no other is asked for, else with a fresh one."""
    # Of the montages that the encoder was trained on, a head knows those of its own channels.
    prepared = {name: value for name, value in base._contract_fields.items() if name != "montages"}
    options = {name: value for name, value in options.items() if value is not None}
    options = {"chs_info": None, "ch_positions": None, "contract": prepared or None, **options}
    cls = _classifier_class(base)
    own_head = isinstance(base, cls) and not {"n_outputs", "class_names"} & set(options)
    if own_head:
        options = {"n_outputs": base.n_outputs, "class_names": base.class_names, "pooling": base.pooling, **options}
    new = cls.from_encoder(base, **options)
    if own_head:
        new.final_layer.load_state_dict(base.final_layer.state_dict())
    return new
