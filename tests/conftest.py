"""What every test may rely on: recordings, real and made by hand, and a machine that tests leave as it was."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# All of this must stand before numpy, torch, matplotlib or mne are imported for the first time.
N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
N_THREADS = min(2, N_CORES)
# One each, where pytest-xdist runs tests side by side; set and not left as it is, since workers inherit what their
# parent set here for itself, and two threads that wait for each other on one core are a hundred times as slow.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
else:
    os.environ.setdefault("OMP_NUM_THREADS", str(N_THREADS))
os.environ["MPLBACKEND"] = "Agg"
# MNE and MOABB write their configuration and results under the home directory unless told otherwise.
_SCRATCH = tempfile.TemporaryDirectory(prefix="mne-labram-tests-")
os.environ["_MNE_FAKE_HOME_DIR"] = _SCRATCH.name
os.environ["MNE_DATA"] = os.environ["MOABB_RESULTS"] = _SCRATCH.name

from collections.abc import Callable, Iterator, Sequence  # noqa: E402

import hypothesis  # noqa: E402
import mne  # noqa: E402
import numpy as np  # noqa: E402
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


def pytest_xdist_auto_num_workers() -> int:
    """Say how many processes ``-n auto`` means: each takes a gigabyte, and many of the tests start others."""
    return min(4, N_CORES)


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


NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2")


def eeg_like(n_chans: int, n_times: int, sfreq: float, seed: int = 0, amplitude: float = 20.0) -> np.ndarray:
    """Return noise with a spectrum that falls like EEG's plus an alpha rhythm, in µV."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((n_chans, n_times))
    spectrum = np.fft.rfft(white)
    freqs = np.fft.rfftfreq(n_times, 1 / sfreq)
    spectrum /= np.maximum(freqs, 0.5) ** 0.7
    x = np.fft.irfft(spectrum, n_times)
    x *= amplitude / max(x.std(), 1e-12)
    times = np.arange(n_times) / sfreq
    return x + 0.5 * amplitude * np.sin(2 * np.pi * 10 * times + rng.uniform(0, 6, (n_chans, 1)))


@pytest.fixture
def make_eeg() -> Callable[..., np.ndarray]:
    """Return :func:`eeg_like`."""
    return eeg_like


@pytest.fixture
def make_raw() -> Callable[..., mne.io.RawArray]:
    """Return a function that makes a Raw of EEG-like noise; ``edit(x)`` may change the µV beforehand."""

    def make(
        seconds: float = 20.0,
        sfreq: float = 250.0,
        names: Sequence[str] = NAMES,
        types: str | list[str] = "eeg",
        edit: Callable[[np.ndarray], object] | None = None,
        seed: int = 0,
        unit: float = 1e-6,
    ) -> mne.io.RawArray:
        x = eeg_like(len(names), int(round(seconds * sfreq)), sfreq, seed)
        if edit is not None:
            edit(x)
        return mne.io.RawArray(x * unit, mne.create_info(list(names), sfreq, types), verbose="ERROR")

    return make


def _padded(text: str, width: int) -> bytes:
    return text.encode("latin-1")[:width].ljust(width)


def write_edf_file(
    fname: Path,
    signals: Sequence[np.ndarray],
    *,
    labels: Sequence[str],
    rates: Sequence[int] | int = 100,
    units: Sequence[str] | str = "uV",
    physical: tuple[float, float] = (-500.0, 500.0),
    kind: str = "EDF",
    record_seconds: float = 1.0,
    onsets: Sequence[float] | None = None,
    annotations: dict[int, Sequence[tuple[float, float, str]]] | None = None,
    declared: int | None = None,
    cut_bytes: int = 0,
) -> Path:
    """Write an EDF or BDF file by the book, or not.

    Signals are physical values; ``onsets`` are the time stamps of the records (EDF+), ``annotations`` maps a record to
    (onset, duration, text) entries stored in it, ``declared`` overrules the number of records in the header, and
    ``cut_bytes`` are missing at the end.
    """
    n = len(signals)
    rates = [rates] * n if isinstance(rates, int) else list(rates)
    units = [units] * n if isinstance(units, str) else list(units)
    bdf = kind.startswith("BDF")
    low, high = (-(2**23), 2**23 - 1) if bdf else (-(2**15), 2**15 - 1)
    per_record = [int(round(rate * record_seconds)) for rate in rates]
    n_records = len(signals[0]) // per_record[0]
    plus = "+" in kind
    tal_words = 60
    heads = [
        (label, unit, *physical, low, high, size) for label, unit, size in zip(labels, units, per_record, strict=True)
    ]
    if plus:
        heads.append((f"{kind[:3]} Annotations", "", -1, 1, low, high, tal_words))
    out = bytearray()
    out += b"\xffBIOSEMI" if bdf else _padded("0", 8)
    out += _padded("X X X X", 80) + _padded("Startdate 02-MAR-2020 X X X", 80)
    out += _padded("02.03.20", 8) + _padded("10.11.12", 8) + _padded(str(256 * (len(heads) + 1)), 8)
    out += _padded(kind if plus else ("24BIT" if bdf else ""), 44)
    out += _padded(str(n_records if declared is None else declared), 8)
    out += _padded(f"{record_seconds:g}", 8) + _padded(str(len(heads)), 4)
    for column, width in ((0, 16), (None, 80), (1, 8), (2, 8), (3, 8), (4, 8), (5, 8), (None, 80), (6, 8), (None, 32)):
        for head in heads:
            out += _padded("" if column is None else f"{head[column]}", width)
    onsets = np.arange(n_records) * record_seconds if onsets is None else onsets
    for record in range(n_records):
        for x, size in zip(signals, per_record, strict=True):
            part = np.asarray(x[record * size : (record + 1) * size], dtype=float)
            digital = np.round((part - physical[0]) / (physical[1] - physical[0]) * (high - low) + low)
            digital = np.clip(digital, low, high).astype("<i4")
            out += digital.view(np.uint8).reshape(-1, 4)[:, : 3 if bdf else 2].tobytes()
        if plus:
            tal = f"{onsets[record]:+g}\x14\x14\x00"
            for onset, duration, text in (annotations or {}).get(record, ()):
                tal += f"{onset:+g}" + (f"\x15{duration:g}" if duration else "") + f"\x14{text}\x14\x00"
            out += tal.encode().ljust(tal_words * (3 if bdf else 2), b"\x00")
    fname.write_bytes(bytes(out[: len(out) - cut_bytes]))
    return fname


@pytest.fixture
def write_edf(tmp_path) -> Callable[..., Path]:
    """Return a function that writes an EDF file of EEG-like noise into the test's own folder."""

    def write(name: str = "made.edf", seconds: float = 20, sfreq: int = 100, n_chans: int = 3, **kwargs) -> Path:
        signals = kwargs.pop("signals", None)
        if signals is None:
            signals = list(eeg_like(n_chans, int(seconds * sfreq), sfreq))
        labels = kwargs.pop("labels", [f"EEG {each}-REF" for each in NAMES[: len(signals)]])
        return write_edf_file(tmp_path / name, signals, labels=labels, rates=kwargs.pop("rates", sfreq), **kwargs)

    return write
