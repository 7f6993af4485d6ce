"""The balancer: each loss has the share of the gradient that its weight says."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.nn.gradient_balancer import GradientBalancer

WEIGHTS = {"one": 1.0, "two": 3.0, "three": 4.0}


def _randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _losses(output: torch.Tensor, scales: tuple[float, ...]) -> dict[str, torch.Tensor]:
    """Return losses that look at four samples each."""
    parts = output.unflatten(1, (3, 4)).unbind(1)
    return {name: s * part.square().sum(1).mean() for name, part, s in zip(WEIGHTS, parts, scales, strict=True)}


@given(exponents=st.tuples(*[st.integers(-6, 6)] * 3), n_items=st.integers(1, 9), seed=st.integers(0, 99), per_item=...)
def test_shares_do_not_depend_on_magnitudes(
    exponents: tuple[int, ...], n_items: int, seed: int, per_item: bool
) -> None:
    balancer = GradientBalancer(WEIGHTS, total_norm=2.0, per_item=per_item)
    output = _randn(n_items, 12, seed=seed).requires_grad_()
    gradient = balancer(_losses(output, tuple(10.0**e for e in exponents)), output)
    # A mean over items: times their number, it is the gradient of an item.
    norms = (gradient * n_items).unflatten(1, (3, 4)).norm(dim=2)
    got = norms.mean(0) if per_item else norms.square().mean(0).sqrt()
    torch.testing.assert_close(got, torch.tensor([0.25, 0.75, 1.0]), rtol=1e-3, atol=1e-6)
    # The direction of each is its own.
    wanted = output.detach().unflatten(1, (3, 4))
    cosine = torch.nn.functional.cosine_similarity(gradient.unflatten(1, (3, 4)).flatten(0, 1), wanted.flatten(0, 1))
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_norms_are_averaged_as_in_encodec() -> None:
    balancer = GradientBalancer({"one": 1.0}, decay=0.9)
    average = weight = 0.0
    for step in range(6):
        output = _randn(5, 3, seed=step).requires_grad_()
        gradient = balancer({"one": (step + 1) * output.square().sum(1).mean()}, output)
        own = 2.0 * (step + 1) * output.detach()
        average, weight = 0.9 * average + float(own.norm(dim=1).mean()), 0.9 * weight + 1.0
        torch.testing.assert_close(gradient, own / (average / weight) / 5)


def test_evaluation_changes_nothing_and_the_state_comes_back() -> None:
    balancer = GradientBalancer(WEIGHTS)
    output = _randn(4, 12).requires_grad_()
    balancer(_losses(output, (1.0, 2.0, 3.0)), output)
    state = copy.deepcopy(balancer.state_dict())
    gradient = balancer.eval()(_losses(output, (1.0, 2.0, 3.0)), output)
    assert all(torch.equal(value, state[name]) for name, value in balancer.state_dict().items())
    other = GradientBalancer(WEIGHTS).eval()
    other.load_state_dict(state)
    assert torch.equal(other(_losses(output, (1.0, 2.0, 3.0)), output), gradient)


def test_a_loss_may_come_later() -> None:
    balancer = GradientBalancer({**WEIGHTS, "none": 0.0})
    output = _randn(4, 12).requires_grad_()
    losses = _losses(output, (1.0, 2.0, 3.0)) | {"none": output.sum()}
    for _ in range(3):
        gradient = balancer({name: losses[name] for name in ("one", "two")}, output)
    norms = (4 * gradient).unflatten(1, (3, 4)).norm(dim=2).mean(0)
    torch.testing.assert_close(norms, torch.tensor([0.25, 0.75, 0.0]))
    gradient = balancer(losses, output)
    norms = (4 * gradient).unflatten(1, (3, 4)).norm(dim=2).mean(0)
    torch.testing.assert_close(norms, torch.tensor([0.125, 0.375, 0.5]))
    assert float(balancer.terms[3]) == 0.0


def test_a_loss_without_gradient_does_no_harm() -> None:
    balancer = GradientBalancer(WEIGHTS)
    output = _randn(4, 12).requires_grad_()
    losses = _losses(output, (1.0, 0.0, 1.0))
    assert torch.isfinite(balancer(losses, output)).all()
    empty = torch.zeros(0, 12, requires_grad=True)
    assert balancer({"one": (empty * 2.0).sum()}, empty).shape == (0, 12)


def test_bad_arguments() -> None:
    for weights in ({}, {"one": 0.0}, {"one": -1.0, "two": 3.0}, {"one": float("nan")}):
        with pytest.raises(ValueError, match="must not be negative"):
            GradientBalancer(weights)
    with pytest.raises(ValueError, match="decay must lie in"):
        GradientBalancer(WEIGHTS, decay=1.0)
    output = _randn(4, 12).requires_grad_()
    with pytest.raises(ValueError, match="No weight was given for four"):
        GradientBalancer(WEIGHTS)({"four": output.sum()}, output)
    with pytest.raises(ValueError, match="None of the losses has a weight above 0: none"):
        GradientBalancer({"one": 1.0, "none": 0.0})({"none": output.sum()}, output)
    assert GradientBalancer(WEIGHTS).shares() == {"one": 0.125, "two": 0.375, "three": 0.5}


_WORKER = """
import sys
import torch
import torch.distributed as dist
from mne_labram.nn.gradient_balancer import GradientBalancer

rank, n_processes, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting{n_processes}", rank=rank, world_size=n_processes)
balancer = GradientBalancer({"one": 1.0, "two": 2.0})
for step in range(4):
    whole = torch.randn(7, 5, generator=torch.Generator().manual_seed(step)) * 10**step
    x = whole.tensor_split(n_processes)[rank].clone().requires_grad_()
    gradient = balancer({"one": x.abs().sum(1).mean(), "two": x.square().sum(1).mean()}, x) * len(x)
torch.save((balancer.state_dict(), gradient), f"{folder}/{n_processes}-{rank}.pt")
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
    for name, value in alone[0].items():
        assert torch.equal(one[0][name], two[0][name])
        torch.testing.assert_close(one[0][name], value)
    torch.testing.assert_close(torch.cat([one[1], two[1]]), alone[1])
