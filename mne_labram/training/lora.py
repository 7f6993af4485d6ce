"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) by peft, put into a model and merged into its weights again."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["add_lora", "has_lora", "merge_lora", "require_peft"]


def add_lora(model: nn.Module, *, rank: int = 8, alpha: float = 16.0) -> nn.Module:
    """Freeze a model and put a trainable adapter beside every linear map of its blocks.

    Parameters
    ----------
    model : LabramForClassification | LabramForMaskedModeling | LabramTokenizer
        Changed in place. Everything but the adapters is frozen, a head too; its output is as it was, since adapters
        start at zero.
    rank : int
        Rank of an adapter.
    alpha : float
        Its output is multiplied by ``alpha / rank``.

    Returns
    -------
    model : nn.Module
        The same.

    Raises
    ------
    ImportError
        If peft is not installed.
    ValueError
        If ``rank`` is below 1, or there are adapters already.

    Notes
    -----
    The map to queries, keys and values is left alone where it has biases (``qkv_bias=True``, the encoders of official
    tokenizers): their output is then made of its weight, not by calling it.
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}.")
    if has_lora(model):
        raise ValueError("This model has adapters already; merge them with merge_lora first.")
    LoraConfig, inject = require_peft()
    biased = model.encoder.blocks[0].attn.q_bias is not None
    maps = r"attn\.proj|mlp\.fc1|mlp\.fc2" if biased else r"attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2"
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=rf"encoder\.blocks\.\d+\.({maps})")
    return inject(config, model)


def has_lora(model: nn.Module) -> bool:
    """Tell whether a model holds adapters, without importing peft.

    Parameters
    ----------
    model : nn.Module
        Any model.

    Returns
    -------
    has : bool
        Whether it does.
    """
    return any(hasattr(module, "lora_A") for module in model.modules())


def merge_lora(model: nn.Module) -> nn.Module:
    """Add adapters to the weights that they stand beside, and take them away.

    Parameters
    ----------
    model : nn.Module
        Changed in place; without adapters nothing happens. Its output is as it was, and it can be saved by
        :func:`mne_labram.save_checkpoint`, which is without them.

    Returns
    -------
    model : nn.Module
        The same.

    Raises
    ------
    ValueError
        If an adapter holds NaN.
    """
    for name, layer in list(model.named_modules()):
        if hasattr(layer, "lora_A"):
            layer.merge(safe_merge=True)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer.get_base_layer())
    # What peft notes in the model it is put into.
    if hasattr(model, "peft_config"):
        del model.peft_config
    return model


def require_peft() -> tuple[Any, Any]:
    """Import peft, which takes seconds and is an extra.

    Returns
    -------
    LoraConfig, inject_adapter_in_model
        Of peft.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise ImportError("preset='lora' needs peft; install it with pip install mne-labram[lora].") from None
    return LoraConfig, inject_adapter_in_model
