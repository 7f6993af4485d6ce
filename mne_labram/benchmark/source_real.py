"""Recordings of people of whom one knows where their activity comes from: a resection, and a stimulated side.

A patient of DeepSIF's authors (``deepsif_ictal/P2``), of whom is known what was taken out, through
the head that they publish; and MNE's sample subject (``mne_sample_evoked``), whose ears and visual fields are seen by
the other hemisphere.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mne
import numpy as np
import scipy

from mne_labram.benchmark.source import SourceMethod
from mne_labram.benchmark.source_windows import ImagingHead
from mne_labram.signal.contract import ContractError
from mne_labram.source.deepsif import deepsif_model
from mne_labram.source.head import SourceModel, source_model
from mne_labram.source.headmodel import default_forward
from mne_labram.source.metrics import source_amplitude
from mne_labram.source.warp import warped_cortex

__all__ = [
    "IctalRow",
    "Resection",
    "SideRow",
    "deepsif_patient",
    "ictal_energy",
    "real_page",
    "sample_heads",
    "score_ictal",
    "score_resection",
    "score_sides",
]

#: What ``shared/reference/baselines.md`` measured with: MNE's usual 1 / SNR² for averages, SNR 3.
SNR_DB = 10 * np.log10(9.0)
#: Seconds after the stimulus in which the first cortical responses fall.
RESPONSE = (0.075, 0.130)
# The published segments are scaled to one; a scalp EEG of a seizure is about this large, µV.
_ICTAL_UV = 100.0
_SEGMENTS = ("data1.mat", "data2.mat", "data3.mat")
_ICTAL_SFREQ = 500.0
_CONDITIONS = ("Left Auditory", "Right Auditory", "Left visual", "Right visual")


@dataclass(frozen=True, eq=False)
class Resection:
    """A patient.

    Attributes
    ----------
    segments : list of ndarray, shape (n_channels, n_times)
        Ictal EEG, average reference, scaled to 100 µV at most.
    head : ImagingHead
        The template that DeepSIF's authors publish.
    positions : ndarray, shape (n_sources, 3)
        Mean of each source's region, metres.
    inside : ndarray of bool, shape (n_sources,)
        Regions that were resected.
    """

    segments: list[np.ndarray]
    head: ImagingHead
    positions: np.ndarray
    inside: np.ndarray


@dataclass(frozen=True)
class IctalRow:
    """Where a method finds the energy of seizures, all segments together.

    Attributes
    ----------
    method : str
        Which.
    center_of_mass_mm : float
        From the middle of all energy to the nearest resected region.
    spread_mm : float
        Root mean square distance of energy from the nearest resected region.
    inside : float
        Share of the energy in resected regions.
    inside_above_half : float
        The same of the regions that have at least half of the largest energy.
    """

    method: str
    center_of_mass_mm: float
    spread_mm: float
    inside: float
    inside_above_half: float


@dataclass(frozen=True)
class SideRow:
    """Share of the energy, 75 to 130 ms after the stimulus, in the hemisphere on the other side of it.

    Attributes
    ----------
    method, head : str
        Which.
    shares : dict of float
        For each condition of the recording.
    """

    method: str
    head: str
    shares: dict[str, float]


def deepsif_patient(
    data: str | os.PathLike[str], patient: str = "P2", *, cache: str | os.PathLike[str] | bool | None = None
) -> Resection:
    """Read a patient of DeepSIF's authors.

    Parameters
    ----------
    data : path-like
        ``../shared/data``.
    patient : str
        Which.
    cache : path-like | bool | None
        See :func:`~mne_labram.source.headmodel.default_forward`.

    Returns
    -------
    patient : Resection
        Resected regions are taken by their numbers, which count from 0; the coordinates in the same file lie 38 mm off
        the cortex (``shared/reference/baselines.md``, trap 5).

    Raises
    ------
    FileNotFoundError
        If the recordings are absent.
    """
    folder = Path(data) / "deepsif_ictal"
    files = [folder / patient / "sz_data" / name for name in _SEGMENTS]
    resection = folder / patient / "anatomy" / "projected_resection_to_fs_cortex.mat"
    for file in (*files, resection):
        if not file.is_file():
            raise FileNotFoundError(f"{file} is absent; give the folder that holds deepsif_ictal.")
    anatomy = folder / "anatomy"
    model, regions = deepsif_model(anatomy)
    region = scipy.io.loadmat(anatomy / "fs_cortex_20k_region_mapping.mat")["rm"].ravel()
    places = scipy.io.loadmat(anatomy / "fs_cortex_20k.mat")["pos"] / 1000
    positions = np.array([places[region == each].mean(axis=0) for each in regions])
    inside = np.isin(regions, scipy.io.loadmat(resection)["resection_region"])
    segments = []
    for file in files:
        x = np.asarray(scipy.io.loadmat(file)["data"], dtype=float).T
        # As DeepSIF's loaders: no mean over time, none over channels.
        x = x - x.mean(axis=1, keepdims=True)
        x -= x.mean(axis=0)
        segments.append(x * (_ICTAL_UV / np.abs(x).max()))
    return Resection(segments, ImagingHead(model, _forward_of(model, cache), _ICTAL_SFREQ), positions, inside)


def _forward_of(model: SourceModel, cache: Any) -> mne.Forward:
    """Put DeepSIF's leadfield into a forward of MNE's, whose fsaverage5 has the same vertices."""
    info = mne.create_info(model.ch_names, _ICTAL_SFREQ, "eeg")
    for ch, position in zip(info["chs"], model.electrodes, strict=True):
        ch["loc"][:3], ch["loc"][3:], ch["coord_frame"] = position, 0.0, 4
    fwd = default_forward(info, spacing="ico5", cache=cache)
    there = mne.SourceEstimate(np.zeros((model.n_sources, 1)), model.vertices, 0.0, 1.0)
    fwd = mne.forward.restrict_forward_to_stc(fwd, there)
    fwd["sol"]["data"] = 1e3 * np.array(model.leadfield)
    return fwd


def ictal_energy(patient: Resection, method: SourceMethod) -> np.ndarray:
    """Add up the energy of all segments.

    Parameters
    ----------
    patient : Resection
        Who.
    method : SourceMethod
        What estimates.

    Returns
    -------
    energy : ndarray, shape (n_sources,)
        Adds up to 1; segments count alike.

    Notes
    -----
    The segments are nearly free of noise. Methods that need to be told are told of white noise of a ninth of the power:
    the SNR of 3 that the regularisation of the baselines stands for. Networks estimate it, as for a user who has none.
    """
    estimator = method.make(patient.head, float(SNR_DB))
    total = np.zeros(patient.head.model.n_sources)
    for x in patient.segments:
        n_channels = len(x)
        white = (np.eye(n_channels) - 1 / n_channels) * (x**2).mean() / 9
        found = estimator.estimate(x, white if method.needs_noise else None)
        total += (source_amplitude(found) / np.sqrt((x**2).mean())) ** 2
    return total / total.sum() if total.any() else np.full(len(total), 1 / len(total))


def score_resection(energy: np.ndarray, patient: Resection, method: str = "") -> IctalRow:
    """Compare where energy is with what was resected.

    Parameters
    ----------
    energy : ndarray, shape (n_sources,)
        From :func:`ictal_energy`.
    patient : Resection
        Who.
    method : str
        Name of the row.

    Returns
    -------
    row : IctalRow
        What was measured.

    Raises
    ------
    ContractError
        If there is not one energy for each region.
    """
    if energy.shape != patient.inside.shape:
        raise ContractError(f"There are {len(patient.inside)} regions, and energies of the shape {energy.shape}.")
    share = energy / energy.sum()
    resected = scipy.spatial.cKDTree(patient.positions[patient.inside])
    high = share >= 0.5 * share.max()
    return IctalRow(
        method,
        1e3 * float(resected.query(share @ patient.positions)[0]),
        1e3 * float(np.sqrt(share @ resected.query(patient.positions)[0] ** 2)),
        float(share[patient.inside].sum()),
        float(share[patient.inside & high].sum() / share[high].sum()),
    )


def score_ictal(patient: Resection, methods: Sequence[SourceMethod]) -> list[IctalRow]:
    """Measure methods on a patient.

    Parameters
    ----------
    patient : Resection
        From :func:`deepsif_patient`.
    methods : sequence of SourceMethod
        What is compared.

    Returns
    -------
    rows : list of IctalRow
        One for each, and one of all energy alike in all resected regions: its middle lies off them, as they are bent.
    """
    rows = [score_resection(ictal_energy(patient, method), patient, method.name) for method in methods]
    return [*rows, score_resection(patient.inside / patient.inside.sum(), patient, "the resection itself")]


def sample_heads(
    data: str | os.PathLike[str], *, cache: str | os.PathLike[str] | bool | None = None
) -> tuple[dict[str, ImagingHead], list[mne.Evoked], np.ndarray]:
    """Read MNE's sample subject.

    Parameters
    ----------
    data : path-like
        ``../shared/data``.
    cache : path-like | bool | None
        See :func:`~mne_labram.source.headmodel.default_forward`.

    Returns
    -------
    heads : dict of ImagingHead
        Its own skull with the template's cortex fitted into it, and the template.
    evokeds : list of mne.Evoked
        EEG after sounds and images left and right, 100 Hz, average reference, 0 to 0.3 s.
    noise_covariance : ndarray, shape (n_channels, n_channels)
        Of single epochs, µV², average reference.

    Raises
    ------
    FileNotFoundError
        If the recordings are absent.
    """
    folder = Path(data) / "mne_sample_evoked"
    if not (folder / "test-ave.fif.gz").is_file():
        raise FileNotFoundError(
            f"{folder / 'test-ave.fif.gz'} is absent; give the folder that holds mne_sample_evoked."
        )
    with mne.utils.use_log_level("error"):
        evokeds = mne.read_evokeds(folder / "test-ave.fif.gz", condition=list(_CONDITIONS), baseline=(None, 0))
        evokeds = [evoked.pick("eeg", exclude="bads").set_eeg_reference(projection=False) for evoked in evokeds]
        info = evokeds[0].info
        covariance = mne.read_cov(folder / "test-cov.fif").pick_channels(info["ch_names"], ordered=True)
        full = np.diag(covariance["data"]) if covariance["diag"] else covariance["data"]
        centring = np.eye(len(full)) - 1 / len(full)
        bem = mne.read_bem_solution(folder / "sample-320-320-320-bem-sol.fif")
        trans = mne.read_trans(folder / "sample_audvis_trunc-trans.fif")
        own = mne.make_forward_solution(info, trans, warped_cortex(bem, trans, cache=cache), bem, meg=False)
        template = default_forward(info, cache=cache)
        forwards = {"own skull, template's cortex": own, "template": template}
        heads = {}
        for name, fwd in forwards.items():
            free = mne.convert_forward_solution(fwd, surf_ori=True, force_fixed=False)
            heads[name] = ImagingHead(source_model(fwd, info["ch_names"]), free)
        evokeds = [evoked.resample(heads["template"].sfreq).crop(0.0, 0.3) for evoked in evokeds]
    return heads, evokeds, 1e12 * centring @ full @ centring


def score_sides(
    heads: dict[str, ImagingHead],
    evokeds: Sequence[mne.Evoked],
    noise_covariance: np.ndarray,
    methods: Sequence[SourceMethod],
) -> list[SideRow]:
    """Measure on which side methods find responses.

    Parameters
    ----------
    heads, evokeds, noise_covariance
        From :func:`sample_heads`.
    methods : sequence of SourceMethod
        What is compared.

    Returns
    -------
    rows : list of SideRow
        Head by head; half is chance.
    """
    rows = []
    for name, head in heads.items():
        n_left = len(head.model.vertices[0])
        for method in methods:
            estimator = method.make(head, float(SNR_DB))
            shares = {}
            for evoked in evokeds:
                # An average of n epochs has an n-th of their noise.
                found = estimator.estimate(1e6 * evoked.data, noise_covariance / evoked.nave)
                during = (evoked.times >= RESPONSE[0]) & (evoked.times <= RESPONSE[1])
                energy = source_amplitude(found[:, during]) ** 2
                left = energy[:n_left].sum() / energy.sum() if energy.any() else 0.5
                shares[evoked.comment] = float(left if evoked.comment.startswith("Right") else 1 - left)
            rows.append(SideRow(method.name, name, shares))
    return rows


def real_page(ictal: Sequence[IctalRow], sides: Sequence[SideRow]) -> str:
    """Write what was measured in Markdown.

    Parameters
    ----------
    ictal : sequence of IctalRow
        From :func:`score_ictal`.
    sides : sequence of SideRow
        From :func:`score_sides`.

    Returns
    -------
    page : str
        A table of each.
    """
    parts = []
    if ictal:
        lines = [
            "## A patient whose seizures stopped (DeepSIF P2, three segments, DeepSIF's head)",
            "",
            "| method | centre of mass to resection, mm | spread about it, mm | energy inside | above half |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {row.method} | {row.center_of_mass_mm:.1f} | {row.spread_mm:.1f} | {100 * row.inside:.0f} % | "
            f"{100 * row.inside_above_half:.0f} % |"
            for row in ictal
        ]
        parts.append("\n".join(lines))
    if sides:
        names = list(sides[0].shares)
        lines = [
            "## Energy on the other side of the stimulus (MNE's sample subject, 60 channels, 75-130 ms)",
            "",
            f"| method | head | {' | '.join(names)} | mean |",
            f"|---|---|{'---|' * len(names)}---|",
        ]
        lines += [
            f"| {row.method} | {row.head} | {' | '.join(f'{100 * row.shares[name]:.0f} %' for name in names)} | "
            f"{100 * np.mean(list(row.shares.values())):.0f} % |"
            for row in sides
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
