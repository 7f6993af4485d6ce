"""Named configurations."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["SIZES", "TOKENIZER_SIZES", "Size", "TokenizerSize", "replace_numbers", "resolve_size"]


@dataclass(frozen=True)
class Size:
    """Numbers behind a name.

    Parameters
    ----------
    embed_dim, num_layers, num_heads : int
        Width, depth and heads of the encoder.
    layer_scale : float
        Initial value of the residual gains (Jiang et al. 2024, table 5).
    """

    embed_dim: int
    num_layers: int
    num_heads: int
    layer_scale: float


#: ``base``, ``large`` and ``huge`` are official (LaBraM, modeling_finetune.py, labram_*_patch200_200; layer scale from
#: Jiang et al. 2024, appendix C). ``small`` is ours, for laptops and tests: 0.8 million parameters.
SIZES: dict[str, Size] = {
    "small": Size(embed_dim=128, num_layers=4, num_heads=4, layer_scale=0.1),
    "base": Size(embed_dim=200, num_layers=12, num_heads=10, layer_scale=0.1),
    "large": Size(embed_dim=400, num_layers=24, num_heads=16, layer_scale=1e-5),
    "huge": Size(embed_dim=800, num_layers=48, num_heads=16, layer_scale=1e-6),
}


def resolve_size(
    size: str, *, embed_dim: int | None = None, num_layers: int | None = None, num_heads: int | None = None
) -> Size:
    """Take a named configuration, with some of its numbers replaced.

    Parameters
    ----------
    size : {"small", "base", "large", "huge"}
        Name.
    embed_dim, num_layers, num_heads : int | None
        Replacements. When only the width is given, the number of heads becomes the largest that divides it and does
        not exceed the named one.

    Returns
    -------
    size : Size
        The numbers.

    Raises
    ------
    ValueError
        If the name is unknown, a number is below 1, or the heads do not divide the width.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(map(repr, SIZES))}, got {size!r}.")
    return replace_numbers(SIZES[size], embed_dim=embed_dim, num_layers=num_layers, num_heads=num_heads)


def replace_numbers(
    size: Size, *, embed_dim: int | None = None, num_layers: int | None = None, num_heads: int | None = None
) -> Size:
    """Replace some numbers of a configuration.

    Parameters
    ----------
    size : Size
        The configuration; not changed.
    embed_dim, num_layers, num_heads : int | None
        Replacements, as in :func:`resolve_size`.

    Returns
    -------
    size : Size
        The numbers.

    Raises
    ------
    ValueError
        If a number is below 1, or the heads do not divide the width.
    """
    numbers = {"embed_dim": embed_dim, "num_layers": num_layers, "num_heads": num_heads}
    given = {name: value for name, value in numbers.items() if value is not None}
    for name, value in given.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    new = replace(size, **given)
    if num_heads is None:
        new = replace(new, num_heads=max(n for n in range(1, new.num_heads + 1) if new.embed_dim % n == 0))
    if new.embed_dim % new.num_heads:
        raise ValueError(f"num_heads ({new.num_heads}) must divide embed_dim ({new.embed_dim}).")
    return new


@dataclass(frozen=True)
class TokenizerSize:
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


#: ``base`` and ``large`` are official (LaBraM, modeling_vqnsp.py, vqnsp_encoder_*_decoder_3x200x12, with the codebook
#: of 8192 x 64 that its README and Jiang et al. 2024, table 3, ask for); ``large`` is deeper, not wider. ``small`` is
#: ours.
TOKENIZER_SIZES: dict[str, TokenizerSize] = {
    "small": TokenizerSize(Size(128, 4, 4, layer_scale=0.0), decoder_layers=2, n_codes=512, code_dim=32),
    "base": TokenizerSize(Size(200, 12, 10, layer_scale=0.0), decoder_layers=3, n_codes=8192, code_dim=64),
    "large": TokenizerSize(Size(200, 24, 10, layer_scale=0.0), decoder_layers=3, n_codes=8192, code_dim=64),
}
