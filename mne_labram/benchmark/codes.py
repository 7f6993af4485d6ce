"""What the codes of a tokenizer say, and how well a model guesses hidden ones: measured on recordings held out.

How many codes are used, and how evenly, says little: codes may be spread evenly over something that nobody wants to
know. What is asked here is what a code alone, looked up in a table, tells of the spectrum of its patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mne_labram.nn.kmeans import perplexity
from mne_labram.nn.masking import draw_mask
from mne_labram.nn.modules import evaluating
from mne_labram.nn.spectra import SpectralTarget
from mne_labram.training.batches import WindowBatches

__all__ = ["CodedPatches", "code_content", "code_patches", "masked_accuracy", "reconstruction_error"]


@dataclass(frozen=True)
class CodedPatches:
    """Every patch of some recordings.

    Attributes
    ----------
    codes : ndarray of int, shape (n_patches,)
        From the tokenizer.
    spectra : ndarray of float32, shape (n_patches, n_bins)
        Natural logarithm of the amplitude (microvolts times samples), 1 to 45 Hz.
    recording : ndarray of int, shape (n_patches,)
        Number of the recording.
    dataset : ndarray of str, shape (n_patches,)
        Data set of the recording.
    """

    codes: np.ndarray
    spectra: np.ndarray
    recording: np.ndarray
    dataset: np.ndarray

    def of(self, dataset: str) -> CodedPatches:
        """Return the patches of one data set."""
        rows = self.dataset == dataset
        return CodedPatches(*(getattr(self, name)[rows] for name in ("codes", "spectra", "recording", "dataset")))


def _batches(store: Any, seconds: float) -> Any:
    """Windows side by side, as they are, recording by recording."""
    for i in range(len(store.recordings)):
        try:
            batches = WindowBatches(
                store.select(files=[i]), lengths=[seconds], tokens_per_batch=4096, shuffle=False, shift=False, workers=0
            )
        except ValueError:
            continue  # a recording without a single usable window has nothing to be measured on
        for batch in batches.iterate(0):
            yield i, batch


def _log_amplitude(patches: Tensor, target: SpectralTarget) -> Tensor:
    """Undo the z-score of the target."""
    return target(patches)["log_amplitude"] * target.std + target.mean


@torch.no_grad()
def code_patches(tokenizer: Any, store: Any, *, seconds: float = 4.0) -> CodedPatches:
    """Tokenize recordings.

    Parameters
    ----------
    tokenizer : LabramTokenizer
        The tokenizer.
    store : ConformedStore
        The recordings.
    seconds : float
        Length of the windows.

    Returns
    -------
    patches : CodedPatches
        Every patch of every usable window.
    """
    target = SpectralTarget("log_amplitude", tokenizer.patch_size)
    codes, spectra, recording, dataset = [], [], [], []
    for i, batch in _batches(store, seconds):
        bound = tokenizer.bind_channels(batch["ch_names"], positions=batch["positions"])
        found = bound.encode(batch["x"]).flatten().numpy()
        codes.append(found)
        spectra.append(
            _log_amplitude(batch["x"].unflatten(2, (-1, tokenizer.patch_size)), target).flatten(0, 2).numpy()
        )
        recording.append(np.full(len(found), i))
        dataset.append(np.full(len(found), store.recordings[i].dataset))
    return CodedPatches(*map(np.concatenate, (codes, spectra, recording, dataset)))


def code_content(training: CodedPatches, held_out: CodedPatches, n_codes: int) -> dict[str, float]:
    """Measure what codes say of recordings that were held out.

    Parameters
    ----------
    training : CodedPatches
        Patches from which the table of mean spectra per code is made.
    held_out : CodedPatches
        Patches on which it is used.
    n_codes : int
        Size of the codebook.

    Returns
    -------
    content : dict of str to float
        ``n_patches``, ``used`` (share of the codebook), ``perplexity``, ``perplexity_share`` (of the codebook);
        ``explained``: share of the squared deviation of the log amplitude from the training mean (per bin, z-scored
        with the training deviation) that the table explains; ``explained_own_mean``: the same of the deviation from the
        held-out patches' own mean, the stricter one; ``recording_bits``: mutual information of code and recording, and
        ``recording_bits_possible``, what it could be at most.
    """
    counts = np.bincount(training.codes, minlength=n_codes)
    table = np.zeros((n_codes, training.spectra.shape[1]))
    np.add.at(table, training.codes, training.spectra)
    mean, std = training.spectra.mean(axis=0), training.spectra.std(axis=0)
    table = np.where(counts[:, None] > 0, table / np.maximum(counts, 1)[:, None], mean)
    error = (((held_out.spectra - table[held_out.codes]) / std) ** 2).sum()
    from_training = (((held_out.spectra - mean) / std) ** 2).sum()
    from_own = (((held_out.spectra - held_out.spectra.mean(axis=0)) / std) ** 2).sum()
    used = np.bincount(held_out.codes, minlength=n_codes)
    spread = float(perplexity(torch.from_numpy(used)))
    numbers, recording = np.unique(held_out.recording, return_inverse=True)
    joint = np.zeros((len(numbers), n_codes))
    np.add.at(joint, (recording, held_out.codes), 1.0)
    joint /= joint.sum()
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    there = joint > 0
    shares = joint.sum(axis=1)
    return {
        "n_patches": len(held_out.codes),
        "used": float((used > 0).mean()),
        "perplexity": spread,
        "perplexity_share": spread / n_codes,
        "explained": float(1.0 - error / from_training),
        "explained_own_mean": float(1.0 - error / from_own),
        "recording_bits": float((joint[there] * np.log2(joint[there] / product[there])).sum()),
        "recording_bits_possible": float(-(shares * np.log2(shares)).sum()),
    }


@torch.no_grad()
def reconstruction_error(tokenizer: Any, store: Any, *, seconds: float = 4.0) -> dict[str, float]:
    """Compare what the decoder makes of codes with what was coded.

    Parameters
    ----------
    tokenizer : LabramTokenizer
        The tokenizer.
    store : ConformedStore
        The recordings.
    seconds : float
        Length of the windows.

    Returns
    -------
    errors : dict of str to float
        For every part of the target, ``<part>``: mean squared error, and ``<part>_mean``: that of predicting the mean
        over training (zero, since targets are z-scored).
    """
    sums: dict[str, float] = {}
    n = 0
    for _, batch in _batches(store, seconds):
        bound = tokenizer.bind_channels(batch["ch_names"], positions=batch["positions"])
        x = batch["x"]
        wanted = bound.target(x.unflatten(2, (-1, tokenizer.patch_size)))
        found = bound.decode_spectra(bound.encode(x))
        n += wanted[next(iter(wanted))][..., 0].numel()
        for name, value in wanted.items():
            for key, error in ((name, found[name] - value), (f"{name}_mean", value)):
                sums[key] = sums.get(key, 0.0) + float(error.square().mean(dim=-1).sum())
    return {key: value / n for key, value in sums.items()}


@torch.no_grad()
def masked_accuracy(
    model: Any, tokenizer: Any, training: CodedPatches, store: Any, *, seconds: float = 4.0, seed: int = 0
) -> dict[str, float]:
    """Measure how often the code of a hidden patch is guessed.

    Parameters
    ----------
    model : LabramForMaskedModeling
        The model.
    tokenizer : LabramTokenizer
        Gives the right answers.
    training : CodedPatches
        Tells the most frequent code.
    store : ConformedStore
        Recordings that were held out.
    seconds : float
        Length of the windows.
    seed : int
        Of the masks: half of the patches, at random, and the others.

    Returns
    -------
    scores : dict of str to float
        ``accuracy``; ``unigram``, the accuracy of always guessing the code that is most frequent in training;
        ``best_constant``, that of the code most frequent in the very patches asked for, which no guess without looking
        can beat; ``ratio`` of accuracy and unigram, ``ratio_best_constant``; ``cross_entropy`` in bits per code, and
        ``unigram_cross_entropy``, with the frequencies of training.
    """
    counts = np.bincount(training.codes, minlength=model.n_codes)
    log_shares = torch.from_numpy(np.log((counts + 1.0) / (counts.sum() + len(counts))))
    generator = torch.Generator().manual_seed(seed)
    right = n = 0
    bits = unigram_bits = 0.0
    asked = torch.zeros(model.n_codes, dtype=torch.long)
    for _, batch in _batches(store, seconds):
        names, positions = batch["ch_names"], batch["positions"]
        bound, coder = (each.bind_channels(names, positions=positions) for each in (model, tokenizer))
        x = batch["x"]
        labels = coder.encode(x).flatten(1)
        mask = draw_mask("random", len(x), x.shape[1], x.shape[2] // model.patch_size, 0.5, generator=generator)
        with evaluating(bound):
            for hidden in (mask, ~mask):
                logits, truth = bound(x, mask=hidden)[hidden], labels[hidden]
                right += int((logits.argmax(dim=-1) == truth).sum())
                bits += float(nn.functional.cross_entropy(logits, truth, reduction="sum")) / np.log(2)
                unigram_bits -= float(log_shares[truth].sum()) / np.log(2)
                asked += torch.bincount(truth, minlength=model.n_codes)
                n += len(truth)
    unigram = float(asked[int(counts.argmax())]) / n
    constant = float(asked.max()) / n
    return {
        "accuracy": right / n,
        "unigram": unigram,
        "ratio": right / n / unigram if unigram else float("inf"),
        "best_constant": constant,
        "ratio_best_constant": right / n / constant,
        "cross_entropy": float(bits / n),
        "unigram_cross_entropy": float(unigram_bits / n),
    }
