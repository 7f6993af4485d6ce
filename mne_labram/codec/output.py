"""A decompressed recording written to a file, piece by piece."""

from __future__ import annotations

import os
from pathlib import Path

from mne_labram._files import written_whole
from mne_labram.codec.edf_writer import edf_calibrations, not_in_edf, write_edf
from mne_labram.codec.raw import RawBrainCodec

__all__ = ["write_recording"]


def write_recording(raw: RawBrainCodec, fname: str | os.PathLike[str], *, overwrite: bool = False) -> list[str]:
    """Write a compressed recording as FIF, EDF+ or BDF+, in bounded memory.

    Parameters
    ----------
    raw : RawBrainCodec
        The recording, not loaded.
    fname : path-like
        ``*raw.fif`` keeps everything (float32, from which every integer of up to 24 bits is read back); ``.edf`` and
        ``.bdf`` keep samples, names, annotations, date and patient. What came from an EDF file gets the calibration
        that it had, so that integers that were kept exactly are the same ones.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    notes : list of str
        What the format does not keep.

    Raises
    ------
    ContractError
        If the format cannot say a name or the rate.
    OSError
        If the file exists, or cannot be written.
    """
    path = Path(fname)
    with written_whole(path, overwrite=overwrite) as temporary:
        if path.suffix.lower() not in (".edf", ".bdf"):
            raw.save(temporary, verbose="error")
            return []
        storage = raw.compression["storage"]
        known = edf_calibrations(storage, raw.info, path.suffix.lower() == ".bdf")
        notes = write_edf(raw, temporary, calibrations=known)
    lost = not_in_edf(raw.info)
    if lost:
        notes.insert(0, f"{path.suffix} does not keep {', '.join(lost)}; _raw.fif does.")
    return notes
