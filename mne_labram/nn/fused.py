"""Transformer blocks in evaluation mode, computed from weights that are rearranged for speed.

What a block computes is :class:`mne_labram.nn.attention.TransformerBlock`'s; only how differs. Layer scale goes into
the weights that it follows, the centring of queries and keys into the weights that make them; windows are taken a few
at a time, so that what one step writes is still in the cache when the next one reads it; and the residual stream is
float32 whatever the products are in.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mne_labram.nn.attention import FeedForward, SelfAttention, TransformerBlock
from mne_labram.nn.modules import share_parameters
from mne_labram.nn.packed import PackedLinear, onednn_works

__all__ = ["FusedBlocks", "fuse_blocks"]

# Tokens that one thread works on at a time. At width 200 they take 2 MB at the widest point; 300 to 1200 are equally
# fast within 5 % (measured on an AMD EPYC with 1 MB of second-level cache per core).
_TOKENS_PER_THREAD = 640
# Longest window, in tokens, whose attention weights are written out. torch's attention kernel never does so, but below
# this length two plain matrix products are faster than it, by a factor of 2 at 77 tokens (same machine).
_LONGEST_EXPLICIT = 512
# Products of normalised queries and keys that are known to stay below this may be exponentiated as they are. The limit
# is not exp's, which is 88, but bfloat16's: between 8 and 16 its step is 0.06.
_LARGEST_LOGIT = 16.0
# bfloat16 vectors hold 32 numbers; a length that is no multiple of 16 leaves its rest to slow scalar code.
_BF16_ALIGNMENT = 16
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def _is_plain(module: nn.Module | None, kind: type[nn.Module]) -> bool:
    """Whether a module is exactly of a kind: no adapter, no parametrisation and no hook that a copy would leave out."""
    return type(module) is kind and not any(getattr(module, name) for name in _HOOKS)


def _is_fusible(blocks: nn.Module) -> bool:
    """Whether blocks are ours, as they were built, in float32."""
    if not _is_plain(blocks, nn.ModuleList) or not len(blocks):
        return False
    for block in blocks:
        if not _is_plain(block, TransformerBlock):
            return False
        attention, mlp = block.attn, block.mlp
        expected = [
            (attention, SelfAttention),
            (mlp, FeedForward),
            *((layer, nn.Linear) for layer in (attention.qkv, attention.proj, mlp.fc1, mlp.fc2)),
            *((layer, nn.LayerNorm) for layer in (block.norm1, block.norm2)),
            *((layer, nn.LayerNorm) for layer in (attention.q_norm, attention.k_norm) if layer is not None),
        ]
        if not all(_is_plain(layer, kind) for layer, kind in expected):
            return False
    return all(p.dtype == torch.float32 and not p.is_inference() for p in blocks.parameters())


@functools.cache
def _thread_counts_are_local() -> bool:
    """Whether a thread can limit itself to one core and leave the others alone; with OpenMP it can."""
    return "ATen parallel backend: OpenMP" in torch.__config__.parallel_info()


class _FusedBlock:
    """The derived weights of one block.

    With ``q`` and ``k`` centred over the head dimension d (which is linear, so it is done to their weights), LayerNorm
    is ``sqrt(d) q r`` with ``r = 1 / sqrt(sum(q^2) + d eps)``. Of the product of two such vectors with gains and
    biases, whatever does not depend on the key cancels in the softmax; what remains is
    ``(g_q g_k sqrt(d) q r_q + b_q g_k) . (k r_k)``, so the keys need neither gain nor bias.
    """

    def __init__(self, block: TransformerBlock, dtype: torch.dtype, onednn: bool) -> None:
        attention = block.attn
        self.num_heads, self.head_dim = attention.num_heads, attention.head_dim
        self.dtype = dtype
        self.norm1, self.norm2 = block.norm1, block.norm2
        weight = attention.qkv.weight.detach().double().unflatten(0, (3, self.num_heads, self.head_dim)).clone()
        bias = None
        if attention.q_bias is not None:
            parts = (attention.q_bias, torch.zeros_like(attention.v_bias), attention.v_bias)
            bias = torch.stack([part.detach().double().unflatten(0, weight.shape[1:3]) for part in parts])
        self.gain = None
        self.largest_logit = math.inf
        if attention.q_norm is None:
            for part in (weight, bias):
                if part is not None:
                    part[0] *= self.head_dim**-0.5
        else:
            for part in (weight, bias):
                if part is not None:
                    part[:2] -= part[:2].mean(dim=2, keepdim=True)
            self._take_norms(attention)
        self.qkv = PackedLinear(
            weight.flatten(0, 2), None if bias is None else bias.flatten(), dtype=dtype, onednn=onednn
        )
        self.proj = _scaled(attention.proj, block.gamma_1, dtype, onednn)
        fc1 = block.mlp.fc1
        self.fc1 = PackedLinear(fc1.weight, fc1.bias, dtype=dtype, activation=block.mlp.act, onednn=onednn)
        self.fc2 = _scaled(block.mlp.fc2, block.gamma_2, dtype, onednn)

    def _take_norms(self, attention: SelfAttention) -> None:
        """Derive gain and bias of the queries, and how large a logit can become."""
        dim = self.head_dim
        g_q, b_q = (p.detach().double() for p in (attention.q_norm.weight, attention.q_norm.bias))
        g_k = attention.k_norm.weight.detach().double()
        gain, bias = g_q * g_k * math.sqrt(dim), b_q * g_k
        self.gain, self.bias = gain.float(), bias.float()
        self.q_eps, self.k_eps = dim * attention.q_norm.eps, dim * attention.k_norm.eps
        # The same in terms of LayerNorm's output, for where one kernel is better than several fast ones.
        self.q_weight, self.q_bias = (gain / dim).to(self.dtype), (bias / math.sqrt(dim)).to(self.dtype)
        # |k r_k| <= 1 and |q r_q| <= 1.
        self.largest_logit = float(gain.abs().max() + bias.norm())

    def normalised(self, qkv: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise queries and keys of ``qkv``, shape (batch, n_tokens, 3, heads, head_dim), along the last axis."""
        q, k = qkv[:, :, 0], qkv[:, :, 1]
        if self.gain is None:
            return q, k
        q, k = q.float(), k.float()
        r_q = torch.linalg.vecdot(q, q).add_(self.q_eps).rsqrt_().unsqueeze(-1)
        r_k = torch.linalg.vecdot(k, k).add_(self.k_eps).rsqrt_().unsqueeze(-1)
        return torch.addcmul(self.bias, q * r_q, self.gain), k * r_k


def _scaled(linear: nn.Linear, gamma: Tensor | None, dtype: torch.dtype, onednn: bool) -> PackedLinear:
    """Pack a linear map that is followed by a layer scale."""
    weight, bias = linear.weight.detach(), linear.bias.detach()
    if gamma is not None:
        weight, bias = weight * gamma.detach()[:, None], bias * gamma.detach()
    return PackedLinear(weight, bias, dtype=dtype, onednn=onednn)


class _FlashAttention:
    """torch's attention kernel, for long windows and for what is not a CPU with oneDNN."""

    def __init__(self, batch: int, n_tokens: int, block: _FusedBlock, device: torch.device) -> None:
        pass  # needs no buffers

    def __call__(self, qkv: Tensor, block: _FusedBlock) -> Tensor:
        q, k, v = qkv.unbind(2)
        if block.gain is not None:
            shape = (block.head_dim,)
            q = F.layer_norm(q, shape, block.q_weight, block.q_bias, eps=block.q_eps / block.head_dim)
            k = F.layer_norm(k, shape, eps=block.k_eps / block.head_dim)
        parts = (part.transpose(1, 2) for part in (q, k, v))
        return F.scaled_dot_product_attention(*parts, scale=1.0).transpose(1, 2).flatten(0, 1).flatten(1)


class _ExplicitAttention:
    """Two batched products with a softmax between them, in buffers that all blocks share."""

    def __init__(self, batch: int, n_tokens: int, block: _FusedBlock, device: torch.device) -> None:
        self.shape = (batch, n_tokens, block.num_heads, block.head_dim)
        heads = batch * block.num_heads
        new = {"dtype": torch.float32, "device": device}
        self.q, self.k, self.v, self.mixed = (torch.empty(heads, n_tokens, block.head_dim, **new) for _ in range(4))
        self.logits, self.weights = (torch.empty(heads, n_tokens, n_tokens, **new) for _ in range(2))
        self.out = torch.empty(self.shape, **new)

    def _by_head(self, buffer: Tensor) -> Tensor:
        """View a buffer as (batch, n_tokens, heads, head_dim)."""
        return buffer.unflatten(0, (self.shape[0], self.shape[2])).transpose(1, 2)

    def __call__(self, qkv: Tensor, block: _FusedBlock) -> Tensor:
        for buffer, part in zip((self.q, self.k, self.v), (*block.normalised(qkv), qkv[:, :, 2]), strict=True):
            self._by_head(buffer).copy_(part)
        torch.bmm(self.q, self.k.transpose(1, 2), out=self.logits)
        torch.softmax(self.logits, dim=-1, out=self.weights)
        torch.bmm(self.weights, self.v, out=self.mixed)
        return self.out.copy_(self._by_head(self.mixed)).flatten(0, 1).flatten(1)


class _ExponentialAttention:
    """The same for bounded logits in bfloat16: a column of ones beside the values adds the exponentials up.

    No maximum is subtracted, since none is needed, and the division by the sum comes after the product. Logits are
    (keys, queries) and the output is (head_dim, queries), so that the division runs along the longer axis. Tokens are
    padded; a key that is padding has zeros for values and for its one.
    """

    def __init__(self, batch: int, n_tokens: int, block: _FusedBlock, device: torch.device) -> None:
        dim, n_heads = block.head_dim, block.num_heads
        self.shape = (batch, n_tokens, n_heads, dim)
        padded, width = (-(-n // _BF16_ALIGNMENT) * _BF16_ALIGNMENT for n in (n_tokens, dim + 1))
        new = {"dtype": torch.bfloat16, "device": device}
        self.q, self.k = (torch.zeros(batch, n_heads, padded, dim, **new) for _ in range(2))
        self.v = torch.zeros(batch, n_heads, padded, width, **new)
        self.v[:, :, :n_tokens, dim] = 1.0
        self.weights = torch.empty(batch * n_heads, padded, padded, **new)
        self.sums = torch.empty(batch * n_heads, width, padded, **new)
        self.mixed = torch.empty(batch * n_heads, dim, padded, **new)
        self.out = torch.empty(self.shape, **new)

    def __call__(self, qkv: Tensor, block: _FusedBlock) -> Tensor:
        batch, n_tokens, n_heads, dim = self.shape
        for buffer, part in zip((self.q, self.k, self.v), (*block.normalised(qkv), qkv[:, :, 2]), strict=True):
            buffer[:, :, :n_tokens, :dim].copy_(part.transpose(1, 2))
        q, k, v = (buffer.flatten(0, 1) for buffer in (self.q, self.k, self.v))
        torch.bmm(k, q.transpose(1, 2), out=self.weights).exp_()
        torch.bmm(v.transpose(1, 2), self.weights, out=self.sums)
        torch.div(self.sums[:, :dim], self.sums[:, dim : dim + 1], out=self.mixed)
        mixed = self.mixed[..., :n_tokens].unflatten(0, (batch, n_heads))
        return self.out.copy_(mixed.permute(0, 3, 1, 2)).flatten(0, 1).flatten(1)


class FusedBlocks(nn.Module):
    """A stack of transformer blocks in evaluation mode.

    Parameters
    ----------
    blocks : torch.nn.ModuleList of TransformerBlock
        The blocks; shared, not copied. They are run as they are whenever that is what is needed: in training mode,
        where a gradient is wanted, or on an input that is not float32.
    dtype : torch.dtype
        float32 or bfloat16, of matrix products and attention. Normalisation and the residual stream are float32.

    Notes
    -----
    Derived weights are made at construction, and made again when a parameter was replaced, moved or changed in place
    since. What torch does not count as a change, writing through ``parameter.data``, is not noticed.
    """

    def __init__(self, blocks: nn.ModuleList, dtype: torch.dtype) -> None:
        super().__init__()
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"Blocks run in float32 or bfloat16, not in {dtype}.")
        if not _is_fusible(blocks):
            raise ValueError("Only float32 TransformerBlocks as they were built, without hooks or adapters, are fused.")
        self.plain = blocks
        self.dtype = dtype
        self.train(blocks.training)
        self._pack()

    def _is_stale(self) -> bool:
        """Whether anything that the derived weights come from was replaced, moved, written to or hooked."""
        return any(len(holder) != size for holder, size in self._holders) or any(
            holder.get(name) is not held
            or (version is not None and (held._version != version or held.data_ptr() != address))
            for holder, name, held, version, address in self._packed_from
        )

    @torch.no_grad()
    def _pack(self) -> None:
        self._fused = None
        if _is_fusible(self.plain):
            on_cpu = next(self.plain.parameters()).device.type == "cpu"
            self._onednn = on_cpu and onednn_works(self.dtype)
            self._fused = [_FusedBlock(block, self.dtype, self._onednn) for block in self.plain]
        holders = [
            holder
            for module in self.plain.modules()
            for holder in (module._parameters, module._modules, *(getattr(module, name) for name in _HOOKS))
        ]
        self._holders = [(holder, len(holder)) for holder in holders]
        self._packed_from = [
            (holder, name, held, *((held._version, held.data_ptr()) if isinstance(held, Tensor) else (None, None)))
            for holder in holders
            for name, held in holder.items()
        ]

    def _must_be_plain(self, x: Tensor) -> bool:
        if self.training or x.dtype != torch.float32:
            return True
        if torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in self.plain.parameters())):
            return True
        return torch.compiler.is_compiling() or torch.jit.is_tracing()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks.

        Parameters
        ----------
        x : Tensor, shape (batch, n_tokens, embed_dim)
            Tokens.

        Returns
        -------
        x : Tensor, shape (batch, n_tokens, embed_dim)
            Tokens.
        """
        if self._must_be_plain(x):
            return self._run_plain(x)
        if self._is_stale():
            self._pack()
        if self._fused is None:
            return self._run_plain(x)
        if x.device.type != "cpu" or not len(x):
            return self._run(x)
        out = torch.empty_like(x)
        n_threads = torch.get_num_threads()
        most = max(1, _TOKENS_PER_THREAD // x.shape[1])
        if n_threads == 1 or len(x) < n_threads or not _thread_counts_are_local():
            n_parts = -(-len(x) // (most * n_threads))
            for part, place in zip(x.tensor_split(n_parts), out.tensor_split(n_parts), strict=True):
                place.copy_(self._run(part))
        else:
            n_parts = min(len(x), n_threads * -(-len(x) // (most * n_threads)))
            self._run_in_threads(x.tensor_split(n_parts), out.tensor_split(n_parts), n_threads)
        return out

    def _run_plain(self, x: Tensor) -> Tensor:
        """Apply the blocks as they are."""
        for block in self.plain:
            x = block(x)
        return x

    def _attention(self, batch: int, n_tokens: int, device: torch.device) -> list:
        """Choose how each block attends; blocks that do it alike share their buffers."""
        made = {}
        chosen = []
        for block in self._fused:
            kind = _FlashAttention
            if self._onednn and n_tokens <= _LONGEST_EXPLICIT:
                if self.dtype == torch.float32:
                    kind = _ExplicitAttention
                elif block.largest_logit <= _LARGEST_LOGIT:
                    kind = _ExponentialAttention
            if kind not in made:
                made[kind] = kind(batch, n_tokens, block, device)
            chosen.append(made[kind])
        return chosen

    def _run_in_threads(self, parts: Sequence[Tensor], places: Sequence[Tensor], n_threads: int) -> None:
        """Give each thread windows of its own.

        Threads that share every operation wait for each other about 40 times per block. On an idle machine that costs
        little, on a busy one the whole waits for whoever was interrupted, and it was three times as slow as this.
        """
        inference = torch.is_inference_mode_enabled()

        def run(part: Tensor, place: Tensor) -> None:
            with torch.inference_mode(inference), torch.no_grad():
                place.copy_(self._run(part))

        try:
            with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                for _ in pool.map(run, parts, places):
                    pass
        finally:
            # The last word on how many threads a new thread of the user's gets.
            torch.set_num_threads(n_threads)

    def _run(self, x: Tensor) -> Tensor:
        """Apply the blocks to a few windows."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return self._run_windows(x)

    def _run_windows(self, x: Tensor) -> Tensor:
        batch, n_tokens, width = x.shape
        stream = x.reshape(-1, width).clone()
        for block, attend in zip(self._fused, self._attention(batch, n_tokens, x.device), strict=True):
            qkv = block.qkv(block.norm1(stream).to(self.dtype))
            mixed = attend(qkv.view(batch, n_tokens, 3, block.num_heads, block.head_dim), block)
            stream = block.proj.add_to(stream, mixed)
            stream = block.fc2.add_to(stream, block.fc1(block.norm2(stream).to(self.dtype)))
        return stream.view(x.shape)


def fuse_blocks(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Replace every stack of transformer blocks in a module by :class:`FusedBlocks`.

    Parameters
    ----------
    module : torch.nn.Module
        A model in evaluation mode; not changed.
    dtype : torch.dtype
        float32 or bfloat16.

    Returns
    -------
    module : torch.nn.Module
        A shallow copy that shares every parameter; the module itself if it has no such stack. The copy is for running,
        not for saving: its state dict has other names.
    """
    children = {name: child and fuse_blocks(child, dtype) for name, child in module._modules.items()}
    children = {
        name: nn.ModuleList([FusedBlocks(child, dtype)]).train(child.training) if _is_fusible(child) else child
        for name, child in children.items()
    }
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    new = share_parameters(module)
    new._modules.update(children)
    return new
