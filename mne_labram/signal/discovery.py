"""Find the recordings in folders, BIDS data sets, lists and Braindecode's data sets, and whose they are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mne

from mne_labram.signal.contract import ContractError
from mne_labram.signal.opening import READING_ERRORS, open_recording, reason_of

__all__ = ["Found", "find_recordings", "open_found", "subject_of_path"]

#: Endings of files that hold EEG and that :func:`mne.io.read_raw` reads; what belongs to them (.eeg, .fdt) is not here.
_SUFFIXES = (".edf", ".bdf", ".gdf", ".vhdr", ".set", ".cnt", ".lay", ".nxe", ".mff")
#: Recordings among the .fif files, which also hold noise covariances, head models and averages (MNE's conventions).
_FIF = re.compile(r"(?:^raw|[-_](?:raw|raw_sss|raw_tsss|eeg|meg|ieeg|epo))\.fif(?:\.gz)?$", re.IGNORECASE)
_ENTITY = re.compile(r"(?:^|[_/\\])sub-([a-zA-Z0-9]+)(?=[_/\\.]|$)")
#: Parts after the first into which MNE splits a recording, under names of BIDS; it reads them with the first.
_LATER_PART = re.compile(r"_split-(?!0*1_)\d+_")
#: Folders of a BIDS data set that hold something else than its recordings.
_NOT_RAW = {"derivatives", "sourcedata", "code", "stimuli"}
#: Where the part of a file name that names the subject ends: a separator, or a run number after a digit (S001R03).
_SEPARATOR = re.compile(r"[\s_.-]")
_RUN = re.compile(r"(?<=\d)[rR]\d+$")
#: First parts of file names that name no subject; the folder does.
_NO_SUBJECT = re.compile(
    r"(?:acq|baseline|clip|data|day|eeg|epo|export|file|ictal|interictal|night|part|preictal|raw|rec|record|recording|"
    r"rest|resting|run|seg|segment|ses|session|signal|sleep|sz|seizure|task|test|train|trial|video)\d*|\d{0,2}",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Found:
    """A recording that may be there: nothing of it has been read.

    Attributes
    ----------
    path : Path
        The file, absolute; for an object in memory the file it came from, or a name.
    dataset, subject : str
        Which data set and which subject it belongs to.
    bids : bool
        Whether mne-bids reads it, with its channel types, bad channels and electrodes.
    instance : mne.io.BaseRaw | mne.BaseEpochs | None
        The object itself, where there is one.
    problem : str | None
        One sentence where it is known already that it cannot be read: a folder that must not be looked into.
    """

    path: Path
    dataset: str
    subject: str
    bids: bool = False
    instance: Any = None
    problem: str | None = None


def subject_of_path(path: str | os.PathLike[str]) -> str:
    """Tell whose recording a file is.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    subject : str
        In this order: the label of a BIDS entity ``sub-<label>`` in the file name or a folder; the file name up to the
        first separator (``_``, ``-``, ``.``, blank), without a run number ``R03`` behind a digit; where that is a
        general word (``eeg_01.edf``, ``rest.edf``) or a number of one or two digits, the folder the file is in.

    Notes
    -----
    ``Subject00_1.edf`` is of ``Subject00``, ``S001R03.edf`` of ``S001``, ``chb01_03_preictal.edf`` of ``chb01``,
    ``p07/eeg_2.edf`` of ``p07``. Two subjects who share a name here would be one in a split by subject: give
    ``subject_of`` where file names follow another rule.
    """
    path = Path(path)
    found = _ENTITY.findall(path.as_posix())
    if found:
        return found[-1]
    name = _SEPARATOR.split(path.name, maxsplit=1)[0]
    if _NO_SUBJECT.fullmatch(name):
        return path.absolute().parent.name or name
    return _RUN.sub("", name)


def find_recordings(source: Any, subject_of: Callable[[Path], str] | None = None) -> Iterator[Found]:
    """Find recordings without reading them.

    Parameters
    ----------
    source : path-like | sequence of path-like | braindecode.datasets.BaseConcatDataset
        A file; a folder, looked through with all folders in it; a BIDS data set (a folder with
        ``dataset_description.json``, also inside another folder), of which mne-bids finds the EEG; several of these;
        or Braindecode's recordings or windows.
    subject_of : callable | None
        Takes a path and returns the subject; ``None``: Braindecode's ``description["subject"]``, else
        :func:`subject_of_path`.

    Yields
    ------
    found : Found
        In a fixed order; each file once, also where links lead to a folder twice or in a circle.

    Raises
    ------
    ContractError
        If the one file or folder is not there. What is missing of a list is yielded, and fails when it is read.
    TypeError
        If ``source`` is something else, or ``subject_of`` returns no name.
    """
    name_subject = subject_of_path if subject_of is None else _checked(subject_of)
    if isinstance(source, (str, os.PathLike)):
        if source == "" or not os.path.exists(Path(source).expanduser()):
            raise ContractError(f"There is no file or folder {str(source)!r}; check the path.")
        sources: Iterable[Any] = [source]
    elif isinstance(source, mne.io.BaseRaw | mne.BaseEpochs):
        raise TypeError("A store is made of files or of a Braindecode data set; call conform() on a single recording.")
    elif hasattr(source, "datasets"):
        yield from _of_braindecode(source, None if subject_of is None else name_subject)
        return
    else:
        try:
            sources = list(source)
        except TypeError:
            raise TypeError(
                f"A folder, a file, a list of them or a Braindecode data set is needed, got {type(source).__name__}."
            ) from None
    seen: set[str] = set()
    folders: set[str] = set()
    for each in sources:
        if not isinstance(each, (str, os.PathLike)):
            raise TypeError(f"Paths are needed, got {type(each).__name__}.")
        # Absolute, so that a store means the same files in another working directory, of a worker for example.
        for found in _of_path(Path(os.path.abspath(Path(each).expanduser())), name_subject, folders):
            # Names, not targets: a data set of git-annex is nothing but links.
            if str(found.path) not in seen:
                seen.add(str(found.path))
                yield found


def _checked(subject_of: Callable[[Path], Any]) -> Callable[[Path], str]:
    """Refuse a name that is none: all such recordings would be one subject's."""

    def checked(path: Path) -> str:
        subject = subject_of(path)
        if subject is None or not str(subject):
            raise TypeError(f"subject_of must return whose recording {path} is, got {subject!r}.")
        return str(subject)

    return checked


def _of_path(path: Path, subject_of: Callable[[Path], str], folders: set[str]) -> Iterator[Found]:
    # os.path.isdir, because Path.is_dir raises where a folder above must not be looked into.
    if not os.path.isdir(path) or path.suffix.lower() == ".mff":
        # A file that was asked for by name is tried whatever it is called.
        yield Found(path, path.parent.name, subject_of(path))
        return
    yield from _of_folder(path, path, subject_of, folders)


def _of_folder(folder: Path, root: Path, subject_of: Callable[[Path], str], folders: set[str]) -> Iterator[Found]:
    target = os.path.realpath(folder)
    if target in folders:  # a link to a folder above, or to one that was looked through already
        return
    folders.add(target)
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        reason = f"The folder {folder} cannot be looked into ({error.strerror or error}); get permission to read it."
        yield Found(folder, root.name, folder.name, problem=reason)
        return
    if os.path.isfile(folder / "dataset_description.json"):
        for path in _bids_paths(folder):
            yield Found(path, folder.name, subject_of(path), bids=True)
        return
    for path in paths:
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in _SUFFIXES or _is_fif(path) or _is_nihon_kohden(path):
            subject = subject_of(path)
            yield Found(path, _dataset(path, root, subject), subject)
        elif os.path.isdir(path):
            yield from _of_folder(path, root, subject_of, folders)


def _is_fif(path: Path) -> bool:
    return bool(_FIF.search(path.name)) and not _LATER_PART.search(path.name)


def _is_nihon_kohden(path: Path) -> bool:
    """Tell a recording of Nihon Kohden from the samples of a BrainVision recording, which are called .eeg too."""
    return path.suffix.lower() == ".eeg" and not any(
        os.path.exists(path.with_suffix(each)) for each in (".vhdr", ".VHDR")
    )


def _dataset(path: Path, root: Path, subject: str) -> str:
    """Name the first folder below the one that was given, unless that is the subject's, else the one given."""
    parts = path.relative_to(root).parts
    return parts[0] if len(parts) > 1 and parts[0].lower() != subject.lower() else root.name


def _bids_paths(root: Path) -> list[Path]:
    from mne_bids import find_matching_paths

    found = find_matching_paths(root, datatypes="eeg", suffixes="eeg", check=False)
    paths = {Path(each.fpath) for each in found if Path(each.fpath).suffix.lower() in (*_SUFFIXES, ".fif")}
    # mne-bids looks into derivatives too: the same recordings once more.
    paths = {path for path in paths if not _NOT_RAW & set(path.relative_to(root).parts)}
    return sorted(path for path in paths if not _LATER_PART.search(path.name))


def _of_braindecode(source: Any, subject_of: Callable[[Path], str] | None) -> Iterator[Found]:
    for number, each in enumerate(source.datasets):
        instance = getattr(each, "raw", None)
        if instance is None:
            instance = getattr(each, "windows", None)
        if not isinstance(instance, mne.io.BaseRaw | mne.BaseEpochs):
            raise TypeError(f"Braindecode's data set {number} holds neither a Raw nor Epochs.")
        if isinstance(instance, mne.BaseEpochs) and not instance.preload:
            # MNE counts epochs when it has read them once; a copy, because that drops the bad ones from the object.
            instance = instance.copy().drop_bad(verbose="ERROR")
        names = getattr(instance, "filenames", None) or (getattr(instance, "filename", None),)
        path = Path(f"recording-{number}") if names[0] is None else Path(names[0])
        description = getattr(each, "description", None)
        description = {} if description is None else dict(description)
        if subject_of is not None:
            subject = subject_of(path)
        else:
            subject = description.get("subject", subject_of_path(path) if names[0] is not None else path.name)
        yield Found(path, str(description.get("dataset", "braindecode")), str(subject), instance=instance)


def open_found(found: Any, notes: list[str] | None = None) -> Any:
    """Open a recording as it is to be conformed.

    Parameters
    ----------
    found : Found
        Or anything else that has its ``path``, ``bids`` and ``instance``.
    notes : list of str | None
        What MNE warned of while reading is appended here.

    Returns
    -------
    inst : mne.io.BaseRaw | mne.BaseEpochs
        Not loaded, if its format allows that.

    Raises
    ------
    ContractError
        If it cannot be read.
    """
    if found.instance is not None:
        return found.instance
    if not found.bids:
        return open_recording(found.path, notes=notes)
    import warnings

    from mne_bids import get_bids_path_from_fname, read_raw_bids

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with mne.utils.use_log_level("WARNING"):
                opened = read_raw_bids(get_bids_path_from_fname(found.path, check=False), on_ch_mismatch="reorder")
        except (*READING_ERRORS, MemoryError) as error:
            raise ContractError(
                f"{found.path.name} cannot be read as part of a BIDS data set ({reason_of(error)}); correct the data "
                "set (the bids-validator says more), or pass the file itself."
            ) from error
    if notes is not None:
        notes.extend(dict.fromkeys(" ".join(str(each.message).split()) for each in caught))
    return opened
