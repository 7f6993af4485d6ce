"""``mne-labram benchmark codec``: bits and errors of our codecs beside those to beat, on recordings held out.

eegmat: trained on the rest of subjects 00 to 19, measured on that of 20 to 23. eegmmidb: S001R01, 64 channels; what
knows channels one by one is trained on eegmat, and the Karhunen-Loève transform on other runs of the same subject,
since there is no other subject with these channels: that favours it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mne.utils import logger, verbose

from mne_labram.benchmark.codebook_codec import CodebookCodec
from mne_labram.benchmark.rate_distortion import (
    BlockCodec,
    Codec,
    CodecRecording,
    RateDistortionRow,
    rate_distortion,
    read_for_codec,
)
from mne_labram.benchmark.transform_codecs import dct_codec, klt_codec, wavelet_codec

__all__ = [
    "BITRATES",
    "CODECS",
    "CodecBenchmark",
    "benchmark_codecs",
    "block_coder",
    "make_codec",
    "read_benchmark",
]

#: Bits per second and channel.
BITRATES = (64, 128, 256, 512, 1024)
#: What is to be beaten, and ours.
CODECS = ("dct", "dct-variable", "wavelet", "klt", "klt-tuned", "codes", "neural", "hybrid")
# Beyond the rates that are asked for, so that a better codec can be compared with them at the same error.
_LOWER = 48
# Length of blocks, as in a file by default; within them, every 4-s window of the neural codec keeps its own budget.
_BLOCK_SECONDS = {"neural": 60.0, "hybrid": 60.0}


@dataclass(frozen=True)
class CodecBenchmark:
    """Recordings of one data set, to train on and to measure.

    Attributes
    ----------
    dataset : str
        Which.
    validation : list of CodecRecording
        What is measured.
    channels : list of CodecRecording
        What is trained on by what knows channels one by one.
    montage : list of CodecRecording
        What is trained on by what knows channels together: those of the same names as in ``validation``.
    """

    dataset: str
    validation: list[CodecRecording]
    channels: list[CodecRecording]
    montage: list[CodecRecording]


def read_benchmark(data: str | os.PathLike[str], *, n_training: int = 20) -> list[CodecBenchmark]:
    """Read the recordings of the table.

    Parameters
    ----------
    data : path-like
        ``../shared/data``.
    n_training : int
        How many of the 20 training subjects of eegmat are used.

    Returns
    -------
    benchmarks : list of CodecBenchmark
        eegmat and, where it is there, eegmmidb.

    Raises
    ------
    FileNotFoundError
        If eegmat is absent.
    """
    data = Path(data)
    numbers = [*range(min(n_training, 20)), *range(20, 24)]
    rest = [data / "eegmat" / f"Subject{number:02d}_1.edf" for number in numbers]
    missing = [path for path in rest if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]} is absent; give the folder that holds eegmat and eegmmidb.")
    training = read_for_codec(rest[:-4], dataset="eegmat")
    names = training[0].ch_names
    validation = read_for_codec(rest[-4:], dataset="eegmat", ch_names=names)
    found = [CodecBenchmark("eegmat", validation, training, training)]
    runs = sorted((data / "eegmmidb").glob("S001R*.edf"))
    if runs and runs[0].stem == "S001R01":
        validation = read_for_codec(runs[:1], dataset="eegmmidb")
        others = read_for_codec(runs[1:], dataset="eegmmidb", ch_names=validation[0].ch_names) if runs[1:] else []
        found.append(CodecBenchmark("eegmmidb", validation, training, others))
    return found


def make_codec(name: str, benchmark: CodecBenchmark) -> Codec | None:
    """Make a codec for a data set, fitted.

    Parameters
    ----------
    name : str
        One of :data:`CODECS`.
    benchmark : CodecBenchmark
        What it is trained on, if it is.

    Returns
    -------
    codec : Codec | None
        ``None``: there is nothing to train it on.

    Raises
    ------
    ValueError
        If there is no codec of this name.
    """
    if name not in CODECS:
        raise ValueError(f"There is no codec {name!r}; there are {', '.join(CODECS)}.")
    sfreq = benchmark.validation[0].sfreq
    if name in ("klt", "klt-tuned"):
        if not benchmark.montage:
            return None
        return klt_codec(sfreq, len(benchmark.montage[0].x), tuned=name == "klt-tuned").fit(benchmark.montage)
    if name == "wavelet":
        return wavelet_codec(sfreq).fit(benchmark.channels)
    if name in ("dct", "dct-variable"):
        return dct_codec(sfreq, hard=name == "dct").fit(benchmark.channels)
    if name == "codes":
        return CodebookCodec()
    return BlockCodec(block_coder(name), _BLOCK_SECONDS[name], name=name)


def block_coder(mode: str) -> Callable[[CodecRecording, float, int], Any]:
    """Return what makes one of our coders for a recording.

    Parameters
    ----------
    mode : str
        One of :data:`mne_labram.codec.coders.CODERS`.

    Returns
    -------
    make : callable
        For :class:`~mne_labram.benchmark.rate_distortion.BlockCodec`. What decodes is made from the parameters alone.
    """
    from mne_labram.codec.coders import make_coder, restore_coder

    def make(recording: CodecRecording, bitrate: float, block_samples: int) -> Any:
        coder = make_coder(
            mode,
            sfreq=recording.sfreq,
            ch_names=recording.ch_names,
            block_samples=block_samples,
            bitrate=bitrate,
            excerpts=[recording.x.astype(np.float64)],
            n_samples=recording.x.shape[1],
        )
        return _BothEnds(coder, restore_coder(mode, json.loads(json.dumps(coder.parameters()))))

    return make


@dataclass(frozen=True)
class _BothEnds:
    """Encodes with one coder, and decodes with another that knows no more than a file says."""

    sender: Any
    receiver: Any

    def parameters(self) -> dict[str, Any]:
        return self.sender.parameters()

    def encode(self, samples: np.ndarray, *, bits: int | None) -> bytes:
        return self.sender.encode(samples, bits=bits)

    def decode(self, payload: bytes, n_samples: int) -> np.ndarray:
        return self.receiver.decode(payload, n_samples)


@verbose
def benchmark_codecs(
    data: str | os.PathLike[str],
    codecs: Sequence[str] | Mapping[str, Callable[[CodecBenchmark], Codec | None]] = CODECS,
    bitrates: Sequence[float] = BITRATES,
    *,
    n_training: int = 20,
    verbose: bool | str | int | None = None,
) -> list[RateDistortionRow]:
    """Measure codecs on the recordings held out.

    Parameters
    ----------
    data : path-like
        ``../shared/data``.
    codecs : sequence of str | mapping of str to callable
        Names of :data:`CODECS`; or any others, each with what makes it from a :class:`CodecBenchmark`.
    bitrates : sequence of float
        Bits per second and channel; 48 is measured too where 64 is, so that a better codec
        can be compared at the same error.
    n_training : int
        See :func:`read_benchmark`.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    rows : list of RateDistortionRow
        Of both data sets.

    Raises
    ------
    FileNotFoundError
        If there are no recordings.
    ValueError
        If there is no codec of a name, or a bitrate is not positive.
    """
    if not bitrates or not all(rate > 0 for rate in bitrates):
        raise ValueError("bitrates must be positive numbers of bits per second and channel.")
    made = (
        codecs if isinstance(codecs, Mapping) else {name: lambda b, name=name: make_codec(name, b) for name in codecs}
    )
    if not isinstance(codecs, Mapping):
        unknown = [name for name in codecs if name not in CODECS]
        if unknown:
            raise ValueError(f"There is no codec {unknown[0]!r}; there are {', '.join(CODECS)}.")
    rates = sorted({*map(float, bitrates), *([float(_LOWER)] if 64 in bitrates else [])})
    rows: list[RateDistortionRow] = []
    for benchmark in read_benchmark(data, n_training=n_training):
        for make in made.values():
            codec = make(benchmark)
            if codec is None:
                continue
            offered = [rate for rate in rates if not isinstance(codec, CodebookCodec) or codec.offers(rate)]
            rows += rate_distortion([codec], benchmark.validation, offered, progress=_log)
    return rows


def _log(row: RateDistortionRow) -> None:
    logger.info(f"{row.dataset}, {row.codec}: {row.bits:.1f} bit/s/channel, PRD {row.prd:.2f} %.")
