"""Fused blocks compute what the blocks compute."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from mne_labram.nn import fused
from mne_labram.nn.attention import TransformerBlock
from mne_labram.nn.fused import FusedBlocks, fuse_blocks
from mne_labram.nn.packed import onednn_works

#: Number formats, and how far a result may be off, in units of its largest value.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
WIDTH, HEADS = 60, 3
VARIANTS = {
    "official": {},
    "tokenizer": {"qk_norm": False, "qkv_bias": True, "layer_scale": None},
    "qkv_bias": {"qkv_bias": True},
    "no layer scale": {"layer_scale": 0.0},
    "tanh": {"activation": lambda: nn.GELU("tanh")},
    "elu": {"activation": nn.ELU},
    "wide": {"mlp_ratio": 1.5},
}


def _blocks(n: int = 2, width: int = WIDTH, heads: int = HEADS, seed: int = 0, **options) -> nn.ModuleList:
    """Make blocks in which no parameter has the value it starts with."""
    blocks = nn.ModuleList(TransformerBlock(width, heads, **options) for _ in range(n)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in blocks.named_parameters():
            near_one = "norm" in name and name.endswith("weight")
            draw = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(near_one + (0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5) * draw)
    return blocks


def _tokens(batch: int = 3, n_tokens: int = 9, width: int = WIDTH, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, n_tokens, width, generator=torch.Generator().manual_seed(seed))


def _plain(blocks: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
    for block in blocks:
        x = block(x)
    return x


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(params=["onednn", "torch"])
def kernels(request, monkeypatch) -> str:
    """Run with oneDNN's matrix products, where there are any, and with torch's own."""
    if request.param == "torch":
        monkeypatch.setattr(fused, "onednn_works", lambda dtype: False)
    elif not onednn_works(torch.float32):
        pytest.skip("no oneDNN on this machine")
    return request.param


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_same_as_the_blocks(variant, dtype, kernels):
    blocks, x = _blocks(**VARIANTS[variant]), _tokens()
    before = x.clone()
    with torch.inference_mode():
        expected = _plain(blocks, x)
        module = FusedBlocks(blocks, dtype)
        found = module(x)
        assert _error(found, expected) < TOLERANCE[dtype]
        assert torch.equal(module(x), found)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("n_tokens", [1, 2, 5, 16, 77, 257, 530])
def test_every_length(n_tokens, dtype):
    """Beyond 512 tokens attention weights are not written out."""
    blocks, x = _blocks(n=1), _tokens(2, n_tokens)
    with torch.inference_mode():
        assert _error(FusedBlocks(blocks, dtype)(x), _plain(blocks, x)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("width", "heads"), [(200, 10), (400, 16), (128, 4), (31, 1), (24, 24)])
def test_every_head(width, heads, dtype, kernels):
    """Also heads of a single number, which LayerNorm maps to its bias."""
    blocks, x = _blocks(1, width, heads), _tokens(2, 11, width)
    with torch.inference_mode():
        assert _error(FusedBlocks(blocks, dtype)(x), _plain(blocks, x)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_sharp_attention(dtype):
    """Logits far beyond what bfloat16 resolves, and beyond what exp takes."""
    blocks, x = _blocks(n=1), _tokens()
    with torch.no_grad():
        blocks[0].attn.q_norm.weight.mul_(12)
        blocks[0].attn.k_norm.weight.mul_(4)
    module = FusedBlocks(blocks, dtype)
    assert module._fused[0].largest_logit > 88
    with torch.inference_mode():
        # Where attention picks one of two keys, rounding the logits changes which.
        assert _error(module(x), _plain(blocks, x)) < (1e-5 if dtype == torch.float32 else 0.1)


def test_logits_are_bounded():
    blocks = _blocks(n=1)
    module = FusedBlocks(blocks, torch.float32)
    attention, (block,) = blocks[0].attn, module._fused
    qkv = 50 * _tokens(4, 40, 3 * WIDTH).view(4, 40, 3, HEADS, WIDTH // HEADS)
    centred = qkv - qkv.mean(dim=-1, keepdim=True)
    with torch.inference_mode():
        q, k = block.normalised(centred)
        logits = torch.einsum("bqhd,bkhd->bhqk", q, k)
        assert 0.2 * block.largest_logit < logits.abs().max() <= block.largest_logit
        # Up to what is the same for all keys, they are the logits of the block.
        q, k = attention.q_norm(qkv[:, :, 0]), attention.k_norm(qkv[:, :, 1])
        expected = torch.einsum("bqhd,bkhd->bhqk", q, k) * (WIDTH // HEADS) ** -0.5
    assert torch.allclose(logits.softmax(-1), expected.softmax(-1), atol=1e-5)


@pytest.fixture
def n_threads():
    """Set torch's number of threads, for the length of a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("local", [True, False])
def test_windows_are_independent(local, dtype, n_threads, monkeypatch):
    """However many are taken at a time, by however many threads, which are as many afterwards."""
    monkeypatch.setattr(fused, "_thread_counts_are_local", lambda: local)
    blocks, x = _blocks(), _tokens(7)
    module = FusedBlocks(blocks, dtype)
    n_threads(1)
    with torch.no_grad():
        whole = module(x)
    for threads, tokens in ((1, 1), (1, 20), (2, 1), (2, 20), (2, 640), (3, 640), (7, 640), (8, 640)):
        n_threads(threads)
        monkeypatch.setattr(fused, "_TOKENS_PER_THREAD", tokens)
        for context in (torch.inference_mode, torch.no_grad):
            with context():
                # Kernels may differ by size, and with them the last bit, which bfloat16 makes larger.
                assert _error(module(x), whole) < (1e-6 if dtype == torch.float32 else 5e-3)
        with ThreadPoolExecutor(1) as pool:
            assert (torch.get_num_threads(), pool.submit(torch.get_num_threads).result()) == (threads, threads)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_no_window(dtype):
    module = FusedBlocks(_blocks(), dtype)
    with torch.inference_mode():
        assert module(_tokens(0)).shape == (0, 9, WIDTH)


def test_errors_in_a_thread_are_raised(n_threads, monkeypatch):
    n_threads(2)
    module = FusedBlocks(_blocks(), torch.float32)
    monkeypatch.setattr(module, "_run", lambda part: 1 / 0)
    with torch.no_grad(), pytest.raises(ZeroDivisionError):
        module(_tokens(4))
    assert torch.get_num_threads() == 2


def _step(blocks: nn.ModuleList) -> None:
    optimizer = torch.optim.SGD(blocks.parameters(), lr=1.0)
    for parameter in blocks.parameters():
        parameter.grad = torch.ones_like(parameter) * 0.1
    optimizer.step()


def _replace_parameter(blocks: nn.ModuleList) -> None:
    blocks[1].gamma_2 = nn.Parameter(2 * blocks[1].gamma_2.detach())


def _replace_layer(blocks: nn.ModuleList) -> None:
    blocks[0].mlp.fc1 = nn.Linear(WIDTH, 4 * WIDTH)


def _point_elsewhere(blocks: nn.ModuleList) -> None:
    blocks[0].attn.proj.weight.data = 2 * blocks[0].attn.proj.weight.data


def _add_block(blocks: nn.ModuleList) -> None:
    blocks.append(copy.deepcopy(blocks[0]))


CHANGES = {
    "optimizer": _step,
    "load_state_dict": lambda blocks: blocks.load_state_dict(_blocks(seed=5).state_dict()),
    "one bias in place": lambda blocks: nn.init.constant_(blocks[1].attn.k_norm.weight, 2.0),
    "new parameter": _replace_parameter,
    "new layer": _replace_layer,
    "new memory": _point_elsewhere,
    "new block": _add_block,
    "hook": lambda blocks: blocks[0].mlp.fc2.register_forward_hook(lambda module, args, out: 2 * out),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("change", CHANGES)
def test_weights_are_never_stale(change, dtype):
    blocks, x = _blocks(), _tokens()
    module = FusedBlocks(blocks, dtype)
    with torch.inference_mode():
        before = module(x)
    CHANGES[change](blocks)
    with torch.inference_mode():
        expected = _plain(blocks, x)
        assert _error(before, expected) > 2 * TOLERANCE[dtype]
        assert _error(module(x), expected) < TOLERANCE[dtype]


def test_training_goes_through_the_blocks_as_they_are():
    blocks, x = _blocks(drop_prob=0.5, drop_path_prob=0.5), _tokens()
    module = FusedBlocks(blocks, torch.bfloat16)
    expected = _plain(blocks, x)
    assert torch.equal(module(x), expected)  # gradients are wanted: exact, in float32
    module(x).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in blocks.parameters())
    module.train()
    with torch.no_grad():
        assert not torch.equal(module(x), module(x))  # dropout
    module.eval()
    with torch.no_grad():
        assert _error(module(x), expected.detach()) < TOLERANCE[torch.bfloat16]
        # Only the input wants a gradient.
    blocks.requires_grad_(False)
    x.requires_grad_(True)
    assert torch.equal(module(x), expected)
    assert module(x).requires_grad


def test_other_number_formats_go_through_the_blocks_as_they_are():
    blocks, x = _blocks(), _tokens()
    module = FusedBlocks(blocks, torch.float32)
    module.double()
    with torch.inference_mode():
        assert torch.equal(module(x.double()), _plain(blocks, x.double()))
        module.float()
        assert _error(module(x), _plain(blocks, x)) < TOLERANCE[torch.float32]


def test_autocast_around_it_changes_nothing():
    blocks, x = _blocks(), _tokens()
    module = FusedBlocks(blocks, torch.float32)
    with torch.inference_mode():
        expected = module(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(module(x), expected)


class _Model(nn.Module):
    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.blocks = blocks
        self.encoder.norm = nn.LayerNorm(WIDTH)
        self.others = nn.ModuleList([nn.Linear(2, 2)])
        self.nothing = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.encoder.blocks:
            x = block(x)
        return self.encoder.norm(x)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_fuse_blocks_shares_and_changes_nothing(dtype):
    model, x = _Model(_blocks()).eval(), _tokens()
    names, modules = list(model.state_dict()), list(model.modules())
    new = fuse_blocks(model, dtype)
    assert type(new) is _Model
    assert list(model.state_dict()) == names
    assert list(model.modules()) == modules
    assert {id(p) for p in new.parameters()} == {id(p) for p in model.parameters()}
    assert new.encoder.norm is model.encoder.norm
    assert new.others is model.others
    assert not any(isinstance(module, FusedBlocks) for module in model.modules())
    with torch.inference_mode():
        assert _error(new(x), model(x)) < TOLERANCE[dtype]
    assert new.train().encoder.blocks[0].plain[0].training
    assert model.encoder.blocks[0].training  # shared


def _hooked(blocks: nn.ModuleList) -> None:
    blocks[0].attn.register_forward_hook(lambda *args: None)


def _adapted(blocks: nn.ModuleList) -> None:
    class Adapter(nn.Linear):
        pass

    blocks[1].mlp.fc2 = Adapter(4 * WIDTH, WIDTH)


def _parametrised(blocks: nn.ModuleList) -> None:
    nn.utils.parametrizations.weight_norm(blocks[0].attn.qkv)


def _half(blocks: nn.ModuleList) -> None:
    blocks.bfloat16()


def _empty(blocks: nn.ModuleList) -> None:
    del blocks[:]


@pytest.mark.parametrize("change", [_hooked, _adapted, _parametrised, _half, _empty])
def test_what_a_copy_would_leave_out_is_not_fused(change):
    blocks = _blocks()
    change(blocks)
    model = _Model(blocks).eval()
    assert fuse_blocks(model, torch.float32) is model
    with pytest.raises(ValueError, match="without hooks or adapters"):
        FusedBlocks(blocks, torch.float32)


def test_blocks_without_version_counters_are_not_fused():
    with torch.inference_mode():
        model = _Model(_blocks())
    assert fuse_blocks(model, torch.float32) is model


def test_other_formats_are_refused():
    with pytest.raises(ValueError, match=r"float32 or bfloat16, not in torch.float16"):
        FusedBlocks(_blocks(), torch.float16)
