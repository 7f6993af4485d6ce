"""What methods find where nothing is: windows of noise alone, of which the right estimate is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mne_labram.benchmark.source import SourceMethod
from mne_labram.benchmark.source_windows import SECONDS, TEST_SEED, ImagingHead
from mne_labram.signal.contract import ContractError
from mne_labram.source.head import SourceModel
from mne_labram.source.metrics import bootstrap_interval
from mne_labram.source.noise import NoiseBank
from mne_labram.source.simulate import SourceSimulator

__all__ = ["SilenceRow", "score_silence", "silence_page"]

# What methods that ask for a signal-to-noise ratio are told: with less, minimum norms would find next to nothing in
# anything.
_TOLD_DB = 0.0


@dataclass(frozen=True)
class SilenceRow:
    """How much of noise a method takes for sources.

    Attributes
    ----------
    method, montage, noise : str
        Which; of the noise its kind.
    known : bool
        Whether the method was told the covariance of the noise.
    shares : list of float
        For each window the energy at the electrodes of what was found, over that of the window.
    """

    method: str
    montage: str
    noise: str
    known: bool
    shares: list[float]


def score_silence(
    head: ImagingHead,
    model: SourceModel,
    methods: Sequence[SourceMethod],
    *,
    n_windows: int = 20,
    noise: Sequence[str] = ("white", "coloured"),
    real_noise: NoiseBank | None = None,
    montage: str = "",
    seed: int = 0,
) -> list[SilenceRow]:
    """Measure what methods find in noise.

    Parameters
    ----------
    head : ImagingHead
        What is imaged with.
    model : SourceModel
        Whose leadfield coloured noise has, of the same channels.
    methods : sequence of SourceMethod
        What is compared; those that return statistics, and not moments, are left out.
    n_windows : int
        Of each kind of noise.
    noise, real_noise
        See :class:`~mne_labram.source.simulate.SourceSimulator`.
    montage : str
        What the electrodes are called.
    seed : int
        Of the noise.

    Returns
    -------
    rows : list of SilenceRow
        Method by method; those that can do without the covariance of the noise also without it.

    Raises
    ------
    ContractError
        If channels differ.
    ValueError
        If there is nothing to draw.
    """
    if model.ch_names != head.model.ch_names:
        raise ContractError("The head has other channels than the one to image with; pick the same from both.")
    drawn = {}
    for kind in noise:
        simulator = SourceSimulator(
            model, sfreq=head.sfreq, seconds=SECONDS, noise=(kind,), real_noise=real_noise, background=0.0,
            channel_dropout=0.0, jitter_mm=0.0, seed=TEST_SEED + seed,
        )  # fmt: skip
        drawn[kind] = simulator.draw(n_windows, np.random.default_rng((TEST_SEED, seed)), n_sources=0)
    rows = []
    for method in methods:
        if not method.moments:
            continue
        estimator = method.make(head, _TOLD_DB)
        for known in (True, False):
            if not known and method.needs_noise:
                continue
            for kind, batch in drawn.items():
                shares = []
                for x, covariance in zip(batch.x.astype(float), batch.noise_covariance.astype(float), strict=True):
                    found = head.model.averaged @ estimator.estimate(x, covariance if known else None)
                    shares.append(float(np.square(found).sum() / np.square(x).sum()))
                rows.append(SilenceRow(method.name, montage, kind, known, shares))
    return rows


def silence_page(rows: Sequence[SilenceRow]) -> str:
    """Write what was measured in Markdown.

    Parameters
    ----------
    rows : sequence of SilenceRow
        From :func:`score_silence`.

    Returns
    -------
    page : str
        A table.
    """
    kinds, montages = list(dict.fromkeys(row.noise for row in rows)), list(dict.fromkeys(row.montage for row in rows))
    columns = [(montage, kind) for montage in montages for kind in kinds]
    lines = [
        "## Nothing but noise",
        "",
        "Energy at the electrodes of what is found, over that of the window, mean with 95 % interval; none is right. "
        "Minimum norms are told 0 dB.",
        "",
        f"| method | covariance of the noise | {' | '.join(f'{montage}, {kind}' for montage, kind in columns)} |",
        f"|---|---{'|---' * len(columns)}|",
    ]
    for method, known in dict.fromkeys((row.method, row.known) for row in rows):
        found = {(row.montage, row.noise): row for row in rows if (row.method, row.known) == (method, known)}
        cells = []
        for column in columns:
            mean, low, high = bootstrap_interval(found[column].shares) if column in found else (np.nan,) * 3
            cells.append(f"{mean:.1%} [{low:.1%}, {high:.1%}]" if np.isfinite(mean) else "-")
        lines.append(f"| {method} | {'known' if known else 'not known'} | {' | '.join(cells)} |")
    return "\n".join(lines)
