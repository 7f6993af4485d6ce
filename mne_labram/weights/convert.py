"""Official pickles into our checkpoints, once, so that no pickle is needed again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mne.utils import logger, verbose

from mne_labram.weights.checkpoint import save_checkpoint
from mne_labram.weights.files import readable_file
from mne_labram.weights.official import OFFICIAL_KINDS, official_kind, official_sizes, read_official_checkpoint

__all__ = ["DEFAULT_CHANNELS", "convert_official"]

#: What a converted model is bound to unless told otherwise: the 19 electrodes of the 10-20 system. The weights of all
#: 128 names are kept, and :func:`mne_labram.load_checkpoint` and the verbs bind to a recording's own channels.
DEFAULT_CHANNELS = tuple("FP1 FP2 F7 F3 FZ F4 F8 T7 C3 CZ C4 T8 P7 P3 PZ P4 P8 O1 O2".split())

_CLASS_NAMES = {
    "classification": "LabramForClassification",
    "masked": "LabramForMaskedModeling",
    "tokenizer": "LabramTokenizer",
    "codec": "BrainCodec",
    "gram-classification": "GramForClassification",
    "gram": "GramForRestoration",
    "gram-tokenizer": "GramTokenizer",
    "amplitude": "EEGFoundationForMaskedModeling",
    "amplitude-classification": "EEGFoundationForClassification",
}
# Pre-trained backbones, and what else can be made of them.
_CONVERTIBLE = {
    *{("classification", "masked"), ("gram-classification", "gram"), ("gram-tokenizer", "gram")},
    ("amplitude-classification", "amplitude"),
}
# Whose number of heads is looked up here; other models find it themselves.
_LABRAM_KINDS = ("classification", "masked", "tokenizer")
# The authors' window in seconds, and their rates in Hz.
_WINDOW, _SFREQ, _CODEC_SFREQ = 4.0, 200, 512


@verbose
def convert_official(
    in_fname: str | os.PathLike,
    out_fname: str | os.PathLike,
    *,
    kind: str | None = None,
    ch_names: Sequence[str] | None = None,
    n_times: int | None = None,
    window: float | None = None,
    n_outputs: int | None = None,
    num_heads: int | None = None,
    card: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    verbose: bool | str | int | None = None,
) -> Path:
    """Convert an official checkpoint of LaBraM, BrainCodec, Gram or EEGFoundation into a safetensors checkpoint.

    Parameters
    ----------
    in_fname : path-like
        The authors' file: ``labram-base.pth``, ``vqnsp.pth``, or a checkpoint of their training scripts, or of those of
        BrainCodec, of which none was ever published, and of Gram; for EEGFoundation, of which none was published
        either, ``model.safetensors`` or ``pytorch_model.bin`` of transformers' RoFormer. Nothing in it is executed (see
        :func:`read_official_checkpoint`).
    out_fname : path-like
        The file to write; its name must end in ``.safetensors``.
    kind : str | None
        What to make of it: ``"classification"``, ``"masked"``, ``"tokenizer"``, ``"codec"``, ``"gram-classification"``,
        ``"gram"``, ``"gram-tokenizer"``, ``"amplitude"`` or ``"amplitude-classification"``; ``None`` decides by the
        names of the weights. A pre-trained backbone (``"masked"``) can also be made ``"classification"``, with a fresh
        head, to be fine-tuned; its embeddings differ a little from those of ``"masked"``, because the CLS token takes
        another row of the position table in the authors' two models. A pre-trained Gram (``"gram"``) can also be made
        ``"gram-classification"``, or ``"gram-tokenizer"``, since it holds its tokenizer; that is no part of the model
        and is left out of its file. EEGFoundation's RoFormer (``"amplitude"``) can also be made
        ``"amplitude-classification"``.
    ch_names : sequence of str | None
        Channels to bind the model to; ``None`` is :data:`DEFAULT_CHANNELS`, or none for a codec, which needs none. They
        can be changed when loading.
    n_times : int | None
        Window in samples, at 200 Hz, or for a codec at 512 Hz.
    window : float | None
        Window in seconds, where ``n_times`` is not given. ``None``: 4.
    n_outputs : int | None
        Classes of a fresh head; only for ``kind="classification"`` or another that ends so, and weights without a head.
    num_heads : int | None
        Attention heads, where the weights do not tell (see :func:`mne_labram.weights.official.official_sizes`).
    card : dict | None
        What a user should know of the weights; the source file, its SHA-256 and what was left out are added.
    overwrite : bool
        Replace an existing file.
    verbose : bool | str | int | None
        Verbosity of the log, as in MNE.

    Returns
    -------
    path : Path
        The written file.

    Raises
    ------
    FileNotFoundError
        If ``in_fname`` does not exist.
    FileExistsError
        If ``out_fname`` exists and ``overwrite`` is false.
    ValueError
        If the file is damaged, hostile, or no official checkpoint, or its weights do not fit the model in every
        name and shape. Nothing is written then.
    """
    if kind is not None and kind not in OFFICIAL_KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, OFFICIAL_KINDS))} or None, got {kind!r}.")
    source, target = readable_file(in_fname), Path(out_fname).expanduser()
    if target.suffix.lower() != ".safetensors":
        raise ValueError(f"The name of a checkpoint ends in .safetensors, got {target.name!r}.")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{str(target)!r} exists already; pass overwrite=True to replace it.")
    if target.exists() and target.samefile(source):
        raise ValueError(f"{source.name!r} would be replaced by its own conversion; give another name.")

    state_dict, info = read_official_checkpoint(source)
    try:
        found = official_kind(state_dict)
        kind = found if kind is None else kind
        if kind != found and (kind, found) not in _CONVERTIBLE:
            raise ValueError(f"The weights are for kind={found!r} and cannot be made kind={kind!r}.")
        if kind == "codec":
            arguments: dict[str, Any] = {}
            if ch_names is not None:
                arguments["ch_names"] = list(ch_names)
            if num_heads is not None:
                raise ValueError("num_heads is for transformers; a codec has no attention.")
        else:
            arguments = {"ch_names": list(DEFAULT_CHANNELS if ch_names is None else ch_names), "num_heads": num_heads}
            if found in _LABRAM_KINDS:
                arguments["num_heads"] = official_sizes(state_dict, found, num_heads=num_heads)["num_heads"]
        rate = _CODEC_SFREQ if kind == "codec" else _SFREQ
        arguments["n_times"] = round(rate * (_WINDOW if window is None else window)) if n_times is None else n_times
        if n_outputs is not None:
            if not kind.endswith("classification"):
                raise ValueError(f"n_outputs is for kind='classification'; kind={kind!r} has no classes.")
            arguments["n_outputs"] = n_outputs
        from mne_labram import models

        model = getattr(models, _CLASS_NAMES[kind]).from_official(state_dict, **arguments)
        if kind == "gram" and model.tokenizer is not None:
            logger.info("The tokenizer inside is left out; convert it by itself, with kind='gram-tokenizer'.")
    except ValueError as error:
        raise ValueError(f"{source.name!r} was not converted: {error}") from error
    provenance = {
        "converted_from": {name: info[name] for name in ("file", "sha256", "kind", "epoch", "dropped")},
        "official_model": info["args"].get("model"),
    }
    path = save_checkpoint(model, target, card={**provenance, **dict(card or {})}, overwrite=overwrite)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    logger.info("%s (%s, %d parameters) is now %s.", source.name, kind, n_parameters, path)
    return path
