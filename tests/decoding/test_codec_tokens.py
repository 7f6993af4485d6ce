"""EEGTokenizer and labram_tokenize with a codec: several codes per frame."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest
import torch

from mne_labram import BrainCodec, EEGEmbedding, EEGTokenizer, labram_tokenize

CHANNELS = ["C3", "CZ", "C4"]


@pytest.fixture(scope="module")
def codec() -> BrainCodec:
    """Return a tiny codec with frames of 8 samples and codebooks of its own."""
    torch.manual_seed(0)
    return BrainCodec(
        ratios=[2, 4],
        n_filters=2,
        max_filters=4,
        dim=8,
        n_codebooks=2,
        codebook_size=16,
        kmeans_init=False,
        linear_path=True,
        gain=True,
        n_times=401,
    ).eval()


@pytest.fixture(scope="module")
def epochs() -> mne.EpochsArray:
    """Six 2-s epochs, of 401 samples, as MNE makes them."""
    info = mne.create_info([name.title() for name in CHANNELS], 200.0, "eeg")
    return mne.EpochsArray(2e-5 * np.random.default_rng(0).normal(size=(6, 3, 401)), info, verbose="error")


def test_codes_of_epochs(codec: BrainCodec, epochs: mne.EpochsArray) -> None:
    """Every sample is in a frame: 401 samples are 51 frames of 8."""
    tokens = EEGTokenizer(codec)
    flat = tokens.fit_transform(epochs)
    codes = labram_tokenize(epochs, codec)
    assert codes.shape == (6, 3, 51, 2)
    assert codes.dtype == np.int64
    np.testing.assert_array_equal(flat.reshape(codes.shape), codes)
    x = torch.from_numpy(epochs.get_data(units="uV").astype(np.float32))
    np.testing.assert_array_equal(codes, codec.encode(x).numpy())
    names = tokens.get_feature_names_out()
    assert len(names) == flat.shape[1] == 6 * 51
    assert (names[0], names[3], names[-1]) == ("C3_frame0_codebook0", "C3_frame1_codebook1", "C4_frame50_codebook1")


def test_histogram(codec: BrainCodec, epochs: mne.EpochsArray) -> None:
    """One distribution per codebook, whatever the montage."""
    tokens = EEGTokenizer(codec, "histogram")
    shares = tokens.fit_transform(epochs)
    assert shares.shape == (6, 32)
    np.testing.assert_allclose(shares.reshape(6, 2, 16).sum(axis=2), 1.0)
    codes = labram_tokenize(epochs, codec)
    assert shares[2, 16 + 5] == pytest.approx((codes[2, ..., 1] == 5).mean())
    assert tokens.get_feature_names_out()[[0, -1]].tolist() == ["codebook0_code0", "codebook1_code15"]
    one = epochs.copy().pick(["Cz"])
    assert tokens.transform(one).shape == (6, 32)


def test_unusable_windows(codec: BrainCodec, epochs: mne.EpochsArray) -> None:
    """Rows of -1 and NaN, as with a tokenizer."""
    data = epochs.get_data(copy=True)
    data[1, :, 100:180] = np.nan
    broken = mne.EpochsArray(data, epochs.info, verbose="error")
    codes = EEGTokenizer(codec, on_unusable="keep").fit_transform(broken)
    shares = EEGTokenizer(codec, "histogram", on_unusable="keep").fit_transform(broken)
    assert (codes[1] == -1).all()
    assert np.isnan(shares[1]).all()
    assert (codes[[0, 2, 3, 4, 5]] >= 0).all()
    assert np.isfinite(shares[[0, 2, 3, 4, 5]]).all()


def test_raw(codec: BrainCodec, shared_data: Path) -> None:
    """A real recording at its own rate of 160 Hz, in windows of the length asked for."""
    raw = mne.io.read_raw_edf(next(shared_data.rglob("S001R01.edf")), verbose="error").crop(0, 10)
    codes = EEGTokenizer(codec, window=1.0, line_freq=60.0).fit_transform(raw)
    assert codes.shape == (10, 64 * 25 * 2)
    assert len(np.unique(codes)) > 8


def test_embedding(codec: BrainCodec, epochs: mne.EpochsArray) -> None:
    """Latents can be embedded too."""
    assert EEGEmbedding(codec, precision="float32").fit_transform(epochs).shape == (6, 8)
    assert EEGEmbedding(codec, "channels", precision="float32").fit_transform(epochs).shape == (6, 24)
