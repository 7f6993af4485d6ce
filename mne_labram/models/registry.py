"""Our models in Braindecode's tables, so that their names work wherever Braindecode takes a name."""

from __future__ import annotations

import warnings

from braindecode.models import util

from mne_labram.models.braincodec import BrainCodec, BrainCodecForSeizure
from mne_labram.models.brainforge import BrainForge
from mne_labram.models.deepsif import DeepSIF
from mne_labram.models.eegfoundation import (
    AmplitudeTokenizer,
    EEGFoundationForClassification,
    EEGFoundationForMaskedModeling,
)
from mne_labram.models.gram import GramForClassification, GramForRestoration, GramTokenizer
from mne_labram.models.labram import LabramForClassification, LabramForMaskedModeling, LabramTokenizer
from mne_labram.models.neurostorm import NeuroStorm

__all__ = ["MODELS", "NON_CLASSIFICATION_MODELS", "register"]

#: Every model of this package.
MODELS: tuple[type, ...] = (
    LabramForClassification,
    LabramForMaskedModeling,
    LabramTokenizer,
    NeuroStorm,
    BrainCodec,
    BrainCodecForSeizure,
    EEGFoundationForClassification,
    EEGFoundationForMaskedModeling,
    AmplitudeTokenizer,
    GramForClassification,
    GramForRestoration,
    GramTokenizer,
    BrainForge,
    DeepSIF,
)
#: Those whose output is not one logit per class.
NON_CLASSIFICATION_MODELS: tuple[type, ...] = (
    LabramForMaskedModeling,
    LabramTokenizer,
    BrainCodec,
    EEGFoundationForMaskedModeling,
    AmplitudeTokenizer,
    GramForRestoration,
    GramTokenizer,
    BrainForge,
    DeepSIF,
)


def register() -> None:
    """Add our models to Braindecode's tables.

    ``braindecode.models.util.models_dict`` makes ``EEGClassifier("LabramForClassification", ...)`` and configurations
    by name work; ``non_classification_models`` says which of them do not classify. Called when
    :mod:`mne_labram.models` is imported; a second call changes nothing.

    Warns
    -----
    UserWarning
        If a name belongs to another model already: that one stays, and ours can be used by its class only. No error,
        because it would come up in everybody's ``import braindecode``.
    """
    taken = {**util.interpolated_models_dict, **util.models_dict}
    others = getattr(util, "non_classification_models", None)
    for model in MODELS:
        name = model.__name__
        if taken.get(name, model) is not model:
            warnings.warn(
                f"Braindecode has another model of the name {name!r}; give the class mne_labram.models.{name} instead.",
                UserWarning,
                stacklevel=2,
            )
            continue
        util.models_dict[name] = model
        if model in NON_CLASSIFICATION_MODELS and others is not None and name not in others:
            others.append(name)
