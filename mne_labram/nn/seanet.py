"""SEANet: a convolutional encoder and decoder of one-channel signals, for neural codecs."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SEANetDecoder", "SEANetEncoder", "reflect_pad"]


def reflect_pad(x: Tensor, left: int, right: int) -> Tensor:
    """Continue a signal at both ends by its mirror image.

    Parameters
    ----------
    x : Tensor, shape (..., n_times)
        The signal, of at least one sample.
    left, right : int
        Samples to add.

    Returns
    -------
    padded : Tensor, shape (..., left + n_times + right)
        The first and last sample are not repeated. A signal that is too short to be mirrored is continued by zeros
        first (EnCodec, modules/conv.py).
    """
    missing = max(left, right) + 1 - x.shape[-1]
    if missing <= 0:
        return F.pad(x, (left, right), mode="reflect")
    padded = F.pad(F.pad(x, (0, missing)), (left, right), mode="reflect")
    return padded[..., : padded.shape[-1] - missing]


class _Convolution(nn.Module):
    """Convolution whose output has ``ceil(n_times / stride)`` samples (EnCodec, modules/conv.py: SConv1d)."""

    def __init__(self, n_in: int, n_out: int, kernel_size: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        # The name is the published one: conv.conv.
        convolution = nn.Conv1d(n_in, n_out, kernel_size, stride=stride, dilation=dilation)
        self.conv = nn.Sequential(OrderedDict(conv=convolution))
        self.stride, self.length = stride, (kernel_size - 1) * dilation + 1

    def forward(self, x: Tensor) -> Tensor:
        total = self.length - self.stride
        right = total // 2
        beyond = -x.shape[-1] % self.stride
        return self.conv(reflect_pad(x, total - right, right + beyond))


class _TransposedConvolution(nn.Module):
    """Transposed convolution whose output has ``n_times * stride`` samples (EnCodec, modules/conv.py)."""

    def __init__(self, n_in: int, n_out: int, kernel_size: int, *, stride: int) -> None:
        super().__init__()
        self.convtr = nn.Sequential(OrderedDict(convtr=nn.ConvTranspose1d(n_in, n_out, kernel_size, stride=stride)))
        total = kernel_size - stride
        self.right = total // 2
        self.left = total - self.right

    def forward(self, x: Tensor) -> Tensor:
        out = self.convtr(x)
        return out[..., self.left : out.shape[-1] - self.right]


class _ResidualBlock(nn.Module):
    """What two convolutions make of a signal, added to it (EnCodec, modules/seanet.py: true_skip)."""

    def __init__(
        self, dim: int, kernel_size: int, *, dilation: int, compress: int, activation: type[nn.Module], drop_prob: float
    ) -> None:
        super().__init__()
        hidden = max(1, dim // compress)
        self.block = nn.Sequential(
            activation(),
            _Convolution(dim, hidden, kernel_size, dilation=dilation),
            activation(),
            _Convolution(hidden, dim, 1),
        )
        self.drop = nn.Dropout(drop_prob)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.block(x))


def _check_sizes(ratios: Sequence[int], **sizes: int) -> tuple[int, ...]:
    """Refuse sizes that make no network."""
    ratios = tuple(int(ratio) for ratio in ratios)
    if not ratios or min(ratios) < 1:
        raise ValueError(f"ratios must hold at least one stride, each at least 1, got {list(ratios)}.")
    for name, value in sizes.items():
        if value < (0 if name == "n_residual_layers" else 1):
            raise ValueError(f"{name} must be positive, got {value}.")
    return ratios


def _residual_blocks(
    dim: int,
    n: int,
    kernel_size: int,
    *,
    dilation_base: int,
    compress: int,
    activation: type[nn.Module],
    drop_prob: float,
) -> list[nn.Module]:
    """Make the residual blocks of one level; each looks ``dilation_base`` times as far as the one before."""
    return [
        _ResidualBlock(
            dim,
            kernel_size,
            dilation=dilation_base**j,
            compress=compress,
            activation=activation,
            drop_prob=drop_prob,
        )
        for j in range(n)
    ]


class SEANetEncoder(nn.Module):
    """Turn signals into latents, one for every ``stride`` samples.

    Parameters
    ----------
    ratios : sequence of int
        Strides, as the decoder has them: the encoder takes the last one first. Their product is ``stride``.
    n_filters, max_filters : int
        Filters at the signal's own rate, doubled with every stride, and how many there are at most.
    dim : int
        Width of a latent.
    n_residual_layers : int
        Residual blocks before every stride.
    kernel_size, last_kernel_size, residual_kernel_size : int
        Taps of the first and the last convolution, and of those in residual blocks; those with a stride have two taps
        for every sample of it.
    dilation_base, compress : int
        How much farther every next residual block looks, and by how much it narrows the signal.
    activation : type of nn.Module
        Class of the activation.
    drop_prob : float
        Dropout of what residual blocks add.

    Raises
    ------
    ValueError
        If a size makes no network.

    Notes
    -----
    The non-causal SEANet of EnCodec (Défossez et al. 2022, arXiv:2210.13438; modules/seanet.py) without its LSTM and
    without weight norm, as BrainCodec has it (Carzaniga et al. 2025, arXiv:2502.17462): every convolution is preceded
    by reflection, so that ``ceil(n_times / stride)`` latents come out. Names of parameters are the published ones.
    """

    def __init__(
        self,
        ratios: Sequence[int] = (2,) * 6,
        *,
        n_filters: int = 16,
        max_filters: int = 256,
        dim: int = 64,
        n_residual_layers: int = 1,
        kernel_size: int = 3,
        last_kernel_size: int = 3,
        residual_kernel_size: int = 3,
        dilation_base: int = 2,
        compress: int = 2,
        activation: type[nn.Module] = nn.ELU,
        drop_prob: float = 0.0,
    ) -> None:
        super().__init__()
        ratios = _check_sizes(
            ratios,
            n_filters=n_filters,
            max_filters=max_filters,
            dim=dim,
            n_residual_layers=n_residual_layers,
            kernel_size=kernel_size,
            last_kernel_size=last_kernel_size,
            residual_kernel_size=residual_kernel_size,
            dilation_base=dilation_base,
            compress=compress,
        )
        self.stride, self.dim = math.prod(ratios), dim
        width = min(n_filters, max_filters)
        layers: list[nn.Module] = [_Convolution(1, width, kernel_size)]
        for level, ratio in enumerate(reversed(ratios), start=1):
            wider = min(n_filters * 2**level, max_filters)
            layers += _residual_blocks(
                width,
                n_residual_layers,
                residual_kernel_size,
                dilation_base=dilation_base,
                compress=compress,
                activation=activation,
                drop_prob=drop_prob,
            )
            layers += [activation(), _Convolution(width, wider, 2 * ratio, stride=ratio)]
            width = wider
        layers += [activation(), _Convolution(width, dim, last_kernel_size)]
        self.model = nn.Sequential(*layers)

    @property
    def last(self) -> nn.Conv1d:
        """The convolution that latents come out of."""
        return self.model[-1].conv.conv

    def forward(self, x: Tensor) -> Tensor:
        """Encode.

        Parameters
        ----------
        x : Tensor, shape (batch, 1, n_times)
            Signals of at least one sample.

        Returns
        -------
        latents : Tensor, shape (batch, dim, ceil(n_times / stride))
            One per frame.
        """
        return self.model(x)


class SEANetDecoder(nn.Module):
    """Turn latents back into signals; the mirror image of :class:`SEANetEncoder`.

    Parameters
    ----------
    ratios : sequence of int
        Strides, in the order in which the decoder takes them.
    n_filters, max_filters : int
        As for the encoder.
    dim : int
        Width of a latent.
    n_residual_layers : int
        Residual blocks after every stride.
    kernel_size, last_kernel_size, residual_kernel_size : int
        Taps of the first and the last convolution, and of those in residual blocks.
    dilation_base, compress : int
        As for the encoder.
    activation : type of nn.Module
        Class of the activation; there is none at the end.
    drop_prob : float
        Dropout of what residual blocks add.

    Raises
    ------
    ValueError
        If a size makes no network.
    """

    def __init__(
        self,
        ratios: Sequence[int] = (2,) * 6,
        *,
        n_filters: int = 16,
        max_filters: int = 256,
        dim: int = 64,
        n_residual_layers: int = 1,
        kernel_size: int = 3,
        last_kernel_size: int = 3,
        residual_kernel_size: int = 3,
        dilation_base: int = 2,
        compress: int = 2,
        activation: type[nn.Module] = nn.ELU,
        drop_prob: float = 0.0,
    ) -> None:
        super().__init__()
        ratios = _check_sizes(
            ratios,
            n_filters=n_filters,
            max_filters=max_filters,
            dim=dim,
            n_residual_layers=n_residual_layers,
            kernel_size=kernel_size,
            last_kernel_size=last_kernel_size,
            residual_kernel_size=residual_kernel_size,
            dilation_base=dilation_base,
            compress=compress,
        )
        self.stride, self.dim = math.prod(ratios), dim
        width = min(n_filters * 2 ** len(ratios), max_filters)
        layers: list[nn.Module] = [_Convolution(dim, width, kernel_size)]
        for level, ratio in zip(range(len(ratios) - 1, -1, -1), ratios, strict=True):
            narrower = min(n_filters * 2**level, max_filters)
            layers += [activation(), _TransposedConvolution(width, narrower, 2 * ratio, stride=ratio)]
            width = narrower
            layers += _residual_blocks(
                width,
                n_residual_layers,
                residual_kernel_size,
                dilation_base=dilation_base,
                compress=compress,
                activation=activation,
                drop_prob=drop_prob,
            )
        layers += [activation(), _Convolution(width, 1, last_kernel_size)]
        self.model = nn.Sequential(*layers)

    @property
    def last(self) -> nn.Conv1d:
        """The convolution that the signal comes out of."""
        return self.model[-1].conv.conv

    def forward(self, latents: Tensor) -> Tensor:
        """Decode.

        Parameters
        ----------
        latents : Tensor, shape (batch, dim, n_frames)
            One per frame.

        Returns
        -------
        x : Tensor, shape (batch, 1, n_frames * stride)
            The signals; crop them to the length that was encoded.
        """
        return self.model(latents)
