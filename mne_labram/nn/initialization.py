"""Initial weights as the official LaBraM code draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from mne_labram.nn.attention import TransformerBlock

__all__ = ["INIT_STD", "initialize_weights", "rescale_blocks"]

#: Standard deviation of every truncated normal draw (LaBraM, modeling_finetune.py: init_std=0.02).
INIT_STD = 0.02


def initialize_weights(module: nn.Module, *, pretraining: bool = False) -> None:
    """Draw linear weights from a truncated normal; biases 0, LayerNorm gains 1.

    Parameters
    ----------
    module : torch.nn.Module
        Module whose sub-modules are initialised in place.
    pretraining : bool
        As LaBraM, modeling_pretrain.py: the normal is cut at one standard deviation, and convolutions are drawn too.
        Otherwise, as modeling_finetune.py: cut at +-2 (that is, not at all), convolutions keep torch's default.
    """
    cut = INIT_STD if pretraining else 2.0
    for layer in module.modules():
        if isinstance(layer, nn.Linear) or (pretraining and isinstance(layer, nn.Conv2d)):
            nn.init.trunc_normal_(layer.weight, std=INIT_STD, a=-cut, b=cut)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.LayerNorm):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


def rescale_blocks(blocks: Sequence[TransformerBlock]) -> None:
    """Divide the output maps of block ``i`` (from 1) by ``sqrt(2 i)``, so that the residual stream does not grow.

    Parameters
    ----------
    blocks : sequence of TransformerBlock
        In order; changed in place.

    Notes
    -----
    ``fix_init_weight`` of LaBraM, modeling_finetune.py (after BEiT, Bao et al. 2021, arXiv:2106.08254).
    """
    for i, block in enumerate(blocks, start=1):
        block.attn.proj.weight.data.div_(math.sqrt(2.0 * i))
        block.mlp.fc2.weight.data.div_(math.sqrt(2.0 * i))
