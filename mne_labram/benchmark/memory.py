"""Peak memory of annotating a short and a long recording, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mne.export import export_raw

from mne_labram.benchmark.synthetic import simulate_recording

__all__ = ["memory_table", "write_long_edf"]

# Bytes of an EDF header before the signals' part, and where it keeps its own length and the number of records.
_N_RECORDS = slice(236, 244)
_HEADER_BYTES = slice(184, 192)

_ANNOTATE = """
import resource, sys
import mne, torch
from mne_labram import LabramForClassification, annotate_events
from mne_labram.benchmark.synthetic import TEN_TWENTY
mne.set_log_level("error")
torch.set_num_threads(2)
model = LabramForClassification(ch_names=list(TEN_TWENTY), n_times=800, sfreq=200, n_outputs=2, size=sys.argv[2])
_, scores = annotate_events(sys.argv[1], model, stride=float(sys.argv[3]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak / (1024 if sys.platform != "darwin" else 1024**2), int(scores.analysed.sum()))
"""


def write_long_edf(fname: Path, hours: float, *, sfreq: float = 256.0, n_channels: int = 19) -> None:
    """Write a recording of many hours without holding it in memory: ten minutes, over and over.

    Parameters
    ----------
    fname : Path
        Where; ends in .edf.
    hours : float
        Length in hours; rounded to 10 minutes.
    sfreq : float
        Sampling rate in Hz.
    n_channels : int
        How many of the 19 channels.
    """
    raw = simulate_recording(600.0, [(300.0, 40.0)], sfreq=sfreq)
    raw.pick(raw.ch_names[:n_channels], verbose="error")
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.edf"
        export_raw(part, raw.set_annotations(None), verbose="error")
        content = part.read_bytes()
    n_bytes = int(content[_HEADER_BYTES])
    header, records = bytearray(content[:n_bytes]), content[n_bytes:]
    repeats = max(1, round(hours * 6))
    header[_N_RECORDS] = str(int(header[_N_RECORDS]) * repeats).encode().ljust(8)
    with open(fname, "wb") as file:
        file.write(header)
        for _ in range(repeats):
            file.write(records)


def memory_table(hours: Sequence[float] = (1.0, 24.0), *, size: str = "small", stride: float = 1.0) -> str:
    """Measure the peak resident memory of annotating recordings of different length.

    Parameters
    ----------
    hours : sequence of float
        Lengths of the recordings.
    size : str
        Configuration of the model, with random weights.
    stride : float
        Step between the 4-s windows in seconds.

    Returns
    -------
    table : str
        One row per recording: file size (MB), peak (MiB), difference to the first row, seconds, times real time.
    """
    lines = [f"labram_annotate, size={size!r}, 19 channels at 256 Hz, 4-s windows every {stride:g} s, lazily read EDF"]
    lines.append(f"{'hours':>7}{'file MB':>10}{'peak MiB':>10}{'more MiB':>10}{'seconds':>10}{'x real time':>13}")
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for length in hours:
            fname = Path(folder) / f"{length:g}.edf"
            write_long_edf(fname, length)
            started = time.perf_counter()
            # Errors of the child go where ours go.
            command = [sys.executable, "-c", _ANNOTATE, str(fname), size, str(stride)]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
            seconds = time.perf_counter() - started
            peak = float(out.split()[0])
            first = peak if first is None else first
            lines.append(
                f"{length:>7g}{fname.stat().st_size / 1e6:>10.0f}{peak:>10.0f}{peak - first:>+10.0f}{seconds:>10.0f}"
                f"{length * 3600 / seconds:>13.0f}"
            )
            fname.unlink()
    return "\n".join(lines)
