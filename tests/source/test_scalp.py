"""Which channels are electrodes."""

from __future__ import annotations

from pathlib import Path

import mne
import pytest

from mne_labram.signal.contract import ContractError
from mne_labram.source.headmodel import electrodes_on_template
from mne_labram.source.scalp import scalp_channels


def _info(names: list[str]) -> mne.Info:
    return mne.create_info(names, 200.0, "eeg")


def test_what_is_eeg_by_the_file_only_is_left_out(shared_data: Path) -> None:
    """EDF files call an ECG, and ears against each other, EEG."""
    raw = mne.io.read_raw_edf(shared_data / "eegmat" / "Subject20_1.edf", verbose="error")
    picks, parsed = scalp_channels(raw.info)
    assert len(picks) == 19
    assert {label.kind for label in parsed} == {"electrode"}
    names, positions = electrodes_on_template(raw.info)
    assert names == [raw.ch_names[pick] for pick in picks]
    assert positions.shape == (19, 3)
    raw.info["bads"] = ["EEG Fp1"]
    assert len(scalp_channels(raw.info)[0]) == 18
    assert len(scalp_channels(raw.info, bads=True)[0]) == 19


def test_derivations() -> None:
    """A bipolar montage is refused; a common cathode is a reference."""
    with pytest.raises(ContractError, match="'Fp1-F3' is a bipolar channel, of which no average reference can be"):
        scalp_channels(_info(["Fp1-F3", "F3-C3", "C3-P3"]))
    picks, _ = scalp_channels(_info(["Fp1-Cz", "F3-Cz", "C3-Cz", "P3-Cz"]))
    assert picks == [0, 1, 2, 3]


def test_names_of_ones_own_are_electrodes() -> None:
    """What no list knows may have a position; whoever needs one asks for it."""
    assert scalp_channels(_info(["Fz", "E17", "contact"]))[0] == [0, 1, 2]
