"""Read a file of ``torch.save`` as data: nothing in it is ever run.

A pickle is a program; unpickling runs it. Two fences stand between that program and this machine:

1. The names it asks for are listed by reading its opcodes, without running any. A name outside a short, closed list
   ends the matter, with that name in the message.
2. :func:`torch.load` with ``weights_only=True``, which never looks a name up: it has a table of its own. To that table
   one class is added, :class:`argparse.Namespace` (the official ``args``), and inert stand-ins for NumPy's scalars
   (the official learning rates are ``numpy.float64``); both are plain holders of values. What Gram's checkpoints hold
   beside the weights is read without the packages that wrote it: ``addict``'s dictionaries as plain ones, and paths as
   nothing.
"""

from __future__ import annotations

import argparse
import io
import pickle
import pickletools
import struct
import threading
import warnings
import zipfile
import zlib
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.torch_version import TorchVersion

from mne_labram.weights.files import shown

__all__ = ["read_torch_file"]

_DTYPES = ("float16", "bfloat16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
_STORAGES = ("Half", "BFloat16", "Float", "Double", "Byte", "Char", "Short", "Int", "Long", "Bool")

_PATHS = ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")

#: Every name that a checkpoint may hold: tensors, and the plain holders around them in an official training checkpoint.
ALLOWED_NAMES = frozenset(
    {
        "argparse.Namespace",
        "collections.OrderedDict",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        "torch.Size",
        "torch.device",
        "numpy.dtype",
        "numpy.core.multiarray.scalar",  # NumPy 1
        "numpy._core.multiarray.scalar",  # NumPy 2
        # The configuration in Gram's checkpoints: a dictionary with attributes, and paths in it.
        "addict.addict.Dict",
        *(f"pathlib.{name}" for name in _PATHS),
        *(f"pathlib._local.{name}" for name in _PATHS),  # Python 3.13
        "_codecs.encode",  # how bytes are written in the pickle protocol that torch.save uses
        *(f"torch.{name}" for name in _DTYPES),
        *(f"torch.{name}Storage" for name in _STORAGES),
    }
)

# What os is called inside, so that a refused os.system reads so.
_PUBLIC_MODULES = {"posix": "os", "nt": "os"}

# torch.serialization.MAGIC_NUMBER: the first thing in a file of the format before torch 1.6.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# Pickles in such a file: magic number, version, machine, the object, the storages' names. Raw values follow.
_LEGACY_PICKLES = 5
# The pickle of the 369-million-parameter LaBraM with its optimiser takes less than 1 MB.
_LONGEST_PICKLE = 64 * 2**20

# torch.load raises all of these for a damaged file.
_DAMAGED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

_UNPICKLING = threading.Lock()


class _Inert:
    """Stands where a pickle asks for a class whose value nobody needs; takes any arguments and keeps none."""

    def __new__(cls, *args: Any) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _stand_in(full_name: str) -> type:
    """Make an inert class that torch's unpickler takes for the one of this name."""
    module, _, name = full_name.rpartition(".")
    return type(name, (_Inert,), {"__module__": module, "__qualname__": name})


_SAFE_CLASSES = (
    argparse.Namespace,
    _stand_in("numpy.dtype"),
    _stand_in("numpy.core.multiarray.scalar"),
    _stand_in("numpy._core.multiarray.scalar"),
    *(_stand_in(f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name in _PATHS),
    # torch fills no other kind of mapping.
    (OrderedDict, "addict.addict.Dict"),
)


class _RefusedError(ValueError):
    """The file holds something that is not allowed, and the message says what."""


def _names_in_pickle(stream: BinaryIO) -> Iterator[str]:
    """List the globals that one pickle asks for, in order, by reading its opcodes; nothing is run.

    The stream stands behind the pickle afterwards. Raises ValueError where the opcodes make no sense.
    """
    recent: deque[Any] = deque(maxlen=2)  # what STACK_GLOBAL finds on the stack: module and name
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            module, _, attribute = argument.partition(" ")
            yield _full_name(module, attribute)
        elif name == "STACK_GLOBAL":
            module, attribute = recent if len(recent) == 2 else ("?", "?")
            yield _full_name(module, attribute)
        elif name in ("EXT1", "EXT2", "EXT4"):
            yield f"copyreg extension {argument}"
        elif name == "MEMOIZE":
            memo[len(memo)] = recent[-1] if recent else None
        elif name.endswith("PUT"):
            memo[argument] = recent[-1] if recent else None
        elif name.endswith("GET"):
            recent.append(memo.get(argument))
        elif name not in ("FRAME", "PROTO", "MARK"):
            recent.append(argument)


def _full_name(module: Any, attribute: Any) -> str:
    """Put a name as Python 3 knows it; the pickle protocol of torch.save writes some as Python 2 did."""
    module, attribute = NAME_MAPPING.get((module, attribute), (IMPORT_MAPPING.get(module, module), attribute))
    return f"{_PUBLIC_MODULES.get(module, module)}.{attribute}"


def _inspect_pickle(stream: BinaryIO, label: str) -> None:
    """Refuse one pickle if it asks for a name outside the closed list, or is in a protocol torch.save does not use."""
    start = stream.tell()
    for name in _names_in_pickle(stream):
        if name not in ALLOWED_NAMES:
            raise _RefusedError(
                f"{label} asks for {shown(name)}, which is no part of a checkpoint; nothing of the file was "
                "executed or loaded, get the weights as safetensors or from a source you trust."
            )
    end = stream.tell()
    stream.seek(start)
    protocols = {argument for opcode, argument, _ in pickletools.genops(stream) if opcode.name == "PROTO"}
    if protocols - {2}:
        raise _RefusedError(
            f"{label} is in pickle protocol {max(protocols)}, which cannot be read without running it; nothing of it "
            "was executed, save it again with torch.save's own protocol."
        )
    stream.seek(end)


def _inspect_zip(path: Path, label: str) -> None:
    """Look at a file of torch.save since 1.6: a zip archive with one pickle and the values beside it, uncompressed."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        pickles = [member for member in members if member.filename.split("/")[-1] == "data.pkl"]
        if any("/code/" in member.filename or member.filename.endswith("constants.pkl") for member in members):
            raise _RefusedError(f"{label} is a TorchScript program, not a checkpoint; it was not executed.")
        if len(pickles) != 1:
            raise _RefusedError(f"{label} is a zip archive with {len(pickles)} files data.pkl, not one: no checkpoint.")
        # torch.save stores, so that nothing grows when it is read.
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise _RefusedError(f"{label} is a compressed archive, which torch.save never writes; it was not unpacked.")
        if pickles[0].file_size > _LONGEST_PICKLE:
            raise _RefusedError(f"{label} holds {pickles[0].file_size >> 20} MB of pickle, which no checkpoint needs.")
        _inspect_pickle(io.BytesIO(archive.read(pickles[0])), label)


def _inspect_legacy(path: Path, label: str) -> None:
    """Look at a file of torch.save before 1.6: five pickles in a row, then the values."""
    with open(path, "rb") as stream:
        # A pickle that is something else altogether is searched first, so that a hostile one is called so.
        _inspect_pickle(stream, label)
        stream.seek(0)
        if _LEGACY_MAGIC not in [argument for _, argument, _ in pickletools.genops(stream)]:
            raise _RefusedError(f"{label} is a pickle but no checkpoint of torch.save; nothing of it was executed.")
        for _ in range(_LEGACY_PICKLES - 1):
            _inspect_pickle(stream, label)


def read_torch_file(path: Path) -> Any:
    """Read a file of :func:`torch.save` without running anything in it.

    Parameters
    ----------
    path : Path
        An existing file, in the zip format (torch 1.6 and later) or the one before.

    Returns
    -------
    content : object
        Dicts, lists, numbers, strings, tensors on the CPU, ``argparse.Namespace``. NumPy scalars and paths come back as
        objects without a value.

    Raises
    ------
    ValueError
        If the file is no checkpoint, is damaged, or asks for anything else than these. One sentence, with the name of
        what was refused.
    """
    label = repr(path.name)
    if TorchVersion(torch.__version__) < (2, 10):
        raise ValueError(
            f"torch {torch.__version__} cannot read pickles safely (CVE-2026-24747), so {label} was not opened; "
            "install torch 2.10 or later, or give safetensors."
        )
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickletools warns of odd escapes in damaged names
            zipped = file.read(4) == b"PK\x03\x04"  # as torch.load decides
            (_inspect_zip if zipped else _inspect_legacy)(path, label)
    except _RefusedError:
        raise
    except _DAMAGED:
        raise ValueError(f"{label} is not a checkpoint of torch.save, or it is damaged; get it again.") from None
    with _UNPICKLING:  # the list of safe classes belongs to the whole process
        known = set(torch.serialization.get_safe_globals())
        try:
            # Leaving the context removes what it added: never what the caller had allowed before.
            with torch.serialization.safe_globals([cls for cls in _SAFE_CLASSES if cls not in known]):
                with open(path, "rb") as file:  # by its content: a path would be judged by its suffix too
                    return torch.load(file, map_location="cpu", weights_only=True)
        except _DAMAGED as error:
            raise ValueError(f"{label} is damaged or no plain checkpoint ({_reason(error)}); get it again.") from None


def _reason(error: BaseException) -> str:
    """Keep the part of torch's message that says what happened; the rest advises to load the file unsafely."""
    if not isinstance(error, (pickle.UnpicklingError, RuntimeError)):
        return "it does not end where it says, or contradicts itself"
    text = str(error).split("Check the documentation of torch.load")[0].strip()
    return shown(next((line.strip() for line in reversed(text.splitlines()) if line.strip()), type(error).__name__))
