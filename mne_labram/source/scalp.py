"""Which channels of a recording are electrodes on the scalp, and which of them another recording calls otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import mne

from mne_labram.signal.contract import ContractError
from mne_labram.signal.interpret import interpret_labels
from mne_labram.signal.labels import ParsedChannel
from mne_labram.signal.vocabulary import CHANNEL_ALIASES

__all__ = ["same_electrodes", "scalp_channels"]

#: FIFFV_COIL_EEG_BIPOLAR.
_BIPOLAR_COIL = 5


def scalp_channels(
    info: mne.Info, *, bads: bool = False, others: list[str] | None = None
) -> tuple[list[int], list[ParsedChannel]]:
    """Find the EEG electrodes of a recording.

    Parameters
    ----------
    info : mne.Info
        Of the recording.
    bads : bool
        Whether bad channels are among them.
    others : list of str | None
        Gets the names of what is EEG only by the file's word (an ECG, ears against each other), and left out.

    Returns
    -------
    picks : list of int
        Indices into ``info["chs"]``.
    parsed : list of ParsedChannel
        What their labels say.

    Raises
    ------
    ContractError
        If one is bipolar.
    """
    picks = mne.pick_types(info, meg=False, eeg=True, exclude=() if bads else "bads").tolist()
    montage, parsed = interpret_labels([info["ch_names"][pick] for pick in picks])
    kept = []
    for pick, label in zip(picks, parsed, strict=True):
        as_recorded = int(info["chs"][pick]["coil_type"]) == _BIPOLAR_COIL
        if as_recorded or (label.kind == "bipolar" and montage != "referential"):
            raise ContractError(
                f"{info['ch_names'][pick]!r} is a bipolar channel, of which no average reference can be taken; use a "
                "referential recording."
            )
        if label.kind in ("electrode", "unknown"):
            kept.append((pick, label))
        elif others is not None:
            others.append(info["ch_names"][pick])
    return [pick for pick, _ in kept], [label for _, label in kept]


def same_electrodes(wanted: Sequence[str], available: Sequence[str]) -> list[str | None]:
    """Find channels under the names that another file has for them.

    Parameters
    ----------
    wanted : sequence of str
        Names of channels.
    available : sequence of str
        Names in the other file.

    Returns
    -------
    names : list of (str | None)
        For every one its own name if there is one, else the name of the same electrode of the 10-05 system: ``EEG
        T3-REF`` for ``T7``, ``FP1`` for ``Fp1``. ``None`` where there is none, or where it could be several.
    """
    known = set(available)
    if known.issuperset(wanted):
        return list(wanted)
    there, here = _sites(available), _sites(wanted)
    twice = {site for site, n in Counter(there.values()).items() if n > 1}
    by_site = {site: name for name, site in there.items() if site not in twice}
    found = [name if name in known else by_site.get(here.get(name, "")) for name in wanted]
    used = Counter(found)
    return [there if there == name or used[there] == 1 else None for name, there in zip(wanted, found, strict=True)]


def _sites(ch_names: Sequence[str]) -> dict[str, str]:
    """Return the electrodes of the 10-05 system that names stand for; T3 and T7 are one."""
    _, parsed = interpret_labels(ch_names)
    return {
        name: max(label.anode, CHANNEL_ALIASES.get(label.anode, ""))
        for name, label in zip(ch_names, parsed, strict=True)
        if label.kind == "electrode"
    }
