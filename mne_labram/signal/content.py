"""What a recording holds, as a number, so that a cache knows it again under another name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mne
import numpy as np

from mne_labram._files import written_whole

__all__ = ["ContentIndex", "content_of", "files_of"]

#: Bytes that are hashed at a time.
_PIECE = 2**22
#: Files that belong to a file of that ending: its samples, its events.
_COMPANIONS = {
    ".vhdr": (".eeg", ".vmrk", ".dat"),
    ".set": (".fdt",),
    ".eeg": (".pnt", ".log", ".21e"),
    ".lay": (".dat",),
}
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
    files = [path]
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


def content_of(recording: Any) -> dict[str, str]:
    """Hash what a recording is read from.

    Parameters
    ----------
    recording : Recording
        The recording.

    Returns
    -------
    hashes : dict of str to str
        SHA-256 of every file, by its path; of an object in memory, of its samples, names, rate, bad channels and
        annotations.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    if recording.instance is not None:
        return {"": _hash_instance(recording.instance)}
    hashes = {}
    for path in files_of(recording):
        with open(path, "rb") as file:
            hashes[os.path.abspath(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


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
        Where ``index.json`` is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "index.json"
        self.known: dict[str, list[Any]] = {}
        try:
            self.known = dict(json.loads(self.path.read_text(encoding="utf8")))
        except FileNotFoundError:
            pass
        except ValueError:
            mne.utils.logger.info(f"{self.path} is damaged and is made again.")

    def lookup(self, recording: Any) -> dict[str, str] | None:
        """Return the hashes of a recording's files, ``None`` if one is new or was changed."""
        hashes = {}
        for path in map(os.path.abspath, files_of(recording)):
            known = self.known.get(path)
            if known is None or known[:2] != _stamp(path):
                return None
            hashes[path] = known[2]
        return hashes or None

    def remember(self, hashes: dict[str, str]) -> None:
        """Take the hashes of a recording's files."""
        for path, value in hashes.items():
            stamp = _stamp(path)
            if stamp is not None:
                self.known[path] = [*stamp, value]

    def save(self) -> None:
        """Write what is known."""
        with written_whole(self.path, overwrite=True) as temporary:
            temporary.write_text(json.dumps(self.known), encoding="utf8")


def _stamp(path: str) -> list[int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
