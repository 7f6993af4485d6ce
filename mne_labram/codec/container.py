"""The bytes of a compressed recording: a header, blocks that stand on their own, an index, and the header again.

What the header and the blocks mean is not known here (:mod:`mne_labram.codec.header`, :mod:`mne_labram.codec.body`);
here it is made sure that what is read is what was written. All numbers are little-endian; the layout is described byte
by byte in ``doc/codec_format.md``. Checksums are BLAKE2b (RFC 7693), keyed with the checksum of the header, so that a
block of another file, or another block of the same file, is never taken for the one that is asked for.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from mne_labram.signal.contract import ContractError

__all__ = ["ENDING", "FORMAT_VERSION", "ContainerReader", "ContainerWriter"]

#: "BrainCodec, zipped": short, and the ending of no format that MNE or the operating systems know.
ENDING = ".bcz"
#: Version of the layout; readers refuse all others.
FORMAT_VERSION = 1

# As PNG's (RFC 2083, section 12.11): a byte beyond ASCII and line ends of every kind show a transfer as text.
_MAGIC = b"\x89BCZ\r\n\x1a\n"
# Magic, version, 0, bytes of the packed header, checksum of these and of the packed header. The same in every version.
_PREAMBLE = struct.Struct("<8sHHI16s")
# Marker, number of the block, bytes of its body, checksum of the body, checksum of this head.
_BLOCK = struct.Struct("<4sII8sI")
_BLOCK_MARKER = b"BCZb"
# Marker, number of blocks, where the second header and the index are, checksum of these and of the index.
_FOOTER = struct.Struct("<4sIQQ16s")
_FOOTER_MARKER = b"BCZe"
# The second header may be one part in so many of the file.
_COPY_SHARE = 50
_MAX_HEADER = 2**28  # unpacked; a recording with a million annotations has a tenth of it


def _identity(start: bytes, packed: bytes) -> bytes:
    return hashlib.blake2b(start + packed, digest_size=16).digest()


def _body_digest(identity: bytes, number: int, body: bytes) -> bytes:
    digest = hashlib.blake2b(struct.pack("<I", number), digest_size=8, key=identity)
    digest.update(body)
    return digest.digest()


def _head_check(identity: bytes, head: bytes) -> int:
    return zlib.crc32(head[: _BLOCK.size - 4], zlib.crc32(identity))


def _footer_digest(identity: bytes, fields: bytes, index: bytes) -> bytes:
    return hashlib.blake2b(fields + index, digest_size=16, key=identity).digest()


def _packed_header(header: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return the header as it stands in the file, and what identifies it."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    content = text.encode("utf-8", errors="surrogatepass")
    if len(content) > _MAX_HEADER:
        raise ContractError("The recording has more annotations than the header of one file holds; split it.")
    packed = zlib.compress(content, 9)
    start = _PREAMBLE.pack(_MAGIC, FORMAT_VERSION, 0, len(packed), b"")[:-16]
    identity = _identity(start, packed)
    return start + identity + packed, identity


class ContainerWriter:
    """Write the header, then block after block, then the header again (unless the file is short) and the index.

    Parameters
    ----------
    path : path-like
        The file, which must not exist; see :func:`mne_labram._files.written_whole`.
    header : mapping
        Anything JSON can say, without NaN.

    Attributes
    ----------
    n_bytes : int
        Bytes written.
    """

    def __init__(self, path: str | os.PathLike, header: Mapping[str, Any]) -> None:
        self._header, self._id = _packed_header(header)
        self._offsets: list[int] = []
        self._file: BinaryIO = open(path, "xb")  # noqa: SIM115 (closed by the context)
        self.n_bytes = self._file.write(self._header)

    def __enter__(self) -> ContainerWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._file.close()

    def add(self, body: bytes) -> None:
        """Append a block.

        Parameters
        ----------
        body : bytes
            What :meth:`ContainerReader.read` gives back.

        Raises
        ------
        ContractError
            If it is larger than 4 GiB.
        """
        number = len(self._offsets)
        if len(body) >= 2**32:
            raise ContractError(f"Block {number} takes more than 4 GiB; choose shorter blocks (block_seconds).")
        head = _BLOCK.pack(_BLOCK_MARKER, number, len(body), _body_digest(self._id, number, body), 0)
        head = head[:-4] + struct.pack("<I", _head_check(self._id, head))
        self._offsets.append(self.n_bytes)
        self.n_bytes += self._file.write(head) + self._file.write(body)

    def _finish(self) -> None:
        copy = self.n_bytes
        if _COPY_SHARE * len(self._header) > self.n_bytes:
            # Of a short recording, a second header would be too large a part.
            self._header = b""
        index = struct.pack(f"<{len(self._offsets)}Q", *self._offsets)
        fields = _FOOTER.pack(_FOOTER_MARKER, len(self._offsets), copy, copy + len(self._header), b"")[:-16]
        for part in (self._header, index, fields, _footer_digest(self._id, fields, index)):
            self.n_bytes += self._file.write(part)


class ContainerReader:
    """Read a file block by block, and know what of it is damaged.

    Parameters
    ----------
    path : path-like
        The file.

    Attributes
    ----------
    path : Path
        The file.
    header : dict
        What was given to :class:`ContainerWriter`.
    n_bytes : int
        Size of the file.
    notes : list of str
        What is damaged, or missing, without loss: one of the headers, the index.

    Raises
    ------
    ContractError
        If it is no such file, is of another version, or neither header is whole.
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        with open(self.path, "rb") as file:
            self.n_bytes = file.seek(0, os.SEEK_END)
            if self.n_bytes == 0:
                raise ContractError(f"{self.path.name} is empty; get the file again.")
            self._id, packed, first_block = self._find_header(file)
            self.header = self._unpacked(packed)
            self._places = self._find_blocks(file, first_block)

    def damage(self, n_blocks: int) -> dict[int, str]:
        """Read all blocks once and tell which cannot be used.

        Parameters
        ----------
        n_blocks : int
            How many there must be.

        Returns
        -------
        damage : dict of int to str
            Why, by the number of the block.
        """
        found = {}
        with open(self.path, "rb") as file:
            for number in range(n_blocks):
                if number not in self._places:
                    found[number] = "missing"
                elif self._body(file, number) is None:
                    found[number] = "the checksum does not fit"
        return found

    def read(self, number: int) -> bytes:
        """Return the body of a block.

        Parameters
        ----------
        number : int
            Which, from 0.

        Returns
        -------
        body : bytes
            As it was written.

        Raises
        ------
        ContractError
            If it is damaged, or the file has changed since it was opened.
        OSError
            If the file is gone.
        """
        if number in self._places:
            with open(self.path, "rb") as file:
                body = self._body(file, number)
            if body is not None:
                return body
        raise ContractError(f"Block {number} of {self.path.name} is damaged; get the file again.")

    def _body(self, file: BinaryIO, number: int) -> bytes | None:
        """Return a body whose checksum fits, else None."""
        offset = self._places[number]
        file.seek(offset)
        head = file.read(_BLOCK.size)
        if self._checked_head(head, offset) != number:
            return None
        length, digest = _BLOCK.unpack(head)[2:4]
        body = file.read(length)
        return body if _body_digest(self._id, number, body) == digest else None

    def _checked_head(self, head: bytes, offset: int) -> int | None:
        """Return the number of the block that begins with this head, None if none does."""
        if len(head) < _BLOCK.size or not head.startswith(_BLOCK_MARKER):
            return None
        _, number, length, _, check = _BLOCK.unpack(head)
        if check != _head_check(self._id, head) or offset + _BLOCK.size + length > self.n_bytes:
            return None
        return number

    def _find_header(self, file: BinaryIO) -> tuple[bytes, bytes, int]:
        """Return what identifies the header, the packed header, and where the blocks may begin."""
        found = self._header_at(file, 0)
        if found is not None:
            return found
        with _mapped(file) as content:
            offset = content.find(_MAGIC, 1)
            while offset >= 0:
                found = self._header_at(file, offset)
                if found is not None:
                    self.notes.append("the header at its beginning is damaged and the copy at its end was used")
                    return found[0], found[1], 0
                offset = content.find(_MAGIC, offset + 1)
            # With two bytes of the magic gone, both headers must still be the wreck of one for it to be our file.
            ours = content[:4] == _MAGIC[:4] or content.find(_BLOCK_MARKER) >= 0
        if ours:
            raise ContractError(
                f"{self.path.name} is damaged: its header is not whole, nor is there a whole copy of it at its end; "
                "get the file again."
            )
        raise ContractError(
            f"{self.path.name} is not a file of braincodec_compress; give one ({ENDING}), or open a recording with "
            "mne.io.read_raw."
        )

    def _header_at(self, file: BinaryIO, offset: int) -> tuple[bytes, bytes, int] | None:
        file.seek(offset)
        start = file.read(_PREAMBLE.size)
        if len(start) < _PREAMBLE.size or not start.startswith(_MAGIC):
            return None
        _, version, _, length, digest = _PREAMBLE.unpack(start)
        if offset + _PREAMBLE.size + length > self.n_bytes:
            return None
        packed = file.read(length)
        if _identity(start[:-16], packed) != digest:
            return None
        if version != FORMAT_VERSION:
            raise ContractError(
                f"{self.path.name} has version {version} of the format and this mne_labram reads version "
                f"{FORMAT_VERSION}; install the mne_labram that wrote it, or a newer one."
            )
        return digest, packed, offset + _PREAMBLE.size + length

    def _unpacked(self, packed: bytes) -> dict[str, Any]:
        # The checksum fitted, so nothing but a file made to harm, or a fault of ours, comes so far and fails.
        unpacker = zlib.decompressobj()
        try:
            content = unpacker.decompress(packed, _MAX_HEADER)
            header = json.loads(content.decode("utf-8", errors="surrogatepass"), parse_constant=_no_constant)
        except (zlib.error, ValueError, RecursionError) as error:
            raise ContractError(f"The header of {self.path.name} is no JSON; get the file again.") from error
        if unpacker.unconsumed_tail or not isinstance(header, dict):
            raise ContractError(f"The header of {self.path.name} is no JSON object; get the file again.")
        return header

    def _find_blocks(self, file: BinaryIO, first_block: int) -> dict[int, int]:
        """Return where each block begins: as the index says, or found by looking through the file."""
        places = self._indexed(file)
        if places is None:
            self.notes.append("its index is damaged or missing, as in a file that was cut short, and was made again")
            with _mapped(file) as content:
                places = self._scanned(content, first_block)
        return places

    def _indexed(self, file: BinaryIO) -> dict[int, int] | None:
        if self.n_bytes < _FOOTER.size:
            return None
        file.seek(self.n_bytes - _FOOTER.size)
        footer = file.read(_FOOTER.size)
        marker, n_blocks, _, place, digest = _FOOTER.unpack(footer)
        if marker != _FOOTER_MARKER or place + 8 * n_blocks + _FOOTER.size != self.n_bytes:
            return None
        file.seek(place)
        index = file.read(8 * n_blocks)
        if _footer_digest(self._id, footer[:-16], index) != digest:
            return None
        return dict(enumerate(struct.unpack(f"<{n_blocks}Q", index)))

    def _scanned(self, content: mmap.mmap, first_block: int) -> dict[int, int]:
        places: dict[int, int] = {}
        offset = content.find(_BLOCK_MARKER, first_block)
        while offset >= 0:
            head = content[offset : offset + _BLOCK.size]
            number = self._checked_head(head, offset)
            following = offset + 1
            if number is not None:
                places.setdefault(number, offset)
                following = offset + _BLOCK.size + _BLOCK.unpack(head)[2]
            offset = content.find(_BLOCK_MARKER, following)
        return places


def _mapped(file: BinaryIO) -> mmap.mmap:
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
