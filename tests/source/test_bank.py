"""Banks are stored as they are, and drawn from at any rate."""

from __future__ import annotations

import numpy as np
import pytest

from mne_labram.signal.contract import ContractError
from mne_labram.source.bank import WAVEFORM_KINDS, WaveformBank


def _bank(n_spikes: int = 4) -> WaveformBank:
    rng = np.random.default_rng(0)
    times = np.arange(500) - 200
    widths = 8.0 + 4.0 * np.arange(n_spikes)
    return WaveformBank(
        spikes=np.exp(-0.5 * (times / widths[:, np.newaxis]) ** 2).astype(np.float16),
        spike_regions=np.arange(n_spikes, dtype=np.int16),
        background=rng.standard_normal((3, 5, 600)).astype(np.float16),
        positions=rng.standard_normal((5, 3)).astype(np.float32),
        about={"seed": 3},
    )


def test_a_bank_is_read_as_it_was_written(tmp_path) -> None:
    bank = _bank()
    path = tmp_path / "bank.npz"
    bank.save(path)
    found = WaveformBank.load(path)
    for name in ("spikes", "spike_regions", "background", "positions"):
        np.testing.assert_array_equal(getattr(found, name), getattr(bank, name))
        assert getattr(found, name).dtype == getattr(bank, name).dtype
    assert (found.sfreq, found.about) == (500.0, {"seed": 3})
    # What it says of its size is the size of the file, but for names.
    assert bank.n_bytes < path.stat().st_size < bank.n_bytes + 4000
    assert "4 spikes, 3 background clips of 5 regions" in repr(found)
    with pytest.raises(FileExistsError, match="overwrite"):
        bank.save(path)
    bank.save(path, overwrite=True)
    assert [each.name for each in tmp_path.iterdir()] == ["bank.npz"]
    with pytest.raises(ValueError, match=r"\.npz"):
        bank.save(tmp_path / "bank.fif")


def test_what_is_no_bank_is_refused(tmp_path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, spikes=np.zeros((2, 3)))
    with pytest.raises(ContractError, match="no waveform bank"):
        WaveformBank.load(path)
    path.write_bytes(b"PK nothing")
    with pytest.raises(ContractError, match="no waveform bank"):
        WaveformBank.load(path)
    path.write_bytes(b"")
    with pytest.raises(ContractError, match="no waveform bank"):
        WaveformBank.load(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    with pytest.raises(ContractError, match="no waveform bank"):
        WaveformBank.load(path.with_suffix(".npy"))
    with pytest.raises(FileNotFoundError):
        WaveformBank.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"sfreq": 0.0}, "sampling rate"),
        ({"spikes": np.zeros((2, 500), np.float16)}, "a region each"),
        ({"background": np.zeros((2, 500), np.float16)}, "n_regions"),
        ({"background": np.zeros((1, 4, 9), np.float16), "positions": np.zeros((5, 3))}, "4 regions"),
        ({"positions": np.full((5, 3), np.nan)}, "finite"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts: dict, match: str) -> None:
    with pytest.raises(ContractError, match=match):
        WaveformBank(**parts)


def test_spikes_are_drawn_as_they_are_stored() -> None:
    bank = _bank(1)
    found = bank.draw(50, 150, 500.0, np.random.default_rng(0), kinds=("spike",))
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.abs(found).max(axis=1), 1.0, rtol=1e-3)
    assert (found.min(axis=1) < -0.9).any()
    assert (found.max(axis=1) > 0.9).any()
    # As wide as the stored one, at 0.7 to 3 times its speed.
    one = np.array([wave for wave in np.abs(found) if (np.diff((wave > 0.5).astype(int)) == 1).sum() == 1])
    width = (one > 0.5).sum(axis=1) / (2.355 * 8.0)
    assert len(one) > 25
    assert 0.25 < np.quantile(width, 0.05) < 0.6 < 1.1 < np.quantile(width, 0.95) < 1.5


def test_spikes_at_a_lower_rate_have_no_aliases() -> None:
    rng = np.random.default_rng(0)
    sharp = np.zeros((1, 500), np.float16)
    sharp[0, 200] = 1.0  # one sample wide: nothing but aliases, if read off without a filter
    bank = WaveformBank(spikes=sharp, spike_regions=np.zeros(1, np.int16))
    found = np.abs(bank.draw(200, 100, 100.0, rng, kinds=("spike",)))
    assert np.isfinite(found).all()
    assert (found.max(axis=1) > 0.99).all()
    assert ((found > 0.1).sum(axis=1) >= 2).mean() > 0.85


def test_without_spikes_they_are_made_up_and_all_kinds_come() -> None:
    rng = np.random.default_rng(0)
    for bank in (WaveformBank(), _bank()):
        found = bank.draw(30, 100, 100.0, rng)
        assert found.shape == (30, 100)
        np.testing.assert_allclose(np.abs(found).max(axis=1), 1.0, rtol=1e-3)
        assert bank.draw(0, 100, 100.0, rng).shape == (0, 100)
    for kinds in ("spike", (), ("ramp",)):
        with pytest.raises(ValueError, match="Waveforms are"):
            WaveformBank().draw(1, 100, 100.0, rng, kinds=kinds)
    assert set(WAVEFORM_KINDS) == {"spike", "oscillation", "evoked"}
