"""What a contract may say."""

from __future__ import annotations

import json

import pytest

from mne_labram import LABRAM_CONTRACT, ContractError, SignalContract, conform


def test_the_official_preparation():
    """Jiang et al. 2024, section 3.2: 0.1-75 Hz, 200 Hz, units of 100 microvolts; one-second patches, at most 16."""
    contract = LABRAM_CONTRACT
    assert (contract.sfreq, contract.l_freq, contract.h_freq, contract.notch) == (200.0, 0.1, 75.0, True)
    assert (contract.scale, contract.patch_samples, contract.patch_seconds, contract.max_patches) == (100, 200, 1, 16)
    assert issubclass(ContractError, ValueError)


def test_survives_json():
    """A checkpoint holds its contract as JSON."""
    contract = SignalContract("mine", l_freq=None, h_freq=45.0, reference="average", montages=["bipolar"])
    assert SignalContract.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract
    with pytest.raises(ValueError, match="Unknown fields in a signal contract: lowpass"):
        SignalContract.from_dict({"lowpass": 45})


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"sfreq": 0.0}, ValueError, "sfreq must be positive"),
        ({"sfreq": float("nan")}, ValueError, "sfreq must be positive"),
        ({"l_freq": 80.0}, ValueError, "must lie below h_freq"),
        ({"h_freq": 100.0}, ValueError, "below half of sfreq"),
        ({"reference": "Cz"}, ValueError, "reference must be"),
        ({"vocabulary": "biot"}, ValueError, "vocabulary must be 'labram', 'gram' or None, got 'biot'"),
        ({"patch_samples": 0}, ValueError, "at least 1"),
        ({"patch_samples": 200.5}, TypeError, "whole numbers"),
        ({"montages": ()}, ValueError, "montages must hold"),
        ({"montages": "bipolar"}, ValueError, "montages must hold"),
    ],
)
def test_contradictions_are_refused(change, error, words):
    """A contract that cannot be kept is none."""
    with pytest.raises(error, match=words):
        SignalContract(**change)


def test_a_name_is_no_contract(make_raw):
    """Named checkpoints come with the weights; a contract is an object."""
    with pytest.raises(TypeError, match="contract must be a SignalContract, got str"):
        conform(make_raw(5), "labram")
