"""What would happen to a recording, without a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mne
from mne.utils import verbose

from mne_labram.signal.conform_epochs import inspect_epochs
from mne_labram.signal.contract import LABRAM_CONTRACT, ContractError, SignalContract
from mne_labram.signal.inspection import no_usable_second
from mne_labram.signal.opening import describe_source, open_recording
from mne_labram.signal.quality import QualityThresholds
from mne_labram.signal.raw_plan import inspect_raw
from mne_labram.signal.report import ConformReport
from mne_labram.signal.windows import window_length

__all__ = ["CheckReport", "check"]


@dataclass
class CheckReport:
    """What :func:`check` found.

    Attributes
    ----------
    ok : bool
        Whether the recording can be analysed.
    problems : list of str
        Why not, one sentence each with what to do.
    report : ConformReport
        Everything else.
    """

    report: ConformReport
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the recording can be analysed."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"ok": self.ok, "problems": list(self.problems), **self.report.to_dict()}

    def __str__(self) -> str:
        verdict = "can be analysed" if self.ok else "cannot be analysed"
        lines = [f"{self.report.source or 'The recording'} {verdict}."]
        lines += [f"  ✗ {problem}" for problem in self.problems]
        return "\n".join([*lines, "", str(self.report)]) if self.report.n_seconds else "\n".join(lines)


@verbose
def check(
    inst: mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked | str | os.PathLike[str],
    contract: SignalContract = LABRAM_CONTRACT,
    *,
    match: str = "name",
    assume_unit: str | None = None,
    line_freq: float | None = None,
    gaps: str = "raise",
    ch_names: Sequence[str] | None = None,
    keep_bads: bool = False,
    reject_by_annotation: bool = True,
    thresholds: QualityThresholds | None = None,
    print_report: bool = True,
    verbose: bool | str | int | None = None,
) -> CheckReport:
    """Say what would become of a recording, and what to do where it would be refused.

    Parameters
    ----------
    inst : mne.io.Raw | mne.Epochs | mne.Evoked | path-like
        The recording. Never modified.
    contract, match, assume_unit, line_freq, gaps, ch_names, keep_bads, reject_by_annotation, thresholds
        See :func:`mne_labram.conform`.
    print_report : bool
        Print what was found.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    report : CheckReport
        A bad recording does not raise; ``report.ok`` is False and ``report.problems`` says why.

    Raises
    ------
    TypeError, ValueError
        If an argument makes no sense.
    """
    common = {
        "match": match,
        "assume_unit": assume_unit,
        "line_freq": line_freq,
        "ch_names": ch_names,
        "keep_bads": keep_bads,
        "thresholds": thresholds,
    }
    notes: list[str] = []
    name = describe_source(inst)
    try:
        inst = open_recording(inst, notes=notes)
    except ContractError as error:
        result = CheckReport(ConformReport(source=name, contract=contract.name), [str(error)])
    else:
        if isinstance(inst, mne.io.BaseRaw):
            plan, inspector = inspect_raw(
                inst,
                contract,
                gaps=gaps,
                reject_by_annotation=reject_by_annotation,
                reading_notes=notes,
                name=name,
                **common,
            )
            if plan is not None and not inspector.problems:
                try:
                    plan.judge()
                except ContractError as error:
                    inspector.problems.append(str(error))
        else:
            data, inspector, _ = inspect_epochs(inst, contract, reading_notes=notes, name=name, **common)
            if data is not None and not inspector.problems:
                try:
                    window_length(contract, data.shape[-1], data.shape[-1])
                except ContractError as error:
                    inspector.problems.append(str(error))
        report = inspector.report
        inspector.problems = list(dict.fromkeys(inspector.problems))
        if not inspector.problems and len(report.unusable) and report.unusable.all():
            inspector.problems.append(no_usable_second(report))
        result = CheckReport(report, inspector.problems)
    if print_report:
        print(result)  # noqa: T201
    return result
