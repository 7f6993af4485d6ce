"""Time and memory of finding seizures in a long recording, from the file to the table and the page."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mne_labram.benchmark.memory import write_long_edf
from mne_labram.benchmark.store import _peak_mb

__all__ = ["DetectRun", "detect_table", "measure_detect", "run_here"]

#: What a recording of a day shall take at most.
GOAL_REAL_TIME, GOAL_MB = 500.0, 1000.0
#: In the order in which they happen, though the second and third take turns.
STAGES = {
    "import": "imports and weights",
    "read": "read, filter and judge",
    "model": "model",
    "involvement": "channel involvement",
    "table": "table (.tsv)",
    "page": "page (.html)",
}


@dataclass(frozen=True)
class DetectRun:
    """What one run took.

    Parameters
    ----------
    hours : float
        Length of the recording.
    file_mb : float
        Size of the file in MB.
    model : str
        What the detector is called.
    n_seizures : int
        What it found.
    seconds, cpu_seconds : dict of str to float
        Time by the clock and of the processor, by stage.
    peak : float
        Highest resident memory of the process in MB.
    """

    hours: float
    file_mb: float
    model: str
    n_seizures: int
    seconds: dict[str, float]
    cpu_seconds: dict[str, float]
    peak: float

    @property
    def real_time(self) -> float:
        """How many times faster than the recording went by, by the clock and in all."""
        return 3600 * self.hours / sum(self.seconds.values())

    @property
    def real_time_of_one_core(self) -> float:
        """The same by the time of the processor: what one core that does nothing else reaches."""
        return 3600 * self.hours / sum(self.cpu_seconds.values())


class _Watch:
    """Time by stage; what is measured inside another stage does not count there."""

    def __init__(self, started: tuple[float, float]) -> None:
        self.seconds, self.cpu_seconds = dict.fromkeys(STAGES, 0.0), dict.fromkeys(STAGES, 0.0)
        self._stage, self._since = "import", started

    @staticmethod
    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def enter(self, stage: str) -> str:
        """Begin a stage; returns the one that was interrupted."""
        now, before = self.now(), self._stage
        self.seconds[before] += now[0] - self._since[0]
        self.cpu_seconds[before] += now[1] - self._since[1]
        self._stage, self._since = stage, now
        return before

    def watching(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """Return a function whose time belongs to a stage, unless that one is part of another."""

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            if self._stage == "involvement":
                return function(*args, **kwargs)
            before = self.enter(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self.enter(before)

        return watched


def run_here(recording: str, model: str, folder: str, threads: int) -> None:
    """Find the seizures of a recording in this process, and print what that took.

    Parameters
    ----------
    recording : str
        The file.
    model : str
        A checkpoint or a name.
    folder : str
        Where the table and the page go.
    threads : int
        Torch threads.
    """
    watch = _Watch((time.perf_counter() - time.process_time(), 0.0))
    import mne

    mne.set_log_level("error")
    import torch

    from mne_labram.seizure import detection as module
    from mne_labram.weights import load_model

    torch.set_num_threads(threads)
    load_model(model)
    module.ModelRunner.__call__ = watch.watching(module.ModelRunner.__call__, "model")
    module.channel_involvement = watch.watching(module.channel_involvement, "involvement")
    watch.enter("read")
    found = module.detect_seizures(recording, model)
    watch.enter("table")
    found.to_tsv(Path(folder) / "found.tsv")
    watch.enter("page")
    found.report(Path(folder) / "found.html")
    watch.enter("page")
    result = {"n_seizures": len(found.table), "model": found.model_name, "peak": _peak_mb()}
    print(json.dumps({**result, "seconds": watch.seconds, "cpu_seconds": watch.cpu_seconds}))


def measure_detect(
    *,
    hours: float = 24.0,
    channels: int = 19,
    sfreq: float = 256.0,
    threads: int = 2,
    model: str | None = None,
) -> DetectRun:
    """Measure finding seizures in a made-up recording, in a process of its own.

    Parameters
    ----------
    hours : float
        Length of the recording; rounded to 10 minutes, each of which holds a made-up seizure.
    channels : int
        Electrodes of the 10-20 system, 10 to 19.
    sfreq : float
        Sampling rate in Hz.
    threads : int
        Torch threads.
    model : str | None
        A checkpoint or a name; ``None``: the detector that comes with the package or, where there is none, one of the
        same size with a random head.

    Returns
    -------
    run : DetectRun
        What it took.

    Raises
    ------
    ValueError
        If a number makes no sense.
    """
    if not hours > 0 or threads < 1:
        raise ValueError("hours must be positive and threads 1 or more.")
    if not 10 <= channels <= 19:
        raise ValueError(f"channels must lie between 10 and 19, got {channels}.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording = folder / "long.edf"
        write_long_edf(recording, hours, sfreq=sfreq, n_channels=channels)
        code = "import json, sys; from mne_labram.benchmark.detect import run_here; run_here(**json.loads(sys.argv[1]))"
        chosen = _default_model(folder) if model is None else model
        arguments = {"recording": str(recording), "model": chosen, "folder": name, "threads": threads}
        # Errors of the child go where ours go.
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(arguments)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        written = max(1, round(6 * hours)) / 6
        return DetectRun(written, recording.stat().st_size / 1e6, **json.loads(done.stdout.splitlines()[-1]))


def _default_model(folder: Path) -> str:
    """Return the detector that ships, or write one that costs the same."""
    import torch

    from mne_labram.models import NeuroStorm
    from mne_labram.weights import list_pretrained, load_pretrained, save_checkpoint
    from mne_labram.weights.pretrained import DEFAULT_DETECTOR

    if DEFAULT_DETECTOR in list_pretrained():
        return DEFAULT_DETECTOR
    torch.manual_seed(0)
    path = folder / "random-head.safetensors"
    save_checkpoint(NeuroStorm.from_encoder(load_pretrained(), n_outputs=2).eval(), path)
    return str(path)


def detect_table(
    *,
    hours: float = 24.0,
    channels: int = 19,
    sfreq: float = 256.0,
    threads: int = 2,
    model: str | None = None,
) -> str:
    """Print what :func:`measure_detect` found.

    Parameters
    ----------
    hours, channels, sfreq, threads, model
        See :func:`measure_detect`.

    Returns
    -------
    table : str
        One row for each stage, and whether the goals are met.
    """
    run = measure_detect(hours=hours, channels=channels, sfreq=sfreq, threads=threads, model=model)
    lines = [
        f"{run.hours:.4g} h, {channels} channels at {sfreq:g} Hz (EDF of {run.file_mb:.0f} MB), {run.model}, windows "
        f"that overlap by half, {threads} threads, {run.n_seizures} events found.",
        "",
        f"{'':<26}{'seconds':>10}{'CPU s':>10}",
    ]
    lines += [
        f"{title:<26}{run.seconds[stage]:>10.1f}{run.cpu_seconds[stage]:>10.1f}" for stage, title in STAGES.items()
    ]
    lines += [
        f"{'all':<26}{sum(run.seconds.values()):>10.1f}{sum(run.cpu_seconds.values()):>10.1f}",
        "",
        f"{run.real_time:.0f} x real time (goal for a day: {GOAL_REAL_TIME:.0f}, "
        f"{_verdict(run.real_time, GOAL_REAL_TIME)}); "
        f"{run.real_time_of_one_core:.0f} x by the time of the processor, on one core that does nothing else.",
        f"{run.peak:.0f} MB highest resident memory (goal: below {GOAL_MB:.0f}, {_verdict(GOAL_MB, run.peak)}).",
    ]
    return "\n".join(lines)


def _verdict(larger: float, smaller: float) -> str:
    return "met" if larger > smaller else "missed"
