"""The same bank from a Dask cluster."""

from __future__ import annotations

import joblib
import numpy as np
import pytest
from dask.distributed import Client, LocalCluster

from mne_labram.source import bank_pieces
from mne_labram.source.bank_making import make_bank
from mne_labram.source.bank_pieces import BankRecipe

#: What distributed and its web server say while they start and stop, of no interest here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def test_a_dask_cluster(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_pieces, "LANES", 8)  # pieces of so many regions
    recipe = BankRecipe(n_regions=12, clips_per_region=1, background_clips=2, run_seconds=5.0, most_runs=4)
    alone = make_bank(tmp_path / "alone.npz", recipe)
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        bank = make_bank(tmp_path / "cluster.npz", recipe, n_jobs=2)
    for name in ("spikes", "spike_regions", "background", "positions"):
        np.testing.assert_array_equal(getattr(bank, name), getattr(alone, name))
    assert bank.about == alone.about
