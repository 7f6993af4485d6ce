"""The tables of a card."""

from __future__ import annotations

import pytest
import torch

from mne_labram.benchmark.weights import measure_probe
from mne_labram.models.labram import LabramForMaskedModeling


@pytest.mark.slow
def test_probe_tables_of_real_recordings(shared_data, tmp_path) -> None:
    """Twelve subjects; without models for the folds, only the last fold is scored."""
    for number in range(12):
        for part in (1, 2):
            name = f"Subject{number:02d}_{part}.edf"
            (tmp_path / name).symlink_to(shared_data / "eegmat" / name)
    torch.manual_seed(0)
    options = {"embed_dim": 16, "num_layers": 1, "num_heads": 2, "contract": {"l_freq": 0.5, "h_freq": 45.0}}
    model = LabramForMaskedModeling(ch_names=["CZ"], n_codes=8, spatial="coordinates", **options).eval()
    only_last = measure_probe(model, tmp_path, n_random=1)
    assert [title.split(", ")[1] for title in only_last] == ["Subject10 to Subject11"] * 2
    everyone = measure_probe(model, tmp_path, fold_models=dict.fromkeys(range(5), model), n_random=1)
    assert len(everyone) == 4
    rows = {row["features"]: row for row in next(iter(everyone.values()))}
    assert rows["band power"]["AUROC minus band power"] == ""
    # The very same features: nothing to choose between them.
    assert {"labram-tiny", "random weights, mean of seeds", "labram-tiny + band power"} < set(rows)
    last = {row["features"]: row["AUROC"] for row in list(everyone.values())[2]}
    assert last["band power"] == {row["features"]: row["AUROC"] for row in list(only_last.values())[0]}["band power"]
