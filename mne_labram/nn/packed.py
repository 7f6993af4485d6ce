"""Linear maps whose weight lies in memory as the processor's matrix product reads it."""

from __future__ import annotations

import functools
import platform

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PackedLinear", "onednn_works"]

# oneDNN's names of what it can apply to a product before it leaves the cache: (operation, variant).
_ONEDNN_NOTHING = ("none", "")
_ONEDNN_OPERATORS = ("_linear_pointwise", "_reorder_linear_weight")


@functools.cache
def onednn_works(dtype: torch.dtype) -> bool:
    """Tell whether this processor and this torch can multiply packed weights by oneDNN.

    Parameters
    ----------
    dtype : torch.dtype
        float32 or bfloat16.

    Returns
    -------
    works : bool
        Asked only on x86-64, where it was measured. The operators are those that ``torch.compile`` emits for CPUs;
        they are not public, so a small product is compared with :func:`torch.nn.functional.linear` once per process
        and number format, and any difference is a no.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in _ONEDNN_OPERATORS):
        return False
    ramp = torch.linspace(-1.0, 1.0, 48 * 32, device="cpu")
    x, bias = ramp.sin().view(48, 32).to(dtype), ramp[:64].to(dtype)
    weight = ramp.repeat(2)[: 64 * 32].cos().view(64, 32).to(dtype)
    try:
        with torch.no_grad():
            packed = PackedLinear(weight, bias, dtype=dtype, activation=nn.GELU(), onednn=True)(x)
    except (RuntimeError, TypeError):
        return False
    expected = F.gelu(F.linear(x.float(), weight.float(), bias.float()))
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    return bool((packed.float() - expected).abs().max() <= tolerance * expected.abs().max())


class PackedLinear:
    """A linear map, and what follows it element by element.

    Parameters
    ----------
    weight : Tensor, shape (n_out, n_in)
        Weight.
    bias : Tensor, shape (n_out,) | None
        Bias.
    dtype : torch.dtype
        Number format of the product.
    activation : torch.nn.Module | None
        Applied to the output. GELU costs next to nothing, because oneDNN applies it while the product is in the cache.
    onednn : bool
        Pack the weight for oneDNN; ``False`` leaves the product to torch.

    Notes
    -----
    A plain object: what it holds is derived, has no gradient, and is no part of any state dict.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        dtype: torch.dtype,
        activation: nn.Module | None = None,
        onednn: bool,
    ) -> None:
        self.n_out = weight.shape[0]
        self.weight = weight.detach().to(dtype).contiguous()
        self.bias = None if bias is None else bias.detach().to(dtype).contiguous()
        self.activation = activation
        self.onednn = onednn
        self._after = _ONEDNN_NOTHING
        if onednn:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight)
            if type(activation) is nn.GELU:
                self._after, self.activation = ("gelu", activation.approximate), None

    def __call__(self, x: Tensor) -> Tensor:
        """Map rows.

        Parameters
        ----------
        x : Tensor, shape (n_rows, n_in)
            Of the number format that was chosen.

        Returns
        -------
        y : Tensor, shape (n_rows, n_out)
            Of the same format.
        """
        if self.onednn:
            operation, variant = self._after
            y = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, operation, [], variant)
        else:
            y = F.linear(x, self.weight, self.bias)
        return y if self.activation is None else self.activation(y)

    def add_to(self, stream: Tensor, x: Tensor) -> Tensor:
        """Map rows and add them to a residual stream.

        Parameters
        ----------
        stream : Tensor of float32, shape (n_rows, n_out)
            May be overwritten.
        x : Tensor, shape (n_rows, n_in)
            Of the number format that was chosen.

        Returns
        -------
        stream : Tensor of float32, shape (n_rows, n_out)
            The sum.
        """
        if self.onednn and x.dtype == stream.dtype and self.activation is None and self._after == _ONEDNN_NOTHING:
            return torch.ops.mkldnn._linear_pointwise.binary(x, stream, self.weight, self.bias, "add")
        return stream.add_(self(x))
