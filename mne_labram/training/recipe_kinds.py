"""What a recipe may train: one line for each kind of model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import nn

__all__ = ["KINDS", "RecipeKind", "kind_of_name"]


@dataclass(frozen=True)
class RecipeKind:
    """What is trained by recipes of one kind.

    Attributes
    ----------
    path : str
        ``"module:Class"`` of the model, inside ``mne_labram.models``; imported when it is first used.
    needs_tokenizer : bool
        Its labels are the codes of a tokenizer, which the class takes as ``tokenizer``.
    losses : str | None
        ``"module:Class"`` of what is trained in place of the model alone: it takes the model, and what the table
        ``[losses]`` says.
    needs_start : bool
        Trains a part of what was trained before, so that it must be told which weights to start with.
    own_signal : bool
        ``[signal]`` says how the recordings are prepared, whatever the contract of the weights it starts with.
    knows_artefacts : bool
        Makes something of ``"artefact"`` in a batch (:class:`mne_labram.training.augment.Augmentation`).
    """

    path: str
    needs_tokenizer: bool = False
    losses: str | None = None
    needs_start: bool = False
    own_signal: bool = False
    knows_artefacts: bool = False

    def model_class(self) -> type[nn.Module]:
        """Import the class of the model."""
        return _imported(self.path)

    def arguments(self) -> dict[str, inspect.Parameter]:
        """Return what the class takes, by name."""
        return _arguments(self.model_class())

    def loss_arguments(self) -> dict[str, inspect.Parameter]:
        """Return what ``[losses]`` may say, by name; nothing where there is no such table."""
        if self.losses is None:
            return {}
        # The first one is the model.
        return dict(list(_arguments(_imported(self.losses)).items())[1:])

    def with_losses(self, model: nn.Module, losses: Mapping[str, Any]) -> nn.Module:
        """Return what is trained: the model itself, or what knows its losses.

        Parameters
        ----------
        model : torch.nn.Module
            Of :meth:`model_class`.
        losses : mapping of str to value
            The table ``[losses]``.

        Returns
        -------
        trained : torch.nn.Module
            Has ``training_step``.
        """
        return model if self.losses is None else _imported(self.losses)(model, **losses)


#: What is pre-trained, by the word for it.
KINDS: dict[str, RecipeKind] = {
    "tokenizer": RecipeKind("labram:LabramTokenizer"),
    "masked": RecipeKind("labram:LabramForMaskedModeling", needs_tokenizer=True),
    "codec": RecipeKind("braincodec:BrainCodec", losses="braincodec.training:BrainCodecForPretraining"),
    "gram-tokenizer": RecipeKind("gram:GramTokenizer"),
    "gram": RecipeKind("gram:GramForRestoration", needs_tokenizer=True, knows_artefacts=True),
    "spatial-filter": RecipeKind(
        "gram:GramForRestoration",
        losses="gram.spatial_training:SpatialFilterTraining",
        needs_start=True,
        # What is restored is the recording as it is, slow drifts and all, and not what the transformer is shown.
        own_signal=True,
        knows_artefacts=True,
    ),
    "amplitude": RecipeKind("eegfoundation:EEGFoundationForMaskedModeling"),
}


def kind_of_name(name: str) -> str | None:
    """Tell from the name of a recipe that ships what it is for.

    Parameters
    ----------
    name : str
        Such as ``"tiny-gram-tokenizer"``.

    Returns
    -------
    kind : str | None
        The longest kind that the name ends in after a hyphen: ``"gram-tokenizer"`` and not ``"tokenizer"``. ``None``:
        in no kind.
    """
    return max((kind for kind in KINDS if name.endswith(f"-{kind}")), key=len, default=None)


def _imported(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(f"mne_labram.models.{module}"), name)


def _arguments(of: type) -> dict[str, inspect.Parameter]:
    return {name: each for name, each in inspect.signature(of.__init__).parameters.items() if name != "self"}
