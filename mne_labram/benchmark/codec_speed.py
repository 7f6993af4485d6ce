"""Time, memory and size of compressing an hour of recorded EEG and getting it back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np

from mne_labram.benchmark.memory import write_long_edf
from mne_labram.benchmark.store import _peak_mb

__all__ = ["CodecSpeedRow", "measure_codec_speed", "run_here", "speed_table", "write_recorded_hours"]

MODES = ("hybrid", "neural", "lossless")
#: Compression and decompression together, in multiples of real time, for an hour of 19 channels on 2 cores.
GOAL_REAL_TIME = 100.0
_PIECE_SECONDS = 600.0


@dataclass(frozen=True)
class CodecSpeedRow:
    """What one mode took.

    Attributes
    ----------
    mode : str
        Which.
    seconds : float
        Length of the recording.
    compress, decompress : float
        Seconds by the clock.
    peak : float
        Highest resident memory of the process in MB.
    peak_of_workers : float
        That of the largest of its workers, 0 if there were none.
    bits : float
        Bits per second and channel.
    ratio : float
        How many times smaller than the source's own numbers.
    prd : float
        In percent; measured outside of the time.
    """

    mode: str
    seconds: float
    compress: float
    decompress: float
    peak: float
    peak_of_workers: float
    bits: float
    ratio: float
    prd: float

    @property
    def real_time(self) -> float:
        """How many times faster than the recording went by, both ways together."""
        return self.seconds / (self.compress + self.decompress)


def write_recorded_hours(
    fname: Path, hours: float, data: str | os.PathLike[str] | None, *, sfreq: float = 256.0
) -> str:
    """Write an EDF of 19 channels from recordings, one after the other and again, louder or softer every time.

    Parameters
    ----------
    fname : Path
        Where; ends in .edf.
    hours : float
        Length in hours.
    data : path-like | None
        ``../shared/data``; ``None``, or without eegmat in it: made-up EEG, ten minutes over and over.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    source : str
        What it was made from.
    """
    files = [] if data is None else sorted((Path(data) / "eegmat").glob("Subject*_[12].edf"))
    if not files:
        write_long_edf(fname, hours, sfreq=sfreq)
        return "made-up EEG"
    rng = np.random.default_rng(0)
    n_times = round(3600 * hours * sfreq)
    parts: list[np.ndarray] = []
    names: list[str] = []
    used = set()
    while sum(part.shape[1] for part in parts) < n_times:
        for file in files:
            used.add(file)
            raw = mne.io.read_raw_edf(file, preload=True, verbose="error")
            names = [name for name in raw.ch_names if name.startswith("EEG") and "A2" not in name]
            raw.pick(names).resample(sfreq, verbose="error")
            parts.append((raw.get_data() * rng.uniform(0.7, 1.4)).astype(np.float32))
            if sum(part.shape[1] for part in parts) >= n_times:
                break
    x = np.concatenate(parts, axis=1)[:, :n_times].astype(np.float64)
    info = mne.create_info([name.removeprefix("EEG ") for name in names], sfreq, "eeg")
    limit = float(np.ceil(1e6 * np.abs(x).max()))
    raw = mne.io.RawArray(x, info, copy=None, verbose="error")
    mne.export.export_raw(fname, raw, physical_range=(-limit, limit), verbose="error")
    return f"recorded EEG (eegmat, {len(used)} recordings)"


def run_here(recording: str, fname: str, mode: str, bitrate: float, jobs: int, threads: int) -> None:
    """Compress a recording and read it back in this process, and print what that took.

    Parameters
    ----------
    recording, fname : str
        The recording, and where the compressed one goes.
    mode : str
        Mode of :func:`mne_labram.codec.compression.braincodec_compress`.
    bitrate : float
        Bits per second and channel.
    jobs, threads : int
        Processes, and threads of torch in each.
    """
    import torch

    from mne_labram.codec.compression import braincodec_compress, braincodec_decompress

    mne.set_log_level("error")
    torch.set_num_threads(threads)
    started = time.perf_counter()
    options = {} if mode == "lossless" else {"bitrate": bitrate}
    report = braincodec_compress(recording, fname, mode=mode, report=False, n_jobs=jobs, **options)
    compressed = time.perf_counter()
    raw = braincodec_decompress(fname, n_jobs=jobs)
    step = round(_PIECE_SECONDS * raw.info["sfreq"])
    for start in range(0, raw.n_times, step):
        raw.get_data(start=start, stop=min(start + step, raw.n_times))
    done = time.perf_counter()
    found = {
        "seconds": report.seconds,
        "compress": compressed - started,
        "decompress": done - compressed,
        "peak": _peak_mb(),
        "peak_of_workers": _peak_of_workers_mb() if jobs != 1 else 0.0,
        "bits": report.bits_per_second,
        "ratio": report.ratio,
    }
    # What is lost is not part of what was timed.
    original = mne.io.read_raw_edf(recording, verbose="error")
    error = power = 0.0
    for start in range(0, raw.n_times, step):
        stop = min(start + step, raw.n_times)
        x = original.get_data(start=start, stop=stop)
        error += float(np.square(raw.get_data(start=start, stop=stop) - x).sum())
        power += float(np.square(x).sum())
    print(json.dumps({**found, "prd": 100.0 * float(np.sqrt(error / power))}))


def _peak_of_workers_mb() -> float:
    """Return the highest resident memory of a process that this one has started and that has ended, in MB."""
    import resource

    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return usage / 1e6 if sys.platform == "darwin" else usage * 1024 / 1e6


def measure_codec_speed(
    modes: Sequence[str] = MODES,
    *,
    data: str | os.PathLike[str] | None = None,
    hours: float = 1.0,
    bitrate: float = 256.0,
    sfreq: float = 256.0,
    jobs: int = 1,
    threads: int = 2,
) -> tuple[str, list[CodecSpeedRow]]:
    """Measure compression and decompression, each mode in a process of its own.

    Parameters
    ----------
    modes : sequence of str
        Modes of :func:`mne_labram.codec.compression.braincodec_compress`.
    data : path-like | None
        ``../shared/data``; see :func:`write_recorded_hours`.
    hours : float
        Length of the recording.
    bitrate : float
        Bits per second and channel, where the mode spends a bitrate.
    sfreq : float
        Sampling rate in Hz.
    jobs, threads : int
        Processes, and threads of torch in each.

    Returns
    -------
    source : str
        What the recording was made from.
    rows : list of CodecSpeedRow
        One for each mode.

    Raises
    ------
    ValueError
        If a number makes no sense or there is no such mode.
    """
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown:
        raise ValueError(f"There is no mode {unknown[0]!r}; there are {', '.join(MODES)}.")
    if not hours > 0 or not bitrate > 0 or threads < 1 or jobs == 0:
        raise ValueError("hours and bitrate must be positive, threads 1 or more, and jobs not 0.")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        recording = Path(name) / "long.edf"
        source = write_recorded_hours(recording, hours, data, sfreq=sfreq)
        code = (
            "import json, sys; from mne_labram.benchmark.codec_speed import run_here as r; r(**json.loads(sys.argv[1]))"
        )
        for mode in modes:
            arguments = {
                "recording": str(recording),
                "fname": str(Path(name) / f"{mode}.bcz"),
                "mode": mode,
                "bitrate": bitrate,
                "jobs": jobs,
                "threads": threads,
            }
            # Errors of the child go where ours go.
            done = subprocess.run(
                [sys.executable, "-c", code, json.dumps(arguments)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            )
            rows.append(CodecSpeedRow(mode, **json.loads(done.stdout.splitlines()[-1])))
    return source, rows


def speed_table(source: str, rows: Sequence[CodecSpeedRow]) -> str:
    """Write what was measured as a Markdown table.

    Parameters
    ----------
    source : str
        What the recording was made from.
    rows : sequence of CodecSpeedRow
        From :func:`measure_codec_speed`.

    Returns
    -------
    table : str
        One line for each mode, and whether it is fast enough.
    """
    seconds = rows[0].seconds if rows else 0.0
    lines = [
        f"{seconds / 3600:.3g} h of 19 channels, {source}; both ways at least {GOAL_REAL_TIME:g} x real time.",
        "",
        "| mode | bit/s/channel | times smaller | PRD of all (%) | compress (s) | decompress (s) | x real time | "
        "peak (MB) | of a worker (MB) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        verdict = "met" if row.real_time >= GOAL_REAL_TIME else "missed"
        lines.append(
            f"| {row.mode} | {row.bits:.1f} | {row.ratio:.2f} | {row.prd:.2f} | {row.compress:.1f} | "
            f"{row.decompress:.1f} | {row.real_time:.0f} ({verdict}) | {row.peak:.0f} | {row.peak_of_workers:.0f} |"
        )
    return "\n".join(lines)
