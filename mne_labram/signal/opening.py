"""Open whatever MNE can read, recordings without loading them, and turn every failure into one sentence."""

from __future__ import annotations

import configparser
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import mne

from mne_labram.signal.contract import ContractError

__all__ = ["READING_ERRORS", "describe_source", "open_recording", "reason_of"]

#: Formats whose recordings are folders.
_FOLDER_FORMATS = (".ds", ".mff", ".nedf")
_EPOCHS = tuple(f"{mark}epo.fif{packed}" for mark in "-_" for packed in ("", ".gz"))
_EVOKED = tuple(f"{mark}ave.fif{packed}" for mark in "-_" for packed in ("", ".gz"))
#: What MNE's readers raise on files that are cut short, of another format or damaged.
READING_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    ExpatError,
    configparser.Error,
    struct.error,
    zlib.error,
)

Recording = mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked


def open_recording(inst: Recording | str | os.PathLike[str], *, notes: list[str] | None = None) -> Recording:
    """Open a recording; continuous data are not loaded.

    Parameters
    ----------
    inst : Raw | Epochs | Evoked | path-like
        An MNE object is returned as it is. A path may be anything :func:`mne.io.read_raw` reads, ``*-epo.fif``,
        ``*-ave.fif`` or an EEGLAB ``.set`` file with epochs.
    notes : list of str | None
        What MNE warned of while reading is appended here; ``None`` logs it.

    Returns
    -------
    inst : Raw | Epochs | Evoked
        The recording, in volts as MNE holds it.

    Raises
    ------
    ContractError
        If the file is missing, damaged, of an unknown format, or holds several averages.
    TypeError
        If ``inst`` is neither an MNE object nor a path.
    """
    if isinstance(inst, (mne.io.BaseRaw, mne.BaseEpochs, mne.Evoked)):
        return inst
    if not isinstance(inst, (str, os.PathLike)):
        raise TypeError(f"A Raw, Epochs, Evoked or a path is needed, got {type(inst).__name__}.")
    path = Path(inst)
    if not path.exists():
        raise ContractError(f"There is no file {path}; check the path.")
    if path.is_dir() and path.suffix.lower() not in _FOLDER_FORMATS:
        raise ContractError(f"{path} is a folder; pass one recording.")
    if path.is_file() and path.stat().st_size == 0:
        raise ContractError(f"{path.name} is empty; get the file again.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            # MNE's warnings are raised at this level and are caught above; nothing is printed.
            with mne.utils.use_log_level("WARNING"):
                opened = _read(path)
        except ContractError:
            raise
        except (*READING_ERRORS, MemoryError) as error:  # a damaged header may claim any size
            raise ContractError(
                f"{path.name} cannot be read as an EEG recording ({reason_of(error)}); give a whole file, in a format "
                "that mne.io.read_raw knows and under that format's own ending."
            ) from error
    said = list(dict.fromkeys(" ".join(str(each.message).split()) for each in caught))
    if notes is not None:
        notes.extend(said)
    else:
        for text in said:
            mne.utils.logger.info(f"{path.name}: {text}")
    return opened


def reason_of(error: BaseException) -> str:
    """Return the first sentence of an exception's message, without its full stop."""
    # Messages may quote the bytes of a damaged file.
    text = "".join(each if each.isprintable() else " " for each in str(error))
    text = " ".join(text.split()) or type(error).__name__
    return text.split(". ")[0].rstrip(".")[:200]


def describe_source(inst: Any) -> str:
    """Return the file name of a path or of an MNE object, or what kind of object it is."""
    if isinstance(inst, (str, os.PathLike)):
        return Path(inst).name
    names = getattr(inst, "filenames", None) or [getattr(inst, "filename", None)]
    names = [Path(name).name for name in names if name is not None]
    return names[0] if names else type(inst).__name__


def _read(path: Path) -> Recording:
    name = path.name.lower()
    if name.endswith(_EPOCHS):
        # Loaded, because MNE cannot count epochs it has not read.
        # Read lazily, epochs leave their file open until they are collected (MNE 1.13), and all are needed anyway.
        return mne.read_epochs(path, preload=True)
    if name.endswith(_EVOKED):
        evokeds = mne.read_evokeds(path)
        if len(evokeds) == 1:
            return evokeds[0]
        names = ", ".join(repr(evoked.comment) for evoked in evokeds)
        raise ContractError(
            f"{path.name} holds {len(evokeds)} averages ({names}); pass one of mne.read_evokeds({path.name!r})."
        )
    if name.endswith(".bcz"):
        raise ContractError(
            f"{path.name} is a compressed recording; pass what braincodec_decompress makes of it, or in a shell first "
            "type mne-labram decompress."
        )
    if name.endswith(".mat"):
        # Whatever is in it, mne.io.read_raw fails: its reader of FieldTrip files wants the measurement info as well.
        raise ContractError(
            f"{path.name} is a MATLAB file, which does not say what it holds; make an mne.io.RawArray of it, or use "
            "mne.io.read_raw_fieldtrip, and pass the result."
        )
    if name.endswith(".set"):
        from scipy.io.matlab import MatReadError  # MNE imports it for these files

        try:
            return mne.io.read_raw_eeglab(path, preload=False)
        except TypeError as error:
            if "trials" not in str(error):
                raise
            return mne.read_epochs_eeglab(path)
        except MatReadError as error:
            raise ValueError(str(error)) from error
    if name.endswith((".eeg", ".vmrk")) and (header := _brainvision_header(path)) is not None:
        raise ContractError(f"{path.name} is one of the three files of a BrainVision recording; pass {header.name}.")
    try:
        return mne.io.read_raw(path, preload=False)
    except Exception as error:
        # For annotations that are not UTF-8, as many recorders write them, MNE raises the bare class.
        if type(error) is not Exception or not isinstance(error.__cause__, UnicodeDecodeError):
            raise
        mne.utils.warn("The annotations are not UTF-8; they were read as Latin-1.")
        return mne.io.read_raw(path, preload=False, encoding="latin1")


def _brainvision_header(path: Path) -> Path | None:
    """Find the header that a file belongs to; recordings of Nihon Kohden end in .eeg as well and have none."""
    for header in sorted(path.parent.glob("*.vhdr")):
        if header.stem == path.stem:
            return header
        # DataFile and MarkerFile may have other names.
        if any(line.endswith(f"={path.name}") for line in header.read_text(encoding="latin1").splitlines()):
            return header
    return None
