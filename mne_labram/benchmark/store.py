"""Windows per second and peak memory of reading random windows from many files, against three ways of MNE's."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mne
import numpy as np

__all__ = ["StoreRow", "measure_store", "serve", "store_table"]

_WINDOW_SECONDS = 4.0
#: Windows drawn for one turn; they come again when a turn is longer.
_DRAWN = 20_000
#: Windows between two looks at the clock.
_BETWEEN = 8
#: The peers that ratios are against.
_PEER, _SAME = "mne preload", "mne preload, same"
_TITLES = {
    _PEER: "MNE, preload=True, get_data",
    _SAME: "MNE, the same, as float32 microvolts",
    "mne lazy": "MNE, preload=False, get_data",
    "mne reopen": "MNE, read_raw_edf for every window",
    "store": "RecordingStore.read",
    "cache": "ConformedStore.read (200 Hz, filtered)",
}


@dataclass(frozen=True)
class StoreRow:
    """One line of the table.

    Parameters
    ----------
    method : str
        How windows are read.
    n_files : int
        Number of files.
    windows_per_second : float
        Median over rounds.
    ratio, ratio_same : float
        Median over rounds of the quotient to MNE ``preload=True`` in the same round; as it is, and with its data made
        into float32 microvolts.
    open_seconds : float
        Until one window of every file has been read.
    peak : float
        Largest resident memory of the process in MB.
    growth : float
        How much of it came after the imports.
    rates : tuple of float
        Windows per second in each round.
    """

    method: str
    n_files: int
    windows_per_second: float
    ratio: float
    ratio_same: float
    open_seconds: float
    peak: float
    growth: float
    rates: tuple[float, ...]


def _peak_mb() -> float:
    """Return the highest resident memory of this process so far, in MB of 10^6 bytes."""
    try:
        # On Linux ru_maxrss is at least that of the process that started this one (getrusage(2) does not say so).
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except FileNotFoundError:
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return usage / 1e6 if sys.platform == "darwin" else usage * 1024 / 1e6


def _reader(method: str, paths: Sequence[str], cache: str | None) -> tuple[Callable[[int, int], Any], list[int], int]:
    """Return what reads window ``start`` of a file, the samples of each file, and those of a window."""
    if method in ("store", "cache"):
        from mne_labram.signal.store import RecordingStore

        store = RecordingStore(list(paths), errors="raise", verbose="ERROR")
        if method == "cache":
            store = store.conform(cache=cache, errors="raise", verbose="ERROR")
        length = round(_WINDOW_SECONDS * (200 if method == "cache" else store.recordings[0].sfreq))
        return lambda file, start: store.read(file, start, length), [each.n_times for each in store.recordings], length

    def read_edf(path: str, preload: bool = False) -> mne.io.BaseRaw:
        return mne.io.read_raw_edf(path, preload=preload, verbose="ERROR")

    raws = [read_edf(path, preload=method == _PEER) for path in paths[: 1 if method == "mne reopen" else None]]
    length = round(_WINDOW_SECONDS * raws[0].info["sfreq"])
    n_times = [raws[0].n_times] * len(paths)
    if method == "mne reopen":
        return lambda file, start: read_edf(paths[file]).get_data(start=start, stop=start + length), n_times, length
    return lambda file, start: raws[file].get_data(start=start, stop=start + length), n_times, length


def serve(method: str, paths: Sequence[str], cache: str | None) -> None:
    """Open files, then read for as long as standard input says, line by line, until it ends.

    Parameters
    ----------
    method : str
        ``"mne preload"``, ``"mne lazy"``, ``"mne reopen"``, ``"store"`` or ``"cache"``.
    paths : sequence of str
        EDF files.
    cache : str | None
        Folder of the cache.
    """
    mne.set_log_level("error")
    if method in ("store", "cache"):
        import mne_labram.signal.store  # noqa: F401
    imported = _peak_mb()
    started = time.perf_counter()
    read, n_times, length = _reader(method, paths, cache)
    for file in range(len(paths)):
        read(file, 0)
    print(json.dumps({"open_seconds": time.perf_counter() - started}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        rng = np.random.default_rng(order["seed"])
        files = rng.integers(len(paths), size=_DRAWN)
        starts = (rng.random(_DRAWN) * (np.array(n_times)[files] - length)).astype(int)
        windows = list(zip(files.tolist(), starts.tolist(), strict=True))
        convert = order["convert"]
        # Processor time: nothing waits for a disk, and what else runs on the machine does not count.
        started = time.process_time()
        n_read, spent = 0, 0.0
        while spent < order["seconds"]:
            for window in windows[n_read % _DRAWN :][:_BETWEEN]:
                data = read(*window)
                if convert:
                    data = (data * 1e6).astype(np.float32)
                n_read += 1
            spent = time.process_time() - started
        peak = _peak_mb()
        print(json.dumps({"windows_per_second": n_read / spent, "peak": peak, "growth": peak - imported}), flush=True)


class _Child:
    """A process of its own, whose memory nobody else has used, and which reads when it is told to."""

    def __init__(self, method: str, paths: Sequence[str], cache: str | None) -> None:
        code = "import json, sys; from mne_labram.benchmark.store import serve; serve(**json.loads(sys.argv[1]))"
        arguments = json.dumps({"method": method, "paths": list(paths), "cache": cache})
        # Errors of the child go where ours go.
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.open_seconds = self._answer()["open_seconds"]

    def _answer(self) -> dict[str, float]:
        line = self.process.stdout.readline()
        if not line:
            raise OSError("A process that was measured has ended; what it said stands above.")
        return json.loads(line)

    def measure(self, **order: Any) -> dict[str, float]:
        """Have it read and return what it measured."""
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def _write_files(folder: Path, n_files: int, hours: float) -> list[str]:
    """Write EDF files that differ in their header at least, so that none is taken for another."""
    from mne_labram.benchmark.memory import write_long_edf

    paths = [folder / f"p{number:02d}_1.edf" for number in range(n_files)]
    write_long_edf(paths[0], hours)
    content = paths[0].read_bytes()
    for number, path in enumerate(paths):
        # The local recording identification (80 characters from byte 88) may hold any text.
        path.write_bytes(content[:88] + f"Recording {number}".ljust(80).encode() + content[168:])
    return [str(path) for path in paths]


def measure_store(
    *, files: int = 24, hours: float = 1.0, seconds: float = 0.25, rounds: int = 12, fewer: Sequence[int] = (1, 4)
) -> list[StoreRow]:
    """Measure reading 4-s windows at random places of many files, each way in a process of its own.

    Parameters
    ----------
    files : int
        Number of files.
    hours : float
        Length of each; rounded to 10 minutes.
    seconds : float
        How long each way reads in one turn.
    rounds : int
        Every way has one turn in each round, so that a disturbance hits all of them.
    fewer : sequence of int
        Numbers of files for which the stores are measured as well.

    Returns
    -------
    rows : list of StoreRow
        MNE's ways, then the stores with fewer and with all files.

    Raises
    ------
    ValueError
        If there are not at least one file and one round.
    """
    if files < 1 or rounds < 1:
        raise ValueError("At least one file and one round are needed.")
    turns = [(method, files) for method in (_PEER, _SAME, "mne lazy", "mne reopen")]
    turns += [(method, n) for method in ("store", "cache") for n in sorted({*fewer, files}) if n <= files]
    results: dict[tuple[str, int], list[dict[str, float]]] = {turn: [] for turn in turns}
    children: dict[tuple[str, int], _Child] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        paths = _write_files(Path(name), files, hours)
        cache = str(Path(name) / "cache")
        _Child("cache", paths, cache).close()  # builds it
        for method, n_files in turns:
            if method != _SAME:
                child = children[method, n_files] = _Child(method, paths[:n_files], cache)
                stack.callback(child.close)
        children[_SAME, files] = children[_PEER, files]
        for number in mne.utils.ProgressBar(range(rounds), mesg="Measuring", delay=2.0):
            # Back and forth, so that no way always comes after the same one.
            for turn in turns if number % 2 == 0 else reversed(turns):
                order = {"seconds": seconds, "seed": number, "convert": turn[0] == _SAME}
                results[turn].append(children[turn].measure(**order))
    rates = {turn: np.array([each["windows_per_second"] for each in measured]) for turn, measured in results.items()}
    return [
        StoreRow(
            method=turn[0],
            n_files=turn[1],
            windows_per_second=float(np.median(rates[turn])),
            ratio=float(np.median(rates[turn] / rates[_PEER, files])),
            ratio_same=float(np.median(rates[turn] / rates[_SAME, files])),
            open_seconds=children[turn].open_seconds,
            peak=results[turn][-1]["peak"],
            growth=results[turn][-1]["growth"],
            rates=tuple(rates[turn].tolist()),
        )
        for turn in turns
    ]


def store_table(*, files: int = 24, hours: float = 1.0, seconds: float = 0.25, rounds: int = 12) -> str:
    """Print what :func:`measure_store` found.

    Parameters
    ----------
    files, hours, seconds, rounds
        See :func:`measure_store`.

    Returns
    -------
    table : str
        One row for each way and number of files.
    """
    rows = measure_store(files=files, hours=hours, seconds=seconds, rounds=rounds)
    lines = [
        f"Random {_WINDOW_SECONDS:g}-s windows of {files} EDF files of {hours:g} h, 19 channels at 256 Hz.",
        f"Each way has a process of its own and {rounds} turns of {seconds:g} s; medians, ratios within a round.",
        "Files are in the page cache and seconds are processor time, so it does not matter what else runs.",
        "x MNE: against get_data (float64, volts). x same: against get_data made into float32 microvolts, which is",
        "what the stores return. MB: highest resident memory, and what of it came after the imports.",
        "",
        f"{'':<40}{'files':>6}{'windows/s':>11}{'x MNE':>8}{'x same':>8}{'open s':>8}{'peak MB':>9}{'growth':>8}",
    ]
    lines += [
        f"{_TITLES[row.method]:<40}{row.n_files:>6}{row.windows_per_second:>11.0f}{row.ratio:>8.2f}"
        f"{row.ratio_same:>8.2f}{row.open_seconds:>8.2f}{row.peak:>9.0f}{row.growth:>8.0f}"
        for row in rows
    ]
    return "\n".join([*lines, "", *_verdicts(rows)])


def _verdicts(rows: Sequence[StoreRow]) -> list[str]:
    """Say what the number of files changes."""
    lines = []
    for method in ("store", "cache"):
        mine = sorted((row for row in rows if row.method == method), key=lambda row: row.n_files)
        first, last = mine[0], mine[-1]
        against = [np.median(np.array(row.rates) / np.array(first.rates)) for row in mine]
        lines.append(
            f"{_TITLES[method].split('.')[0]}, {last.n_files} against {first.n_files} file(s): "
            f"{100 * (min(against) - 1):+.0f} to {100 * (max(against) - 1):+.0f} % windows/s, "
            f"{last.peak - first.peak:+.1f} MB peak memory."
        )
    return lines
