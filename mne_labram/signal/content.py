"""What a recording holds, as a number, so that a cache knows it again under another name."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mne
import numpy as np

from mne_labram._files import written_whole
from mne_labram.signal.contract import ContractError

__all__ = ["Content", "ContentIndex", "content_of", "files_of", "is_unchanged"]

#: Bytes that are hashed at a time.
_PIECE = 2**22
#: Files that belong to a file of that ending: its samples, its events.
_COMPANIONS = {
    ".vhdr": (".eeg", ".vmrk", ".dat"),
    ".set": (".fdt",),
    ".eeg": (".pnt", ".log", ".21e"),
    ".lay": (".dat",),
}
#: What every file of a recording holds, by path: size, time of change (ns) and SHA-256.
Content = dict[str, tuple[int, int, str]]
#: Sidecar files of a BIDS recording that say something of its signal.
_SIDECARS = ("_channels.tsv", "_eeg.json", "_events.tsv", "_electrodes.tsv", "_coordsystem.json")


def files_of(recording: Any) -> list[Path]:
    """List the files that a recording is read from.

    Parameters
    ----------
    recording : Recording
        The recording.

    Returns
    -------
    files : list of Path
        The file itself and what belongs to it: samples, events, the side-cars of BIDS. None for an object in memory.
    """
    path = recording.path
    if recording.instance is not None:
        return []
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if each.is_file())
    files = [path, *(each for each in getattr(recording, "parts", ()) if each.is_file())]
    files += _later_parts(path)
    for suffix in _COMPANIONS.get(path.suffix.lower(), ()):
        files += [each for each in (path.with_suffix(suffix), path.with_suffix(suffix.upper())) if each.is_file()]
    if recording.bids:
        # Side-cars apply to all recordings whose entities they share, in their folder and those above (BIDS 1.10,
        # "The inheritance principle").
        entities = set(path.name.split("_")[:-1])
        for folder in path.parents:
            for each in sorted(folder.iterdir()):
                if each.name.endswith(_SIDECARS) or f"_{each.name}" in _SIDECARS:
                    # "space" is an entity of side-cars only.
                    parts = {part for part in each.name.split("_")[:-1] if not part.startswith("space-")}
                    files += [each] if parts <= entities else []
            if (folder / "dataset_description.json").exists():
                break
    return list(dict.fromkeys(files))


def _later_parts(path: Path) -> list[Path]:
    """List the files into which MNE has split epochs of more than 2 GB: x-epo-1.fif, x_split-02_epo.fif."""
    name = re.fullmatch(r"(.*?)(\.fif(?:\.gz)?)", path.name, re.IGNORECASE)
    bids = re.fullmatch(r"(.*_split-)0*1(_.*)", path.name)
    parts: list[Path] = []
    for head, tail, digits, first in (
        *([(f"{name[1]}-", name[2], 1, 1)] if name else []),
        *([(bids[1], bids[2], 2, 2)] if bids else []),
    ):
        numbers = itertools.count(first)
        parts += itertools.takewhile(Path.is_file, (path.with_name(f"{head}{n:0{digits}d}{tail}") for n in numbers))
    return parts


def content_of(recording: Any) -> Content:
    """Hash what a recording is read from.

    Parameters
    ----------
    recording : Recording
        The recording.

    Returns
    -------
    content : dict
        Size, time of change and SHA-256 of every file, by its path; of an object in memory 0, 0 and the hash of its
        samples, names, rate, bad channels and annotations.

    Raises
    ------
    ContractError
        If a file changes meanwhile.
    OSError
        If a file cannot be read.
    """
    if recording.instance is not None:
        return {"": (0, 0, _hash_instance(recording.instance))}
    content: Content = {}
    for path in map(os.path.abspath, files_of(recording)):
        # The time of change comes first: a file that is written to while it is hashed is not taken for what it was.
        stamp = _stamp(path)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if stamp is None or stamp != _stamp(path):
            raise ContractError(f"{path} changed while it was read; wait until it is finished and run this again.")
        content[path] = (*stamp, digest)
    return content


def is_unchanged(content: Content) -> bool:
    """Tell whether files have the size and the time of change that they had when they were hashed."""
    return all(_stamp(path) == known[:2] for path, known in content.items() if path)


def _hash_instance(inst: Any) -> str:
    digest = hashlib.sha256()
    info = inst.info
    about: list[Any] = [inst.ch_names, inst.get_channel_types(), info["sfreq"], info["bads"], info["line_freq"]]
    about += [info["highpass"], info["lowpass"], [ch["loc"].tolist() for ch in info["chs"]]]
    if isinstance(inst, mne.io.BaseRaw):
        notes = inst.annotations
        about += [notes.onset.tolist(), notes.duration.tolist(), notes.description.tolist(), inst.first_samp]
        step = max(1, _PIECE // (8 * len(inst.ch_names)))
        pieces: Iterable[np.ndarray] = (
            inst.get_data(start=start, stop=min(start + step, inst.n_times), verbose="ERROR")
            for start in range(0, inst.n_times, step)
        )
    else:
        pieces = (inst.get_data(item=[i], copy=False, verbose="ERROR") for i in range(len(inst)))
    digest.update(json.dumps(about, default=str).encode())
    for piece in pieces:
        digest.update(np.ascontiguousarray(piece).data)
    return digest.hexdigest()


class ContentIndex:
    """Remembers the hashes of files by path, size and time of change, so that they are read only once.

    Parameters
    ----------
    folder : Path
        Where ``mne-labram-index.json`` is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mne-labram-index.json"
        self.known: Content = {}
        try:
            known = json.loads(self.path.read_text(encoding="utf8"))
            self.known = {path: (int(size), int(time), str(value)) for path, (size, time, value) in known.items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError):
            mne.utils.logger.info(f"{self.path} cannot be read and is made again.")

    def lookup(self, recording: Any) -> Content | None:
        """Return the hashes of a recording's files, ``None`` if one is new, was changed or cannot be looked at."""
        content = {}
        try:
            for path in map(os.path.abspath, files_of(recording)):
                known = self.known.get(path)
                if known is None or known[:2] != _stamp(path):
                    return None
                content[path] = known
        except OSError:
            return None
        return content or None

    def remember(self, content: Content) -> None:
        """Take the hashes of a recording's files."""
        self.known.update({path: value for path, value in content.items() if path})

    def save(self) -> None:
        """Write what is known, if that is possible; a cache that must not be written to can be read all the same."""
        try:
            with written_whole(self.path, overwrite=True) as temporary:
                temporary.write_text(json.dumps(self.known), encoding="utf8")
        except OSError as error:
            reason = error.strerror or error
            mne.utils.logger.info(f"{self.path} cannot be written ({reason}); files will be looked at again next time.")


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
