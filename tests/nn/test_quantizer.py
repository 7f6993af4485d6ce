"""The codebook, against the official update written out."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.nn.kmeans import code_sums, kmeans, nearest_codes, perplexity
from mne_labram.nn.quantizer import VectorQuantizer


def _randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(n=st.integers(0, 40), n_codes=st.integers(1, 20), seed=st.integers(0, 100))
def test_nearest_codes_is_the_smallest_distance(n: int, n_codes: int, seed: int) -> None:
    vectors, codebook = _randn(n, 5, seed=seed).double(), _randn(n_codes, 5, seed=seed + 1).double()
    codes = nearest_codes(vectors, codebook)
    assert codes.shape == (n,)
    distances = torch.cdist(vectors, codebook)
    torch.testing.assert_close(distances.gather(1, codes[:, None])[:, 0], distances.amin(1) if n else distances[:, 0])


def test_nearest_codes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, codebook = _randn(1000, 8), _randn(64, 8, seed=1)
    whole = nearest_codes(vectors, codebook)
    monkeypatch.setattr("mne_labram.nn.kmeans._MAX_SIMILARITIES", 64 * 7)
    assert torch.equal(nearest_codes(vectors, codebook), whole)


@given(codes=st.lists(st.integers(0, 6), max_size=50))
def test_code_sums_is_one_hot_times_vectors(codes: list[int]) -> None:
    index = torch.tensor(codes, dtype=torch.long)
    vectors = _randn(len(codes), 3)
    counts, sums = code_sums(vectors, index, 7)
    one_hot = F.one_hot(index, 7).float() if codes else torch.zeros(0, 7)
    torch.testing.assert_close(counts, one_hot.sum(0))
    torch.testing.assert_close(sums, one_hot.T @ vectors)


def test_perplexity() -> None:
    assert float(perplexity(torch.tensor([5, 5, 5, 5]))) == pytest.approx(4)
    assert float(perplexity(torch.tensor([9, 0, 0]))) == pytest.approx(1)
    assert float(perplexity(torch.zeros(3))) == pytest.approx(1)


def test_kmeans_finds_separate_directions() -> None:
    centres = F.normalize(_randn(6, 16), dim=1)
    vectors = (centres[torch.arange(600) % 6] + 0.05 * _randn(600, 16, seed=1)) * (1 + torch.rand(600, 1))
    found, counts = kmeans(vectors, 6, n_iterations=20, generator=torch.Generator().manual_seed(3), spherical=True)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(6))
    assert counts.sum() == 600
    # Every direction has a centre within a few degrees; k-means may merge two, but not lose one without trace.
    best = (centres @ found.T).amax(dim=1)
    assert float(best.min()) > 0.65
    assert int((best > 0.99).sum()) >= 4
    with pytest.raises(ValueError, match="at least 7 vectors"):
        kmeans(vectors[:5], 7)


def _official_update(codebook: torch.Tensor, z: torch.Tensor, decay: float) -> tuple[torch.Tensor, torch.Tensor]:
    """LaBraM, norm_ema_quantizer.py, with its one-hot matrix."""
    one_hot = F.one_hot(torch.cdist(z, codebook).argmin(1), len(codebook)).to(z.dtype)
    counts = one_hot.sum(0)
    mean = F.normalize((z.T @ one_hot).T / counts.clamp_min(1)[:, None], dim=1)
    mean = torch.where((counts == 0)[:, None], codebook, mean)
    return F.normalize(decay * codebook + (1 - decay) * mean, dim=1), counts


def test_update_is_the_official_one() -> None:
    quantizer = VectorQuantizer(16, 4, kmeans_init=False, decay=0.9)
    latents = _randn(2, 3, 5, 4)
    z = F.normalize(latents, dim=-1).reshape(-1, 4)
    expected, counts = _official_update(quantizer.codebook.clone(), z, 0.9)
    before = quantizer.codebook.clone()
    out = quantizer(latents)
    torch.testing.assert_close(out.vectors, before[out.codes])  # quantised by the codes as they were
    torch.testing.assert_close(quantizer.codebook, expected)
    torch.testing.assert_close(quantizer.cluster_size, 0.1 * counts)
    torch.testing.assert_close(out.loss, F.mse_loss(z, before[out.codes].reshape(-1, 4)))


def test_straight_through() -> None:
    quantizer = VectorQuantizer(16, 4, kmeans_init=False).eval()
    latents = _randn(7, 4).requires_grad_()
    out = quantizer(latents)
    weight = _randn(7, 4, seed=1)
    (out.vectors * weight).sum().backward()
    straight = latents.grad.clone()
    latents.grad = None
    (F.normalize(latents, dim=-1) * weight).sum().backward()
    torch.testing.assert_close(straight, latents.grad)
    assert not out.codes.requires_grad


def test_evaluation_changes_nothing() -> None:
    quantizer = VectorQuantizer(16, 4).eval()
    state = copy.deepcopy(quantizer.state_dict())
    quantizer(_randn(300, 4))
    assert all(torch.equal(state[name], value) for name, value in quantizer.state_dict().items())


def test_kmeans_waits_for_ten_latents_per_code() -> None:
    quantizer = VectorQuantizer(8, 4, warmup_steps=2)
    passed = []
    for step in range(8):
        latents = _randn(30, 4, seed=step)
        out = quantizer(latents)
        assert out.codes.shape == (30,)
        unquantised = torch.allclose(out.vectors, F.normalize(latents, dim=-1))
        passed.append(unquantised)
        assert unquantised == (float(out.loss) == 0.0)
        assert sum(map(len, quantizer._latents)) < 80 + 30
    # Two steps of warm-up; then 30, 60 and 90 latents, of which the third step has enough for 80.
    assert passed == [True] * 4 + [False] * 4
    assert bool(quantizer.initialized)
    assert quantizer._latents == []
    torch.testing.assert_close(quantizer.codebook.norm(dim=1), torch.ones(8))


def test_first_quantised_step_uses_the_kmeans_codes() -> None:
    quantizer = VectorQuantizer(4, 3)
    random_codes = quantizer.codebook.clone()
    out = quantizer(_randn(64, 3))
    assert not torch.allclose(quantizer.codebook, random_codes, atol=1e-2)
    cosine = (out.vectors * F.normalize(_randn(64, 3), dim=1)).sum(1)
    assert float(cosine.mean()) > 0.6
    assert len(out.codes.unique()) == 4


@pytest.mark.parametrize("revive", [True, False])
def test_dead_codes(revive: bool) -> None:
    quantizer = VectorQuantizer(32, 4, kmeans_init=False, revive_dead_codes=revive, seed=1)
    base = torch.tensor([1.0, 0.0, 0.0, 0.0])
    for step in range(120):
        quantizer(base + 0.1 * _randn(64, 4, seed=step))
    used = int((quantizer.steps_unused < 20).sum())
    assert used > 24 if revive else used < 20


def test_runs_are_repeatable() -> None:
    def run(seed: int) -> torch.Tensor:
        quantizer = VectorQuantizer(16, 4, revive_dead_codes=True, seed=seed)
        for step in range(70):
            quantizer(torch.tensor([1.0, 0, 0, 0]) + 0.2 * _randn(40, 4, seed=step))
        return quantizer.codebook

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


def test_training_can_be_resumed() -> None:
    one = VectorQuantizer(16, 4, revive_dead_codes=True, kmeans_init=False)
    for step in range(30):
        one(_randn(40, 4, seed=step) + torch.tensor([2.0, 0, 0, 0]))
    two = VectorQuantizer(16, 4, revive_dead_codes=True, kmeans_init=False)
    two.load_state_dict(one.state_dict())
    for step in range(30, 80):
        for quantizer in (one, two):
            quantizer(_randn(40, 4, seed=step) + torch.tensor([2.0, 0, 0, 0]))
    assert torch.equal(one.codebook, two.codebook)


def test_float32_whatever_is_around() -> None:
    quantizer = VectorQuantizer(64, 8, kmeans_init=False).eval()
    latents = _randn(100, 8)
    codes = quantizer(latents).codes
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = quantizer(latents)
    assert out.vectors.dtype == torch.float32
    assert torch.equal(out.codes, codes)
    codebook = quantizer.codebook.clone()
    quantizer.to(torch.bfloat16)
    assert quantizer.codebook.dtype == torch.float32
    assert torch.equal(quantizer.codebook, codebook)
    assert quantizer(latents.to(torch.bfloat16)).vectors.dtype == torch.float32


def test_no_tokens_times_codes_matrix() -> None:
    """65536 latents and 8192 codes would make 2 GiB of similarities; 64 MiB at a time is what is allowed."""
    quantizer = VectorQuantizer(8192, 8, kmeans_init=False)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for value in out if isinstance(out, tuple | list) else [out]:
                if isinstance(value, torch.Tensor) and not value._is_view():
                    largest = max(largest, value.numel() * value.element_size())
            return out

    with Watch():
        quantizer(_randn(4096 + 100, 8))
    assert largest == 2**26


def test_lookup_and_usage() -> None:
    quantizer = VectorQuantizer(10, 3, kmeans_init=False)
    codes = torch.tensor([[0, 9], [4, 4]])
    assert torch.equal(quantizer.lookup(codes), quantizer.codebook[codes])
    usage = quantizer.usage(codes)
    assert (usage["n_codes"], usage["n_used"], usage["fraction"]) == (10, 3, 0.3)
    assert usage["perplexity"] == pytest.approx(2**1.5)
    quantizer(_randn(200, 3))
    assert quantizer.usage()["n_used"] > 5
    quantizer.reset_usage()
    assert quantizer.usage()["n_used"] == 0
    with pytest.raises(ValueError, match="between 0 and 9"):
        quantizer.lookup(torch.tensor([10]))
    with pytest.raises(ValueError, match="between 0 and 9"):
        quantizer.lookup(torch.tensor([-1]))
    with pytest.raises(TypeError, match="Codes must be integers"):
        quantizer.lookup(torch.tensor([1.0]))


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match="at least 2 codes"):
        VectorQuantizer(1, 4)
    with pytest.raises(ValueError, match="decay must lie in"):
        VectorQuantizer(4, 4, decay=1.0)


_WORKER = """
import sys
import torch
import torch.distributed as dist
from mne_labram.nn.distributed import broadcast
from mne_labram.nn.quantizer import VectorQuantizer
from mne_labram.nn.spectra import SpectralTarget

rank, n_processes, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting{n_processes}", rank=rank, world_size=n_processes)
quantizers = [
    VectorQuantizer(8, 4, seed=rank),
    VectorQuantizer(32, 4, kmeans_init=False, revive_dead_codes=True, seed=rank),
]
for quantizer in quantizers:
    broadcast(*quantizer.buffers())
targets = [SpectralTarget(kind) for kind in ("log_amplitude", "amplitude+phase")]
for step in range(80):
    generator = torch.Generator().manual_seed(step)
    latents = torch.tensor([1.0, 0, 0, 0]) + 0.3 * torch.randn(2 * 24 + 1, 4, generator=generator)
    patches = 20 * torch.randn(3, 2, 2, 200, generator=generator)
    # Of an odd number of rows, one process has one more.
    for quantizer in quantizers:
        quantizer(latents.tensor_split(n_processes)[rank])
    for target in targets:
        target.update(patches.tensor_split(n_processes)[rank])
state = {f"{i}.{k}": v for i, m in enumerate(quantizers + targets) for k, v in m.state_dict().items()}
torch.save(state, f"{folder}/{n_processes}-{rank}.pt")
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
    assert bool(one["0.initialized"])
    # Most of the random directions were far from all latents, and were revived.
    assert int((one["1.steps_unused"] < 30).sum()) > 16
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
        torch.testing.assert_close(value, alone[name], rtol=1e-5, atol=1e-5, msg=name)


def test_latents_waiting_for_kmeans_can_be_saved() -> None:
    one, two = VectorQuantizer(8, 4), VectorQuantizer(8, 4)
    for step in range(2):
        one(_randn(30, 4, seed=step))
    state = one.training_state()
    assert list(state) == ["latents.0", "latents.1"]
    two.load_state_dict(one.state_dict())
    two.load_training_state(state)
    for quantizer in (one, two):
        quantizer(_randn(30, 4, seed=2))
        assert quantizer.training_state() == {}
    assert bool(two.initialized)
    assert torch.equal(one.codebook, two.codebook)
