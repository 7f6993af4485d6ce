"""What every test may rely on: where the real recordings are, and a machine that tests leave as it was."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# All of this must stand before numpy, torch, matplotlib or mne are imported for the first time.
N_THREADS = min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
os.environ.setdefault("OMP_NUM_THREADS", str(N_THREADS))
os.environ["MPLBACKEND"] = "Agg"
# MNE and MOABB write their configuration and results under the home directory unless told otherwise.
_SCRATCH = tempfile.TemporaryDirectory(prefix="mne-labram-tests-")
os.environ["_MNE_FAKE_HOME_DIR"] = _SCRATCH.name
os.environ["MNE_DATA"] = os.environ["MOABB_RESULTS"] = _SCRATCH.name

from collections.abc import Iterator  # noqa: E402

import hypothesis  # noqa: E402
import mne  # noqa: E402
import pytest  # noqa: E402

import mne_labram  # noqa: E402, F401  (before any test file imports Braindecode, which it makes importable)

# Same examples in every run: a test that fails only sometimes cannot be repaired.
hypothesis.settings.register_profile(
    "mne_labram",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
hypothesis.settings.load_profile("mne_labram")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--runslow``."""
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow tests out unless ``--runslow`` or a ``-m`` expression that names them asks for them."""
    if config.getoption("--runslow") or "slow" in config.getoption("-m"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """Give MNE's log level back: the command line sets it for its whole process."""
    level = mne.utils.logger.level
    yield
    mne.set_log_level(level)


def _shared_folder(name: str) -> Path:
    """Find a folder beside the checkout, or skip the test that asked for it."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("MNE_LABRAM_SHARED", default)) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set MNE_LABRAM_SHARED to the folder that holds {name!r}.")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real recordings; the test is skipped where it is absent."""
    return _shared_folder("data")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden vectors of the authors' own code; the test is skipped where it is absent."""
    return _shared_folder("golden")
