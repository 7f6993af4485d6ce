"""Residual quantisation, against EnCodec's update written out and what DAC adds to it."""

from __future__ import annotations

import copy
import itertools
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mne_labram.nn.quantize import ResidualVectorQuantizer

VARIANTS = {"plain": {}, "factorised": {"codebook_dim": 3}, "cosine": {"codebook_dim": 3, "cosine": True}}
variants = pytest.mark.parametrize("variant", VARIANTS)


def _randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _build(variant: str = "plain", **kwargs: object) -> ResidualVectorQuantizer:
    torch.manual_seed(5)
    sizes = {"dim": 6, "n_codebooks": 3, "codebook_size": 16, "kmeans_init": False}
    return ResidualVectorQuantizer(**{**sizes, **VARIANTS[variant], **kwargs})


def _error(latents: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    return (latents.double() - vectors.double()).square().sum(-1)


def test_golden_codes(golden: Path) -> None:
    with np.load(golden / "braincodec.npz") as file:
        codebooks, latent = torch.from_numpy(file["codebooks"]), torch.from_numpy(file["latent"])
        codes, quantized = torch.from_numpy(file["codes"]), torch.from_numpy(file["quantized"])
    quantizer = ResidualVectorQuantizer(32, n_codebooks=4, codebook_size=16).eval()
    quantizer.codebooks.copy_(codebooks)
    latents = latent.transpose(1, 2)
    out = quantizer(latents)
    assert torch.equal(out.codes, codes.transpose(1, 2))
    assert torch.equal(quantizer.encode(latents), codes.transpose(1, 2))
    torch.testing.assert_close(out.vectors, quantized.transpose(1, 2), rtol=0, atol=1e-6)
    torch.testing.assert_close(quantizer.lookup(codes.transpose(1, 2)), quantized.transpose(1, 2), rtol=0, atol=1e-6)


def test_update_is_encodecs() -> None:
    """EnCodec, core_vq.py: averages of counts and sums, and Laplace's smoothing."""
    quantizer = _build(decay=0.9, dead_code_threshold=0.0)
    before = copy.deepcopy(quantizer)
    latents = _randn(2, 50, 6)
    out = quantizer(latents)
    residual = latents.reshape(-1, 6)
    for i in range(3):
        codes = torch.cdist(residual, before.codebooks[i]).argmin(1)
        assert torch.equal(out.codes.view(-1, 3)[:, i], codes)
        one_hot = F.one_hot(codes, 16).float()
        size = 0.9 * before.cluster_size[i] + 0.1 * one_hot.sum(0)
        totals = 0.9 * before.codebooks[i] + 0.1 * one_hot.T @ residual
        smoothed = (size + 1e-5) / (size.sum() + 16 * 1e-5) * size.sum()
        torch.testing.assert_close(quantizer.cluster_size[i], size)
        torch.testing.assert_close(quantizer.codebooks[i], totals / smoothed[:, None])
        torch.testing.assert_close(out.losses[i], (residual - before.codebooks[i][codes]).square().mean())
        residual = residual - before.codebooks[i][codes]
    torch.testing.assert_close(out.loss, out.losses.mean())


@variants
def test_every_codebook_gives_a_commitment_gradient(variant: str) -> None:
    """Where the residual is not detached, the gradients of all codebooks but the first cancel (encodec #25)."""
    quantizer = _build(variant, n_codebooks=4).eval()
    latents = _randn(40, 6).requires_grad_()
    out = quantizer(latents)
    gradients = [torch.autograd.grad(loss, latents, retain_graph=True)[0] for loss in out.losses]
    residual = latents.detach()
    for i, gradient in enumerate(gradients):
        assert float(gradient.norm()) > 1e-3
        if variant == "plain":
            left = residual - quantizer.codebooks[i][out.codes[:, i]]
            torch.testing.assert_close(gradient, 2.0 * left / left.numel())
            residual = left
    # None is a copy of another.
    for one, two in itertools.combinations(gradients, 2):
        assert float((one - two).norm()) > 0.1 * float(one.norm())


def test_straight_through() -> None:
    latents = _randn(7, 6).requires_grad_()
    weight = _randn(7, 6, seed=1)
    (_build().eval()(latents).vectors * weight).sum().backward()
    assert torch.equal(latents.grad, weight)


@variants
def test_gradients_of_the_factorised_variant(variant: str) -> None:
    """The decoder's loss reaches projections and latents, not the codes; the quantiser's own loss reaches the codes."""
    if variant == "plain":
        assert list(_build().parameters()) == []
        return
    quantizer = _build(variant)
    latents = _randn(9, 6).requires_grad_()
    out = quantizer(latents)
    (out.vectors * _randn(9, 6, seed=1)).sum().backward(retain_graph=True)
    jacobian = sum(
        o.normalized() @ i.normalized() for i, o in zip(quantizer.project_in, quantizer.project_out, strict=True)
    )
    torch.testing.assert_close(latents.grad, _randn(9, 6, seed=1) @ jacobian)
    for module in (*quantizer.project_in, *quantizer.project_out):
        assert all(float(p.grad.abs().max()) > 0 for p in module.parameters())
    quantizer.zero_grad()
    out.loss.backward()
    for i, codes in enumerate(out.codes.T):
        used = quantizer.codebooks.grad[i].abs().sum(1) > 0
        assert torch.equal(used, torch.bincount(codes, minlength=16) > 0)
    torch.testing.assert_close(
        out.losses[0],
        1.25 * F.mse_loss(quantizer.project_in[0](latents), quantizer.codebooks[0][out.codes[:, 0]]),
    )


def test_cosine_looks_at_directions_only() -> None:
    quantizer = _build("cosine", n_codebooks=1).eval()
    latents = _randn(50, 6)
    with torch.no_grad():
        quantizer.project_in[0].bias.zero_()
        codes = quantizer.encode(latents)
        assert torch.equal(quantizer.encode(7.5 * latents), codes)
        scaled = copy.deepcopy(quantizer)
        scaled.codebooks *= torch.linspace(0.1, 3.0, 16)[:, None]
    assert torch.equal(scaled.encode(latents), codes)
    assert not torch.equal(scaled.lookup(codes), quantizer.lookup(codes))  # but the code keeps its length


@pytest.mark.parametrize("variant", ["factorised", "cosine"])
def test_the_factorised_variant_learns(variant: str) -> None:
    quantizer = _build(variant, kmeans_init=True, dim=8, codebook_size=32)
    mixture = _randn(3, 8)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=5e-3)
    errors = []
    for step in range(150):
        latents = _randn(200, 3, seed=step) @ mixture
        out = quantizer(latents)
        errors.append(float(_error(latents, out.vectors.detach()).mean()))
        if bool(quantizer.initialized):
            optimizer.zero_grad()
            (F.mse_loss(out.vectors, latents) + out.loss).backward()
            optimizer.step()
    assert errors[0] == 0.0  # passed on while latents are collected
    assert errors[-1] < 0.3 * float(latents.square().sum(1).mean())
    assert errors[-1] < 0.5 * max(errors)


@variants
def test_evaluation_changes_nothing(variant: str) -> None:
    quantizer = _build(variant, kmeans_init=True).eval()
    state = copy.deepcopy(quantizer.state_dict())
    quantizer(_randn(300, 6))
    quantizer.train()
    quantizer.encode(_randn(300, 6), n_candidates=3)
    quantizer.lookup(torch.zeros(4, 3, dtype=torch.long))
    assert all(torch.equal(state[name], value) for name, value in quantizer.state_dict().items())
    assert quantizer.training_state() == {}


@variants
def test_it_can_be_sent_to_another_process(variant: str) -> None:
    quantizer = _build(variant)
    again = pickle.loads(pickle.dumps(quantizer))
    assert torch.equal(again(_randn(30, 6)).codes, quantizer(_randn(30, 6)).codes)


@variants
@given(shape=st.lists(st.integers(0, 5), max_size=3), n=st.integers(1, 3), seed=st.integers(0, 1000))
def test_any_shape_and_prefixes(variant: str, shape: list[int], n: int, seed: int) -> None:
    quantizer = _build(variant).eval()
    latents = 2.0 * _randn(*shape, 6, seed=seed)
    with torch.no_grad():
        whole, first = quantizer(latents), quantizer(latents, n)
        assert whole.codes.shape == (*shape, 3)
        assert whole.codes.dtype == torch.int64
        assert whole.vectors.shape == latents.shape
        assert torch.equal(first.codes, whole.codes[..., :n])
        assert torch.equal(quantizer.encode(latents), whole.codes)
        assert torch.equal(quantizer.encode(latents, n), first.codes)
        # What the decoder is trained on is exactly what it gets from codes.
        assert torch.equal(quantizer.lookup(whole.codes), whole.vectors)
        assert torch.equal(quantizer.lookup(first.codes), first.vectors)
        assert torch.isfinite(whole.losses).all()
        assert first.losses.shape == (n,)


@variants
@settings(max_examples=40)
@given(
    rows=st.integers(0, 30),
    n=st.integers(1, 3),
    n_candidates=st.integers(1, 40),
    scale=st.sampled_from([1e-4, 0.5, 1.0, 3.0, 1e3]),
    seed=st.integers(0, 1000),
)
def test_the_search_is_never_worse(variant: str, rows: int, n: int, n_candidates: int, scale: float, seed: int) -> None:
    quantizer = _build(variant, seed=seed).eval()
    latents = scale * _randn(rows, 6, seed=seed)
    with torch.no_grad():
        greedy = quantizer.encode(latents, n)
        found = quantizer.encode(latents, n, n_candidates=n_candidates)
        assert found.shape == (rows, n)
        assert (_error(latents, quantizer.lookup(found)) <= _error(latents, quantizer.lookup(greedy))).all()
    if n_candidates == 1 or (n == 1 and variant == "plain"):
        assert torch.equal(found, greedy)


@variants
def test_the_search_finds_the_best_sum(variant: str) -> None:
    quantizer = _build(variant, codebook_size=6).eval()
    latents = _randn(50, 6)
    every = torch.cartesian_prod(*[torch.arange(6)] * 3)
    with torch.no_grad():
        best = torch.cdist(latents.double(), quantizer.lookup(every).double()).amin(1).square()
        errors = [_error(latents, quantizer.lookup(quantizer.encode(latents, n_candidates=m))) for m in (1, 4, 36)]
    torch.testing.assert_close(errors[-1], best)  # all partial sums were kept
    assert errors[0].mean() > 1.2 * errors[1].mean()
    assert errors[1].mean() < 1.3 * best.mean()


def test_the_search_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer = _build().eval()
    latents = _randn(101, 6)
    whole = quantizer.encode(latents, n_candidates=4)
    monkeypatch.setattr("mne_labram.nn.residual_search._MAX_DISTANCES", 4 * 16 * 7)
    assert torch.equal(quantizer.encode(latents, n_candidates=4), whole)


@variants
def test_kmeans_waits_for_ten_latents_per_code(variant: str) -> None:
    quantizer = _build(variant, kmeans_init=True)
    for step in range(5):
        latents = _randn(5, 11, 6, seed=step)
        out = quantizer(latents)
        assert out.codes.shape == (5, 11, 3)
        assert 0 <= int(out.codes.min()) <= int(out.codes.max()) < 16
        # 55, 110 and 165 latents, of which the third step has enough for 160.
        passed = torch.equal(out.vectors, latents)
        assert passed == (step < 2)
        assert passed == (float(out.loss.detach()) == 0.0)
        assert bool(quantizer.initialized) != passed
    assert quantizer.training_state() == {}


def test_kmeans_of_a_codebook_is_on_what_the_one_before_leaves() -> None:
    """With as many latents as codes, the second codebook and those after it would see nothing but zeros."""
    quantizer = ResidualVectorQuantizer(8, n_codebooks=4, codebook_size=64, dead_code_threshold=0.0)
    latents = _randn(640, 8)
    out = quantizer(latents)
    errors = [float(_error(latents, quantizer.lookup(out.codes[:, :n])).mean()) for n in (1, 2, 3, 4)]
    assert all(after < 0.75 * before for before, after in itertools.pairwise([8.0, *errors]))
    for usage in quantizer.usage(out.codes):
        assert usage["n_used"] > 58
        assert usage["perplexity"] > 45
    # The centres are means of what is left, so what is left after them has mean zero.
    left = latents - quantizer.lookup(out.codes)
    assert float(left.mean(0).abs().max()) < 0.05
    # Averages begin where k-means ended: the first update hardly moves the codes.
    before = quantizer.codebooks.clone()
    quantizer(_randn(640, 8, seed=1))
    assert float((quantizer.codebooks - before).norm()) < 0.1 * float(before.norm())


@variants
@pytest.mark.parametrize("threshold", [0.0, 2.0])
def test_dead_codes(variant: str, threshold: float) -> None:
    quantizer = _build(variant, dim=4, codebook_size=32, dead_code_threshold=threshold, decay=0.9)
    base = torch.tensor([8.0, 0.0, 0.0, 0.0])
    for step in range(80):
        if step == 60:
            quantizer.reset_usage()
        quantizer(base + 0.5 * _randn(256, 4, seed=step))
    used = [usage["n_used"] for usage in quantizer.usage()]
    assert used[0] == 32 if threshold else used[0] < 20
    if variant == "plain" and threshold:
        # Revived codes stay where they were put: near the latents, which the random ones were not.
        assert float((quantizer.codebooks[0] - base).norm(dim=1).max()) < 4.0


def test_small_batches_do_not_kill_all_codes() -> None:
    """A batch of 16 latents gives each of 64 codes a quarter of a latent, which is far below 2."""
    quantizer = _build(codebook_size=64, n_codebooks=1, kmeans_init=True)
    quantizer(_randn(640, 6))
    for step in range(200):
        before = quantizer.codebooks.clone()
        quantizer(_randn(16, 6, seed=step))
        moved = (quantizer.codebooks - before)[0].norm(dim=1)
        assert int((moved > 0.5).sum()) <= 4


def test_dropout_of_codebooks() -> None:
    quantizer = _build(quantizer_dropout=0.5, n_codebooks=4, dead_code_threshold=0.0)
    latents = _randn(4000, 2, 6)
    frozen = copy.deepcopy(quantizer).eval()
    out = quantizer(latents)
    depths = (out.codes >= 0).sum(-1)
    assert torch.equal(depths[:, 0], depths[:, 1])  # one number per sample
    # Half of the samples draw from 1 to 4, the others use all 4.
    shares = torch.bincount(depths[:, 0], minlength=5) / 4000
    torch.testing.assert_close(shares, torch.tensor([0, 0.125, 0.125, 0.125, 0.625]), rtol=0, atol=0.03)
    for n in (1, 2, 3, 4):
        chosen = depths == n
        assert (out.codes[chosen][:, n:] == -1).all()
        assert torch.equal(out.vectors[chosen], frozen(latents[chosen], n).vectors)
    # A codebook follows the samples that used it, and answers for them alone.
    assert torch.equal(quantizer.counts.sum(1), torch.stack([(depths > i).sum() for i in range(4)]))
    left = latents - frozen.codebooks[0][out.codes[..., 0]] - frozen.codebooks[1][out.codes[..., 1].clamp_min(0)]
    torch.testing.assert_close(out.losses[1], (left.square() * (depths > 1).unsqueeze(-1)).mean())
    # Where the number is said, and in evaluation, nothing is left out.
    assert int(quantizer(latents, 3).codes.min()) >= 0
    assert int(quantizer.eval()(latents).codes.min()) >= 0


@variants
def test_dropout_reaches_every_row(variant: str) -> None:
    quantizer = _build(variant, quantizer_dropout=1.0)
    for shape in ((6,), (1, 6), (3, 6), (2, 3, 6), (0, 6), (0, 4, 6), (4, 0, 6)):
        out = quantizer(_randn(*shape))
        assert torch.isfinite(out.loss)
        assert torch.isfinite(quantizer.codebooks).all()
        assert out.codes.shape == (*shape[:-1], 3)
        assert (out.codes[..., 0] >= 0).all()


def _train(quantizer: ResidualVectorQuantizer, steps: range) -> list[torch.Tensor]:
    return [quantizer(torch.full((6,), 2.0) + 0.5 * _randn(10, 5, 6, seed=step)).codes for step in steps]


@variants
def test_runs_are_repeatable(variant: str) -> None:
    one, two, other = (
        _build(variant, quantizer_dropout=0.5, kmeans_init=True, codebook_size=8, seed=seed) for seed in (0, 0, 1)
    )
    runs = [_train(quantizer, range(20)) for quantizer in (one, two, other)]
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert torch.equal(one.codebooks, two.codebooks)
    assert not torch.equal(one.codebooks, other.codebooks)


@variants
@pytest.mark.parametrize("stop", [1, 30])
def test_training_can_be_resumed(variant: str, stop: int) -> None:
    options = {"quantizer_dropout": 0.5, "kmeans_init": True, "codebook_size": 16, "decay": 0.8}
    one, two = _build(variant, **options), _build(variant, **options)
    _train(one, range(stop))
    assert len(one.training_state()) == (stop == 1)
    two.load_state_dict(one.state_dict())
    two.load_training_state(one.training_state())
    after = [_train(quantizer, range(stop, stop + 15)) for quantizer in (one, two)]
    assert all(torch.equal(a, b) for a, b in zip(*after, strict=True))
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name


@variants
def test_float32_whatever_is_around(variant: str) -> None:
    quantizer = _build(variant).eval()
    latents = _randn(100, 6)
    out = quantizer(latents)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        around = quantizer(latents)
        assert torch.equal(quantizer.lookup(around.codes), out.vectors)
        assert torch.equal(quantizer.encode(latents, n_candidates=2), quantizer.encode(latents, n_candidates=2))
    assert around.vectors.dtype == torch.float32
    assert torch.equal(around.codes, out.codes)
    state = {name: value.clone() for name, value in quantizer.state_dict().items()}
    torch.nn.Sequential(quantizer).to(torch.bfloat16)
    for name, value in quantizer.state_dict().items():
        assert value.dtype == state[name].dtype
        assert torch.equal(value, state[name])
    assert quantizer(latents.bfloat16()).vectors.dtype == torch.float32
    assert torch.equal(quantizer(latents).codes, out.codes)


def test_usage() -> None:
    quantizer = _build(n_codebooks=2, codebook_size=10)
    codes = torch.tensor([[[0, 3], [9, 3]], [[4, 3], [4, -1]]])
    first, second = quantizer.usage(codes)
    assert (first["n_codes"], first["n_used"], first["fraction"]) == (10, 3, 0.3)
    assert first["perplexity"] == pytest.approx(2**1.5)
    assert (second["n_used"], second["perplexity"]) == (1, pytest.approx(1.0))
    out = quantizer(_randn(200, 6))
    assert quantizer.usage() == quantizer.usage(out.codes)
    quantizer.reset_usage()
    assert [usage["n_used"] for usage in quantizer.usage()] == [0, 0]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="at least 1 codebook of 2 codes"):
        ResidualVectorQuantizer(4, codebook_size=1)
    with pytest.raises(ValueError, match="at least 1 codebook of 2 codes"):
        ResidualVectorQuantizer(4, n_codebooks=0)
    with pytest.raises(ValueError, match="decay must lie in"):
        ResidualVectorQuantizer(4, decay=1.0)
    with pytest.raises(ValueError, match="quantizer_dropout must lie in"):
        ResidualVectorQuantizer(4, quantizer_dropout=1.5)
    with pytest.raises(ValueError, match="give codebook_dim too"):
        ResidualVectorQuantizer(4, cosine=True)
    quantizer = _build()
    for n in (0, 4, -1):
        with pytest.raises(ValueError, match="There are 3 codebooks"):
            quantizer.encode(_randn(2, 6), n)
    for shape in ((3, 12), (6, 3), (0, 5)):
        for function in (quantizer, quantizer.encode):
            with pytest.raises(ValueError, match="6 numbers in the last dimension"):
                function(_randn(*shape))
    with pytest.raises(ValueError, match="n_candidates must be at least 1"):
        quantizer.encode(_randn(2, 6), n_candidates=0)
    for bad in (16, -1):
        with pytest.raises(ValueError, match="between 0 and 15"):
            quantizer.lookup(torch.tensor([[0, bad]]))
    with pytest.raises(ValueError, match="There are 3 codebooks"):
        quantizer.lookup(torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="need a last dimension"):
        quantizer.lookup(torch.tensor(1))
    with pytest.raises(TypeError, match="Codes must be integers"):
        quantizer.lookup(torch.tensor([[1.0]]))


_WORKER = """
import sys
import torch
import torch.distributed as dist
from mne_labram.nn.distributed import broadcast
from mne_labram.nn.quantize import ResidualVectorQuantizer

rank, n_processes, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting{n_processes}", rank=rank, world_size=n_processes)
torch.manual_seed(rank)
quantizers = [
    ResidualVectorQuantizer(4, n_codebooks=3, codebook_size=8, quantizer_dropout=0.5),
    ResidualVectorQuantizer(4, n_codebooks=2, codebook_size=32, kmeans_init=False, decay=0.8),
    ResidualVectorQuantizer(4, n_codebooks=2, codebook_size=8, codebook_dim=2, cosine=True, quantizer_dropout=0.5),
]
for quantizer in quantizers:
    broadcast(*quantizer.buffers(), *(p.data for p in quantizer.parameters()))
codes = []
for step in range(25):
    latents = torch.randn(2 * 12 + 1, 3, 4, generator=torch.Generator().manual_seed(step)) + 2
    # Of an odd number of rows, one process has one more.
    mine = latents.tensor_split(n_processes)[rank]
    codes.append(torch.stack([quantizer(mine).codes[..., :2] for quantizer in quantizers]))
state = {f"{i}.{k}": v for i, m in enumerate(quantizers) for k, v in m.state_dict().items()}
torch.save((state, codes), f"{folder}/{n_processes}-{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(rank), str(n), str(tmp_path)], stderr=subprocess.PIPE, text=True
        )
        for n, rank in ((1, 0), (2, 0), (2, 1))
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
    alone, one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    assert bool(one[0]["0.initialized"])
    assert bool(one[0]["2.initialized"])
    for name, value in one[0].items():
        assert torch.equal(value, two[0][name]), name
        torch.testing.assert_close(value, alone[0][name], rtol=1e-4, atol=1e-4, msg=name)
    for whole, *parts in zip(alone[1], one[1], two[1], strict=True):
        assert torch.equal(torch.cat(parts, dim=1), whole)
    assert any((whole == -1).any() for whole in alone[1])
