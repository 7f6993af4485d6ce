"""Which channels of a recording are electrodes on the scalp."""

from __future__ import annotations

import mne
from mne.utils import logger

from mne_labram.signal.contract import ContractError
from mne_labram.signal.interpret import interpret_labels
from mne_labram.signal.labels import ParsedChannel

__all__ = ["scalp_channels"]

#: FIFFV_COIL_EEG_BIPOLAR.
_BIPOLAR_COIL = 5


def scalp_channels(info: mne.Info, *, bads: bool = False) -> tuple[list[int], list[ParsedChannel]]:
    """Find the EEG electrodes of a recording.

    Parameters
    ----------
    info : mne.Info
        Of the recording.
    bads : bool
        Whether bad channels are among them.

    Returns
    -------
    picks : list of int
        Indices into ``info["chs"]``. What is EEG only by the file's word (an ECG, ears against each other) is left out,
        with a line in the log.
    parsed : list of ParsedChannel
        What their labels say.

    Raises
    ------
    ContractError
        If one is bipolar.
    """
    picks = mne.pick_types(info, meg=False, eeg=True, exclude=() if bads else "bads").tolist()
    montage, parsed = interpret_labels([info["ch_names"][pick] for pick in picks])
    kept, others = [], []
    for pick, label in zip(picks, parsed, strict=True):
        as_recorded = int(info["chs"][pick]["coil_type"]) == _BIPOLAR_COIL
        if as_recorded or (label.kind == "bipolar" and montage != "referential"):
            raise ContractError(
                f"{info['ch_names'][pick]!r} is a bipolar channel, of which no average reference can be taken; use a "
                "referential recording."
            )
        if label.kind in ("electrode", "unknown"):
            kept.append((pick, label))
        else:
            others.append(info["ch_names"][pick])
    if others:
        logger.info(f"No electrode on the scalp, and left out: {', '.join(others)}.")
    return [pick for pick, _ in kept], [label for _, label in kept]
