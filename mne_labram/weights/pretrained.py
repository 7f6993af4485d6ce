"""The weights that come with the package: small, trained on public recordings, loaded without a network.

Each is two files in the folder ``shipped``: ``<name>.safetensors``, a checkpoint like any other, and ``<name>.json``,
its card (:mod:`mne_labram.weights.cards`). The card holds the SHA-256 of the checkpoint, which every loading compares.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mne_labram._files import written_whole
from mne_labram.weights.cards import check_card
from mne_labram.weights.checkpoint import describe_checkpoint, load_checkpoint, save_checkpoint

__all__ = [
    "DEFAULT_DETECTOR",
    "DEFAULT_MODEL",
    "DEFAULT_TOKENIZER",
    "SHIPPED",
    "list_pretrained",
    "load_model",
    "load_pretrained",
    "pretrained_card",
    "ship_weights",
]

#: Where the weights are.
SHIPPED = Path(__file__).parent / "shipped"
#: What embeds, what tokenises and what finds seizures, when nothing else is asked for.
DEFAULT_MODEL = "labram-tiny"
DEFAULT_TOKENIZER = "labram-tokenizer-tiny"
DEFAULT_DETECTOR = "neurostorm-tiny"

# What a card says of its checkpoint is read off the checkpoint; only the rest is given.
_MEASURED = ("class", "n_parameters", "n_bytes", "sha256", "contract", "versions")
# What the checkpoint repeats, so that a copy of it elsewhere still says where it comes from. Scores are measured after.
_IN_CHECKPOINT = ("name", "summary", "licence", "data", "hours", "steps", "seed", "command")


def list_pretrained() -> list[str]:
    """List the weights that come with the package.

    Returns
    -------
    names : list of str
        What :func:`load_pretrained`, and every ``model`` argument, takes.
    """
    return sorted(card.stem for card in SHIPPED.glob("*.json") if card.with_suffix(".safetensors").is_file())


def load_pretrained(name: str = DEFAULT_MODEL, *, ch_names: Sequence[str] | None = None) -> nn.Module:
    """Load weights that come with the package; nothing is fetched.

    Parameters
    ----------
    name : str
        One of :func:`list_pretrained`.
    ch_names : sequence of str | None
        Bind the model to these channels instead of those it was saved with.

    Returns
    -------
    model : LabramForMaskedModeling | LabramTokenizer
        On the CPU, in evaluation mode. ``LabramForClassification.from_encoder(model, n_outputs=2)`` puts a head on it.

    Raises
    ------
    ValueError
        If there are no weights of this name, their file is not the one that the card describes, or a name in
        ``ch_names`` is unknown.
    """
    card = pretrained_card(name)
    return load_checkpoint(SHIPPED / f"{name}.safetensors", sha256=card["sha256"], ch_names=ch_names)


def pretrained_card(name: str = DEFAULT_MODEL) -> dict[str, Any]:
    """Return what is known of weights that come with the package.

    Parameters
    ----------
    name : str
        One of :func:`list_pretrained`.

    Returns
    -------
    card : dict
        The signal contract, the data and their licences, hours, steps, seed and command of the training, the SHA-256
        of the file, and what was measured; see :mod:`mne_labram.weights.cards`.

    Raises
    ------
    ValueError
        If there are no weights of this name, or their card is damaged.
    """
    if name not in list_pretrained():
        raise ValueError(f"There are no weights of the name {name!r} in this package; {_offer()}.")
    path = SHIPPED / f"{name}.json"
    try:
        card = json.loads(path.read_text(encoding="utf8"))
    except ValueError:
        raise ValueError(f"{path.name!r} is damaged: it is no JSON; install mne_labram again.") from None
    check_card(card, name)
    return card


def load_model(model: str | os.PathLike) -> nn.Module:
    """Load a model by the path of its checkpoint or by the name of weights that come with the package.

    Parameters
    ----------
    model : str | Path
        A file, which goes before a name, or one of :func:`list_pretrained`.

    Returns
    -------
    model : nn.Module
        On the CPU, in evaluation mode.

    Raises
    ------
    FileNotFoundError
        If it is neither a file nor a name.
    ValueError
        As :func:`load_checkpoint`.
    """
    path, name = Path(model).expanduser(), os.fspath(model)
    if not path.is_file() and name in list_pretrained():
        return load_pretrained(name)
    if not path.exists() and path.name == name and not path.suffix:
        raise FileNotFoundError(f"There is neither a file nor a pretrained model of the name {name!r}; {_offer()}.")
    return load_checkpoint(path)


def _offer() -> str:
    """Say in half a sentence which names there are."""
    names = list_pretrained()
    if not names:
        return "this installation holds no weights at all, so give the path of a checkpoint (.safetensors)"
    return f"there are {', '.join(names)}, and a checkpoint of your own is given by its path (.safetensors)"


def ship_weights(
    model: nn.Module, name: str, card: Mapping[str, Any], *, folder: str | os.PathLike | None = None
) -> Path:
    """Write weights and their card into the package: how its maintainers publish them.

    Parameters
    ----------
    model : LabramForClassification | LabramTokenizer | LabramForMaskedModeling
        The trained model.
    name : str
        What users will call it.
    card : dict
        ``summary``, ``licence``, ``data``, ``hours``, ``steps``, ``seed``, ``command``, ``measurements`` and
        ``limits`` as :mod:`mne_labram.weights.cards` describes them; the rest is read off the checkpoint.
    folder : path-like | None
        Where to; ``None``: into the package.

    Returns
    -------
    path : Path
        The card; the checkpoint lies beside it. Both are replaced if they exist.

    Raises
    ------
    ValueError
        If the card lacks something, or the model cannot be saved.
    """
    folder = SHIPPED if folder is None else Path(folder)
    whole = {"name": name, **{key: value for key, value in card.items() if key not in _MEASURED}}
    check_card({**whole, **dict.fromkeys(_MEASURED)}, name)
    inside = {key: whole[key] for key in _IN_CHECKPOINT}
    checkpoint = save_checkpoint(model, folder / f"{name}.safetensors", card=inside, overwrite=True)
    described = describe_checkpoint(checkpoint)
    whole.update({key: described[key] for key in _MEASURED})
    path = checkpoint.with_suffix(".json")
    with written_whole(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    return path
