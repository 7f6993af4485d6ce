"""What codes say."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mne_labram.benchmark.codes import (
    CodedPatches,
    code_content,
    code_patches,
    masked_accuracy,
    reconstruction_error,
)
from mne_labram.benchmark.weights import measure_codes, random_twin
from mne_labram.models.labram import LabramForMaskedModeling, LabramTokenizer
from mne_labram.signal.contract import SignalContract

NAMES = ["FP1", "CZ", "O1"]
TINY = {"embed_dim": 16, "num_layers": 1, "num_heads": 2}


class Store:
    """Recordings in memory, with the interface of a ConformedStore."""

    contract = SignalContract()

    def __init__(self, arrays: list[np.ndarray], datasets: list[str]) -> None:
        self.arrays, self.datasets = arrays, datasets
        self.recordings = [
            SimpleNamespace(
                path=f"{i}.edf", dataset=name, subject=str(i), ch_names=NAMES, positions=None, n_times=x.shape[1],
                segments=[(0, x.shape[1])], unusable=np.zeros(x.shape[1] // 200, bool), montage="referential",
            )
            for i, (x, name) in enumerate(zip(arrays, datasets, strict=True))
        ]  # fmt: skip

    def select(self, *, files: list[int]) -> Store:
        return Store([self.arrays[i] for i in files], [self.datasets[i] for i in files])

    def windows(self, seconds: float, *, stride: float | None = None) -> SimpleNamespace:
        n = int(seconds * 200)
        rows = [(i, s) for i, x in enumerate(self.arrays) for s in range(0, x.shape[1] - n + 1, n)]
        file, start = np.array(rows).reshape(-1, 2).T
        return SimpleNamespace(file=file.astype(np.int32), start=start.astype(np.int64), n_times=n)

    def read(self, file: int, start: int, n_times: int) -> np.ndarray:
        return self.arrays[file][:, start : start + n_times]


def _store(seed: int = 0, n: int = 3) -> Store:
    rng = np.random.default_rng(seed)
    return Store(
        [(10 * (i + 1) * rng.standard_normal((3, 3200))).astype(np.float32) for i in range(n)], ["a", "b", "b"]
    )


def _patches(codes: np.ndarray, spectra: np.ndarray, recording: np.ndarray) -> CodedPatches:
    return CodedPatches(codes, spectra.astype(np.float32), recording, np.full(len(codes), "a"))


def test_codes_that_hold_everything_and_codes_that_hold_nothing() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((8, 45))
    codes = rng.integers(0, 8, 4000)
    recording = rng.integers(0, 4, 4000)
    telling = _patches(codes, centres[codes], recording)
    found = code_content(telling, telling, 16)
    assert found["explained"] == pytest.approx(1.0)
    assert found["used"] == 0.5
    assert found["perplexity"] == pytest.approx(8, rel=0.01)
    assert found["recording_bits"] < 0.02
    assert found["recording_bits_possible"] == pytest.approx(2.0, abs=0.01)
    silent = _patches(rng.integers(0, 8, 4000), centres[codes], recording)
    assert abs(code_content(silent, silent, 16)["explained"]) < 0.02
    # A code that only says which recording it is from explains nothing of others.
    name = _patches(recording, centres[codes], recording)
    assert code_content(name, name, 16)["recording_bits"] == pytest.approx(2.0, abs=0.01)


def test_the_table_comes_from_training() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, 45))
    codes = rng.integers(0, 4, 1000)
    training = _patches(codes, centres[codes], np.zeros(1000, int))
    swapped = _patches((codes + 1) % 4, centres[codes], np.zeros(1000, int))
    assert code_content(training, swapped, 4)["explained"] < 0
    # All of it shifted: the own mean is the stricter reference.
    shifted = _patches(codes, centres[codes] + 5, np.zeros(1000, int))
    found = code_content(training, shifted, 4)
    assert found["explained_own_mean"] < found["explained"]


def test_measured_on_models() -> None:
    torch.manual_seed(0)
    tokenizer = LabramTokenizer(
        ch_names=NAMES, target="log_amplitude", n_codes=8, code_dim=4, decoder_layers=1, kmeans_init=False, **TINY
    ).eval()
    model = LabramForMaskedModeling(ch_names=NAMES, tokenizer=tokenizer, **TINY).eval()
    training, held_out = _store(0), _store(1)
    patches = code_patches(tokenizer, training)
    assert patches.codes.shape == (3 * 3 * 16,)
    assert patches.spectra.shape == (144, 45)
    assert np.bincount(patches.recording).tolist() == [48, 48, 48]
    x = torch.from_numpy(training.read(0, 0, 800))[None]
    np.testing.assert_array_equal(patches.codes[:12], tokenizer.encode(x).flatten().numpy())
    logs = torch.log(torch.fft.rfft(x.unflatten(2, (-1, 200)))[..., 1:46].abs() + 1).flatten(0, 2)
    np.testing.assert_allclose(patches.spectra[:12], logs.numpy(), atol=1e-4)
    errors = reconstruction_error(tokenizer, held_out)
    assert errors["log_amplitude"] > 0
    assert errors["log_amplitude_mean"] > 0
    scores = masked_accuracy(model, tokenizer, patches, held_out)
    assert 0 <= scores["accuracy"] <= 1
    assert scores["best_constant"] >= scores["unigram"]
    assert scores == masked_accuracy(model, tokenizer, patches, held_out)
    tables = measure_codes(tokenizer, model, training, held_out)
    assert [row["data"] for row in tables["Codes on held-out recordings"]] == ["all", "a", "b"]
    assert len(tables) == 3


def test_a_model_that_knows_the_answer_is_always_right() -> None:
    """One code only: every guess is right, and so is the constant one."""
    tokenizer = LabramTokenizer(
        ch_names=NAMES, target="log_amplitude", n_codes=2, code_dim=2, decoder_layers=1, kmeans_init=False, **TINY
    ).eval()
    tokenizer.quantizer.codebook.copy_(tokenizer.quantizer.codebook[:1].expand(2, -1))
    model = LabramForMaskedModeling(ch_names=NAMES, tokenizer=tokenizer, **TINY).eval()
    with torch.no_grad():
        model.final_layer.bias.copy_(torch.tensor([50.0, 0.0]))
    patches = code_patches(tokenizer, _store(0))
    scores = masked_accuracy(model, tokenizer, patches, _store(1))
    assert scores["accuracy"] == scores["unigram"] == 1.0
    assert scores["ratio"] == 1.0


def test_a_twin_has_other_weights_and_leaves_the_generator_alone() -> None:
    model = LabramForMaskedModeling(ch_names=NAMES, n_codes=8, **TINY)
    before = torch.random.get_rng_state()
    twin, same, other = (random_twin(model, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(twin.final_layer.weight, same.final_layer.weight)
    assert not torch.equal(twin.final_layer.weight, other.final_layer.weight)
    assert twin.ch_names == model.ch_names
    assert not twin.training
