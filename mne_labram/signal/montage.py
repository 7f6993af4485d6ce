"""The measurement info of a conformed recording: names, positions, what was filtered."""

from __future__ import annotations

import mne
import numpy as np

from mne_labram.signal.contract import SignalContract
from mne_labram.signal.report import ConformReport

__all__ = ["conformed_info"]

#: FIFFV_COIL_EEG_BIPOLAR and FIFFV_COORD_HEAD of the FIF constants.
_BIPOLAR_COIL, _HEAD = 5, 4


def conformed_info(source: mne.Info, report: ConformReport, contract: SignalContract) -> mne.Info:
    """Return the info of a conformed recording.

    Parameters
    ----------
    source : mne.Info
        The recording's own.
    report : ConformReport
        Holds the channels.
    contract : SignalContract
        Rate and band.

    Returns
    -------
    info : mne.Info
        EEG channels under their canonical names at the template's positions (metres, head frame). A bipolar channel
        lies between its electrodes, as MNE has it, with the cathode as its reference position.
    """
    info = mne.create_info(report.ch_names, contract.sfreq, "eeg", verbose="ERROR")
    for ch, position in zip(info["chs"], report.channel_map.positions, strict=True):
        anode, cathode = position[:3], position[3:]
        bipolar = bool(np.any(anode != cathode))
        ch["loc"][:3] = anode
        ch["loc"][3:6] = cathode if bipolar else 0.0
        ch["coord_frame"] = _HEAD
        if bipolar:
            ch["coil_type"] = _BIPOLAR_COIL
    high = [source["highpass"] or 0.0, contract.l_freq or 0.0]
    low = [source["lowpass"] or np.inf, contract.h_freq or np.inf, contract.sfreq / 2, source["sfreq"] / 2]
    with info._unlock():
        info["highpass"], info["lowpass"] = float(max(high)), float(min(low))
        info["line_freq"] = report.line_freq
        info["meas_date"] = source["meas_date"]
        info["description"] = source["description"]
        info["experimenter"] = source["experimenter"]
        info["subject_info"] = source["subject_info"]
    return info
