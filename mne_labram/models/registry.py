"""Our models in Braindecode's tables, so that their names work wherever Braindecode takes a name."""

from __future__ import annotations

from braindecode.models import util

from mne_labram.models.labram import LabramForClassification, LabramForMaskedModeling, LabramTokenizer

__all__ = ["MODELS", "NON_CLASSIFICATION_MODELS", "register"]

#: Every model of this package.
MODELS: tuple[type, ...] = (LabramForClassification, LabramForMaskedModeling, LabramTokenizer)
#: Those whose output is not one logit per class.
NON_CLASSIFICATION_MODELS: tuple[type, ...] = (LabramForMaskedModeling, LabramTokenizer)


def register() -> None:
    """Add our models to Braindecode's tables.

    ``braindecode.models.util.models_dict`` makes ``EEGClassifier("LabramForClassification", ...)`` and configurations
    by name work; ``non_classification_models`` says which of them do not classify. Called when
    :mod:`mne_labram.models` is imported; a second call changes nothing.

    Raises
    ------
    ValueError
        If a name belongs to another model already; nothing is registered then.
    """
    taken = {**util.interpolated_models_dict, **util.models_dict}
    for model in MODELS:
        if taken.get(model.__name__, model) is not model:
            raise ValueError(
                f"Braindecode has another model of the name {model.__name__!r}, so ours cannot be registered under it."
            )
    for model in MODELS:
        util.models_dict[model.__name__] = model
    others = getattr(util, "non_classification_models", None)
    if others is not None:
        others.extend(model.__name__ for model in NON_CLASSIFICATION_MODELS if model.__name__ not in others)
