"""One block of a recording as bytes: what a coder may approximate, what is kept exactly, and where nothing was."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from mne_labram.codec.coders import BlockCoder
from mne_labram.codec.grid import Grid, bounded_grid, find_grid
from mne_labram.codec.layout import Layout
from mne_labram.signal.contract import ContractError

__all__ = ["NoGridError", "coded_bytes", "decode_body", "encode_body"]

_SECTIONS = struct.Struct("<4I")
_OVERRIDE = np.dtype([("row", "<u4"), ("offset", "<f8"), ("step", "<f8")])
_COUNT = struct.Struct("<I")
_FLOAT = struct.Struct("<IBI")  # row, bytes of one number, bytes of what follows


class NoGridError(ContractError):
    """Samples that must be kept exactly as integers lie on no grid."""


def encode_body(layout: Layout, samples: np.ndarray, bits: int | None) -> bytes:
    """Return the bytes of a block.

    Parameters
    ----------
    layout : Layout
        How the channels are kept.
    samples : ndarray, shape (n_channels, n_samples)
        As MNE holds them: volts, or whatever other channels are in. NaN where there is no sample.
    bits : int | None
        What ``coder`` may spend.

    Returns
    -------
    body : bytes
        For :func:`decode_body`.

    Raises
    ------
    NoGridError
        If a channel that must be exact lies on no grid; ``args[1]`` is the channel.
    ContractError
        If the coder cannot take the samples.
    """
    samples, holes = _without_holes(samples)
    main = exact = floats = b""
    if layout.main:
        x = samples[layout.main]
        if layout.integers:
            main, off = _encode_integers(
                layout.coder, [layout.grids[i] for i in layout.main], x, layout.max_error, layout.steps
            )
            if off:
                raise NoGridError("A channel lies on no digital grid.", layout.main[off[0]])
        else:
            main = layout.coder.encode(x * 1e6, bits=bits)
    if layout.exact:
        x = samples[layout.exact]
        exact, off = _encode_integers(layout.exact_coder, [layout.grids[i] for i in layout.exact], x)
        floats = b"".join(_packed_floats(row, x[row]) for row in off)
    sections = (holes, main, exact, floats)
    return _SECTIONS.pack(*map(len, sections)) + b"".join(sections)


def decode_body(layout: Layout, body: bytes, n_samples: int) -> np.ndarray:
    """Return the samples of a block.

    Parameters
    ----------
    layout : Layout
        How the channels are kept.
    body : bytes
        From :func:`encode_body`.
    n_samples : int
        Length of the block.

    Returns
    -------
    samples : ndarray of float64, shape (n_channels, n_samples)
        As MNE holds them.

    Raises
    ------
    ValueError
        If this is no body of such a block.
    """
    holes, main, exact, floats = _sections(body)
    out = np.empty((layout.n_channels, n_samples))
    if layout.main:
        if layout.integers:
            grids = [layout.grids[i] for i in layout.main]
            out[layout.main] = _decode_integers(layout.coder, grids, main, n_samples)
        else:
            decoded = layout.coder.decode(main, n_samples)
            if decoded.shape != (len(layout.main), n_samples) or not np.isfinite(decoded).all():
                raise ValueError("the coder gave other samples than it should")
            out[layout.main] = decoded * 1e-6
    if layout.exact:
        x = _decode_integers(layout.exact_coder, [layout.grids[i] for i in layout.exact], exact, n_samples)
        _unpack_floats(floats, x)
        out[layout.exact] = x
    for row, start, stop in _runs(holes):
        if row >= layout.n_channels or not start < stop <= n_samples:
            raise ValueError("a hole outside the block")
        out[row, start:stop] = np.nan
    return out


def coded_bytes(body: bytes) -> int:
    """Return how many bytes of a block its coded channels take."""
    return _SECTIONS.unpack_from(body)[1]


def _sections(body: bytes) -> list[bytes]:
    if len(body) < _SECTIONS.size:
        raise ValueError("a block without its parts")
    lengths = _SECTIONS.unpack_from(body)
    if sum(lengths) + _SECTIONS.size != len(body):
        raise ValueError("a block whose parts are not as long as it is")
    ends = np.cumsum([_SECTIONS.size, *lengths])
    return [body[start:end] for start, end in zip(ends[:-1], ends[1:], strict=True)]


# ---- where nothing was


def _without_holes(samples: np.ndarray) -> tuple[np.ndarray, bytes]:
    """Fill NaN from its neighbours; return the filled samples and where NaN was, packed."""
    if not np.isnan(samples).any():
        return samples, b""
    samples = samples.copy()
    runs = []
    for row, x in enumerate(samples):
        missing = np.isnan(x)
        if not missing.any():
            continue
        edges = np.flatnonzero(np.diff(missing.astype(np.int8), prepend=0, append=0))
        runs += [(row, start, stop) for start, stop in edges.reshape(-1, 2)]
        there = np.flatnonzero(~missing)
        # Held, not interpolated: what is held lies on the digital grid.
        before = np.maximum(np.searchsorted(there, np.flatnonzero(missing)) - 1, 0)
        x[missing] = x[there[before]] if len(there) else 0.0
    return samples, zlib.compress(np.array(runs, dtype="<u4").tobytes(), 9)


def _runs(packed: bytes) -> np.ndarray:
    content = _unpacked(packed, 2**28)
    if len(content) % 12:
        raise ValueError("holes that are not whole")
    return np.frombuffer(content, dtype="<u4").reshape(-1, 3)


def _unpacked(packed: bytes, limit: int) -> bytes:
    """Decompress, but never to more than there can be."""
    if not packed:
        return b""
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(packed, limit + 1)
    except zlib.error as error:
        raise ValueError("bytes that zlib cannot read") from error
    if len(content) > limit or not unpacker.eof:
        raise ValueError("more bytes than there can be")
    return content


# ---- whole numbers


def _encode_integers(
    coder: BlockCoder, known: Sequence[Grid | None], samples: np.ndarray, allowed: float = 0.0, steps: int = 0
) -> tuple[bytes, list[int]]:
    """Return packed integers, and the rows of those channels that lie on no grid (their integers are 0)."""
    integers = np.zeros(samples.shape, dtype=np.int32)
    overrides, off = [], []
    for row, x in enumerate(samples):
        grid, digital = _fitting(x, known[row], allowed, steps)
        if digital is None:
            off.append(row)
            continue
        integers[row] = digital
        if grid != known[row]:
            overrides.append((row, grid.offset, grid.step))
    head = _COUNT.pack(len(overrides)) + np.array(overrides, dtype=_OVERRIDE).tobytes()
    return head + coder.encode(integers, bits=None), off


def _fitting(x: np.ndarray, known: Grid | None, allowed: float, steps: int) -> tuple[Grid | None, np.ndarray | None]:
    """Return a grid and the integers on it: the known one, else that of these samples, or one laid under them."""
    if not np.isfinite(x).all():
        return None, None
    for grid in (known, bounded_grid(allowed, steps) if allowed else find_grid(x)):
        if grid is not None:
            digital = _within(grid, x, allowed, steps) if allowed else grid.digital(x)
            if digital is not None:
                return grid, digital
    return None, None


def _within(grid: Grid, x: np.ndarray, allowed: float, steps: int) -> np.ndarray | None:
    """Return the nearest integers, if the coder may be off by so many steps and no sample by more than allowed."""
    digital = grid.nearest(x)
    # A sample halfway between two steps is as far from both as is allowed, give or take its last bit.
    left = allowed * (1 + 1e-9) - steps * grid.step
    return None if digital is None or (np.abs(grid.physical(digital) - x) > left).any() else digital


def _decode_integers(coder: BlockCoder, known: Sequence[Grid | None], packed: bytes, n_samples: int) -> np.ndarray:
    grids = list(known)
    if len(packed) < _COUNT.size:
        raise ValueError("integers without a beginning")
    (count,) = _COUNT.unpack_from(packed)
    start = _COUNT.size + count * _OVERRIDE.itemsize
    if count > len(grids) or start > len(packed):
        raise ValueError("more grids than channels")
    for row, offset, step in np.frombuffer(packed, dtype=_OVERRIDE, count=count, offset=_COUNT.size):
        if row >= len(grids):
            raise ValueError("a grid of no channel")
        grids[int(row)] = Grid(float(offset), float(step))
    integers = coder.decode(packed[start:], n_samples)
    if integers.shape != (len(grids), n_samples):
        raise ValueError("the coder gave other samples than it should")
    out = np.zeros(integers.shape)
    for row, digital in enumerate(integers):
        # A channel without a grid comes as floats.
        if grids[row] is not None:
            out[row] = grids[row].physical(digital)
    return out


# ---- whatever lies on no grid


def _packed_floats(row: int, x: np.ndarray) -> bytes:
    """Keep numbers bit by bit: differences of the bit patterns in time, byte planes, zlib."""
    with np.errstate(over="ignore"):
        single = x.astype(np.float32)
    exact = single if (single == x).all() else x
    size = exact.dtype.itemsize
    bits = exact.view(f"=u{size}")
    differences = np.diff(bits, prepend=bits.dtype.type(0)).astype(f"<u{size}")
    planes = np.ascontiguousarray(differences.view(np.uint8).reshape(-1, size).T)
    packed = zlib.compress(planes.tobytes(), 6)
    return _FLOAT.pack(row, size, len(packed)) + packed


def _unpack_floats(content: bytes, out: np.ndarray) -> None:
    at = 0
    while at < len(content):
        if at + _FLOAT.size > len(content):
            raise ValueError("floats without a beginning")
        row, size, length = _FLOAT.unpack_from(content, at)
        at += _FLOAT.size
        if row >= len(out) or size not in (4, 8) or at + length > len(content):
            raise ValueError("floats of no channel")
        planes = np.frombuffer(_unpacked(content[at : at + length], size * out.shape[1]), dtype=np.uint8)
        if planes.size != size * out.shape[1]:
            raise ValueError("fewer floats than samples")
        differences = np.ascontiguousarray(planes.reshape(size, -1).T).view(f"<u{size}")[:, 0]
        out[row] = np.cumsum(differences, dtype=f"=u{size}").view(f"=f{size}")
        at += length
