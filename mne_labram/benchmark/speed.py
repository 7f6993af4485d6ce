"""Windows per second of LaBraM, against Braindecode's ``Labram`` with the same weights in the same run."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
from mne.utils import ProgressBar
from torch import nn

from mne_labram.benchmark.synthetic import TEN_TWENTY, simulate_recording
from mne_labram.decoding.inference import ModelRunner
from mne_labram.models.labram import LabramForClassification
from mne_labram.nn.precision import autocast, native_bf16, resolve_precision

__all__ = ["SpeedRow", "measure_speed", "speed_table"]

_WINDOW_SECONDS, _SFREQ = 4, 200
# Each row runs about this long before the next one has its turn: long enough for its weights and activations to be in
# the caches, short enough for a disturbance to hit all rows alike.
_TURN_SECONDS = 0.5
_FEWEST_ROUNDS = 3
# Largest difference of float32 logits, in units of their scale, at which two models are the same function. On a GPU
# convolutions are in TF32, by torch's default.
_SAME = {"cpu": 1e-5, "cuda": 1e-3}
_PEER = "Braindecode Labram"


@dataclass(frozen=True)
class SpeedRow:
    """One line of the table.

    Parameters
    ----------
    name : str
        Model and number format.
    windows_per_second : float
        Median over rounds.
    ratio : float
        Median over rounds of the quotient to the first row in the same round.
    difference : float
        Largest difference of the logits from the first row's, in units of the first row's largest logit.
    """

    name: str
    windows_per_second: float
    ratio: float
    difference: float


@dataclass
class _Contestant:
    """A way to run a model: what must be open around it, and one forward pass that returns logits on the CPU."""

    name: str
    run: Callable[[], np.ndarray]
    around: Callable[[], object]


def measure_speed(
    *, threads: int = 2, batch_size: int = 32, seconds: float = 10.0, device: str = "cpu", seed: int = 0
) -> list[SpeedRow]:
    """Measure windows per second of LaBraM base on windows of 19 channels and 4 s.

    Parameters
    ----------
    threads : int
        Torch threads; afterwards there are as many as before.
    batch_size : int
        Windows per forward pass.
    seconds : float
        How long each row runs in all, without warming up; at least three forward passes.
    device : str
        ``"cpu"`` or a CUDA device.
    seed : int
        Of the weights and the signal. Torch's own generator is left as it was.

    Returns
    -------
    rows : list of SpeedRow
        Braindecode's ``Labram`` in float32 first, then under bf16 autocast; ours as a plain forward pass, and as
        everything that analyses recordings runs it (:class:`mne_labram.decoding.inference.ModelRunner`) in float32 and
        in bf16.

    Raises
    ------
    ValueError
        If an argument is out of range, or the models do not compute the same function.

    Notes
    -----
    All have the same weights and start from the same microvolts in memory; Braindecode's first convolution is divided
    by the input scale so that it need not scale the signal. Rows take turns of half a second, so that other work on
    the machine hits all alike, and ratios are taken within a round. What a row prepares once per recording (ours packs
    weights, autocast casts them) is not in its time.
    """
    if threads < 1 or batch_size < 1 or not seconds > 0:
        raise ValueError(
            f"threads and batch_size must be at least 1 and seconds positive, got {threads}, {batch_size}, {seconds}."
        )
    where = torch.device(device)
    if where.type not in _SAME or (where.type == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"Speed is measured on 'cpu', or 'cuda' where torch finds a GPU; got {device!r}.")
    with _threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        contestants = _contestants(_model().to(where), _windows(batch_size, seed), where)
        differences = _differences(contestants)
        if differences["float32"] > _SAME[where.type]:
            raise ValueError(
                f"The float32 logits differ by {differences['float32']:.1g} of their scale, so these models are not "
                "the same function and their speeds cannot be compared; please report this."
            )
        speeds = _take_turns(contestants, batch_size, seconds, where)
    return [
        SpeedRow(
            contestant.name,
            float(np.median(speed)),
            float(np.median(speed / speeds[0])),
            differences[contestant.name],
        )
        for contestant, speed in zip(contestants, speeds, strict=True)
    ]


def speed_table(*, threads: int = 2, batch_size: int = 32, seconds: float = 10.0, device: str = "cpu") -> str:
    """Measure speed and write it down.

    Parameters
    ----------
    threads : int
        Torch threads; afterwards there are as many as before.
    batch_size : int
        Windows per forward pass.
    seconds : float
        How long each row runs in all.
    device : str
        ``"cpu"`` or a CUDA device.

    Returns
    -------
    table : str
        What was measured on what, and a line per row of :func:`measure_speed`.

    Raises
    ------
    ValueError
        As :func:`measure_speed`.
    """
    rows = measure_speed(threads=threads, batch_size=batch_size, seconds=seconds, device=device)
    width = max(len(row.name) for row in rows)
    unit = native_bf16(device) or "no fast bfloat16"
    lines = [
        f"LaBraM base, {len(TEN_TWENTY)} channels x {_WINDOW_SECONDS} s, batches of {batch_size}, same weights",
        _machine(device, threads),
        f"precision='auto' is {resolve_precision('auto', device)} here ({unit})",
        "",
        f"{'':{width}}  windows/s  ratio  difference",
        *(
            f"{row.name:{width}}  {row.windows_per_second:9.1f}  {row.ratio:5.2f}  {row.difference:10.1e}"
            for row in rows
        ),
        "",
        f"ratio: to {rows[0].name} in the same round (median over rounds)",
        "difference: how far logits are from its own at most, in units of its largest; found before timing",
    ]
    return "\n".join(lines)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Run torch with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _machine(device: str, threads: int) -> str:
    """Name what the numbers hold for."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "braindecode"))
    if torch.device(device).type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {packages}"
    load = f", load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    return f"{_cpu_name()}, {threads} of {os.cpu_count()} threads{load}; {packages}"


def _cpu_name() -> str:
    """Name the processor as well as it can be found out."""
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return flags.get("cpu_name") or platform.processor() or platform.machine()


def _model() -> LabramForClassification:
    """Make a model whose parameters are all some way from where they start, as after training."""
    model = LabramForClassification(n_outputs=4, ch_names=list(TEN_TWENTY), n_times=_WINDOW_SECONDS * _SFREQ)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def _windows(batch_size: int, seed: int) -> np.ndarray:
    """Make a batch of made-up EEG in microvolts."""
    raw = simulate_recording(max(60.0, _WINDOW_SECONDS * batch_size), (), sfreq=_SFREQ, seed=seed)
    data = 1e6 * raw.get_data(stop=batch_size * _WINDOW_SECONDS * _SFREQ, verbose="error").astype(np.float32)
    return np.ascontiguousarray(data.reshape(len(data), batch_size, -1).transpose(1, 0, 2))


def _contestants(model: LabramForClassification, windows: np.ndarray, device: torch.device) -> list[_Contestant]:
    """List who takes part."""
    labram = model.to_braindecode(fold_input_scale=True).eval()
    names, x = list(model.ch_names), torch.from_numpy(windows)

    def inference(precision: str) -> Callable[[], object]:
        def around() -> ExitStack:
            stack = ExitStack()
            stack.enter_context(torch.inference_mode())
            stack.enter_context(autocast(precision, device))
            return stack

        return around

    def logits(module: nn.Module, **options: object) -> Callable[[], np.ndarray]:
        return lambda: module(x.to(device), **options).float().cpu().numpy()

    contestants = [
        _Contestant(f"{_PEER}, float32", logits(labram, ch_names=names), inference("float32")),
        _Contestant(f"{_PEER}, bf16 autocast", logits(labram, ch_names=names), inference("bf16")),
        _Contestant("LabramForClassification, float32", logits(model), inference("float32")),
    ]
    for precision in ("float32", "bf16"):
        runner = ModelRunner(model, names, precision=precision, batch_size=len(windows))
        contestants.append(
            _Contestant(
                f"ModelRunner, precision='{precision}'",
                lambda runner=runner: runner(windows, lambda module, x: module(x)),
                runner.running,
            )
        )
    return contestants


def _differences(contestants: list[_Contestant]) -> dict[str, float]:
    """Compare logits; under ``"float32"``, the largest of the float32 rows."""
    found = {}
    for contestant in contestants:
        with contestant.around():
            found[contestant.name] = contestant.run()
    expected = found[contestants[0].name]
    scale = np.abs(expected).max()
    out = {name: float(np.abs(logits - expected).max() / scale) for name, logits in found.items()}
    out["float32"] = max(difference for name, difference in out.items() if "bf16" not in name)
    return out


def _take_turns(
    contestants: list[_Contestant], batch_size: int, seconds: float, device: torch.device
) -> list[np.ndarray]:
    """Let everyone run again and again; windows per second of each, one value per round."""
    n_rounds = max(_FEWEST_ROUNDS, round(seconds / _TURN_SECONDS))
    rounds, start = [], time.perf_counter()
    # Every second round goes backwards, so that nobody always follows the same neighbour.
    for i in ProgressBar(range(n_rounds), mesg="Rounds"):
        speeds = np.empty(len(contestants))
        for j in range(len(contestants))[:: -1 if i % 2 else 1]:
            speeds[j] = batch_size / _turn(contestants[j], seconds / n_rounds, device)
        rounds.append(speeds)
        # On a slow or busy machine one pass takes longer than a turn: fewer rounds, not more time. Passes that are not
        # counted take about as long as those that are.
        if len(rounds) >= _FEWEST_ROUNDS and time.perf_counter() - start > 2 * seconds * len(contestants):
            break
    return list(np.transpose(rounds))


def _turn(contestant: _Contestant, seconds: float, device: torch.device) -> float:
    """Seconds per forward pass, over about so many seconds, after one pass that is not counted."""
    with contestant.around():
        contestant.run()
        _wait(device)
        n_passes, start = 0, time.perf_counter()
        while True:
            contestant.run()
            _wait(device)
            n_passes += 1
            elapsed = time.perf_counter() - start
            if elapsed >= seconds:
                return elapsed / n_passes


def _wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
