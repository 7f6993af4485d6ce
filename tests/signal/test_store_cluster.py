"""The same cache from one process, from several, and from a Dask cluster."""

from __future__ import annotations

from pathlib import Path

import joblib
import pytest
from dask.distributed import Client, LocalCluster

from mne_labram.signal.contract import ContractError, SignalContract
from mne_labram.signal.store import RecordingStore

CONTRACT = SignalContract(name="test", l_freq=1.0, h_freq=40.0, sfreq=100.0, notch=False, patch_samples=100)
#: What distributed and its web server say while they start and stop, of no interest here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@pytest.fixture
def recordings(write_edf, make_eeg, tmp_path) -> Path:
    """Return a folder with three recordings that can be conformed and one that cannot."""
    (tmp_path / "data").mkdir()
    for number in range(3):
        write_edf(f"data/p{number}_1.edf", signals=list(make_eeg(3, 100 * (12 + number), 100, seed=number)))
    write_edf("data/q_1.edf", labels=["X1", "X2", "X3"])
    return tmp_path / "data"


def _tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "mne-labram-index.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(files)}


def test_a_dask_cluster(recordings, tmp_path) -> None:
    serial = RecordingStore(recordings).conform(CONTRACT, cache=tmp_path / "serial")
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
        Client(cluster) as client,
    ):
        assert len(client.scheduler_info()["workers"]) == 2
        with joblib.parallel_config(backend="dask"):
            store = RecordingStore(recordings).conform(CONTRACT, cache=tmp_path / "cluster")
            with pytest.raises(ContractError, match=r"q_1\.edf"):
                RecordingStore(recordings).conform(CONTRACT, cache=tmp_path / "other", errors="raise")
    assert [each.path for each in store.recordings] == [each.path for each in serial.recordings]
    assert store.skipped == serial.skipped
    assert len(store.skipped) == 1
    assert len(_tree(tmp_path / "serial")) == 9
    assert _tree(tmp_path / "cluster") == _tree(tmp_path / "serial")


@pytest.mark.parametrize("n_jobs", [2, None])
def test_processes(recordings, tmp_path, n_jobs) -> None:
    """``n_jobs=None`` leaves it to a ``parallel_config`` of the caller, as in scikit-learn."""
    with joblib.parallel_config(backend="threading", n_jobs=2):
        store = RecordingStore(recordings, n_jobs=n_jobs).conform(CONTRACT, cache=tmp_path / "cache", n_jobs=n_jobs)
    RecordingStore(recordings).conform(CONTRACT, cache=tmp_path / "serial")
    assert len(store) == 3
    assert _tree(tmp_path / "cache") == _tree(tmp_path / "serial")


def test_loky(recordings, tmp_path) -> None:
    store = RecordingStore(recordings, n_jobs=2).conform(CONTRACT, cache=tmp_path / "cache", n_jobs=2)
    RecordingStore(recordings).conform(CONTRACT, cache=tmp_path / "serial")
    assert [each.subject for each in store.recordings] == ["p0", "p1", "p2"]
    assert _tree(tmp_path / "cache") == _tree(tmp_path / "serial")
