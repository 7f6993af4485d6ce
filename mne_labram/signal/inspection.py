"""Look at a recording against a contract: everything that speaks against it, not only the first thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import mne
import numpy as np

from mne_labram.signal.channels import ChannelMap, ChannelRow, map_channels, parse_channel_name, vocabulary_rows
from mne_labram.signal.contract import ContractError, SignalContract
from mne_labram.signal.filtering import FilterChain, design_chain
from mne_labram.signal.positions import positions_from_chs
from mne_labram.signal.probe import Probe, detect_line_freq
from mne_labram.signal.quality import QualityThresholds
from mne_labram.signal.report import ConformReport
from mne_labram.signal.units import PLAUSIBLE, amplitude_problem
from mne_labram.signal.vocabulary import CHANNEL_ALIASES

__all__ = ["BROKEN", "FLAT", "Inspector", "check_line_freq", "no_usable_second"]

#: A channel this many times above what a recording may have is broken or in another unit than the rest.
_BROKEN_FACTOR = 10.0
#: Why channels are dropped for what they hold.
FLAT, BROKEN = "flat or missing throughout", "median amplitude above 10 mV, which no EEG has"
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
    unit_refused : bool
        Whether one of them is about the unit.
    """

    def __init__(self, contract: SignalContract, report: ConformReport) -> None:
        if not isinstance(contract, SignalContract):
            raise TypeError(f"contract must be a SignalContract, got {type(contract).__name__}.")
        self.contract, self.report = contract, report
        self.problems: list[str] = []
        self.unit_refused = False
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
            (info["ch_names"][i], f"marked as {kind}, not EEG")
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

    def restrict(self, found: ChannelMap, ch_names: Sequence[str] | None) -> ChannelMap | None:
        """Keep the channels asked for, in that order; by the other name of an electrode where its own is absent."""
        if ch_names is None:
            return found
        if isinstance(ch_names, str):
            raise TypeError("ch_names must be a list of names, got one string.")
        wanted = [parse_channel_name(name).name for name in ch_names]
        rows = {row.name: row for row in found.rows}
        kept: dict[str, ChannelRow] = {}
        for name in wanted:
            same = next((other for other in _same_electrodes(name) if other in rows), None)
            if name in rows:
                kept[name] = rows[name]
            elif same is not None and same not in wanted:
                row = None if found.vocabulary is None else vocabulary_rows([name], found.vocabulary)[0]
                kept[name] = replace(rows[same], name=name, row=row, how="alias")
        self.report.missing_channels = [name for name in wanted if name not in kept]
        if not kept:
            self.problems.append(
                f"None of the {len(wanted)} channels asked for ({_few(wanted)}) is in the recording, which has "
                f"{_few(found.names)}; ask for others, or use a model that was trained on these."
            )
            return None
        if self.report.missing_channels:
            self.report.warnings.append(
                f"{len(self.report.missing_channels)} of {len(wanted)} channels asked for are not in the recording: "
                f"{_few(self.report.missing_channels)}."
            )
        used = {row.label for row in kept.values()}
        left = tuple((row.label, "not asked for") for row in found.rows if row.label not in used)
        return replace(found, rows=tuple(kept.values()), dropped=(*found.dropped, *left))

    # -- amplitude -----------------------------------------------------------------------------------------------
    def judge_amplitude(
        self, amplitude: np.ndarray, *, factor: float, vouched: bool, what: str = "The recording", hint: str = ""
    ) -> np.ndarray:
        """Judge the unit; return which channels are so large that they are broken."""
        moving = amplitude[amplitude > 0]
        typical = float(np.median(moving)) if moving.size else 0.0
        self.report.amplitude = typical
        refusal, warning = amplitude_problem(typical, factor=factor, vouched=vouched, what=what, hint=hint)
        if refusal is not None:
            self.problems.append(refusal)
            self.unit_refused = True
            return np.zeros(len(amplitude), dtype=bool)
        if warning is not None:
            self.report.warnings.append(warning)
        return amplitude > max(PLAUSIBLE[1], typical) * _BROKEN_FACTOR

    def all_flat(self, n_channels: int, thresholds: QualityThresholds) -> str:
        """Say that there is nothing but flat channels."""
        which = "The only EEG channel is" if n_channels == 1 else f"All {n_channels} EEG channels are"
        return (
            f"{which} flat (less than {thresholds.flat_uv:g} µV peak to peak for seconds) or missing throughout; check "
            "the electrodes or the export."
        )

    def rate_is_possible(self, sfreq: float) -> bool:
        """Refuse a rate that cannot hold anything of the contract's band."""
        lowest = 2 * (self.contract.l_freq or 0.0)
        if sfreq > lowest:
            return True
        self.problems.append(
            f"The sampling rate is {sfreq:g} Hz and {self.contract.name} needs more than {lowest:g} Hz; check the file."
        )
        return False

    # -- band ----------------------------------------------------------------------------------------------------
    def design(self, sfreq: float, line_freq: float | None, high_pass: bool = True) -> FilterChain:
        """Design the filters and say what they do."""
        contract, report = self.contract, self.report
        report.sfreq_in, report.sfreq_out = float(sfreq), float(contract.sfreq)
        nyquist = contract.sfreq / 2
        wanted = [line_freq * k for k in range(1, int(np.ceil(nyquist / line_freq)))] if line_freq else []
        chain = design_chain(
            sfreq,
            contract.sfreq,
            l_freq=contract.l_freq if high_pass else None,
            h_freq=contract.h_freq,
            notch_freqs=wanted if contract.notch else (),
        )
        if chain.up == chain.down:
            report.resampling = f"{sfreq:g} Hz, not resampled"
        else:
            report.resampling = f"{sfreq:g} Hz resampled to {contract.sfreq:g} Hz ({chain.up}/{chain.down})"
        if abs(chain.ratio_ppm) >= 1e-3:
            report.resampling += f", {chain.ratio_ppm:+.2g} ppm off the exact ratio"
        if chain.pass_edge is not None:
            report.low_pass = f"{chain.pass_edge:g} Hz (gone at {chain.stop_edge:g} Hz)"
        if contract.notch and line_freq and not chain.notch_freqs:
            report.notch = f"none needed: {line_freq:g} Hz lies above the low-pass"
        report.high_pass = "" if chain.l_freq is None else f"{chain.l_freq:g} Hz"
        return chain

    def band_warnings(self, highpass: float | None, lowpass: float | None, sfreq: float) -> None:
        """Warn where the recording holds less than the contract's band."""
        contract, report = self.contract, self.report
        low, high = float(lowpass or np.inf), float(highpass or 0.0)
        if contract.h_freq is not None and min(low, sfreq / 2) < contract.h_freq:
            if low < sfreq / 2:
                why, edge = f"was low-passed at {low:g} Hz", low
            else:
                why, edge = f"is sampled at {sfreq:g} Hz", sfreq / 2
            report.warnings.append(
                f"The recording {why}, so content above {edge:g} Hz is missing; {contract.name} was trained up to "
                f"{contract.h_freq:g} Hz."
            )
        if contract.l_freq is not None and high > contract.l_freq:
            report.warnings.append(
                f"The recording was high-passed at {high:g} Hz, so content below {high:g} Hz is missing; "
                f"{contract.name} was trained from {contract.l_freq:g} Hz."
            )

    def projections(self, info: mne.Info) -> None:
        """Say what became of projections."""
        idle = sum(not proj["active"] for proj in info["projs"])
        if idle:
            self.report.warnings.append(
                f"{idle} projection{'s' if idle > 1 else ''} of the recording (SSP or an average reference) "
                f"{'were' if idle > 1 else 'was'} not applied; call apply_proj() first to have "
                f"{'them' if idle > 1 else 'it'}."
            )
        active = len(info["projs"]) - idle
        if active:
            self.report.notes.append(f"{active} projection{'s' if active > 1 else ''} had been applied before.")

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
        if report.line_freq is not None:
            report.notch = f"{report.line_freq:g} Hz, {how}"
        elif line_freq is not None:
            report.notch = "none, as line_freq=0 asks"
        else:
            report.notch = "none: line_freq is not given and no peak stands out at 50 or 60 Hz"
        return report.line_freq

    def too_short(self, n_times: int, what: str = "The recording") -> None:
        """Refuse what is shorter than one patch."""
        contract = self.contract
        if n_times < contract.patch_samples:
            self.problems.append(
                f"{what} lasts {n_times / contract.sfreq:.3g} s and one patch of {contract.name} is "
                f"{contract.patch_seconds:g} s; give a longer one."
            )


def no_usable_second(report: ConformReport) -> str:
    """Say that nothing can be analysed."""
    unit = "second" if report.n_epochs is None else "epoch"
    why = ", ".join(f"{n} {reason}" for reason, n in report.reasons.items()) or "too many bad channels"
    return f"No {unit} of {report.source} can be used ({why}); look at the signal, or pass other thresholds."


def check_line_freq(line_freq: float | None) -> None:
    """Raise for a line frequency in Hz that is no country's mains and not 0, which stands for no notch."""
    if line_freq is None:
        return
    if isinstance(line_freq, bool) or not isinstance(line_freq, (int, float, np.integer, np.floating)):
        raise TypeError(f"line_freq must be a number in Hz, got {type(line_freq).__name__}.")
    # Any other value would leave the hum where it is and cut something else.
    if line_freq not in (0, 50, 60):
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


def _same_electrodes(name: str) -> list[str]:
    """Return the other names of a channel: T3 for T7, F8-T8 for F8-T4."""
    ends = [[end, CHANNEL_ALIASES[end]] if end in CHANNEL_ALIASES else [end] for end in name.split("-")]
    return ["-".join(each) for each in product(*ends)][1:]


def _few(names: Sequence[str], n: int = 8) -> str:
    shown = ", ".join(list(names)[:n])
    return shown if len(names) <= n else f"{shown} and {len(names) - n} more"
