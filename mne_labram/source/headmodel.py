"""A head for recordings without an MRI: the template's, for any electrodes, without network."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mne
import numpy as np
import scipy
from mne.transforms import apply_trans, invert_transform
from mne.utils import logger, verbose
from scipy.spatial.transform import Rotation

from mne_labram.signal.alignment import align_to_template
from mne_labram.signal.contract import ContractError
from mne_labram.signal.positions import positions_from_chs
from mne_labram.signal.template import template_positions
from mne_labram.source.cache import content_key, kept, open_cache
from mne_labram.source.deep_points import deep_source_spaces
from mne_labram.source.head import MIN_CHANNELS
from mne_labram.source.scalp import scalp_channels
from mne_labram.source.surfaces import head_surfaces, template_file

__all__ = [
    "bem_key",
    "cortex_key",
    "default_forward",
    "electrodes_on_template",
    "perturbed_forward",
    "template_cortex",
]

#: Conductivity of brain, skull and scalp in S/m, MNE's default for three layers.
CONDUCTIVITY = (0.3, 0.006, 0.3)
# Counts up when what follows would come out differently, so that older files are not taken for it.
_RECIPE = 1
_SUBJECT = "fsaverage"
#: FIFFV_COORD_HEAD.
_HEAD = 4
# Electrodes that are so near to the template's by name were put there by a montage, metres.
_ON_TEMPLATE = 0.001
# No electrode of an EEG is so far from the skin, metres.
_OFF_SCALP = 0.04
# fsaverage5 is an icosahedron five times subdivided.
_SPACINGS = re.compile(r"(ico[1-5]|oct[1-6])")


def _check_settings(spacing: str, conductivity: Sequence[float], bem_ico: int) -> tuple[float, float, float]:
    if not (isinstance(spacing, str) and _SPACINGS.fullmatch(spacing)):
        raise ValueError(f"spacing must be 'ico1' to 'ico5' or 'oct1' to 'oct6', got {spacing!r}.")
    if bem_ico not in (2, 3, 4):
        raise ValueError(f"bem_ico must be 2, 3 or 4, got {bem_ico!r}.")
    values = tuple(float(value) for value in np.ravel(conductivity))
    if len(values) != 3 or not all(np.isfinite(value) and value > 0 for value in values):
        raise ValueError(f"conductivity must be three positive numbers (brain, skull, scalp), got {conductivity!r}.")
    return values


def electrodes_on_template(info: mne.Info) -> tuple[list[str], np.ndarray]:
    """Return where the EEG electrodes of a recording are on the template's head.

    Parameters
    ----------
    info : mne.Info
        With EEG channels, bad ones included.

    Returns
    -------
    ch_names : list of str
        The electrodes on the scalp (:func:`~mne_labram.source.scalp.scalp_channels`).
    positions : ndarray, shape (n_channels, 3)
        Metres, head frame of the template.

    Raises
    ------
    ContractError
        If there are fewer than eight EEG channels, if one is bipolar, or if nothing tells where one is.

    Notes
    -----
    Positions of the recording come first, brought onto the template's head by
    :func:`~mne_labram.signal.alignment.align_to_template` unless a montage put them there; channels without one are
    where the 10-05 system has their name.
    """
    if not isinstance(info, mne.Info):
        raise TypeError(f"info must be an mne.Info, got {type(info).__name__}; pass raw.info.")
    picks, parsed = scalp_channels(info, bads=True)
    names = [info["ch_names"][pick] for pick in picks]
    if len(names) < MIN_CHANNELS:
        raise ContractError(
            f"Source imaging needs at least {MIN_CHANNELS} EEG channels and there are {len(names)}; "
            "set the channel types or use a recording with more electrodes."
        )
    chs = [info["chs"][pick] for pick in picks]
    table = template_positions()
    by_name = np.array([table.get(label.anode or "", np.full(3, np.nan)) for label in parsed])
    recorded = positions_from_chs(chs)
    with np.errstate(invalid="ignore"):
        off = np.linalg.norm(recorded - by_name, axis=1)
    known = np.isfinite(recorded).all(axis=1)
    named = known & np.isfinite(by_name).all(axis=1)
    # A montage of MNE's puts names where the template has them, to the last digit.
    if known.any() and not (named.any() and (off[named] < _ON_TEMPLATE).all()):
        recorded = align_to_template(recorded)
    positions = np.where(known[:, None], recorded, by_name)
    unknown = [name for name, ok in zip(names, np.isfinite(positions).all(axis=1), strict=True) if not ok]
    if unknown:
        raise ContractError(
            f"Nothing tells where the EEG channel {unknown[0]!r} is (one of {len(unknown)}); "
            "set a montage, or the channel's type if it is no EEG."
        )
    return names, positions


def _info_of(names: Sequence[str], positions: np.ndarray) -> mne.Info:
    info = mne.create_info(list(names), 1000.0, "eeg", verbose="ERROR")
    for ch, position in zip(info["chs"], positions, strict=True):
        ch["loc"][:3], ch["loc"][3:] = position, 0.0
        ch["coord_frame"] = _HEAD
    return info


@functools.lru_cache(maxsize=1)
def _template_content() -> list[bytes]:
    """Everything that the template's head is made from."""
    names = ("fsaverage-inner_skull-bem.fif", "fsaverage-head.fif", "fsaverage-trans.fif")
    return [template_file(name).read_bytes() for name in names]


def bem_key(conductivity: Sequence[float], bem_ico: int) -> str:
    """Name the boundary element model of the template's head in the cache.

    Parameters
    ----------
    conductivity : sequence of float
        Of brain, skull and scalp in S/m.
    bem_ico : int
        How fine the surfaces are.

    Returns
    -------
    key : str
        Another one whenever anything that it is computed from is another.
    """
    return content_key(
        recipe=_RECIPE, mne=mne.__version__, head=_template_content(), sigma=list(conductivity), ico=bem_ico
    )


def cortex_key(spacing: str) -> str:
    """Name the sources on the template's cortex in the cache.

    Parameters
    ----------
    spacing : str
        As MNE has it, ``"ico3"``.

    Returns
    -------
    key : str
        Another one whenever anything that they are computed from is another.
    """
    return content_key(
        recipe=_RECIPE, mne=mne.__version__, nilearn=importlib.metadata.version("nilearn"), spacing=spacing
    )


def _make_bem(conductivity: Sequence[float], bem_ico: int) -> mne.bem.ConductorModel:
    surfaces = head_surfaces(bem_ico)
    n_nodes = 3 * len(surfaces.directions)
    logger.info(
        f"Solving the boundary element model of the template's head: {n_nodes} nodes. Brain and scalp are those of "
        "fsaverage, the outer skull is made up between them."
    )
    with tempfile.TemporaryDirectory(prefix="mne-labram-") as folder:
        bem = Path(folder) / _SUBJECT / "bem"
        bem.mkdir(parents=True)
        for name, file in (("inner_skull", "inner_skull"), ("outer_skull", "outer_skull"), ("scalp", "outer_skin")):
            mne.write_surface(bem / f"{file}.surf", surfaces.positions(name) * 1000, surfaces.tris)
        model = mne.make_bem_model(_SUBJECT, ico=None, conductivity=conductivity, subjects_dir=folder, verbose="ERROR")
    return mne.make_bem_solution(model, verbose="ERROR")


def _make_cortex(spacing: str) -> mne.SourceSpaces:
    """Place sources on the white surface of fsaverage5, with the patch of cortex that each stands for."""
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import load_surf_mesh

    logger.info(f"Placing sources on the white surface of fsaverage5 ({spacing}).")
    surfaces = fetch_surf_fsaverage("fsaverage5")
    with tempfile.TemporaryDirectory(prefix="mne-labram-") as folder:
        surf = Path(folder) / _SUBJECT / "surf"
        surf.mkdir(parents=True)
        for hemisphere, side in (("lh", "left"), ("rh", "right")):
            for kind in ("white", "sphere"):
                mesh = load_surf_mesh(surfaces[f"{kind}_{side}"])
                mne.write_surface(surf / f"{hemisphere}.{kind}", np.asarray(mesh.coordinates), np.asarray(mesh.faces))
        return mne.setup_source_space(
            _SUBJECT, spacing=spacing, surface="white", subjects_dir=folder, add_dist="patch", verbose="ERROR"
        )


def _bem(folder: Path, conductivity: Sequence[float], bem_ico: int) -> mne.bem.ConductorModel:
    return kept(
        folder / f"head-{bem_key(conductivity, bem_ico)}-bem-sol.fif",
        lambda: _make_bem(conductivity, bem_ico),
        lambda path, bem: mne.write_bem_solution(path, bem, overwrite=True, verbose="ERROR"),
        lambda path: mne.read_bem_solution(path, verbose="ERROR"),
    )


def _cortex(folder: Path, spacing: str) -> mne.SourceSpaces:
    return kept(
        folder / f"cortex-{cortex_key(spacing)}-src.fif",
        lambda: _make_cortex(spacing),
        lambda path, src: mne.write_source_spaces(path, src, overwrite=True, verbose="ERROR"),
        lambda path: mne.read_source_spaces(path, verbose="ERROR"),
    )


def template_cortex(spacing: str = "ico3", *, cache: str | os.PathLike[str] | bool | None = None) -> mne.SourceSpaces:
    """Return the sources of the template's head.

    Parameters
    ----------
    spacing : str
        How dense, as for :func:`default_forward`.
    cache : path-like | bool | None
        As there.

    Returns
    -------
    src : mne.SourceSpaces
        Two surfaces in the MRI frame of fsaverage.

    Raises
    ------
    ValueError
        If there is no such spacing.
    """
    _check_settings(spacing, CONDUCTIVITY, 3)
    with open_cache(cache) as folder:
        return _cortex(folder, spacing)


def _check_on_scalp(bem: mne.bem.ConductorModel, names: Sequence[str], positions: np.ndarray) -> None:
    trans = mne.read_trans(template_file("fsaverage-trans.fif"))
    to_mri = trans if trans["from"] == _HEAD else invert_transform(trans)
    scalp = max(bem["surfs"], key=lambda surface: np.ptp(surface["rr"], axis=0).sum())
    off = scipy.spatial.cKDTree(scalp["rr"]).query(apply_trans(to_mri, positions))[0]
    if off.max() > _OFF_SCALP:
        raise ContractError(
            f"The electrode {names[int(off.argmax())]!r} lies {100 * off.max():.1f} cm off the template's head; "
            "check the montage, or drop the channel."
        )


def _solve(
    folder: Path,
    names: Sequence[str],
    positions: np.ndarray,
    spacing: str,
    deep: bool,
    conductivity: Sequence[float],
    bem_ico: int,
) -> mne.Forward:
    """Forward of free orientation."""
    src = _cortex(folder, spacing)
    if deep:
        src = src + deep_source_spaces()
    bem = _bem(folder, conductivity, bem_ico)
    _check_on_scalp(bem, names, positions)
    return mne.make_forward_solution(
        _info_of(names, positions),
        template_file("fsaverage-trans.fif"),
        src,
        bem,
        meg=False,
        eeg=True,
        verbose="ERROR",
    )


def _finished(fwd: mne.Forward, deep: bool) -> mne.Forward:
    """Turn dipoles along the surface normals; where there are deep points, all stay free, in surface orientation."""
    return mne.convert_forward_solution(fwd, surf_ori=True, force_fixed=not deep, copy=False, verbose="ERROR")


@verbose
def default_forward(
    info: mne.Info,
    *,
    spacing: str = "ico3",
    deep: bool = False,
    conductivity: Sequence[float] = CONDUCTIVITY,
    bem_ico: int = 3,
    cache: str | os.PathLike[str] | bool | None = None,
    verbose: bool | str | int | None = None,
) -> mne.Forward:
    """Make a forward for a recording without an MRI.

    Parameters
    ----------
    info : mne.Info
        EEG channels, at least eight, bad ones included: of any digitised or standard montage, or with names of the
        10-05 system. Not modified.
    spacing : str
        How dense sources are: ``"ico3"`` for 642 per hemisphere, up to ``"ico5"``, or ``"oct1"`` to ``"oct6"``.
    deep : bool
        Add points in thalamus, hippocampus, amygdala, caudate and putamen, which are ellipsoids at approximate
        places (:mod:`mne_labram.source.deep_points`). Experimental.
    conductivity : sequence of float
        Of brain, skull and scalp, in S/m.
    bem_ico : int
        Subdivisions of the icosahedron that the surfaces are resampled to: 2 for 162 vertices each, 3 for 642, 4 for
        2562 (a minute, 240 MB in the cache).
    cache : path-like | bool | None
        Folder where results are kept; ``None``: ``$MNE_LABRAM_CACHE``, or else the platform's folder for caches;
        false: nowhere.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    fwd : mne.Forward
        EEG only, head frame, orientation fixed along the surface normal; with deep points mixed and free.

    Raises
    ------
    ContractError
        If there are fewer than eight EEG channels, or one is bipolar, or nowhere on the head.
    ValueError
        If an argument has no meaning.

    Notes
    -----
    Three layers, solved by MNE's boundary element method. Inner skull, head and the transform between MRI and head
    come with MNE, the white surface of fsaverage5 with nilearn; **the outer skull is made up** between inner skull and
    scalp, and the neck is cut off (:mod:`mne_labram.source.surfaces`). It is one adult's average head: for the user's
    own, make a forward from an MRI.
    """
    conductivity = _check_settings(spacing, conductivity, bem_ico)
    names, positions = electrodes_on_template(info)
    # A tenth of a micrometre: what is left of it after single precision on the disk.
    places = np.round(positions, 7)
    key = content_key(
        bem=bem_key(conductivity, bem_ico), src=cortex_key(spacing), deep=deep, names=names, positions=places.tolist()
    )
    with open_cache(cache) as folder:
        fwd = kept(
            folder / f"head-{key}-fwd.fif",
            lambda: _solve(folder, names, places, spacing, deep, conductivity, bem_ico),
            lambda path, made: mne.write_forward_solution(path, made, overwrite=True, verbose="ERROR"),
            lambda path: mne.read_forward_solution(path, verbose="ERROR"),
        )
    logger.info(
        f"Template head: {len(names)} electrodes, {fwd['nsource']} sources. The outer skull is made up between "
        "fsaverage's inner skull and scalp; use a forward from the subject's MRI where there is one."
    )
    return _finished(fwd, deep)


@verbose
def perturbed_forward(
    info: mne.Info,
    *,
    jitter_mm: float = 3.0,
    turn_deg: float = 0.0,
    stretch: float = 0.0,
    shift_mm: float = 0.0,
    seed: int | np.random.Generator = 0,
    spacing: str = "ico3",
    deep: bool = False,
    conductivity: Sequence[float] = (0.33, 0.0083, 0.43),
    bem_ico: int = 4,
    cache: str | os.PathLike[str] | bool | None = None,
    verbose: bool | str | int | None = None,
) -> mne.Forward:
    """Make a forward that differs from the default one as a real head differs from its model.

    Parameters
    ----------
    info : mne.Info
        As for :func:`default_forward`.
    jitter_mm : float
        Standard deviation of the electrodes' displacement, along each of two directions in the scalp, mm.
    turn_deg, stretch, shift_mm : float
        Standard deviations of what happens to all electrodes together, along each of three axes: turned about it by so
        many degrees, stretched by this share, shifted by so many mm, and put back onto the scalp. To the sources that
        is what a cap that sits otherwise is, and, nearly, a head and a brain of another shape.
    seed : int | numpy.random.Generator
        Of all that.
    spacing, deep : str, bool
        As for :func:`default_forward`; the same sources in the same order.
    conductivity : sequence of float
        Of brain, skull and scalp, in S/m. The default, of skull to brain 1 to 40 and a scalp that differs, is well
        within what is reported (McCann et al. 2019, Brain Topogr 32:825-858: brain about 0.4, skull 0.02, scalp 0.4).
    bem_ico : int
        4: four times as many vertices as the default head has.
    cache : path-like | bool | None
        Where the solution for these conductivities is kept; the forward itself is not.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    fwd : mne.Forward
        Orientation as :func:`default_forward` has it; ``fwd["info"]`` holds where the electrodes were put.

    Raises
    ------
    ContractError
        As for :func:`default_forward`.
    ValueError
        If an argument has no meaning.

    Notes
    -----
    To measure an inverse without the crime of simulating and imaging with the same forward. What it does not change is
    the shape of head and cortex: by 4 degrees, 0.04 and 4 mm, topographies come to differ more than by the jitter, and
    less than those of another person's skull do, see ``doc/source_imaging.md``.
    """
    conductivity = _check_settings(spacing, conductivity, bem_ico)
    sizes = {"jitter_mm": jitter_mm, "turn_deg": turn_deg, "stretch": stretch, "shift_mm": shift_mm}
    for name, value in sizes.items():
        if not value >= 0:
            raise ValueError(f"{name} must not be negative, got {value}.")
    names, positions = electrodes_on_template(info)
    rng = np.random.default_rng(seed)
    middle = np.mean(list(template_positions().values()), axis=0)
    outwards = positions - middle
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    moves = rng.standard_normal(positions.shape) * jitter_mm / 1000
    # In the scalp: off it, MNE would put them back.
    moves -= (moves * outwards).sum(axis=1, keepdims=True) * outwards
    # Drawn after the jitter, which a seed has always given.
    turn, shape, shift = rng.standard_normal((3, 3)) * [[np.deg2rad(turn_deg)], [stretch], [shift_mm / 1000]]
    about = Rotation.from_rotvec(turn).as_matrix() * np.exp(shape)
    positions = (positions - middle) @ about.T + middle + shift + moves
    with open_cache(cache) as folder:
        fwd = _solve(folder, names, positions, spacing, deep, conductivity, bem_ico)
    return _finished(fwd, deep)
