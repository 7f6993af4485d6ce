"""Scalp and cortex on paper: what sources were found, and what they make at the electrodes; no display is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mne
import numpy as np
import scipy
from mne.viz.utils import plt_show

from mne_labram.signal.contract import ContractError
from mne_labram.source.estimates import source_layout
from mne_labram.source.head import source_model
from mne_labram.source.localizable import eeg_channels, head_of_channels
from mne_labram.source.mesh import adjacency_of_triangles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_sources"]

# Hemisphere, the way from which it is seen along x, and what that is called: above from outside, below from inside.
_VIEWS = (
    ("lh", -1, "left, lateral"),
    ("rh", 1, "right, lateral"),
    ("lh", 1, "left, medial"),
    ("rh", -1, "right, medial"),
)
# How often values of sources are averaged over neighbouring vertices: sources are a few vertices apart.
_SMOOTHED = 4
# Share of the maximum below which the cortex shows.
_SHOWN = 0.15
_HEMISPHERES = {"lh": 0, "rh": 1}
# Metres: what heads can have, and MNE's default.
_RADII, _RADIUS = (0.07, 0.13), 0.095


def plot_sources(
    stc: mne.SourceEstimate | mne.MixedSourceEstimate,
    fwd: mne.Forward,
    time: float | None = None,
    *,
    evoked: mne.Evoked | None = None,
    vmax: float | None = None,
    title: str | None = None,
    show: bool = True,
) -> Figure:
    """Plot sources on the cortex, and the topography that they make.

    Parameters
    ----------
    stc : mne.SourceEstimate | mne.MixedSourceEstimate
        Dipole moments along the normals in Am, as :meth:`mne_labram.BrainForgeInverse.apply` returns them.
    fwd : mne.Forward
        The head that they were found in.
    time : float | None
        Seconds; ``None``: when the sources make most at the electrodes.
    evoked : mne.Evoked | None
        What was recorded: drawn beside what the sources make, in the same scale.
    vmax : float | None
        Moment in nAm of the strongest colour; ``None``: the largest in view.
    title : str | None
        Title of the figure.
    show : bool
        Show the figure.

    Returns
    -------
    figure : matplotlib.figure.Figure
        Topographies in µV, average reference; both hemispheres from outside and inside, magnitudes in nAm. Values of
        sources are spread over the vertices between them. Deep points are in the topography only.

    Raises
    ------
    ContractError
        If the sources are not those of the forward, or it lacks a channel of what was recorded.
    TypeError
        If ``stc`` or ``evoked`` is something else.
    ValueError
        If the time lies outside.
    """
    import matplotlib.pyplot as plt

    if not isinstance(stc, (mne.SourceEstimate, mne.MixedSourceEstimate)):
        raise TypeError(f"One source estimate can be drawn, got {type(stc).__name__}; Epochs give a list of them.")
    if evoked is not None:
        if not isinstance(evoked, mne.Evoked):
            raise TypeError(f"evoked must be an mne.Evoked or None, got {type(evoked).__name__}.")
        names = eeg_channels(evoked)
    model = source_model(fwd)
    layout = source_layout(fwd, model)
    expected = layout.estimate(np.zeros((model.n_sources, 1), np.float32), 0.0, 1.0).vertices
    if len(expected) != len(stc.vertices) or not all(map(np.array_equal, expected, stc.vertices)):
        raise ContractError(
            "The source estimate has other vertices than the forward; give the forward that it was found in."
        )
    leadfield = layout.ordered(model.averaged.T).T
    moments = stc.data * 1e9
    if time is None:
        column = int(np.square(leadfield @ moments).sum(axis=0).argmax())
    elif stc.times[0] - stc.tstep / 2 <= time <= stc.times[-1] + stc.tstep / 2:
        column = int(np.abs(stc.times - time).argmin())
    else:
        raise ValueError(f"time must be between {stc.times[0]:g} and {stc.times[-1]:g} s, got {time}.")
    now = moments[:, column]
    maps = [("sources make", leadfield @ now, model.electrodes)]
    if evoked is not None:
        recorded = evoked.get_data(picks=names)[:, int(np.abs(evoked.times - stc.times[column]).argmin())] * 1e6
        maps.insert(0, ("recorded", recorded - recorded.mean(), head_of_channels(model, names).electrodes))
    with plt.rc_context({"font.size": 9}):
        figure = plt.figure(figsize=(9.5, 5.0), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=(1.0, 2.4))
        _topographies(left, maps, model.electrodes)
        _cortex(right, fwd["src"], stc.vertices, np.abs(now), vmax)
        figure.suptitle(title or f"Sources at {stc.times[column]:.3f} s")
    plt_show(show)
    return figure


def _topographies(figure: Any, maps: list, electrodes: np.ndarray) -> None:
    axes = np.atleast_1d(figure.subplots(len(maps), 1))
    limit = max(float(np.abs(values).max()) for _, values, _ in maps) or 1.0
    centre, radius = _head_circle(electrodes)
    for ax, (name, values, places) in zip(axes, maps, strict=True):
        ch_names = [str(number) for number in range(len(places))]
        info = mne.create_info(ch_names, 100.0, "eeg", verbose="ERROR")
        montage = mne.channels.make_dig_montage(dict(zip(ch_names, places - centre, strict=True)), coord_frame="head")
        info.set_montage(montage, verbose="ERROR")
        image, _ = mne.viz.plot_topomap(
            values, info, axes=ax, show=False, vlim=(-limit, limit), cmap="RdBu_r", contours=4, sphere=radius
        )
        ax.set_title(name)
    figure.colorbar(image, ax=list(axes), orientation="horizontal", shrink=0.7, label="µV")


def _head_circle(electrodes: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the middle and the radius of the circle that a head is drawn as.

    That of the sphere through the electrodes, at the height of ears and nasion (z = 0 in the head's frame), so that the
    circle is where the head is widest, however far down a cap reaches.
    """
    system = np.column_stack([2.0 * electrodes, np.ones(len(electrodes))])
    x, y, z, rest = np.linalg.lstsq(system, np.square(electrodes).sum(axis=1), rcond=None)[0]
    square = rest + x**2 + y**2 + z**2
    # Electrodes that lie in a plane, or nearly, are on many spheres.
    if not _RADII[0] ** 2 < square < _RADII[1] ** 2:
        return np.zeros(3), _RADIUS
    return np.array([x, y, 0.0]), float(np.sqrt(square))


def _cortex(figure: Any, src: Any, vertices: list, magnitude: np.ndarray, vmax: float | None) -> None:
    import matplotlib as mpl

    spaces = {side: space for space in src for side, number in (("lh", 101), ("rh", 102)) if space["id"] == number}
    bounds = np.cumsum([0, *map(len, vertices)])
    n_cortex = int(bounds[2])
    limit = vmax or float(magnitude[:n_cortex].max(initial=0.0)) or 1.0
    norm, colours = mpl.colors.Normalize(0.0, limit), mpl.colormaps["YlOrRd"]
    axes = figure.subplots(2, 2).ravel()
    for ax, (side, direction, name) in zip(axes, _VIEWS, strict=True):
        ax.set_axis_off()
        ax.set_title(name)
        if side not in spaces or not len(vertices[_HEMISPHERES[side]]):
            continue
        space, number = spaces[side], _HEMISPHERES[side]
        values = _spread(space, vertices[number], magnitude[bounds[number] : bounds[number + 1]])
        _draw(ax, space["rr"], space["tris"], values, direction, norm, colours)
    mappable = mpl.cm.ScalarMappable(norm, colours)
    figure.colorbar(mappable, ax=list(axes), orientation="vertical", shrink=0.6, label="nAm")


def _spread(space: dict, vertices: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Give every vertex of a surface the value of the source next to it, smoothed along the surface."""
    nearest = scipy.spatial.cKDTree(space["rr"][vertices]).query(space["rr"])[1]
    spread = values[nearest].astype(float)
    adjacency = adjacency_of_triangles(space["tris"], len(spread)).astype(float)
    degree = np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1.0)
    for _ in range(_SMOOTHED):
        spread = 0.5 * spread + 0.5 * (adjacency @ spread) / degree
    # Smoothing takes from a single source what the colour shall say of it.
    peak = spread.max(initial=0.0)
    return spread * (values.max(initial=0.0) / peak) if peak > 0.0 else spread


def _draw(
    ax: Any, rr: np.ndarray, tris: np.ndarray, values: np.ndarray, direction: int, norm: Any, colours: Any
) -> None:
    """Draw triangles that face along +x or -x, the nearest last."""
    from matplotlib.collections import PolyCollection

    corners = rr[tris]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    faces = np.flatnonzero(direction * normal[:, 0] > 0.0)
    faces = faces[np.argsort(direction * corners[faces, :, 0].mean(axis=1), kind="stable")]
    # From the left one sees the front at the left.
    flat = np.stack([direction * corners[faces, :, 1], corners[faces, :, 2]], axis=2)
    light = 0.35 + 0.65 * direction * normal[faces, 0]
    value = values[tris[faces]].mean(axis=1)
    bare = np.repeat((0.28 + 0.6 * light)[:, np.newaxis], 3, axis=1)
    share = np.clip((value / norm.vmax - _SHOWN) / _SHOWN, 0.0, 1.0)[:, np.newaxis]
    colour = (1.0 - share) * bare + share * colours(norm(value))[:, :3] * (0.6 + 0.4 * light)[:, np.newaxis]
    ax.add_collection(
        PolyCollection(flat, facecolors=np.clip(colour, 0, 1), edgecolors="face", linewidths=0.2, rasterized=True)
    )
    ax.set_xlim(flat[..., 0].min(), flat[..., 0].max())
    ax.set_ylim(flat[..., 1].min(), flat[..., 1].max())
    ax.set_aspect("equal")
