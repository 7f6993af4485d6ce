"""One conformed recording on the disk: 16-bit samples that are read window by window.

A recording is a folder that holds

- ``samples.npy``, int16, shape (n_blocks, n_chans, 2000): blocks of 2000 samples, ten seconds at 200 Hz;
- ``scales.npy``, float32, shape (n_blocks, 2, n_chans): quantum and centre of each channel in each block, in µV;
- ``recording.json``: everything else.

A sample is ``quantum * int16 + centre``, and its error at most half a quantum (and the rounding of float32, 6e-8 of the
value). Where the contract has a high-pass, the centre is 0 and the quantum a 32767th of the largest absolute value of
the channel in the block: the error is at most 1 / 65534 of that value, 0.0015 µV for EEG of 100 µV, 0.08 µV beside an
artefact of 5 mV. Without a high-pass there may be large offsets, so the centre is the middle between the lowest and the
highest value, and the error at most 1 / 131068 of their distance. That is what a 16-bit amplifier of that range does.
An artefact costs resolution in its own channel and ten seconds, not in the whole night.

Blocks were chosen by measurement, on windows of 19 channels and 4 s at random places of an hour (one core, in page
cache): blocks read by ``pread`` 72,000 windows/s, (n_times, n_chans) 63,000, (n_chans, n_times) 35,000; memory maps of
the three 47,000 to 65,000, and mapped pages count as the process's own memory until the system wants them back.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mne_labram.signal.open_files import OpenFiles

__all__ = ["BLOCK", "CacheWriteError", "CachedSamples", "is_whole", "remove_unfinished", "write_recording"]

#: Changes whenever files written earlier, or the filters behind them, would be read as something else.
FORMAT = 1
#: Samples in a block.
BLOCK = 2000
_LEVELS = 65534
_UNFINISHED = ".unfinished-"


class CacheWriteError(OSError):
    """The cache cannot be written; no other recording will fare better."""


class CachedSamples:
    """Samples of one recording in a cache.

    Parameters
    ----------
    folder : Path
        The recording's folder.
    n_chans, n_times : int
        Channels and samples.
    centred : bool
        Whether all centres are 0.
    """

    __slots__ = ("centred", "folder", "n_chans", "n_times", "samples", "scales")

    def __init__(self, folder: Path, n_chans: int, n_times: int, centred: bool) -> None:
        self.folder, self.n_chans, self.n_times, self.centred = folder, n_chans, n_times, centred
        self.samples, self.scales = str(folder / "samples.npy"), str(folder / "scales.npy")

    def read(self, files: OpenFiles, start: int, n_times: int) -> np.ndarray:
        """Read a piece, which must lie within the recording.

        Parameters
        ----------
        files : OpenFiles
            Reads the bytes.
        start, n_times : int
            First sample and number of samples.

        Returns
        -------
        x : ndarray of float32, shape (n_chans, n_times)
            Microvolts.

        Raises
        ------
        ContractError
            If the cache has been removed or damaged.
        """
        n = self.n_chans
        first, last = start // BLOCK, -(-(start + n_times) // BLOCK)
        block_bytes = n * BLOCK * 2
        samples = files.read(self.samples, _HEADER + first * block_bytes, (last - first) * block_bytes)
        scales = files.read(self.scales, _HEADER + first * 8 * n, (last - first) * 8 * n)
        blocks = np.frombuffer(samples, dtype="<i2").reshape(-1, n, BLOCK)
        quantum_and_centre = np.frombuffer(scales, dtype="<f4").reshape(-1, 2, n, 1)
        out = np.empty((n, n_times), dtype=np.float32)
        low, at = start - first * BLOCK, 0
        for block, (quantum, centre) in zip(blocks, quantum_and_centre, strict=True):
            high = min(BLOCK, low + n_times - at)
            part = out[:, at : at + high - low]
            part[...] = block[:, low:high]
            part *= quantum
            if not self.centred:
                part += centre
            low, at = 0, at + high - low
        return out


#: Bytes before the data of a .npy file; fixed, so that it need not be read again and again.
_HEADER = 128


def _npy_header(kind: str, shape: tuple[int, ...]) -> bytes:
    """Return the first bytes of a .npy file of version 1.0 (NEP 1), padded to 128."""
    text = repr({"descr": kind, "fortran_order": False, "shape": shape})
    return b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little") + text.ljust(_HEADER - 11).encode() + b"\n"


class _BlockWriter:
    """Cuts a stream into blocks and writes them."""

    def __init__(self, folder: Path, n_chans: int, n_times: int, centred: bool) -> None:
        self.centred = centred
        self.n_blocks = -(-n_times // BLOCK)
        self.n_chans, self.n_times, self.n_written = n_chans, n_times, 0
        self.rest = np.zeros((n_chans, 0), dtype=np.float32)
        self.files: list[BinaryIO] = []
        for name, kind, shape in (
            ("samples.npy", "<i2", (self.n_blocks, n_chans, BLOCK)),
            ("scales.npy", "<f4", (self.n_blocks, 2, n_chans)),
        ):
            self.files.append(open(folder / name, "xb"))
            self.files[-1].write(_npy_header(kind, shape))

    def add(self, data: np.ndarray) -> None:
        """Take the next samples in µV, shape (n_chans, n)."""
        self.n_written += data.shape[1]
        self.rest = np.concatenate([self.rest, data], axis=1)
        whole = self.rest.shape[1] // BLOCK * BLOCK
        for start in range(0, whole, BLOCK):
            self._write(self.rest[:, start : start + BLOCK])
        self.rest = self.rest[:, whole:].copy()

    def finish(self) -> None:
        """Write what is left, and have the system write it to the disk."""
        if self.n_written != self.n_times:
            raise ValueError(f"{self.n_times} samples were announced and {self.n_written} came.")
        if self.rest.shape[1]:
            self._write(self.rest)
        for file in self.files:
            file.flush()
            os.fsync(file.fileno())

    def _write(self, block: np.ndarray) -> None:
        low, high = (each.astype(np.float64) for each in (block.min(axis=1), block.max(axis=1)))
        centre = ((low + high) / 2 * (not self.centred)).astype(np.float32)
        # The centre is rounded to float32; the farther end decides, so that no value is clipped.
        reach = np.maximum(high - centre, centre - low)
        quantum = np.nextafter((reach / (_LEVELS // 2)).astype(np.float32), np.float32(np.inf))
        digital = (block - centre[:, None].astype(np.float64)) / quantum[:, None]
        out = np.zeros((self.n_chans, BLOCK), dtype="<i2")
        out[:, : block.shape[1]] = np.rint(digital)
        self.files[0].write(out.tobytes())
        self.files[1].write(np.stack([quantum, centre]).astype("<f4").tobytes())

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            # On a full disk closing a file fails like writing to it, of which more is said elsewhere.
            with suppress(OSError):
                file.close()


def write_recording(
    target: Path,
    pieces: Iterable[np.ndarray],
    n_chans: int,
    n_times: int,
    about: Callable[[], dict[str, Any]],
    *,
    centred: bool = True,
) -> None:
    """Write a conformed recording; its folder appears whole or not at all.

    Parameters
    ----------
    target : Path
        The folder that shall exist afterwards. If another process makes it meanwhile, that one is kept.
    pieces : iterable of ndarray of float32, shape (n_chans, n)
        The samples in µV, in order. What this raises is passed on.
    n_chans, n_times : int
        Channels and samples in all.
    about : callable
        Called when all samples are written; returns what goes into ``recording.json``.
    centred : bool
        The signal lies around 0, so that no centre is needed.

    Raises
    ------
    CacheWriteError
        If the disk is full or must not be written to.
    """
    unfinished = target.with_name(f"{_UNFINISHED}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
    writer = None
    try:
        try:
            unfinished.mkdir()
            writer = _BlockWriter(unfinished, n_chans, n_times, centred)
        except OSError as error:
            raise _cannot_write(target, error) from error
        for piece in pieces:
            try:
                writer.add(piece)
            except OSError as error:
                raise _cannot_write(target, error) from error
        fixed = {"format": FORMAT, "n_chans": n_chans, "n_times": n_times, "centred": centred}
        text = json.dumps({**fixed, **about()}, indent=1)
        try:
            writer.finish()
            with open(unfinished / "recording.json", "x", encoding="utf8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            _move(unfinished, target)
        except OSError as error:
            raise _cannot_write(target, error) from error
    finally:
        if writer is not None:
            writer.close()
        shutil.rmtree(unfinished, ignore_errors=True)


def _move(unfinished: Path, target: Path) -> None:
    for last in (*[False] * 9, True):
        try:
            os.replace(unfinished, target)
            return
        except OSError:
            # A folder cannot replace one that is not empty.
            if is_whole(target):
                return
            if last:
                raise
        # What was damaged is moved away first, in one step, so that nobody finds half of it. If another process does
        # the same meanwhile, there is nothing to move away, or something again.
        damaged = unfinished.with_name(f"{unfinished.name}d")
        with suppress(OSError):
            os.replace(target, damaged)
        shutil.rmtree(damaged, ignore_errors=True)


def _cannot_write(target: Path, error: OSError) -> CacheWriteError:
    return CacheWriteError(
        f"The cache in {target.parent} cannot be written ({error.strerror or error}); make room or choose another "
        "folder, and what is finished will not be made again."
    )


def is_whole(folder: Path) -> bool:
    """Tell whether a folder holds a recording whose files have the size they should have."""
    try:
        about = json.loads((folder / "recording.json").read_text(encoding="utf8"))
        n_chans, n_blocks = about["n_chans"], -(-about["n_times"] // BLOCK)
        sizes = [(folder / name).stat().st_size for name in ("samples.npy", "scales.npy")]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return sizes == [_HEADER + n_blocks * n_chans * BLOCK * 2, _HEADER + n_blocks * n_chans * 8]


def estimated_bytes(n_chans: int, n_times: int) -> int:
    """Return the bytes that a recording takes in a cache."""
    return math.ceil(n_times / BLOCK) * n_chans * (BLOCK * 2 + 8) + 16384


def remove_unfinished(folder: Path) -> None:
    """Remove what builders left behind that were killed: on this machine at once, of other machines after a day.

    Parameters
    ----------
    folder : Path
        The cache.
    """
    for each in folder.glob(f"{_UNFINISHED}*"):
        host, _, rest = each.name.removeprefix(_UNFINISHED).rpartition("-")[0].rpartition("-")
        try:
            old = time.time() - each.stat().st_mtime > 86400
        except FileNotFoundError:
            continue
        if old or (host == socket.gethostname() and rest.isdigit() and not _alive(int(rest))):
            shutil.rmtree(each, ignore_errors=True)


def _alive(process: int) -> bool:
    if os.name != "posix":
        return True  # os.kill would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
