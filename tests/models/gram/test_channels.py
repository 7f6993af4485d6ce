"""Names, rows and the longest windows."""

from __future__ import annotations

import mne
import numpy as np
import pytest
import torch

from mne_labram import check, conform, labram_embed
from mne_labram.models.gram import GramForClassification
from mne_labram.models.gram.channels import GRAM_CHANNELS, gram_rows

SMALL = {"n_outputs": 2, "embed_dim": 16, "num_layers": 2, "num_heads": 2}


def test_the_list() -> None:
    assert len(GRAM_CHANNELS) == len(set(GRAM_CHANNELS)) == 130
    assert (GRAM_CHANNELS[0], GRAM_CHANNELS[113], GRAM_CHANNELS[114]) == ("FP1", "T2", "FP1-F7")
    assert GRAM_CHANNELS[-1] == "P4-O2"


def test_rows() -> None:
    assert gram_rows(["FP1", "P4-O2"]) == [1, 130]
    # The old and the new name have rows of their own; of a pair, only one has.
    assert gram_rows(["T7", "T3"]) == [GRAM_CHANNELS.index("T7") + 1, GRAM_CHANNELS.index("T3") + 1]
    assert gram_rows(["F7-T3"]) == gram_rows(["F7-T7"])
    with pytest.raises(ValueError, match="'FTT9h', 'FZ-CZ': not among the 130 names that Gram knows") as error:
        gram_rows(["FTT9h", "CZ", "FZ-CZ"])
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="'F7-T3', 'F7-T7': the same channel more than once"):
        gram_rows(["F7-T3", "F7-T7"])


def test_models_know_the_parasagittal_pairs() -> None:
    model = GramForClassification(ch_names=["EEG F3-C3", "P3-O1"], **SMALL)
    assert model.ch_names == ["F3-C3", "P3-O1"]
    with pytest.raises(ValueError, match="'FTT9h': not among the 130 names"):
        model.bind_channels(["FTT9h"])


def _raw(names: list[str]) -> mne.io.RawArray:
    data = 20e-6 * np.random.default_rng(0).standard_normal((len(names), 800))
    return mne.io.RawArray(data, mne.create_info(names, 200.0, "eeg"), verbose="error")


@pytest.fixture(scope="module")
def model() -> GramForClassification:
    torch.manual_seed(0)
    return GramForClassification(ch_names=["CZ"], **SMALL).eval()


@pytest.mark.parametrize("name", GRAM_CHANNELS)
def test_every_name_can_be_reached_from_a_recording_that_has_it(model: GramForClassification, name: str) -> None:
    bound = model.bind_channels([name])
    assert bound.contract.vocabulary == "gram"
    raw = _raw([name])
    assert check(raw, bound.contract, print_report=False).ok
    conformed, report = conform(raw, bound.contract)
    assert conformed.ch_names == report.ch_names == [name]
    # What conform calls a row is the row that the model takes.
    assert [channel.row for channel in report.channel_map.rows] == gram_rows(report.ch_names)
    assert gram_rows([name]) == [GRAM_CHANNELS.index(name) + 1] == bound.encoder.spatial_embed.rows.tolist()


@pytest.mark.parametrize("bipolar", [False, True])
def test_all_names_of_a_montage_at_once(model: GramForClassification, bipolar: bool) -> None:
    names = [name for name in GRAM_CHANNELS if ("-" in name) is bipolar]
    bound = model.bind_channels(names)
    raw = _raw(names)
    conformed, report = conform(raw, bound.contract)
    assert (conformed.ch_names, list(report.channel_map.dropped)) == (names, [])
    out, report = labram_embed(raw, bound, window=1, return_report=True)
    assert report.ch_names == names
    assert np.isfinite(out).all()


def test_what_the_model_does_not_know_is_dropped_and_not_refused(model: GramForClassification) -> None:
    # LaBraM's table has a row for FTT9h; a recording with it used to be conformed to a channel that Gram refuses.
    out, report = labram_embed(_raw(["FTT9h", "CZ", "O1"]), model, window=1, return_report=True)
    assert report.ch_names == ["CZ", "O1"]
    assert np.isfinite(out).all()


@pytest.mark.parametrize(("n_chans", "n_patches"), [(64, 4), (32, 8), (19, 13), (4, 16), (130, 1)])
def test_longest_window_follows_from_the_number_of_channels(n_chans: int, n_patches: int) -> None:
    model = GramForClassification(ch_names=["CZ"], **SMALL).eval().bind_channels(list(GRAM_CHANNELS[:n_chans]))
    assert model.contract.max_patches == model.max_patches == n_patches
    assert model(torch.randn(1, n_chans, 200 * n_patches)).shape == (1, 2)
    with pytest.raises(ValueError, match=f"at most {n_patches} patches"):
        model(torch.randn(1, n_chans, 200 * n_patches + 200))
    if n_patches < 16:
        with pytest.raises(ValueError, match=f"at most {n_patches} patches"):
            GramForClassification(ch_names=list(GRAM_CHANNELS[:n_chans]), n_times=3200, **SMALL)


def test_coordinates_have_windows_of_any_size() -> None:
    options = {"spatial": "coordinates", **SMALL}
    names = list(GRAM_CHANNELS[:64])
    model = GramForClassification(ch_names=names, n_times=3200, **options).eval()
    assert model.contract.max_patches == 16
    assert model(torch.randn(1, 64, 3200)).shape == (1, 2)
    assert GramForClassification(ch_names=names, max_tokens=128, **options).contract.max_patches == 2
    with pytest.raises(ValueError, match="max_tokens must be at least 1"):
        GramForClassification(ch_names=names, max_tokens=0, **options)
