"""Bits per sample of coding recordings exactly, against zlib, FLAC and what FLAC does, written out."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = [
    "LosslessRow",
    "lossless_table",
    "measure_hour",
    "measure_lossless",
    "predictive_rice_bits",
    "read_digital",
]

_TITLES = {
    "raw": "as stored",
    "zlib": "zlib -9, samples of a time together",
    "rice": "linear prediction + Rice, as FLAC",
    "flac": "FLAC -8, channel by channel",
    "flac8": "FLAC -8, up to 8 channels a file",
    "ours": "LosslessCoder",
}
#: FLAC's own: samples of a frame, bits of a coefficient, of a Rice parameter, of the headers of frame and subframe.
_FRAME, _COEFFICIENT_BITS, _PARAMETER_BITS, _HEADER_BITS = 4096, 15, 4, 64 + 8 + 6
#: Orders that are tried. FLAC -8 stops at 12; its format allows 32.
_ORDERS = (2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32)


@dataclass(frozen=True)
class LosslessRow:
    """One way of coding one data set.

    Parameters
    ----------
    dataset : str
        Name of the folder the files are in.
    method : str
        ``"raw"``, ``"zlib"``, ``"rice"``, ``"flac"``, ``"flac8"`` or ``"ours"``.
    n_files, n_samples : int
        Files, and samples of all channels.
    bits : float
        Bits per sample.
    ratio : float
        Bits as stored over these.
    """

    dataset: str
    method: str
    n_files: int
    n_samples: int
    bits: float
    ratio: float


def read_digital(fname: str | Path, seconds: float | None = None) -> tuple[np.ndarray, float, int]:
    """Read the integers of an EDF or BDF file.

    Parameters
    ----------
    fname : str | Path
        The file.
    seconds : float | None
        How much of it; ``None``: all.

    Returns
    -------
    digital : ndarray of int32, shape (n_channels, n_samples)
        All signals with the commonest sampling rate, but annotations and triggers.
    sfreq : float
        Their sampling rate in Hz.
    sample_bits : int
        16 or 24.

    Raises
    ------
    ContractError
        If it is no such file, or has no samples.
    """
    from mne_labram.signal.edf import read_edf_header
    from mne_labram.signal.edf_samples import edf_samples

    samples = edf_samples(read_edf_header(fname))
    n_records = samples.n_times // samples.per_record
    if seconds is not None:
        n_records = min(n_records, max(1, int(seconds * samples.sfreq) // samples.per_record))
    content = np.fromfile(samples.path, np.uint8, n_records * samples.record_bytes, offset=samples.data_offset)
    if samples.sample_bytes == 2:
        words = content.view("<i2").astype(np.int32)
    else:
        padded = np.zeros((len(content) // 3, 4), dtype=np.uint8)
        padded[:, 1:] = content.reshape(-1, 3)
        words = padded.view("<i4")[:, 0] >> 8
    records = words.reshape(n_records, -1)
    digital = [records[:, column : column + samples.per_record].ravel() for column in samples.columns]
    return np.stack(digital), samples.sfreq, 8 * samples.sample_bytes


def predictive_rice_bits(x: np.ndarray) -> int:
    """Count the bits that FLAC's methods need, with everything it may choose tried.

    Parameters
    ----------
    x : ndarray of int, shape (n_channels, n_samples)
        Samples.

    Returns
    -------
    bits : int
        Every channel in frames of 4096 samples: the cheapest of the five fixed predictors and of linear predictors up
        to order 32 (Levinson-Durbin on a tapered frame, coefficients of 15 bits), its residual in Rice codes with the
        cheapest parameter for each of the cheapest number of partitions; first samples, coefficients, parameters and
        headers included.

    Notes
    -----
    As in RFC 9639 (FLAC), sections 9.2.5 and 9.2.7. Channels are not subtracted from each other: FLAC does that for
    stereo only.
    """
    total = 0
    for row in x.astype(np.int64):
        for start in range(0, len(row), _FRAME):
            total += _frame_bits(row[start : start + _FRAME])
    return total


def _frame_bits(x: np.ndarray) -> int:
    width = int(np.abs(x).max()).bit_length() + 1
    if (x == x[0]).all():
        return _HEADER_BITS + width
    # Low bits that are zero in all samples are left out ("wasted bits").
    common = int(np.bitwise_or.reduce(x))
    wasted = (common & -common).bit_length() - 1
    x, width = x >> wasted, width - wasted
    costs = [width * len(x)]
    for order in range(min(5, len(x))):
        costs.append(width * order + _rice_bits(np.diff(x, order), order))
    for order, coefficients, shift in _predictors(x):
        # Whole numbers below 2**53 are exact in floating point, and multiplied much faster.
        windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), order)[:-1]
        residual = x[order:] - np.floor(windows @ coefficients[::-1].astype(np.float64) / 2**shift).astype(np.int64)
        head = width * order + _COEFFICIENT_BITS * order + 9
        costs.append(head + _rice_bits(residual, order))
    return _HEADER_BITS + min(costs)


def _predictors(x: np.ndarray) -> list[tuple[int, np.ndarray, int]]:
    """Return order, whole-number coefficients and their fractional bits, of every order tried."""
    highest = min(_ORDERS[-1], len(x) // 8)
    if highest < _ORDERS[0]:
        return []
    # A Tukey window, half of it tapered, as FLAC's default.
    taper = np.ones(len(x))
    edge = max(1, len(x) // 4)
    taper[:edge] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
    taper[-edge:] = taper[edge - 1 :: -1]
    tapered = x * taper
    lags = np.array([tapered[: len(x) - k] @ tapered[k:] for k in range(highest + 1)])
    found, coefficients, error = [], np.zeros(0), lags[0]
    for order in range(1, highest + 1):
        reflection = (lags[order] - coefficients @ lags[order - 1 : 0 : -1]) / error
        coefficients = np.append(coefficients - reflection * coefficients[::-1], reflection)
        error *= 1 - reflection**2
        if error <= 0 or not np.isfinite(error):
            break
        if order in _ORDERS:
            shift = int(min(15, _COEFFICIENT_BITS - 1 - np.ceil(np.log2(np.abs(coefficients).max() + 1e-9))))
            if shift < 0:
                continue
            limit = 2 ** (_COEFFICIENT_BITS - 1) - 1
            whole = np.clip(np.rint(coefficients * 2.0**shift), -limit - 1, limit).astype(np.int64)
            found.append((order, whole, shift))
    return found


def _rice_bits(residual: np.ndarray, order: int) -> int:
    """Return bits of a residual in Rice codes, in the best partition."""
    folded = np.where(residual >= 0, 2 * residual, -2 * residual - 1)
    n, best = len(residual) + order, None
    for level in range(9):
        size = n >> level
        if (size << level) != n or size <= order:
            break
        # The first partition is shorter by the samples that are stored as they are.
        sums = np.add.reduceat(folded, [0, *range(size - order, len(folded), size)]) if level else folded.sum()[None]
        counts = np.full(len(sums), size)
        counts[0] -= order
        # The best parameter is near the logarithm of the mean; three are tried.
        near = np.maximum(np.floor(np.log2(np.maximum(sums / counts, 1))).astype(int), 0)
        edges = np.concatenate([[0], np.cumsum(counts)])
        costs = np.stack([_rice_costs(folded, edges, counts, np.maximum(near + k, 0)) for k in (-1, 0, 1)])
        bits = 6 + _PARAMETER_BITS * len(sums) + int(costs.min(axis=0).sum())
        best = bits if best is None else min(best, bits)
    return best


def _rice_costs(folded: np.ndarray, edges: np.ndarray, counts: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    quotients = folded >> np.repeat(parameters, counts)
    return counts * (parameters + 1) + np.add.reduceat(quotients, edges[:-1])


def _flac_bits(x: np.ndarray, sfreq: float, sample_bits: int, together: int) -> int:
    import soundfile

    bits = 0
    # 24-bit samples are the upper bits of soundfile's 32.
    samples = x.astype(np.int16) if sample_bits == 16 else x << 8
    for first in range(0, len(x), together):
        file = io.BytesIO()
        group = np.ascontiguousarray(samples[first : first + together].T)
        subtype = f"PCM_{'16' if sample_bits == 16 else '24'}"
        soundfile.write(file, group, max(1, round(sfreq)), format="FLAC", subtype=subtype, compression_level=1.0)
        bits += 8 * len(file.getvalue())
    return bits


def _our_bits(x: np.ndarray, sfreq: float, block_seconds: float) -> int:
    from mne_labram.codec.lossless import LosslessCoder

    coder, bits = LosslessCoder(n_channels=len(x)), 0
    for block in _blocks(x, round(block_seconds * sfreq)):
        payload = coder.encode(block)
        if not np.array_equal(coder.decode(payload, block.shape[1]), block):
            raise ValueError("A block came back with other samples; report this as a bug.")
        bits += 8 * len(payload)
    return bits


def _blocks(x: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut a recording into blocks; the last may be half as long again, as in files."""
    n_blocks = max(1, (2 * x.shape[1] + size - 1) // (2 * size))
    edges = [k * size for k in range(n_blocks)] + [x.shape[1]]
    return [x[:, first:last] for first, last in zip(edges[:-1], edges[1:], strict=True)]


def measure_lossless(
    fnames: Sequence[str | Path], *, seconds: float | None = None, block_seconds: float = 60.0
) -> list[LosslessRow]:
    """Code recordings in every way.

    Parameters
    ----------
    fnames : sequence of str or Path
        EDF and BDF files, or folders of them; files of one folder are one data set.
    seconds : float | None
        How much of every file; ``None``: all.
    block_seconds : float
        Length of our blocks in seconds; FLAC and zlib see the whole file.

    Returns
    -------
    rows : list of LosslessRow
        Of each data set: as stored, zlib, linear prediction and Rice, FLAC (where ``soundfile`` is installed), ours.
        Every block of ours has been decoded and compared.

    Raises
    ------
    ValueError
        If there are no files, or a block comes back with other samples.
    ContractError
        If a file cannot be read.
    """
    from importlib.util import find_spec

    from mne.utils import ProgressBar

    files = _find_files(fnames)
    ways: dict[str, Callable[[np.ndarray, float, int], int]] = {
        "raw": lambda x, sfreq, size: x.size * size,
        "zlib": lambda x, sfreq, size: 8 * len(zlib.compress(_as_bytes(x, size), 9)),
        "rice": lambda x, sfreq, size: predictive_rice_bits(x),
        "flac": lambda x, sfreq, size: _flac_bits(x, sfreq, size, 1),
        "flac8": lambda x, sfreq, size: _flac_bits(x, sfreq, size, 8),
        "ours": lambda x, sfreq, size: _our_bits(x, sfreq, block_seconds),
    }
    if find_spec("soundfile") is None:
        del ways["flac"], ways["flac8"]
    counted: dict[str, dict[str, int]] = {}
    sizes: dict[str, list[int]] = {}
    for path in ProgressBar(files, mesg="Coding", delay=2.0):
        x, sfreq, sample_bits = read_digital(path, seconds)
        dataset = path.parent.name
        counts = counted.setdefault(dataset, dict.fromkeys(ways, 0))
        sizes.setdefault(dataset, []).append(x.size)
        for name, count in ways.items():
            counts[name] += count(x, sfreq, sample_bits)
    return [
        LosslessRow(
            dataset, name, len(sizes[dataset]), sum(sizes[dataset]), bits / sum(sizes[dataset]), counts["raw"] / bits
        )
        for dataset, counts in counted.items()
        for name, bits in counts.items()
    ]


def _as_bytes(x: np.ndarray, sample_bits: int) -> bytes:
    whole = np.ascontiguousarray(x.T.astype("<i4")).view(np.uint8).reshape(-1, 4)
    return whole[:, : sample_bits // 8].tobytes()


def _find_files(fnames: Sequence[str | Path]) -> list[Path]:
    files: list[Path] = []
    for fname in map(Path, fnames):
        inside = sorted(path for path in fname.rglob("*") if path.suffix.lower() in (".edf", ".bdf"))
        files += inside if fname.is_dir() else [fname]
    if not files:
        raise ValueError("There are no EDF or BDF files here; give some, or folders that hold them.")
    return files


def measure_hour(
    fname: str | Path, *, n_channels: int = 19, hours: float = 1.0, sfreq: float = 256.0
) -> dict[str, float]:
    """Measure time and memory of coding a long recording, in a process of its own.

    Parameters
    ----------
    fname : str | Path
        EDF or BDF file, which is repeated (and its channels, if there are too few).
    n_channels : int
        Channels.
    hours : float
        How long.
    sfreq : float
        Sampling rate that is assumed.

    Returns
    -------
    measured : dict
        ``"compress"`` and ``"decompress"``: seconds of processor time, on one core; ``"peak"`` and ``"growth"``:
        largest resident memory in MB, and how much of it came after the imports and the first block.

    Raises
    ------
    OSError
        If the process fails.
    """
    code = "import json, sys; from mne_labram.benchmark.lossless import _serve; _serve(**json.loads(sys.argv[1]))"
    arguments = json.dumps({"fname": str(fname), "n_channels": n_channels, "hours": hours, "sfreq": sfreq})
    done = subprocess.run([sys.executable, "-c", code, arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise OSError("The process that was measured has failed; what it said stands above.")
    return json.loads(done.stdout)


def _serve(fname: str, n_channels: int, hours: float, sfreq: float) -> None:
    from mne_labram.benchmark.store import _peak_mb
    from mne_labram.codec.lossless import LosslessCoder

    x = read_digital(fname)[0]
    n_samples, size = round(hours * 3600 * sfreq), round(60 * sfreq)
    coder = LosslessCoder(n_channels=n_channels)
    rows = np.arange(n_channels) % len(x)
    spent, base = np.zeros(2), 0.0
    for start in range(-size, n_samples, size):
        times = np.arange(start, min(start + size, n_samples)) % x.shape[1]
        block = x[np.ix_(rows, times)]
        before = time.process_time()
        payload = coder.encode(block)
        between = time.process_time()
        coder.decode(payload, block.shape[1])
        # The first block is for the compiler.
        if start < 0:
            base = _peak_mb()
        else:
            spent += between - before, time.process_time() - between
    peak = _peak_mb()
    print(json.dumps({"compress": spent[0], "decompress": spent[1], "peak": peak, "growth": peak - base}))


def lossless_table(
    fnames: Sequence[str | Path],
    *,
    seconds: float | None = None,
    block_seconds: float = 60.0,
    hours: float = 1.0,
) -> str:
    """Print what :func:`measure_lossless` and :func:`measure_hour` found.

    Parameters
    ----------
    fnames, seconds, block_seconds
        See :func:`measure_lossless`.
    hours : float
        Length of the recording whose coding is timed; 0 for none.

    Returns
    -------
    table : str
        One row for each data set and way.
    """
    rows = measure_lossless(fnames, seconds=seconds, block_seconds=block_seconds)
    ours = {row.dataset: row.bits for row in rows if row.method == "ours"}
    lines = [
        f"Integers of EDF and BDF files, exactly; ours in blocks of {block_seconds:g} s, each decoded and compared.",
        "x stored: size as stored over this size. ours: our size against this one.",
        "",
        f"{'':<14}{'':<38}{'files':>6}{'M samples':>11}{'bits/sample':>13}{'x stored':>10}{'ours':>9}",
    ]
    for row in rows:
        against = f"{100 * (ours[row.dataset] / row.bits - 1):+.1f} %" if row.method != "ours" else ""
        lines.append(
            f"{row.dataset[:13]:<14}{_TITLES[row.method]:<38}{row.n_files:>6}{row.n_samples / 1e6:>11.2f}"
            f"{row.bits:>13.3f}{row.ratio:>10.2f}{against:>9}"
        )
    if hours:
        measured = measure_hour(_find_files(fnames)[0], hours=hours)
        taken = measured["compress"] + measured["decompress"]
        lines += [
            "",
            f"{hours:g} h of 19 channels at 256 Hz, one core: compress {measured['compress']:.1f} s, decompress "
            f"{measured['decompress']:.1f} s ({3600 * hours / taken:.0f} x real time for both);",
            f"{measured['peak']:.0f} MB peak memory, {measured['growth']:+.1f} MB after the first of the blocks.",
        ]
    return "\n".join(lines)
