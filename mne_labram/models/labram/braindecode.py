"""Weights to and from Braindecode's own ``Labram``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from braindecode.models import Labram
from torch import Tensor, nn

if TYPE_CHECKING:
    from mne_labram.models.labram.classification import LabramForClassification

__all__ = ["braindecode_arguments", "braindecode_to_official", "build_braindecode", "name_mapping"]

# The authors' names and Braindecode's (braindecode 1.8.1, models/labram.py).
_TO_BRAINDECODE = (
    (re.compile(r"^patch_embed\."), "patch_embed.temporal_conv."),
    (re.compile(r"^pos_embed$"), "position_embedding"),
    (re.compile(r"^time_embed$"), "temporal_embedding"),
    (re.compile(r"\.mlp\.fc1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.fc2\."), ".mlp.2."),
    (re.compile(r"^head\."), "final_layer."),
)
_FROM_BRAINDECODE = (
    (re.compile(r"^patch_embed\.temporal_conv\."), "patch_embed."),
    (re.compile(r"^position_embedding$"), "pos_embed"),
    (re.compile(r"^temporal_embedding$"), "time_embed"),
    (re.compile(r"\.mlp\.0\."), ".mlp.fc1."),
    (re.compile(r"\.mlp\.2\."), ".mlp.fc2."),
    (re.compile(r"^final_layer\."), "head."),
)


def _rename(key: str, rules: tuple[tuple[re.Pattern, str], ...]) -> str:
    for pattern, replacement in rules:
        key = pattern.sub(replacement, key)
    return key


def _ours_to_official(key: str, pooling: str) -> str:
    """Give one of our names as the authors have it."""
    key = key.removeprefix("encoder.").replace("final_layer.", "head.").replace("spatial_embed.table", "pos_embed")
    return re.sub(r"^norm\.", "fc_norm.", key) if pooling == "mean" else key


def name_mapping(model: LabramForClassification) -> dict[str, str]:
    """List the names that others have for a model's tensors.

    Parameters
    ----------
    model : LabramForClassification
        The model.

    Returns
    -------
    mapping : dict of str to str
        The authors' names and Braindecode's, each with ours. Braindecode's ``temporal_embedding`` is left out: it has
        another shape (:meth:`LabramForClassification.from_braindecode`).
    """
    mapping = {}
    for key in model.state_dict():
        official = _ours_to_official(key, model.pooling)
        mapping[official] = key
        upstream = _rename(official, _TO_BRAINDECODE)
        if upstream != "temporal_embedding":
            mapping[upstream] = key
    return {theirs: ours for theirs, ours in mapping.items() if theirs != ours}


def braindecode_to_official(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of Braindecode's ``Labram`` as the authors have them.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        State dict of ``braindecode.models.Labram``.

    Returns
    -------
    state_dict : dict of str to Tensor
        Without the last row of the temporal embedding, which Braindecode never reads.
    """
    state = {_rename(key, _FROM_BRAINDECODE): value for key, value in state_dict.items()}
    time_embed = state.get("time_embed")
    if isinstance(time_embed, Tensor) and time_embed.ndim == 3:
        state["time_embed"] = time_embed[:, :-1]
    return state


def braindecode_arguments(model: nn.Module) -> dict[str, Any]:
    """Read what a state dict does not tell off a ``Labram`` instance.

    Parameters
    ----------
    model : braindecode.models.Labram
        The instance.

    Returns
    -------
    arguments : dict
        For :class:`LabramForClassification`.
    """
    block = model.blocks[0]
    return {"num_heads": block.attn.num_heads, "activation": type(block.mlp[1])}


def build_braindecode(
    model: LabramForClassification, *, n_times: int | None = None, fold_input_scale: bool = False
) -> Labram:
    """Build Braindecode's ``Labram`` with a model's weights; see :meth:`LabramForClassification.to_braindecode`.

    Parameters
    ----------
    model : LabramForClassification
        The model.
    n_times : int | None
        Samples in a window.
    fold_input_scale : bool
        Divide the first convolution by the input scale.

    Returns
    -------
    labram : braindecode.models.Labram
        The same function, in the same mode.
    """
    encoder = model.encoder
    conv = encoder.patch_embed
    obstacles = {
        "spatial='coordinates'": model.spatial != "names",
        "patch_embed='conv+spectrum'": conv.spectrum is not None,
        f"embed_dim={model.embed_dim} (it must be a multiple of 4 x the convolution's length)": conv.proj is not None,
    }
    found = [what for what, is_so in obstacles.items() if is_so]
    if found:
        raise ValueError(f"Braindecode's Labram has no {' and no '.join(found)}, so this model cannot become one.")
    if n_times is None:
        n_times = model.n_times
    n_patches = model._n_patches(n_times)
    block = encoder.blocks[0]
    labram = Labram(
        n_times=n_times,
        n_outputs=model.n_outputs,
        n_chans=len(model.ch_names),
        patch_size=model.patch_size,
        embed_dim=model.embed_dim,
        conv_out_channels=conv.conv1.out_channels,
        num_layers=len(encoder.blocks),
        num_heads=block.attn.num_heads,
        qkv_bias=block.attn.q_bias is not None,
        qk_norm=None if block.attn.q_norm is None else nn.LayerNorm,
        drop_prob=encoder.pos_drop.p,
        attn_drop_prob=block.attn.attn_drop_prob,
        drop_path_prob=encoder.blocks[-1].drop_path.drop_prob,
        init_values=None if block.gamma_1 is None else 1.0,
        use_mean_pooling=model.pooling == "mean",
        activation=type(block.mlp.act),
    )
    state = {
        _rename(_ours_to_official(key, model.pooling), _TO_BRAINDECODE): value.detach().clone()
        for key, value in model.state_dict().items()
    }
    # Braindecode sizes the temporal embedding by the window and adds a row that it never reads.
    rows = state["temporal_embedding"][:, :n_patches]
    state["temporal_embedding"] = torch.cat((rows, torch.zeros_like(rows[:, :1])), dim=1)
    if fold_input_scale:
        state["patch_embed.temporal_conv.conv1.weight"] /= model.input_scale
    labram.to(rows)
    labram.load_state_dict(state, strict=True)
    return labram.train(model.training)
