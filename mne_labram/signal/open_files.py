"""Read pieces of many files without opening each of them again and again."""

from __future__ import annotations

import os

from mne_labram.signal.contract import ContractError
from mne_labram.signal.kept_open import KeptOpen

__all__ = ["OpenFiles"]

_POSITIONAL = hasattr(os, "pread")


class _Descriptor:
    """A file open for reading; closed when the last one who reads from it lets go of it."""

    def __init__(self, path: str) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class OpenFiles(KeptOpen):
    """Files open for reading, the most recently used ones.

    Parameters
    ----------
    limit : int
        Files open at a time. Systems allow 256 (macOS) or 1024 (Linux) in a process, which others need as well.

    Notes
    -----
    :func:`os.pread` takes the position with every call, so threads and processes that share an open file do not move
    each other's place in it. A file that is dropped while another thread reads from it is closed when that thread is
    done. After a fork the child opens its own, because a lock may have been held at that moment; a pickled copy opens
    its own too. Where there is no ``pread`` (Windows), files are opened for every read.
    """

    def __init__(self, limit: int = 64) -> None:
        super().__init__(limit)

    def read(self, path: str, offset: int, n_bytes: int) -> bytes:
        """Return ``n_bytes`` of a file from byte ``offset`` on.

        Parameters
        ----------
        path : str
            The file.
        offset, n_bytes : int
            What to read.

        Returns
        -------
        content : bytes
            Exactly ``n_bytes``.

        Raises
        ------
        ContractError
            If the file cannot be read any more, or is shorter than it was.
        """
        try:
            if not _POSITIONAL:
                content = _read(path, offset, n_bytes)
            else:
                if self._process != os.getpid():
                    self._start()
                # One look into a dictionary is safe without the lock; nothing is moved in it while all files fit.
                descriptor = self._open.get(path)
                if descriptor is None or len(self._open) >= self.limit:
                    descriptor = self._take(path, descriptor)
                content = os.pread(descriptor.number, n_bytes, offset)
                while 0 < len(content) < n_bytes:  # a signal, or Linux's limit of 2 GiB
                    more = os.pread(descriptor.number, n_bytes - len(content), offset + len(content))
                    if not more:
                        break
                    content += more
        except OSError as error:
            raise ContractError(
                f"{path} cannot be read any more ({error.strerror or error}); make the store again."
            ) from error
        if len(content) != n_bytes:
            raise ContractError(f"{path} is shorter than it was when the store was made; make the store again.")
        return content

    def _take(self, path: str, descriptor: _Descriptor | None) -> _Descriptor:
        """Open a file, or mark it as the one used last."""
        if descriptor is None:
            descriptor = _Descriptor(path)
        with self._lock:
            self._open[path] = descriptor
            self._open.move_to_end(path)
            if len(self._open) > self.limit:
                self._open.popitem(last=False)
        return descriptor


def _read(path: str, offset: int, n_bytes: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(n_bytes)
