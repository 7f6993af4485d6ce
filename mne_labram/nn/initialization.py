"""Initial weights as the official LaBraM code draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from mne_labram.nn.attention import TransformerBlock

__all__ = [
    "INIT_STD",
    "fresh_head",
    "initialize_bottleneck",
    "initialize_spread",
    "initialize_weights",
    "rescale_blocks",
]

#: Standard deviation of every truncated normal draw (LaBraM, modeling_finetune.py: init_std=0.02).
INIT_STD = 0.02

# A head starts near zero, so that all classes are about equally likely (LaBraM, modeling_finetune.py: init_scale).
_HEAD_SCALE = 0.001


def fresh_head(embed_dim: int, n_outputs: int) -> nn.Linear:
    """Make a classification head that starts near zero.

    Parameters
    ----------
    embed_dim : int
        Width of what comes in.
    n_outputs : int
        Number of classes.

    Returns
    -------
    head : torch.nn.Linear
        Weights drawn with ``INIT_STD`` and scaled by 0.001, bias 0.
    """
    head = nn.Linear(embed_dim, n_outputs)
    nn.init.trunc_normal_(head.weight, std=INIT_STD)
    nn.init.zeros_(head.bias)
    with torch.no_grad():
        head.weight.mul_(_HEAD_SCALE)
    return head


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


def initialize_spread(module: nn.Module) -> None:
    """Draw linear weights so that what comes out varies as much as what goes in; biases 0.

    Parameters
    ----------
    module : torch.nn.Module
        Module whose linear maps are initialised in place.

    Notes
    -----
    Glorot & Bengio (2010), *Understanding the difficulty of training deep feedforward neural networks*, equation 16
    (as a normal distribution).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)


def initialize_bottleneck(before: nn.Module, after: nn.Linear | nn.Conv2d, heads: nn.Module) -> None:
    """Initialise the maps on either side of a codebook of unit vectors.

    Parameters
    ----------
    before : torch.nn.Module
        From tokens to latents.
    after : torch.nn.Linear
        From codes to the decoder's tokens.
    heads : torch.nn.Module
        From the decoder's tokens to the reconstruction.

    Notes
    -----
    Ours; the official code draws all of them with a deviation of 0.02, and the product of the five maps is then so
    small that for hundreds of steps nothing but the level of a patch gets through. A codebook that is started on such
    latents collapses onto them. Measured with a tokenizer of width 128 and 512 codes, log amplitude, on the recordings
    of the tests: with 0.02 the perplexity of a batch fell from 56 after 600 steps to 4 after 1400; started like this,
    441 codes occurred on held-out subjects after 560 steps, with a perplexity of 222.
    """
    initialize_spread(before)
    initialize_spread(heads)
    # The numbers of a unit vector have a mean square of 1 / n, so this gives tokens of unit variance.
    nn.init.normal_(after.weight, std=1.0)
    nn.init.zeros_(after.bias)


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
