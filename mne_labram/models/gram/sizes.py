"""Named configurations of Gram."""

from __future__ import annotations

from dataclasses import dataclass

from mne_labram.models.labram.sizes import Size, replace_numbers

__all__ = [
    "GRAM_SIZES",
    "GRAM_TOKENIZER_SIZES",
    "GramSize",
    "GramTokenizerSize",
    "default_out_indices",
    "resolve_gram_size",
]


@dataclass(frozen=True)
class GramSize:
    """Numbers behind a name.

    Parameters
    ----------
    encoder : Size
        Width, depth, heads and residual gain of the encoder.
    decoder : Size
        The same of the decoder, which restoration alone has.
    """

    encoder: Size
    decoder: Size


# The decoder of all published sizes (Gram, model/modeling_Gram.py): 8 blocks of width 200 with 10 heads.
_DECODER = Size(embed_dim=200, num_layers=8, num_heads=10, layer_scale=0.1)

#: ``base``, ``medium`` and ``large`` are Gram-B, -M and -L (Gram, config/*.yaml). ``small`` is ours, for laptops.
GRAM_SIZES: dict[str, GramSize] = {
    "small": GramSize(Size(128, 4, 4, layer_scale=0.1), Size(96, 1, 4, layer_scale=0.1)),
    "base": GramSize(Size(200, 12, 10, layer_scale=0.1), _DECODER),
    "medium": GramSize(Size(400, 24, 16, layer_scale=1e-5), Size(200, 8, 10, layer_scale=1e-5)),
    "large": GramSize(Size(800, 32, 16, layer_scale=1e-5), Size(200, 8, 10, layer_scale=1e-5)),
}


def resolve_gram_size(
    size: str, *, embed_dim: int | None = None, num_layers: int | None = None, num_heads: int | None = None
) -> GramSize:
    """Take a named configuration, with some of the encoder's numbers replaced.

    Parameters
    ----------
    size : {"small", "base", "medium", "large"}
        Name.
    embed_dim, num_layers, num_heads : int | None
        Replacements, as in :func:`mne_labram.models.labram.sizes.resolve_size`.

    Returns
    -------
    size : GramSize
        The numbers.

    Raises
    ------
    ValueError
        If the name is unknown, a number is below 1, or the heads do not divide the width.
    """
    if size not in GRAM_SIZES:
        raise ValueError(f"size must be one of {', '.join(map(repr, GRAM_SIZES))}, got {size!r}.")
    named = GRAM_SIZES[size]
    encoder = replace_numbers(named.encoder, embed_dim=embed_dim, num_layers=num_layers, num_heads=num_heads)
    return GramSize(encoder, named.decoder)


def default_out_indices(num_layers: int) -> list[int]:
    """Choose the blocks whose outputs are fused.

    Parameters
    ----------
    num_layers : int
        Number of blocks.

    Returns
    -------
    indices : list of int
        For 12, 24 and 32 blocks those of Gram-B, -M and -L (Gram, config/*.yaml: every second block, in deeper encoders
        every fourth, and the last); the same rule for other depths.
    """
    step = 2 if num_layers <= 12 else 4
    indices = [i for i in range(0, num_layers - 1, step) if i != num_layers - 2 or i < step]
    return [*indices, num_layers - 1]


@dataclass(frozen=True)
class GramTokenizerSize:
    """Numbers behind the name of a tokenizer.

    Parameters
    ----------
    encoder : Size
        Width, depth and heads of the encoder.
    decoder_layers : int
        Depth of the decoder, which has the encoder's width and heads.
    n_codes, code_dim : int
        Size of the codebook.
    """

    encoder: Size
    decoder_layers: int
    n_codes: int
    code_dim: int


#: ``base`` is official, with its 8196 (not 8192) codes, for all three sizes of the restoration model (Gram,
#: model/modeling_vqkd.py). ``small`` is ours.
GRAM_TOKENIZER_SIZES: dict[str, GramTokenizerSize] = {
    "small": GramTokenizerSize(Size(128, 2, 4, layer_scale=0.0), decoder_layers=1, n_codes=512, code_dim=32),
    "base": GramTokenizerSize(Size(200, 12, 10, layer_scale=0.0), decoder_layers=12, n_codes=8196, code_dim=32),
}
