"""Look at a recording against a contract: everything that speaks against it, not only the first thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mne
import numpy as np

from mne_labram.signal.channels import ChannelMap, map_channels
from mne_labram.signal.contract import ContractError, SignalContract
from mne_labram.signal.filtering import NOTCH_SECONDS, FilterChain, design_chain
from mne_labram.signal.positions import positions_from_chs
from mne_labram.signal.probe import Probe, detect_line_freq
from mne_labram.signal.report import ConformReport
from mne_labram.signal.units import PLAUSIBLE, amplitude_problem

__all__ = ["Inspector"]

#: A channel this many times above what a recording may have is broken or in another unit than the rest.
_BROKEN_FACTOR = 10.0
_INVASIVE, _MAGNETIC = ("seeg", "ecog", "dbs"), ("mag", "grad", "ref_meg")


class Inspector:
    """Collect findings about one recording.

    Parameters
    ----------
    contract : SignalContract
        What is asked.
    report : ConformReport
        Filled in.

    Attributes
    ----------
    problems : list of str
        Sentences that each forbid going on.
    """

    def __init__(self, contract: SignalContract, report: ConformReport) -> None:
        self.contract, self.report = contract, report
        self.problems: list[str] = []
        report.contract = contract.name
        report.sfreq_out = float(contract.sfreq)

    def raise_first(self) -> None:
        """Raise ContractError with the first problem, if there is one."""
        if self.problems:
            raise ContractError(self.problems[0])

    # -- channels ------------------------------------------------------------------------------------------------
    def pick_eeg(self, info: mne.Info, keep_bads: bool) -> tuple[list[int], list[tuple[str, str]]]:
        """Return the EEG channels that are not marked bad, and those that are left out with the reason."""
        types = info.get_channel_types()
        picks = [i for i, kind in enumerate(types) if kind == "eeg"]
        dropped = [
            (info["ch_names"][i], f"type {kind}, not EEG")
            for i, kind in enumerate(types)
            if kind not in ("eeg", "stim")
        ]
        if not picks:
            self.problems.append(_no_eeg(Counter(types)))
        bads = [info["ch_names"][i] for i in picks if info["ch_names"][i] in info["bads"]]
        if bads and not keep_bads:
            picks = [i for i in picks if info["ch_names"][i] not in bads]
            dropped += [(name, "marked bad in the recording") for name in bads]
            if not picks:
                self.problems.append("Every EEG channel is marked bad; clear info['bads'] or pass keep_bads=True.")
        elif bads:
            self.report.notes.append(f"Channels marked bad are used because keep_bads=True: {', '.join(bads)}.")
        return picks, dropped

    def map_names(
        self,
        labels: Sequence[str],
        dropped: list[tuple[str, str]],
        *,
        match: str,
        chs: Sequence[dict[str, Any]] | None,
    ) -> ChannelMap | None:
        """Map labels to the vocabulary; ``None`` (and a problem) where that is refused."""
        positions = None if chs is None else positions_from_chs(chs)
        if positions is not None and not np.isfinite(positions).any():
            positions = None
        try:
            found = map_channels(
                list(labels),
                self.contract.vocabulary,
                match=match,
                positions=positions,
                montages=self.contract.montages,
            )
        except ContractError as error:
            self.problems.append(str(error))
            return None
        return replace(found, dropped=(*found.dropped, *dropped))

    def map_channels_of(
        self,
        labels: Sequence[str],
        chosen: np.ndarray,
        dropped: list[tuple[str, str]],
        *,
        match: str,
        chs: Sequence[dict[str, Any]] | None,
    ) -> ChannelMap | None:
        """Map some of the labels."""
        some = None if chs is None else [chs[i] for i in chosen]
        return self.map_names([labels[i] for i in chosen], dropped, match=match, chs=some)

    def reference(self, channel_map: ChannelMap) -> str:
        """Say what becomes of the reference."""
        recorded = f"as recorded ({channel_map.reference})" if channel_map.reference else "as recorded"
        if self.contract.reference != "average":
            return recorded
        if channel_map.montage != "referential":
            return "none: bipolar channels are never re-referenced"
        return f"average of the {channel_map.n} kept channels"

    @property
    def notch_samples(self) -> int:
        """Length of the notch filter at the contract's rate."""
        return int(np.ceil(NOTCH_SECONDS * self.contract.sfreq))

    def restrict(self, found: ChannelMap, ch_names: Sequence[str] | None) -> ChannelMap | None:
        """Keep the channels asked for, in that order."""
        if ch_names is None:
            return found
        if isinstance(ch_names, str):
            raise TypeError("ch_names must be a list of names, got one string.")
        rows = {row.name: row for row in found.rows}
        kept = [rows[name] for name in ch_names if name in rows]
        self.report.missing_channels = [name for name in ch_names if name not in rows]
        if not kept:
            self.problems.append(
                f"None of the {len(ch_names)} channels asked for is in the recording, which has "
                f"{_few(found.names)}; give channels='recording' or another model."
            )
            return None
        if self.report.missing_channels:
            self.report.warnings.append(
                f"{len(self.report.missing_channels)} of {len(ch_names)} channels asked for are not in the recording: "
                f"{_few(self.report.missing_channels)}."
            )
        left = tuple((row.label, "not asked for") for row in found.rows if row.name not in set(ch_names))
        return replace(found, rows=tuple(kept), dropped=(*found.dropped, *left))

    # -- amplitude -----------------------------------------------------------------------------------------------
    def judge_amplitude(self, amplitude: np.ndarray, *, factor: float, vouched: bool, what: str) -> np.ndarray:
        """Judge the unit; return which channels are so large that they are broken."""
        moving = amplitude[amplitude > 0]
        typical = float(np.median(moving)) if moving.size else 0.0
        self.report.amplitude = typical
        refusal, warning = amplitude_problem(typical, factor=factor, vouched=vouched, what=what)
        if refusal is not None:
            self.problems.append(refusal)
            return np.zeros(len(amplitude), dtype=bool)
        if warning is not None:
            self.report.warnings.append(warning)
            return np.zeros(len(amplitude), dtype=bool)
        return amplitude > PLAUSIBLE[1] * _BROKEN_FACTOR

    # -- band ----------------------------------------------------------------------------------------------------
    def design(self, sfreq: float, line_freq: float | None, high_pass: bool = True, notch: bool = True) -> FilterChain:
        """Design the filters and say what they do."""
        contract, report = self.contract, self.report
        report.sfreq_in, report.sfreq_out = float(sfreq), float(contract.sfreq)
        wanted = []
        if notch and contract.notch and line_freq:
            wanted = [line_freq * k for k in range(1, int(contract.sfreq / 2 / line_freq) + 1)]
        chain = design_chain(
            sfreq,
            contract.sfreq,
            l_freq=contract.l_freq if high_pass else None,
            h_freq=contract.h_freq,
            notch_freqs=[freq for freq in wanted if freq < contract.sfreq / 2],
        )
        if chain.up == chain.down:
            report.resampling = f"{sfreq:g} Hz, not resampled"
        else:
            report.resampling = f"{sfreq:g} Hz resampled to {contract.sfreq:g} Hz ({chain.up}/{chain.down})"
        if abs(chain.ratio_ppm) > 1e-3:
            report.resampling += f", {chain.ratio_ppm:+.3g} ppm off the exact ratio"
        if chain.pass_edge is not None:
            report.low_pass = f"{chain.pass_edge:g} Hz (gone at {chain.stop_edge:g} Hz)"
        if contract.h_freq is not None and sfreq / 2 <= contract.h_freq:
            report.warnings.append(
                f"The recording is sampled at {sfreq:g} Hz, so content above {sfreq / 2:g} Hz is missing; "
                f"{contract.name} was trained up to {contract.h_freq:g} Hz."
            )
        if chain.l_freq is not None:
            report.high_pass = f"{chain.l_freq:g} Hz"
        return chain

    def source_band(self, info: mne.Info) -> None:
        """Warn where the recording itself was filtered more narrowly than the contract."""
        contract, report = self.contract, self.report
        low, high = float(info["lowpass"] or np.inf), float(info["highpass"] or 0.0)
        if contract.h_freq is not None and low < contract.h_freq and low < info["sfreq"] / 2:
            report.warnings.append(
                f"The recording was low-passed at {low:g} Hz, so content above {low:g} Hz is missing; "
                f"{contract.name} was trained up to {contract.h_freq:g} Hz."
            )
        if contract.l_freq is not None and high > contract.l_freq:
            report.warnings.append(
                f"The recording was high-passed at {high:g} Hz, so content below {high:g} Hz is missing."
            )

    def find_line_freq(self, line_freq: float | None, info_line: float | None, probe: Probe) -> float | None:
        """Return the mains frequency and say where it comes from."""
        report = self.report
        if not self.contract.notch:
            report.notch = "none asked for"
            return None
        if line_freq is not None:
            report.line_freq = float(line_freq) or None
            how = "given by line_freq"
        elif info_line:
            report.line_freq = float(info_line)
            how = "from info['line_freq']"
        else:
            report.line_freq = detect_line_freq(probe.segments, probe.sfreq)
            how = "found in the spectrum"
        if report.line_freq is None:
            report.notch = "none" + (
                ", as line_freq=0 asks"
                if line_freq is not None
                else ": neither line_freq nor info['line_freq'] is set and no peak stands out at 50 or 60 Hz"
            )
        else:
            report.notch = f"{report.line_freq:g} Hz, {how}"
        return report.line_freq

    def too_short(self, n_times: int, what: str = "The recording") -> None:
        """Refuse what is shorter than one patch."""
        contract = self.contract
        if n_times < contract.patch_samples:
            self.problems.append(
                f"{what} lasts {n_times / contract.sfreq:.3g} s and one patch of {contract.name} is "
                f"{contract.patch_seconds:g} s; give a longer one."
            )


def describe_source(inst: Any) -> str:
    """Return the file name of an MNE object, or what it is."""
    names = getattr(inst, "filenames", None) or [getattr(inst, "filename", None)]
    names = [Path(name).name for name in names if name is not None]
    return names[0] if names else type(inst).__name__


def check_line_freq(line_freq: float | None) -> None:
    """Raise for a line frequency that is none."""
    if line_freq is None:
        return
    if isinstance(line_freq, bool) or not isinstance(line_freq, (int, float, np.integer, np.floating)):
        raise TypeError(f"line_freq must be a number in Hz, got {type(line_freq).__name__}.")
    if not (line_freq == 0 or 10 <= line_freq <= 100):
        raise ValueError(f"line_freq must be the mains frequency in Hz (50 or 60), or 0 for no notch, got {line_freq}.")


def _no_eeg(types: Counter[str]) -> str:
    if not types:
        return "The recording has no channels; there is nothing to analyse."
    listed = ", ".join(f"{n} {kind}" for kind, n in types.items())
    if any(kind in types for kind in _MAGNETIC):
        return f"The recording is MEG ({listed}) and the model takes scalp EEG; give it the EEG of the session."
    if any(kind in types for kind in _INVASIVE):
        return f"The recording is intracranial ({listed}) and the model takes scalp EEG; give it a scalp recording."
    return (
        f"No channel is marked as EEG ({listed}); mark them with raw.set_channel_types, for example "
        "raw.set_channel_types({'Fz': 'eeg'})."
    )


def _few(names: Sequence[str], n: int = 8) -> str:
    shown = ", ".join(list(names)[:n])
    return shown if len(names) <= n else f"{shown} and {len(names) - n} more"
