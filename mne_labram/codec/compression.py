"""Compress a recording into one small file, and get a Raw back."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mne.io import BaseRaw
from mne.utils import logger, verbose

from mne_labram._files import checked_ending, written_whole
from mne_labram.codec.blocks import encode_block, in_order
from mne_labram.codec.body import coded_bytes
from mne_labram.codec.coders import CODERS
from mne_labram.codec.container import ENDING, ContainerWriter
from mne_labram.codec.header import header_of, outside
from mne_labram.codec.layout import block_bounds, layout_from, no_grid_sentence, plan_storage
from mne_labram.codec.quality import Quality
from mne_labram.codec.raw import RawBrainCodec
from mne_labram.codec.report import CompressionReport
from mne_labram.signal.contract import ContractError
from mne_labram.signal.opening import READING_ERRORS, describe_source, open_recording, reason_of
from mne_labram.signal.source import RawSource, edf_parts, signals_of

__all__ = ["braincodec_compress", "braincodec_decompress"]


@verbose
def braincodec_compress(
    raw: Any,
    fname: str | os.PathLike[str],
    *,
    mode: str = "hybrid",
    bitrate: float = 256,
    max_error: float | None = None,
    lossless_channels: Sequence[str] = (),
    block_seconds: float = 60.0,
    report: bool = True,
    n_jobs: int = 1,
    overwrite: bool = False,
    verbose: bool | str | int | None = None,
) -> CompressionReport:
    """Compress a recording.

    Everything that makes it a Raw is kept: rate, names, types, units, positions, bad channels, annotations, date,
    subject, filters, reference, projectors. Channels that are not EEG (ECG, triggers, respiration, ...) are kept
    exactly, always. The recording is read in blocks; memory does not grow with its length.

    Parameters
    ----------
    raw : mne.io.Raw | str | Path
        The recording, in volts as MNE holds it, or a file.
    fname : str | Path
        Where to write; ends in ``.bcz``.
    mode : {"hybrid", "neural", "lossless"}
        What EEG, EOG, EMG and intracranial channels are coded with: a transform with learned context, the best below
        about 1000 bit/s/channel; the neural codec alone; or integers, exactly or with a bounded error.
    bitrate : float
        Bits per second and channel to spend, for the two first modes.
    max_error : float | None
        For ``mode="lossless"``: the largest error of any sample in µV; ``None`` or 0: none, every integer of the
        recorder's converter is found again.
    lossless_channels : sequence of str
        Channels to be kept exactly whatever their type: in EDF files, an ECG often passes for EEG.
    block_seconds : float
        Length of a block, 1 to 3600 s. A damaged block is all that damage costs, and a block is all that has to be
        decoded for one sample of it; shorter ones take more bytes.
    report : bool
        Decode every block again and measure the error, which takes about as much time again.
    n_jobs : int
        Blocks coded at a time, each in a process of its own; -1 for all cores. The file does not depend on it.
    overwrite : bool
        Replace an existing file.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    report : CompressionReport
        Size, bit rate, ratios and errors; printing it shows a table.

    Raises
    ------
    ContractError
        If the recording cannot be read, holds infinities, or, in mode "lossless", is on no digital grid.
    FileExistsError
        If the file exists and ``overwrite`` is false.
    FileNotFoundError
        If the folder does not exist.
    TypeError
        If ``raw`` is not a Raw or a file of one.
    ValueError
        If an argument makes no sense.

    See Also
    --------
    braincodec_decompress : Give the Raw back.
    """
    # With the room it lives in comes torch, which nothing else here needs.
    from mne_labram.decoding.progress import progress_bar

    if not isinstance(fname, (str, os.PathLike)):
        raise TypeError(f"fname must be the path to write to, got {type(fname).__name__}; the recording comes first.")
    path = checked_ending(Path(fname).expanduser(), "A compressed recording", ENDING)
    _check_arguments(mode, bitrate, max_error, block_seconds, n_jobs)
    inst = _opened(raw)
    _refuse_itself(inst, path)
    source, parts, notes = _source(inst)
    if isinstance(inst, RawBrainCodec) and inst.compression.get("mode") != "lossless":
        notes.append(f"{describe_source(inst)} was compressed before; what was lost then cannot be won back.")
    unknown = [name for name in lossless_channels if name not in inst.ch_names]
    if isinstance(lossless_channels, str) or unknown:
        wrong = lossless_channels if isinstance(lossless_channels, str) else unknown[0]
        raise ValueError(f"lossless_channels must be a list of channels of the recording; {wrong!r} is none.")
    sfreq = source.sfreq
    block_samples = max(1, round(block_seconds * sfreq))
    with written_whole(path, overwrite=overwrite) as temporary:
        header = header_of(inst) | {"block_samples": block_samples, "writer": _writer(), "mode": mode}
        header["storage"] = plan_storage(
            inst,
            source,
            parts,
            mode=mode,
            max_error=max_error or 0.0,
            block_samples=block_samples,
            lossless_channels=lossless_channels,
            bitrate=bitrate,
        )
        job = _Job(
            source, json.dumps(header["storage"], sort_keys=True), None if mode == "lossless" else bitrate, report
        )
        bounds = block_bounds(source.n_times, block_samples)
        with ContainerWriter(temporary, header) as writer, progress_bar(len(bounds), path.name, "block") as bar:
            for body, quality in _coded(job, bounds, n_jobs, inst):
                writer.add(body)
                job.finish(body, quality)
                bar.update()
    n_bits = [bits for _, bits, _ in header["storage"]["source"]]
    rate = getattr(layout_from(job.storage).coder, "coded_sfreq", sfreq)
    if rate < sfreq:
        notes.append(
            f"Mode {mode!r} codes at {rate:g} Hz and the recording has {sfreq:g} Hz: what lies above about "
            f"{0.45 * rate:.3g} Hz is lost, at any bitrate; mode='hybrid' keeps the recording's own rate."
        )
    if stray := outside(inst.annotations, inst):
        notes.append(f"{len(stray)} annotation(s) lie outside the recording and were kept as they are.")
    made = CompressionReport(
        fname=path,
        mode=mode,
        seconds=source.n_times / sfreq,
        sfreq=sfreq,
        n_channels=len(n_bits),
        n_coded=len(layout_from(job.storage).main),
        n_bytes=writer.n_bytes,
        coded_bytes=job.coded_bytes,
        source_bits=float(np.mean(n_bits)),
        n_missing=job.n_missing,
        bitrate=job.bitrate,
        max_error=(max_error or 0.0) if mode == "lossless" else None,
        quality=job.measured(),
        notes=[*notes, *job.notes],
    )
    for note in made.notes:
        logger.info(note)
    return made


@verbose
def braincodec_decompress(
    fname: str | os.PathLike[str],
    *,
    preload: bool | str = False,
    strict: bool = False,
    n_jobs: int = 1,
    verbose: bool | str | int | None = None,
) -> RawBrainCodec:
    """Open a compressed recording as a Raw.

    Parameters
    ----------
    fname : str | Path
        A file of :func:`braincodec_compress`.
    preload : bool | str
        Decode everything now; otherwise blocks are decoded when they are read, and ``raw.save`` or
        :func:`mne_labram.detect_seizures` never hold more than a few. A name of a file: decode into that file.
    strict : bool
        Refuse a file with a damaged block. Otherwise such a block comes as NaN, annotated ``BAD_damaged``, and is
        named in a warning.
    n_jobs : int
        Blocks decoded at a time, each in a process of its own; -1 for all cores.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    raw : RawBrainCodec
        The recording, in volts.

    Raises
    ------
    ContractError
        If the file is none of ours, of another version of the format, damaged beyond use, or needs weights that are
        not installed.

    See Also
    --------
    braincodec_compress : Write such a file.
    """
    if not isinstance(fname, (str, os.PathLike)):
        raise TypeError(f"A path is needed, got {type(fname).__name__}.")
    return RawBrainCodec(fname, preload, strict=strict, n_jobs=n_jobs, verbose=verbose)


@dataclass
class _Job:
    """What blocks have in common, and what became of them."""

    source: RawSource
    storage: str
    bitrate: float | None
    report: bool
    coded_bytes: int = 0
    n_missing: int = 0
    notes: list[str] = field(default_factory=list)
    quality: Quality | None = None

    def finish(self, body: bytes, quality: Quality | None) -> None:
        self.coded_bytes += coded_bytes(body)
        if quality is not None and self.quality is None:
            self.quality = quality
        elif quality is not None:
            self.quality.merge(quality)

    def measured(self) -> dict[str, Any]:
        q = self.quality
        if q is None:
            return {}
        names = ("prd", "prdn", "prd_overall", "prdn_overall", "pearson", "band_errors")
        return {name: getattr(q, name) for name in names} | {"largest_error": q.largest, "n_windows": q.n_windows}


def _coded(
    job: _Job, bounds: list[tuple[int, int]], n_jobs: int, raw: BaseRaw
) -> Iterator[tuple[bytes, Quality | None]]:
    """Yield the blocks in order, coded."""
    results = in_order(encode_block, _tasks(job, bounds, raw), n_jobs)
    for (start, stop), (body, quality, lost) in zip(bounds, results, strict=True):
        if lost is not None:
            where = f" between {start / job.source.sfreq:.6g} and {stop / job.source.sfreq:.6g} s"
            max_error = 1e6 * layout_from(job.storage).max_error
            raise ContractError(no_grid_sentence(raw.ch_names[lost], where, max_error))
        yield body, quality


def _tasks(job: _Job, bounds: list[tuple[int, int]], raw: BaseRaw) -> Iterator[tuple]:
    """Read the blocks, look at what is in them, and yield the arguments of ``encode_block``."""
    layout = layout_from(job.storage)
    sfreq = job.source.sfreq
    for start, stop in bounds:
        samples = job.source(start, stop)
        infinite = np.isinf(samples[layout.main])
        if infinite.any():
            row, at = np.argwhere(infinite)[0]
            raise ContractError(
                f"Channel {raw.ch_names[layout.main[row]]!r} is infinite at {(start + at) / sfreq:.6g} s; mend the "
                "recording (numpy.nan_to_num), or drop the channel."
            )
        missing = np.isnan(samples)
        if missing.any():
            if not job.n_missing:
                row, at = np.argwhere(missing)[0]
                job.notes.append(
                    f"Samples are NaN, first in channel {raw.ch_names[row]!r} at {(start + at) / sfreq:.6g} s."
                )
            job.n_missing += int(missing.sum())
        bits = None if job.bitrate is None else int(job.bitrate * (stop - start) / sfreq * len(layout.main))
        yield job.storage, samples, bits, sfreq, job.report and bool(layout.main)


def _check_arguments(mode: str, bitrate: float, max_error: float | None, block_seconds: float, n_jobs: int) -> None:
    if mode not in CODERS:
        raise ValueError(f"mode must be one of {', '.join(map(repr, sorted(CODERS)))}, got {mode!r}.")
    if not _is_number(bitrate) or not 0 < bitrate <= 1e6:
        raise ValueError(f"bitrate must lie above 0 and be at most 1000000 bit/s/channel, got {bitrate!r}.")
    if max_error is not None and (not _is_number(max_error) or not 0 <= max_error < math.inf):
        raise ValueError(f"max_error must be 0 or more, in µV, got {max_error!r}.")
    if max_error is not None and mode != "lossless":
        raise ValueError(
            f"max_error bounds the error of mode='lossless' alone, and mode={mode!r} spends a bitrate; pass "
            "mode='lossless' with it."
        )
    if not _is_number(block_seconds) or not 1 <= block_seconds <= 3600:
        raise ValueError(f"block_seconds must lie between 1 and 3600, got {block_seconds!r}.")
    if not isinstance(n_jobs, (int, np.integer)) or isinstance(n_jobs, bool) or n_jobs == 0:
        raise ValueError(f"n_jobs must be a whole number other than 0, got {n_jobs!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _opened(raw: Any) -> BaseRaw:
    if isinstance(raw, (str, os.PathLike)) and Path(raw).suffix.lower() == ENDING:
        return RawBrainCodec(raw)
    inst = open_recording(raw)
    if not isinstance(inst, BaseRaw):
        raise TypeError(f"A continuous recording is needed and this is {type(inst).__name__}; pass a Raw.")
    return inst


def _refuse_itself(raw: BaseRaw, path: Path) -> None:
    for name in raw.filenames:
        if name is not None and Path(name).exists() and path.exists() and path.samefile(name):
            raise ValueError(f"{path} is the recording itself; give the output another name.")


def _source(raw: BaseRaw) -> tuple[RawSource, list, list[str]]:
    """Return what reads all channels at one rate, the EDF files behind it, and what had to be done for it."""
    parts, _ = edf_parts(raw)
    notes = [part.header.truncation for part in parts if part.header.truncation]
    if parts and not raw.preload:
        header = parts[0].header
        rates = {header.n_samples[signal] for signal in signals_of(raw, header) if signal is not None}
        if len(rates) > 1:
            # MNE brings the slower channels to the fastest rate separately for every piece it reads, and the pieces do
            # not join (https://github.com/mne-tools/mne-python/issues/10635).
            notes.append("Channels have different sampling rates; all were read into memory at the highest of them.")
            try:
                raw = raw.copy().load_data(verbose="ERROR")
            except READING_ERRORS as error:
                raise ContractError(
                    f"{describe_source(raw)} cannot be read ({reason_of(error)}); it is damaged, get it again."
                ) from error
    return RawSource.of(raw, range(len(raw.ch_names)), 1.0), parts, notes


def _writer() -> str:
    from mne_labram import __version__

    return f"mne_labram {__version__}"
